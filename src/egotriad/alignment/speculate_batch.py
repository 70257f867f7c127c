"""Speculative decoding of many sequences together: the rounds of `speculate`, forwards batched.

Every text and every round is what `egotriad.alignment.speculate` gives for the sequence alone (up
to ties that another order of floating-point sums can flip): rows differ in how much is accepted,
and finished ones wait for the others. It is for measuring acceptance on many clips; speed-ups are
measured one sequence at a time.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from egotriad.alignment.rules import common_prefix, verify_sampled
from egotriad.alignment.sampling import GREEDY, Draws, Sampling, draw
from egotriad.alignment.speculate import Round, Speculation, finish_round, verify_greedy
from egotriad.manifests.errors import UsageError

__all__ = ["BatchProposer", "BatchState", "DraftBatch", "Proposals", "speculate_batch"]


class BatchState(Protocol):
    """A causal decoder on B sequences, as `egotriad.models.ragged.RaggedState` is.

    Attributes:
        prefix_logits: (B, V) logits of the first generated id of each row.
    """

    prefix_logits: Tensor

    @property
    def lengths(self) -> list[int]:
        """Generated ids that each row holds."""

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Appends ids to each row: (B, n, V), (b, i) holding the logits after ids[b][i]."""

    def rollback(self, counts: Sequence[int]) -> None:
        """Forgets the last ids of each row."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """Ids that may come next in each of B texts.

    Attributes:
        ids: B times up to n.
        probabilities: (B, n, V), what they were drawn from; what lies behind a row's last id means
            nothing. None when they were chosen, not drawn.
    """

    ids: list[list[int]]
    probabilities: Tensor | None = None


class BatchProposer(Protocol):
    """Guesses the next ids of many texts."""

    def propose(self, emitted: Sequence[list[int]], gammas: Sequence[int]) -> Proposals:
        """Up to gammas[b] ids that may follow emitted[b]; none where gammas[b] is 0."""


class DraftBatch:
    """Proposals of a draft model for B sequences.

    Args:
        state: the draft on its own prefixes.
        eos_id: proposals stop after it.
        vocabulary: number of ids the target knows; a wider draft never proposes the others.
        sampling: how the draft chooses.
        draws: random numbers of each row, unless greedy.
    """

    def __init__(
        self,
        state: BatchState,
        eos_id: int,
        *,
        vocabulary: int | None = None,
        sampling: Sampling = GREEDY,
        draws: Sequence[Draws] | None = None,
    ) -> None:
        if draws is None and not sampling.greedy:
            raise UsageError("a draft that samples needs its random numbers (draws)")
        self._state = state
        self._eos_id = eos_id
        self._vocabulary = vocabulary
        self._sampling, self._draws = sampling, draws
        self._fed: list[list[int]] = [[] for _ in state.lengths]

    def propose(self, emitted: Sequence[list[int]], gammas: Sequence[int]) -> Proposals:
        """The draft's continuations: up to gammas[b] ids, or to its own EOS."""
        drafted: list[list[int]] = [[] for _ in emitted]
        steps: list[Tensor] = []  # (B, V')
        asked = {b for b, gamma in enumerate(gammas) if gamma > 0}
        if not asked:
            return Proposals(drafted)
        logits = self._logits_after(emitted, asked)
        while True:
            chosen, step = self._choose(logits[:, : self._vocabulary], emitted, drafted, asked)
            if step is not None:
                steps.append(step)
            for b in asked:
                drafted[b].append(chosen[b])
            asked = {b for b in asked if len(drafted[b]) < gammas[b] and chosen[b] != self._eos_id}
            if not asked:
                return Proposals(drafted, torch.stack(steps, dim=1) if steps else None)
            fed = [[i] if b in asked else [] for b, i in enumerate(chosen)]
            logits = self._feed(fed)[:, -1]

    def _choose(
        self,
        logits: Tensor,
        emitted: Sequence[list[int]],
        drafted: Sequence[list[int]],
        asked: Collection[int],
    ) -> tuple[list[int], Tensor | None]:
        if self._draws is None or self._sampling.greedy:
            return logits.argmax(-1).tolist(), None
        row = self._sampling.probabilities(logits)
        numbers = [0.5] * len(emitted)
        for b in asked:
            numbers[b] = self._draws[b].draft[len(emitted[b]) + len(drafted[b])]
        return draw(row, torch.tensor(numbers, device=row.device)).tolist(), row

    def _logits_after(self, emitted: Sequence[list[int]], asked: Collection[int]) -> Tensor:
        """(B, V): the draft's logits after each of the texts asked for."""
        keep = [
            min(common_prefix(fed, ids), max(len(ids) - 1, 0)) if b in asked else len(fed)
            for b, (fed, ids) in enumerate(zip(self._fed, emitted, strict=True))
        ]
        self._state.rollback([len(fed) - n for fed, n in zip(self._fed, keep, strict=True)])
        self._fed = [fed[:n] for fed, n in zip(self._fed, keep, strict=True)]
        missing = [
            ids[n:] if b in asked else []
            for b, (ids, n) in enumerate(zip(emitted, keep, strict=True))
        ]
        if not any(missing):
            return self._state.prefix_logits
        rows = self._feed(missing)
        last = [max(len(ids) - 1, 0) for ids in missing]
        after = rows[range(len(last)), last]
        first = torch.tensor([not ids for ids in emitted], device=after.device)
        return torch.where(first[:, None], self._state.prefix_logits, after)

    def _feed(self, ids: Sequence[list[int]]) -> Tensor:
        for fed, more in zip(self._fed, ids, strict=True):
            fed += more
        return self._state.feed(ids)


