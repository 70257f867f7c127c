"""Whether one offset and one drift hold all through a recording, stretch by stretch.

A robust fit goes with the majority and would pass over a part of the recording that is half a
second off (facebookresearch/Ego4d#158 reports such parts). So every stretch of 10 s is heard on its
own, and searched for an offset that fits it better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_fit import Fit
from egotriad.converters.sync_gyro import GyroSegment

__all__ = ["Stretches", "stretches_of"]

Array = NDArray[np.float64]

LENGTH_US = 10_000_000
MOVING_RAD_S = 0.15
"""Rms rotation above which a stretch must show what the gyroscope says."""
LEAST_EXPLAINED = 0.5
"""Of a moving stretch's motion; in the simulated world none has less than 0.8."""
CLEARLY_EXPLAINED = 0.8
STEP_US = 20_000
LEAST_JUMP_US = 60_000
NEAR_US = 200_000
MOST_SEARCHED = 50
ALIKE = 10.0
"""Neighbouring residuals are alike; so many count as one."""
SIGMA_US = 5_000.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stretches:
    """Stretches of 10 s of one clock segment each.

    Attributes:
        time_us: float64 (m,), middle on the video's clock.
        offset_us: float64 (m,), from offset(t), of the stretch alone; NaN where it cannot tell to
            5 ms.
        sigma_us: float64 (m,), standard deviation of that.
        moving: bool (m,), whether there is enough rotation, for half the time at least, to ask for
            agreement.
        explained: float64 (m,), share of the camera's motion that the fit explains, no outlier
            excused; below 0 where the fit makes it worse.
        jump_us: float64 (m,), from offset(t), another offset at which the stretch follows far
            better; NaN where there is none.
    """

    time_us: Array
    offset_us: Array
    sigma_us: Array
    moving: NDArray[np.bool_]
    explained: Array
    jump_us: Array

    @property
    def scatter_us(self) -> float:
        """Largest distance of a stretch from offset(t), less three of its standard deviations."""
        excess = np.abs(self.offset_us) - 3 * self.sigma_us
        return max(float(np.max(excess, initial=0.0, where=np.isfinite(excess))), 0.0)

    @property
    def jumped(self) -> NDArray[np.bool_]:
        """Stretches that follow another offset, bool (m,)."""
        return np.isfinite(self.jump_us)

    @property
    def stray_share(self) -> float:
        """Share of the moving stretches that do not follow the fit."""
        stray = self.moving & (self.explained < LEAST_EXPLAINED)
        return float(stray.sum()) / max(int(self.moving.sum()), 1)


def stretches_of(fit: Fit, pieces: Sequence[GyroSegment], *, search_us: int) -> Stretches:
    """Cuts the rows of a fit into stretches and judges each.

    Its own offset is one Gauss-Newton step from the common one. A jump is searched near by for
    every stretch that moves, and far off for up to 50 of those that the fit does not explain.

    Args:
        fit: of all rows.
        pieces: the clock segments it was made of.
        search_us: how far from offset(t) a jump is searched, to either side.
    """
    keys = np.stack([fit.piece, fit.time_us // LENGTH_US])
    of_row = np.unique(keys, axis=1, return_inverse=True)[1].ravel()
    count = np.bincount(of_row)
    residual = fit.observed - fit.predicted
    power = ((fit.predicted - fit.predicted.mean(axis=0)) ** 2).sum(axis=1)
    error = (residual**2).sum(axis=1)
    explained = 1 - np.bincount(of_row, fit.certainty * error) / np.maximum(
        np.bincount(of_row, fit.certainty * power), 1e-300
    )
    information = np.bincount(of_row, fit.weight * (fit.along**2).sum(axis=1))
    pull = np.bincount(of_row, fit.weight * (fit.along * residual).sum(axis=1))
    variance = fit.weight @ error / (3 * len(error))
    sigma = np.sqrt(ALIKE * variance / np.maximum(information, 1e-300))
    moving = np.bincount(of_row, power) / count > MOVING_RAD_S**2
    moving &= np.bincount(of_row, fit.end_us - fit.start_us) >= LENGTH_US / 2
    jump = np.full(len(count), np.nan)
    stray = moving & (explained < LEAST_EXPLAINED)
    far = np.flatnonzero(stray)[:MOST_SEARCHED]
    for place in np.flatnonzero(moving):
        reach_us = search_us if place in far else min(NEAR_US, search_us)
        jump[place] = _jump(fit, pieces, np.flatnonzero(of_row == place), reach_us)
    return Stretches(
        time_us=np.bincount(of_row, fit.time_us) / count,
        offset_us=np.where(sigma < SIGMA_US, pull / np.maximum(information, 1e-300), np.nan),
        sigma_us=sigma,
        moving=moving,
        explained=explained,
        jump_us=jump,
    )


def _jump(fit: Fit, pieces: Sequence[GyroSegment], rows: NDArray[np.intp], reach_us: int) -> float:
    """Where rows of one segment follow the fitted map far better than at offset(t), or NaN."""
    number = int(fit.piece[rows[0]])
    shift = fit.offset_at(number, fit.time_us[rows])
    start, end = fit.start_us[rows] - shift, fit.end_us[rows] - shift
    steps = reach_us // STEP_US
    lags = STEP_US * np.arange(-steps, steps + 1)
    left = np.ones(len(lags))  # share of the camera's motion that is not explained
    for k, lag in enumerate(lags):
        rate, known = pieces[number].mean_rate(start - lag, end - lag)
        if known.sum() < len(rows) / 2:
            continue
        observed, predicted = fit.observed[rows[known]], rate[known] @ fit.linear_map.T
        observed, predicted = observed - observed.mean(axis=0), predicted - predicted.mean(axis=0)
        power = max(float((observed**2).sum()), 1e-300)
        left[k] = float(((observed - predicted) ** 2).sum()) / power
    best = int(left.argmin())
    clear = left[best] < min(1 - CLEARLY_EXPLAINED, left[steps] / 2)
    return float(lags[best]) if clear and abs(lags[best]) >= LEAST_JUMP_US else np.nan
