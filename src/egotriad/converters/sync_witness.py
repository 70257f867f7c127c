"""A second, independent witness of synchronisation: event rate against angular speed.

An event camera fires where brightness changes, and what changes it most is the camera's own
turning. The event rate of the same pictures follows no corner and fits no geometry, so that what
misleads the tracker (a passer-by, a mirror, a wrong focal length) misleads it in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_fit import Fit
from egotriad.converters.sync_gyro import GyroSegment
from egotriad.converters.sync_scan import Bins, find_peak, scan

__all__ = ["Witness", "second_witness", "speed_correlation"]

Array = NDArray[np.float64]

SEARCH_US = 3_000_000
SAME_US = 150_000.0
"""One and a half bins."""
LEAST_CORRELATION = 0.4
CLEARLY = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What the event rate says.

    Attributes:
        correlation: with angular speed, at the best offset.
        offset_us: where that is, from the offset found by rotation.
        agrees: whether it is the same offset; None where the witness is too weak to say.
    """

    correlation: float
    offset_us: float
    agrees: bool | None


def second_witness(bins: Bins, pieces: Sequence[GyroSegment], fit: Fit) -> Witness:
    """Searches for the offset anew, around the fitted one, with the event rate alone.

    Both enter as square roots: rates grow with speed, and a root keeps few fast turns from deciding
    alone.
    """
    scanned = scan(
        bins,
        np.sqrt(bins.event_rate_hz)[:, None],
        pieces,
        lambda rate: np.sqrt(_speed(rate)),
        around_us=[fit.offset_at(k, bins.start_us) for k in range(len(pieces))],
        search_us=SEARCH_US,
    )
    peak = find_peak(scanned)
    if peak is None or peak.correlation < LEAST_CORRELATION:
        return Witness(
            correlation=0.0 if peak is None else peak.correlation, offset_us=0.0, agrees=None
        )
    agrees = abs(peak.offset_us) <= SAME_US
    here = float(scanned.correlation[len(scanned.offset_us) // 2])
    # Repetitive motion has near ties; only a clearly better offset contradicts.
    known = agrees or not here * CLEARLY > peak.correlation
    return Witness(
        correlation=peak.correlation, offset_us=peak.offset_us, agrees=agrees if known else None
    )


def speed_correlation(bins: Bins, pieces: Sequence[GyroSegment], fit: Fit) -> float:
    """Correlation of the angular speeds of camera and gyroscope at the fitted offsets."""
    camera, gyro = [], []
    for k, piece in enumerate(pieces):
        shift = fit.offset_at(k, bins.start_us)
        rate, known = piece.mean_rate(bins.start_us - shift, bins.end_us - shift)
        camera.append(_speed(bins.omega[known])[:, 0])
        gyro.append(_speed(rate[known])[:, 0])
    both = np.stack([np.concatenate(camera), np.concatenate(gyro)])
    return float(np.asarray(np.corrcoef(both))[0, 1]) if (both.std(axis=1) > 0).all() else 0.0


def _speed(rate: Array) -> Array:
    """(n, 3) to (n, 1)."""
    return np.sqrt((rate**2).sum(axis=1, keepdims=True))
