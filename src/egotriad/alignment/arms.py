"""The arms of an evaluation: who proposes to the target, and what happens on one clip.

| arm | who proposes |
|---|---|
| draft | the IMU draft |
| text_only | its twin without a sensor, when one is given |
| ngram | an order-5 back-off table of the target's training-split texts |
| zeroed_imu | the IMU draft, its IMU reading 0 in every channel |
| shuffled_imu | the IMU draft, with the IMU of a clip of another recording |
| oracle | the target itself on its own prefix: everything must be accepted |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.controls import zeroed_imu
from egotriad.alignment.groups import facts_of
from egotriad.alignment.ngram import NgramProposer, NgramTable
from egotriad.alignment.offline import Forced, forced
from egotriad.alignment.proposers import DraftProposer, Proposer, SequenceState
from egotriad.alignment.sampling import GREEDY, Draws, Sampling
from egotriad.alignment.schedules import Fixed, Heuristic, Schedule
from egotriad.alignment.speculate import Round, Speculation, plain, speculate
from egotriad.alignment.target_outputs import evaluation_span_index
from egotriad.alignment.tree import TreeDraft, TreeShape, TreeState, speculate_tree
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ClipRejected
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.state import DecoderState
from egotriad.models.tokenizer import answer_text

__all__ = [
    "DRAFT",
    "NGRAM",
    "ORACLE",
    "SHUFFLED",
    "TEXT_ONLY",
    "ZEROED",
    "ArmRun",
    "Bench",
    "ClipResult",
    "Divergence",
    "decode",
    "evaluation_span",
    "run_clip",
]

DRAFT, TEXT_ONLY, NGRAM, ORACLE = "draft", "text_only", "ngram", "oracle"
ZEROED, SHUFFLED = "zeroed_imu", "shuffled_imu"


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
        offline: what the models' distributions say on the target's text; None of a table.
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


@runtime_checkable
class Model(Protocol):
    """A guesser with a distribution."""

    def logits(self, ids: Sequence[int]) -> Tensor:
        """(n, V): its logits at every position of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What stays the same from clip to clip.

    Attributes:
        gamma: drafted ids per round; of the heuristic schedule, in the first round.
        heuristic: whether gamma moves with what was accepted, afresh in each text.
        confidence: drafts stop after an id of less probability.
        sampling: how target and drafts choose their ids.
        seed: of the sampling.
        tree: shape of the drafts of models, None for chains.
    """

    target: ConditionedLM
    draft: ConditionedLM
    text_draft: ConditionedLM | None
    table: NgramTable
    tokenizer: PreTrainedTokenizerFast
    gamma: int
    max_new_tokens: int
    heuristic: bool = False
    confidence: float = 0.0
    sampling: Sampling = GREEDY
    seed: int = 0
    tree: TreeShape | None = None

    @property
    def schedule(self) -> Schedule:
        """A new one, for one text."""
        return Heuristic(self.gamma) if self.heuristic else Fixed(self.gamma)

    def draws(self, clip: Clip) -> Draws | None:
        """The random numbers of a clip's texts; all arms share them."""
        if self.sampling.greedy:
            return None
        return Draws(self.seed, clip.window_id, self.max_new_tokens)


def evaluation_span(clip: Clip) -> Span:
    """The middle one of the clip's event spans.

    Raises:
        ClipRejected: when the clip has none.
    """
    if not clip.event_spans:
        raise ClipRejected("no-events", f"{clip.window_id}: has no event span to narrate")
    return clip.event_spans[evaluation_span_index(clip)]


