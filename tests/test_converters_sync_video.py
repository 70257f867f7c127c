"""The camera's rotation from pictures, and the small pictures it is made from."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from egotriad.converters import video_blocks
from egotriad.converters.video import FrameChunk, read_frames
from egotriad.converters.video_blocks import FrameTap, block_starts, read_small_frames
from egotriad.converters.video_rotation import CameraRotation, camera_rotation
from egotriad.converters.video_rotation_fit import fit_rotation
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.world_room import HEAD_FROM_CAMERA, make_room, render

DRAWS = np.random.default_rng(0).random((40, 2))


def moved(rotation: np.ndarray, count: int = 80) -> np.ndarray:
    """Points (n, 4) that move as a camera turning by `rotation` sees them."""
    x, y = np.random.default_rng(1).uniform(-0.9, 0.9, (2, count))
    u = rotation[0] * x * y - rotation[1] * (1 + x * x) + rotation[2] * y
    v = rotation[0] * (1 + y * y) - rotation[1] * x * y - rotation[2] * x
    return np.stack([x, y, u, v], axis=1)


def test_a_rotation_is_recovered_exactly_and_agreed_on_by_all() -> None:
    rotation = np.array([0.02, -0.05, 0.03])
    *found, sigma, share = fit_rotation(moved(rotation), 0.01, 1e-5, DRAWS)
    assert found == pytest.approx(rotation, abs=1e-9)
    assert share == 1.0
    assert 0 < sigma < 1e-5


def test_a_minority_that_moves_otherwise_does_not_bend_it() -> None:
    rotation = np.array([0.02, -0.05, 0.03])
    points = moved(rotation)
    points[:32, 2:] += np.random.default_rng(2).uniform(0.05, 0.2, (32, 2))
    *found, _, share = fit_rotation(points, 0.01, 1e-5, DRAWS)
    assert found == pytest.approx(rotation, abs=1e-6)
    assert share == pytest.approx(0.6)


def test_points_in_one_place_define_no_rotation() -> None:
    points = np.tile([0.0, 0.0, 0.01, 0.0], (20, 1))
    assert not np.isfinite(fit_rotation(points, 0.01, 1e-5, DRAWS)[:4]).all()


def turning(
    omega: tuple[float, float, float], frames: int = 12, rate_hz: float = 20.0
) -> Iterator[FrameChunk]:
    """A camera in the middle of a room that turns steadily (rad/s, camera axes)."""
    from scipy.spatial.transform import Rotation

    room = make_room(np.random.default_rng(3))
    t = np.arange(frames) / rate_hz
    camera = Rotation.from_rotvec(np.outer(t, omega)).as_matrix()
    rotations = HEAD_FROM_CAMERA @ camera @ HEAD_FROM_CAMERA.T
    positions = np.tile(np.array(room.size_m) / 2, (frames, 1))
    luma = render(room, positions, rotations, (160, 120))
    yield FrameChunk(luma, np.rint(t * 1e6).astype(np.int64))


@pytest.mark.parametrize("omega", [(0.6, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 0.8)])
def test_a_turning_camera_is_measured_in_all_axes(omega: tuple[float, float, float]) -> None:
    rotation = camera_rotation(turning(omega))
    assert len(rotation) == 11
    assert rotation.omega.mean(axis=0) == pytest.approx(omega, abs=0.015)
    assert np.abs(rotation.omega - omega).max() < 0.05
    assert (rotation.agreement > 0.8).all()
    assert (rotation.sigma < 0.05).all()
    assert (rotation.corners > 40).all()


def test_the_focal_length_scales_pitch_and_yaw_and_not_roll() -> None:
    known = camera_rotation(turning((0.5, 0.5, 0.5)), focal_per_width=1.0)
    assert known.focal_known
    assert known.focal_px == 160.0
    assert known.omega.mean(axis=0) == pytest.approx([0.25, 0.25, 0.5], abs=0.06)


def test_a_still_camera_does_not_turn_and_makes_no_events() -> None:
    rotation = camera_rotation(turning((0.0, 0.0, 0.0)))
    assert np.abs(rotation.omega).max() < 1e-6
    assert not rotation.event_rate_hz.any()


def test_events_grow_with_the_speed_of_turning() -> None:
    slow, fast = (camera_rotation(turning((0.0, w, 0.0))).event_rate_hz.mean() for w in (0.2, 0.4))
    assert 1.6 < fast / slow < 2.1


@pytest.mark.parametrize("grey", [2, 120])
def test_dark_and_bare_pictures_tell_no_rotation(grey: int) -> None:
    noise = np.random.default_rng(4).integers(-1, 2, (6, 120, 160))
    chunk = FrameChunk((noise + grey).astype(np.uint8), np.arange(6) * 50_000)
    rotation = camera_rotation([chunk])
    assert np.isnan(rotation.omega).all()
    assert not rotation.corners.any()
    assert rotation.brightness == pytest.approx(grey, abs=0.5)


def test_frames_far_apart_are_not_compared() -> None:
    (chunk,) = turning((0.0, 0.5, 0.0))
    later = FrameChunk(chunk.luma, chunk.t_us + 5_000_000)
    assert len(camera_rotation([chunk, later])) == 22


def test_wide_pictures_are_reduced() -> None:
    (chunk,) = turning((0.0, 0.5, 0.0))
    wide = FrameChunk(chunk.luma.repeat(3, axis=1).repeat(3, axis=2), chunk.t_us)
    rotation = camera_rotation([wide])
    assert rotation.size_wh == (160, 120)
    assert rotation.omega.mean(axis=0) == pytest.approx([0.0, 0.5, 0.0], abs=0.02)


def test_one_frame_a_change_of_size_and_a_bad_focal_length_are_errors() -> None:
    (chunk,) = turning((0.0, 0.5, 0.0))
    with pytest.raises(RecordingError, match="no two consecutive frames"):
        camera_rotation([FrameChunk(chunk.luma[:1], chunk.t_us[:1])])
    other = FrameChunk(chunk.luma[:, :100], chunk.t_us + 10_000_000)
    with pytest.raises(RecordingError, match=r"\(100, 160\), those before \(120, 160\)"):
        camera_rotation([chunk, other])
    with pytest.raises(UsageError, match="got -1"):
        camera_rotation([chunk], focal_per_width=-1.0)


def write_video(path: Path, frames: int = 90, gop: int = 15, b_frames: int = 0) -> None:
    """Drifting bars, 320x180 at 30 frames a second, a key frame every `gop`."""
    with av.open(str(path), "w") as container:
        options = {"g": str(gop), "crf": "20", "bf": str(b_frames), "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        x = np.arange(320)
        for k in range(frames):
            row = (110 + 60 * np.sin((x + 2 * k) / 12)).astype(np.uint8)
            planes = np.full((270, 320), 128, np.uint8)
            planes[:180] = row
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def joined(chunks: Iterator[FrameChunk]) -> tuple[np.ndarray, np.ndarray]:
    parts = list(chunks)
    return np.concatenate([c.luma for c in parts]), np.concatenate([c.t_us for c in parts])


def test_small_frames_are_the_frames_and_times_of_the_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    small, t_us = joined(read_small_frames(tmp_path / "a.mp4", width=160))
    grey, times = joined(read_frames(tmp_path / "a.mp4", size_wh=(160, 90)))
    assert np.array_equal(t_us, times)
    assert small.shape == grey.shape == (90, 90, 160)
    assert np.abs(small.astype(int) - grey.astype(int)).mean() < 2.0


def test_blocks_begin_at_key_frames_and_hold_the_same_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    small, t_us = joined(read_small_frames(tmp_path / "a.mp4", width=160))
    some, times = joined(
        read_small_frames(
            tmp_path / "a.mp4", width=160, starts=(0, 1_200_000, 2_600_000), block_us=300_000
        )
    )
    frames = np.rint(times * 30e-6).astype(int)
    assert frames.tolist() == [*range(9), *range(30, 39), *range(75, 84)]  # keys every 15
    assert np.array_equal(some, small[frames])
    assert np.array_equal(times, t_us[frames])


def test_blocks_that_overlap_give_no_frame_twice(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gop=90)  # one key frame: every seek lands on the first frame
    _, times = joined(
        read_small_frames(tmp_path / "a.mp4", width=160, starts=(0, 1_000_000), block_us=500_000)
    )
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("seen", [0, 1, 37, 78, 90])
@pytest.mark.parametrize(
    "blocks",
    [{}, {"starts": (0, 1_200_000, 2_600_000), "block_us": 300_000}, {"starts": (0, 500_000)}],
)
def test_what_is_tapped_from_a_pass_is_what_would_have_been_read(
    tmp_path: Path, blocks: dict[str, Any], seen: int, b_frames: int
) -> None:
    write_video(tmp_path / "a.mp4", b_frames=b_frames)
    if "starts" in blocks:
        blocks = {"block_us": 900_000} | blocks  # the last blocks overlap
    read, times = joined(read_small_frames(tmp_path / "a.mp4", width=160, **blocks))
    taken: list[FrameChunk] = []
    tap = FrameTap(tmp_path / "a.mp4", taken.append, width=160, **blocks)
    passing = read_frames(tmp_path / "a.mp4", chunk_frames=1, through=tap.through)
    for _ in range(seen):
        next(passing)
    if seen == 90:
        assert next(passing, None) is None
    passing.close()
    tap.finish()
    tapped, tapped_times = joined(iter(taken))
    assert np.array_equal(tapped_times, times)
    assert np.array_equal(tapped, read)


def test_a_video_that_cannot_be_searched_ends_the_tap_and_not_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4")
    taken: list[FrameChunk] = []
    tap = FrameTap(
        tmp_path / "a.mp4", taken.append, width=160, starts=(0, 2_000_000), block_us=500_000
    )

    def refuse(*words: Any) -> None:
        raise RecordingError("its video cannot be searched")

    monkeypatch.setattr(video_blocks, "_seek", refuse)
    frames = sum(len(chunk.t_us) for chunk in read_frames(tmp_path / "a.mp4", through=tap.through))
    assert frames == 90
    with pytest.raises(RecordingError, match="cannot be searched"):
        tap.finish()


def test_damage_behind_the_pass_costs_the_tap_what_cannot_be_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    where = data.index(b"mdat") + (len(data) - data.index(b"mdat")) * 2 // 3
    data[where : where + 400] = bytes(400)
    (tmp_path / "b.mp4").write_bytes(data)
    taken: list[FrameChunk] = []
    tap = FrameTap(tmp_path / "b.mp4", taken.append, width=160)
    passing = read_frames(tmp_path / "b.mp4", chunk_frames=10, through=tap.through)
    next(passing)
    passing.close()
    tap.finish()
    _, read_times = joined(read_small_frames(tmp_path / "b.mp4", width=160))
    assert np.array_equal(joined(iter(taken))[1], read_times)
    assert 10 < len(read_times) < 90


def test_a_damaged_video_gives_what_can_be_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    (tmp_path / "b.mp4").write_bytes(data)
    _, times = joined(read_small_frames(tmp_path / "b.mp4", width=160))
    assert 10 < len(times) <= 90
    assert (np.diff(times) > 0).all()


def test_block_starts_cover_both_ends_and_the_share_asked_for() -> None:
    starts = block_starts(600_000_000, block_us=20_000_000, share=0.25, least_us=0)
    assert starts is not None
    assert starts[0] == 0
    assert starts[-1] == 580_000_000
    assert len(starts) == 8
    assert np.ptp(np.diff(starts)) <= 1
    assert block_starts(100_000_000, block_us=20_000_000, share=0.25, least_us=120_000_000) is None
    with pytest.raises(UsageError, match="share 0"):
        block_starts(1, block_us=1, share=0.0, least_us=1)


def test_a_rotation_shows_its_size_and_not_its_contents() -> None:
    rotation: CameraRotation = camera_rotation(turning((0.0, 0.5, 0.0)))
    assert repr(rotation) == "CameraRotation(11 frame pairs, 11 with a rotation)"
