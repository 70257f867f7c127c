"""Speculation of a chosen acceptance: real passes of both models, scripted ids.

`text (n,), alpha -> the target says the text; the draft proposes each of its ids with chance alpha`

How fast a pair of some size would be at some acceptance can be timed before anything is trained.
Nothing here measures acceptance: it is put in.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from egotriad.alignment.proposers import Proposal, SequenceState
from egotriad.manifests.errors import UsageError

__all__ = ["CalibratedProposer", "ScriptedState", "random_text"]

FIRST_ID = 3
"""The first that is no special id."""


def random_text(ids: int, vocabulary: int, *, seed: int) -> list[int]:
    """So many ids, none of them special."""
    return [int(i) for i in np.random.default_rng(seed).integers(FIRST_ID, vocabulary, ids)]


class ScriptedState:
    """A state that runs as it is, and whose likeliest ids are then those of a given text.

    Models with random weights have near ties everywhere, which passes of different lengths break
    differently in half precision; what they say must not decide how long a run takes.

    Args:
        state: of the target, nothing generated yet.
        text: as many ids as may be asked for, drafted ones beyond the end included.
    """

    def __init__(self, state: SequenceState, text: Sequence[int]) -> None:
        self._state = state
        self._text = torch.tensor(text, device=state.prefix_logits.device)[:, None]
        self.prefix_logits = self._saying(state.prefix_logits[None].clone(), 0)[0]

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""
        return self._state.length

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids and returns (n, V); with `keep`, only the last so many rows."""
        rows = self._state.feed(ids, keep=keep)
        return self._saying(rows, self._state.length - len(rows) + 1)

    def rollback(self, n: int) -> None:
        """Forgets the last n generated ids."""
        self._state.rollback(n)

    def _saying(self, rows: Tensor, first: int) -> Tensor:
        """The rows (n, V), which predict the ids from `first` on, changed in place."""
        with torch.inference_mode():
            return rows.scatter_(1, self._text[first : first + len(rows)], torch.inf)


class CalibratedProposer:
    """Takes a draft's steps, then proposes a known text's ids, each with a given probability.

    Args:
        state: the draft on its own prefix, nothing generated yet.
        text: what the target will say.
        alpha: chance that a drafted id is the text's.
        seed: of which ones are.
        vocabulary: number of ids.

    Raises:
        UsageError: when alpha is no probability.
    """

    def __init__(
        self,
        state: SequenceState,
        text: Sequence[int],
        alpha: float,
        *,
        seed: int,
        vocabulary: int,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha: got {alpha}, need 0 <= alpha <= 1")
        self._state, self._text, self._vocabulary = state, list(text), vocabulary
        self._agrees = np.random.default_rng(seed).random(len(self._text)) < alpha

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """`gamma` ids, after as many steps of the draft, whose results are waited for."""
        begin = len(emitted)
        self._state.rollback(max(self._state.length - max(begin - 1, 0), 0))
        pending = emitted[self._state.length :]
        ids: list[int] = []
        for at in range(begin, min(begin + gamma, len(self._text))):
            if pending:
                self._state.feed(pending, keep=1)[-1].argmax().item()
            true = self._text[at]
            ids.append(true if self._agrees[at] else (true + 1) % self._vocabulary)
            pending = ids[-1:]
        return Proposal(ids)
