"""Event statistics against streams whose numbers are known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from egotriad.converters.event_noise import hot_pixels, is_supported, quiet_rate_hz
from egotriad.converters.event_rhythm import layering, vector_strength
from egotriad.converters.event_stats import (
    EventStats,
    event_stats,
    interval_distance,
    interval_quantiles,
    merged,
)
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

SECOND = Span(0, 1_000_000)


def events_of(rows: list[tuple[int, int, int, bool]], size_wh: tuple[int, int]) -> Events:
    """Events of (t_us, x, y, p)."""
    t_us, x, y, p = zip(*rows, strict=True)
    return Events(
        t_us=np.array(t_us, np.int64),
        x=np.array(x, np.uint16),
        y=np.array(y, np.uint16),
        p=np.array(p, np.bool_),
        size_wh=size_wh,
    )


def poisson(rate_hz: float, size_wh: tuple[int, int], seed: int = 0) -> Events:
    """One second of pixels that fire independently."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_hz * size_wh[0] * size_wh[1])
    return Events(
        t_us=np.sort(rng.integers(0, 1_000_000, count)),
        x=rng.integers(0, size_wh[0], count).astype(np.uint16),
        y=rng.integers(0, size_wh[1], count).astype(np.uint16),
        p=rng.random(count) < 0.5,
        size_wh=size_wh,
    )


def steady(interval_us: int, size_wh: tuple[int, int] = (4, 4)) -> EventStats:
    """One pixel that fires ON again and again for a second."""
    rows = [(t, 1, 1, True) for t in range(0, 1_000_000, interval_us)]
    return event_stats(events_of(rows, size_wh), [SECOND])


def test_counts_and_shares_of_a_stream_written_by_hand() -> None:
    rows = [
        (0, 0, 0, True),
        (100, 0, 0, True),
        (300, 0, 0, False),
        (20_000, 5, 5, False),
        (900_000, 9, 9, True),  # outside the span
    ]
    stats = event_stats(events_of(rows, (10, 10)), [Span(0, 500_000)])
    assert (stats.events, stats.on, stats.isolated) == (4, 2, 4)
    assert stats.rate_hz == pytest.approx(4 / (100 * 0.5))
    assert stats.active_share == pytest.approx(0.02)
    assert stats.active_rate_hz == pytest.approx(4 / (2 * 0.5))
    assert stats.on_share == 0.5
    assert stats.alternating_share == 0.5  # 100 us to the same polarity, 200 us to the other
    assert stats.busiest_share == 0.75  # one pixel of a hundred
    assert stats.intervals[0, 40] == 1
    assert stats.intervals[1, 46] == 1
    assert stats.intervals.sum() == 2


def test_no_interval_reaches_from_one_span_into_another() -> None:
    rows = [(10, 0, 0, True), (1_010, 0, 0, True)]
    whole, halves = Span(0, 2_000), [Span(0, 1_000), Span(1_000, 1_000)]
    events = events_of(rows, (10, 10))
    assert event_stats(events, [whole]).intervals.sum() == 1
    assert event_stats(events, halves).intervals.sum() == 0


def test_statistics_of_spans_add_up() -> None:
    events = poisson(3.0, (20, 20))
    spans = [Span(0, 250_000), Span(400_000, 100_000)]
    together = event_stats(events, spans)
    parts = merged([event_stats(events, [span]) for span in spans])
    assert together.rate_hz == parts.rate_hz
    assert together.isolated == parts.isolated
    assert (together.intervals == parts.intervals).all()


def test_no_events_give_shares_that_are_no_numbers() -> None:
    for stats in (event_stats(Events.empty((8, 8)), [SECOND]), merged([])):
        assert stats.events == 0
        assert np.isnan(stats.on_share)
        assert np.isnan(interval_quantiles(stats, np.array([0.5]))).all()
    assert event_stats(Events.empty((8, 8)), [SECOND]).rate_hz == 0


def test_intervals_of_poisson_pixels_have_the_quantiles_of_an_exponential() -> None:
    stats = event_stats(poisson(400.0, (16, 16)), [SECOND])
    shares = np.array([0.1, 0.5, 0.9])
    expected_us = -np.log(1 - shares) / 400 * 1e6
    assert interval_quantiles(stats, shares) == pytest.approx(expected_us, rel=0.03)


def test_intervals_twice_as_long_are_a_factor_of_two_away_and_of_the_same_shape() -> None:
    slow, fast = steady(2_000), steady(1_000)
    assert interval_distance(slow, fast) == pytest.approx(np.log10(2), abs=0.05)
    assert interval_distance(slow, fast, same_median=True) == pytest.approx(0, abs=0.01)
    assert interval_distance(slow, slow) == 0


def test_distance_is_the_mean_factor_in_decades() -> None:
    # Half of the intervals are ten times longer than in the other stream.
    short, long = steady(1_000).intervals, steady(10_000).intervals
    mixed = EventStats(
        pixel_s=1.0,
        active_pixel_s=1.0,
        events=0,
        on=0,
        isolated=0,
        busiest=0,
        intervals=short // short.max() + long // long.max(),
    )
    assert interval_distance(mixed, steady(1_000)) == pytest.approx(0.5, abs=0.02)


