"""Project Aria recordings (VRS): both IMUs, the cameras and the clocks of one device.

    imu-right 1000 Hz, imu-left 800 Hz (Gen 1)    m/s^2 with gravity, rad/s
    camera-rgb 10-30 Hz, camera-slam-left/right   rolling shutter (rgb), stamped at mid exposure

Everything is stamped by one hardware clock, device time, in int64 nanoseconds since boot. The
recording's clock begins with the first frame of camera-rgb (without one: the first IMU sample);
times are rounded to microseconds, half up, after that origin was taken off.

An IMU is corrected by the factory calibration: bias, scale, misalignment and time offset, and
turned into the device's axes (Gen 1: x down, y left, z forward), so that both IMUs say the same.
(Measured between the two of a recording: 2.2 ms apart where their offsets say 2.29.)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import fit_rate
from egotriad.converters.video import FrameChunk, fitted
from egotriad.converters.vrs_calibration import (
    CameraCalibration,
    ImuCalibration,
    camera_calibration,
    imu_calibration,
)
from egotriad.converters.vrs_library import aria_errors, open_provider, sensor_data
from egotriad.converters.vrs_streams import VrsStream, VrsStreams
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, UsageError, located

__all__ = ["SharedClock", "VrsRecording", "open_vrs", "read_vrs_frames", "read_vrs_imu"]

RGB = "camera-rgb"
SharedClock = Literal["TIME_CODE", "TIC_SYNC", "SUBGHZ"]
SHARED_CLOCKS: tuple[SharedClock, ...] = ("TIME_CODE", "TIC_SYNC", "SUBGHZ")


def open_vrs(path: Path) -> "VrsRecording":
    """Opens a recording of Project Aria glasses; nothing is decoded.

    Raises:
        MissingDependency: projectaria-tools is not installed.
        RecordingError: no such file, no VRS file, cut off or damaged; no camera-rgb and no IMU.
    """
    return VrsRecording(path, open_provider(path))


def read_vrs_imu(path: Path, label: str = "imu-right") -> ImuTrack:
    """`open_vrs(path).imu(label)` as a function that crosses process borders."""
    return open_vrs(path).imu(label)


def read_vrs_frames(
    path: Path,
    *,
    size_wh: tuple[int, int] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    chunk_frames: int = 8,
) -> Iterator[FrameChunk]:
    """`open_vrs(path).frames(...)` as a function that crosses process borders."""
    yield from open_vrs(path).frames(size_wh=size_wh, fit=fit, chunk_frames=chunk_frames)


class VrsRecording:
    """An open recording; see `open_vrs`.

    Attributes:
        streams: what it holds, by label.
        tags: the file's own words about itself (device, session, profile, ...).
        origin_ns: device time at which the recording's clock begins.
    """

    def __init__(self, path: Path, provider: Any) -> None:
        self._path, self._provider = path, provider
        self._records = VrsStreams(path, provider)
        self.streams: dict[str, VrsStream] = self._records.found
        with aria_errors(path):
            self._device = provider.get_device_calibration()
            self.tags: dict[str, str] = dict(provider.get_file_tags())
        self.origin_ns = self._origin_ns()

    def stream(self, label: str, kind: str) -> VrsStream:
        """The stream of that label and kind (`IMU`, `IMAGE`, ...).

        Raises:
            RecordingError: there is none; those there are named.
        """
        return self._records.named(label, kind)

    def sample_times_us(self, label: str) -> NDArray[np.int64]:
        """Times (n,) of an IMU's records as stamped: its calibrated delay is not taken off.

        Raises:
            RecordingError: no such IMU (the streams there are named).
        """
        self._records.named(label, "IMU")
        return _microseconds(self._records.times_ns(label) - self.origin_ns)

    def frame_times_us(self, label: str = RGB) -> NDArray[np.int64]:
        """Times (n,) of a camera's frames, mid exposure; nothing is decoded.

        Raises:
            RecordingError: no such camera (the streams there are named), times that do not rise.
        """
        self._records.named(label, "IMAGE")
        t_us = _microseconds(self._camera_times_ns(label) - self.origin_ns)
        standing = np.flatnonzero(np.diff(t_us) <= 0) + 1
        if len(standing):
            raise RecordingError(
                f"{self._path.name}: {label}: frame {standing[0]} at {t_us[standing[0]]} us does "
                f"not follow the one before at {t_us[standing[0] - 1]} us; damaged file"
            )
        return t_us

    def frames(
        self,
        label: str = RGB,
        *,
        size_wh: tuple[int, int] | None = None,
        fit: Literal["crop", "stretch"] = "crop",
        chunk_frames: int = 8,
    ) -> Iterator[FrameChunk]:
        """Frames of a camera, grey and upright, in chunks, as `video.read_frames` gives them.

        The cameras are built in sideways. Where the file holds a calibration, frames are turned by
        quarters so that the wearer's up is the picture's top (calibrated geometry is of the stored
        picture: `camera_calibration(label).quarter_turns` turns it).

        Args:
            label: the camera.
            size_wh: width and height of the sensor; None keeps the (turned) camera's own.
            fit: as in `read_frames`.
            chunk_frames: frames in a chunk; the last one may hold fewer.

        Yields:
            Chunks of at least one frame; their arrays are the caller's.

        Raises:
            RecordingError: as `frame_times_us`; a frame that cannot be decoded.
            UsageError: an unknown `fit` or a size below one pixel.
        """
        if fit not in ("crop", "stretch"):
            raise UsageError(f"fit: got {fit!r}, need 'crop' or 'stretch'")
        if chunk_frames < 1 or (size_wh is not None and min(size_wh) < 1):
            raise UsageError(
                f"got size {size_wh} and {chunk_frames} frames a chunk, need 1 or more"
            )
        calibration, t_us = self.camera_calibration(label), self.frame_times_us(label)
        turns = 0 if calibration is None else calibration.quarter_turns
        for start in range(0, len(t_us), chunk_frames):
            times = t_us[start : start + chunk_frames]
            images = []
            for offset in range(len(times)):
                image = np.rot90(self._records.luma(label, start + offset), -turns)
                images.append(image if size_wh is None else fitted(image, size_wh, fit))
            yield FrameChunk(np.stack(images), times)

    def imu(self, label: str = "imu-right", *, rectify: bool = True) -> ImuTrack:
        """All samples of one IMU (see `imu_chunks`), with its measured rate.

        Raises:
            RecordingError: as `imu_chunks`; times that do not advance.
        """
        parts = list(self.imu_chunks(label, rectify=rectify))
        accel, gyro = (_joined([part[sensor] for part in parts]) for sensor in (0, 1))
        stream = self.streams[label]
        with located(f"{self._path.name}: {label}"):
            line = fit_rate(accel.t_us)
        rectified = rectify and self.imu_calibration(label) is not None
        return ImuTrack(
            accel=accel,
            gyro=gyro,
            rate_hz=line.rate_hz,
            notes={
                "imu_device": f"Aria {label}",
                "imu_clock": "device time (hardware)",
                "imu_axes": "device, rectified" if rectified else f"{label}, as stored",
                "imu_fit": f"{line.rate_hz:.3f} Hz, residual {line.residual_us:.0f} us, "
                f"nominal {stream.nominal_rate_hz:g} Hz",
                "imu_invalid": f"accel {stream.count - len(accel)}, gyro "
                f"{stream.count - len(gyro)} of {stream.count}, left out",
            },
        )

    def imu_chunks(
        self, label: str, *, rectify: bool = True, chunk_samples: int = 50_000
    ) -> Iterator[tuple[SensorStream, SensorStream]]:
        """Accelerometer and gyroscope of one IMU in chunks: memory does not grow with the length.

        Samples that the device marks invalid are left out, never replaced.

        Args:
            label: the IMU.
            rectify: corrected and in device axes (see the module) where the file holds a
                calibration; else as stored, in the IMU's own axes.
            chunk_samples: records read at a time.

        Raises:
            RecordingError: no such IMU (the streams there are named), a damaged record.
        """
        count = self._records.named(label, "IMU").count
        calibration = self.imu_calibration(label) if rectify else None
        models = (None, None) if calibration is None else (calibration.accel, calibration.gyro)
        for start in range(0, count, chunk_samples):
            stop = min(start + chunk_samples, count)
            t_ns, values, valid = self._records.imu_samples(label, start, stop)
            streams = []
            for sensor, model in enumerate(models):
                kept = valid[:, sensor] & np.isfinite(values[:, 3 * sensor : 3 * sensor + 3]).all(1)
                stored, late_ns = values[kept, 3 * sensor : 3 * sensor + 3].T, 0
                if model is not None:
                    stored, late_ns = model.corrected(stored), model.late_ns
                t_us = _microseconds(t_ns[kept] - late_ns - self.origin_ns)
                streams.append(SensorStream(t_us, np.ascontiguousarray(stored)))
            yield streams[0], streams[1]

    def imu_calibration(self, label: str) -> ImuCalibration | None:
        """The factory calibration of an IMU; None where the file holds none."""
        with aria_errors(self._path):
            return imu_calibration(self._device, label)

    def camera_calibration(self, label: str = RGB) -> CameraCalibration | None:
        """The factory calibration of a camera; None where the file holds none."""
        with aria_errors(self._path):
            return camera_calibration(self._device, label)

    def shared_clocks(self) -> tuple[SharedClock, ...]:
        """Clocks shared with other devices that this recording can be put on."""
        domains, stream_id = sensor_data().TimeDomain, self._provider.get_all_streams()[0]
        return tuple(
            clock
            for clock in SHARED_CLOCKS
            if self._provider.supports_time_domain(stream_id, getattr(domains, clock))
        )

    def to_shared_ns(self, t_us: int, clock: SharedClock = "TIME_CODE") -> int:
        """A time of the recording's clock on one shared with other devices, in nanoseconds.

        Raises:
            RecordingError: the recording does not hold that clock.
        """
        mode, device_ns = self._mode(clock), self.origin_ns + t_us * 1000
        return int(self._provider.convert_from_device_time_to_synctime_ns(device_ns, mode))

    def from_shared_ns(self, time_ns: int, clock: SharedClock = "TIME_CODE") -> int:
        """A time of a clock shared with other devices on the recording's own, in microseconds.

        Raises:
            RecordingError: the recording does not hold that clock.
        """
        mode = self._mode(clock)
        device_ns = self._provider.convert_from_synctime_to_device_time_ns(time_ns, mode)
        return (int(device_ns) - self.origin_ns + 500) // 1000

    def _mode(self, clock: SharedClock) -> Any:
        if clock not in self.shared_clocks():
            held = ", ".join(("device time", *self.shared_clocks()))
            raise RecordingError(f"{self._path.name}: holds no clock {clock}, only {held}")
        return getattr(sensor_data().TimeSyncMode, clock)

    def _origin_ns(self) -> int:
        if RGB in self.streams:
            return int(self._camera_times_ns(RGB)[0])
        imus = [label for label, stream in self.streams.items() if stream.kind == "IMU"]
        if not imus:
            raise RecordingError(
                f"{self._path.name}: has neither {RGB} nor an IMU, only {self._records.words()}"
            )
        return min(int(self._records.times_ns(label)[0]) for label in imus)

    def _camera_times_ns(self, label: str) -> NDArray[np.int64]:
        calibration = self.camera_calibration(label)
        late_ns = 0 if calibration is None else calibration.late_ns
        return self._records.times_ns(label) - late_ns


def _microseconds(t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return (t_ns + 500) // 1000


def _joined(parts: list[SensorStream]) -> SensorStream:
    return SensorStream(
        np.concatenate([part.t_us for part in parts]),
        np.concatenate([part.values for part in parts], axis=1),
    )
