"""Speculative decoding of one sequence: propose, verify in one target pass, roll back.

`target state + proposer -> rounds of (drafted | matched | emitted) -> a text of the target's`.

Rounds cover the whole text, its first id included: in round 1 the logits of the target's prefix
verify the first drafted id and one pass over the drafted ids verifies the rest, so the number of
rounds is the number of target passes as transformers counts them (drafts verified inside the
prefill). Here the prefix runs on its own, which is one pass more per sequence, not a round.

What stands is decided by `egotriad.alignment.rules`: greedy, the text is the target's own greedy
text whatever the proposer does, up to argmax ties that another order of floating-point sums can
flip; sampled, it has the distribution of the target's own sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egotriad.alignment.acceptance import RoundCount
from egotriad.alignment.proposers import DraftProposer, Proposal, Proposer, SequenceState
from egotriad.alignment.rules import common_prefix, verify_sampled
from egotriad.alignment.sampling import GREEDY, Draws, Sampling, draw
from egotriad.alignment.schedules import Fixed, Schedule
from egotriad.manifests.errors import UsageError

__all__ = [
    "DraftProposer",
    "Proposal",
    "Proposer",
    "Round",
    "SequenceState",
    "Speculation",
    "finish_round",
    "plain",
    "plain_greedy",
    "speculate",
    "verify_greedy",
]


@dataclass(frozen=True, slots=True)
class Round:
    """One target pass.

    Attributes:
        drafted: what was proposed.
        matched: how many drafted ids stand.
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


def speculate(
    target: SequenceState,
    proposer: Proposer,
    *,
    gamma: int | Schedule,
    max_new_tokens: int,
    eos_id: int,
    sampling: Sampling = GREEDY,
    draws: Draws | None = None,
) -> Speculation:
    """A text of the target, verified `gamma` drafted ids at a time.

    Near the end no more ids are drafted than could still be emitted before the target's own.

    Args:
        target: rolled back to its prefix first; afterwards it holds every id but the last.
        proposer: asked once per round while more than one id may follow.
        gamma: drafted ids per round, at most; or a schedule, which is told of every round.
        max_new_tokens: the text ends here if no end of sequence came before.
        eos_id: the text ends after it.
        sampling: how the target chooses its ids.
        draws: its random numbers, `max_new_tokens` of them, unless greedy.

    Raises:
        UsageError: gamma or max_new_tokens below 1, or sampling without draws.
    """
    schedule = Fixed(gamma) if isinstance(gamma, int) else gamma
    _check(max_new_tokens, sampling, draws)
    target.rollback(target.length)
    ids: list[int] = []
    rounds: list[Round] = []
    while len(ids) < max_new_tokens and ids[-1:] != [eos_id]:
        room = max_new_tokens - len(ids)
        proposal = (
            proposer.propose(list(ids), min(schedule.next(), room - 1))
            if room > 1
            else Proposal([])
        )
        logits = _verification_rows(target, ids, proposal.ids)
        if draws is None or sampling.greedy:
            done = verify_greedy(proposal.ids, _argmax(logits), eos_id)
        else:
            done = _sampled_round(proposal, logits, len(ids), sampling, draws, eos_id)
        rounds.append(done)
        ids += done.emitted
        target.rollback(target.length - (len(ids) - 1))
        schedule.update(len(done.drafted), done.matched)
    return Speculation(ids=ids, rounds=tuple(rounds))


def verify_greedy(drafted: Sequence[int], choices: Sequence[int], eos_id: int) -> Round:
    """The round that follows from what was drafted and what the target would have chosen.

    Args:
        drafted: (n,) proposed ids.
        choices: (n + 1,) the target's argmax at every drafted position and after the last.
        eos_id: nothing is emitted after it.
    """
    matched = common_prefix(drafted, choices)
    return finish_round(drafted, matched, choices[matched], eos_id)


def finish_round(drafted: Sequence[int], matched: int, own: int, eos_id: int) -> Round:
    """The round in which so many drafted ids stand and the target's own id follows."""
    emitted = [*drafted[:matched], own]
    if eos_id in emitted:
        emitted = emitted[: emitted.index(eos_id) + 1]
    return Round(drafted=tuple(drafted), matched=matched, emitted=tuple(emitted))


def plain_greedy(target: SequenceState, *, max_new_tokens: int, eos_id: int) -> list[int]:
    """The target's greedy text one id at a time (rolled back to its prefix first)."""
    return plain(target, max_new_tokens=max_new_tokens, eos_id=eos_id)


def plain(
    target: SequenceState,
    *,
    max_new_tokens: int,
    eos_id: int,
    sampling: Sampling = GREEDY,
    draws: Draws | None = None,
) -> list[int]:
    """A text of the target one id at a time (rolled back to its prefix first).

    Sampled, it is another text than `speculate`'s with the same draws, of the same distribution.
    """
    _check(max_new_tokens, sampling, draws)
    target.rollback(target.length)
    ids: list[int] = []
    logits = target.prefix_logits
    while True:
        if draws is None or sampling.greedy:
            ids.append(int(logits.argmax()))
        else:
            row = sampling.probabilities(logits)
            ids.append(int(draw(row, torch.tensor(draws.own[len(ids)], device=row.device))))
        if len(ids) == max_new_tokens or ids[-1] == eos_id:
            return ids
        logits = target.feed(ids[-1:])[-1]


def _sampled_round(
    proposal: Proposal,
    logits: Tensor,
    position: int,
    sampling: Sampling,
    draws: Draws,
    eos_id: int,
) -> Round:
    n = len(proposal.ids)
    q = proposal.probabilities
    matched, own = verify_sampled(
        [proposal.ids],
        sampling.probabilities(logits)[None],
        None if q is None else q[None],
        [draws.accept[position : position + n].tolist()],
        [draws.own[position : position + n + 1].tolist()],
    )
    return finish_round(proposal.ids, matched[0], own[0], eos_id)


def _verification_rows(target: SequenceState, ids: list[int], drafted: list[int]) -> Tensor:
    """(n + 1, V): the target's logits after `ids`, after `ids + drafted[:1]`, ..."""
    pending = ids[-1:] + drafted
    if ids:
        return target.feed(pending)
    first = target.prefix_logits[None]
    return torch.cat([first, target.feed(pending)]) if pending else first


def _argmax(logits: Tensor) -> list[int]:
    return [int(i) for i in logits.argmax(-1).tolist()]


def _check(max_new_tokens: int, sampling: Sampling, draws: Draws | None) -> None:
    if max_new_tokens < 1:
        raise UsageError(f"got max_new_tokens {max_new_tokens}, need >= 1")
    if draws is None and not sampling.greedy:
        raise UsageError("sampling needs random numbers: pass draws")
