from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from egotriad.converters.video import probe, read_frames
from egotriad.manifests.errors import RecordingError, UsageError


def write_video(
    path: Path,
    frames: list[np.ndarray],
    pts_ms: list[int],
    *,
    codec: str = "ffv1",
    pix_fmt: str = "gray",
) -> Path:
    """Frames (H, W) grey or (H, W, 3) RGB at given times; ffv1 keeps every value."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, pts in zip(frames, pts_ms, strict=True):
            layout = "gray" if image.ndim == 2 else "rgb24"
            frame = av.VideoFrame.from_ndarray(image, format=layout).reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def noise(count: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width), dtype=np.uint8) for _ in range(count)]


def whole(path: Path, **options: object) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(read_frames(path, **options))
    return (
        np.concatenate([chunk.luma for chunk in chunks]),
        np.concatenate([chunk.t_us for chunk in chunks]),
    )


def test_frames_come_back_in_chunks_with_their_own_times(tmp_path: Path):
    frames = noise(10)
    pts_ms = [40, 73, 107, 140, 200, 201, 240, 1000, 1033, 1067]
    path = write_video(tmp_path / "a.mkv", frames, pts_ms)
    chunks = list(read_frames(path, chunk_frames=4))
    assert [len(chunk.t_us) for chunk in chunks] == [4, 4, 2]
    assert [chunk.luma.shape for chunk in chunks] == [(4, 24, 32), (4, 24, 32), (2, 24, 32)]
    luma, t_us = whole(path, chunk_frames=3)
    assert luma.dtype == np.uint8
    assert t_us.dtype == np.int64
    assert np.array_equal(luma, np.stack(frames))
    assert t_us.tolist() == [(pts - 40) * 1000 for pts in pts_ms]


def test_chunks_do_not_share_memory(tmp_path: Path):
    frames = noise(6)
    chunks = list(
        read_frames(write_video(tmp_path / "a.mkv", frames, list(range(6))), chunk_frames=2)
    )
    chunks[0].luma[:] = 0
    assert np.array_equal(chunks[1].luma, np.stack(frames[2:4]))


def test_30000_over_1001_hz_is_rounded_from_exact_ticks(tmp_path: Path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(30_000, 1001))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(31):
            frame = av.VideoFrame.from_ndarray(noise(1)[0], format="gray")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _, t_us = whole(path)
    assert t_us.tolist() == [round(Fraction(index * 1_001_000_000, 30_000)) for index in range(31)]
    info = probe(path)
    assert info.size_wh == (32, 24)
    assert info.frame_count == 31
    assert info.duration_us == 1_034_367
    assert info.frame_rate_hz == pytest.approx(29.97003)
    assert info.codec == "mpeg4"


def test_luma_is_the_bt601_mean_of_full_range_rgb(tmp_path: Path):
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    luma, _ = whole(write_video(tmp_path / "a.mkv", [image], [0], pix_fmt="bgr0"))
    expected = image @ [0.299, 0.587, 0.114]
    assert np.abs(luma[0] - expected).max() <= 1.0


def test_limited_range_video_is_stretched_to_full_range(tmp_path: Path):
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (24, 1))
    luma, _ = whole(write_video(tmp_path / "a.mkv", [ramp], [0], pix_fmt="yuv420p"))
    assert np.abs(luma[0].astype(int) - ramp).max() <= 1


def test_crop_keeps_the_aspect_and_the_centre(tmp_path: Path):
    image = np.zeros((40, 100), np.uint8)
    image[:, 30:70] = 200  # the centre square
    path = write_video(tmp_path / "a.mkv", [image], [0])
    luma, _ = whole(path, size_wh=(20, 20))
    assert luma.shape == (1, 20, 20)
    assert (luma == 200).all()
    tall, _ = whole(path, size_wh=(50, 10))
    assert tall.shape == (1, 10, 50)
    assert np.array_equal(tall[0], np.tile(np.repeat([0, 200, 0], [15, 20, 15]), (10, 1)))


def test_stretch_is_opencvs_area_resize_of_the_whole_frame(tmp_path: Path):
    (image,) = noise(1, 48, 64)
    path = write_video(tmp_path / "a.mkv", [image], [0])
    luma, _ = whole(path, size_wh=(20, 20), fit="stretch")
    assert np.array_equal(luma[0], cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA))


def test_a_repeated_time_names_the_frame_and_both_times(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", noise(4), [0, 10, 10, 20])
    with pytest.raises(
        RecordingError, match="frame 2 at 10000 us does not follow frame 1 at 10000"
    ):
        whole(path)


def test_bad_settings_are_usage_errors(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", noise(1), [0])
    for options in ({"fit": "pad"}, {"size_wh": (0, 10)}, {"chunk_frames": 0}):
        with pytest.raises(UsageError, match="got"):
            whole(path, **options)


def test_what_is_no_video_says_what_it_is(tmp_path: Path):
    missing = tmp_path / "missing.mp4"
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("not a video " * 50)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        samples.rate = 8000
        container.mux(stream.encode(samples))
    for path, message in (
        (missing, "no such file"),
        (tmp_path, "no such file"),
        (empty, "is empty"),
        (text, "not a media file"),
        (sound, r"no video stream, only 0 audio \(pcm_s16le\)"),
    ):
        with pytest.raises(RecordingError, match=message):
            probe(path)
        with pytest.raises(RecordingError, match=message):
            whole(path)


def h264(path: Path, seconds: int = 2, **options: str) -> bytes:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1", "g": "15"}
        for index, image in enumerate(noise(30 * seconds, 48, 64)):
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
@pytest.mark.parametrize("share", [0.2, 0.7, 0.99])
def test_a_truncated_mp4_is_recognised_before_decoding(
    tmp_path: Path, options: dict[str, str], share: float
):
    content = h264(tmp_path / "whole.mp4", **options)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RecordingError, match=r"cut.mp4: the file looks cut off"):
        probe(cut)


def test_damage_in_the_middle_says_how_far_decoding_came(tmp_path: Path):
    content = bytearray(h264(tmp_path / "whole.mp4"))
    middle = len(content) // 2
    content[middle : middle + 5000] = bytes(5000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    assert probe(damaged).frame_count == 60
    with pytest.raises(RecordingError, match=r"decodes to \d+ of 60 frames"):
        whole(damaged)


def test_a_stream_that_ends_before_its_declared_length_is_an_error(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", noise(50), list(range(0, 5000, 100)))
    assert probe(path).duration_us == pytest.approx(5_000_000, abs=100_000)
    assert len(whole(path)[1]) == 50
    content = path.read_bytes()
    # libav takes the end of a cut Matroska file for the end of the video: no error anywhere.
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(RecordingError, match=r"ends after 2\d frames at 2\.\d+ s.* and 4\.9\d+ s"):
        whole(path)


def test_a_real_gopro_file_has_315_frames_at_its_own_times(shared: Callable[[str], Path]):
    path = shared("real/gopro_max_walk/max-heromode.mp4")
    info = probe(path)
    assert info.size_wh == (848, 480)
    assert info.frame_count == 315
    assert info.duration_us == 10_510_500
    luma, t_us = whole(path, size_wh=(346, 260))
    assert luma.shape == (315, 260, 346)
    assert t_us.tolist() == [round(Fraction(k * 1_001_000_000, 30_000)) for k in range(315)]


def test_of_two_video_streams_the_larger_is_read(shared: Callable[[str], Path]):
    path = shared("real/nasa_webb_subtitles/nasa_13013.mp4")
    assert probe(path).size_wh == (480, 270)
    assert probe(path).frame_count == 390