def speculate_batch(
    target: BatchState,
    proposer: BatchProposer,
    *,
    gamma: int,
    max_new_tokens: int,
    eos_id: int,
    sampling: Sampling = GREEDY,
    draws: Sequence[Draws] | None = None,
) -> list[Speculation]:
    """A text of the target for every row, verified `gamma` drafted ids at a time.

    Args:
        target: rolled back to its prefixes first.
        proposer: asked once per round.
        gamma: drafted ids per round, at most.
        max_new_tokens: a text ends here if no end of sequence came before.
        eos_id: a text ends after it.
        sampling: how the target chooses its ids.
        draws: random numbers of each row, unless greedy.

    Raises:
        UsageError: gamma or max_new_tokens below 1, or sampling without draws.
    """
    if gamma < 1 or max_new_tokens < 1:
        raise UsageError(f"got gamma {gamma}, max_new_tokens {max_new_tokens}; need both >= 1")
    if draws is None and not sampling.greedy:
        raise UsageError("sampling needs random numbers: pass draws")
    target.rollback(target.lengths)
    texts: list[list[int]] = [[] for _ in target.lengths]
    rounds: list[list[Round]] = [[] for _ in texts]
    while running := [
        b for b, ids in enumerate(texts) if len(ids) < max_new_tokens and ids[-1:] != [eos_id]
    ]:
        active = set(running)
        gammas = [
            min(gamma, max_new_tokens - len(ids) - 1) if b in active else 0
            for b, ids in enumerate(texts)
        ]
        proposals = proposer.propose(texts, gammas)
        logits = _verification_rows(target, texts, proposals.ids, active)
        if draws is None or sampling.greedy:
            found = _greedy_rounds(proposals, logits, running, eos_id)
        else:
            found = _sampled_rounds(proposals, logits, running, texts, sampling, draws, eos_id)
        for b, done in found.items():
            rounds[b].append(done)
            texts[b] += done.emitted
        target.rollback(
            [
                held - (len(ids) - 1) if b in active else 0
                for b, (held, ids) in enumerate(zip(target.lengths, texts, strict=True))
            ]
        )
    return [Speculation(ids, tuple(done)) for ids, done in zip(texts, rounds, strict=True)]


def _verification_rows(
    target: BatchState,
    texts: Sequence[list[int]],
    drafted: Sequence[list[int]],
    active: Collection[int],
) -> Tensor:
    """(B, n + 1, V): the target's logits at every drafted position and after the last."""
    pending = [
        ids[-1:] + more if b in active else []
        for b, (ids, more) in enumerate(zip(texts, drafted, strict=True))
    ]
    first = target.prefix_logits[:, None]
    if not any(pending):
        return first
    rows = target.feed(pending)
    if any(texts):  # all texts have begun, or none: a text gains an id in its first round
        return rows
    return torch.cat([first, rows], dim=1)


def _greedy_rounds(
    proposals: Proposals, logits: Tensor, running: Sequence[int], eos_id: int
) -> dict[int, Round]:
    choices = logits.argmax(-1).tolist()
    drafted = proposals.ids
    return {
        b: verify_greedy(drafted[b], choices[b][: len(drafted[b]) + 1], eos_id) for b in running
    }


def _sampled_rounds(
    proposals: Proposals,
    logits: Tensor,
    running: Sequence[int],
    texts: Sequence[list[int]],
    sampling: Sampling,
    draws: Sequence[Draws],
    eos_id: int,
) -> dict[int, Round]:
    drafted = [proposals.ids[b] for b in running]
    most = max(map(len, drafted))
    rows, q = list(running), proposals.probabilities
    starts = [len(texts[b]) for b in running]
    matched, own = verify_sampled(
        drafted,
        sampling.probabilities(logits[rows, : most + 1]),
        None if q is None else q[rows, :most],
        [draws[b].accept[i : i + most].tolist() for b, i in zip(running, starts, strict=True)],
        [draws[b].own[i : i + most + 1].tolist() for b, i in zip(running, starts, strict=True)],
    )
    return {
        b: finish_round(ids, n, i, eos_id)
        for b, ids, n, i in zip(running, drafted, matched, own, strict=True)
    }
