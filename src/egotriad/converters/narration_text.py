"""What every narration goes through: marks out of the text, a usable time, order, and a count."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from egotriad.manifests import Narration
from egotriad.manifests.errors import RecordingError

__all__ = [
    "CleanText",
    "Collector",
    "NarrationSet",
    "Summary",
    "clean",
    "in_order",
    "is_usable_time",
    "read_text",
]

EARLIEST_S = -0.1
"""Ego4D's stamps reach slightly below zero (about -0.04 s). Down to here a time counts as zero."""
LATEST_S = 1e7
"""No recording lasts four months."""

_SUBJECT = re.compile(r"(?<!\S)[#@]([co]|summary)(?!\w)", re.IGNORECASE)
_UNSURE = re.compile(r"(?<!\w)(?:# ?unsure|_unsure_)(?!\w)", re.IGNORECASE)
_UNSURE_AFTERTHOUGHT = re.compile(r"(?<=[.!?])\s*(?:# ?unsure|_unsure_)[.\s]*$", re.IGNORECASE)
_SUBJECTS = {"c": "wearer", "o": "other"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanText:
    """A text without its annotators' marks, and what the marks said.

    Attributes:
        text: white space collapsed, possibly empty.
        subject: `wearer`, `other`, or empty without a mark.
        unsure: whether something in it was marked as a guess.
        summary: whether it is a summary of a stretch rather than a narration of a moment.
    """

    text: str
    subject: str = ""
    unsure: bool = False
    summary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A text about a stretch of a recording; a point where the source gives no end."""

    start_us: int
    end_us: int
    text: str
    annotation_pass: str = ""
    annotation_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrationSet:
    """All that annotators wrote about one recording.

    Attributes:
        narrations: in time order, the passes of all annotators together.
        summaries: in time order; never mixed with narrations.
        counts: what was mended or left out, only where it happened: `untimed`, `unmapped_time`
            (only Ego4D's `_unmapped_timestamp_sec`, which is not the video's clock),
            `out_of_range`, `empty`, `rejected` were left out; `before_start` moved to 0,
            `out_of_order` sorted into place.
    """

    narrations: tuple[Narration, ...]
    summaries: tuple[Summary, ...]
    counts: Mapping[str, int]


@lru_cache(maxsize=1 << 16)  # annotators say the same things again and again
def clean(raw: str) -> CleanText:
    """Takes annotators' marks out of a text.

    Ego4D marks subjects with words of their own: `#C` the camera wearer, `#O` another person,
    `#summary` a summary (also seen: `#c`, `@c`, `#o`); the first one counts. They are removed as
    whole words; the letters C, O, X, ... of the sentences themselves stay. `#unsure` (also seen:
    `#Unsure`, `# unsure`; `_unsure_` is taken for the same) stands for an object that the annotator
    could not name and becomes "something", as in imu2clip; after the sentence's full stop it doubts
    the whole and is only removed.
    """
    marks = [mark.lower() for mark in _SUBJECT.findall(raw)]
    text = _SUBJECT.sub(" ", raw) if marks else raw
    unsure = "unsure" in raw.lower() and _UNSURE.search(raw) is not None
    if unsure:
        text = _UNSURE.sub("something", _UNSURE_AFTERTHOUGHT.sub("", text))
    return CleanText(
        text=" ".join(text.split()),
        subject=next((_SUBJECTS[mark] for mark in marks if mark in _SUBJECTS), ""),
        unsure=unsure,
        summary="summary" in marks,
    )


def is_usable_time(time_s: Any) -> TypeGuard[float]:
    """Whether it is a number of seconds that a recording can have (from -0.1 s on, not NaN)."""
    return (
        isinstance(time_s, int | float)
        and not isinstance(time_s, bool)
        and EARLIEST_S <= time_s <= LATEST_S
    )


def in_order(narrations: Iterable[Narration]) -> tuple[Narration, ...]:
    """Sorted by time, then by all else, so that the order of the input never matters."""
    return tuple(
        sorted(
            narrations,
            key=lambda n: (
                n.t_us,
                n.annotation_pass,
                n.text,
                n.annotation_id,
                n.subject,
                n.unsure,
            ),
        )
    )


class Collector:
    """Gathers the narrations of one recording and counts what it mends or leaves out."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._narrations: list[Narration] = []
        self._summaries: list[Summary] = []
        self._latest_us: dict[str, int] = {}

    def add(
        self,
        time_s: Any,
        raw: Any,
        *,
        annotation_pass: str,
        annotation_id: str = "",
        subject: str = "",
        unsure: bool = False,
    ) -> None:
        """Takes one narration as the source has it.

        Args:
            time_s: seconds on the recording's clock; anything else is counted and left out.
            raw: the text with its marks.
            annotation_pass: who wrote it.
            annotation_id: the source's id.
            subject: `wearer`, `other` or empty, where the source says it beside the text.
            unsure: likewise.
        """
        if not is_usable_time(time_s):
            missing = time_s is None or time_s != time_s  # NaN differs from itself
            self.counts["untimed" if missing else "out_of_range"] += 1
            return
        found = clean(raw) if isinstance(raw, str) else CleanText(text="")
        if not found.text:
            self.counts["empty"] += 1
            return
        if time_s < 0:
            self.counts["before_start"] += 1
        t_us = max(0, round(time_s * 1e6))
        if found.summary:
            self.add_summary(t_us, t_us, found.text, annotation_pass, annotation_id)
            return
        if t_us < self._latest_us.get(annotation_pass, 0):
            self.counts["out_of_order"] += 1
        self._latest_us[annotation_pass] = max(t_us, self._latest_us.get(annotation_pass, 0))
        self._narrations.append(
            Narration(
                t_us=t_us,
                text=found.text,
                annotation_pass=annotation_pass,
                annotation_id=annotation_id,
                subject=subject or found.subject,
                unsure=unsure or found.unsure,
            )
        )

    def add_summary(
        self, start_us: int, end_us: int, text: str, annotation_pass: str, annotation_id: str
    ) -> None:
        """Takes one summary, its text already clean."""
        self._summaries.append(
            Summary(
                start_us=start_us,
                end_us=end_us,
                text=text,
                annotation_pass=annotation_pass,
                annotation_id=annotation_id,
            )
        )

    def result(self) -> NarrationSet:
        """What was gathered, in order."""
        return NarrationSet(
            narrations=in_order(self._narrations),
            summaries=tuple(sorted(self._summaries, key=lambda s: (s.start_us, s.end_us, s.text))),
            counts=dict(sorted(self.counts.items())),
        )


def read_text(path: Path) -> str:
    """The content of a UTF-8 text file.

    Raises:
        RecordingError: no such file, or another encoding.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RecordingError(
            f"{path.name}: not UTF-8 at byte {exc.start}; save the file as UTF-8"
        ) from exc
