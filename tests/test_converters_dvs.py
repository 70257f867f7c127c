"""The event emulator without noise against closed forms; streaming, long recordings, invariants."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters import dvs
from egotriad.converters.compiled import compiled
from egotriad.converters.dvs import PRESETS, DvsConfig, DvsEmulator, emulate, sim_id
from egotriad.manifests import Events
from egotriad.manifests.events import concatenate

V2E = DvsConfig(timing="slots", compat="v2e")
SIZE_WH = (40, 30)


def drifting_luma(n: int, pixels_per_frame: float = 0.4) -> np.ndarray:
    """Waves of many directions and lengths, moving right; float64 (n, 30, 40), 5 to 250."""
    y, x = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
    x = x - pixels_per_frame * np.arange(n)[:, None, None]
    rng = np.random.default_rng(3)
    waves = [np.sin(a * x + b * y + 9 * c) for a, b, c in rng.uniform(-0.7, 0.7, (12, 3))]
    total = np.sum(waves, axis=0)
    return 127.5 + 122.5 * total / np.abs(total).max()


def drifting_texture(n: int) -> np.ndarray:
    return drifting_luma(n).astype(np.uint8)


def log_clip(values: np.ndarray) -> np.ndarray:
    """A clip of one pixel with these natural-log intensities."""
    return values.astype(np.float32)[:, None, None]


def in_frames(events: Events, times_us: np.ndarray) -> np.ndarray:
    """Sorted rows (frame, x, y, p) of the events."""
    frame = np.searchsorted(np.floor(times_us + 0.5), events.t_us, side="left")
    rows = np.stack([frame, events.x, events.y, events.p.astype(int)], axis=1)
    return rows[np.lexsort(rows.T[::-1])]


def gaps_us(events: Events) -> np.ndarray:
    """Times between successive events of one pixel."""
    pixel = events.y.astype(int) * events.size_wh[0] + events.x
    order = np.argsort(pixel, kind="stable")
    return np.diff(events.t_us[order])[np.diff(pixel[order]) == 0]


# ---------------------------------------------------------------- closed forms


def test_a_linear_log_ramp_crosses_at_equal_distances_whatever_the_frame_times() -> None:
    times_s = np.array([2.0, 2.011, 2.05, 2.051, 2.2, 2.7, 3.0])
    slope = 1.3
    frames = log_clip(1.0 + slope * (times_s - 2.0))
    events = emulate(frames, times_s, DvsConfig(hdr=True))
    due_us = 2e6 + 1e6 * 0.2 * np.arange(1, 7) / slope
    np.testing.assert_allclose(events.t_us, due_us, atol=1.0)
    assert events.p.all()


def test_unequal_thresholds_give_each_polarity_its_own_number_of_events() -> None:
    # Up by 1.7 and down by 1.7: the last ON event leaves 0.05 that OFF events need not go through.
    frames = log_clip(np.array([1.0, 2.7, 1.0]))
    config = DvsConfig(pos_thres=0.15, neg_thres=0.4, hdr=True)
    events = emulate(frames, np.array([0.0, 1.0, 2.0]), config)
    np.testing.assert_allclose(events.t_us[:11], 1e6 * 0.15 * np.arange(1, 12) / 1.7, atol=1)
    down = (0.05 + 0.4 * np.arange(1, 5)) / 1.7
    np.testing.assert_allclose(events.t_us[11:], 1e6 * (1 + down), atol=1)
    assert events.p.tolist() == [True] * 11 + [False] * 4


def test_a_step_gives_log_contrast_over_threshold_events_spread_over_the_interval() -> None:
    frames = np.full((3, 1, 1), 100, np.uint8)
    frames[1:] = 37
    contrast = np.log(100 / 37)
    events = emulate(frames, np.array([0.0, 0.01, 0.02]), DvsConfig(neg_thres=0.15))
    assert len(events) == int(contrast / 0.15)
    assert not events.p.any()
    due_us = 10_000 * 0.15 * np.arange(1, len(events) + 1) / contrast
    np.testing.assert_allclose(events.t_us, due_us, atol=1.0)


def test_a_sinusoid_equals_its_threshold_level_at_every_event() -> None:
    times_s = np.arange(2001) / 2000
    signal = 3.0 + 0.83 * np.sin(2 * np.pi * 3 * times_s)
    config = DvsConfig(pos_thres=0.11, neg_thres=0.17, hdr=True)
    events = emulate(log_clip(signal), times_s, config)
    levels = 3.0 + np.cumsum(np.where(events.p, 0.11, -0.17))
    at_events = np.interp(events.t_us / 1e6, times_s, signal.astype(np.float32))
    np.testing.assert_allclose(at_events, levels, atol=0.83 * 2 * np.pi * 3 * 1e-6)
    up, down = int(events.p.sum()), int((~events.p).sum())
    assert up * 0.11 - down * 0.17 == pytest.approx(signal[-1] - 3.0, abs=0.17)
    assert up > down > 20


@pytest.mark.parametrize("step_s", [0.25, 0.01, 0.0007])
def test_in_the_dead_time_the_reference_follows_the_signal(step_s: float) -> None:
    # On a ramp, events are one threshold and one dead time apart, across any frame borders.
    times_s = np.arange(0, 1.0001, step_s)
    slope, dead_s = 4.0, 0.003
    config = DvsConfig(refractory_period_s=dead_s, hdr=True)
    events = emulate(log_clip(slope * times_s), times_s, config)
    period_s = 0.2 / slope + dead_s
    due_us = 1e6 * (0.2 / slope + period_s * np.arange(int((1 - 0.2 / slope) / period_s) + 1))
    np.testing.assert_allclose(events.t_us, due_us, atol=1.5)


def test_no_pixel_fires_twice_within_its_refractory_period() -> None:
    frames, times_s = drifting_luma(40, 2.0).astype(np.uint8), np.arange(40) / 100
    config = DvsConfig.preset("v2e-defaults", refractory_period_s=0.004, shot_noise_rate_hz=50.0)
    gaps = gaps_us(emulate(frames, times_s, config))
    assert gaps.min() >= 4000 - 1  # both times are rounded
    assert (gaps < 4200).sum() > 20
    free = gaps_us(emulate(frames, times_s, DvsConfig.preset("noisy")))
    assert (free < 3000).sum() > 100


def test_a_dead_time_longer_than_the_frame_interval_ends_where_it_must() -> None:
    times_s = np.arange(0, 1.0001, 0.01)
    config = DvsConfig(refractory_period_s=0.095, hdr=True)
    events = emulate(log_clip(10 * times_s), times_s, config)
    due_us = 20_000 + (20_000 + 95_000) * np.arange(9)
    np.testing.assert_allclose(events.t_us, due_us, atol=1.5)


def test_crossing_and_slots_give_the_same_events_at_other_times() -> None:
    frames = drifting_texture(12)
    times_s = 0.1 + np.arange(12) / 30
    crossing = emulate(frames, times_s, DvsConfig(timing="crossing"))
    slots = emulate(frames, times_s, DvsConfig(timing="slots"))
    assert len(crossing) > 1000
    np.testing.assert_array_equal(
        in_frames(crossing, times_s * 1e6), in_frames(slots, times_s * 1e6)
    )
    assert not np.array_equal(crossing.t_us, slots.t_us)


def test_under_constant_motion_events_are_flat_over_the_frame_interval_and_slots_are_not() -> None:
    # Unquantised: with 8-bit levels, pixels that return to their first one fire at frame times.
    frames = np.log(drifting_luma(101, 0.3)).astype(np.float32)

    def chi_square(timing: Any) -> float:
        events = emulate(frames, np.arange(101) / 25, DvsConfig(timing=timing, hdr=True))
        counts = np.bincount((events.t_us - 1) % 40_000 * 20 // 40_000, minlength=20)
        return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())

    assert chi_square("crossing") < 43.8  # the 99.9 % quantile of 19 degrees of freedom
    assert chi_square("slots") > 10_000


def test_threshold_maps_act_per_pixel() -> None:
    frames = np.zeros((2, 1, 3), np.float32)
    frames[1] = [1.0, 1.0, -1.0]
    maps = {
        "pos_thres_map": np.array([[0.3, 0.45, 9.0]], np.float32),
        "neg_thres_map": np.array([[9.0, 9.0, 0.24]], np.float32),
    }
    events = emulate(frames, np.array([0.0, 1.0]), DvsConfig(hdr=True), **maps)
    assert np.bincount(events.x).tolist() == [3, 2, 4]


def test_a_static_scene_and_a_first_frame_are_silent() -> None:
    frame = drifting_texture(1)
    events = emulate(np.repeat(frame, 5, axis=0), np.arange(5) / 30, DvsConfig())
    assert len(events) == 0
    assert events.size_wh == SIZE_WH
    assert len(emulate(frame, np.array([0.5]), DvsConfig())) == 0
    assert len(emulate(frame[:0], np.array([]), DvsConfig())) == 0


# ---------------------------------------------------------------- streams

CONFIGS: dict[str, DvsConfig] = {
    **{name: DvsConfig.preset(name) for name in PRESETS},
    **{f"{name} slots": DvsConfig.preset(name, timing="slots") for name in PRESETS},
    **{
        f"{name} v2e": DvsConfig.preset(name, timing="slots", compat="v2e")
        for name in ("clean", "noisy", "v2e-defaults")
    },
    "hdr": DvsConfig(hdr=True, cutoff_hz=50.0),
    "photoreceptor": DvsConfig(photoreceptor_noise=True, cutoff_hz=40.0, shot_noise_rate_hz=9.0),
    "centre-surround": DvsConfig.preset("noisy", cs_lambda_pixels=2.0, cs_tau_p_ms=5.0),
    "scidvs": DvsConfig.preset("noisy", scidvs=True, refractory_period_s=0.003),
}


def frames_for(config: DvsConfig) -> np.ndarray:
    luma = drifting_luma(24)
    return np.log(luma).astype(np.float32) if config.hdr else luma.astype(np.uint8)


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 24), max_size=6), jitter=st.integers(0, 5))
def test_cutting_a_stream_into_pieces_changes_nothing(
    name: str, cuts: list[int], jitter: int
) -> None:
    config = CONFIGS[name]
    frames = frames_for(config)
    t_us = 7 + np.cumsum(np.random.default_rng(jitter).integers(1, 40_000, 24))
    whole = DvsEmulator(config, SIZE_WH, seed=jitter).feed(frames, t_us)
    assert len(whole) > 500
    assert whole.canonical() is whole
    for pieces in (sorted(cuts), list(range(25))):
        stream = DvsEmulator(config, SIZE_WH, seed=jitter)
        split = zip(np.split(frames, pieces), np.split(t_us, pieces), strict=True)
        parts = [stream.feed(*piece) for piece in split]
        assert concatenate(parts, SIZE_WH).same_as(whole)


def test_the_size_of_the_inner_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, times_s = drifting_texture(9), np.arange(9) / 30
    for config in (V2E, DvsConfig.preset("noisy")):
        whole = emulate(frames, times_s, config)
        with monkeypatch.context() as patch:
            patch.setattr(dvs, "_BLOCK_PIXELS", 2 * 40 * 30)
            assert emulate(frames, times_s, config).same_as(whole)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("ideal", "hdr")])
def test_seed_and_recording_decide_the_draws(name: str) -> None:
    config = CONFIGS[name]
    frames, times_s = frames_for(config), np.arange(24) / 100
    first = emulate(frames, times_s, config, seed=1, recording="a")
    assert emulate(frames, times_s, config, seed=1, recording="a").same_as(first)
    if not config.sigma_thres and not config.shot_noise_rate_hz:  # nothing to draw
        return
    assert not emulate(frames, times_s, config, seed=2, recording="a").same_as(first)
    assert not emulate(frames, times_s, config, seed=1, recording="b").same_as(first)


def test_one_shot_and_stream_agree_on_whole_microseconds() -> None:
    frames = drifting_texture(6)
    t_us = np.arange(6) * 33_333
    stream = DvsEmulator(DvsConfig(), SIZE_WH).feed(frames, t_us)
    np.testing.assert_array_equal(emulate(frames, t_us / 1e6, DvsConfig()).t_us, stream.t_us)


@pytest.mark.parametrize("name", ["ideal", "noisy", "v2e-defaults", "ideal slots", "photoreceptor"])
def test_a_late_start_only_shifts_the_events(name: str) -> None:
    config, two_hours_us = CONFIGS[name], 7_200_000_000
    frames, t_us = frames_for(config), 10_000 * np.arange(24)
    early = DvsEmulator(config, SIZE_WH).feed(frames, t_us)
    late = DvsEmulator(config, SIZE_WH).feed(frames, t_us + two_hours_us)
    assert late.shifted(-two_hours_us).same_as(early)
    assert config.timing == "slots" or len(np.unique(late.t_us)) > 0.5 * len(late)


def test_two_hours_keep_microseconds_in_order_and_memory_flat() -> None:
    frames = np.concatenate([drifting_texture(10), drifting_texture(10)[::-1]])
    emulator = DvsEmulator(DvsConfig.preset("v2e-defaults"), SIZE_WH)
    kept: list[int] = []
    last_us, fed_us = -1, 0
    tracemalloc.start()
    try:
        while fed_us < 7_200_000_000:
            t_us = fed_us + 2_400_000 * np.arange(20)
            events = emulator.feed(frames, t_us)
            assert last_us < events.t_us[0]
            assert (np.diff(events.t_us) >= 0).all()
            last_us, fed_us = int(events.t_us[-1]), int(t_us[-1]) + 2_400_000
            kept.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(kept) == 150
    assert last_us > 7_190_000_000
    assert max(kept[75:]) < max(kept[:75]) + 100_000


# ---------------------------------------------------------------- invariants


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(CONFIGS)),
    start_us=st.integers(0, 10**9),
    steps_us=st.lists(st.integers(1, 3_000_000), min_size=1, max_size=6),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_events_lie_on_the_sensor_in_their_interval_and_in_canonical_order(
    name: str, start_us: int, steps_us: list[int], width: int, height: int, seed: int
) -> None:
    config = CONFIGS[name]
    if config.compat == "v2e":  # its second interval begins at zero
        start_us = 0
    t_us = start_us + np.concatenate([[0], np.cumsum(steps_us)])
    shape = (len(t_us), height, width)
    frames = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    if config.hdr:
        frames = np.log1p(frames.astype(np.float32))
    stream = DvsEmulator(config, (width, height), seed=seed)
    assert len(stream.feed(frames[:1], t_us[:1])) == 0
    for k in range(1, len(t_us)):
        events = stream.feed(frames[k : k + 1], t_us[k : k + 1])
        assert events.canonical() is events
        if len(events):
            assert t_us[k - 1] < events.t_us[0] <= events.t_us[-1] <= t_us[k]
            assert events.x.max() < width
            assert events.y.max() < height


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    thresholds=st.lists(st.floats(0.002, 2.0), min_size=2, max_size=2, unique=True),
)
def test_a_pixel_of_higher_threshold_never_fires_more(seed: int, thresholds: list[float]) -> None:
    # On a monotone signal; on any other a smaller threshold may just be met once less.
    frames = np.sort(np.random.default_rng(seed).integers(0, 256, (5, 4, 4)), axis=0)
    frames = frames.astype(np.uint8)
    low, high = (
        emulate(frames, np.arange(5.0), DvsConfig(pos_thres=value)) for value in sorted(thresholds)
    )
    counts = [np.bincount(e.y * 4 + e.x, minlength=16) for e in (low, high)]
    assert (counts[0] >= counts[1]).all()
    assert low.p.all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), pos=st.floats(0.05, 1.0), neg=st.floats(0.05, 1.0))
def test_events_times_thresholds_are_the_change_to_within_a_threshold(
    seed: int, pos: float, neg: float
) -> None:
    frames = np.random.default_rng(seed).uniform(0, 5.5, (6, 3, 3)).astype(np.float32)
    config = DvsConfig(pos_thres=pos, neg_thres=neg, hdr=True)
    events = emulate(frames, np.arange(6.0), config)
    sign = np.where(events.p, pos, -neg)
    moved = np.bincount(events.y * 3 + events.x, weights=sign, minlength=9).reshape(3, 3)
    left = frames[-1] - frames[0] - moved
    assert (left < pos + 1e-4).all()
    assert (left > -neg - 1e-4).all()


def test_events_lie_after_the_earlier_frame_and_not_after_the_later() -> None:
    frames = np.array([10, 250, 10], np.uint8)[:, None, None]
    for step_us in (1, 2, 5):
        t_us = 7 + step_us * np.arange(3)
        events = DvsEmulator(DvsConfig(pos_thres=0.01), (1, 1)).feed(frames, t_us)
        on, off = events.t_us[events.p], events.t_us[~events.p]
        assert (on.min(), on.max()) == (8, 7 + step_us)
        assert (off.min(), off.max()) == (8 + step_us, 7 + 2 * step_us)


def test_input_may_be_read_only_or_strided_and_is_left_alone() -> None:
    frames, times_s = drifting_texture(4), np.arange(4) / 30
    for config in (DvsConfig(), DvsConfig.preset("noisy"), V2E):
        expected = emulate(frames, times_s, config)
        before = frames.copy()
        frozen = frames.copy()
        frozen.flags.writeable = False
        assert emulate(frozen, times_s, config).same_as(expected)
        strided = np.repeat(frames, 2, axis=2)[:, :, ::2]
        assert emulate(strided, times_s, config).same_as(expected)
        np.testing.assert_array_equal(frames, before)


def test_the_simulator_id_depends_on_the_parameters_alone() -> None:
    assert sim_id(DvsConfig()) == sim_id(DvsConfig(pos_thres=0.2))
    others = [DvsConfig(pos_thres=0.21), DvsConfig(neg_thres=0.21), V2E, *CONFIGS.values()]
    assert len({sim_id(config) for config in others}) == 18


def test_kernels_compile_where_no_cache_can_be_written() -> None:
    names: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x", names)  # no file, so numba finds no cache folder
    assert compiled(names["double"])(21) == 42