def test_an_event_is_supported_by_a_neighbour_before_or_after_but_not_by_its_own_pixel() -> None:
    rows = [
        (0, 1, 1, True),
        (900, 2, 2, False),  # diagonal neighbour: both are supported
        (10_000, 5, 5, True),
        (10_100, 5, 5, True),  # same pixel: neither is
        (30_000, 0, 5, True),
        (31_001, 0, 6, True),  # neighbour, but a microsecond too late
        (50_000, 7, 0, True),
        (50_000, 0, 1, True),  # the other edge of the sensor
    ]
    supported = is_supported(events_of(rows, (8, 8)), within_us=1_000)
    assert supported.tolist() == [True, True, False, False, False, False, False, False]


def test_support_is_the_same_when_time_runs_backwards() -> None:
    events = poisson(20.0, (30, 30))
    mirrored = Events(
        t_us=-events.t_us[::-1],
        x=events.x[::-1],
        y=events.y[::-1],
        p=events.p[::-1],
        size_wh=events.size_wh,
    )
    assert (is_supported(mirrored)[::-1] == is_supported(events)).all()


def test_share_of_isolated_poisson_events_is_that_of_eight_silent_neighbours() -> None:
    stats = event_stats(poisson(10.0, (200, 200)), [SECOND])
    expected = np.exp(-8 * 10.0 * 2 * 0.005)  # eight pixels, 5 ms before and after
    assert stats.isolated_share == pytest.approx(expected, rel=0.02)


def test_hot_is_a_pixel_that_fires_without_its_neighbours() -> None:
    counts = np.zeros((20, 20), np.int32)
    counts[3, 3] = 50  # alone
    counts[9, :] = 50  # an edge
    counts[15, 15] = 9  # too few to tell
    counts[0, 0], counts[0, 1] = 60, 12  # loud, but a neighbour has a fifth of it
    assert np.argwhere(hot_pixels(counts)).tolist() == [[3, 3]]


def test_quiet_rate_is_that_of_the_noise_beside_a_busy_region_and_a_hot_pixel() -> None:
    noise, busy = poisson(5.0, (320, 320)), poisson(80.0, (320, 160), seed=1)
    hot = np.arange(500, 1_000_000, 1_000)
    everything = [
        (noise.t_us, noise.x, noise.y),
        (busy.t_us, busy.x, busy.y),
        (hot, np.full(len(hot), 7), np.full(len(hot), 300)),
    ]
    t_us, x, y = (np.concatenate(parts) for parts in zip(*everything, strict=True))
    order = np.argsort(t_us, kind="stable")
    events = Events(
        t_us=t_us[order],
        x=x[order].astype(np.uint16),
        y=y[order].astype(np.uint16),
        p=np.ones(len(order), np.bool_),
        size_wh=(320, 320),
    )
    # 40 tiles of 256 pixels: 51,200 events expected, with a standard deviation of 0.4 %.
    assert quiet_rate_hz(events, SECOND) == pytest.approx(5.0, rel=0.02)


def test_quiet_rate_is_not_lowered_by_choosing_quiet_tiles() -> None:
    rates = [quiet_rate_hz(poisson(0.5, (160, 160), seed), SECOND) for seed in range(20)]
    # 20 draws of 1,280 expected events.
    assert np.mean(rates) == pytest.approx(0.5, rel=0.025)


def test_quiet_rate_needs_ten_tiles() -> None:
    assert np.isnan(quiet_rate_hz(Events.empty((48, 48)), SECOND))


def times(period_us: float, share: float, seed: int = 0) -> NDArray[np.int64]:
    """100,000 events of 100 periods, evenly spread over the first part of each."""
    rng = np.random.default_rng(seed)
    within = rng.integers(0, 100, 100_000) + share * rng.random(100_000)
    return np.rint(np.sort(within) * period_us).astype(np.int64)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_vector_strength_of_a_window_is_a_sinc(share: float) -> None:
    strength = vector_strength(times(1e6 / 30, share), np.array([30.0, 60.0]))
    assert strength == pytest.approx(np.abs(np.sinc(share * np.array([1, 2]))), abs=0.01)


def test_layering_finds_pulses_within_the_frame_interval() -> None:
    rng = np.random.default_rng(1)
    slots = np.sort(rng.integers(0, 4 * 90, 50_000))  # four slots in each of 90 frames
    pulsing = np.rint(slots * 1e6 / 120).astype(np.int64)
    assert vector_strength(pulsing, np.array([30.0]))[0] < 0.02
    assert layering(pulsing, 30.0) == pytest.approx(1.0, abs=0.01)
    assert layering(times(1e6 / 30, 1.0), 30.0) < 0.02


def test_rhythm_does_not_depend_on_where_time_starts() -> None:
    t_us = times(1e6 / 30, 0.3)
    late = t_us + 1_600_000_000_000_000
    rates = np.array([30.0, 31.0])
    assert vector_strength(late, rates) == pytest.approx(vector_strength(t_us, rates), abs=1e-9)


def test_layering_of_no_events_is_no_number_and_needs_a_rate() -> None:
    assert np.isnan(layering(np.empty(0, np.int64), 30.0))
    with pytest.raises(UsageError, match=r"0 Hz and 10 harmonics, need both above zero"):
        layering(np.array([1, 2]), 0)


@pytest.mark.parametrize(
    "look", [is_supported, lambda events: event_stats(events, [SECOND])], ids=["near", "stats"]
)
def test_events_out_of_order_or_outside_are_refused(look: Callable[[Events], object]) -> None:
    with pytest.raises(UsageError, match="go back in time"):
        look(events_of([(5, 0, 0, True), (4, 0, 0, True)], (4, 4)))
    with pytest.raises(UsageError, match="sensor of 4x4"):
        look(events_of([(5, 4, 0, True)], (4, 4)))
