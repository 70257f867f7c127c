"""The rotation that explains most of a picture's motion: two-point RANSAC, then reweighting.

A point of the world at (x, y) on the plane one focal length before a camera that turns by `o` (rad,
camera axes x right, y down, z forward) moves there by

    u = o_x x y - o_y (1 + x^2) + o_z y        v = o_x (1 + y^2) - o_y x y - o_z x

whatever its distance (Longuet-Higgins and Prazdny, The interpretation of a moving retinal image,
1980, the rotational part, in OpenCV's axes). The relation is linear in `o`, so two points give
a candidate; taken midway between a point's two places it holds to second order in the angle, which
leaves less than 0.1 % at 6 degrees. Near things move by the camera's translation too and are
outliers to a rotation as far as they do.
"""

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled

__all__ = ["fit_rotation"]

REWEIGHTINGS = 5
BIWEIGHT = 3.0
"""Residuals beyond so many standard deviations have no say (Tukey's biweight)."""


@compiled
def fit_rotation(
    points: NDArray[np.float64],
    threshold: float,
    noise: float,
    draws: NDArray[np.float64],
) -> tuple[float, float, float, float, float]:
    """Rotation of the camera from the motion of points, by the majority of them.

    Args:
        points: (n, 4) of n >= 2 points: x, y midway between its places and u, v from the first to
            the second, all in focal lengths.
        threshold: residual in focal lengths up to which a point agrees with a candidate.
        noise: smallest standard deviation of a point's residual that is believed.
        draws: (k, 2) numbers in [0, 1) that choose the two points of each candidate.

    Returns:
        The rotation's three components in rad, the standard deviation of its least certain one, and
        the share of points that agree with it; all NaN where the points do not define a rotation.
    """
    count = len(points)
    rotation = _consensus(points, threshold, draws)
    residual2 = np.empty(count)
    scale2, inverse = noise**2, np.zeros((3, 3))
    for _ in range(REWEIGHTINGS):
        for n in range(count):
            residual2[n] = _distance2(rotation, points[n])
        # The squared length of a two-dimensional normal residual has the median 2 ln 2 sigma^2.
        scale2 = max(float(np.median(residual2)) / 1.3863, noise**2)
        normal, right = np.zeros((3, 3)), np.zeros(3)
        for n in range(count):
            share = 1.0 - residual2[n] / (BIWEIGHT**2 * scale2)
            if share > 0:
                _add(normal, right, points[n], share**2)
        inverse = _inverse(normal)
        rotation = inverse @ right
    agree = 0
    for n in range(count):
        agree += _distance2(rotation, points[n]) < threshold**2
    sigma = np.sqrt(scale2 * max(inverse[0, 0], inverse[1, 1], inverse[2, 2]))
    return rotation[0], rotation[1], rotation[2], sigma, agree / count


@compiled
def _consensus(
    points: NDArray[np.float64], threshold: float, draws: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The candidate that most points agree with, counted by how well they do (MSAC)."""
    count = len(points)
    best, rotation = 0.0, np.full(3, np.nan)
    for k in range(len(draws)):
        first = int(draws[k, 0] * count)
        second = int(draws[k, 1] * (count - 1))
        second += second >= first
        normal, right = np.zeros((3, 3)), np.zeros(3)
        _add(normal, right, points[first], 1.0)
        _add(normal, right, points[second], 1.0)
        candidate = _inverse(normal) @ right
        score = 0.0
        for n in range(count):
            score += max(0.0, 1.0 - _distance2(candidate, points[n]) / threshold**2)
        if score > best:
            best, rotation = score, candidate
    return rotation


@compiled
def _rows(x: float, y: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    return (x * y, -(1.0 + x * x), y), (1.0 + y * y, -x * y, -x)


@compiled
def _distance2(rotation: NDArray[np.float64], point: NDArray[np.float64]) -> float:
    """Squared residual of a point, in focal lengths."""
    across, down = _rows(point[0], point[1])
    u, v = point[2], point[3]
    for axis in range(3):
        u -= across[axis] * rotation[axis]
        v -= down[axis] * rotation[axis]
    return u * u + v * v


@compiled
def _add(
    normal: NDArray[np.float64],
    right: NDArray[np.float64],
    point: NDArray[np.float64],
    weight: float,
) -> None:
    """Adds a point's two equations to the normal equations."""
    across, down = _rows(point[0], point[1])
    for i in range(3):
        right[i] += weight * (across[i] * point[2] + down[i] * point[3])
        for j in range(3):
            normal[i, j] += weight * (across[i] * across[j] + down[i] * down[j])


@compiled
def _inverse(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric 3x3 matrix, by its adjugate; not finite where there is none."""
    out = np.empty((3, 3))
    for row in range(3):
        a, b = normal[(row + 1) % 3], normal[(row + 2) % 3]
        out[row, 0] = a[1] * b[2] - a[2] * b[1]
        out[row, 1] = a[2] * b[0] - a[0] * b[2]
        out[row, 2] = a[0] * b[1] - a[1] * b[0]
    determinant = 0.0
    for column in range(3):
        determinant += normal[0, column] * out[0, column]
    return out / determinant
