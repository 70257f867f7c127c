"""Whether one offset and one drift hold all through a recording, stretch by stretch.

A robust fit goes with the majority and would pass over a part of the recording that is half a
second off (facebookresearch/Ego4d#158 reports such parts). So every stretch of 10 s is heard on its
own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_fit import Fit

__all__ = ["Stretches", "stretches_of"]

Array = NDArray[np.float64]

LENGTH_US = 10_000_000
MOVING_RAD_S = 0.15
"""Rms rotation above which a stretch must show what the gyroscope says."""
LEAST_EXPLAINED = 0.5
"""Of a moving stretch's motion; in the simulated world none has less than 0.8."""
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
    """

    time_us: Array
    offset_us: Array
    sigma_us: Array
    moving: NDArray[np.bool_]
    explained: Array

    @property
    def scatter_us(self) -> float:
        """Largest distance of a stretch from offset(t), less three of its standard deviations."""
        excess = np.abs(self.offset_us) - 3 * self.sigma_us
        return max(float(np.max(excess, initial=0.0, where=np.isfinite(excess))), 0.0)

    @property
    def stray(self) -> NDArray[np.bool_]:
        """Moving stretches that do not follow the fit, bool (m,)."""
        return self.moving & (self.explained < LEAST_EXPLAINED)

    @property
    def stray_share(self) -> float:
        """Share of them among the moving ones."""
        return float(self.stray.sum()) / max(int(self.moving.sum()), 1)


def stretches_of(fit: Fit) -> Stretches:
    """Cuts the rows of a fit into stretches and judges each.

    Its own offset is one Gauss-Newton step from the common one; gross errors are left to
    `explained`.
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
    return Stretches(
        time_us=np.bincount(of_row, fit.time_us) / count,
        offset_us=np.where(sigma < SIGMA_US, pull / np.maximum(information, 1e-300), np.nan),
        sigma_us=sigma,
        moving=np.bincount(of_row, power) / count > MOVING_RAD_S**2,
        explained=explained,
    )
