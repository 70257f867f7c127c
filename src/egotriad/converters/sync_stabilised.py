"""Whether a picture keeps the fast rotation that the gyroscope felt: stabilised footage does not.

A stabiliser removes what is fast and leaves what is slow, so slow turns still correlate, at an
offset that is the stabiliser's own. Only fast rotation tells the two apart.
"""

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_fit import Fit
from egotriad.converters.sync_gyro import GyroSegment
from egotriad.converters.sync_scan import BIN_US, Bins

__all__ = ["fast_gain", "fast_motion"]

Array = NDArray[np.float64]

SMOOTHING_US = 500_000
"""Faster than about 2 Hz is fast."""


def fast_gain(fit: Fit) -> float:
    """How much of the gyroscope's fast rotation the picture shows, 1 for all.

    Regression of the fast part of the camera's rotation on that of the fitted model: noise of the
    video does not lower it.
    """
    step_us = float(np.median(fit.end_us - fit.start_us))
    shown, felt = (_fast_part(rows, step_us) for rows in (fit.observed, fit.predicted))
    weight = (fit.weight > 0)[:, None]
    power = float((weight * felt**2).sum())
    return float((weight * shown * felt).sum() / power) if power > 0 else 0.0


def fast_motion(bins: Bins, piece: GyroSegment, offset_us: float) -> tuple[float, float]:
    """Rms of fast rotation, the camera's and the gyroscope's, rad/s; 0 where nothing overlaps."""
    rate, known = piece.mean_rate(bins.start_us - offset_us, bins.end_us - offset_us)
    if not known.any():
        return 0.0, 0.0
    camera, gyro = (
        float(np.sqrt((_fast_part(rows[known], BIN_US) ** 2).sum(axis=1).mean()))
        for rows in (bins.omega, rate)
    )
    return camera, gyro


def _fast_part(rows: Array, step_us: float) -> Array:
    """Rows (n, 3), `step_us` apart, less their moving average; zero at the ends."""
    count = max(3, round(SMOOTHING_US / step_us) | 1)
    if len(rows) < count:
        return rows - rows.mean(axis=0)
    total = np.cumsum(np.concatenate([np.zeros((1, 3)), rows]), axis=0)
    inside = slice(count // 2, len(rows) - count // 2)
    out = np.zeros_like(rows)
    out[inside] = rows[inside] - (total[count:] - total[:-count]) / count
    return out
