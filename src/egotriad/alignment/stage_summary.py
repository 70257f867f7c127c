"""What many staged runs say: per stage, and what users of a serving system ask for."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from egotriad.alignment.bootstrap import Interval
from egotriad.alignment.stages import STAGES, StageRun
from egotriad.manifests.errors import EvaluationError

__all__ = ["Times", "settled", "stage_report", "times_of"]

P99_NEEDS = 1000
"""Below about a thousand runs the 99th percentile is the luck of a handful of them."""

WARM_UP_LEAST, WARM_UP_MOST, WARM_UP_SPREAD = 3, 20, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of many runs.

    Attributes:
        n, mean, std, min: as they say (std None of one run).
        p50, p90: percentiles with 95 % bootstrap intervals.
        p99: None with fewer than `P99_NEEDS` runs.
        share: of the sum over all stages, None where it has no meaning.
    """

    n: int
    mean: float
    std: float | None
    min: float
    p50: Interval
    p90: Interval
    p99: float | None
    share: float | None = None


def times_of(seconds: Sequence[float], *, share: float | None = None, seed: int = 0) -> Times:
    """The times of some runs.

    Raises:
        EvaluationError: when there are none.
    """
    if not seconds:
        raise EvaluationError("times of 0 runs: nothing was measured")
    values = np.asarray(seconds, np.float64)
    return Times(
        n=len(values),
        mean=float(values.mean()),
        std=statistics.stdev(seconds) if len(values) > 1 else None,
        min=float(values.min()),
        p50=_percentile(values, 50, seed),
        p90=_percentile(values, 90, seed),
        p99=float(np.percentile(values, 99)) if len(values) >= P99_NEEDS else None,
        share=share,
    )


def settled(totals_s: Sequence[float]) -> bool:
    """Whether enough has been run to begin: the last three runs differ by less than 5 %.

    After `WARM_UP_MOST` runs a machine is taken as it is.
    """
    last = totals_s[-WARM_UP_LEAST:]
    calm = len(last) == WARM_UP_LEAST and max(last) <= (1 + WARM_UP_SPREAD) * min(last)
    return calm or len(totals_s) >= WARM_UP_MOST


def stage_report(staged: Sequence[StageRun], unstaged: Sequence[StageRun]) -> dict[str, Any]:
    """JSON values: every stage, ttft, tpot, e2e, rates, and what watching cost.

    Args:
        staged: one run per clip.
        unstaged: the same clips in one go.

    Raises:
        EvaluationError: when there are none.
    """
    if not staged or len(staged) != len(unstaged):
        raise EvaluationError(
            f"stages of {len(staged)} staged and {len(unstaged)} unstaged runs: need as many of "
            "both, and one at least"
        )
    sums = {stage: sum(run.seconds[stage] for run in staged) for stage in STAGES}
    total = sum(sums.values())
    further = [run for run in staged if len(run.ids) > 1]
    tokens = sum(len(run.ids) for run in staged)
    return {
        "stages": {
            stage: _plain(times_of([r.seconds[stage] for r in staged], share=sums[stage] / total))
            for stage in STAGES
        },
        "ttft": _plain(times_of([run.ttft_s for run in staged])),
        "tpot": _optional(further, lambda run: run.seconds["decode"] / (len(run.ids) - 1)),
        "e2e": _plain(times_of([run.total_s for run in unstaged])),
        "inter_burst": _optional(
            [run for run in staged if run.rounds], lambda run: run.seconds["decode"] / run.rounds
        ),
        "tokens_out": tokens,
        "rounds": sum(run.rounds for run in staged),
        # The first id belongs to the prefix: decoding made the others.
        "decode_tok_s": _rate(tokens - len(staged), sums["decode"]),
        "prefill_tok_s": _rate(sum(run.cached for run in staged), sums["prefill"]),
        "prefix_tokens": sum(run.cached for run in staged) / len(staged),
        "staged_over_e2e": total / sum(run.total_s for run in unstaged),
    }


def _optional(
    runs: Sequence[StageRun], seconds: Callable[[StageRun], float]
) -> dict[str, Any] | None:
    return _plain(times_of([seconds(run) for run in runs])) if runs else None


def _plain(times: Times) -> dict[str, Any]:
    values = asdict(times)
    for name in ("p50", "p90"):
        interval = getattr(times, name)
        values[name] = interval.value
        values[f"{name}_ci95"] = [interval.low, interval.high]
    return values


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 and count > 0 else None


def _percentile(values: "np.ndarray[Any, np.dtype[np.float64]]", q: int, seed: int) -> Interval:
    rng = np.random.default_rng(np.random.SeedSequence([seed, q, len(values)]))
    picks = rng.integers(0, len(values), (min(1000, math.ceil(2e6 / len(values))), len(values)))
    found = np.percentile(values[picks], q, axis=1)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(np.percentile(values, q)), float(low), float(high))
