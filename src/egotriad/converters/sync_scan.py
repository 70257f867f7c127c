"""Coarse synchronisation: how well camera and gyroscope agree at every offset of a search range.

Kalibr starts from the cross-correlation of angular speeds (Furgale, Rehder and Siegwart, Unified
temporal and spatial calibration for multi-sensor systems, IROS 2013; its code,
`findTimeshiftCameraImuPrior`). Speed needs no knowledge of how the sensors are mounted, but forgets
the sense of every turn. We differ: all three axes are correlated. At each offset the best linear
map from gyroscope to camera axes is fitted (it stands for mounting, axis order and focal length at
once), and the multiple correlation measures the agreement; speeds are what a map of one row makes
of it. Offsets where too little of the recording has both are not judged; frames without a rotation
and gaps of the gyroscope have no weight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_gyro import GyroSegment
from egotriad.converters.video_rotation import CameraRotation

__all__ = ["BIN_US", "Bins", "Peak", "Scan", "bins_of", "find_peak", "scan"]

Array = NDArray[np.float64]
Feature = Callable[[Array], Array]

BIN_US = 100_000
STEP_US = 20_000
"""A head turns back and forth up to about 5 times a second: the peak is 100 ms wide at least."""
MAIN_LOBE_US = 150_000
"""Local maxima this close to the peak are ripples of the same one."""
AT_ONCE = 1 << 14
"""Mean rates that are computed together: most of the time of few would go into calls."""
LEAST_SHARE = 0.5
"""Of the bins that are compared at the best-covered offset."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Bins:
    """Frame pairs joined to stretches of about 0.1 s, for a quick look.

    Attributes:
        start_us, end_us: float64 (n,), on the video's clock.
        omega: float64 (n, 3), mean angular velocity of the camera, rad/s.
        event_rate_hz: float64 (n,), mean event rate per pixel.
    """

    start_us: Array
    end_us: Array
    omega: Array
    event_rate_hz: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scan:
    """Agreement at every offset that was tried.

    Attributes:
        offset_us: float64 (k,), added to IMU time.
        correlation: float64 (k,), multiple correlation, NaN where too little overlaps; of a single
            feature with its sign.
    """

    offset_us: Array
    correlation: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The best offset of a scan.

    Attributes:
        offset_us: where it is, by a parabola through three points.
        correlation: its height.
        ratio: its height over the second best local maximum's.
        contrast: variance left unexplained at the second best local maximum over that at the peak:
            how many times better the best offset explains the motion than any other.
        at_edge: whether it lies at the end of what could be searched.
    """

    offset_us: float
    correlation: float
    ratio: float
    contrast: float
    at_edge: bool


def bins_of(rotation: CameraRotation, usable: NDArray[np.bool_]) -> Bins:
    """Joins usable frame pairs that follow each other into stretches of at least 0.1 s.

    Args:
        rotation: of the camera.
        usable: bool (n,), which pairs to use.
    """
    start, end = rotation.start_us[usable], rotation.end_us[usable]
    if not len(start):
        empty = np.empty(0)
        return Bins(start_us=empty, end_us=empty, omega=np.empty((0, 3)), event_rate_hz=empty)
    broken = np.concatenate([[True], start[1:] != end[:-1]])
    run_start = np.maximum.accumulate(np.where(broken, start, 0))
    bin_number = (start - run_start) // BIN_US
    first = np.flatnonzero(broken | np.concatenate([[True], np.diff(bin_number) != 0]))
    seconds = (end - start) / 1e6
    total = np.add.reduceat(seconds, first)
    weighted = np.concatenate(
        [rotation.omega[usable], rotation.event_rate_hz[usable, None]], axis=1
    )
    mean = np.add.reduceat(weighted * seconds[:, None], first, axis=0) / total[:, None]
    last = np.concatenate([first[1:], [len(start)]]) - 1
    return Bins(
        start_us=start[first].astype(np.float64),
        end_us=end[last].astype(np.float64),
        omega=mean[:, :3],
        event_rate_hz=mean[:, 3],
    )


def scan(
    bins: Bins,
    target: Array,
    pieces: Sequence[GyroSegment],
    feature: Feature,
    *,
    around_us: Sequence[Array | float],
    search_us: int,
) -> Scan:
    """Correlates what the camera shows with what the gyroscope predicts, at every offset.

    Args:
        bins: stretches of the video.
        target: float64 (n, d), what the video shows in each.
        pieces: segments of the gyroscope.
        feature: takes mean angular velocities (n, 3) to what should explain the target, (n, e).
        around_us: centre of the search of each piece, one or one per bin (n,): its own offset,
            where one is known.
        search_us: how far to either side.
    """
    steps = round(search_us / STEP_US)
    offsets = STEP_US * np.arange(-steps, steps + 1, dtype=np.float64)
    correlation, seconds = np.full(len(offsets), np.nan), np.zeros(len(offsets))
    duration = (bins.end_us - bins.start_us) / 1e6
    at_once = max(1, AT_ONCE // max(len(target), 1))
    for first in range(0, len(offsets), at_once):
        batch = offsets[first : first + at_once]
        seen = [
            _mean_rates(bins, piece, centre + batch[:, None])
            for piece, centre in zip(pieces, around_us, strict=True)
        ]
        for k in range(len(batch)):
            row = np.concatenate([np.flatnonzero(known[k]) for _, known in seen])
            predicted = feature(np.concatenate([rate[k][known[k]] for rate, known in seen]))
            seconds[first + k] = duration[row].sum()
            correlation[first + k] = _multiple_correlation(target[row], predicted)
    correlation[seconds < LEAST_SHARE * seconds.max()] = np.nan
    return Scan(offset_us=offsets, correlation=correlation)


def _mean_rates(bins: Bins, piece: GyroSegment, shift_us: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Mean rates (k, n, 3) of a piece in all bins, and where known, at shifts (k, n) or (k, 1)."""
    start_us, end_us = bins.start_us - shift_us, bins.end_us - shift_us
    rate, known = piece.mean_rate(start_us.ravel(), end_us.ravel())
    return rate.reshape(*start_us.shape, 3), known.reshape(start_us.shape)


