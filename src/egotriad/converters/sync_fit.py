"""Fine synchronisation: offset and drift from every frame pair, by weighted least squares.

The camera's mean angular velocity between two frames is modelled as A w(t - offset(t)) + c: w is
the gyroscope's mean over the same stretch, A a free 3x3 matrix (mounting, focal length), c the
gyroscope's bias as the camera would see it, and offset(t) = a + b (t - middle) with an a for every
clock segment and one b, since an oscillator stays the same when its counter steps back.

A and c follow linearly from the rest and are eliminated (variable projection: Golub and Pereyra
1973). a and b take Gauss-Newton steps; the model's derivative along time is the gyroscope itself.
Pairs weigh by the tracker's own uncertainty, by what a rotation alone leaves open, and by Tukey's
biweight. Intervals are cluster-robust (Liang and Zeger 1986): residuals within two seconds may be
alike, as those of a step or of a passer-by are, and count as one. They use the curvature of the
robust cost (Huber 1981), and Student's t with as many degrees of freedom as there are evenly
informed clusters, less one (in the spirit of Bell and McCaffrey 2002).

(The offset as one more unknown of least squares between camera and gyroscope: Ovren and Forssen,
Gyroscope-based video stabilisation with auto-calibration, ICRA 2015.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from egotriad.converters.sync_gyro import GyroSegment
from egotriad.converters.video_rotation import CameraRotation

__all__ = ["Fit", "fit_offsets"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]

MODEL_SIGMA, MODEL_SHARE = 0.02, 0.03
"""What a rotation alone cannot explain, in rad/s and as a share of the speed, beside the tracker's
own uncertainty: translation, blur and a rolling shutter grow with the motion."""
BIWEIGHT = 4.7
CHI2_MEDIAN = 2.366
"""Of three degrees of freedom."""
ITERATIONS = 30
REWEIGHTED = 5
"""Iterations after which the weights have settled and convergence is believed."""
CONVERGED_US = 0.5
LONGEST_STEP_US = 50_000.0
LEAST_FREE = 0.25
SYSTEMATIC_US = 100.0
"""What no amount of motion averages out (codec, blur, interpolation); seen in simulated recordings
whose intervals would be narrower."""
CLUSTER_US = 2_000_000
USUAL_DRIFT_PPM = 200.0
"""Standard deviation of what a drift is before anything is measured: quartz against quartz."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fit:
    """Offsets of clock segments and what they rest on. Intervals are half widths at 95 %.

    Attributes:
        offset_us: float64 (s,), per segment, at `middle_us`, added to IMU time.
        interval_us: float64 (s,).
        informed: float64 (s,), how many stretches of 2 s with motion each rests on.
        middle_us: float64 (s,), on the video's clock, middle of what was compared.
        drift_ppm: growth of the offset along video time.
        drift_interval_ppm: of it.
        linear_map: float64 (3, 3), takes gyroscope to camera axes, focal length included.
        gyro_spread: float64 (3, 3), weighted covariance of the gyroscope's rates, (rad/s)^2.
        correlation: multiple correlation of camera and mapped gyroscope, robustly weighted.
        piece: (n,), segment of each frame pair used.
        start_us, end_us: float64 (n,), times of its frames.
        observed, predicted: float64 (n, 3), the camera's rotation and the model's, rad/s.
        certainty: float64 (n,), one over the expected variance of a residual; weight: the same with
            outliers taken down.
        along: float64 (n, 3), how the prediction changes with the offset, rad/s per us.
    """

    offset_us: Array
    interval_us: Array
    informed: Array
    middle_us: Array
    drift_ppm: float
    drift_interval_ppm: float
    linear_map: Array
    gyro_spread: Array
    correlation: float
    piece: Index
    start_us: Array
    end_us: Array
    observed: Array
    predicted: Array
    certainty: Array
    weight: Array
    along: Array

    @property
    def time_us(self) -> Array:
        """Middle of every frame pair used, (n,)."""
        return (self.start_us + self.end_us) / 2

    def offset_at(self, piece: int, t_us: Array) -> Array:
        """Offset of a segment at times on the video's clock, float64 microseconds."""
        return self.offset_us[piece] + 1e-6 * self.drift_ppm * (t_us - self.middle_us[piece])


