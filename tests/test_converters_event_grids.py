"""Event grids: conservation, the published definitions event by event, real events."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters.event_grids import (
    count_image,
    event_histogram,
    rectified_voxel_grid,
    time_surface,
    voxel_grid,
)
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

SIZE_WH = (7, 5)


def make_events(rows: list[tuple[int, int, int, bool]], size_wh: tuple[int, int] = SIZE_WH):
    t, x, y, p = zip(*sorted(rows), strict=True) if rows else ((),) * 4
    return Events(
        t_us=np.array(t, np.int64),
        x=np.array(x, np.uint16),
        y=np.array(y, np.uint16),
        p=np.array(p, np.bool_),
        size_wh=size_wh,
    )


some_events = st.lists(
    st.tuples(
        st.integers(-5_000, 5_000),
        st.integers(0, SIZE_WH[0] - 1),
        st.integers(0, SIZE_WH[1] - 1),
        st.booleans(),
    ),
    max_size=40,
).map(make_events)


def tent(a: float) -> float:
    """The kernel k_b of Zhu et al. 2019, equation 3."""
    return max(0.0, 1.0 - abs(a))


def voxels_one_by_one(
    events: Events, x: np.ndarray, y: np.ndarray, start_us: int, extent_us: int, bins: int
) -> np.ndarray:
    """Equations 1-3 of Zhu et al. 2019 for every event and every cell around it."""
    width, height = events.size_wh
    grid = np.zeros((bins, height, width))
    for t, column, row, p in zip(events.t_us, x, y, events.p, strict=True):
        place = (bins - 1) * (int(t) - start_us) / extent_us if extent_us else 0.0
        for b, j, i in np.ndindex(grid.shape):
            share = tent(b - place) * tent(j - float(row)) * tent(i - float(column))
            grid[b, j, i] += share if p else -share
    return grid


@settings(max_examples=60, deadline=None)
@given(events=some_events, bins=st.integers(1, 6))
def test_a_histogram_counts_every_event_once_in_its_stretch(events: Events, bins: int) -> None:
    counts = event_histogram(events, bins=bins)
    assert counts.shape == (bins, 2, 5, 7)
    assert counts.dtype == np.int32
    expected = np.zeros_like(counts)
    for t, x, y, p in zip(events.t_us, events.x, events.y, events.p, strict=True):
        extent = int(events.t_us[-1] - events.t_us[0])
        stretch = int(t - events.t_us[0]) * bins // extent if extent else 0
        expected[min(stretch, bins - 1), int(p), y, x] += 1
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(count_image(events), counts.sum(axis=0))
    assert counts.sum() == len(events)


@settings(max_examples=60, deadline=None)
@given(events=some_events, bins=st.integers(1, 6))
def test_a_voxel_grid_equals_the_published_equations(events: Events, bins: int) -> None:
    grid = voxel_grid(events, bins=bins)
    assert grid.shape == (bins, 5, 7)
    assert grid.dtype == np.float32
    start_us, end_us = (events.t_us[0], events.t_us[-1]) if len(events) else (0, 0)
    expected = voxels_one_by_one(events, events.x, events.y, start_us, end_us - start_us, bins)
    np.testing.assert_allclose(grid, expected, atol=1e-5)
    assert grid.sum() == pytest.approx((2 * events.p.astype(int) - 1).sum(), abs=1e-4)


def test_the_first_and_last_event_lie_on_the_first_and_last_point_in_time() -> None:
    events = make_events([(100, 0, 0, True), (125, 1, 0, True), (200, 2, 0, False)])
    grid = voxel_grid(events, bins=3)
    np.testing.assert_array_equal(grid[:, 0, 0], [1, 0, 0])
    np.testing.assert_array_equal(grid[:, 0, 1], [0.5, 0.5, 0])
    np.testing.assert_array_equal(grid[:, 0, 2], [0, 0, -1])


def test_a_span_fixes_the_ends_of_the_time_axis_and_leaves_others_out() -> None:
    events = make_events([(-1, 0, 0, True), (0, 0, 1, True), (75, 0, 2, True), (100, 0, 3, True)])
    grid = voxel_grid(events, Span(0, 100), bins=5)
    np.testing.assert_array_equal(grid[:, :, 0].sum(axis=0), [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(grid[:, 1, 0], [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(grid[:, 2, 0], [0, 0, 0, 1, 0])
    counts = event_histogram(events, Span(0, 100), bins=4)
    assert np.argwhere(counts).tolist() == [[0, 1, 1, 0], [3, 1, 2, 0]]


@settings(max_examples=40, deadline=None)
@given(events=some_events, seed=st.integers(0, 1000))
def test_a_rectified_grid_equals_the_published_equations(events: Events, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 10, len(events)).astype(np.float32)
    y = rng.uniform(-3, 8, len(events)).astype(np.float32)
    span = Span(-1000, 4000)
    inside = (events.t_us >= -1000) & (events.t_us < 3000)
    expected = voxels_one_by_one(events.take(inside), x[inside], y[inside], -1000, 4000, 4)
    grid = rectified_voxel_grid(events, x, y, span, bins=4)
    np.testing.assert_allclose(grid, expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(events=some_events)
def test_rectifying_by_nothing_changes_nothing(events: Events) -> None:
    x, y = events.x.astype(np.float32), events.y.astype(np.float32)
    np.testing.assert_allclose(
        rectified_voxel_grid(events, x, y, bins=5), voxel_grid(events, bins=5), atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(events=some_events, at_us=st.integers(-6_000, 6_000))
def test_a_time_surface_is_the_decay_since_each_pixels_latest_event(
    events: Events, at_us: int
) -> None:
    surface = time_surface(events, at_us=at_us, tau_us=1_500.0)
    assert surface.shape == (2, 5, 7)
    assert surface.dtype == np.float32
    expected = np.zeros((2, 5, 7))
    for t, x, y, p in zip(events.t_us, events.x, events.y, events.p, strict=True):
        if t <= at_us:
            expected[int(p), y, x] = np.exp(-(at_us - int(t)) / 1_500.0)
    np.testing.assert_allclose(surface, expected, rtol=1e-6)


def test_no_events_give_zeros_of_the_right_shape() -> None:
    empty = Events.empty((4, 3))
    nothing = np.empty(0, np.float32)
    for array, shape in (
        (count_image(empty), (2, 3, 4)),
        (event_histogram(empty, Span(0, 10), bins=6), (6, 2, 3, 4)),
        (voxel_grid(empty, bins=5), (5, 3, 4)),
        (rectified_voxel_grid(empty, nothing, nothing, bins=2), (2, 3, 4)),
        (time_surface(empty, at_us=0, tau_us=1.0), (2, 3, 4)),
    ):
        assert array.shape == shape
        assert not array.any()


def test_foreseeable_mistakes_are_named() -> None:
    events = make_events([(0, 0, 0, True), (5, 6, 4, True)])
    swapped = events.take(np.array([1, 0]))
    outside = make_events([(0, 7, 0, True)])
    for call in (
        voxel_grid,
        event_histogram,
        lambda events: time_surface(events, at_us=9, tau_us=1.0),
    ):
        with pytest.raises(UsageError, match="go back in time 1 times, first after event 0"):
            call(swapped)
        with pytest.raises(UsageError, match="x=7, y=0, need them inside the sensor of 7x5"):
            call(outside)
    with pytest.raises(UsageError, match="bins: got 0"):
        voxel_grid(events, bins=0)
    with pytest.raises(UsageError, match="tau_us: got 0"):
        time_surface(events, at_us=0, tau_us=0)
    for x in (np.zeros(1, np.float32), np.array([0, np.nan], np.float32)):
        with pytest.raises(UsageError, match="rectified x: got"):
            rectified_voxel_grid(events, x, np.zeros(2, np.float32))


def real_events(path: Path) -> Events:
    stored = np.load(path, allow_pickle=True).item()
    return Events(
        t_us=stored["t"].astype(np.int64),
        x=stored["x"],
        y=stored["y"],
        p=stored["p"].astype(bool),
        size_wh=(640, 480),
    )


def test_real_events_are_conserved(shared: Callable[[str], Path]) -> None:
    events = real_events(shared("real/dsec_events/interlaken_00_d/000074.npy"))
    signed = int(events.p.sum()) - int((~events.p).sum())
    assert len(events) == 218_543
    assert count_image(events).sum(axis=(1, 2)).tolist() == [
        int((~events.p).sum()),
        int(events.p.sum()),
    ]
    grid = voxel_grid(events, bins=15)
    assert grid.sum(dtype=np.float64) == pytest.approx(signed, abs=0.05)
    surface = time_surface(events, at_us=int(events.t_us[-1]), tau_us=10_000.0)
    np.testing.assert_array_equal(surface > 0, count_image(events) > 0)
