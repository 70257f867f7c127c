"""Upsampling of frames: times, streaming, flow on pictures with known motion, what is refused."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters.dvs import DvsConfig, DvsEmulator
from egotriad.converters.interpolate import UpsampleConfig, Upsampler
from egotriad.converters.interpolate_flow import Motion, MotionEstimator, _agreement, warp
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError

SIZE_WH = (96, 64)


def texture(shift_px: float, size_wh: tuple[int, int] = SIZE_WH, seed: int = 0) -> np.ndarray:
    """Sines in all directions, moved to the right by any number of pixels, exactly."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_wh[1], : size_wh[0]]
    picture = np.full(x.shape, 127.0)
    for _ in range(24):
        angle, period, phase = rng.uniform(0, np.pi), rng.uniform(7, 40), rng.uniform(0, 6.3)
        along = (x - shift_px) * np.cos(angle) + y * np.sin(angle)
        picture += 16 * np.sin(2 * np.pi * along / period + phase)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def video(speed_px: float, frames: int = 5) -> tuple[np.ndarray, np.ndarray]:
    luma = np.stack([texture(speed_px * k) for k in range(frames)])
    return luma, np.arange(frames, dtype=np.int64) * 33_367


def upsampled(
    luma: np.ndarray, t_us: np.ndarray, cuts: tuple[int, ...] = (), **options: Any
) -> tuple[np.ndarray, np.ndarray, Upsampler]:
    """All frames and times, the video fed in pieces that end at `cuts`."""
    upsampler = Upsampler(UpsampleConfig(**options), luma.shape[:0:-1])
    chunks = [
        chunk
        for start, end in pairwise((0, *cuts, len(luma)))
        for chunk in upsampler.feed(luma[start:end], t_us[start:end])
    ]
    frames = np.concatenate([chunk.luma for chunk in chunks])
    return frames, np.concatenate([chunk.t_us for chunk in chunks]), upsampler


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


@pytest.mark.parametrize("method", ["none", "linear", "flow"])
@pytest.mark.parametrize("cuts", [(1,), (2, 2, 4), (1, 2, 3, 4)])
def test_pieces_of_any_length_give_the_same_frames(method: str, cuts: tuple[int, ...]) -> None:
    luma, t_us = video(2.7)
    whole, pieces = upsampled(luma, t_us, method=method), upsampled(luma, t_us, cuts, method=method)
    assert np.array_equal(whole[0], pieces[0])
    assert np.array_equal(whole[1], pieces[1])
    assert whole[2].tally == pieces[2].tally


@pytest.mark.parametrize("method", ["none", "linear", "flow"])
def test_frames_of_the_video_keep_their_pixels_and_times(method: str) -> None:
    luma, _ = video(3.0)
    t_us = np.array([5, 33_401, 66_734, 150_000, 150_007])
    frames, times, _ = upsampled(luma, t_us, method=method, factor=4)
    assert frames.dtype == np.uint8
    assert times.dtype == np.int64
    assert np.array_equal(frames[np.isin(times, t_us)], luma)


def test_new_frames_are_spread_evenly_between_true_times() -> None:
    luma, _ = video(1.0, 3)
    frames, times, upsampler = upsampled(luma, np.array([0, 30_000, 90_002]), factor=3)
    assert times.tolist() == [0, 10_000, 20_000, 30_000, 50_001, 70_001, 90_002]
    assert len(frames) == len(times)
    assert upsampler.tally.added == 4


def test_an_interval_shorter_than_its_steps_is_cut_into_microseconds_and_counted() -> None:
    luma, _ = video(1.0, 3)
    _, times, upsampler = upsampled(luma, np.array([0, 3, 100]), factor=8)
    assert times.tolist() == [0, 1, 2, 3, 15, 27, 39, 52, 64, 76, 88, 100]
    assert upsampler.tally.shortened == 1
    assert "1 too short for all steps" in str(upsampler.tally)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 120_000), min_size=1, max_size=6),
    st.integers(-(10**15), 10**15),
    st.integers(2, 40),
)
def test_times_always_rise_and_hold_every_true_time(
    steps: list[int], start: int, factor: int
) -> None:
    t_us = start + np.cumsum([0, *steps])
    luma = np.zeros((len(t_us), 16, 16), np.uint8)
    _, times, upsampler = upsampled(luma, t_us, method="linear", factor=factor)
    assert (np.diff(times) > 0).all()
    assert np.isin(t_us, times).all()
    assert upsampler.tally.added == len(times) - len(t_us)