def _multiple_correlation(target: Array, feature: Array) -> float:
    """Correlation of the target (n, d) with its best linear prediction from the feature (n, e)."""
    if len(target) < 8 * feature.shape[1]:
        return np.nan
    target, feature = target - target.mean(axis=0), feature - feature.mean(axis=0)
    total = float((target**2).sum())
    cross = feature.T @ target
    inside = feature.T @ feature
    ridge = 1e-9 * np.trace(inside) * np.eye(len(inside))
    if not total > 0 or not np.trace(inside) > 0:
        return 0.0
    explained = float((cross * np.linalg.solve(inside + ridge, cross)).sum())
    sign = np.sign(cross[0, 0]) if cross.size == 1 else 1.0
    return float(sign * np.sqrt(min(max(explained / total, 0.0), 1.0)))


def find_peak(scanned: Scan) -> Peak | None:
    """The highest point of a scan and how it stands out; None where nothing could be compared."""
    height = np.where(np.isfinite(scanned.correlation), scanned.correlation, -np.inf)
    if not np.isfinite(height).any():
        return None
    best = int(height.argmax())
    inside = np.flatnonzero((height[1:-1] >= height[:-2]) & (height[1:-1] >= height[2:])) + 1
    apart = np.abs(scanned.offset_us[inside] - scanned.offset_us[best]) > MAIN_LOBE_US
    others = inside[np.isfinite(height[inside]) & apart]
    second = max(float(height[others].max()), 0.0) if len(others) else 0.0
    peak = float(height[best])
    at_edge = not (0 < best < len(height) - 1 and np.isfinite(height[best - 1 : best + 2]).all())
    shift = 0.0
    if not at_edge:
        left, right = height[best - 1], height[best + 1]
        curvature = left - 2 * peak + right
        shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return Peak(
        offset_us=float(scanned.offset_us[best] + shift * STEP_US),
        correlation=peak,
        ratio=min(peak / second, 99.0) if second > 0 else 99.0,
        contrast=(1 - second**2) / max(1 - peak**2, 1e-6),
        at_edge=at_edge,
    )