def run_clip(bench: Bench, clip: Clip, draft_inputs: Tensor, donated_inputs: Tensor) -> ClipResult:
    """Plain greedy decoding of one clip, then the loop of every arm against the same prefix.

    Args:
        bench: models and settings.
        clip: what the target narrates.
        draft_inputs: the clip, prepared for the draft.
        donated_inputs: a clip of another recording, prepared for the draft.

    Raises:
        ClipRejected: when a model cannot use the clip.
    """
    inputs = bench.target.prepare(clip, evaluation_span(clip))
    target = bench.target.state(inputs[None])
    longest, eos_id, draws = bench.max_new_tokens, bench.target.eos_id, bench.draws(clip)
    reference = plain(
        target, max_new_tokens=longest, eos_id=eos_id, sampling=bench.sampling, draws=draws
    )
    rows = _rows(target, reference)
    runs: dict[str, ArmRun] = {}
    for name, guesser in _guessers(bench, clip, target, inputs, draft_inputs, donated_inputs):
        offline = (
            forced(reference, rows, guesser.logits(reference))
            if isinstance(guesser, Model)
            else None
        )
        matches = offline.match if offline else tuple(guesser.matches(reference))
        done = decode(bench, target, guesser, draws)  # last: a tree takes the draft's state
        same = done.ids == reference or not bench.sampling.greedy
        runs[name] = ArmRun(
            done.rounds,
            matches,
            None if same else _divergence(target, reference, done.ids),
            offline,
        )
    return ClipResult(
        window_id=clip.window_id,
        recording=clip.recording,
        wearer=clip.wearer,
        narration=clip.narration,
        target_ids=tuple(reference),
        target_text=answer_text(bench.tokenizer, reference),
        arms=runs,
        facts=facts_of(clip, evaluation_span(clip)),
    )


def decode(
    bench: Bench, target: DecoderState, guesser: Proposer, draws: Draws | None
) -> Speculation:
    """One text of the target with a proposer: a tree at a time where a model drafts trees."""
    longest, eos_id = bench.max_new_tokens, bench.target.eos_id
    if bench.tree is not None and isinstance(guesser, DraftProposer):
        vocabulary = target.prefix_logits.shape[-1]
        draft = TreeDraft(cast(TreeState, guesser.release()), eos_id, vocabulary=vocabulary)
        return speculate_tree(target, draft, bench.tree, max_new_tokens=longest, eos_id=eos_id)
    return speculate(
        target,
        guesser,
        gamma=bench.schedule,
        max_new_tokens=longest,
        eos_id=eos_id,
        sampling=bench.sampling,
        draws=draws,
    )


def _rows(target: SequenceState, text: list[int]) -> Tensor:
    """(n, V): the target's logits at every position of its own text."""
    target.rollback(target.length)
    first = target.prefix_logits[None]
    return torch.cat([first, target.feed(text[:-1])]) if len(text) > 1 else first


def _guessers(
    bench: Bench,
    clip: Clip,
    target: SequenceState,
    target_inputs: Tensor,
    draft_inputs: Tensor,
    donated_inputs: Tensor,
) -> list[tuple[str, Guesser]]:
    """The proposer of every arm for one clip."""
    span = evaluation_span(clip)
    eos_id = bench.target.eos_id
    vocabulary = target.prefix_logits.shape[-1]

    def proposer(model: ConditionedLM, inputs: Tensor) -> DraftProposer:
        return DraftProposer(
            model.state(inputs[None]),
            eos_id,
            vocabulary=vocabulary,
            sampling=bench.sampling,
            draws=bench.draws(clip),
            confidence=bench.confidence,
        )

    arms: list[tuple[str, Guesser]] = [(DRAFT, proposer(bench.draft, draft_inputs))]
    if bench.text_draft is not None:
        arms.append((TEXT_ONLY, proposer(bench.text_draft, bench.text_draft.prepare(clip, span))))
    dead = bench.draft.prepare(zeroed_imu(clip), span)
    return [
        *arms,
        (NGRAM, NgramProposer(bench.table, eos_id)),
        (ZEROED, proposer(bench.draft, dead)),
        (SHUFFLED, proposer(bench.draft, donated_inputs)),
        (ORACLE, proposer(bench.target, target_inputs)),
    ]


def _divergence(target: SequenceState, reference: list[int], other: list[int]) -> Divergence:
    """Where two texts part, and how close the target's decision was there."""
    shorter = min(len(reference), len(other))
    index = next((i for i in range(shorter) if reference[i] != other[i]), shorter)
    target.rollback(target.length)
    logits = target.feed(reference[:index])[-1] if index else target.prefix_logits
    best, second = logits.topk(2).values.tolist()
    return Divergence(index, best - second)
