"""The acceptance family: counts of rounds, and every number derived from them, defined once.

A round drafts up to gamma ids; `matched` of them equal the target's choice before the first
mismatch; `emitted` ids join the text, the last of them being the target's own (correction or
bonus). Two conventions exist for a drafted end of sequence that matched:

- here, in transformers 5 and in Spec-Bench it is the round's emitted last id, not an accepted
  one: `accepted = emitted - 1` in every round, so `1 + accepted / rounds` is exactly the number
  of tokens per target pass;
- serving engines (vLLM) count it as accepted: `tau_eos_counted`, higher on short texts.

| name | formula | elsewhere called |
|---|---|---|
| tau_incl_bonus | 1 + accepted / rounds | mean accepted length, block efficiency, MAT |
| emitted_per_round | emitted / rounds (= tau_incl_bonus by the recount above) | tokens per pass |
| accepted_over_drafted | accepted / drafted | "draft acceptance rate"; falls with gamma |
| per_position_unconditional[i] | rounds with > i accepted / rounds; sum = tau - 1 | vLLM per_pos |
| per_position_conditional[i] | matched at i / rounds that compared position i | EAGLE n-alpha |
| alpha_conditional | matched / compared positions, all depths | alpha |
| alpha_teacher_forced | argmax matches / ids of the target's text | offline top-1 |

Nothing after a first mismatch is compared, so the two conditional numbers are not lowered by
gamma or by short last rounds. Without such truncation per_position_conditional[i] is
per_position_unconditional[i] / per_position_unconditional[i - 1].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from egotriad.manifests.errors import EvaluationError

__all__ = ["AcceptanceMetrics", "Counts", "RoundCount", "metrics", "walk"]


@dataclass(frozen=True, slots=True)
class RoundCount:
    """How many ids a round drafted, matched before the first mismatch, and emitted."""

    drafted: int
    matched: int
    emitted: int

    @property
    def accepted(self) -> int:
        """Emitted ids that are not the round's last: a matched end of sequence is that last."""
        return self.emitted - 1

    @property
    def compared(self) -> int:
        """Drafted positions that were reached: the matched ones and the first mismatch."""
        return min(self.matched + 1, self.drafted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Sums over rounds of any number of clips; add two to merge them.

    Attributes:
        clips, rounds, drafted, matched, emitted: totals.
        histogram: [k] = rounds with k accepted ids, k = 0..gamma.
        matched_at: [i] = rounds in which drafted position i matched, i = 0..gamma-1.
        compared_at: [i] = rounds in which drafted position i was compared.
        forced: ids of the target's text that were compared teacher-forced; forced_matches of
            them were the draft's argmax.
    """

    clips: int
    rounds: int
    drafted: int
    matched: int
    emitted: int
    histogram: tuple[int, ...]
    matched_at: tuple[int, ...]
    compared_at: tuple[int, ...]
    forced: int
    forced_matches: int

    @staticmethod
    def of_clip(rounds: Iterable[RoundCount], gamma: int, forced: Sequence[bool] = ()) -> "Counts":
        """Counts of one clip's rounds and, when known, its teacher-forced matches."""
        rounds = list(rounds)
        return Counts(
            clips=1,
            rounds=len(rounds),
            drafted=sum(r.drafted for r in rounds),
            matched=sum(r.matched for r in rounds),
            emitted=sum(r.emitted for r in rounds),
            histogram=tuple(sum(r.accepted == k for r in rounds) for k in range(gamma + 1)),
            matched_at=tuple(sum(r.matched > i for r in rounds) for i in range(gamma)),
            compared_at=tuple(sum(r.compared > i for r in rounds) for i in range(gamma)),
            forced=len(forced),
            forced_matches=sum(forced),
        )

    @property
    def accepted(self) -> int:
        """Accepted ids: all emitted ones but one a round."""
        return self.emitted - self.rounds

    @property
    def compared(self) -> int:
        """Drafted positions that were compared with the target's choice."""
        return sum(self.compared_at)

    def __add__(self, other: "Counts") -> "Counts":
        if len(self.histogram) != len(other.histogram):
            raise EvaluationError(
                f"cannot merge counts of gamma {len(self.histogram) - 1} and "
                f"{len(other.histogram) - 1}: evaluate both arms with the same gamma"
            )
        return Counts(
            clips=self.clips + other.clips,
            rounds=self.rounds + other.rounds,
            drafted=self.drafted + other.drafted,
            matched=self.matched + other.matched,
            emitted=self.emitted + other.emitted,
            histogram=_sum(self.histogram, other.histogram),
            matched_at=_sum(self.matched_at, other.matched_at),
            compared_at=_sum(self.compared_at, other.compared_at),
            forced=self.forced + other.forced,
            forced_matches=self.forced_matches + other.forced_matches,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceMetrics:
    """The numbers of the table in the module's docstring; None where nothing was counted."""

    clips: int
    rounds: int
    drafted: int
    accepted: int
    emitted: int
    histogram: tuple[int, ...]
    accepted_over_drafted: float | None
    per_position_unconditional: tuple[float, ...]
    per_position_conditional: tuple[float | None, ...]
    alpha_conditional: float | None
    alpha_teacher_forced: float | None
    tau_incl_bonus: float
    tau_eos_counted: float
    emitted_per_round: float
    rounds_per_clip: float


def metrics(counts: Counts) -> AcceptanceMetrics:
    """Every acceptance number of the counted rounds.

    Raises:
        EvaluationError: when no round was counted.
    """
    if not counts.rounds:
        raise EvaluationError("acceptance of 0 rounds: got no generated text, need at least one")
    gamma = len(counts.matched_at)
    return AcceptanceMetrics(
        clips=counts.clips,
        rounds=counts.rounds,
        drafted=counts.drafted,
        accepted=counts.accepted,
        emitted=counts.emitted,
        histogram=counts.histogram,
        accepted_over_drafted=_ratio(counts.accepted, counts.drafted),
        per_position_unconditional=tuple(
            sum(counts.histogram[i + 1 :]) / counts.rounds for i in range(gamma)
        ),
        per_position_conditional=tuple(
            _ratio(m, c) for m, c in zip(counts.matched_at, counts.compared_at, strict=True)
        ),
        alpha_conditional=_ratio(counts.matched, counts.compared),
        alpha_teacher_forced=_ratio(counts.forced_matches, counts.forced),
        tau_incl_bonus=1 + counts.accepted / counts.rounds,
        tau_eos_counted=1 + counts.matched / counts.rounds,
        emitted_per_round=counts.emitted / counts.rounds,
        rounds_per_clip=counts.rounds / counts.clips,
    )


def walk(matches: Sequence[bool], gamma: int, *, max_new_tokens: int) -> tuple[RoundCount, ...]:
    """The rounds a greedy draft would need for a text, from teacher-forced matches alone.

    The draft's argmax at a position depends only on the target's ids before it, which are the
    same online and offline: one pass of the draft over the target's text therefore gives the
    loop's matched, accepted and emitted counts exactly. `drafted` is exact too, except that a
    draft whose rejected tail ran into its own end of sequence drafted fewer.

    Args:
        matches: for every id of the target's text (its end of sequence included), whether it is
            the draft's argmax given the ids before it.
        gamma: drafted ids per round, at most.
        max_new_tokens: the limit under which the text was generated (>= its length).

    Raises:
        EvaluationError: when the text is longer than the limit.
    """
    if len(matches) > max_new_tokens:
        raise EvaluationError(
            f"a text of {len(matches)} ids cannot stem from max_new_tokens {max_new_tokens}"
        )
    rounds: list[RoundCount] = []
    start = 0
    while start < len(matches):
        drafted = min(gamma, max_new_tokens - start - 1)
        block = matches[start : start + drafted]
        matched = next((i for i, match in enumerate(block) if not match), len(block))
        ended = start + matched == len(matches)
        emitted = matched if ended else matched + 1
        rounds.append(RoundCount(matched if ended else drafted, matched, emitted))
        start += emitted
    return tuple(rounds)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
