"""How a camera turned, from its pictures: angular velocity between consecutive frames.

Small pictures suffice: a corner moves by the same angle whatever the resolution, and is tracked to
a few hundredths of a pixel (corners: Shi and Tomasi 1994, one per cell of a grid so that they are
spread; tracking: pyramidal Lucas-Kanade, Bouguet 2001). The motion of the corners is explained by a
rotation alone (`video_rotation_fit`); what does not fit is near or moves by itself. Without a known
focal length half the width is assumed (90 degrees): pitch and yaw then carry an unknown factor,
roll does not.

Beside it, and without any tracking, stands the rate at which an ideal event camera would fire on
the same pictures: a second witness of motion.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.video import FrameChunk
from egotriad.converters.video_rotation_fit import fit_rotation
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = ["SMALL_WIDTH", "CameraRotation", "RotationMeter", "camera_rotation"]

SMALL_WIDTH = 160
"""Pixels a row that wider pictures are reduced to."""
CELLS_PER_ROW, SMALLEST_CELL = 10, 8
CORNER_MIN = 1e-4
"""Least eigenvalue of the structure tensor as OpenCV scales it: that of a corner of 9 grey levels
blurred by a pixel; white noise with a standard deviation of 2 levels stays below."""
BLOCK = 5
SEARCH_PX, PYRAMID_LEVELS = 9, 2
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
AGREE_PX = 0.7
NOISE_PX = 0.02
CANDIDATES = 40
LEAST_POINTS = 8
LONGEST_STEP_US = 250_000
"""Frames further apart are not compared: a head turns out of the picture in that time."""
CONTRAST_THRESHOLD = 0.2
"""Of the ideal event camera, natural log (v2e's default)."""
DARK_LEVEL = 4.0
"""Added to grey levels before the logarithm, so that black noise makes no events."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CameraRotation:
    """Angular velocity of a camera between pairs of consecutive frames.

    Attributes:
        start_us, end_us: int64 (n,), presentation times of each pair's frames.
        omega: float64 (n, 3), mean angular velocity between them, rad/s, camera axes (x right,
            y down, z forward); NaN where the pictures do not tell. With an assumed focal length x
            and y carry one unknown factor.
        sigma: float64 (n,), standard deviation of its least certain component, rad/s.
        corners: int64 (n,), corners found in the first frame of each pair.
        agreement: float64 (n,), share of them whose motion is this rotation's.
        brightness: float64 (n,), mean grey level of the second frame.
        event_rate_hz: float64 (n,), events per pixel and second of an ideal event camera.
        size_wh: of the pictures as analysed, pixels.
        focal_px: focal length used, in those pixels; focal_known is False where it was assumed.
    """

    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    omega: NDArray[np.float64]
    sigma: NDArray[np.float64]
    corners: NDArray[np.int64]
    agreement: NDArray[np.float64]
    brightness: NDArray[np.float64]
    event_rate_hz: NDArray[np.float64]
    size_wh: tuple[int, int]
    focal_px: float
    focal_known: bool

    def __len__(self) -> int:
        return len(self.start_us)

    def __repr__(self) -> str:
        told = int(np.isfinite(self.omega[:, 0]).sum())
        return f"CameraRotation({len(self)} frame pairs, {told} with a rotation)"


def camera_rotation(
    chunks: Iterable[FrameChunk], *, focal_per_width: float | None = None
) -> CameraRotation:
    """Measures the rotation between consecutive frames, streaming.

    Args:
        chunks: grey frames in time order, as `RotationMeter.add` takes them.
        focal_per_width: focal length as a share of the picture's width, where it is known.

    Raises:
        UsageError: a focal length that is not positive.
        RecordingError: fewer than two frames, or frames of different sizes.
    """
    meter = RotationMeter(focal_per_width=focal_per_width)
    for chunk in chunks:
        meter.add(chunk)
    return meter.rotation()


class RotationMeter:
    """Measures the rotation between consecutive frames as they come.

    Frames more than 0.25 s apart (a hole, or the next block of a sampled video) are not compared.

    Args:
        focal_per_width: focal length as a share of the picture's width, where it is known.

    Raises:
        UsageError: a focal length that is not positive.
    """

    def __init__(self, *, focal_per_width: float | None = None) -> None:
        if focal_per_width is not None and not focal_per_width > 0:
            raise UsageError(f"focal length: got {focal_per_width} widths, need more than 0")
        self._focal_per_width = focal_per_width
        self._tracker: _Tracker | None = None
        self._rows: list[tuple[float, ...]] = []
        self._times: list[tuple[int, int]] = []

    def add(self, chunk: FrameChunk) -> None:
        """Takes the next grey frames, in time order; those wider than 160 pixels are reduced.

        Raises:
            RecordingError: a frame of another size than those before.
        """
        for luma, t_us in zip(chunk.luma, chunk.t_us.tolist(), strict=True):
            small = _small(luma)
            if self._tracker is None:
                self._tracker = _Tracker(small, t_us, self._focal_per_width or 0.5)
                continue
            start_us, row = self._tracker.step(small, t_us)
            if t_us - start_us <= LONGEST_STEP_US:
                self._times.append((start_us, t_us))
                self._rows.append(row)

    def rotation(self) -> CameraRotation:
        """What has been measured so far.

        Raises:
            RecordingError: fewer than two consecutive frames have been seen.
        """
        if self._tracker is None or not self._rows:
            raise RecordingError("no two consecutive frames, need at least 2 to see a rotation")
        table = np.array(self._rows)
        stamps = np.array(self._times, np.int64)
        height, width = self._tracker.shape
        return CameraRotation(
            start_us=stamps[:, 0],
            end_us=stamps[:, 1],
            omega=table[:, :3],
            sigma=table[:, 3],
            agreement=table[:, 4],
            corners=table[:, 5].astype(np.int64),
            brightness=table[:, 6],
            event_rate_hz=table[:, 7],
            size_wh=(width, height),
            focal_px=self._tracker.focal_px,
            focal_known=self._focal_per_width is not None,
        )


def _small(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = luma.shape
    if width <= SMALL_WIDTH:
        return luma
    size_wh = (SMALL_WIDTH, max(1, round(height * SMALL_WIDTH / width)))
    return cv2.resize(luma, size_wh, interpolation=cv2.INTER_AREA)


class _Tracker:
    """The last frame, and how the next one differs from it."""

    def __init__(self, luma: NDArray[np.uint8], t_us: int, focal_per_width: float) -> None:
        self.shape = luma.shape
        self.focal_px = focal_per_width * luma.shape[1]
        self._luma, self._t_us = luma.copy(), t_us
        levels = np.log(np.arange(256, dtype=np.float32) + DARK_LEVEL)
        self._table = levels / np.float32(CONTRAST_THRESHOLD)
        self._log = cv2.LUT(self._luma, self._table)
        # One set of draws for all pairs: which corners they choose differs by the corners found.
        self._draws = np.random.default_rng(0).random((CANDIDATES, 2))

    def step(self, luma: NDArray[np.uint8], t_us: int) -> tuple[int, tuple[float, ...]]:
        """Takes the next frame; returns the last one's time and the pair's numbers.

        Those are omega (3), sigma, agreement, corners, brightness, event rate.
        """
        if luma.shape != self.shape:
            raise RecordingError(f"a frame is {luma.shape}, those before {self.shape} (H, W)")
        start_us, seconds = self._t_us, (t_us - self._t_us) / 1e6
        corners = _corners(self._luma)
        motion = self._motion(corners, luma)
        turn = (np.nan, np.nan, np.nan, np.nan, 0.0)
        if len(motion) >= LEAST_POINTS:
            focal = self.focal_px
            turn = fit_rotation(motion, AGREE_PX / focal, NOISE_PX / focal, self._draws)
        *rotation, sigma, agreement = turn
        log = cv2.LUT(luma, self._table)
        events = cv2.norm(log, self._log, cv2.NORM_L1) / luma.size
        self._luma, self._log, self._t_us = luma.copy(), log, t_us
        known = bool(np.isfinite(turn[:4]).all())
        return start_us, (
            *(angle / seconds if known else np.nan for angle in rotation),
            sigma / seconds if known else np.nan,
            agreement * len(motion) / max(len(corners), 1),
            float(len(corners)),
            float(cv2.mean(luma)[0]),
            events / seconds,
        )

    def _motion(self, corners: NDArray[np.float32], luma: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Midway places and motions of the corners found again, (n, 4) in focal lengths."""
        if len(corners) < LEAST_POINTS:
            return np.empty((0, 4))
        moved, found, _ = cv2.calcOpticalFlowPyrLK(
            self._luma,
            luma,
            corners,
            None,
            winSize=(SEARCH_PX, SEARCH_PX),
            maxLevel=PYRAMID_LEVELS,
            criteria=STEPS,
        )
        kept = found[:, 0] > 0
        before, after = corners[kept].astype(np.float64), moved[kept].astype(np.float64)
        centre = (np.array(luma.shape[::-1]) - 1) / 2
        middle = (before + after) / 2 - centre
        return np.concatenate([middle, after - before], axis=1) / self.focal_px


def _corners(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The best corner of every cell that has one, (n, 2) as x, y."""
    cell = max(SMALLEST_CELL, luma.shape[1] // CELLS_PER_ROW)
    rows, columns = luma.shape[0] // cell, luma.shape[1] // cell
    if not rows or not columns:
        return np.empty((0, 2), np.float32)
    strength = cv2.cornerMinEigenVal(luma, BLOCK)[: rows * cell, : columns * cell]
    cells = strength.reshape(rows, cell, columns, cell).swapaxes(1, 2).reshape(rows, columns, -1)
    place = cells.argmax(axis=2)
    y, x = np.divmod(place, cell)
    x, y = x + cell * np.arange(columns), y + cell * np.arange(rows)[:, None]
    strong = np.take_along_axis(cells, place[..., None], axis=2)[..., 0] > CORNER_MIN
    return np.stack([x[strong], y[strong]], axis=1).astype(np.float32)
