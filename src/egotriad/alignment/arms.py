"""The arms of an evaluation: who proposes to the target, on which clips, with what inputs.

| arm | who proposes |
|---|---|
| draft | the IMU draft |
| text_only | its twin without a sensor, when one is given |
| ngram | an order-5 back-off table of the target's training-split texts |
| prompt_lookup | what followed the last ids before, in the prompt or the text (on request) |
| retrieval | the training texts that were said of the most similar IMUs (on request) |
| zeroed_imu | the IMU draft, its IMU reading 0 in every channel |
| shuffled_imu | the IMU draft, with the IMU of a clip of another recording |
| oracle | the target itself on its own prefix: everything must be accepted |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.controls import zeroed_imu
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.groups import facts_of
from egotriad.alignment.ngram import NgramProposer, NgramTable, PromptLookupProposer
from egotriad.alignment.offline import Forced
from egotriad.alignment.proposers import Proposer
from egotriad.alignment.sampling import Draws
from egotriad.alignment.schedules import Fixed, Heuristic, Schedule
from egotriad.alignment.speculate import Round
from egotriad.alignment.speculate_batch import BatchState
from egotriad.alignment.target_outputs import evaluation_span_index
from egotriad.alignment.tree import TreeState
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ClipRejected
from egotriad.models.tokenizer import answer_text

__all__ = [
    "ARMS",
    "DRAFT",
    "NGRAM",
    "ORACLE",
    "PROMPT_LOOKUP",
    "RETRIEVAL",
    "SHUFFLED",
    "TEXT_ONLY",
    "ZEROED",
    "ArmRun",
    "Bench",
    "ClipInputs",
    "ClipResult",
    "Divergence",
    "Guesser",
    "Narrator",
    "clip_result",
    "evaluation_span",
    "inputs_of",
    "model_arms",
    "table_arms",
]

DRAFT, TEXT_ONLY, NGRAM, ORACLE = "draft", "text_only", "ngram", "oracle"
PROMPT_LOOKUP, RETRIEVAL = "prompt_lookup", "retrieval"
ZEROED, SHUFFLED = "zeroed_imu", "shuffled_imu"
ARMS = (DRAFT, TEXT_ONLY, NGRAM, PROMPT_LOOKUP, RETRIEVAL, ZEROED, SHUFFLED, ORACLE)
"""In the order of a report."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where an arm's text first differs from plain greedy decoding.

    Attributes:
        index: position of the first different id.
        top2_gap: the target's best minus second-best logit there; a tiny gap is a numerical tie.
    """

    index: int
    top2_gap: float


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm on one clip.

    Attributes:
        rounds: of the speculative loop.
        forced: teacher-forced argmax matches on the target's text.
        divergence: None when the text is token-identical to plain greedy decoding, and when
            sampling, whose texts differ by right.
        offline: what the models' distributions say on the target's text; None of a table, and
            against recorded texts.
    """

    rounds: tuple[Round, ...]
    forced: tuple[bool, ...]
    divergence: Divergence | None
    offline: Forced | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipResult:
    """All arms on one clip, and what the target says about it by plain decoding.

    Attributes:
        facts: what clips are grouped by (`egotriad.alignment.groups`).
    """

    window_id: str
    recording: str
    wearer: str | None
    narration: str | None
    target_ids: tuple[int, ...]
    target_text: str
    arms: Mapping[str, ArmRun]
    facts: Mapping[str, str | float | None] = field(default_factory=dict)


class Guesser(Proposer, Protocol):
    """A proposer that can also be asked teacher-forced."""

    def matches(self, ids: Sequence[int]) -> list[bool]:
        """For every id of a text, whether it is the proposer's argmax after those before it."""


