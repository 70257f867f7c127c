"""Band-limited values of unevenly sampled signals: the filter that all IMU rates go through.

A sinc under a Kaiser window, evaluated at the true distance between grid point and sample. Each
sample is weighted with the time it stands for (the filter's integral as a sum over unequal steps),
and the weights of a grid point sum to one, so a constant stays that constant whatever the spacing.
(Length and shape of Kaiser's window: Oppenheim and Schafer, Discrete-Time Signal Processing,
3rd ed., 7.5.3.)
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled

__all__ = ["band_limited", "bridged", "half_width"]

CUTOFF_OF_TARGET = 0.475
CUTOFF_OF_SOURCE = 0.5
"""Half-amplitude frequency as a share of the target's and of the source's rate, the lower of both:
what lies above the target's Nyquist frequency would alias, what lies above the source's is none."""
LOBES = 48
"""Zero crossings of the sinc on either side. With `KAISER_BETA` the filter is flat to 1e-4 up to
0.45 of the target's rate and 80 dB down from 0.50 of it on (Nyquist)."""
KAISER_BETA = 7.857
"""0.1102 * (80 dB - 8.7)."""
TABLE_STEPS = 256
"""Table entries per lobe; linear interpolation between them errs by less than 7e-6."""
FINEST_BRIDGE = 8
"""Bridges need no more samples than this per grid step, however fast the sensor says it is."""
COLUMNS = 6
"""The kernel's number of signals: known when it is compiled, their sums stay in registers, which
is twice as fast as a loop over signals. Fewer are padded."""


def half_width(period: float, grid_period: float) -> float:
    """How far the filter reaches either way, in the unit of the two periods."""
    cutoff = min(CUTOFF_OF_SOURCE / period, CUTOFF_OF_TARGET / grid_period)
    return LOBES / (2 * cutoff)


def band_limited(
    t: NDArray[np.float64],
    values: NDArray[np.float64],
    grid: NDArray[np.float64],
    *,
    period: float,
    grid_period: float,
) -> NDArray[np.float64]:
    """Values at grid times, float64 (C, M), of one gap-free piece of samples.

    The piece's ends are continued by reflection through the end point, so constants and ramps hold
    up to the last sample.

    Args:
        t: float64 (N,), N >= 1, sample times, not falling; no holes (`bridged`).
        values: float64 (C, N), C <= 6, finite.
        grid: float64 (M,), M >= 1, rising, within the samples.
        period: the usual distance of samples, in the unit of t.
        grid_period: distance of grid points, in the unit of t.
    """
    reach = half_width(period, grid_period)
    t, values = _continued(t, values, reach)
    # Samples at one time share it; a piece that is nothing but one sample needs some weight.
    weight = np.maximum(np.gradient(t), 1e-6 * period) if len(t) > 1 else np.ones(1)
    columns = np.zeros((len(t), COLUMNS))
    columns[:, : len(values)] = values.T
    out = np.empty((len(grid), COLUMNS))
    _weighted_means(t, columns, weight, grid, reach, _table(), np.empty(len(t)), out)
    return out[:, : len(values)].T


def bridged(
    t: NDArray[np.float64], values: NDArray[np.float64], *, period: float, grid_period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The samples, and more on a straight line in every hole: a sinc has no say about wide ones.

    Args:
        t: float64 (N,), sample times, not falling.
        values: float64 (C, N).
        period: the usual distance of samples; half as much again is a hole.
        grid_period: distance of the points that values are wanted at.
    """
    spacing = max(period, grid_period / FINEST_BRIDGE)
    step = np.diff(t)
    holes = np.flatnonzero(step > 1.5 * spacing)
    if not len(holes):
        return t, values
    extra = np.rint(step[holes] / spacing).astype(np.int64) - 1
    hole = np.repeat(holes, extra)
    place = np.arange(len(hole)) - np.repeat(np.cumsum(extra) - extra, extra) + 1
    inserted = t[hole] + step[hole] * place / np.repeat(extra + 1, extra)
    rows = np.stack([np.interp(inserted, t, row) for row in values])
    # The time stays in order when each bridge goes in right after the sample that it starts from.
    return (np.insert(t, hole + 1, inserted), np.insert(values, hole + 1, rows, axis=1))


def _continued(
    t: NDArray[np.float64], values: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Continues both ends by reflection through the end point, as far as the filter reaches.

    The end point is that of a line fitted to one lobe: the last sample alone would bring its noise
    into everything behind it.
    """
    times, rows = [t], [values]
    for end in (0, -1):
        distance = np.abs(t - t[end])
        mirrored = (distance > 0) & (distance <= reach)
        near = distance <= reach / LOBES
        pivot = _value_at_zero(distance[near], values[:, near])[:, None]
        place = len(times) if end else 0
        times.insert(place, (2 * t[end] - t[mirrored])[::-1])
        rows.insert(place, (2 * pivot - values[:, mirrored])[:, ::-1])
    return np.concatenate(times), np.concatenate(rows, axis=1)


def _value_at_zero(x: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the least-squares line through each row of values (C, N) over x (N,) meets x = 0."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = values @ centred / spread if spread > 0 else np.zeros(len(values))
    return values.mean(axis=1) - slope * x.mean()


@cache
def _table() -> NDArray[np.float64]:
    """The windowed sinc from its centre to its end, TABLE_STEPS entries per lobe, then zero."""
    lobe = np.arange(LOBES * TABLE_STEPS + 1) / TABLE_STEPS
    window = np.i0(KAISER_BETA * np.sqrt(1 - (lobe / LOBES) ** 2)) / np.i0(KAISER_BETA)
    return np.append(np.sinc(lobe) * window, 0.0)


@compiled
def _weighted_means(
    t: NDArray[np.float64],
    columns: NDArray[np.float64],
    weight: NDArray[np.float64],
    grid: NDArray[np.float64],
    reach: float,
    table: NDArray[np.float64],
    share: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """out[m] = sum_n share(m, n) columns[n] / sum_n share(m, n).

    share(m, n) = k(grid[m] - t[n]) * weight[n]; the array of that name is room to work in.
    """
    scale = (len(table) - 2) / reach
    low = high = 0
    for m in range(len(grid)):
        while low < len(t) and t[low] < grid[m] - reach:
            low += 1
        while high < len(t) and t[high] <= grid[m] + reach:
            high += 1
        for n in range(low, high):
            place = abs(grid[m] - t[n]) * scale
            entry = int(place)
            near = table[entry] + (place - entry) * (table[entry + 1] - table[entry])
            share[n - low] = near * weight[n]
        total = a = b = c = d = e = f = 0.0
        for n in range(low, high):
            s = share[n - low]
            row = columns[n]
            total += s
            a += s * row[0]
            b += s * row[1]
            c += s * row[2]
            d += s * row[3]
            e += s * row[4]
            f += s * row[5]
        out[m, 0] = a / total
        out[m, 1] = b / total
        out[m, 2] = c / total
        out[m, 3] = d / total
        out[m, 4] = e / total
        out[m, 5] = f / total
