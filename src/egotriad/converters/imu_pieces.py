"""A sensor's samples, cleaned and cut into runs that values between samples may be taken from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import segments, separate_repeats, usual_step_us
from egotriad.converters.imu_filter import band_limited, bridged, half_width
from egotriad.manifests import SensorStream

__all__ = ["Pieces", "extent_us", "pieces_of", "values_at"]

OWN_PERIOD_SAMPLES = 16
"""Runs of at least so many samples have a period of their own; shorter ones the sensor's."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pieces:
    """Samples of one or more sensors that share their stamps, and the runs they are cut into.

    Attributes:
        t_us: int64 (N,), in the order of the source, repeated stamps separated.
        values: per sensor float64 (3, N), finite.
        runs: gap-free stretches with stamps that do not fall.
        first_us, last_us: int64 (R,), first and last stamp of each run.
        periods_us: float64 (R,), usual distance of samples in each run, 0 where unknown.
        contested_us: int64 (K, 2), stretches that more than one run claims, longer than the limit.
    """

    t_us: NDArray[np.int64]
    values: tuple[NDArray[np.float64], ...]
    runs: list[slice]
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    periods_us: NDArray[np.float64]
    contested_us: NDArray[np.int64]

    def near(
        self, run: int, origin_us: int, grid: NDArray[np.float64], reach_us: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Samples of a run around grid times: times (n,) from the origin, values (C, n).

        One sample more than the reach on either side, so that a hole at its end is seen as one.
        """
        whole = self.runs[run]
        t_us = self.t_us[whole]
        low = int(np.searchsorted(t_us, origin_us + grid[0] - reach_us)) - 1
        high = int(np.searchsorted(t_us, origin_us + grid[-1] + reach_us, side="right")) + 1
        part = slice(whole.start + max(low, 0), min(whole.start + high, whole.stop))
        values = np.concatenate([rows[:, part] for rows in self.values])
        return (self.t_us[part] - origin_us).astype(np.float64), values


def extent_us(t_us: NDArray[np.int64]) -> tuple[int, int]:
    """First and last stamp, a thousandth at either end left out; (0, 0) without stamps.

    At most a second per sample: a stray stamp must not make anyone lay out a grid for years.
    """
    if not len(t_us):
        return 0, 0
    first = int(np.quantile(t_us, 0.001, method="lower"))
    last = int(np.quantile(t_us, 0.999, method="higher"))
    return first, min(last, first + len(t_us) * 1_000_000)


def values_at(
    stream: SensorStream, t_us: NDArray[np.int64], *, longest_gap_us: int
) -> NDArray[np.float64]:
    """Band-limited values of a sensor at any times, float64 (3, M), NaN where it has none.

    Args:
        stream: true stamps.
        t_us: int64 (M,), wanted times; where they step back a new stretch begins.
        longest_gap_us: longest hole in the sensor that is bridged.
    """
    (pieces,) = pieces_of([stream], longest_gap_us)
    out = np.full((3, len(t_us)), np.nan)
    grid_period = usual_step_us(t_us)
    for stretch in segments(t_us, longest_gap_us=longest_gap_us):
        origin_us = int(t_us[stretch.start])
        grid = (t_us[stretch] - origin_us).astype(np.float64)
        starts = np.searchsorted(grid, pieces.first_us - origin_us)
        stops = np.searchsorted(grid, pieces.last_us - origin_us, side="right")
        for k in np.flatnonzero(starts < stops).tolist():
            points = grid[starts[k] : stops[k]]
            period = float(pieces.periods_us[k]) or grid_period
            scale = {"period": period, "grid_period": grid_period or period}
            t, values = pieces.near(k, origin_us, points, half_width(**scale))
            t, values = bridged(t, values, **scale)
            place = slice(stretch.start + starts[k], stretch.start + stops[k])
            out[:, place] = band_limited(t, values, points, **scale)
    return out


def pieces_of(streams: Sequence[SensorStream], longest_gap_us: int) -> list[Pieces]:
    """Cleans and cuts each stream; streams that share all their stamps become one.

    A sample with a NaN is missing. A gap is what exceeds both `longest_gap_us` and 1.5 periods: two
    samples of a slow sensor are no hole, however strict the limit.
    """
    clean = [separate_repeats(_complete(stream))[0] for stream in streams]
    first = clean[0].t_us
    if all(np.array_equal(stream.t_us, first) for stream in clean[1:]):
        return [_cut(first, tuple(stream.values for stream in clean), longest_gap_us)]
    return [_cut(stream.t_us, (stream.values,), longest_gap_us) for stream in clean]


def _complete(stream: SensorStream) -> SensorStream:
    complete = np.isfinite(stream.values).all(axis=0)
    if complete.all():
        return stream
    return SensorStream(stream.t_us[complete], stream.values[:, complete])


def _cut(
    t_us: NDArray[np.int64], values: tuple[NDArray[np.float64], ...], longest_gap_us: int
) -> Pieces:
    usual = usual_step_us(t_us)
    limit_us = max(longest_gap_us, round(1.5 * usual))
    runs = segments(t_us, longest_gap_us=limit_us)
    first_us = t_us[[run.start for run in runs]]
    last_us = t_us[[run.stop - 1 for run in runs]]
    periods = [
        usual_step_us(t_us[run]) if run.stop - run.start >= OWN_PERIOD_SAMPLES else usual
        for run in runs
    ]
    return Pieces(
        t_us=t_us,
        values=values,
        runs=runs,
        first_us=first_us,
        last_us=last_us,
        periods_us=np.array(periods, np.float64),
        contested_us=_contested(first_us, last_us, limit_us),
    )


def _contested(
    first_us: NDArray[np.int64], last_us: NDArray[np.int64], limit_us: int
) -> NDArray[np.int64]:
    """Stretches of time, longer than the limit, that two or more runs lie over: int64 (K, 2)."""
    lasting = last_us - first_us > limit_us
    edges = np.concatenate([first_us[lasting], last_us[lasting]])
    change = np.repeat([1, -1], int(lasting.sum()))
    order = np.lexsort((change, edges))
    edges, depth = edges[order], np.cumsum(change[order])
    crowded = depth[:-1] >= 2
    start = np.flatnonzero(crowded & ~np.append(False, crowded[:-1]))
    stop = np.flatnonzero(crowded & ~np.append(crowded[1:], False)) + 1
    spans = np.stack([edges[start], edges[stop]], axis=1)
    return spans[spans[:, 1] - spans[:, 0] > limit_us]
