"""What one step of target and draft costs, and the speed-up their acceptance could give."""

import time
from dataclasses import dataclass
from statistics import median

from egotriad.alignment.speculate import SequenceState

__all__ = ["StepCosts", "measure_steps", "predicted_speedup"]

WARM_UP, REPEATS = 3, 31


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """Median CPU time of one pass, seconds.

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

    CPU time of the process: other processes do not disturb it, but it says nothing about a GPU.
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


def predicted_speedup(tau: float, gamma: int, costs: StepCosts) -> float:
    """Decoding speed-up `tau / (gamma c + v)`: tokens per round over the cost of a round.

    Leviathan et al. 2023 with a verification pass that may cost more than a single step (v > 1);
    neither prefix is counted.
    """
    return tau / (gamma * costs.c + costs.v)


def _timed(state: SequenceState, ids: list[int]) -> float:
    state.rollback(state.length)
    start = time.process_time()
    state.feed(ids)[-1].argmax().item()  # reading the result waits for it
    return time.process_time() - start
