"""Whether a target is worth accelerating: does it name what happens, and does it say many things?

A target that says the same for every clip makes every draft look good, so these numbers stand
beside every acceptance.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from egotriad.alignment.target_outputs import TargetOutput, evaluation_span_index
from egotriad.manifests import Clip

__all__ = ["TargetQuality", "label_of", "target_quality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetQuality:
    """What a target says about a split's clips, on their evaluation spans.

    Attributes:
        clips: how many texts were judged.
        distinct_texts: how many different ones there are.
        mean_tokens: ids per text, EOS included.
        ended: share of texts that end with EOS.
        accuracy: share that names the clip's label, None where clips carry no labels.
        confusion: label -> what was named ("" = nothing known) -> clips.
    """

    clips: int
    distinct_texts: int
    mean_tokens: float
    ended: float
    accuracy: float | None
    confusion: dict[str, dict[str, int]]


def target_quality(
    outputs: Iterable[TargetOutput], clips: Iterable[Clip], *, split: str
) -> TargetQuality:
    """Judges the target's texts on one split.

    A text names the label that training narrations of the same words most often carry; where no
    narration has just these words, its last word (in the simulated world: the tempo) is ignored; a
    text unknown even so names nothing and is wrong.

    Args:
        outputs: of at least that split.
        clips: of the train split (for what words mean) and of `split`; events are not looked at.
        split: which clips are judged.
    """
    training: list[tuple[str, str]] = []
    judged: dict[tuple[str, int], str | None] = {}
    for clip in clips:
        label = label_of(clip)
        if clip.split == "train" and label is not None and clip.narration is not None:
            training.append((clip.narration, label))
        if clip.split == split:
            judged[clip.window_id, evaluation_span_index(clip)] = label
    rows = [row for row in outputs if (row.window_id, row.span_index) in judged]
    meanings = Meanings(training)
    confusion: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        label = judged[row.window_id, row.span_index]
        if label is not None:
            confusion[label][meanings.label(row.text) or ""] += 1
    labelled = sum(counts.total() for counts in confusion.values())
    right = sum(counts[label] for label, counts in confusion.items())
    count = max(len(rows), 1)
    return TargetQuality(
        clips=len(rows),
        distinct_texts=len({row.text for row in rows}),
        mean_tokens=sum(len(row.output_ids) for row in rows) / count,
        ended=sum(row.finish_reason == "eos" for row in rows) / count,
        accuracy=right / labelled if labelled else None,
        confusion={label: dict(sorted(confusion[label].items())) for label in sorted(confusion)},
    )


def label_of(clip: Clip) -> str | None:
    """The label in the id of the narration a clip is about (`turn_left:17` -> `turn_left`)."""
    for narration in clip.narrations:
        if narration.text == clip.narration and ":" in narration.annotation_id:
            return narration.annotation_id.split(":", 1)[0]
    return None


class Meanings:
    """Which label a text stands for, learnt from narrations with labels."""

    def __init__(self, narrations: Iterable[tuple[str, str]]) -> None:
        self._whole: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._stems: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text, label in narrations:
            words = words_of(text)
            self._whole[words][label] += 1
            for stem in (words, words[:-1]):
                self._stems[stem][label] += 1

    def label(self, text: str) -> str | None:
        """The commonest label of these words, else of all but the last; ties go alphabetically."""
        words = words_of(text)
        found = self._whole.get(words) or self._stems.get(words[:-1])
        return min(found, key=lambda label: (-found[label], label)) if found else None


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation."""
    return tuple(re.findall(r"\w+", text.lower()))