@pytest.mark.parametrize(("speed_px", "steps"), [(0.0, 1), (0.6, 1), (2.6, 3), (5.5, 6)])
def test_auto_takes_as_many_steps_as_the_motion_has_pixels(speed_px: float, steps: int) -> None:
    _, times, _ = upsampled(*video(speed_px, 2))
    assert len(times) == steps + 1


def test_auto_follows_every_interval_by_itself() -> None:
    places = (0, 0, 3.5, 4.2, 6.0)
    luma = np.stack([texture(place) for place in places])
    _, times, _ = upsampled(luma, np.arange(5) * 10_000)
    steps = np.bincount(np.ceil(times[1:] / 10_000).astype(int))[1:]
    assert steps.tolist() == [1, 4, 1, 2]


def test_larger_steps_and_a_limit_make_fewer_frames() -> None:
    luma, t_us = video(5.0, 3)
    assert len(upsampled(luma, t_us, step_px=2.0)[1]) == 1 + 2 * 3
    _, times, upsampler = upsampled(luma, t_us, max_factor=4)
    assert len(times) == 1 + 2 * 4
    assert upsampler.tally.capped == 2


def test_long_gaps_and_cuts_are_left_as_they_are() -> None:
    luma = np.stack([texture(0), texture(3), texture(0, seed=9), texture(3, seed=9)])
    _, times, upsampler = upsampled(luma, np.array([0, 100_001, 133_000, 166_000]), factor=2)
    assert times.tolist() == [0, 100_001, 133_000, 149_500, 166_000]
    tally = upsampler.tally
    assert (tally.intervals, tally.gaps, tally.unmatched, tally.added) == (3, 1, 1, 1)
    assert "1 too long and left as they are" in str(tally)
    assert "1 without matching motion (cuts)" in str(tally)


@pytest.mark.parametrize("speed_px", [1.5, 4.3, 9.7])
def test_flow_finds_the_frame_between_where_a_mixture_does_not(speed_px: float) -> None:
    luma, t_us = video(speed_px, 2)
    between = {m: upsampled(luma, t_us, method=m, factor=4)[0][1:4] for m in ("flow", "linear")}
    truth = [texture(speed_px * k / 4) for k in (1, 2, 3)]
    inner = np.s_[:, 12:-12]
    for flow, linear, true in zip(between["flow"], between["linear"], truth, strict=True):
        assert rms(flow[inner], true[inner]) < 1.5
        assert rms(flow[inner], true[inner]) < 0.5 * rms(linear[inner], true[inner])


def exact_motion(forward: np.ndarray, backward: np.ndarray) -> Motion:
    """Motion with these flows and the agreement that follows from them."""
    return Motion(
        forward=forward,
        backward=backward,
        forward_agreement=_agreement(forward, backward)[0],
        backward_agreement=_agreement(backward, forward)[0],
        matched=1.0,
    )


def test_what_is_covered_or_uncovered_comes_from_the_frame_that_shows_it() -> None:
    background, square = texture(0), texture(0, seed=5)

    def shown(left: int) -> np.ndarray:
        picture = background.copy()
        picture[20:44, left : left + 24] = square[20:44, :24]
        return picture

    first, second, middle = shown(30), shown(42), shown(36)
    forward, backward = np.zeros((2, *first.shape, 2), np.float32)
    forward[20:44, 30:54, 0] = 12
    backward[20:44, 42:66, 0] = -12
    frame = warp(first, second, exact_motion(forward, backward), np.array([0.5]))[0]
    assert np.abs(frame.astype(int) - middle).max() <= 1
    uncovered = np.s_[22:42, 31:35]  # background at this moment, under the square at first
    assert np.array_equal(frame[uncovered], second[uncovered])
    covered = np.s_[22:42, 61:65]  # background at this moment, under the square later
    assert np.array_equal(frame[covered], first[covered])


