import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from egotriad.converters.imu import resample
from egotriad.converters.video import probe, read_frames
from egotriad.manifests import Unreadable
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_gopro import DATASET, GoProOptions
from egotriad.pipelines.fake_gopro import write_fake_gopro
from egotriad.pipelines.plan import BuildConfig


@pytest.fixture
def options(tmp_path: Path) -> GoProOptions:
    return DATASET.fake(tmp_path / "raw")


def test_the_fake_recording_is_a_real_mp4_with_telemetry(tmp_path: Path, options: GoProOptions):
    (recording,) = DATASET.recordings(tmp_path / "raw", options)
    assert recording.recording_id == "GX010001"
    assert recording.wearer == "fake"
    assert recording.duration_us == 6_006_000
    assert recording.align.status == "hardware"
    assert (recording.imu_kind, recording.text_source) == ("head_acc_gyro", "human")
    assert recording.license_id == DATASET.licence_id == "own"
    assert [n.text for n in recording.narrations] == ["C walks forward", "C looks around"]
    assert recording.files == (options.input[0], options.narrations)
    info = probe(recording.video_path)
    assert (info.size_wh, info.frame_count, info.codec) == ((64, 48), 180, "h264")
    frames = list(read_frames(recording.video_path))
    assert frames[0].t_us[:3].tolist() == [0, 33_367, 66_733]
    assert sum(len(chunk.t_us) for chunk in frames) == 180
    assert sum(float(np.ptp(chunk.luma)) for chunk in frames) > 0


def test_its_imu_lies_on_the_videos_clock_and_fills_a_window(tmp_path: Path, options: GoProOptions):
    (recording,) = DATASET.recordings(tmp_path / "raw", options)
    track = pickle.loads(pickle.dumps(recording)).read_imu()
    assert track.rate_hz == pytest.approx(197.45, abs=1e-3)
    assert track.accel.t_us[0] == -5046
    assert track.accel.values[2].mean() == pytest.approx(9.81, abs=0.01)
    imu = resample(track, t_start_us=0, duration_us=5_000_000, rate_hz=200.0)
    assert imu.valid.all()
    # Channel Z holds the walk, two steps a second, counted from the first sample.
    walk = 9.81 + 2.0 * np.sin(2 * np.pi * 2.0 * (np.arange(1000) / 200 + 0.005046))
    assert np.abs(imu.data[2] - walk).max() < 0.01


def test_the_same_fake_is_written_every_time(tmp_path: Path):
    (first, second) = (DATASET.fake(tmp_path / name).input[0].read_bytes() for name in "ab")
    assert first == second


def test_a_folder_stands_for_its_mp4s_and_a_folder_of_narrations_for_theirs(
    tmp_path: Path, options: GoProOptions
):
    source = options.input[0]
    folder, texts = tmp_path / "in", tmp_path / "texts"
    folder.mkdir()
    texts.mkdir()
    for name in ("b walk (1).mp4", "A.MP4"):
        (folder / name).write_bytes(source.read_bytes())
    (folder / "note.txt").write_text("no video")
    (texts / "b walk (1).csv").write_text("time_s,text\n1,C turns\n")
    (texts / "A.srt").write_text("1\n00:00:02,000 --> 00:00:03,000\nC sits\n")
    found = DATASET.recordings(tmp_path, GoProOptions(input=(folder,), narrations=texts))
    assert [recording.recording_id for recording in found] == ["A", "b-walk-1-"]
    assert [recording.narrations[0].text for recording in found] == ["C sits", "C turns"]
    (texts / "A.srt").unlink()
    first, second = DATASET.recordings(tmp_path, GoProOptions(input=(folder,), narrations=texts))
    assert isinstance(first, Unreadable)
    assert re.match(r"A.MP4: got 0 narration files in .*: A.csv or A.srt", first.message)
    assert second.recording_id == "b-walk-1-"


def test_without_narrations_there_is_no_text(tmp_path: Path, options: GoProOptions):
    (recording,) = DATASET.recordings(tmp_path, replace(options, narrations=None))
    assert recording.narrations == ()
    assert recording.text_source == "none"
    assert recording.files == options.input


def test_settings_that_make_no_sense_are_usage_errors(tmp_path: Path, options: GoProOptions):
    with pytest.raises(UsageError, match="name mp4 files or folders with --input"):
        DATASET.recordings(tmp_path, GoProOptions())
    two = GoProOptions(input=options.input * 2, narrations=options.narrations)
    with pytest.raises(UsageError, match="one file for 2 recordings"):
        DATASET.recordings(tmp_path, two)


