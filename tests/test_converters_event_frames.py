"""Event frames: equal counts, colours, order, sizes, and real DSEC windows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.event_frames import event_image, eventgpt_frames, eventgpt_frames_cropped
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

WHITE, BLUE, RED = (255, 255, 255), (0, 0, 255), (255, 0, 0)


def random_events(n: int, size_wh: tuple[int, int] = (32, 24), extent_us: int = 50_000) -> Events:
    rng = np.random.default_rng(n)
    return Events(
        t_us=np.sort(rng.integers(0, extent_us, n)),
        x=rng.integers(0, size_wh[0] - 3, n).astype(np.uint16),
        y=rng.integers(0, size_wh[1] - 2, n).astype(np.uint16),
        p=rng.random(n) < 0.5,
        size_wh=size_wh,
    )


def drawn_one_by_one(x: np.ndarray, y: np.ndarray, p: np.ndarray, shape: tuple) -> np.ndarray:
    image = np.full((*shape, 3), 255, np.uint8)
    for column, row, polarity in zip(x, y, p, strict=True):
        image[row, column] = RED if polarity else BLUE
    return image


def real_events(path: Path) -> Events:
    stored = np.load(path, allow_pickle=True).item()
    return Events(
        t_us=stored["t"].astype(np.int64) - int(stored["t"][0]),
        x=stored["x"],
        y=stored["y"],
        p=stored["p"].astype(bool),
        size_wh=(640, 480),
    )


def test_an_image_equals_drawing_the_events_one_by_one() -> None:
    events = random_events(5000)
    expected = drawn_one_by_one(events.x, events.y, events.p, (24, 32))
    np.testing.assert_array_equal(event_image(events), expected)


def test_off_is_blue_on_is_red_and_the_last_event_of_a_pixel_stays() -> None:
    events = Events(
        t_us=np.arange(4, dtype=np.int64),
        x=np.array([0, 1, 2, 2], np.uint16),
        y=np.array([0, 0, 1, 1], np.uint16),
        p=np.array([False, True, True, False]),
        size_wh=(3, 2),
    )
    image = event_image(events)
    assert [tuple(pixel) for pixel in image[0]] == [BLUE, RED, WHITE]
    assert [tuple(pixel) for pixel in image[1]] == [WHITE, WHITE, BLUE]


def test_events_that_are_views_of_read_only_columns_are_drawn_alike() -> None:
    events = random_events(400)
    table = np.stack([events.x, events.y], axis=1)
    table.flags.writeable = False
    p = events.p.copy()
    p.flags.writeable = False
    view = Events(t_us=events.t_us, x=table[:, 0], y=table[:, 1], p=p, size_wh=events.size_wh)
    np.testing.assert_array_equal(event_image(view), event_image(events))


@pytest.mark.parametrize(
    ("n", "sizes"), [(12, [2, 2, 2, 2, 4]), (3, [0, 0, 0, 0, 3]), (0, [0] * 5)]
)
def test_groups_have_equal_counts_and_the_last_takes_the_remainder(
    n: int, sizes: list[int]
) -> None:
    events = Events(
        t_us=np.arange(n, dtype=np.int64),
        x=np.arange(n, dtype=np.uint16),
        y=np.zeros(n, np.uint16),
        p=np.ones(n, bool),
        size_wh=(16, 1),
    )
    frames = eventgpt_frames(events)
    assert frames.shape == (5, 1, 16, 3)
    assert frames.dtype == np.uint8
    drawn = (frames[:, 0] == RED).all(axis=-1)
    assert drawn.sum(axis=1).tolist() == sizes
    assert np.flatnonzero(drawn.any(axis=0)).tolist() == list(range(n))


def test_a_span_draws_only_its_events() -> None:
    events = random_events(3000, extent_us=400_000)
    span = Span(120_000, 50_000)
    inside = (events.t_us >= 120_000) & (events.t_us < 170_000)
    np.testing.assert_array_equal(
        eventgpt_frames(events, span, count=1)[0], event_image(events.take(inside))
    )


def test_the_cropped_rule_sizes_each_image_by_its_own_events() -> None:
    events = random_events(40)
    full = eventgpt_frames(events, count=3)
    cropped = eventgpt_frames_cropped(events, count=3)
    for k, image in enumerate(cropped):
        part = events.take(slice(13 * k, 13 * (k + 1) if k < 2 else None))
        height, width = int(part.y.max()) + 1, int(part.x.max()) + 1
        assert image.shape == (height, width, 3)
        np.testing.assert_array_equal(image, full[k, :height, :width])


def test_a_stretch_of_100_ms_is_refused_and_just_under_is_drawn() -> None:
    events = random_events(2, extent_us=1)
    wide = Events(
        t_us=np.array([7, 100_007]), x=events.x, y=events.y, p=events.p, size_wh=events.size_wh
    )
    with pytest.raises(UsageError, match="reach over 100000 us, need less than 100000 us"):
        eventgpt_frames(wide)
    assert eventgpt_frames(wide, Span(0, 100_007)).shape == (5, 24, 32, 3)


def test_foreseeable_mistakes_are_named() -> None:
    events = random_events(3)
    with pytest.raises(UsageError, match="count: got 0"):
        eventgpt_frames(events, count=0)
    with pytest.raises(UsageError, match="got 3 events for 5 images"):
        eventgpt_frames_cropped(events)
    small = Events(t_us=events.t_us, x=events.x + 30, y=events.y, p=events.p, size_wh=(32, 24))
    with pytest.raises(UsageError, match="inside the sensor of 32x24"):
        event_image(small)


@pytest.mark.parametrize("name", ["eventgpt_sample1.npy", "interlaken_00_d/000074.npy"])
def test_real_windows_equal_the_published_loop(shared: Callable[[str], Path], name: str) -> None:
    events = real_events(shared(f"real/dsec_events/{name}"))
    frames = eventgpt_frames(events)
    assert frames.shape == (5, 480, 640, 3)
    size = len(events) // 5
    last = events.take(slice(4 * size, None))
    shape = (int(last.y.max()) + 1, int(last.x.max()) + 1)
    expected = drawn_one_by_one(last.x, last.y, last.p, shape)
    np.testing.assert_array_equal(eventgpt_frames_cropped(events)[4], expected)
    np.testing.assert_array_equal(frames[4, : shape[0], : shape[1]], expected)
