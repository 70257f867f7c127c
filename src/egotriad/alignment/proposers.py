"""A draft model as a proposer: one sequence, a cache of its own, rolled back and never recomputed.

`emitted ids (n,) -> feed what the cache lacks -> ids, and the rows they were drawn from`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from egotriad.alignment.rules import common_prefix
from egotriad.alignment.sampling import GREEDY, Draws, Sampling, draw
from egotriad.manifests.errors import UsageError

__all__ = ["DraftProposer", "Proposal", "Proposer", "SequenceState"]


class SequenceState(Protocol):
    """A causal decoder on one sequence, as `egotriad.models.state.DecoderState` is.

    Attributes:
        prefix_logits: (V,) logits of the first generated id.
    """

    prefix_logits: Tensor

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids (n,) and returns (n, V): row i holds the logits after ids[i].

        With `keep`, only the last so many rows.
        """

    def rollback(self, n: int) -> None:
        """Forgets the last n generated ids."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Ids that may come next.

    Attributes:
        ids: (n,).
        probabilities: (n, V), what each id was drawn from; None when they were chosen, not drawn.
    """

    ids: list[int]
    probabilities: Tensor | None = None


class Proposer(Protocol):
    """Whatever guesses the next ids: a draft model, an n-gram table, the target itself."""

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """Up to `gamma` ids that may follow `emitted`; none after an end of sequence.

        `emitted` is everything the target has confirmed so far. A proposer that keeps a state
        rolls it back itself, to the longest common prefix of what it holds and `emitted`.
        """


class DraftProposer:
    """Proposals of a draft model.

    The cache is never recomputed: after a rejection only the target's correction is fed, after
    full acceptance two ids are (the last drafted one never was, and the bonus).

    Args:
        state: the draft on its own prefix.
        eos_id: proposals stop after it.
        vocabulary: number of ids the target knows; a wider draft never proposes the others.
        sampling: how the draft chooses; any choice leaves the target's text its distribution.
        draws: its random numbers, unless greedy.
        confidence: drafting stops after an id of less probability than this (transformers'
            `assistant_confidence_threshold`); 0 never stops.

    Raises:
        UsageError: confidence outside 0 to 1, or sampling without draws.
    """

    def __init__(
        self,
        state: SequenceState,
        eos_id: int,
        *,
        vocabulary: int | None = None,
        sampling: Sampling = GREEDY,
        draws: Draws | None = None,
        confidence: float = 0.0,
    ) -> None:
        if not 0 <= confidence < 1:
            raise UsageError(f"draft confidence: got {confidence}, need 0 <= confidence < 1")
        if draws is None and not sampling.greedy:
            raise UsageError("a draft that samples needs its random numbers (draws)")
        self._state = state
        self._eos_id = eos_id
        self._vocabulary = vocabulary
        self._sampling, self._draws = sampling, draws
        self._confidence = confidence
        self._fed: list[int] = []

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """The draft's continuation of `emitted`: up to `gamma` ids, or to its own EOS."""
        ids: list[int] = []
        rows: list[Tensor] = []
        if gamma < 1:
            return Proposal(ids)
        logits = self._logits_after(emitted)
        while True:
            chosen, row = self._choose(logits[: self._vocabulary], len(emitted) + len(ids))
            ids.append(chosen)
            if row is not None:
                rows.append(row)
            if len(ids) == gamma or chosen == self._eos_id or self._unsure(logits, row, chosen):
                return Proposal(ids, torch.stack(rows) if rows else None)
            logits = self._feed(ids[-1:], keep=1)[-1]

    def matches(self, ids: Sequence[int]) -> list[bool]:
        """Teacher-forced: for every id of a text, whether it is the draft's argmax there."""
        guesses = self.logits(ids).argmax(-1).tolist() if ids else []
        return [guess == true for guess, true in zip(guesses, ids, strict=True)]

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Teacher-forced: (n, V), row i holds the logits of position i of a text of n > 0 ids.

        One pass over the whole text.
        """
        self._rollback_to(0)
        first = self._state.prefix_logits[None]
        rows = torch.cat([first, self._feed(list(ids[:-1]))]) if len(ids) > 1 else first
        return rows[:, : self._vocabulary]

    def release(self) -> SequenceState:
        """The draft's state, back on its prefix, for somebody else."""
        self._rollback_to(0)
        return self._state

    def _choose(self, logits: Tensor, position: int) -> tuple[int, Tensor | None]:
        """An id, and the row it was drawn from when it was drawn."""
        if self._draws is None or self._sampling.greedy:
            return int(logits.argmax()), None
        row = self._sampling.probabilities(logits)
        u = torch.tensor(self._draws.draft[position], device=row.device)
        return int(draw(row, u)), row

    def _unsure(self, logits: Tensor, row: Tensor | None, chosen: int) -> bool:
        if not self._confidence:
            return False
        row = logits[: self._vocabulary].softmax(-1) if row is None else row
        return float(row[chosen]) < self._confidence

    def _logits_after(self, emitted: list[int]) -> Tensor:
        if not emitted:
            self._rollback_to(0)
            return self._state.prefix_logits
        # The last id is always fed (again if need be): its logits are what is asked for.
        self._rollback_to(min(common_prefix(self._fed, emitted), len(emitted) - 1))
        return self._feed(emitted[len(self._fed) :], keep=1)[-1]

    def _feed(self, ids: list[int], keep: int | None = None) -> Tensor:
        self._fed += ids
        return self._state.feed(ids, keep=keep)

    def _rollback_to(self, length: int) -> None:
        self._state.rollback(len(self._fed) - length)
        del self._fed[length:]
