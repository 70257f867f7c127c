"""The event emulator: v2e's own runs, closed forms of the crossing times, streaming, errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from egotriad.converters import dvs
from egotriad.converters.compiled import compiled
from egotriad.converters.dvs import DvsConfig, DvsEmulator, emulate, sim_id
from egotriad.converters.dvs_kernels import Bounds, Pixels, start_bounds
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError

GOLDEN = Path(__file__).parent / "data" / "v2e"
PLAIN_GOLDENS = (
    "01_moving_edge_ideal",
    "02_drifting_texture_ideal",
    "03_drifting_texture_asym_thres",
    "04_flicker_step_many_events",
    "11_threshold_mismatch",
    "12_threshold_mismatch_clipped",
    "17_hdr_log_float32_input",
    "20_no_events_static",
)
V2E = DvsConfig(timing="slots", compat="v2e")


def drifting_luma(
    n: int, size_wh: tuple[int, int] = (40, 30), pixels_per_frame: float = 0.4
) -> np.ndarray:
    width, height = size_wh
    noise = np.random.default_rng(3).random((height, width + int(n * pixels_per_frame) + 4))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    smooth = 5 + 245 * (smooth - smooth.min()) / np.ptp(smooth)
    shifts = (np.float64([[1, 0, -k * pixels_per_frame], [0, 1, 0]]) for k in range(n))
    return np.stack([cv2.warpAffine(smooth, shift, size_wh) for shift in shifts])


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


def run_golden(path: Path) -> tuple[dict[str, np.ndarray], Events, Events, DvsEmulator]:
    """The golden data, our events of the whole clip, and of a stream fed frame by frame."""
    golden = dict(np.load(path))
    params = json.loads(str(golden["params"]))
    config = DvsConfig(
        pos_thres=params["pos_thres"],
        neg_thres=params["neg_thres"],
        timing="slots",
        compat="v2e",
        hdr=params["hdr"],
    )
    maps = {f"{side}_thres_map": golden.get(f"{side}_thres_arr") for side in ("pos", "neg")}
    whole = emulate(golden["frames"], golden["timestamps"], config, **maps)
    stream = DvsEmulator(config, whole.size_wh, **maps)
    t_us = np.floor(golden["timestamps"] * 1e6 + 0.5).astype(np.int64)
    counts = [
        len(stream.feed(golden["frames"][k : k + 1], t_us[k : k + 1])) for k in range(len(t_us))
    ]
    np.testing.assert_array_equal(counts, golden["events_per_frame"])
    return golden, whole, stream


def assert_equals_v2e(path: Path) -> None:
    golden, events, stream = run_golden(path)
    theirs = np.stack(
        [golden[f"events_{name}"].astype(int) for name in ("frame", "x", "y", "p")], axis=1
    )
    theirs[:, 3] = theirs[:, 3] > 0
    order = np.lexsort((golden["events_t"], *theirs.T[::-1]))
    times_us = golden["timestamps"] * 1e6
    ours = in_frames(events, times_us)
    np.testing.assert_array_equal(ours, theirs[order])
    frame = np.searchsorted(np.floor(times_us + 0.5), events.t_us, side="left")
    t_us = events.t_us[np.lexsort((events.t_us, events.p, events.y, events.x, frame))]
    tolerance_s = np.maximum(1e-6, 1.2e-7 * golden["events_t"][order])
    assert (np.abs(t_us / 1e6 - golden["events_t"][order]) <= tolerance_s).all()
    np.testing.assert_array_equal(stream._pixels.base.astype(np.float64), golden["final_base"])


@pytest.mark.parametrize("name", PLAIN_GOLDENS)
def test_slots_reproduce_v2e_event_for_event(name: str) -> None:
    assert_equals_v2e(GOLDEN / f"{name}.npz")


def test_slots_reproduce_v2e_on_a_real_clip(shared: Callable[[str], Path]) -> None:
    assert_equals_v2e(shared("golden/v2e/15_real_bikes_25fps_ideal.npz"))


def test_v2e_counts_the_second_frames_interval_from_zero_and_we_do_not() -> None:
    frames = log_clip(np.array([1.0, 1.7]))
    times_s = np.array([0.4, 0.5])
    theirs = emulate(frames, times_s, DvsConfig(timing="slots", compat="v2e", hdr=True))
    ours = emulate(frames, times_s, DvsConfig(timing="slots", hdr=True))
    np.testing.assert_array_equal(theirs.t_us, np.round(500_000 * np.array([1, 2, 3]) / 3))
    np.testing.assert_array_equal(ours.t_us, np.round(400_000 + 100_000 * np.array([1, 2, 3]) / 3))


def test_a_linear_log_ramp_crosses_at_equal_distances_whatever_the_frame_times() -> None:
    times_s = np.array([2.0, 2.011, 2.05, 2.051, 2.2, 2.7, 3.0])
    slope = 1.3
    frames = log_clip(1.0 + slope * (times_s - 2.0))
    events = emulate(frames, times_s, DvsConfig(hdr=True))
    due_us = 2e6 + 1e6 * 0.2 * np.arange(1, 7) / slope
    np.testing.assert_allclose(events.t_us, due_us, atol=1.0)
    assert events.p.all()


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


def test_under_constant_motion_crossing_times_are_spread_evenly_and_slots_are_not() -> None:
    # Unquantised: with 8-bit levels, pixels that return to their first one fire at frame times.
    frames = np.log(drifting_luma(100)).astype(np.float32)
    times_s = np.arange(100) / 100

    def busiest_over_mean(timing: Any) -> float:
        events = emulate(frames, times_s, DvsConfig(timing=timing, hdr=True))
        counts = np.bincount((events.t_us - 1) % 10_000 * 20 // 10_000, minlength=20)
        return counts.max() / counts.mean()

    assert busiest_over_mean("crossing") < 1.2
    assert busiest_over_mean("slots") > 3


def test_a_static_scene_and_a_first_frame_are_silent() -> None:
    frame = drifting_texture(1)
    events = emulate(np.repeat(frame, 5, axis=0), np.arange(5) / 30, DvsConfig())
    assert len(events) == 0
    assert events.size_wh == (40, 30)
    assert len(emulate(frame, np.array([0.5]), DvsConfig())) == 0
    assert len(emulate(frame[:0], np.array([]), DvsConfig())) == 0


@pytest.mark.parametrize("hdr", [False, True])
@pytest.mark.parametrize("timing", ["crossing", "slots"])
def test_cutting_a_stream_into_pieces_changes_nothing(timing: Any, hdr: bool) -> None:
    frames: np.ndarray = drifting_texture(16)
    if hdr:
        frames = np.log(frames.astype(np.float32) + 1)
    rng = np.random.default_rng(0)
    t_us = np.cumsum(rng.integers(1, 40_000, 16))
    config = DvsConfig(timing=timing, compat="v2e" if timing == "slots" else "none", hdr=hdr)
    whole = DvsEmulator(config, (40, 30)).feed(frames, t_us)
    assert len(whole) > 1000
    assert whole.canonical() is whole
    for cuts in ([1], [0, 1, 1, 2, 9], list(range(16))):
        stream = DvsEmulator(config, (40, 30))
        pieces = zip(np.split(frames, cuts), np.split(t_us, cuts), strict=True)
        parts = [stream.feed(*piece) for piece in pieces]
        for name in ("t_us", "x", "y", "p"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, name))


def test_the_size_of_the_inner_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, times_s = drifting_texture(9), np.arange(9) / 30
    whole = emulate(frames, times_s, V2E)
    monkeypatch.setattr(dvs, "_BLOCK_PIXELS", 2 * 40 * 30)
    assert emulate(frames, times_s, V2E).same_as(whole)


def test_one_shot_and_stream_agree_on_whole_microseconds() -> None:
    frames = drifting_texture(6)
    t_us = np.arange(6) * 33_333
    stream = DvsEmulator(DvsConfig(), (40, 30)).feed(frames, t_us)
    np.testing.assert_array_equal(emulate(frames, t_us / 1e6, DvsConfig()).t_us, stream.t_us)


def test_events_lie_after_the_earlier_frame_and_not_after_the_later() -> None:
    frames = np.array([10, 250, 10], np.uint8)[:, None, None]
    for step_us in (1, 2, 5):
        t_us = 7 + step_us * np.arange(3)
        events = DvsEmulator(DvsConfig(pos_thres=0.01), (1, 1)).feed(frames, t_us)
        on, off = events.t_us[events.p], events.t_us[~events.p]
        assert (on.min(), on.max()) == (8, 7 + step_us)
        assert (off.min(), off.max()) == (8 + step_us, 7 + 2 * step_us)
        assert events.canonical() is events


def test_threshold_maps_act_per_pixel() -> None:
    frames = np.zeros((2, 1, 3), np.float32)
    frames[1] = [1.0, 1.0, -1.0]
    pos = np.array([[0.3, 0.45, 9.0]], np.float32)
    neg = np.array([[9.0, 9.0, 0.24]], np.float32)
    events = emulate(
        frames,
        np.array([0.0, 1.0]),
        DvsConfig(hdr=True),
        pos_thres_map=pos,
        neg_thres_map=neg,
    )
    assert np.bincount(events.x).tolist() == [3, 2, 4]


def test_a_pixels_bounds_are_exactly_the_levels_that_stay_silent() -> None:
    emulator = DvsEmulator(DvsConfig(), (64, 64))
    log = emulator._tables.log_of_level[:256]
    rng = np.random.default_rng(5)
    base = rng.uniform(0, log[255], (64, 64)).astype(np.float32)
    base[:16] = log[rng.integers(0, 256, (16, 64))]
    pos = rng.choice(np.float32([0.001, 0.05, 0.2, 0.9, 7.0]), (64, 64))
    neg = rng.choice(np.float32([0.001, 0.05, 0.2, 0.9, 7.0]), (64, 64))
    base[8:16] -= pos[8:16]  # ties: base + pos is a level
    base = np.maximum(base, 0)
    bounds = Bounds(np.empty((64, 64), np.uint8), np.empty((64, 64), np.uint8))
    start_bounds(Pixels(base, pos, neg), bounds, emulator._tables)
    difference = log[:, None, None] - base
    silent = (difference < pos) & (-difference < neg)
    level = np.arange(256)[:, None, None]
    np.testing.assert_array_equal((level >= bounds.low) & (level <= bounds.high), silent)


def test_input_may_be_read_only_or_strided_and_is_left_alone() -> None:
    frames = drifting_texture(4)
    times_s = np.arange(4) / 30
    expected = emulate(frames, times_s, DvsConfig())
    before = frames.copy()
    frames.flags.writeable = False
    assert emulate(frames, times_s, DvsConfig()).same_as(expected)
    strided = np.repeat(frames, 2, axis=2)[:, :, ::2]
    assert emulate(strided, times_s, DvsConfig()).same_as(expected)
    np.testing.assert_array_equal(frames, before)


def test_the_simulator_id_depends_on_the_parameters_alone() -> None:
    assert sim_id(DvsConfig()) == sim_id(DvsConfig(pos_thres=0.2)) == "552389daca35c1a7"
    others = [DvsConfig(pos_thres=0.21), DvsConfig(neg_thres=0.21), DvsConfig(timing="slots"), V2E]
    assert len({sim_id(config) for config in [DvsConfig(), *others]}) == 5


def test_kernels_compile_where_no_cache_can_be_written() -> None:
    names: dict[str, Any] = {}
    exec("def double(x):\n    return 2 * x", names)  # no file, so numba finds no cache folder
    assert compiled(names["double"])(21) == 42


@pytest.mark.parametrize("name", ["pos_thres", "neg_thres"])
@pytest.mark.parametrize("value", [0.0, -0.2, float("nan")])
def test_thresholds_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name}: got .* need 0.001 or more"):
        DvsConfig(**{name: value})
    with pytest.raises(UsageError, match=f"{name}_map: got .* need 0.001 or more"):
        DvsEmulator(DvsConfig(), (1, 1), **{f"{name}_map": np.float32([[value]])})


def test_unusable_settings_are_named() -> None:
    with pytest.raises(UsageError, match="timing: got 'frame', need crossing or slots"):
        DvsConfig(timing="frame")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="compat: got 'v2e' with timing 'crossing'"):
        DvsConfig(compat="v2e")
    with pytest.raises(UsageError, match=r"size_wh: got \(0, 4\)"):
        DvsEmulator(DvsConfig(), (0, 4))
    with pytest.raises(UsageError, match=r"pos_thres_map: got shape \(4, 3\), need \(3, 4\)"):
        DvsEmulator(DvsConfig(), (4, 3), pos_thres_map=np.ones((4, 3), np.float32))


def test_unusable_frames_are_named_and_leave_the_stream_as_it_was() -> None:
    stream = DvsEmulator(DvsConfig(), (4, 3))
    t_us = np.arange(2)
    for frames, message in (
        (np.zeros((2, 3, 4)), r"got float64 \(2, 3, 4\), need uint8 \(n, 3, 4\)"),
        (np.zeros((2, 4, 3), np.uint8), r"got uint8 \(2, 4, 3\), need uint8 \(n, 3, 4\)"),
        (np.zeros((3, 3, 4), np.uint8), r"frame times: got \(2,\) for 3 frames"),
    ):
        with pytest.raises(UsageError, match=message):
            stream.feed(frames, t_us)
    with pytest.raises(UsageError, match="t_us: got float64, need int64"):
        stream.feed(np.zeros((2, 3, 4), np.uint8), t_us.astype(float))
    with pytest.raises(UsageError, match="times_s: got int64, need float64"):
        emulate(np.zeros((2, 3, 4), np.uint8), t_us, DvsConfig())
    assert len(stream.feed(np.zeros((2, 3, 4), np.uint8), t_us)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 255.0])
def test_log_frames_must_be_finite_logs(bad: float) -> None:
    frames = np.zeros((3, 1, 2), np.float32)
    frames[1, 0, 1] = bad
    with pytest.raises(UsageError, match="frame 1 of 3 holds NaN or values beyond ±50"):
        emulate(frames, np.arange(3.0), DvsConfig(hdr=True))


def test_times_must_increase_within_and_between_calls() -> None:
    stream = DvsEmulator(DvsConfig(), (1, 1))
    frames = np.zeros((2, 1, 1), np.uint8)
    with pytest.raises(UsageError, match="5 us is followed by 5 us, need steps of 1 to"):
        stream.feed(frames, np.array([5, 5]))
    stream.feed(frames, np.array([5, 6]))
    with pytest.raises(UsageError, match="6 us is followed by 4 us"):
        stream.feed(frames, np.array([4, 9]))
    with pytest.raises(UsageError, match="6 us is followed by 3600000006 us"):
        stream.feed(frames[:1], np.array([3_600_000_006]))
    with pytest.raises(UsageError, match="need finite times"):
        emulate(frames, np.array([0.0, np.nan]), DvsConfig())
    with pytest.raises(UsageError, match="begin at -1000000 us, need 0 to"):
        emulate(frames, np.array([-1.0, 0.0]), V2E)
