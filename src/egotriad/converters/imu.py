"""IMU samples at their true times -> a uniform grid, without aliasing and without inventing any.

One filter serves both directions (a recording onto a window's grid, a clip's grid onto a consumer's
rate): a sinc under a Kaiser window, evaluated at the true distance between grid point and sample.
Each sample is weighted with the time it stands for (the filter's integral as a sum over unequal
steps), and the weights of a grid point sum to one, so a constant stays that constant whatever the
spacing. (Length and shape of Kaiser's window: Oppenheim and Schafer, Discrete-Time Signal
Processing, 3rd ed., 7.5.3.)
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import segments
from egotriad.converters.compiled import compiled
from egotriad.manifests import Imu, ImuTrack, SensorStream
from egotriad.manifests.errors import ClipRejected, UsageError

__all__ = ["resample", "view"]

CUTOFF = 0.45
"""Half-amplitude frequency as a share of the lower of the two rates."""
LOBES = 24
"""Zero crossings of the sinc on either side. With `KAISER_BETA` the filter is flat to 1e-4 up to
0.40 of the lower rate and 80 dB down from 0.50 of it on (Nyquist)."""
KAISER_BETA = 7.857
"""0.1102 * (80 dB - 8.7)."""
TABLE_STEPS = 512
"""Table entries per lobe; linear interpolation between them errs by less than 2e-6."""
STAMP_US = 0.5
"""Time stamps are whole microseconds: a grid point this far outside the samples is not outside."""


def resample(
    track: ImuTrack,
    *,
    t_start_us: int,
    duration_us: int,
    rate_hz: float,
    longest_gap_us: int = 50_000,
) -> Imu:
    """The window of a track on a uniform grid: sample k lies at t_start_us + k * 1e6 / rate_hz.

    - Accelerometer and gyroscope may have different clocks and rates; each is brought over alone.
    - A sample with a NaN is missing. Holes up to `longest_gap_us` are bridged by a straight line;
      grid points in longer ones, before the first and after the last sample are NaN and invalid.
    - Time stamps that step back cut the track; nothing is sorted. Where two cut pieces claim the
      same time for longer than `longest_gap_us` neither is believed; below that the later one is.
    - At the end of a piece the signal is continued by reflection through its end point, so that
      constants and ramps are kept up to the last sample. A window's own ends are no such ends:
      samples outside the window are used.

    Args:
        track: true time stamps, SI units.
        t_start_us: start of the window on the track's clock.
        duration_us: length; there are exactly round(duration * rate) grid points.
        rate_hz: rate of the grid.
        longest_gap_us: longest hole that is bridged.

    Raises:
        UsageError: a rate or length that is not positive.
    """
    count = _grid_count(duration_us, rate_hz)
    grid = np.arange(count, dtype=np.float64) * (1e6 / rate_hz)
    reach_us = 2e6 * LOBES / (2 * CUTOFF * min(rate_hz, track.rate_hz)) + longest_gap_us
    rows = [
        _sensor_on_grid(
            _near(stream, t_start_us, duration_us, int(reach_us)),
            t_start_us,
            grid,
            rate_hz,
            longest_gap_us,
        )
        for stream in (track.accel, track.gyro)
    ]
    data = np.concatenate(rows).astype(np.float32)  # (6, T)
    valid = np.asarray(np.isfinite(data).all(axis=0))
    data[:, ~valid] = np.nan
    return Imu(data=data, rate_hz=rate_hz, valid=valid)


def view(imu: Imu, *, rate_hz: float, start_us: int, duration_us: int) -> NDArray[np.float32]:
    """A stretch of a clip's IMU at a consumer's rate, float32 (6, round(duration * rate)).

    Goes through the same filter as `resample`; samples that fall on the clip's own grid at the
    clip's own rate come back unchanged.

    Args:
        imu: a clip's IMU.
        rate_hz: the consumer's rate.
        start_us: start of the stretch, relative to the clip.
        duration_us: its length.

    Raises:
        ClipRejected: "imu-gap", when the stretch reaches outside the clip or over masked samples.
        UsageError: a rate or length that is not positive.
    """
    count = _grid_count(duration_us, rate_hz)
    position = (start_us * 1e-6 + np.arange(count) / rate_hz) * imu.rate_hz  # in samples of imu
    # 1e-6 of a sample: the rounding of the division above, far below any clock's.
    first = math.floor(float(position[0]) + 1e-6)
    last = math.ceil(float(position[-1]) - 1e-6)
    total = imu.data.shape[1]
    if first < 0 or last > total:
        raise ClipRejected(
            "imu-gap",
            f"needs IMU from {start_us / 1e6:.3f} s for {duration_us / 1e6:.3f} s, the clip has "
            f"0 to {total / imu.rate_hz:.3f} s; ask for a stretch inside the clip",
        )
    last = min(last, total - 1)
    missing = int((~imu.valid[first : last + 1]).sum())
    if missing:
        raise ClipRejected(
            "imu-gap",
            f"{missing} of {last + 1 - first} IMU samples from {start_us / 1e6:.3f} s for "
            f"{duration_us / 1e6:.3f} s are masked, need none; choose another stretch",
        )
    if rate_hz == imu.rate_hz and abs(float(position[0]) - round(float(position[0]))) < 1e-6:
        start = round(float(position[0]))
        return imu.data[:, start : start + count].copy()
    run = _valid_run(imu.valid, first)
    return _filtered(
        np.arange(run.start, run.stop, dtype=np.float64),
        imu.data[:, run].astype(np.float64),
        position,
        period=1.0,
        half_width=LOBES / (2 * CUTOFF) * max(1.0, imu.rate_hz / rate_hz),
    ).astype(np.float32)


def _valid_run(valid: NDArray[np.bool_], inside: int) -> slice:
    """The unmasked stretch around a sample."""
    holes = np.flatnonzero(~valid)
    after = int(np.searchsorted(holes, inside))
    start = int(holes[after - 1]) + 1 if after else 0
    return slice(start, int(holes[after]) if after < len(holes) else len(valid))


def _grid_count(duration_us: int, rate_hz: float) -> int:
    if not (rate_hz > 0 and math.isfinite(rate_hz)):
        raise UsageError(f"rate: got {rate_hz} Hz, need above 0")
    count = round(duration_us * rate_hz / 1e6)
    if count < 1:
        raise UsageError(f"window: got {duration_us} us, need at least one sample at {rate_hz} Hz")
    return count


def _near(stream: SensorStream, t_start_us: int, duration_us: int, reach_us: int) -> SensorStream:
    """The samples around a window, complete ones only, in the order they have."""
    inside = (stream.t_us >= t_start_us - reach_us) & (
        stream.t_us <= t_start_us + duration_us + reach_us
    )
    index = np.flatnonzero(inside)
    run = slice(int(index[0]), int(index[-1]) + 1) if len(index) else slice(0)
    t_us, values = stream.t_us[run], stream.values[:, run]
    complete = np.isfinite(values).all(axis=0)
    return SensorStream(t_us[complete], values[:, complete])


def _sensor_on_grid(
    stream: SensorStream,
    t_start_us: int,
    grid: NDArray[np.float64],
    rate_hz: float,
    longest_gap_us: int,
) -> NDArray[np.float64]:
    """One sensor at grid times (T,) relative to the window: (3, T), NaN where it has nothing."""
    out = np.full((3, len(grid)), np.nan)
    step = np.diff(stream.t_us)
    step = step[step > 0]
    period = float(np.median(step)) if len(step) else 1e6 / rate_hz
    half_width = LOBES / (2 * CUTOFF) * max(period, 1e6 / rate_hz)
    covered_to = -np.inf
    # Two samples of a slow sensor are no hole, however strict the limit.
    longest_gap_us = max(longest_gap_us, round(1.5 * period))
    for run in segments(stream.t_us, longest_gap_us=longest_gap_us):
        t = (stream.t_us[run] - t_start_us).astype(np.float64)
        first, last = np.searchsorted(grid, [t[0] - STAMP_US, t[-1] + STAMP_US])
        if first < last:
            values = stream.values[:, run]
            out[:, first:last] = _filtered(t, values, grid[first:last], period, half_width)
        if covered_to - t[0] > longest_gap_us:
            out[:, (grid >= t[0]) & (grid <= min(covered_to, t[-1]))] = np.nan
        covered_to = max(covered_to, t[-1])
    return out


def _filtered(
    t: NDArray[np.float64],
    values: NDArray[np.float64],
    grid: NDArray[np.float64],
    period: float,
    half_width: float,
) -> NDArray[np.float64]:
    """Band-limited values (C, M) at grid times (M,), from one gap-free piece t (N,), (C, N).

    `period` is the usual distance of samples, `half_width` that from the sinc's centre to the end
    of its window, both in the unit of t.
    """
    # One sample more than the filter reaches, so that a hole at its end is seen as one.
    start = max(int(np.searchsorted(t, grid[0] - half_width)) - 1, 0)
    stop = int(np.searchsorted(t, grid[-1] + half_width, side="right")) + 1
    t, values = _bridged(t[start:stop], values[:, start:stop], period)
    t, values = _continued(t, values, half_width)
    # Repeated stamps share their time; a piece that is nothing but one stamp needs some weight.
    weight = np.maximum(np.gradient(t), 1e-6 * period) if len(t) > 1 else np.ones(1)
    out = np.empty((len(grid), len(values)))
    _weighted_sums(t, np.ascontiguousarray(values.T), weight, grid, half_width, _table(), out)
    return out.T


def _bridged(
    t: NDArray[np.float64], values: NDArray[np.float64], period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Puts samples on a straight line into every hole: a sinc has no say about wider ones."""
    step = np.diff(t)
    holes = np.flatnonzero(step > 1.5 * period)
    if not len(holes):
        return t, values
    extra = np.rint(step[holes] / period).astype(np.int64) - 1
    hole = np.repeat(holes, extra)
    place = np.arange(len(hole)) - np.repeat(np.cumsum(extra) - extra, extra) + 1
    inserted = t[hole] + step[hole] * place / np.repeat(extra + 1, extra)
    rows = np.stack([np.interp(inserted, t, row) for row in values])
    # The time stays in order when each bridge goes in right after the sample that it starts from.
    return (np.insert(t, hole + 1, inserted), np.insert(values, hole + 1, rows, axis=1))


