"""A gyroscope as synchronisation needs it: mean angular velocity over any stretch of its clock."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests import SensorStream

__all__ = ["GyroSegment", "clock_segments", "cut"]

Array = NDArray[np.float64]

LONGEST_GAP_US = 50_000
"""Nothing is said about stretches with longer holes between samples."""
FASTEST_RAD_S = 1e4
"""Gyroscopes end at 70 rad/s; a larger number is damage, or another unit, and no rate."""
CLOCK_GAP_US = 100_000
SLOPE_US = 20_000.0
"""Heads turn back and forth up to about 5 times a second."""
JITTER_US = 20_000
"""Stamps that fall by less are jitter (blocks timed one by one); the clock is the same."""


@dataclass(frozen=True, slots=True, eq=False)
class GyroSegment:
    """Samples between two back-steps of the clock, with their running integral.

    Attributes:
        number: which of the recording's clock segments this is, from 0.
        t_us: float64 (n,), stamps that do not fall.
        omega: float64 (n, 3), rad/s.
        angle: float64 (n, 3), its integral from the first sample, rad (trapezoids).
        holes: int64 (n,), number of long gaps up to each sample.
    """

    number: int
    t_us: Array
    omega: Array
    angle: Array
    holes: NDArray[np.int64]

    @property
    def start_us(self) -> float:
        """First stamp."""
        return float(self.t_us[0])

    @property
    def end_us(self) -> float:
        """Last stamp."""
        return float(self.t_us[-1])

    def mean_rate(self, start_us: Array, end_us: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Mean angular velocity (n, 3) over stretches, and where it is known (n,).

        Unknown (and then meaningless) before the first sample, after the last one, and across long
        gaps.
        """
        first, angle_first = self._at(start_us)
        last, angle_last = self._at(end_us)
        known = (start_us >= self.t_us[0]) & (end_us <= self.t_us[-1])
        known &= self.holes[np.maximum(first - 1, 0)] == self.holes[last]
        return (angle_last - angle_first) * (1e6 / (end_us - start_us))[:, None], known

    def rate_change(self, start_us: Array, end_us: Array) -> Array:
        """How the mean of a stretch grows when the stretch moves later, rad/s^2, (n, 3).

        Over a step that averages the samples' noise: noise would pass for motion.
        """
        early, _ = self.mean_rate(start_us - SLOPE_US, end_us - SLOPE_US)
        late, _ = self.mean_rate(start_us + SLOPE_US, end_us + SLOPE_US)
        return (late - early) * (1e6 / (2 * SLOPE_US))

    def _at(self, t_us: Array) -> tuple[NDArray[np.intp], Array]:
        """The sample each time lies before or at, and the angle there.

        The angle of a rate that is straight between samples: a rate that is held would be half a
        sample late or early, and differently so for every frame.
        """
        after = np.clip(np.searchsorted(self.t_us, t_us), 1, len(self.t_us) - 1)
        step_us = np.maximum(self.t_us[after] - self.t_us[after - 1], 1.0)
        since_s = (t_us - self.t_us[after - 1])[:, None] / 1e6
        rate, change = self.omega[after - 1], self.omega[after] - self.omega[after - 1]
        slope = change / (step_us[:, None] / 1e6)
        return after, self.angle[after - 1] + since_s * (rate + 0.5 * since_s * slope)


def clock_segments(
    gyro: SensorStream, *, shortest_us: int, at_gaps: bool = False
) -> list[GyroSegment]:
    """The pieces of `cut` that are long enough; samples that are no rate are dropped.

    Args:
        gyro: true time stamps, in the order of the file.
        shortest_us: least length of a piece.
        at_gaps: as in `cut`.
    """
    pieces = []
    for number, run in enumerate(cut(gyro, at_gaps=at_gaps)):
        t_us = np.maximum.accumulate(gyro.t_us[run].astype(np.float64))
        omega = gyro.values[:, run].T
        complete = (np.abs(omega) < FASTEST_RAD_S).all(axis=1)  # and so finite
        t_us, omega = t_us[complete], omega[complete]
        if len(t_us) < 2 or t_us[-1] - t_us[0] < shortest_us:
            continue
        step = np.diff(t_us)
        angle = np.zeros_like(omega)
        np.cumsum((omega[1:] + omega[:-1]) * (step / 2e6)[:, None], axis=0, out=angle[1:])
        holes = np.concatenate([[0], np.cumsum(step > LONGEST_GAP_US)])
        pieces.append(GyroSegment(number, t_us, omega, angle, holes))
    return pieces


def cut(stream: SensorStream, *, at_gaps: bool = False) -> list[slice]:
    """The pieces of a stream that each have one clock: between back-steps of more than jitter.

    Args:
        stream: true time stamps, in the order of the file.
        at_gaps: cut at long gaps too: a recorder that paused may have started another clock, and a
            back-step inside a gap does not show.
    """
    step = np.diff(stream.t_us)
    edges = step < -JITTER_US
    if at_gaps and len(step):
        edges |= step > max(CLOCK_GAP_US, 3.0 * float(np.median(step)))
    places = [0, *(np.flatnonzero(edges) + 1).tolist(), len(stream)]
    return [slice(start, stop) for start, stop in pairwise(places) if stop > start]
