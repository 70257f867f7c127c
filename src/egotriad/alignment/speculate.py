"""Greedy speculative decoding of one sequence: propose, verify in one target pass, roll back.

`target state + proposer -> rounds of (drafted | matched | emitted) -> the target's own greedy ids`.

Rounds cover the whole text, its first id included: in round 1 the logits of the target's prefix
verify the first drafted id and one pass over the drafted ids verifies the rest, so the number of
rounds is the number of target passes as transformers counts them (drafts verified inside the
prefill). Here the prefix runs on its own, which is one pass more per sequence, not a round.

Greedy verification after Leviathan et al. 2023 (arXiv 2211.17192) at temperature 0: drafted ids
are accepted while they equal the target's argmax; the target's own argmax follows (the correction
after a mismatch, the bonus after full acceptance). The text is therefore the target's whatever
the proposer does, up to argmax ties that another order of floating-point sums can flip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from egotriad.alignment.acceptance import RoundCount
from egotriad.manifests.errors import UsageError

__all__ = [
    "DraftProposer",
    "Proposer",
    "Round",
    "SequenceState",
    "Speculation",
    "plain_greedy",
    "speculate",
    "verify_greedy",
]


class SequenceState(Protocol):
    """A causal decoder on one sequence, as `egotriad.models.state.DecoderState` is.

    Attributes:
        prefix_logits: (V,) logits of the first generated id.
    """

    prefix_logits: Tensor

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""

    def feed(self, ids: list[int]) -> Tensor:
        """Appends ids (n,) and returns (n, V): row i holds the logits after ids[i]."""

    def rollback(self, n: int) -> None:
        """Forgets the last n generated ids."""


class Proposer(Protocol):
    """Whatever guesses the next ids: a draft model, an n-gram table, the target itself."""

    def propose(self, emitted: list[int], gamma: int) -> list[int]:
        """Up to `gamma` ids that may follow `emitted`; none after an end of sequence.

        `emitted` is everything the target has confirmed so far. A proposer that keeps a state
        rolls it back itself, to the longest common prefix of what it holds and `emitted`.
        """


@dataclass(frozen=True, slots=True)
class Round:
    """One target pass.

    Attributes:
        drafted: what was proposed.
        matched: how many drafted ids equal the target's argmax before the first mismatch.
        emitted: what the round added to the text: matched ids and the target's own id, cut after
            the first end of sequence.
    """

    drafted: tuple[int, ...]
    matched: int
    emitted: tuple[int, ...]

    @property
    def count(self) -> RoundCount:
        """The round without its ids."""
        return RoundCount(len(self.drafted), self.matched, len(self.emitted))


@dataclass(frozen=True, slots=True)
class Speculation:
    """A generated text and how it came about.

    Attributes:
        ids: the text; ends with the end of sequence when that was reached.
        rounds: in order; their `emitted` joined are `ids`.
    """

    ids: list[int]
    rounds: tuple[Round, ...]


class DraftProposer:
    """Greedy proposals of a draft model with a cache of its own.

    The cache is never recomputed: after a rejection only the target's correction is fed, after
    full acceptance two ids are (the last drafted one never was, and the bonus).

    Args:
        state: the draft on its own prefix.
        eos_id: proposals stop after it.
        vocabulary: number of ids the target knows; a wider draft never proposes the others.
    """

    def __init__(self, state: SequenceState, eos_id: int, *, vocabulary: int | None = None) -> None:
        self._state = state
        self._eos_id = eos_id
        self._vocabulary = vocabulary
        self._fed: list[int] = []

    def propose(self, emitted: list[int], gamma: int) -> list[int]:
        """The draft's greedy continuation of `emitted`, up to `gamma` ids or its own EOS."""
        drafted: list[int] = []
        if gamma < 1:
            return drafted
        logits = self._logits_after(emitted)
        while True:
            drafted.append(int(logits[: self._vocabulary].argmax()))
            if len(drafted) == gamma or drafted[-1] == self._eos_id:
                return drafted
            logits = self._feed(drafted[-1:])[-1]

    def matches(self, ids: Sequence[int]) -> list[bool]:
        """Teacher-forced: for every id of a text, whether it is the draft's argmax there.

        One pass over the whole text; `acceptance.walk` turns the answer into rounds.
        """
        if not ids:
            return []
        self._rollback_to(0)
        guesses = [int(self._state.prefix_logits[: self._vocabulary].argmax())]
        if len(ids) > 1:
            guesses += self._feed(list(ids[:-1]))[:, : self._vocabulary].argmax(-1).tolist()
        return [guess == true for guess, true in zip(guesses, ids, strict=True)]

    def _logits_after(self, emitted: list[int]) -> Tensor:
        if not emitted:
            self._rollback_to(0)
            return self._state.prefix_logits
        # The last id is always fed (again if need be): its logits are what is asked for.
        self._rollback_to(min(_common_prefix(self._fed, emitted), len(emitted) - 1))
        return self._feed(emitted[len(self._fed) :])[-1]

    def _feed(self, ids: list[int]) -> Tensor:
        self._fed += ids
        return self._state.feed(ids)

    def _rollback_to(self, length: int) -> None:
        self._state.rollback(len(self._fed) - length)
        del self._fed[length:]


