"""Whether one offset and one drift hold all through a recording, stretch by stretch.

A robust fit goes with the majority and would pass over a part of the recording that is half a
second off (facebookresearch/Ego4d#158 reports such parts). So every stretch of 10 s is heard on its
own, and where one does not follow, the search is repeated for it alone.
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
LEAST_JUMP_US = 50_000
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
        moving: bool (m,), whether there is enough rotation to ask for agreement.
        explained: float64 (m,), share of the camera's motion that the fit explains, no outlier
            excused; below 0 where the fit makes it worse.
        jump_us: float64 (m,), of stretches that do not follow, the offset from offset(t) at which
            they do; NaN where there is none.
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

    Its own offset is one Gauss-Newton step from the common one; where that explains too little, up
    to 50 stretches are searched for a jump.

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
    jump = np.full(len(count), np.nan)
    for stray in np.flatnonzero(moving & (explained < LEAST_EXPLAINED))[:MOST_SEARCHED]:
        jump[stray] = _jump(fit, pieces, np.flatnonzero(of_row == stray), search_us)
    return Stretches(
        time_us=np.bincount(of_row, fit.time_us) / count,
        offset_us=np.where(sigma < SIGMA_US, pull / np.maximum(information, 1e-300), np.nan),
        sigma_us=sigma,
        moving=moving,
        explained=explained,
        jump_us=jump,
    )


def _jump(fit: Fit, pieces: Sequence[GyroSegment], rows: NDArray[np.intp], search_us: int) -> float:
    """Where rows of one segment follow the fitted map best, from offset(t); NaN for nowhere."""
    number = int(fit.piece[rows[0]])
    shift = fit.offset_at(number, fit.time_us[rows])
    start, end = fit.start_us[rows] - shift, fit.end_us[rows] - shift
    best, jump = CLEARLY_EXPLAINED, np.nan
    for lag in range(-search_us, search_us + 1, STEP_US):
        rate, known = pieces[number].mean_rate(start - lag, end - lag)
        if known.sum() < len(rows) / 2 or abs(lag) < LEAST_JUMP_US:
            continue
        observed, predicted = fit.observed[rows[known]], rate[known] @ fit.linear_map.T
        observed, predicted = observed - observed.mean(axis=0), predicted - predicted.mean(axis=0)
        share = 1 - float(((observed - predicted) ** 2).sum() / max((observed**2).sum(), 1e-300))
        if share > best:
            best, jump = share, float(lag)
    return jump
