"""Several clips through all arms together: the texts and rounds of each alone, forwards batched."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egotriad.alignment.arms import (
    ArmRun,
    Bench,
    ClipInputs,
    ClipResult,
    Divergence,
    Guesser,
    Narrator,
    clip_result,
    model_arms,
    table_arms,
)
from egotriad.alignment.offline import forced
from egotriad.alignment.proposers import Proposer
from egotriad.alignment.run_arms import diverges
from egotriad.alignment.speculate import Speculation
from egotriad.alignment.speculate_batch import (
    BatchProposer,
    BatchState,
    DraftBatch,
    Proposals,
    speculate_batch,
)

__all__ = ["run_clips"]


class Silent:
    """Proposes nothing: plain decoding, one target pass per id."""

    def propose(self, emitted: Sequence[list[int]], gammas: Sequence[int]) -> Proposals:
        """No ids for any text."""
        return Proposals([[] for _ in emitted])


@dataclass(frozen=True, slots=True)
class EachAlone:
    """Proposers that need no model, one for each text."""

    proposers: Sequence[Proposer]

    def propose(self, emitted: Sequence[list[int]], gammas: Sequence[int]) -> Proposals:
        """What each proposes for its text."""
        return Proposals(
            [
                proposer.propose(list(ids), gamma).ids if gamma > 0 else []
                for proposer, ids, gamma in zip(self.proposers, emitted, gammas, strict=True)
            ]
        )


def run_clips(bench: Bench, clips: Sequence[ClipInputs]) -> list[ClipResult]:
    """All arms on some clips, in their order.

    Args:
        bench: models and settings; chains of a fixed length.
        clips: as every model takes them.
    """
    batch = _Batch(bench, clips)
    runs: list[dict[str, ArmRun]] = [{} for _ in clips]
    for arm in zip(*(model_arms(bench, one) for one in clips), strict=True):
        for found, run in zip(runs, batch.model(arm[0][1], [i for _, _, i in arm]), strict=True):
            found[arm[0][0]] = run
    for looked_up in zip(*(table_arms(bench, one) for one in clips), strict=True):
        for found, run in zip(runs, batch.table([g for _, g in looked_up]), strict=True):
            found[looked_up[0][0]] = run
    return [
        clip_result(bench, one.clip, text, found)
        for one, text, found in zip(clips, batch.texts, runs, strict=True)
    ]


class _Batch:
    """The target on some clips, and what it says about them.

    Attributes:
        texts: by plain decoding.
    """

    def __init__(self, bench: Bench, clips: Sequence[ClipInputs]) -> None:
        self._bench, self._clips = bench, clips
        found = [bench.draws(one.clip) for one in clips]
        self._draws = [one for one in found if one is not None] or None
        self._target = bench.target.states([one.target for one in clips])
        self.texts = [done.ids for done in self._decode(Silent())]
        self._rows = _rows(self._target, self.texts)

    def model(self, model: Narrator, inputs: list[Tensor]) -> list[ArmRun]:
        """The arm of a model that drafts for each of the clips."""
        bench, state = self._bench, model.states(inputs)
        rows = _rows(state, self.texts)
        matches = [
            tuple(guess == true for guess, true in zip(row.argmax(-1).tolist(), text, strict=True))
            for row, text in zip(rows, self.texts, strict=True)
        ]
        offline = [
            None if bench.recorded else forced(text, p, q)
            for text, p, q in zip(self.texts, self._rows, rows, strict=True)
        ]
        state.rollback(state.lengths)
        draft = DraftBatch(
            state,
            bench.target.eos_id,
            vocabulary=self._target.prefix_logits.shape[-1],
            sampling=bench.config.sampling,
            draws=self._draws,
        )
        return [
            ArmRun(done.rounds, match, self._diverges(b, done), seen)
            for b, (done, match, seen) in enumerate(
                zip(self._decode(draft), matches, offline, strict=True)
            )
        ]

    def table(self, guessers: Sequence[Guesser]) -> list[ArmRun]:
        """The arm of a proposer without a model, one for each of the clips."""
        found = self._decode(EachAlone(guessers))
        return [
            ArmRun(done.rounds, tuple(guesser.matches(text)), self._diverges(b, done))
            for b, (done, guesser, text) in enumerate(zip(found, guessers, self.texts, strict=True))
        ]

    def _decode(self, proposer: BatchProposer) -> list[Speculation]:
        bench = self._bench
        return speculate_batch(
            self._target,
            proposer,
            gamma=bench.config.gamma,
            max_new_tokens=bench.config.max_new_tokens,
            eos_id=bench.target.eos_id,
            sampling=bench.config.sampling,
            draws=self._draws,
        )

    def _diverges(self, b: int, done: Speculation) -> Divergence | None:
        if done.ids == self.texts[b]:
            return None
        alone = self._bench.target.state(self._clips[b].target[None])
        return diverges(self._bench, alone, self.texts[b], done.ids)


def _rows(state: BatchState, texts: Sequence[list[int]]) -> list[Tensor]:
    """For each text (n, V): the logits at its positions; one pass over all of them."""
    state.rollback(state.lengths)
    first = state.prefix_logits[:, None]
    if not any(len(text) > 1 for text in texts):
        return list(first)
    rows = torch.cat([first, state.feed([text[:-1] for text in texts])], dim=1)
    return [row[: len(text)] for row, text in zip(rows, texts, strict=True)]
