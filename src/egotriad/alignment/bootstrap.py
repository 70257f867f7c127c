"""Percentile bootstrap over recordings: intervals for ratios of sums and their differences.

Clips of one recording are alike and rounds of one clip depend on each other, so whole recordings
are resampled, with replacement, and every ratio is a ratio of sums over the resampled recordings.
All arms of an evaluation share one set of draws, which makes their differences paired.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egotriad.manifests.errors import EvaluationError, UsageError

__all__ = ["Interval", "difference_interval", "ratio_interval", "resample"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def resample(recordings: int, *, draws: int = 2000, seed: int = 0) -> NDArray[np.int64]:
    """How often each recording enters each draw: int64 (draws, recordings), rows sum to recordings.

    Raises:
        EvaluationError: fewer than two recordings, whose spread cannot be seen.
        UsageError: fewer than 100 draws, too few for a 95 % interval.
    """
    if recordings < 2:
        raise EvaluationError(
            f"an interval over recordings needs at least 2 of them, got {recordings}; "
            "hold out more recordings"
        )
    if draws < 100:
        raise UsageError(f"bootstrap draws: got {draws}, need >= 100")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xB007]))
    return rng.multinomial(recordings, np.full(recordings, 1 / recordings), size=draws)


def ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, weights: NDArray[np.int64], level: float = 0.95
) -> Interval:
    """Interval of sum(numerators) / sum(denominators).

    Args:
        numerators: (R,) one sum per recording.
        denominators: (R,) one sum per recording, > 0 in total in every draw.
        weights: (draws, R) from `resample`.
        level: coverage.

    Raises:
        EvaluationError: when a draw has nothing in its denominator.
    """
    value, samples = _ratios(numerators, denominators, weights)
    return _percentiles(value, samples, level)


def difference_interval(
    a: tuple[ArrayLike, ArrayLike],
    b: tuple[ArrayLike, ArrayLike],
    weights: NDArray[np.int64],
    level: float = 0.95,
) -> Interval:
    """Interval of ratio(a) - ratio(b), both over the same recordings in every draw (paired).

    Args:
        a: (numerators, denominators) of one arm, (R,) each.
        b: the same of the other arm, recordings in the same order.
        weights: (draws, R) from `resample`.
        level: coverage.

    Raises:
        EvaluationError: when a draw has nothing in a denominator.
    """
    value_a, samples_a = _ratios(*a, weights)
    value_b, samples_b = _ratios(*b, weights)
    return _percentiles(value_a - value_b, samples_a - samples_b, level)


def _ratios(
    numerators: ArrayLike, denominators: ArrayLike, weights: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    top = np.asarray(numerators, np.float64)
    bottom = np.asarray(denominators, np.float64)
    resampled = weights @ bottom  # (draws,)
    if not (resampled > 0).all():
        raise EvaluationError(
            "a ratio has an empty denominator in some bootstrap draws: "
            f"{int((bottom <= 0).sum())} of {bottom.size} recordings count nothing; hold out more"
        )
    return float(top.sum() / bottom.sum()), (weights @ top) / resampled


def _percentiles(value: float, samples: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
