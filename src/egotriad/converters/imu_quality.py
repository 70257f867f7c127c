"""How far IMU samples can be trusted: what is wrong with a recording, and with each window of it.

Flags are short strings that do not change from release to release (`FLAGS` lists them).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import ClockReport, clock_report
from egotriad.converters.imu_units import UNKNOWN, UnitEvidence, measure_units
from egotriad.manifests import Imu, ImuTrack, SensorStream

__all__ = ["DOUBTS", "FAULTS", "FLAGS", "TrackQuality", "WindowQuality", "judge", "judge_window"]

FAULTS = {
    "accel-identical-axes": "two accelerometer axes hold the same values",
    "gyro-identical-axes": "two gyroscope axes hold the same values",
    "accel-dead-axis": "an accelerometer axis never changes",
    "gyro-dead-axis": "a gyroscope axis never changes",
    "gravity-missing": "at rest the accelerometer measures no gravity: it was removed",
    "accel-impossible": "accelerometer values beyond 400 g, in the window or in the filter's reach",
    "gyro-impossible": "gyroscope values beyond 4000 deg/s, likewise",
}
"""What makes a sensor useless: such a recording's windows (the last two: such windows) score 0."""
DOUBTS = {
    "gravity-implausible": "at rest the accelerometer's norm is outside 8.5 to 11.0 m/s^2",
    "axes-disagree": "gravity turns against the gyroscope: signs or axes of the sensors differ",
    "unit-unknown": "the unit of a sensor is not known, so nothing could be checked",
}
"""What needs a look: each halves the score."""
WINDOW_FLAGS = {
    "imu-gap": "no accelerometer or gyroscope samples for a part of the window",
    "dropouts": "more than a percent of the samples is missing in short, bridged holes",
    "accel-clipped": "accelerometer at the end of its range",
    "gyro-clipped": "gyroscope at the end of its range",
    "accel-stuck": "all accelerometer axes repeat one value for half a second or more",
    "gyro-stuck": "all gyroscope axes repeat one value for half a second or more",
    "accel-zero": "accelerometer samples of exactly (0, 0, 0), which a free fall hardly gives",
    "upsampled": "the sensor has less than 0.8 of the samples that the window's grid has",
}
FLAGS = FAULTS | DOUBTS | WINDOW_FLAGS

IDENTICAL_SHARE = 0.99
LEAST_SAMPLES = 100
"""Identical or unchanging axes are believed from so many samples on."""
IMPOSSIBLE = {"accel": 3923.0, "gyro": 69.8}
"""400 g and 4000 deg/s: beyond the ranges of the sensors that people wear."""
SMALLEST_RANGE = {"accel": 18.6, "gyro": 4.14}
"""95 % of 2 g and of 250 deg/s: a plateau below is no end of any range."""
FILTER_STEPS = 51
"""Reach of `imu_filter` in steps of a window's grid."""
DROPOUTS = 0.01
UPSAMPLED = 0.8
PLATEAU_SAMPLES = 3
STUCK_S = 0.5
STUCK_SAMPLES = 10
NO_GRAVITY = 2.0
PLAUSIBLE_NORM = (8.5, 11.0)
AGAINST = -0.6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SensorFindings:
    """Where the samples of one sensor are bad: sorted stamps, so that windows can count them.

    Attributes:
        t_us: all samples.
        clipped_us, stuck_us, zero_us, impossible_us: those at the end of the range, in a frozen
            stretch, zero in all axes, and beyond what such sensors measure.
        clock: of the complete samples.
    """

    t_us: NDArray[np.int64]
    clipped_us: NDArray[np.int64]
    stuck_us: NDArray[np.int64]
    zero_us: NDArray[np.int64]
    impossible_us: NDArray[np.int64]
    clock: ClockReport


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrackQuality:
    """What is wrong with a whole recording's IMU.

    Attributes:
        flags: keys of FAULTS and DOUBTS, sorted.
        evidence: what the units were judged by.
        accel, gyro: where samples are bad.
    """

    flags: tuple[str, ...]
    evidence: UnitEvidence
    accel: SensorFindings
    gyro: SensorFindings


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowQuality:
    """What is wrong with one window's IMU.

    Attributes:
        score: 0 to 1: the share of the window with good samples of both sensors, halved for every
            doubt about the recording, 0 for a fault in it.
        gap_fraction: grid points that are masked.
        bridged_fraction: samples missing in holes short enough to be bridged.
        clip_fraction, stuck_fraction: samples at the end of the range and in frozen stretches, of
            the sensor that has more of them.
        flags: keys of FLAGS, sorted.
    """

    score: float
    gap_fraction: float
    bridged_fraction: float
    clip_fraction: float
    stuck_fraction: float
    flags: tuple[str, ...]


