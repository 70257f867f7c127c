"""Random numbers keyed by purpose: the right distributions, and nothing that repeats."""

import numpy as np
import pytest
from scipy import stats

from egotriad.converters.counter_rng import (
    fill_normals,
    gamma_quantiles,
    key_of,
    mix,
    normal_quantiles,
    uniform,
    uniforms,
)

KEY = key_of(3, "walk_01", "test")


def test_a_key_depends_on_seed_recording_and_purpose() -> None:
    keys = {
        int(key_of(seed, recording, purpose))
        for seed in (0, 1)
        for recording in ("", "a", "b")
        for purpose in ("leak", "shot noise")
    }
    assert len(keys) == 12
    assert key_of(1, "a", "leak") == key_of(1, "a", "leak")


def test_draws_are_those_of_splitmix64() -> None:
    # The reference generator (Vigna, splitmix64.c) from state 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [int(mix(np.uint64(1234567), k)) for k in range(3)] == expected


def test_uniform_draws_are_uniform_inside_the_open_interval_and_independent() -> None:
    draws = uniforms(KEY, 100_000)
    assert stats.kstest(draws, "uniform").pvalue > 1e-3
    assert 0 < draws.min() < 1e-4 < 1 - 1e-4 < draws.max() < 1
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.015
    other = uniforms(key_of(4, "walk_01", "test"), 100_000)
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.015


def test_a_draw_is_a_function_of_its_counter_alone() -> None:
    draws = uniforms(KEY, 50)
    assert [uniform(KEY, k) for k in (49, 0, 7)] == [draws[49], draws[0], draws[7]]
    np.testing.assert_array_equal(uniforms(KEY, 10), draws[:10])


def test_counters_beyond_32_bits_count() -> None:
    counters = (1, 1 << 32, (1 << 32) + 1, 1 << 62)
    assert len({int(mix(KEY, counter)) for counter in counters}) == 4


def test_normal_draws_are_normal() -> None:
    draws = np.empty(200_000, np.float32)
    fill_normals(KEY, normal_quantiles(), draws)
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    assert draws.mean() == pytest.approx(0, abs=0.01)
    assert draws.std() == pytest.approx(1, abs=0.01)
    assert normal_quantiles().size == 65_536
    assert normal_quantiles().std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("spread", [0.05, 0.1, 0.5, 1.0])
def test_gamma_quantiles_have_mean_one_and_the_spread_asked_for(spread: float) -> None:
    values = gamma_quantiles(spread, 4096)
    assert values.size == 4096
    assert (np.diff(values) > 0).all()
    assert values.mean() == pytest.approx(1, abs=1e-12)
    assert values.std() == pytest.approx(spread, rel=0.01)
    fits = stats.kstest(values, "gamma", args=(spread**-2, 0, spread**2))
    assert fits.statistic < 2e-3


def test_no_spread_is_as_many_ones() -> None:
    np.testing.assert_array_equal(gamma_quantiles(0.0, 16), np.ones(16))