def test_what_enters_the_picture_comes_from_the_frame_that_shows_it() -> None:
    first, second = texture(0), texture(8)
    forward = np.zeros((*first.shape, 2), np.float32)
    forward[..., 0] = 8
    frame = warp(first, second, exact_motion(forward, -forward), np.array([0.5]))[0]
    assert np.abs(frame.astype(int) - texture(4)).max() <= 1  # the left 4 columns are new


def test_warping_adds_no_contrast_at_an_edge() -> None:
    first = np.full((32, 48), 50, np.uint8)
    first[:, 20:] = 200
    forward = np.zeros((32, 48, 2), np.float32)
    forward[..., 0] = 0.8
    motion = exact_motion(forward, -forward)
    frames = warp(first, first, motion, np.linspace(0.1, 0.9, 9))
    assert frames.min() == 50
    assert frames.max() == 200


def test_agreement_is_that_of_the_published_criterion() -> None:
    forward = np.zeros((16, 20, 2), np.float32)
    forward[..., 0] = 3
    agreement, matched = _agreement(forward, -forward)
    assert np.array_equal(agreement[:, :17], np.ones((16, 17), np.float32))
    assert not agreement[:, 17:].any()  # they leave the picture
    assert matched == 1
    off = -forward + np.float32(0.5)  # 0.5 px off in x and in y
    allowed = 0.5 + 0.01 * (9 + 2.5**2 + 0.5**2)
    agreement, matched = _agreement(forward, off)
    np.testing.assert_allclose(agreement[:, :17], np.exp(-0.5 / allowed), rtol=1e-5)
    assert matched == 1
    assert _agreement(forward, -forward + np.float32(1.0))[1] == 0


def test_motion_of_a_moving_texture_is_found_both_ways() -> None:
    motion = MotionEstimator()(texture(0), texture(4.3))
    assert motion.matched > 0.95
    assert np.median(motion.forward[..., 0]) == pytest.approx(4.3, abs=0.15)
    assert np.median(motion.backward[..., 0]) == pytest.approx(-4.3, abs=0.15)
    assert motion.extent_px == pytest.approx(4.3, abs=0.7)


def test_the_number_of_threads_of_opencv_neither_matters_nor_changes() -> None:
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            results.append(upsampled(*video(3.3, 2))[0])
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*results)


def events_of(frames: np.ndarray, t_us: np.ndarray) -> Events:
    return DvsEmulator(DvsConfig(), SIZE_WH).feed(frames, t_us)


def test_flow_brings_back_events_that_a_mixture_cannot() -> None:
    steps, speed_px = 24, 7.0
    luma = np.stack([texture(speed_px * k / steps) for k in range(4 * steps + 1)])
    t_us = np.arange(len(luma)) * 1390
    true = len(events_of(luma, t_us))
    sparse = luma[::steps], t_us[::steps]
    found = {m: len(events_of(*upsampled(*sparse, method=m)[:2])) for m in ("linear", "flow")}
    assert len(events_of(*sparse)) < 0.9 * true
    assert found["linear"] == pytest.approx(len(events_of(*sparse)), rel=0.02)
    assert found["flow"] == pytest.approx(true, rel=0.05)


def test_frames_are_made_one_interval_at_a_time() -> None:
    luma, t_us = video(2.5, 4)
    chunks = Upsampler(UpsampleConfig(factor=5), SIZE_WH).feed(luma, t_us)
    assert isinstance(chunks, Iterator)
    assert [len(chunk.t_us) for chunk in chunks] == [1, 5, 5, 5]


def test_frames_nobody_asked_for_do_not_change_the_next() -> None:
    luma, t_us = video(2.5, 4)
    upsampler = Upsampler(UpsampleConfig(), SIZE_WH)
    upsampler.feed(luma[:2], t_us[:2])
    rest = [chunk.luma for chunk in upsampler.feed(luma[2:], t_us[2:])]
    whole, times, _ = upsampled(luma, t_us)
    assert np.array_equal(np.concatenate(rest), whole[times > t_us[1]])


