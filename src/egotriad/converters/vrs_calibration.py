"""Factory calibration of Project Aria sensors, as plain arrays.

Raw IMU readings need correction: `rectified = M^-1 (raw - bias)`, and their stamps are late by a
constant: `corrected = capture - offset` (facebookresearch/projectaria_tools:
core/calibration/CameraCalibration.h, ImuMagnetometerCalibration.h).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CameraCalibration",
    "ImuCalibration",
    "SensorModel",
    "camera_calibration",
    "imu_calibration",
]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SensorModel:
    """From readings of one three-axis sensor to device axes: `turn @ values + shift`.

    Attributes:
        turn: float64 (3, 3), rectification and rotation into the device's axes.
        shift: float64 (3,), in device axes.
        late_ns: how much the sensor's stamps are late.
    """

    turn: NDArray[np.float64]
    shift: NDArray[np.float64]
    late_ns: int

    def corrected(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Readings (3, n) in device axes."""
        return self.turn @ values + self.shift[:, None]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImuCalibration:
    """An IMU in its device.

    Attributes:
        device_from_imu: float64 (4, 4), pose of the IMU in the device's axes, metres.
        accel, gyro: how to correct the two sensors.
    """

    device_from_imu: NDArray[np.float64]
    accel: SensorModel
    gyro: SensorModel


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CameraCalibration:
    """A camera in its device, for its pictures as stored.

    Attributes:
        device_from_camera: float64 (4, 4), pose of the camera in the device's axes, metres.
        model: name of the projection (FISHEYE624, ...), its parameters in `parameters`.
        parameters: float64 (k,).
        size_wh: of the stored picture, pixels.
        late_ns: how much the camera's stamps are late.
        quarter_turns: clockwise, that bring the wearer's up to the top of the picture.
    """

    device_from_camera: NDArray[np.float64]
    model: str
    parameters: NDArray[np.float64]
    size_wh: tuple[int, int]
    late_ns: int
    quarter_turns: int


def imu_calibration(device: Any, label: str) -> ImuCalibration | None:
    """Takes an IMU out of a `DeviceCalibration` (or None); None where it has none of that label."""
    found = None if device is None else device.get_imu_calib(label)
    if found is None:
        return None
    pose = _matrix(found.get_transform_device_imu())
    accel_late_s = found.get_time_offset_sec_device_accel()
    gyro_late_s = found.get_time_offset_sec_device_gyro()
    return ImuCalibration(
        device_from_imu=pose,
        accel=_model(found.raw_to_rectified_accel, pose, accel_late_s),
        gyro=_model(found.raw_to_rectified_gyro, pose, gyro_late_s),
    )


def camera_calibration(device: Any, label: str) -> CameraCalibration | None:
    """Takes a camera out of a `DeviceCalibration` (or None), like `imu_calibration`."""
    found = None if device is None else device.get_camera_calib(label)
    if found is None:
        return None
    pose = _matrix(found.get_transform_device_camera())
    # The central pupil frame's y points up as the wearer stands (projectaria_tools, CPF).
    up = pose[:3, :3].T @ _matrix(device.get_transform_device_cpf())[:3, 1]
    width, height = (int(side) for side in found.get_image_size())
    return CameraCalibration(
        device_from_camera=pose,
        model=str(found.get_model_name()).rpartition(".")[2],
        parameters=np.array(found.get_projection_params(), np.float64).ravel(),
        size_wh=(width, height),
        late_ns=round(found.get_time_offset_sec_device_camera() * 1e9),
        # Camera x points right and y down: up lies at the top, left, bottom or right edge.
        quarter_turns=int(np.argmax([-up[1], -up[0], up[1], up[0]])),
    )


def _model(
    rectify: Callable[[NDArray[np.float64]], Any], pose: NDArray[np.float64], late_s: float
) -> SensorModel:
    """The library's affine correction of one reading, as a matrix for all of them."""
    origin = np.asarray(rectify(np.zeros(3)), np.float64).ravel()
    columns = [np.asarray(rectify(axis), np.float64).ravel() - origin for axis in np.eye(3)]
    rotation = pose[:3, :3]
    return SensorModel(
        turn=rotation @ np.stack(columns, axis=1),
        shift=rotation @ origin,
        late_ns=round(late_s * 1e9),
    )


def _matrix(pose: Any) -> NDArray[np.float64]:
    return np.array(pose.to_matrix(), np.float64)
