"""When a GoPro's samples were taken: a time for each, from what its payloads say once a second.

Known are the number of each payload's first sample, and of its time one of
    STMP       when it was taken, camera microseconds (Fusion, Max, Hero8 and later): good to 20 us
    TICK       when it was taken in, camera milliseconds (Hero5, Hero6): the rate, good to 0.5 ms
    container  when the payload begins: samples do not begin where payloads do, good to 15 ms
Two more facts tie a camera's clock to the video: exposures (SHUT) carry it too, and the first one
is frame 0; without STMP, the payloads' times in the container stand in. A payload's duration is
never used: the last one's is often a lie. Oscillators drift with temperature, so the line through
the payloads is fitted locally. Where a clock jumps (files joined by a tool) a new run begins.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import ClockFit, fit_rate
from egotriad.converters.gpmf_blocks import BlockTime
from egotriad.manifests.errors import RecordingError

__all__ = ["ClockSource", "SampleClock", "common_source", "sample_clock"]

ClockSource = Literal["STMP", "TICK", "container"]

LONGEST_JUMP_US = 250_000
"""Ten times the jitter of any stream's payloads (GPS: 40 ms), less than one lost payload."""

NEIGHBOURS = {"STMP": 15, "TICK": 15, "container": 60}
"""Payloads on either side that a local line is fitted through: enough to average the jitter."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SampleClock:
    """Times of one stream's samples.

    Attributes:
        source: what the times come from.
        knot_us: float64 (K,), time of each block's first sample on the recording's clock.
        step_us: float64 (K,), distance between a block's samples.
        fit: one line through the longest run: true rate, residual, outliers.
        runs: how often the clock began anew, 1 for a whole recording.
    """

    source: ClockSource
    knot_us: NDArray[np.float64]
    step_us: NDArray[np.float64]
    fit: ClockFit
    runs: int

    def times_us(self, block: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of points `index` of a block, int64 microseconds after frame 0."""
        return np.rint(self.knot_us[block] + index * self.step_us[block]).astype(np.int64)

    def __str__(self) -> str:
        runs = f", {self.runs} runs" if self.runs > 1 else ""
        return f"{self.fit.rate_hz:.3f} Hz, residual {self.fit.residual_us:.0f} us{runs}"


def common_source(streams: list[list[BlockTime]], exposures: list[BlockTime]) -> ClockSource | None:
    """The best clock that all streams have; None when there is no clock at all.

    Args:
        streams: of each stream, the times of its blocks.
        exposures: of the stream SHUT, empty if there is none.
    """
    blocks = [block for stream in streams for block in stream]
    if exposures and all(block.stamp_us is not None for block in [*blocks, *exposures]):
        return "STMP"
    contained = all(block.payload_us is not None for block in blocks)
    tied = blocks if contained else [*blocks, *exposures]  # what ties the ticks to frame 0
    if (contained or exposures) and all(block.tick_us is not None for block in tied):
        return "TICK"
    return "container" if contained else None


def sample_clock(
    blocks: list[BlockTime], exposures: list[BlockTime], source: ClockSource
) -> SampleClock:
    """Fits the clock of a stream.

    Args:
        blocks: times of its blocks, at least 2 (one payload cannot measure a rate).
        exposures: of SHUT; used with `STMP`, and with `TICK` in a file without a container.
        source: one that `common_source` names for these.

    Raises:
        RecordingError: fewer than two blocks, times that do not advance, or a camera clock that
            begins anew in a file that has no other.
    """
    if len(blocks) < 2:
        raise RecordingError(
            "GPMF: one payload is not enough to measure a sample rate; need a recording of 2 s"
        )
    number = _first_numbers(blocks)
    stamps = np.array([_stamp(block, source) for block in blocks], np.float64)
    runs, good = _runs(number, stamps)
    if len(runs) > 1 and blocks[0].payload_us is None:
        raise RecordingError(
            f"GPMF {source}: the camera's clock jumps at payload {runs[1].start + 1} of "
            f"{len(blocks)}, and a bare file has no other; give the mp4 it was taken from"
        )
    longest = max(runs, key=lambda run: run.stop - run.start)
    kept = good[longest]
    fit = fit_rate(stamps[longest][kept].astype(np.int64), index=number[longest][kept])
    knots, steps = np.empty(len(blocks)), np.full(len(blocks), 1e6 / fit.rate_hz)
    for run in runs:
        smooth = _smoothed(number[run], stamps[run], good[run], fit, NEIGHBOURS[source])
        steps[run.start : run.stop - 1] = np.diff(smooth) / np.diff(number[run])
        knots[run] = smooth - _origin_us(blocks[run], exposures, source, smooth)
    return SampleClock(source=source, knot_us=knots, step_us=steps, fit=fit, runs=len(runs))


