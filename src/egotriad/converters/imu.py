"""IMU samples at their true times -> a uniform grid, without aliasing and without inventing any."""

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.imu_filter import band_limited, bridged, half_width
from egotriad.converters.imu_modes import sinc_hann
from egotriad.converters.imu_pieces import Pieces, pieces_of
from egotriad.manifests import Imu, ImuTrack
from egotriad.manifests.errors import ClipRejected, UsageError

__all__ = ["Mode", "Resampler", "resample", "view"]

Mode = Literal["bandlimited", "linear", "block_mean", "torchaudio"]

STAMP_US = 0.5
"""Time stamps are whole microseconds: a grid point this far outside the samples is not outside."""
CHUNK = 1 << 15
"""Grid points, and samples, handled at a time: what lies between input and output stays small."""


def resample(
    track: ImuTrack,
    *,
    t_start_us: int,
    duration_us: int,
    rate_hz: float,
    longest_gap_us: int = 50_000,
    mode: Mode = "bandlimited",
) -> Imu:
    """One window of a track on a uniform grid: `Resampler(track, ...).window(...)`."""
    resampler = Resampler(track, rate_hz=rate_hz, longest_gap_us=longest_gap_us, mode=mode)
    return resampler.window(t_start_us, duration_us)


class Resampler:
    """Brings windows of one track onto a uniform grid.

    What holds in every mode:

    - Accelerometer and gyroscope may have different clocks and rates; each is brought over alone.
    - A sample with a NaN is missing. Holes up to `longest_gap_us` are bridged by a straight line;
      grid points in longer ones, before the first and after the last sample are NaN and invalid.
    - Time stamps that step back cut the track; nothing is sorted. Where two cut pieces claim the
      same time for longer than `longest_gap_us` neither is believed; below that the later one is.
    - Repeated stamps: `clock.separate_repeats`.
    - A window's ends are no ends of the signal: samples outside the window are used.

    Modes:

    - `bandlimited`: `imu_filter.band_limited`; flat to 1e-4 up to 0.45 of the rate, 80 dB down from
      half of it on. At a piece's end the signal is continued by reflection through its end point,
      so that constants and ramps are kept up to the last sample.
    - `linear`: straight lines between samples. Aliases when going down.
    - `block_mean`: LIMU-BERT's means of whole samples (`imu_modes.block_mean`) laid by time, so
      that losses do not shift what follows. Aliases a little, and value k is the mean of what comes
      after its time: half a block late. On uniform samples equal to theirs, block for block.
    - `torchaudio`: imu2clip's recipe: samples taken for uniform at int(1000 / mean step in ms),
      `imu_modes.sinc_hann` to the rate, times rebuilt from the first stamp, the nearest taken. Per
      gap-free piece, where theirs goes over gaps and writes zeros; its drift (up to one part in the
      rate) is kept. For comparison with features that were made so.

    Args:
        track: true time stamps, SI units.
        rate_hz: rate of the grid.
        longest_gap_us: longest hole that is bridged.
        mode: how values between samples come about.

    Raises:
        UsageError: a rate that is not positive, an unknown mode, a rate the mode cannot give.
    """

    def __init__(
        self,
        track: ImuTrack,
        *,
        rate_hz: float,
        longest_gap_us: int = 50_000,
        mode: Mode = "bandlimited",
    ) -> None:
        if not (rate_hz > 0 and math.isfinite(rate_hz)):
            raise UsageError(f"rate: got {rate_hz} Hz, need above 0")
        if mode not in get_args(Mode):
            raise UsageError(f"mode: got {mode!r}, need one of {', '.join(get_args(Mode))}")
        if mode == "torchaudio" and rate_hz != int(rate_hz):
            raise UsageError(f"mode torchaudio: got {rate_hz} Hz, need a whole number")
        self._rate_hz = rate_hz
        self._mode = mode
        self._sensors = pieces_of((track.accel, track.gyro), longest_gap_us)
        for sensor in self._sensors if mode == "block_mean" else []:
            slowest_us = float(sensor.periods_us.max(initial=0.0))
            # A percent: a sensor of nominally the same rate may be a little slower.
            if slowest_us * rate_hz > 1.01e6:
                raise UsageError(
                    f"mode block_mean: got {rate_hz:g} Hz out of {1e6 / slowest_us:.4g} Hz, it "
                    f"only goes down; use bandlimited"
                )

    def window(self, t_start_us: int, duration_us: int) -> Imu:
        """The window: sample k lies at t_start_us + k * 1e6 / rate_hz.

        Args:
            t_start_us: start of the window on the track's clock.
            duration_us: length; there are exactly round(duration * rate) grid points.

        Raises:
            UsageError: a length without a grid point.
        """
        count = _grid_count(duration_us, self._rate_hz)
        data = np.full((6, count), np.nan, np.float32)
        row = 0
        for sensor in self._sensors:
            rows = data[row : row + 3 * len(sensor.values)]
            row += len(rows)
            points = self._chunk(sensor)
            for start in range(0, count, points):
                number = np.arange(start, min(start + points, count))
                self._fill(sensor, t_start_us, number, rows[:, start : start + points])
        valid = np.asarray(np.isfinite(data).all(axis=0))
        data[:, ~valid] = np.nan
        return Imu(data=data, rate_hz=self._rate_hz, valid=valid)

    def _chunk(self, sensor: Pieces) -> int:
        """How many grid points to handle at a time."""
        period_us = float(np.median(sensor.periods_us)) if len(sensor.periods_us) else 0.0
        per_sample = self._rate_hz * period_us / 1e6
        return CHUNK if per_sample >= 1 else max(round(CHUNK * per_sample), 1024)

    def _fill(
        self,
        sensor: Pieces,
        t_start_us: int,
        number: NDArray[np.int64],
        out: NDArray[np.float32],
    ) -> None:
        """Writes the grid points of these numbers (M,) into (C, M), where the sensor has any."""
        grid = number.astype(np.float64) * (1e6 / self._rate_hz)
        starts = np.searchsorted(grid, sensor.first_us - t_start_us - STAMP_US)
        stops = np.searchsorted(grid, sensor.last_us - t_start_us + STAMP_US, side="right")
        # Only the last run at each point counts: a clock that steps back all the time has a run for
        # every other sample.
        owner = np.full(len(grid), -1)
        for k in np.flatnonzero(starts < stops):
            owner[starts[k] : stops[k]] = k
        for k in np.unique(owner[owner >= 0]):
            own = np.flatnonzero(owner == k)
            points = slice(int(own[0]), int(own[-1]) + 1)
            with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, so invalid
                piece = self._piece(sensor, int(k), t_start_us, grid[points])
                if len(own) == piece.shape[1]:
                    out[:, points] = piece
                else:
                    out[:, own] = piece[:, own - own[0]]
        start_us, stop_us = sensor.contested_us.T - t_start_us
        for j in np.flatnonzero((stop_us >= grid[0]) & (start_us <= grid[-1])):
            out[:, (grid >= start_us[j]) & (grid <= stop_us[j])] = np.nan

    def _piece(
        self, sensor: Pieces, k: int, t_start_us: int, grid: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Values (C, M) at grid times relative to the window, within run k."""
        step_us = 1e6 / self._rate_hz
        if self._mode == "torchaudio":
            run = sensor.runs[k]
            values = np.concatenate([rows[:, run] for rows in sensor.values])
            return _rebuilt(sensor.t_us[run], values, t_start_us + grid, int(self._rate_hz))
        period_us = float(sensor.periods_us[k]) or step_us
        t, values = sensor.near(k, t_start_us, grid, half_width(period_us, step_us))
        if self._mode == "linear":
            return np.stack([np.interp(grid, t, row) for row in values])
        t, values = bridged(t, values, period=period_us, grid_period=step_us)
        if self._mode == "block_mean":
            return _means(t, values, grid, period_us, step_us)
        return band_limited(t, values, grid, period=period_us, grid_period=step_us)


def _means(
    t: NDArray[np.float64],
    values: NDArray[np.float64],
    grid: NDArray[np.float64],
    period: float,
    grid_period: float,
) -> NDArray[np.float64]:
    """Means (C, M) of the samples of each block; NaN for blocks that reach out of the piece.

    Block k is made of samples floor(k * ratio) to floor((k + 1) * ratio), so its edges lie half a
    sample before the first of each.
    """
    number = np.rint(grid / grid_period)
    number = np.append(number, number[-1] + 1)
    edges = (np.floor(number * (grid_period / period) + 1e-9) - 0.5) * period
    place = np.searchsorted(t, edges)
    count = np.diff(place)
    sums = np.add.reduceat(np.pad(values, ((0, 0), (0, 1))), place, axis=1)[:, :-1]
    # A quarter of a sample: jitter of the stamps at the ends.
    inside = (edges[:-1] >= t[0] - 0.75 * period) & (edges[1:] <= t[-1] + 0.75 * period)
    means = sums / np.maximum(count, 1)
    means[:, ~inside | (count == 0)] = np.nan
    return means


def _rebuilt(
    t_us: NDArray[np.int64],
    values: NDArray[np.float64],
    grid_us: NDArray[np.float64],
    rate_hz: int,
) -> NDArray[np.float64]:
    """imu2clip's values (C, M) of a whole run at its own, rebuilt times nearest the grid's."""
    out = np.full((len(values), len(grid_us)), np.nan)
    mean_step_ms = (t_us[-1] - t_us[0]) / max(len(t_us) - 1, 1) / 1e3
    source_hz = int(1e3 / mean_step_ms) if mean_step_ms else 0
    if not source_hz:
        return out
    start = round((grid_us[0] - t_us[0]) * rate_hz / 1e6)
    total = -(-len(t_us) * rate_hz // source_hz)
    count = min(len(grid_us), total - start)
    out[:, :count] = sinc_hann(
        values, source_hz=source_hz, rate_hz=rate_hz, start=start, count=count
    )
    return out


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
    return band_limited(
        np.arange(run.start, run.stop, dtype=np.float64),
        imu.data[:, run].astype(np.float64),
        position,
        period=1.0,
        grid_period=imu.rate_hz / rate_hz,
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
