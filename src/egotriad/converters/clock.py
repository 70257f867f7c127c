"""Sample clocks: the rate a sensor really has, and where its time stamps cannot be trusted."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import RecordingError

__all__ = ["ClockFaults", "ClockFit", "count_faults", "fit_rate", "longest_segment", "segments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFit:
    """The straight line t_us = start_us + index * 1e6 / rate_hz.

    Attributes:
        rate_hz: samples per second.
        start_us: time of sample 0 on the line (not the first stamp).
        residual_us: largest distance between a stamp the line was fitted to and the line.
        outliers: stamps too far off to be fitted to.
    """

    rate_hz: float
    start_us: float
    residual_us: float
    outliers: int

    def times_us(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of the samples of these numbers, int64 microseconds, on the line."""
        return np.rint(self.start_us + index * (1e6 / self.rate_hz)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFaults:
    """How often consecutive stamps step back, repeat, or leave a gap."""

    back_steps: int
    duplicates: int
    gaps: int


def fit_rate(t_us: NDArray[np.int64], *, index: NDArray[np.int64] | None = None) -> ClockFit:
    """Fits a straight line to time stamps, robustly.

    A median of slopes over half the length (Theil and Sen's idea with a fixed, long baseline: exact
    to stamp noise / baseline, unmoved by up to a quarter of bad stamps) finds the outliers; least
    squares over the rest gives the line.

    Args:
        t_us: int64 (N,), N >= 2, stamps of one segment (no gaps: a line knows none).
        index: int64 (N,), sample number of each stamp, rising; 0, 1, 2, ... when not given.

    Raises:
        RecordingError: fewer than two stamps, or stamps that do not advance.
    """
    if len(t_us) < 2:
        raise RecordingError(f"{len(t_us)} time stamps, need at least 2 to measure a rate")
    number = np.arange(len(t_us)) if index is None else index
    # Relative to the first, so that squares of epoch microseconds keep their digits.
    x = (number - number[0]).astype(np.float64)
    y = (t_us - t_us[0]).astype(np.float64)
    half = len(x) // 2
    slope = float(np.median((y[half:] - y[:-half]) / (x[half:] - x[:-half])))
    distance = y - slope * x
    distance -= np.median(distance)
    # 4.4 median deviations are 3 sigma of a normal; 2 us is the rounding of a stamp and its line.
    kept = np.abs(distance) <= max(4.4 * float(np.median(np.abs(distance))), 2.0)
    if kept.sum() >= 2:
        slope = _slope(x[kept], y[kept])
    if not slope > 0:
        raise RecordingError(
            f"time stamps do not advance: {len(t_us)} stamps from {t_us[0]} to {t_us[-1]} us"
        )
    start = float(np.mean(y[kept] - slope * x[kept]))
    return ClockFit(
        rate_hz=1e6 / slope,
        start_us=float(t_us[0]) + start - slope * float(number[0]),
        residual_us=float(np.abs(y - start - slope * x)[kept].max()),
        outliers=int((~kept).sum()),
    )


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    centred = x - x.mean()
    return float(centred @ (y - y.mean()) / (centred @ centred))


def segments(t_us: NDArray[np.int64], *, longest_gap_us: int) -> list[slice]:
    """Cuts stamps into runs that never step back and hold no gap above the limit.

    Nothing is sorted and nothing dropped: every stamp is in exactly one run, in the given order.
    Repeated stamps stay in one run (a run does not fall; it need not rise).
    """
    if not len(t_us):
        return []
    step = np.diff(t_us)
    cuts = np.flatnonzero((step < 0) | (step > longest_gap_us)) + 1
    edges = [0, *cuts.tolist(), len(t_us)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def longest_segment(t_us: NDArray[np.int64], *, longest_gap_us: int) -> slice:
    """The run of `segments` with the most stamps (the first of equals; empty for no stamps)."""
    runs = segments(t_us, longest_gap_us=longest_gap_us)
    return max(runs, key=lambda run: run.stop - run.start, default=slice(0, 0))


def count_faults(t_us: NDArray[np.int64], *, longest_gap_us: int) -> ClockFaults:
    """Counts what is wrong between consecutive stamps."""
    step = np.diff(t_us)
    return ClockFaults(
        back_steps=int((step < 0).sum()),
        duplicates=int((step == 0).sum()),
        gaps=int((step > longest_gap_us).sum()),
    )
