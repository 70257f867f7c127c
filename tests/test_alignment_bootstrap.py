import numpy as np
import pytest

from egotriad.alignment.bootstrap import (
    Interval,
    difference_interval,
    ratio_interval,
    resample,
)
from egotriad.manifests.errors import EvaluationError, UsageError


def test_every_draw_resamples_as_many_recordings_as_there_are() -> None:
    weights = resample(7, draws=500, seed=1)
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights.min(), weights.mean()) == (0, 1.0)


def test_the_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    assert np.array_equal(resample(4, seed=3), resample(4, seed=3))
    assert not np.array_equal(resample(4, seed=3), resample(4, seed=4))


def test_recordings_with_equal_ratios_leave_no_doubt() -> None:
    interval = ratio_interval([2, 4, 6], [1, 2, 3], resample(3))
    assert interval == Interval(2.0, 2.0, 2.0)


def test_two_recordings_give_the_quantiles_known_in_closed_form() -> None:
    # Draws are (2,0), (1,1), (0,2) with probabilities 1/4, 1/2, 1/4: the extremes are the ends.
    interval = ratio_interval([1, 3], [1, 1], resample(2))
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 3.0)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    weights = resample(40, draws=400)
    hits = 0
    for _ in range(400):
        rounds = rng.integers(20, 40, 40)
        emitted = rounds * (3.0 + 0.5 * rng.standard_normal(40))
        interval = ratio_interval(emitted, rounds, weights)
        hits += interval.low <= 3.0 <= interval.high
    assert 0.90 <= hits / 400 <= 0.98


def test_a_paired_difference_is_narrower_than_its_two_arms() -> None:
    rng = np.random.default_rng(1)
    rounds = np.full(30, 25.0)
    level = rng.normal(3.0, 0.5, 30)
    a, b = rounds * (level + 0.4), rounds * level
    weights = resample(30)
    gain = difference_interval((a, rounds), (b, rounds), weights)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.4, 0.4, 0.4))
    assert ratio_interval(a, rounds, weights).high - ratio_interval(a, rounds, weights).low > 0.2


def test_an_interval_prints_as_value_and_ends() -> None:
    assert str(Interval(3.456, 3.1, 3.789)) == "3.46 [3.10, 3.79]"


def test_one_recording_few_draws_and_empty_denominators_are_refused() -> None:
    with pytest.raises(EvaluationError, match="at least 2 of them, got 1"):
        resample(1)
    with pytest.raises(UsageError, match="need >= 100"):
        resample(5, draws=99)
    with pytest.raises(EvaluationError, match="1 of 2 recordings count nothing"):
        ratio_interval([1, 0], [1, 0], resample(2))