def _stamp(block: BlockTime, source: ClockSource) -> int:
    stamp = {"STMP": block.stamp_us, "TICK": block.tick_us, "container": block.payload_us}[source]
    if stamp is None:
        raise RecordingError(f"GPMF: a payload has no {source} time, others do; damaged file")
    return stamp


def _first_numbers(blocks: list[BlockTime]) -> NDArray[np.int64]:
    """Number of each block's first sample, from TSMP (lost payloads leave holes), else by sum."""
    lengths = np.array([block.count for block in blocks], np.int64)
    summed = np.cumsum(lengths) - lengths
    totals = [block.total for block in blocks if block.total is not None]
    if len(totals) < len(blocks):
        return summed
    counted = np.array(totals, np.int64) - lengths
    counted -= counted[0]
    return counted if (np.diff(counted) >= lengths[:-1]).all() else summed


def _runs(
    number: NDArray[np.int64], stamps: NDArray[np.float64]
) -> tuple[list[slice], NDArray[np.bool_]]:
    """Runs of blocks on one clock, and which stamps are good (a lone one that jumps is not)."""
    slope = float(np.median(np.diff(stamps) / np.diff(number)))
    distance = stamps - slope * (number - number[0])
    good = np.ones(len(number), bool)
    for start, stop in pairwise(_edges(distance)):
        good[start:stop] = stop - start > 1 or len(number) == 1
    if not good.any():
        raise RecordingError(
            f"GPMF: the times of {len(number)} payloads do not advance with their samples; "
            f"damaged file"
        )
    kept = np.flatnonzero(good)
    starts = [0, *kept[_edges(distance[kept])[1:-1]].tolist(), len(number)]
    return [slice(start, stop) for start, stop in pairwise(starts)], good


def _edges(distance: NDArray[np.float64]) -> list[int]:
    jumps = np.flatnonzero(np.abs(np.diff(distance)) > LONGEST_JUMP_US) + 1
    return [0, *jumps.tolist(), len(distance)]


def _smoothed(
    number: NDArray[np.int64],
    stamps: NDArray[np.float64],
    good: NDArray[np.bool_],
    fit: ClockFit,
    neighbours: int,
) -> NDArray[np.float64]:
    """Time of each block's first sample on a line through its neighbours, outliers left out."""
    slope, first = 1e6 / fit.rate_hz, stamps[np.argmax(good)]
    line = first + slope * (number - number[np.argmax(good)])
    smooth = np.empty(len(number))
    for block in range(len(number)):
        near = np.arange(max(0, block - neighbours), min(len(number), block + neighbours + 1))
        near = near[good[near]]
        smooth[block] = _value_at(
            (number[near] - number[block]).astype(np.float64), (stamps - line)[near]
        )
    return line + smooth


def _value_at(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Value at x = 0 of the line through the points that are no outliers; 0 without points."""
    if not len(x):
        return 0.0
    distance = np.abs(y - np.median(y))
    # 4.4 median deviations are 3 sigma of a normal; 2 us is the rounding of a stamp and its line.
    kept = distance <= max(4.4 * float(np.median(distance)), 2.0)
    x, y = x[kept], y[kept]
    spread = x - x.mean()
    power = float(spread @ spread)
    slope = float(spread @ (y - y.mean())) / power if power else 0.0
    return float(y.mean() - slope * x.mean())


def _origin_us(
    blocks: list[BlockTime],
    exposures: list[BlockTime],
    source: ClockSource,
    smooth: NDArray[np.float64],
) -> float:
    """What the run's clock shows at frame 0 of the recording."""
    if source == "container":
        return 0.0
    if source == "TICK" and blocks[0].payload_us is not None:
        begin = np.array([block.payload_us for block in blocks], np.float64)
        return float(np.median(smooth - begin))
    begin_us = blocks[0].payload_us
    if begin_us is None:
        return float(_stamp(exposures[0], source))
    first = min(exposures, key=lambda exposure: abs((exposure.payload_us or 0) - begin_us))
    return float(_stamp(first, source) - (first.payload_us or 0))
