"""The noise-free 8-bit path: its bounds are exact, and it gives the events of the whole model."""

import numpy as np
import pytest

from egotriad.converters.dvs import DvsConfig
from egotriad.converters.dvs_engines import LevelsEngine, WalkEngine
from egotriad.converters.dvs_levels import new_levels
from egotriad.converters.dvs_noise import Maps
from egotriad.converters.dvs_place import Columns
from egotriad.converters.dvs_signal import tables


def test_a_pixels_bounds_are_exactly_the_levels_at_which_it_stays_silent() -> None:
    log = tables().log_of_level[:256]
    rng = np.random.default_rng(5)
    pos = rng.choice(np.float32([0.001, 0.05, 0.2, 0.9, 7.0]), 4100)
    neg = rng.choice(np.float32([0.001, 0.05, 0.2, 0.9, 7.0]), 4100)
    frame = rng.integers(0, 256, 4100).astype(np.uint8)
    state = new_levels(frame, pos, neg, tables())
    difference = log[:, None] - log[frame]
    silent = (difference < pos) & (-difference < neg)
    level = np.arange(256)[:, None]
    bounds = (level >= state.low[:4100]) & (level <= state.high[:4100])
    np.testing.assert_array_equal(bounds, silent)


def test_what_fills_the_last_vector_never_fires() -> None:
    state = new_levels(np.zeros(65, np.uint8), *np.full((2, 65), 0.2), tables())
    assert state.low.size == state.high.size == 128
    assert (state.low[65:] == 0).all()
    assert (state.high[65:] == 255).all()


def uniform_maps(size: int, pos: float, neg: float) -> Maps:
    ones = np.ones(size, np.float32)
    return Maps(pos=ones * np.float32(pos), neg=ones * np.float32(neg), leak_rate=ones)


def in_pixels(events: Columns, t_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (frame, y, x, p) and times, by row and time."""
    frame = np.searchsorted(np.floor(t_us + 0.5), events.t_us)
    rows = np.stack([frame, events.y, events.x, events.p], axis=1)
    order = np.lexsort((events.t_us, *rows.T[::-1]))
    return rows[order], events.t_us[order]


@pytest.mark.parametrize(("width", "height"), [(37, 23), (64, 2), (130, 70)])
def test_the_8_bit_path_gives_the_events_of_the_whole_model(width: int, height: int) -> None:
    rng = np.random.default_rng(width)
    frames = rng.integers(0, 256, (9, height, width)).astype(np.uint8)
    frames[3:5] = frames[2]
    t_us = 1e3 * np.cumsum(rng.integers(1, 50, 9))
    # Thresholds that no difference of two levels meets exactly: rounding decides nothing.
    maps = uniform_maps(width * height, 0.19371, 0.23717)
    config = DvsConfig()
    exact = LevelsEngine(config, frames[0], maps)
    whole = WalkEngine(config, frames[0], maps, seed=0, recording="")
    rows, times_us = in_pixels(exact.advance(frames[1:], t_us, 1), t_us)
    other_rows, other_us = in_pixels(whole.advance(frames[1:], t_us, 1), t_us)
    np.testing.assert_array_equal(rows, other_rows)
    np.testing.assert_allclose(times_us, other_us, atol=2)
    assert len(rows) > 10 * width * height


def test_a_thousand_returns_to_a_level_leave_no_drift_behind() -> None:
    frames = np.uint8([100, 180] * 1000 + [100])[:, None, None]
    engine = LevelsEngine(DvsConfig(), frames[0], uniform_maps(1, 0.1, 0.1))
    events = engine.advance(frames[1:], 1e4 * np.arange(2001), 1)
    on, off = int(events.p.sum()), int((~events.p).sum())
    assert on >= 4000
    assert 0 <= on - off <= 1
    memorised = engine._state.base[0] - np.log(100)
    assert memorised == pytest.approx(0.1 * (on - off), abs=5e-4)