def judge(track: ImuTrack, *, nominal_hz: float | None = None) -> TrackQuality:
    """Looks through a recording's samples once.

    Args:
        track: true samples. Units that are unknown are read from its notes `imu_accel_unit` and
            `imu_gyro_unit`.
        nominal_hz: rate that the sensors claim, for ppm.
    """
    flags: set[str] = set()
    for name, stream in (("accel", track.accel), ("gyro", track.gyro)):
        flags |= {f"{name}-{fault}" for fault in _sensor_faults(stream)}
    evidence = measure_units(track)
    unknown = {name for name in ("accel", "gyro") if track.notes.get(f"imu_{name}_unit") == UNKNOWN}
    if unknown:
        flags.add("unit-unknown")
    if "accel" not in unknown:
        flags |= _gravity_flags(evidence)
    return TrackQuality(
        flags=tuple(sorted(flags)),
        evidence=evidence,
        accel=_findings("accel", track.accel, nominal_hz),
        gyro=_findings("gyro", track.gyro, nominal_hz),
    )


def judge_window(
    quality: TrackQuality, imu: Imu, *, t_start_us: int, duration_us: int
) -> WindowQuality:
    """Judges one window by the true samples in it and by what became of them.

    Args:
        quality: of the whole recording.
        imu: the window as it was resampled.
        t_start_us: start of the window on the track's clock.
        duration_us: its length.
    """
    window = np.array([t_start_us, t_start_us + duration_us])
    gap = 1.0 - float(imu.valid.mean())
    flags = set(quality.flags) | ({"imu-gap"} if gap else set())
    shares = np.zeros(3)
    for name, found in (("accel", quality.accel), ("gyro", quality.gyro)):
        seen, more = _judge_sensor(name, found, imu, window, gap)
        flags |= seen
        shares = np.maximum(shares, more)
    clip, stuck, bridged = shares.tolist()
    good = (1 - gap) * (1 - clip) * (1 - stuck) * (1 - bridged)
    return WindowQuality(
        score=0.0 if flags & FAULTS.keys() else good * 0.5 ** len(flags & DOUBTS.keys()),
        gap_fraction=gap,
        bridged_fraction=bridged,
        clip_fraction=clip,
        stuck_fraction=stuck,
        flags=tuple(sorted(flags)),
    )


def _judge_sensor(
    name: str, found: SensorFindings, imu: Imu, window: NDArray[np.int64], gap: float
) -> tuple[set[str], tuple[float, float, float]]:
    """Flags of one sensor in a window, and its shares of clipped, stuck and bridged samples."""
    count = _between(found.t_us, window)
    clipped, stuck = _between(found.clipped_us, window), _between(found.stuck_us, window)
    rate_hz = found.clock.rate_hz or 0.0
    expected = rate_hz * (window[1] - window[0]) / 1e6 * (1.0 - gap)
    # Two samples more: the window's ends lie between samples.
    bridged = max(1.0 - (count + 2) / expected, 0.0) if expected > 0 else 0.0
    reach_us = round(FILTER_STEPS * 1e6 / imu.rate_hz)
    reached = np.array([window[0] - reach_us, window[1] + reach_us])
    flags = {
        f"{name}-clipped": clipped > 0,
        f"{name}-stuck": stuck > 0,
        f"{name}-zero": name == "accel" and _between(found.zero_us, window) > 0,
        f"{name}-impossible": _between(found.impossible_us, reached) > 0,
        "dropouts": bridged > DROPOUTS,
        "upsampled": 0 < rate_hz < UPSAMPLED * imu.rate_hz,
    }
    shares = (clipped / max(count, 1), stuck / max(count, 1), bridged)
    return {flag for flag, raised in flags.items() if raised}, shares