def fit_offsets(
    rotation: CameraRotation,
    usable: NDArray[np.bool_],
    pieces: Sequence[GyroSegment],
    coarse_us: Sequence[float],
) -> Fit:
    """Refines coarse offsets, good to about 0.1 s, to a small part of a sample.

    Args:
        rotation: of the camera.
        usable: bool (n,), frame pairs to use.
        pieces: clock segments that overlap the video.
        coarse_us: coarse offset of each.
    """
    problem = _Problem(rotation, usable, pieces, np.array(coarse_us))
    return problem.report(problem.solve())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Rows:
    """Frame pairs that the gyroscope covers, each with the segment that does."""

    pair: Index  # (n,) among the usable ones
    piece: Index  # (n,)
    rate: Array  # (n, 3) the gyroscope's mean over the pair
    change: Array  # (n, 3) how that grows along time, rad/s^2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _State:
    """The problem linearised about a point; p unknowns: s offsets in us, then the drift in ppm.

    What is usual of a drift enters as one more observation, of `prior` weight.
    """

    unknown: Array  # (p,)
    rows: _Rows
    predicted: Array  # (n, 3)
    residual: Array  # (n, 3)
    along: Array  # (n, 3)
    jacobian: Array  # (n, 3, p) of the prediction, what A and c can absorb taken out
    weight: Array  # (n,)
    bend: Array  # (n,) how the weight falls as the residual grows, for the curvature
    prior: float
    linear_map: Array  # (3, 3)
    gyro_spread: Array  # (3, 3)

    def normal(self) -> Array:
        """Normal equations (p, p)."""
        normal = np.einsum("n,ndp,ndq->pq", self.weight, self.jacobian, self.jacobian)
        normal[-1, -1] += self.prior
        return normal

    def right(self) -> Array:
        """Their right-hand side (p,)."""
        right = self.gradient().sum(axis=0)
        right[-1] -= self.prior * self.unknown[-1]
        return right

    def curvature(self) -> Array:
        """Of the robust cost, (p, p): below `normal`, for outliers pull less the further off."""
        moment = np.einsum("ndp,nd->np", self.jacobian, self.residual)
        return self.normal() + (self.bend[:, None] * moment).T @ moment

    def gradient(self) -> Array:
        """Each row's share (n, p) of the right-hand side."""
        return np.einsum("n,ndp,nd->np", self.weight, self.jacobian, self.residual)


