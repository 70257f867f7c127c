"""The streams of a VRS file of Project Aria glasses, by label and as stored.

Labels, never stream ids: Aria Gen 2 swaps the ids of Gen 1's IMUs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.vrs_library import aria_errors, sensor_data
from egotriad.manifests.errors import RecordingError

__all__ = ["VrsStream", "VrsStreams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VrsStream:
    """One stream with a label.

    Attributes:
        label: as the device's calibration names it.
        kind: IMU, IMAGE, BAROMETER, ...
        count: records.
        nominal_rate_hz: of an IMU or a camera, by its configuration (never a clock); else None.
    """

    label: str
    kind: str
    count: int
    nominal_rate_hz: float | None


class VrsStreams:
    """Records of an open file.

    Args:
        path: the file, for messages.
        provider: the library's reader.

    Attributes:
        found: streams with a label and at least one record, by label.

    Raises:
        RecordingError: a file the library cannot make sense of.
    """

    def __init__(self, path: Path, provider: Any) -> None:
        self._path, self._provider = path, provider
        with aria_errors(path):
            self._ids = {}
            for stream_id in provider.get_all_streams():
                label = provider.get_label_from_stream_id(stream_id)
                if label and provider.get_num_data(stream_id) > 0:
                    self._ids[label] = stream_id
            self.found = {label: self._described(label) for label in self._ids}

    def named(self, label: str, kind: str) -> VrsStream:
        """The stream of that label and kind.

        Raises:
            RecordingError: there is none; those there are named.
        """
        stream = self.found.get(label)
        if stream is None or stream.kind != kind:
            raise RecordingError(
                f"{self._path.name}: has no {kind} stream {label!r}, only {self.words()}"
            )
        return stream

    def words(self) -> str:
        """All streams for a message: `camera-rgb (8), imu-left (319)`."""
        listed = (f"{stream.label} ({stream.count})" for stream in self.found.values())
        return ", ".join(listed) or "streams without labels"

    def times_ns(self, label: str) -> NDArray[np.int64]:
        """Device time of every record, int64 (n,)."""
        domain = sensor_data().TimeDomain.DEVICE_TIME
        with aria_errors(self._path):
            return np.array(self._provider.get_timestamps_ns(self._ids[label], domain), np.int64)

    def imu_samples(
        self, label: str, start: int, stop: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Samples [start, stop) of an IMU.

        Returns:
            Device time (n,) int64 ns; readings (n, 6) float64, accelerometer m/s^2 then gyroscope
            rad/s; and whether the device calls the two valid, (n, 2) bool.
        """
        times, values = np.empty(stop - start, np.int64), np.empty((stop - start, 6))
        valid = np.empty((stop - start, 2), bool)
        read, stream_id = self._provider.get_imu_data_by_index, self._ids[label]
        with aria_errors(self._path):
            for row in range(stop - start):
                sample = read(stream_id, start + row)
                times[row] = sample.capture_timestamp_ns
                values[row, :3], values[row, 3:] = sample.accel_msec2, sample.gyro_radsec
                valid[row] = sample.accel_valid, sample.gyro_valid
        return times, values, valid

    def luma(self, label: str, index: int) -> NDArray[np.uint8]:
        """One frame of a camera as stored, grey (BT.601, as OpenCV), uint8 (H, W).

        Raises:
            RecordingError: the frame cannot be decoded, or is neither grey nor RGB of 8 bits.
        """
        with aria_errors(self._path):
            image, _ = self._provider.get_image_data_by_index(self._ids[label], index)
            pixels = image.to_numpy_array() if image.is_valid() else np.empty(0)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise RecordingError(
                f"{self._path.name}: {label}: frame {index} cannot be decoded; damaged file"
            )
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        return np.asarray(grey, np.uint8)

    def _described(self, label: str) -> VrsStream:
        stream_id = self._ids[label]
        kind = self._provider.get_sensor_data_type(stream_id).name
        rated = kind in ("IMU", "IMAGE")
        return VrsStream(
            label=label,
            kind=kind,
            count=self._provider.get_num_data(stream_id),
            nominal_rate_hz=self._provider.get_nominal_rate_hz(stream_id) if rated else None,
        )