@pytest.mark.parametrize("cuts", [(), (1,), (2, 4)])
def test_only_wanted_intervals_are_cut_into_steps(cuts: tuple[int, ...]) -> None:
    luma, t_us = video(2.7, 6)
    everywhere, times_us, _ = upsampled(luma, t_us, factor=4)
    upsampler = Upsampler(UpsampleConfig(factor=4), SIZE_WH)

    def wanted(start_us: int, end_us: int) -> bool:
        return start_us < t_us[3] and end_us > t_us[1]

    chunks = [
        chunk
        for start, end in pairwise((0, *cuts, len(luma)))
        for chunk in upsampler.feed(luma[start:end], t_us[start:end], wanted)
    ]
    frames = np.concatenate([chunk.luma for chunk in chunks])
    kept_us = np.concatenate([chunk.t_us for chunk in chunks])
    inside = (times_us >= t_us[1]) & (times_us <= t_us[3]) | np.isin(times_us, t_us)
    np.testing.assert_array_equal(kept_us, times_us[inside])
    np.testing.assert_array_equal(frames, everywhere[inside])
    assert upsampler.tally.intervals == 5
    assert upsampler.tally.unwanted == 3
    assert "3 away from what was asked for" in str(upsampler.tally)


def test_no_frames_are_no_chunks_and_one_frame_is_itself() -> None:
    upsampler = Upsampler(UpsampleConfig(), SIZE_WH)
    luma, t_us = video(1.0, 1)
    assert list(upsampler.feed(luma[:0], t_us[:0])) == []
    (chunk,) = upsampler.feed(luma, t_us)
    assert np.array_equal(chunk.luma, luma)


@pytest.mark.parametrize("size_wh", [(16, 16), (16, 200), (200, 17), (33, 16)])
def test_small_and_narrow_frames_are_upsampled(size_wh: tuple[int, int]) -> None:
    luma = np.stack([texture(0, size_wh), texture(1, size_wh)])
    assert len(upsampled(luma, np.array([0, 1000]), factor=2)[1]) in (2, 3)


def test_identity_names_what_decides_the_frames() -> None:
    assert UpsampleConfig(method="none", max_factor=9).identity() == {"method": "none"}
    fixed = UpsampleConfig(factor=8, max_factor=9, step_px=2.0).identity()
    assert fixed == {"method": "flow", "factor": 8, "longest_gap_s": 0.1}
    assert UpsampleConfig().identity() != UpsampleConfig(step_px=2.0).identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cubic"}, "method: got 'cubic', need one of none, linear, flow, superslomo"),
        ({"factor": 1}, "factor: got 1, need 2 to 256 or 'auto'"),
        ({"factor": "fast"}, "factor: got 'fast'"),
        ({"factor": 2.5}, "factor: got 2.5"),
        ({"max_factor": 300}, "max_factor: got 300, need 2 to 256"),
        ({"step_px": 0.0}, "step_px: got 0.0"),
        ({"step_px": float("nan")}, "step_px: got nan"),
        ({"longest_gap_s": -1.0}, "longest_gap_s: got -1.0"),
        ({"device": "tpu"}, "device: got 'tpu', need 'cpu' or 'cuda'"),
        ({"method": "superslomo"}, "needs the file SuperSloMo39.ckpt"),
        ({"checkpoint": Path("a.ckpt")}, "with method 'flow'"),
    ],
)
def test_unusable_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        UpsampleConfig(**options)


def test_unusable_frames_and_times_are_refused() -> None:
    luma, t_us = video(1.0, 3)
    upsampler = Upsampler(UpsampleConfig(), SIZE_WH)
    with pytest.raises(UsageError, match=r"frames: got float32 .* need uint8 \(n, 64, 96\)"):
        upsampler.feed(luma.astype(np.float32), t_us)
    with pytest.raises(UsageError, match=r"need uint8 \(n, 64, 96\)"):
        upsampler.feed(luma[:, 1:], t_us)
    with pytest.raises(UsageError, match=r"t_us: got float64 .* need int64 \(3,\)"):
        upsampler.feed(luma, t_us / 1e6)
    with pytest.raises(UsageError, match=r"got int64 \(2,\) for 3 frames"):
        upsampler.feed(luma, t_us[:2])
    with pytest.raises(UsageError, match="33367 us is followed by 33367 us, need rising times"):
        upsampler.feed(luma, t_us[[0, 1, 1]])
    list(upsampler.feed(luma, t_us))
    with pytest.raises(UsageError, match="66734 us is followed by 0 us"):
        upsampler.feed(luma, t_us)
    with pytest.raises(UsageError, match="need 16 pixels or more"):
        Upsampler(UpsampleConfig(), (15, 400))
