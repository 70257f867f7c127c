"""What is known about the IMU of one recording: clocks, units, faults, bias and noise at rest."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.allan import NoiseTerms, noise_terms
from egotriad.converters.clock import ClockReport, longest_segment
from egotriad.converters.imu_quality import TrackQuality, judge
from egotriad.converters.imu_units import GRAVITY, UnitEvidence
from egotriad.manifests import ImuTrack, SensorStream

__all__ = ["ImuReport", "RestReport", "report_imu"]

SHORTEST_REST_S = 10
LARGEST = 1e6
REST_GYRO = 0.02
REST_ACCEL = 0.15
"""Standard deviation within a second, rad/s and m/s^2: a worn sensor is above, a laid-down one far
below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestReport:
    """Bias and noise over the longest stretch at rest.

    Attributes:
        start_us: its start on the track's clock.
        seconds: its length.
        gyro_bias: rad/s, x y z, the mean.
        accel_excess: m/s^2, norm of the mean less standard gravity; axes cannot be told apart.
        gyro, accel: noise of x, y, z.
    """

    start_us: int
    seconds: int
    gyro_bias: tuple[float, ...]
    accel_excess: float
    gyro: tuple[NoiseTerms, ...]
    accel: tuple[NoiseTerms, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuReport:
    """The IMU of one recording in numbers.

    Attributes:
        accel_clock, gyro_clock: rates, ppm, residuals, segments.
        flags: faults and doubts of the recording (`imu_quality.FLAGS`).
        evidence: what the units were judged by.
        rest: bias and noise, None where the sensor never lay still for 10 s.
    """

    accel_clock: ClockReport
    gyro_clock: ClockReport
    flags: tuple[str, ...]
    evidence: UnitEvidence
    rest: RestReport | None

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def report_imu(track: ImuTrack, *, quality: TrackQuality | None = None) -> ImuReport:
    """Measures a track.

    Args:
        track: true samples.
        quality: of the same track, where it has been judged already.
    """
    quality = quality or judge(track)
    return ImuReport(
        accel_clock=quality.accel.clock,
        gyro_clock=quality.gyro.clock,
        flags=quality.flags,
        evidence=quality.evidence,
        rest=_rest(track),
    )


def _rest(track: ImuTrack) -> RestReport | None:
    accel, gyro = _steady(track.accel), _steady(track.gyro)
    if not (len(accel) and len(gyro)):
        return None
    start_us = max(int(accel.t_us[0]), int(gyro.t_us[0]))
    seconds = (min(int(accel.t_us[-1]), int(gyro.t_us[-1])) - start_us) // 1_000_000
    if seconds < SHORTEST_REST_S:
        return None
    quiet = _quiet_seconds(accel, start_us, seconds, REST_ACCEL)
    quiet &= _quiet_seconds(gyro, start_us, seconds, REST_GYRO)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet, [0]])))
    lengths = edges[1::2] - edges[::2]
    if not len(lengths) or lengths.max() < SHORTEST_REST_S:
        return None
    first = int(edges[::2][lengths.argmax()])
    start_us, seconds = start_us + first * 1_000_000, int(lengths.max())
    accel_values, gyro_values = (
        stream.values[
            :, slice(*np.searchsorted(stream.t_us, [start_us, start_us + seconds * 10**6]))
        ]
        for stream in (accel, gyro)
    )
    return RestReport(
        start_us=start_us,
        seconds=seconds,
        gyro_bias=tuple(gyro_values.mean(axis=1).tolist()),
        accel_excess=math.hypot(*accel_values.mean(axis=1)) - GRAVITY,
        gyro=tuple(noise_terms(row, len(row) / seconds) for row in gyro_values),
        accel=tuple(noise_terms(row, len(row) / seconds) for row in accel_values),
    )


def _steady(stream: SensorStream) -> SensorStream:
    """The complete samples of the longest run without back-step or gap."""
    complete = np.isfinite(stream.values).all(axis=0)
    t_us, values = stream.t_us[complete], stream.values[:, complete]
    run = longest_segment(t_us, longest_gap_us=50_000)
    # Beyond any sensor; so that squares stay finite.
    return SensorStream(t_us[run], np.clip(values[:, run], -LARGEST, LARGEST))


def _quiet_seconds(
    stream: SensorStream, start_us: int, seconds: int, limit: float
) -> NDArray[np.bool_]:
    """Whether no axis moves more than the limit (standard deviation), second by second."""
    edges = np.searchsorted(stream.t_us, start_us + np.arange(seconds + 1) * 1_000_000)
    count = np.diff(edges)
    quiet = count >= 10
    kept = stream.values[:, : edges[-1]] - stream.values.mean(axis=1, keepdims=True)
    for row in kept:
        mean, square = (
            np.add.reduceat(np.append(part, 0.0), edges)[:-1] / np.maximum(count, 1)
            for part in (row, row**2)
        )
        quiet &= square - mean**2 < limit**2
    return quiet
