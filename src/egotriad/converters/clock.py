"""Sample clocks: the rate a sensor really has, and where its time stamps cannot be trusted."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests import SensorStream
from egotriad.manifests.errors import RecordingError

__all__ = [
    "ClockFaults",
    "ClockFit",
    "ClockReport",
    "ClockSegment",
    "clock_report",
    "count_faults",
    "fit_rate",
    "longest_segment",
    "segments",
    "separate_repeats",
    "usual_step_us",
]

LONGEST_GAP_US = 50_000
UNEVEN_SHARE = 0.1
REPORTED_SEGMENTS = 64
"""A clock that steps back at every sample has as many segments: the longest ones are reported."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSegment:
    """One run of stamps without back-step or long gap, and the line through it.

    Attributes:
        start_us, end_us: first and last stamp.
        samples: how many there are.
        lost: samples missing in holes too short to cut, counted in periods.
        rate_hz: measured, holes accounted for.
        ppm: by how much that is above the nominal rate, None without one.
        residual_us: largest distance of a stamp from the line, outliers left out.
        outliers: stamps too far off to be fitted to.
    """

    start_us: int
    end_us: int
    samples: int
    lost: int
    rate_hz: float
    ppm: float | None
    residual_us: float
    outliers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReport:
    """The clock of one sensor in one recording.

    Attributes:
        samples: how many stamps there are.
        back_steps: how often a stamp is before the one it follows; each cuts.
        gaps: how often stamps are further apart than `longest_gap_us`; each cuts.
        resent, spread: repeated stamps, by what became of them (`separate_repeats`).
        longest_gap_us: what counts as a gap.
        nominal_hz: the rate the sensor says it has, None where nobody says.
        rate_hz, ppm, residual_us: of the longest segment; None where none has a rate.
        segment_count: number of all segments.
        segments: those with a rate, in time order, the longest 64 at most.
    """

    samples: int
    back_steps: int
    gaps: int
    resent: int
    spread: int
    longest_gap_us: int
    nominal_hz: float | None
    rate_hz: float | None
    ppm: float | None
    residual_us: float | None
    segment_count: int
    segments: tuple[ClockSegment, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.rate_hz is None:
            return f"{self.samples} samples, no rate"
        ppm = "" if self.ppm is None else f" ({self.ppm:+.0f} ppm of {self.nominal_hz:g} Hz)"
        return (
            f"{self.rate_hz:.4f} Hz{ppm}, residual {self.residual_us:.0f} us; "
            f"{self.segment_count} segments, {self.back_steps} back-steps, {self.gaps} gaps, "
            f"{self.resent} stamps resent, {self.spread} spread"
        )


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


def usual_step_us(t_us: NDArray[np.int64]) -> float:
    """Median of the steps forward, 0 where there are none."""
    step = np.diff(t_us)
    if len(step) and step.min() <= 0:
        step = step[step > 0]
    return float(np.median(step, overwrite_input=True)) if len(step) else 0.0


def separate_repeats(stream: SensorStream) -> tuple[SensorStream, int, int]:
    """Gives every sample a time of its own.

    A stamp that repeats the one before it with the same values is the same sample delivered twice:
    the copy is dropped. With other values it is another sample, taken before a coarse clock ticked
    on: such a run is spread evenly over the time to the next stamp, at most one usual step. Nothing
    is averaged, and nothing else moves.

    Returns:
        the stream (the same object where no stamp repeats), the number of copies dropped, and the
        number of samples moved.
    """
    repeated = np.diff(stream.t_us) == 0
    if not repeated.any():
        return stream, 0, 0
    same = (stream.values[:, 1:] == stream.values[:, :-1]).all(axis=0)
    kept = np.append(True, ~(repeated & same))
    t_us, values = stream.t_us[kept], stream.values[:, kept]
    first = np.flatnonzero(np.append(True, np.diff(t_us) != 0))  # of each run of equal stamps
    length = np.diff(np.append(first, len(t_us)))
    usual = usual_step_us(t_us)
    room = np.append(np.diff(t_us[first]), -1)
    room = np.where(room > 0, np.minimum(room, usual), usual)
    place = np.arange(len(t_us)) - np.repeat(first, length)
    shift = np.floor(place * np.repeat(room / length, length)).astype(np.int64)
    return SensorStream(t_us + shift, values), int((~kept).sum()), int((place > 0).sum())


def clock_report(
    stream: SensorStream, *, nominal_hz: float | None = None, longest_gap_us: int = LONGEST_GAP_US
) -> ClockReport:
    """Measures a sensor's clock, segment by segment.

    Samples are numbered by time (a step of three periods has lost two), so that holes do not bend
    the line; unless more than a tenth of the steps would be such, or more samples lost than present
    (a coarse clock, stamps that come in bursts): then they are numbered in order.

    Args:
        stream: true stamps; values only tell repeated stamps apart (`separate_repeats`).
        nominal_hz: what the rate is compared with.
        longest_gap_us: stamps further apart (and more than 1.5 periods) cut.
    """
    separate, resent, spread = separate_repeats(stream)
    t_us = separate.t_us
    gap_us = max(longest_gap_us, round(1.5 * usual_step_us(t_us)))
    faults = count_faults(t_us, longest_gap_us=gap_us)
    runs = segments(t_us, longest_gap_us=gap_us)
    longest = sorted(runs, key=lambda run: run.start - run.stop)[:REPORTED_SEGMENTS]
    fitted = [_fitted(t_us[run], nominal_hz) for run in sorted(longest, key=lambda run: run.start)]
    measured = tuple(segment for segment in fitted if segment is not None)
    main = max(measured, key=lambda segment: segment.samples, default=None)
    return ClockReport(
        samples=len(stream),
        back_steps=faults.back_steps,
        gaps=faults.gaps,
        resent=resent,
        spread=spread,
        longest_gap_us=gap_us,
        nominal_hz=nominal_hz,
        rate_hz=main.rate_hz if main else None,
        ppm=main.ppm if main else None,
        residual_us=main.residual_us if main else None,
        segment_count=len(runs),
        segments=measured,
    )


def _fitted(t_us: NDArray[np.int64], nominal_hz: float | None) -> ClockSegment | None:
    """The line through one run; None where it has no rate."""
    step = usual_step_us(t_us)
    if not step:
        return None
    ahead = np.maximum(np.rint(np.diff(t_us) / step), 1).astype(np.int64)
    lost = int(ahead.sum()) - len(ahead)
    if lost > len(t_us) or (ahead > 1).mean() > UNEVEN_SHARE:
        ahead, lost = np.ones_like(ahead), 0
    fit = fit_rate(t_us, index=np.append(0, np.cumsum(ahead)))
    return ClockSegment(
        start_us=int(t_us[0]),
        end_us=int(t_us[-1]),
        samples=len(t_us),
        lost=lost,
        rate_hz=fit.rate_hz,
        ppm=None if nominal_hz is None else (fit.rate_hz / nominal_hz - 1) * 1e6,
        residual_us=fit.residual_us,
        outliers=fit.outliers,
    )