def speculate(
    target: SequenceState,
    proposer: Proposer,
    *,
    gamma: int,
    max_new_tokens: int,
    eos_id: int,
) -> Speculation:
    """The target's greedy text, verified `gamma` drafted ids at a time.

    Near the end no more ids are drafted than could still be emitted before the target's own.

    Args:
        target: rolled back to its prefix first; afterwards it holds every id but the last.
        proposer: asked once per round while more than one id may follow.
        gamma: drafted ids per round, at most.
        max_new_tokens: the text ends here if no end of sequence came before.
        eos_id: the text ends after it.

    Raises:
        UsageError: gamma or max_new_tokens below 1.
    """
    if gamma < 1 or max_new_tokens < 1:
        raise UsageError(f"got gamma {gamma}, max_new_tokens {max_new_tokens}; need both >= 1")
    target.rollback(target.length)
    ids: list[int] = []
    rounds: list[Round] = []
    while len(ids) < max_new_tokens and ids[-1:] != [eos_id]:
        room = max_new_tokens - len(ids)
        drafted = proposer.propose(list(ids), min(gamma, room - 1)) if room > 1 else []
        done = verify_greedy(drafted, _target_choices(target, ids, drafted), eos_id)
        rounds.append(done)
        ids += done.emitted
        target.rollback(target.length - (len(ids) - 1))
    return Speculation(ids=ids, rounds=tuple(rounds))


def verify_greedy(drafted: Sequence[int], choices: Sequence[int], eos_id: int) -> Round:
    """The round that follows from what was drafted and what the target would have chosen.

    Args:
        drafted: (n,) proposed ids.
        choices: (n + 1,) the target's argmax at every drafted position and after the last.
        eos_id: nothing is emitted after it.
    """
    matched = _common_prefix(drafted, choices)
    emitted = [*drafted[:matched], choices[matched]]
    if eos_id in emitted:
        emitted = emitted[: emitted.index(eos_id) + 1]
    return Round(drafted=tuple(drafted), matched=matched, emitted=tuple(emitted))


def plain_greedy(target: SequenceState, *, max_new_tokens: int, eos_id: int) -> list[int]:
    """The target's greedy text one id at a time (rolled back to its prefix first)."""
    target.rollback(target.length)
    ids = [int(target.prefix_logits.argmax())]
    while len(ids) < max_new_tokens and ids[-1] != eos_id:
        ids.append(int(target.feed(ids[-1:])[-1].argmax()))
    return ids


def _target_choices(target: SequenceState, ids: list[int], drafted: list[int]) -> list[int]:
    """The target's argmax after `ids`, after `ids + drafted[:1]`, ...: (len(drafted) + 1,)."""
    choices = [] if ids else [int(target.prefix_logits.argmax())]
    pending = ids[-1:] + drafted
    if pending:
        choices += target.feed(pending).argmax(-1).tolist()
    return choices


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading elements that a and b share."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
