"""GoPro telemetry (GPMF) -> `ImuTrack` on the clock of the video it was recorded with.

A camera writes about one payload a second; in it, every sensor is a stream (`STRM`) of samples
without times of their own: `gpmf_clock.py` says how each gets one. Axes: `ORIN` names the camera
axis of each stored channel (lower case: sign flipped); a calibrated `MTRX` leads from the stored
channels to the axes of `ORIO` instead. (gopro/gpmf-parser, README and GPMF_parser.c:
GPMF_ScaledData; keys ORIN, ORIO, MTRX, SIUN, SCAL, STMP, TICK, TSMP.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.gpmf_blocks import BlockTime, SensorBlock, payload_blocks, payload_keys
from egotriad.converters.gpmf_chapters import (
    chapter_payloads,
    chapter_starts_us,
    check_chapter_clocks,
)
from egotriad.converters.gpmf_clock import ClockSource, SampleClock, common_source, sample_clock
from egotriad.converters.gpmf_payloads import first_payload
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, located

__all__ = ["read_gopro_imu", "stamped_by_camera"]

UNITS = {"ACCL": ("m/s\xb2", "m/s2", "m/s^2"), "GYRO": ("rad/s",)}

AXES_WITHOUT_ORIN = {"Camera": "ZXY", "Hero5": "ZXY", "Hero6": "YxZ", "Fusion": "yXZ"}
"""Axes of cameras that do not write ORIN, by the start of their name; a Hero5 calls itself
"Camera". (gopro/gpmf-parser, README.)"""

CLOCK_WORDS = {
    "STMP": "camera (STMP)",
    "TICK": "camera ticks (TICK), start from container payload times",
    "container": "container payload times",
}


def read_gopro_imu(*paths: Path) -> ImuTrack:
    """Accelerometer and gyroscope of a GoPro mp4 (or a bare GPMF file) at their measured rates.

    Axes are the camera's X, Y, Z as GoPro names them: channels are put in that order, and signs
    flipped, by ORIN (or MTRX), or by the table of cameras that write none; for an unknown camera
    the stored order is kept and the notes say so. The origin of time is the first video frame (in a
    bare file: the first exposure). Only the camera's own sensors are read, never a drone's.

    Args:
        paths: a file, or the chapters of one recording in order.

    Raises:
        RecordingError: no such file; a file without GPMF (its streams are listed); damaged GPMF; no
            accelerometer or gyroscope; other units than m/s^2 and rad/s; too few payloads to
            measure a rate; a bare file of a camera without STMP or TICK, which has no clock at all;
            chapters that do not follow each other.
    """
    sensors = {"ACCL": _Sensor("ACCL"), "GYRO": _Sensor("GYRO")}
    exposures: list[BlockTime] = []
    keys: set[str] = set()
    for path, payload in chapter_payloads(paths):
        with located(path.name):
            exposures += [block.time for block in payload_blocks(payload, "SHUT")]
            keys |= payload_keys(payload)
            for key, sensor in sensors.items():
                for block in payload_blocks(payload, key):
                    sensor.add(block)
    with located(paths[0].name):
        accel, gyro = (sensor.present(keys) for sensor in sensors.values())
        check_chapter_clocks(paths, chapter_starts_us(paths[:-1]), exposures)
        source = common_source([accel.times, gyro.times], exposures)
        if source is None:
            raise RecordingError(
                f"a bare GPMF file of {accel.device or 'an unnamed camera'} has no clock "
                f"(no STMP); give the mp4 it was taken from"
            )
        accel_clock = accel.clock(exposures, source)
        gyro_clock = gyro.clock(exposures, source)
        return ImuTrack(
            accel=accel.stream(accel_clock),
            gyro=gyro.stream(gyro_clock),
            rate_hz=accel_clock.fit.rate_hz,
            notes={
                "imu_device": accel.device,
                "imu_clock": CLOCK_WORDS[source],
                "imu_axes": f"accel {accel.axes or 'stored order'}, "
                f"gyro {gyro.axes or 'stored order'}",
                "imu_fit": f"accel {accel_clock}; gyro {gyro_clock}",
            },
        )


def stamped_by_camera(path: Path) -> bool:
    """Whether a file's IMU and exposures share the camera's microsecond clock (STMP).

    Looks at the first payload only.

    Raises:
        RecordingError: as `read_gopro_imu`, for what the first payload shows.
    """
    payload = first_payload(path)
    with located(path.name):
        times = []
        for key in UNITS:
            sensor = _Sensor(key)
            for block in payload_blocks(payload, key):
                sensor.add(block)
            times.append(sensor.present(payload_keys(payload)).times)
        exposures = [block.time for block in payload_blocks(payload, "SHUT")]
        return common_source(times, exposures) == "STMP"


class _Sensor:
    """One three-axis sensor, collected payload by payload: its samples, and how they are stored."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.times: list[BlockTime] = []
        self.axes = self.device = ""
        self._storage: _Storage | None = None
        self._values: list[NDArray[np.float64]] = []

    def add(self, block: SensorBlock) -> None:
        """Takes a block: three finite channels, SI units, axes as in the blocks before."""
        storage = _Storage.of(block)
        if block.values.shape[1] != 3 or not np.isfinite(block.values).all():
            raise RecordingError(
                f"GPMF {self.key}: got {block.values.shape[1]} channels, need 3 finite"
            )
        if not set(block.units) & set(UNITS[self.key]) or len(block.units) != 1:
            raise RecordingError(
                f"GPMF {self.key}: got unit {' '.join(block.units)!r}, "
                f"need {' or '.join(UNITS[self.key])}"
            )
        if self._storage is None:
            self._storage, self.device = storage, block.device
            self.axes = block.axes or _axes_of_camera(block.device)
        elif storage != self._storage:
            raise RecordingError(
                f"GPMF {self.key}: axes change from {self._storage} to {storage}; damaged file"
            )
        self.times.append(block.time)
        self._values.append(block.values)

    def present(self, keys: set[str]) -> "_Sensor":
        """Itself.

        Raises:
            RecordingError: there are no samples.
        """
        if not self.times:
            present = ", ".join(sorted(keys)) or "no streams"
            raise RecordingError(f"its GPMF has no {self.key} samples, only {present}")
        return self

    def clock(self, exposures: list[BlockTime], source: ClockSource) -> SampleClock:
        """The clock of its samples, at a rate that an IMU can have."""
        clock = sample_clock(self.times, exposures, source)
        if not 1 <= clock.fit.rate_hz <= 100_000:
            raise RecordingError(
                f"GPMF: {clock.fit.rate_hz:g} Hz measured, no IMU's rate; damaged times"
            )
        return clock

    def stream(self, clock: SampleClock) -> SensorStream:
        """All samples in camera axes, with their times."""
        turn = _to_camera_axes(self._storage, self.axes)
        times = [
            clock.times_us(block, np.arange(time.count)) for block, time in enumerate(self.times)
        ]
        return SensorStream(np.concatenate(times), turn @ np.concatenate(self._values).T)


