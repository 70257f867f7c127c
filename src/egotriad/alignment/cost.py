"""What one step of target and draft costs, and the speed-up their acceptance could give."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from egotriad.alignment.acceptance import RoundCount
from egotriad.alignment.offline import tau_iid
from egotriad.alignment.proposers import SequenceState
from egotriad.alignment.speed import timed

__all__ = ["StepCosts", "best_gamma", "measure_steps", "predicted_speedup"]

WARM_UP, REPEATS = 3, 31
CHAIN = 8  # single steps of the target in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Median time of one pass, seconds (CPU time; wall time on CUDA).

    Attributes:
        t_target_step_s: the target fed one id.
        t_verify_s: the target fed gamma + 1 ids, as in a round.
        t_draft_step_s: the draft fed one id.
        t_feed_s: the target fed 1, 2, ... gamma + 1 ids.
    """

    t_target_step_s: float
    t_verify_s: float
    t_draft_step_s: float
    t_feed_s: tuple[float, ...] = ()

    @property
    def c(self) -> float:
        """Draft step over target step."""
        return self.t_draft_step_s / self.t_target_step_s

    @property
    def v(self) -> float:
        """Verification over target step."""
        return self.t_verify_s / self.t_target_step_s


def measure_steps(
    target: SequenceState, draft: SequenceState, *, token: int, gamma: int
) -> StepCosts:
    """Times passes of both models after their prefixes, in the order in which they come in use.

    The target's single steps follow each other, as in plain decoding; a verification comes after
    steps of the draft, whose weights have by then taken the processor's caches.

    Whatever the states held after their prefixes is forgotten.

    Args:
        target: on some clip.
        draft: on the same clip.
        token: any id both know.
        gamma: drafted ids per round.
    """
    plain: list[float] = []
    drafting: list[float] = []
    feeds: list[list[float]] = [[] for _ in range(gamma + 1)]
    for _ in range(WARM_UP + REPEATS):
        plain.append(_timed(target, [token], CHAIN))
        for n, spent in enumerate(feeds, start=1):
            drafting.append(_timed(draft, [token], max(n - 1, 1)))
            spent.append(_timed(target, [token] * n))
    fed = tuple(median(spent[WARM_UP:]) for spent in feeds)
    return StepCosts(
        t_target_step_s=median(plain[WARM_UP:]),
        t_verify_s=fed[-1],
        t_draft_step_s=median(drafting[WARM_UP * (gamma + 1) :]),
        t_feed_s=fed,
    )


def predicted_speedup(
    texts: Iterable[Sequence[RoundCount]], costs: StepCosts, *, levels: int | None = None
) -> float:
    """Decoding speed-up: the steps that plain decoding needs over what the rounds cost.

    Leviathan et al. 2023 count `tau / (gamma c + 1)`; here a verification costs what a pass over so
    many ids takes (v > 1), each round has the ids that it drafted, and the first id of a text is
    free for plain decoding, whose prefix gives it. Neither prefix is counted, nor what the loop
    itself costs.

    Args:
        texts: the rounds of each text.
        costs: of the steps.
        levels: draft steps of a round whose drafts are trees; else one per drafted id.
    """
    plain_s = speculative_s = 0.0
    for rounds in texts:
        plain_s += (sum(r.emitted for r in rounds) - 1) * costs.t_target_step_s
        for number, r in enumerate(rounds):
            fed = r.drafted + (number > 0)  # the prefix has the first round's first logits
            known = costs.t_feed_s[fed - 1 : fed] if fed else (0.0,)
            steps = r.drafted if levels is None else levels
            speculative_s += (known[0] if known else costs.t_verify_s) + (
                steps * costs.t_draft_step_s
            )
    return plain_s / speculative_s if speculative_s else 1.0


def best_gamma(alpha: float, c: float, v: float = 1.0, *, most: int = 32) -> tuple[int, float]:
    """The number of drafted ids with the largest expected speed-up, and that speed-up.

    Positions are taken as alike and independent; 0 (and 1.0) where no draft pays.

    Args:
        alpha: chance that a drafted id stands.
        c: a draft step over a target step.
        v: a verification over a target step; only drafting rounds pay it.
        most: largest number tried.
    """
    tried = {g: tau_iid(alpha, g) / (g * c + v) for g in range(1, most + 1)}
    gamma = max(tried, key=lambda g: (tried[g], -g))
    return (gamma, tried[gamma]) if tried[gamma] > 1 else (0, 1.0)


def _timed(state: SequenceState, ids: list[int], times: int = 1) -> float:
    """Seconds of one feed, one after the other; reading the result waits for it."""
    state.rollback(state.length)

    def run() -> None:
        for _ in range(times):
            state.feed(ids)[-1].argmax().item()

    return timed(state.prefix_logits.device, run)[0] / times