def _between(t_us: NDArray[np.int64], window: NDArray[np.int64]) -> int:
    """How many of these sorted stamps lie in [start, end)."""
    low, high = np.searchsorted(t_us, window)
    return int(high - low)


def _sensor_faults(stream: SensorStream) -> set[str]:
    faults: set[str] = set()
    values = stream.values[:, np.isfinite(stream.values).all(axis=0)]
    if values.shape[1] < LEAST_SAMPLES:
        return faults
    dead = (values == values[:, :1]).all(axis=1)
    if dead.any():
        faults.add("dead-axis")
    pairs = ((0, 1), (0, 2), (1, 2))
    if any(
        np.mean(values[i] == values[j]) > IDENTICAL_SHARE
        for i, j in pairs
        if not (dead[i] or dead[j])
    ):
        faults.add("identical-axes")
    return faults


def _gravity_flags(evidence: UnitEvidence) -> set[str]:
    flags = set()
    norm = evidence.resting_norm
    # Without gravity there is nothing steady: what is left is small and turns about.
    usual = evidence.usual_norm if norm is None else norm
    if usual is not None and usual < NO_GRAVITY:
        flags.add("gravity-missing")
    elif norm is not None and not PLAUSIBLE_NORM[0] <= norm <= PLAUSIBLE_NORM[1]:
        flags.add("gravity-implausible")
    correlation = evidence.gravity_correlation
    if correlation is not None and correlation < AGAINST:
        flags.add("axes-disagree")
    return flags


def _findings(name: str, stream: SensorStream, nominal_hz: float | None) -> SensorFindings:
    complete = np.isfinite(stream.values).all(axis=0)
    t_us, values = stream.t_us[complete], stream.values[:, complete]
    clock = clock_report(SensorStream(t_us, values), nominal_hz=nominal_hz)
    least = max(STUCK_SAMPLES, round(STUCK_S * (clock.rate_hz or 0.0)))
    return SensorFindings(
        t_us=np.sort(t_us),
        clipped_us=np.sort(t_us[_clipped(values, SMALLEST_RANGE[name])]),
        stuck_us=np.sort(t_us[_frozen(values, least)]),
        zero_us=np.sort(t_us[(values == 0).all(axis=0)]),
        impossible_us=np.sort(t_us[(np.abs(values) > IMPOSSIBLE[name]).any(axis=0)]),
        clock=clock,
    )


def _frozen(values: NDArray[np.float64], least: int) -> NDArray[np.bool_]:
    """Samples in stretches of at least `least` that are equal in all axes, bool (N,)."""
    if not values.size:
        return np.zeros(values.shape[1], bool)
    return _in_long_runs((values[:, 1:] == values[:, :-1]).all(axis=0), least)


def _clipped(values: NDArray[np.float64], smallest: float) -> NDArray[np.bool_]:
    """Samples on a plateau at the highest or lowest value of an axis, bool (N,)."""
    clipped = np.zeros(values.shape[1], bool)
    if not values.size:
        return clipped
    for row in values:
        for end in (row.min(), row.max()):
            if abs(end) >= smallest:
                at_end = row == end
                plateau = _in_long_runs(at_end[1:] & at_end[:-1], PLATEAU_SAMPLES)
                # One plateau fixes the level; then single samples on it are clipped as well.
                clipped |= at_end & plateau.any()
    return clipped


def _in_long_runs(same: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Samples (N,) in runs of at least `least` equals; same (N - 1,) compares neighbours."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2] + 1  # samples, one more than comparisons
    inside = np.zeros(len(same) + 1, np.int64)
    for edge, change in ((starts, 1), (stops, -1)):
        chosen = edge[stops - starts >= least]
        np.add.at(inside, chosen[chosen < len(inside)], change)
    return np.cumsum(inside) > 0