@dataclass(frozen=True, slots=True)
class _Storage:
    """How a block stores its axes; the same in every payload of an intact file."""

    axes: str
    axes_out: str
    matrix: tuple[float, ...] | None

    @classmethod
    def of(cls, block: SensorBlock) -> "_Storage":
        matrix = None if block.matrix is None else tuple(block.matrix.tolist())
        return cls(block.axes, block.axes_out, matrix)


def _axes_of_camera(device: str) -> str:
    known = (axes for name, axes in AXES_WITHOUT_ORIN.items() if device.startswith(name))
    return next(known, "")


def _to_camera_axes(storage: _Storage | None, axes: str) -> NDArray[np.float64]:
    """Matrix (3, 3) from stored channels to the camera's X, Y, Z.

    A matrix of nothing but -1, 0 and 1 is the axis order once more, no calibration (GPMF_parser.c,
    MACRO_IS_MATRIX_CALIBRATION).
    """
    if storage is None or storage.matrix is None or set(storage.matrix) <= {-1.0, 0.0, 1.0}:
        return _order(axes or "XYZ", "ORIN")
    matrix = np.array(storage.matrix)
    if len(matrix) != 9 or not np.isfinite(matrix).all():
        raise RecordingError(f"GPMF MTRX: got {matrix.tolist()}, need 9 finite numbers")
    return _order(storage.axes_out, "ORIO") @ matrix.reshape(3, 3)


def _order(axes: str, key: str) -> NDArray[np.float64]:
    if sorted(axes.upper()) != ["X", "Y", "Z"]:
        raise RecordingError(f"GPMF {key}: got {axes!r}, need one order of X, Y, Z")
    matrix = np.zeros((3, 3))
    for channel, letter in enumerate(axes):
        matrix["XYZ".index(letter.upper()), channel] = 1.0 if letter.isupper() else -1.0
    return matrix