def plain_video(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32), 9 * index, np.uint8), "gray")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def telemetry_only(path: Path, source: Path) -> Path:
    with av.open(str(source)) as read, av.open(str(path), "w") as container:
        track = read.streams.data[0]
        copy = container.add_data_stream("bin_data")
        copy.time_base = track.time_base
        for packet in read.demux(track):
            if packet.size:
                packet.stream = copy
                container.mux(packet)
    return path


def test_every_kind_of_bad_input_has_its_own_message(tmp_path: Path, options: GoProOptions):
    good = options.input[0]
    bare = tmp_path / "payload.raw"
    bare.write_bytes(b"DEVC" + bytes(100))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:-2000])
    empty = tmp_path / "empty.csv"
    empty.touch()
    empty_folder = tmp_path / "folder"
    empty_folder.mkdir()
    for changed, message in (
        ({"input": (plain_video(tmp_path / "plain.mp4"),)}, r"plain.mp4: carries no GPMF track"),
        ({"input": (bare,)}, r"payload.raw: IMU without video"),
        (
            {"input": (telemetry_only(tmp_path / "data.mp4", good),)},
            r"data.mp4: holds no video stream, only 0 data \(GoPro MET\)",
        ),
        ({"input": (cut,)}, r"cut.mp4: the file looks cut off"),
        ({"input": (tmp_path / "missing.mp4",)}, r"missing.mp4: no such file"),
        ({"input": (empty_folder,)}, r"no mp4 in this folder"),
        ({"narrations": empty}, r"empty.csv: the file is empty"),
        ({"narrations": tmp_path / "missing.csv"}, r"missing.csv: no such file"),
    ):
        out = tmp_path / "out"
        with pytest.raises(RecordingError, match=message):
            build(
                DATASET,
                replace(options, **changed),
                BuildConfig(),
                raw=tmp_path,
                out=out,
                workers=1,
            )
        assert not list(out.rglob("*.parquet*"))


def test_bad_files_do_not_stop_the_good_one(tmp_path: Path, options: GoProOptions):
    plain = plain_video(tmp_path / "plain.mp4")
    missing = tmp_path / "missing.mp4"
    mixed = replace(options, input=(plain, *options.input, missing), narrations=None)
    config = BuildConfig(sensor="32x24", window_s=2.0)
    report = build(DATASET, mixed, config, raw=tmp_path, out=tmp_path / "out", workers=1)
    assert (report.recordings, report.clips) == (1, 3)
    assert "no GPMF track" in report.failed["plain"]
    assert "no such file" in report.failed["missing"]
    assert (tmp_path / "out" / "quarantine" / "plain.json").is_file()


def test_the_real_walk_is_one_hardware_aligned_recording(
    tmp_path: Path, shared: Callable[[str], Path]
):
    path = shared("real/gopro_max_walk/max-heromode.mp4")
    (recording,) = DATASET.recordings(tmp_path, GoProOptions(input=(path,), wearer="w1"))
    assert recording.recording_id == "max-heromode"
    assert recording.duration_us == 10_510_500
    assert recording.align.status == "hardware"
    imu = resample(recording.read_imu(), t_start_us=0, duration_us=10_000_000, rate_hz=200.0)
    assert imu.data.shape == (6, 2000)
    assert imu.valid.all()
    assert np.linalg.norm(imu.data[:3], axis=0).mean() == pytest.approx(9.83, abs=0.05)


def test_chapters_become_one_recording_and_one_build(tmp_path: Path, options: GoProOptions):
    folder = options.input[0].parent
    write_fake_gopro(folder, chapter=2)
    whole = replace(options, input=(folder,))
    (recording,) = DATASET.recordings(tmp_path, whole)
    assert recording.recording_id == "GX010001"
    assert recording.duration_us == 2 * 6_006_000
    assert [file.name for file in recording.files[:2]] == ["GX010001.mp4", "GX020001.mp4"]
    config = BuildConfig(sensor="32x24", window_s=4.0)
    report = build(DATASET, whole, config, raw=tmp_path, out=tmp_path / "out", workers=1)
    assert report.clips == 3, "the second window lies across the seam"
    write_fake_gopro(folder, chapter=4)
    (broken,) = DATASET.recordings(tmp_path, whole)
    assert isinstance(broken, Unreadable)
    assert "GX040001.mp4: does not follow GX020001.mp4" in broken.message