class _Problem:
    """Frame pairs against clock segments."""

    def __init__(
        self,
        rotation: CameraRotation,
        usable: NDArray[np.bool_],
        pieces: Sequence[GyroSegment],
        coarse_us: Array,
    ) -> None:
        self.start_us = rotation.start_us[usable].astype(np.float64)
        self.end_us = rotation.end_us[usable].astype(np.float64)
        self.time_us = (self.start_us + self.end_us) / 2
        self.observed = rotation.omega[usable]
        self.certainty = 1.0 / (
            rotation.sigma[usable] ** 2
            + MODEL_SIGMA**2
            + MODEL_SHARE**2 * (self.observed**2).sum(axis=1)
        )
        self.pieces = pieces
        self.coarse_us = coarse_us
        # An offset in the middle of its own rows is hardly tied to the drift.
        self.middle_us = np.zeros(len(pieces))
        rows = self._rows(np.append(coarse_us, 0.0))
        for k in range(len(pieces)):
            self.middle_us[k] = self.time_us[rows.pair[rows.piece == k]].mean()

    def solve(self) -> _State:
        """Gauss-Newton with reweighting from the coarse offsets."""
        unknown = np.append(self.coarse_us, 0.0)
        scale2 = np.inf
        for iteration in range(ITERATIONS):
            state = self._linearise(unknown, scale2)
            step = np.linalg.lstsq(state.normal(), state.right())[0]
            largest = float(np.abs(step[:-1]).max())
            unknown = unknown + step * min(1.0, LONGEST_STEP_US / max(largest, 1e-9))
            squared = (state.residual**2).sum(axis=1) * self.certainty[state.rows.pair]
            scale2 = float(np.median(squared)) / CHI2_MEDIAN
            if iteration >= REWEIGHTED and largest < CONVERGED_US:
                break
        return self._linearise(unknown, scale2)

    def _rows(self, unknown: Array) -> _Rows:
        pairs, numbers, rates, changes = [], [], [], []
        for k, piece in enumerate(self.pieces):
            shift = unknown[k] + 1e-6 * unknown[-1] * (self.time_us - self.middle_us[k])
            start, end = self.start_us - shift, self.end_us - shift
            rate, known = piece.mean_rate(start, end)
            pairs.append(np.flatnonzero(known))
            numbers.append(np.full(len(pairs[-1]), k))
            rates.append(rate[known])
            changes.append(piece.rate_change(start[known], end[known]))
        return _Rows(
            pair=np.concatenate(pairs),
            piece=np.concatenate(numbers),
            rate=np.concatenate(rates),
            change=np.concatenate(changes),
        )

    def _linearise(self, unknown: Array, scale2: float) -> _State:
        rows = self._rows(unknown)
        observed, certainty = self.observed[rows.pair], self.certainty[rows.pair]
        weight, bend, prior = certainty, np.zeros(len(certainty)), USUAL_DRIFT_PPM**-2
        predicted, linear_map, spread = _explain(observed, rows.rate, weight)
        if np.isfinite(scale2):
            squared = ((observed - predicted) ** 2).sum(axis=1) * certainty
            share = np.clip(1 - squared / (BIWEIGHT**2 * scale2), 0, 1)
            weight = certainty * share**2
            bend = -4 * certainty**2 * share / (BIWEIGHT**2 * scale2)
            prior *= scale2
            predicted, linear_map, spread = _explain(observed, rows.rate, weight)
        along = -1e-6 * rows.change @ linear_map.T
        jacobian = np.zeros((len(along), 3, len(unknown)))
        jacobian[np.arange(len(along)), :, rows.piece] = along
        since_s = (self.time_us[rows.pair] - self.middle_us[rows.piece]) / 1e6
        jacobian[:, :, -1] = along * since_s[:, None]
        for k in range(len(unknown)):
            jacobian[:, :, k] -= _explain(jacobian[:, :, k], rows.rate, weight)[0]
        return _State(
            unknown=unknown,
            rows=rows,
            predicted=predicted,
            residual=observed - predicted,
            along=along,
            jacobian=jacobian,
            weight=weight,
            bend=bend,
            prior=prior,
            linear_map=linear_map,
            gyro_spread=spread,
        )

    def report(self, state: _State) -> Fit:
        """A solution with its intervals."""
        rows = state.rows
        half, informed = self._half_widths(state)
        observed = self.observed[rows.pair]
        total = state.weight @ ((observed - _mean(observed, state.weight)) ** 2).sum(axis=1)
        left = state.weight @ (state.residual**2).sum(axis=1)
        return Fit(
            offset_us=state.unknown[:-1],
            interval_us=half[:-1],
            informed=informed[:-1],
            middle_us=self.middle_us,
            drift_ppm=float(state.unknown[-1]),
            drift_interval_ppm=float(half[-1]),
            linear_map=state.linear_map,
            gyro_spread=state.gyro_spread,
            correlation=float(np.sqrt(max(1 - left / total, 0.0))) if total > 0 else 0.0,
            piece=rows.piece,
            start_us=self.start_us[rows.pair],
            end_us=self.end_us[rows.pair],
            observed=observed,
            predicted=state.predicted,
            certainty=self.certainty[rows.pair],
            weight=state.weight,
            along=state.along,
        )

    def _half_widths(self, state: _State) -> tuple[Array, Array]:
        """Half widths of 95 % intervals (p,), and how many clusters inform each unknown.

        One turn of the head informs one cluster, however long the recording lasts: clusters count
        by the motion in them, unequal ones as fewer equal ones.
        """
        time_us = self.time_us[state.rows.pair]
        cluster = np.unique(time_us // CLUSTER_US, return_inverse=True)[1]
        shape = (int(cluster.max()) + 1, len(state.unknown))
        pull, motion = np.zeros(shape), np.zeros(shape)
        np.add.at(pull, cluster, state.gradient())
        centred = state.predicted - _mean(state.predicted, state.weight)
        power = state.weight * (centred**2).sum(axis=1)
        np.add.at(motion, (cluster, state.rows.piece), power)
        since_s = (time_us - self.middle_us[state.rows.piece]) / 1e6
        motion[:, -1] = np.bincount(cluster, power * since_s**2)
        even = motion.sum(axis=0) ** 2 / np.maximum((motion**2).sum(axis=0), 1e-300)
        free = np.maximum(even - 1, LEAST_FREE)
        inverse = np.linalg.pinv(state.curvature())
        scatter = pull.T @ pull
        scatter[-1, -1] += (state.prior * USUAL_DRIFT_PPM) ** 2
        variance = np.diag(inverse @ scatter @ inverse) * (1 + 1 / free)
        half = stdtrit(free, 0.975) * np.sqrt(np.maximum(variance, 0.0))
        floor = np.full(len(half), SYSTEMATIC_US)
        floor[-1] /= max(float(np.ptp(time_us)) / 2e6, 1.0)
        return np.hypot(half, floor), even


def _explain(target: Array, rate: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Weighted best A rate + c for a target (n, 3): it, A, and the covariance of the rates."""
    centre_rate, centre_target = _mean(rate, weight), _mean(target, weight)
    rate, target = rate - centre_rate, target - centre_target
    weighted = rate * weight[:, None]
    inside = weighted.T @ rate
    ridge = max(1e-9 * float(np.trace(inside)), 1e-300) * np.eye(3)
    linear_map = np.asarray(np.linalg.solve(inside + ridge, weighted.T @ target).T, np.float64)
    spread = inside / max(float(weight.sum()), 1e-300)
    return rate @ linear_map.T + centre_target, linear_map, spread


def _mean(values: Array, weight: Array) -> Array:
    return weight @ values / max(float(weight.sum()), 1e-300)