class Narrator(Protocol):
    """A model that writes about clips: a target, a draft, recorded texts.

    Attributes:
        eos_id: its texts end after it.
    """

    eos_id: int

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """Its inputs for one clip around one event span, without a batch axis."""

    def state(self, inputs: Tensor) -> TreeState:
        """Its decoder on one clip's prefix; inputs (1, ...)."""

    def states(self, inputs: list[Tensor]) -> BatchState:
        """Its decoder on the prefixes of several clips; inputs as `prepare` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What stays the same from clip to clip.

    Attributes:
        target, draft, text_draft: of one vocabulary.
        table: of the n-gram arm.
        tokenizer: the target's.
        config: how to measure.
        recorded: whether recorded texts stand for the target: it has no probabilities and no time.
        prompt: ids that prompt lookup searches besides the text; None without that arm.
        remember: gives what was said of the clips most like some draft inputs; None without that
            arm.
        verbs: names of the verbs that clips are grouped by (`egotriad.alignment.groups`).
    """

    target: Narrator
    draft: Narrator
    text_draft: Narrator | None
    table: NgramTable
    tokenizer: PreTrainedTokenizerFast
    config: EvaluationConfig
    recorded: bool = False
    prompt: tuple[int, ...] | None = None
    remember: Callable[[Tensor], Guesser] | None = None
    verbs: Mapping[str, str] = field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """A new one, for one text."""
        gamma = self.config.gamma
        return Heuristic(gamma) if self.config.schedule == "heuristic" else Fixed(gamma)

    def draws(self, clip: Clip) -> Draws | None:
        """The random numbers of a clip's texts; all arms share them."""
        config = self.config
        if config.sampling.greedy:
            return None
        return Draws(config.seed, clip.window_id, config.max_new_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipInputs:
    """One clip as every model takes it.

    Attributes:
        clip: what the target narrates.
        target, draft, text_draft: its inputs; None without that draft.
        zeroed, donated: of the draft, with a dead IMU and with another recording's.
    """

    clip: Clip
    target: Tensor
    draft: Tensor
    text_draft: Tensor | None
    zeroed: Tensor
    donated: Tensor


def evaluation_span(clip: Clip) -> Span:
    """The middle one of the clip's event spans.

    Raises:
        ClipRejected: when the clip has none.
    """
    if not clip.event_spans:
        raise ClipRejected("no-events", f"{clip.window_id}: has no event span to narrate")
    return clip.event_spans[evaluation_span_index(clip)]


def inputs_of(bench: Bench, clip: Clip, draft: Tensor, donated: Tensor) -> ClipInputs:
    """The inputs of all models for a clip.

    Args:
        bench: the models.
        clip: with what they need.
        draft: the clip, prepared for the draft.
        donated: a clip of another recording, prepared for the draft.

    Raises:
        ClipRejected: when a model cannot use the clip.
    """
    span = evaluation_span(clip)
    return ClipInputs(
        clip=clip,
        target=bench.target.prepare(clip, span),
        draft=draft,
        text_draft=bench.text_draft.prepare(clip, span) if bench.text_draft else None,
        zeroed=bench.draft.prepare(zeroed_imu(clip), span),
        donated=donated,
    )


def model_arms(bench: Bench, inputs: ClipInputs) -> list[tuple[str, Narrator, Tensor]]:
    """Arms in which a model proposes: name, model, its inputs."""
    arms: list[tuple[str, Narrator, Tensor]] = [(DRAFT, bench.draft, inputs.draft)]
    if bench.text_draft is not None and inputs.text_draft is not None:
        arms.append((TEXT_ONLY, bench.text_draft, inputs.text_draft))
    return [
        *arms,
        (ZEROED, bench.draft, inputs.zeroed),
        (SHUFFLED, bench.draft, inputs.donated),
        (ORACLE, bench.target, inputs.target),
    ]


def table_arms(bench: Bench, inputs: ClipInputs) -> list[tuple[str, Guesser]]:
    """Arms in which something is looked up: name, proposer."""
    eos_id = bench.target.eos_id
    arms: list[tuple[str, Guesser]] = [(NGRAM, NgramProposer(bench.table, eos_id))]
    if bench.prompt is not None:
        arms.append((PROMPT_LOOKUP, PromptLookupProposer(bench.prompt, eos_id)))
    if bench.remember is not None:
        arms.append((RETRIEVAL, bench.remember(inputs.draft)))
    return arms


def clip_result(
    bench: Bench, clip: Clip, text: Sequence[int], runs: Mapping[str, ArmRun]
) -> ClipResult:
    """A clip's result from the target's text about it and the runs of its arms."""
    return ClipResult(
        window_id=clip.window_id,
        recording=clip.recording,
        wearer=clip.wearer,
        narration=clip.narration,
        target_ids=tuple(text),
        target_text=answer_text(bench.tokenizer, text),
        arms={name: runs[name] for name in ARMS if name in runs},
        facts=facts_of(clip, evaluation_span(clip), bench.verbs),
    )