def _continued(
    t: NDArray[np.float64], values: NDArray[np.float64], half_width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Continues both ends by reflection through the end point, as far as the filter reaches.

    The end point is that of a line fitted to one lobe: the last sample alone would bring its noise
    onto the grid unfiltered when the rate is lowered.
    """
    times, rows = [t], [values]
    for end in (0, -1):
        distance = np.abs(t - t[end])
        mirrored = (distance > 0) & (distance <= half_width)
        near = distance <= half_width / LOBES
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
def _weighted_sums(
    t: NDArray[np.float64],
    values: NDArray[np.float64],
    weight: NDArray[np.float64],
    grid: NDArray[np.float64],
    half_width: float,
    table: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """out[m] = sum_n k(grid[m] - t[n]) weight[n] values[n] / sum_n k(grid[m] - t[n]) weight[n]."""
    scale = (len(table) - 2) / half_width
    channels = values.shape[1]
    low = 0
    for m in range(len(grid)):
        while low < len(t) and t[low] < grid[m] - half_width:
            low += 1
        total = 0.0
        out[m] = 0.0
        for n in range(low, len(t)):
            if t[n] > grid[m] + half_width:
                break
            place = abs(grid[m] - t[n]) * scale
            entry = int(place)
            share = table[entry] + (place - entry) * (table[entry + 1] - table[entry])
            share *= weight[n]
            total += share
            for channel in range(channels):
                out[m, channel] += share * values[n, channel]
        for channel in range(channels):
            out[m, channel] /= total
