"""Noise of a sensor at rest by its Allan deviation, in the terms of IEEE Std 952.

The variance over averaging times tau is a sum of three known shapes (IEEE Std 952-2020, annex C):

    sigma^2(tau) = N^2 / tau + (2 ln 2 / pi) B^2 + K^2 tau / 3

N is the random walk of the integral (angle random walk of a gyroscope, velocity random walk of an
accelerometer), B the bias instability, K the rate (acceleration) random walk.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from egotriad.manifests.errors import UsageError

__all__ = ["NoiseTerms", "allan_deviation", "noise_terms"]

LONGEST_SHARE = 1 / 9
"""Averaging times up to a ninth of the record: beyond, an octave has too few independent pairs."""
FLICKER = 2 * math.log(2) / math.pi


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseTerms:
    """Noise of one axis; u is the sensor's unit (rad/s or m/s^2).

    Attributes:
        random_walk: N, u * sqrt(s): angle random walk in rad/sqrt(s), velocity random walk in
            m/s/sqrt(s); also the white noise's density in u/sqrt(Hz).
        bias_instability: B, u. An upper bound where the record is too short to show the floor.
        rate_random_walk: K, u / sqrt(s).
        longest_tau_s: up to which averaging time was seen.
    """

    random_walk: float
    bias_instability: float
    rate_random_walk: float
    longest_tau_s: float


def allan_deviation(
    values: NDArray[np.float64], rate_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Overlapping Allan deviation at averaging times an octave apart.

    sigma^2(m tau0) = sum over k of (x[k+2m] - 2 x[k+m] + x[k])^2 / (2 (m tau0)^2 (N - 2m)), with x
    the integral of the values. (IEEE Std 1139-2008, annex; Riley, Handbook of Frequency Stability
    Analysis, NIST SP 1065, 5.2.4.)

    Args:
        values: float64 (N,), N >= 9, of a sensor at rest, without gaps.
        rate_hz: their rate.

    Returns:
        averaging times in s and deviations in the unit of the values, both float64 (K,).

    Raises:
        UsageError: fewer than 9 values.
    """
    if len(values) < 9:
        raise UsageError(f"Allan deviation: got {len(values)} values, need at least 9")
    # About the mean, so that the integral keeps its digits.
    x = np.append(0.0, np.cumsum(values - values.mean())) / rate_hz
    longest = max(int(len(values) * LONGEST_SHARE), 1)
    m = 2 ** np.arange(int(math.log2(longest)) + 1)
    tau_s = m / rate_hz
    variances = [
        float(np.mean((x[2 * n :] - 2 * x[n:-n] + x[: -2 * n]) ** 2)) / (2 * tau**2)
        for n, tau in zip(m.tolist(), tau_s.tolist(), strict=True)
    ]
    return tau_s, np.sqrt(variances)


def noise_terms(values: NDArray[np.float64], rate_hz: float) -> NoiseTerms:
    """Fits N, B and K, none below zero, to the Allan variance of one axis at rest.

    Relative errors are minimised, each averaging time weighted by the root of the number of
    independent averages it has; so terms that the record does not show come out as zero, not as
    noise of either sign.

    Raises:
        UsageError: fewer than 9 values.
    """
    tau_s, deviation = allan_deviation(values, rate_hz)
    longest = float(tau_s[-1])
    if not (deviation > 0).all():
        return NoiseTerms(
            random_walk=0.0, bias_instability=0.0, rate_random_walk=0.0, longest_tau_s=longest
        )
    variance = deviation**2
    weight = np.sqrt(len(values) / (tau_s * rate_hz))
    shapes = np.stack([1 / tau_s, np.full_like(tau_s, FLICKER), tau_s / 3], axis=1)
    squares, _ = nnls(shapes / variance[:, None] * weight[:, None], weight)
    walk, flicker, rate_walk = np.sqrt(squares).tolist()
    return NoiseTerms(
        random_walk=walk,
        bias_instability=flicker,
        rate_random_walk=rate_walk,
        longest_tau_s=longest,
    )
