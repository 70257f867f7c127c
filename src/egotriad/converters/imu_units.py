"""Units and axes of IMU samples: brought to m/s^2 and rad/s, and checked against physics."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.imu import Resampler
from egotriad.converters.imu_pieces import extent_us
from egotriad.manifests import ImuTrack
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = [
    "ACCEL_UNITS",
    "GRAVITY",
    "GYRO_UNITS",
    "UNKNOWN",
    "UnitEvidence",
    "check_units",
    "measure_units",
    "oriented",
]

GRAVITY = 9.80665
"""Standard gravity, m/s^2 (ISO 80000-3)."""
UNKNOWN = "unknown"
ACCEL_UNITS = {"m/s^2": 1.0, "g": GRAVITY, "mg": GRAVITY / 1e3}
GYRO_UNITS = {"rad/s": 1.0, "deg/s": math.pi / 180, "mdeg/s": math.pi / 180e3}
"""Factors to SI."""

COMPARE_HZ = 10.0
BLOCK_SAMPLES = 5
"""Half a second at COMPARE_HZ."""
STEADY_SHARE = 0.03
"""A block is steady when its samples scatter by less than this share of their mean vector: it
turns by less than two degrees and nothing pushes. Scale-free, so it holds in a wrong unit too."""
SMOOTHING_SAMPLES = 13
"""A Hann window of 1.3 s passes about 1 Hz: turns of a body do, steps do not."""
NEAR_GRAVITY = 0.1
"""Turning counts where the norm stays within a tenth of gravity: elsewhere the acceleration is
mostly the body's own, which swings in step with its turning and of either sign."""
LEAST_TURNING_S = 10.0
FASTEST_RAD_S = 45.0
"""Consumer gyroscopes end at 2000 deg/s (34.9 rad/s); few go to 2500."""
MIN_CORRELATION = 0.6
MIN_TURNING_RAD_S = 0.02
UNIT_FACTOR = 8.0
"""Between a wrong scale of a few percent and the 57 of degrees: 57.3 to the power of a half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEvidence:
    """What the samples say about their units.

    Attributes:
        resting_norm: m/s^2, median norm of the accelerometer's steady half seconds; None where
            there are none.
        usual_norm: m/s^2, the same over all half seconds; None for recordings without one.
        fastest_rad_s: 99.9th percentile of the gyroscope's absolute values.
        gravity_gain: turning of the gravity vector, as the accelerometer has it, over turning as
            the gyroscope has it: 1 when units and axes agree, 1/57 for a gyroscope in deg/s, below
            0 when it turns the other way; None without 10 s in which little but gravity acts.
            (An accelerometer with all signs reversed, as Apple's, cannot be told this way.)
        gravity_correlation: of the two; a gain counts from 0.6 on.
    """

    resting_norm: float | None
    usual_norm: float | None
    fastest_rad_s: float
    gravity_gain: float | None
    gravity_correlation: float | None


def oriented(values: NDArray[np.float64], axes: str) -> NDArray[np.float64]:
    """Puts channels in the order x, y, z.

    Args:
        values: float64 (3, N), channels as stored.
        axes: the axis of each stored channel, lower case where the sign is flipped: a signed
            permutation, as GoPro's ORIN writes it. "XYZ" changes nothing.

    Raises:
        UsageError: not one order of X, Y, Z.
    """
    if sorted(axes.upper()) != ["X", "Y", "Z"]:
        raise UsageError(
            f"axes: got {axes!r}, need one order of X, Y, Z (lower case: flipped sign), e.g. 'XzY'"
        )
    out = np.empty_like(values)
    for channel, letter in enumerate(axes):
        out["XYZ".index(letter.upper())] = values[channel] if letter.isupper() else -values[channel]
    return out


def measure_units(track: ImuTrack) -> UnitEvidence:
    """Measures how plausible a track's units are, from samples taken for SI.

    A gravity vector g fixed in space turns in the sensor as dg/dt = -w x g, so its turning without
    the part around itself is (dg/dt x g) / |g|^2: a second measurement of the gyroscope's w.
    """
    fastest = np.abs(track.gyro.values[:, np.isfinite(track.gyro.values).all(axis=0)])
    data = _at_10_hz(track)
    resting_norm, usual_norm = _norms(data[:3])
    gain, correlation = _gravity_gain(data)
    return UnitEvidence(
        resting_norm=resting_norm,
        usual_norm=usual_norm,
        fastest_rad_s=float(np.quantile(fastest, 0.999)) if fastest.size else 0.0,
        gravity_gain=gain,
        gravity_correlation=correlation,
    )


def check_units(evidence: UnitEvidence, *, accel_unit: str, gyro_unit: str) -> None:
    """Refuses units that the samples contradict.

    Args:
        evidence: of the samples after conversion from these units.
        accel_unit: a key of ACCEL_UNITS, or UNKNOWN, which nothing contradicts.
        gyro_unit: a key of GYRO_UNITS, or UNKNOWN.

    Raises:
        RecordingError: at rest the accelerometer has the norm of gravity in another unit; or the
            gyroscope turns 8 times as fast or as slow as gravity does in the accelerometer, or
            faster than any gyroscope can.
    """
    norm = evidence.resting_norm
    if accel_unit != UNKNOWN and norm is not None:
        stored = norm / ACCEL_UNITS[accel_unit]
        for other, factor in ACCEL_UNITS.items():
            if other != accel_unit and abs(stored * factor / GRAVITY - 1) < 0.15:
                raise RecordingError(
                    f"accelerometer: declared {accel_unit}, but its norm at rest is {stored:.4g}, "
                    f"which is gravity in {other}; declare {other}"
                )
    if gyro_unit == UNKNOWN:
        return
    if evidence.fastest_rad_s > FASTEST_RAD_S:
        raise RecordingError(
            f"gyroscope: declared {gyro_unit}, which makes it turn by {evidence.fastest_rad_s:.4g} "
            f"rad/s, need at most {FASTEST_RAD_S:g} (2578 deg/s); declare the unit it is in"
        )
    gain, correlation = evidence.gravity_gain, evidence.gravity_correlation
    if accel_unit == UNKNOWN or gain is None or correlation is None:
        return
    if abs(correlation) > MIN_CORRELATION and not 1 / UNIT_FACTOR < abs(gain) < UNIT_FACTOR:
        raise RecordingError(
            f"gyroscope: declared {gyro_unit}, but gravity turns {abs(gain):.3g} times as fast in "
            f"the accelerometer (1 is right, 0.017 means deg/s declared as rad/s, 57 the other way "
            f"round); declare the unit it is in"
        )


def _at_10_hz(track: ImuTrack) -> NDArray[np.float64]:
    """The track in block means, float64 (6, T), NaN where it has none; at 10 Hz or its own rate."""
    start_us, stop_us = extent_us(np.concatenate([track.accel.t_us, track.gyro.t_us]))
    rate_hz = min(COMPARE_HZ, track.rate_hz)
    duration_us = max(stop_us - start_us, round(1.5e6 / rate_hz))
    try:
        means = Resampler(track, rate_hz=rate_hz, mode="block_mean")
    except UsageError:  # a sensor slower than 10 Hz
        means = Resampler(track, rate_hz=rate_hz, mode="linear")
    return means.window(start_us, duration_us).data.astype(np.float64)


def _norms(accel: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Median norms of the steady half seconds and of all."""
    blocks = accel.shape[1] // BLOCK_SAMPLES
    cut = accel[:, : blocks * BLOCK_SAMPLES].reshape(3, blocks, BLOCK_SAMPLES)
    cut = cut[:, np.isfinite(cut).all(axis=(0, 2))]
    if not cut.size:
        return None, None
    norms = np.linalg.norm(cut.mean(axis=2), axis=0)
    scatter = np.sqrt(cut.var(axis=2).sum(axis=0))
    steady = scatter < STEADY_SHARE * norms
    return float(np.median(norms[steady])) if steady.any() else None, float(np.median(norms))


def _gravity_gain(data: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Gain and correlation of gravity's turning against the gyroscope's."""
    if data.shape[1] < LEAST_TURNING_S * COMPARE_HZ:
        return None, None
    norm = np.linalg.norm(data[:3], axis=0)
    near = np.convolve(
        ~(np.abs(norm / GRAVITY - 1) < NEAR_GRAVITY), np.ones(SMOOTHING_SAMPLES), mode="valid"
    )
    kernel = np.hanning(SMOOTHING_SAMPLES + 2)[1:-1]
    smooth = np.stack([np.convolve(row, kernel / kernel.sum(), mode="valid") for row in data])
    accel, gyro = smooth[:3], smooth[3:]
    norm2 = (accel**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        turning = np.cross(np.gradient(accel, 1 / COMPARE_HZ, axis=1), accel, axis=0) / norm2
        across = gyro - accel * (gyro * accel).sum(axis=0) / norm2
    known = (near == 0) & np.isfinite(turning).all(axis=0) & np.isfinite(across).all(axis=0)
    turning, across = turning[:, known], across[:, known]
    if turning.shape[1] < LEAST_TURNING_S * COMPARE_HZ:
        return None, None
    powers = float((turning**2).sum()), float((across**2).sum())
    # Turning faster than the noise of either sensor, in either unit.
    slowest = MIN_TURNING_RAD_S**2 * turning.shape[1]
    if min(powers) <= 0 or not math.isfinite(sum(powers)) or max(powers) < slowest:
        return None, None
    product = float((turning * across).sum())
    return product / powers[1], product / math.sqrt(powers[0] * powers[1])
