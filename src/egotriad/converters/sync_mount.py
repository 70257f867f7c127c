"""How a gyroscope is mounted beside a camera, from the map that takes its rates to the camera's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mount", "find_mount"]

Array = NDArray[np.float64]

LEAST_SPREAD = 0.02
"""Second largest variance of the gyroscope's axes over the largest: turning about one axis alone
leaves the rotation about that axis open."""
ITERATIONS = 50


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Mount:
    """A gyroscope beside a camera.

    Attributes:
        rotation: float64 (3, 3), takes gyroscope axes to camera axes (x right, y down, z forward);
            of determinant -1 where the gyroscope's axes are left-handed.
        focal_factor: true focal length over the one that was used.
        mirrored: whether they are left-handed: an axis has the wrong sign.
    """

    rotation: Array
    focal_factor: float
    mirrored: bool


def find_mount(linear_map: Array, gyro_spread: Array, *, focal_known: bool) -> Mount | None:
    """Splits a linear map into a rotation and a focal length.

    The map is diag(s, s, 1) R: pitch and yaw scale with the focal length s, roll does not. R solves
    Wahba's problem on the motion that took place (Wahba 1965; by singular values, Kabsch 1976,
    Markley 1988), s least squares, in turn until they settle. Gyroscopes are taken to be right in
    scale.

    Args:
        linear_map: (3, 3), from gyroscope to camera axes.
        gyro_spread: (3, 3), covariance of the gyroscope's rates.
        focal_known: leaves the focal length as it was used.

    Returns:
        None where the recording turns about one axis only.
    """
    spread = np.linalg.eigvalsh(gyro_spread)
    if not spread[1] > LEAST_SPREAD * spread[2]:
        return None
    cross = linear_map @ gyro_spread
    proper = _settle(cross, gyro_spread, 1.0, focal_known)
    mirrored = _settle(cross, gyro_spread, -1.0, focal_known)
    # A mirrored axis is believed only where all three took part.
    if spread[0] > LEAST_SPREAD * spread[2] and mirrored[2] < 0.5 * proper[2]:
        return Mount(rotation=mirrored[0], focal_factor=mirrored[1], mirrored=True)
    return Mount(rotation=proper[0], focal_factor=proper[1], mirrored=False)


def _settle(
    cross: Array, spread: Array, determinant: float, focal_known: bool
) -> tuple[Array, float, float]:
    """Rotation of that determinant, focal factor, and what is left of the squared error."""
    factor, rotation = 1.0, np.eye(3)
    for _ in range(1 if focal_known else ITERATIONS):
        # The image's scale divides the error of pitch and yaw, not the motion: rows weigh alike.
        left, _, right = np.linalg.svd(np.diag([1 / factor, 1 / factor, 1.0]) @ cross)
        sign = determinant * np.sign(np.linalg.det(left @ right))
        rotation = left @ np.diag([1.0, 1.0, sign]) @ right
        if not focal_known:
            seen, felt = (rotation @ cross.T)[:2, :2], (rotation @ spread @ rotation.T)[:2, :2]
            factor = max(float(np.trace(seen) / max(np.trace(felt), 1e-12)), 0.05)
    scaled = np.diag([factor, factor, 1.0]) @ rotation
    error = np.trace(scaled @ spread @ scaled.T) - 2 * np.trace(scaled @ cross.T)
    whole = np.trace(cross @ np.linalg.solve(spread + 1e-12 * np.eye(3), cross.T))
    return rotation, factor, float(error + whole)
