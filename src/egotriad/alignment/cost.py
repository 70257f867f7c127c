"""What one step of target and draft costs, and the speed-up their acceptance could give."""

from dataclasses import dataclass
from statistics import median

from egotriad.alignment.offline import tau_iid
from egotriad.alignment.proposers import SequenceState
from egotriad.alignment.speed import timed

__all__ = ["StepCosts", "best_gamma", "measure_steps", "predicted_speedup"]

WARM_UP, REPEATS = 3, 31


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Median time of one pass, seconds (CPU time; wall time on CUDA).

    Attributes:
        t_target_step_s: the target fed one id.
        t_verify_s: the target fed gamma + 1 ids, as in a round.
        t_draft_step_s: the draft fed one id.
    """

    t_target_step_s: float
    t_verify_s: float
    t_draft_step_s: float

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
    """Times single passes of both models, interleaved, after their prefixes.

    Whatever the states held after their prefixes is forgotten.

    Args:
        target: on some clip.
        draft: on the same clip.
        token: any id both know.
        gamma: drafted ids per round.
    """
    seconds: dict[str, list[float]] = {"target": [], "verify": [], "draft": []}
    for _ in range(WARM_UP + REPEATS):
        seconds["target"].append(_timed(target, [token]))
        seconds["verify"].append(_timed(target, [token] * (gamma + 1)))
        seconds["draft"].append(_timed(draft, [token]))
    typical = {name: median(spent[WARM_UP:]) for name, spent in seconds.items()}
    return StepCosts(
        t_target_step_s=typical["target"],
        t_verify_s=typical["verify"],
        t_draft_step_s=typical["draft"],
    )


def predicted_speedup(
    tau: float, drafted: float, costs: StepCosts, *, rounds: float = float("inf")
) -> float:
    """Decoding speed-up: target steps that a round saves over what the round costs.

    `(tau - 1 / rounds) / (drafted c + v)`. After Leviathan et al. 2023, with a verification pass
    that may cost more than a single step (v > 1), and without the first id of each text, which the
    prefix gives plain decoding for nothing. Neither prefix is counted, nor what the loop costs.

    Args:
        tau: tokens per round, the target's own included.
        drafted: mean number of drafted ids per round.
        costs: of the steps.
        rounds: mean number per text.
    """
    return (tau - 1 / rounds) / (drafted * costs.c + costs.v)


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


def _timed(state: SequenceState, ids: list[int]) -> float:
    state.rollback(state.length)
    # Reading the result waits for it.
    seconds, _ = timed(state.prefix_logits.device, lambda: state.feed(ids)[-1].argmax().item())
    return seconds
