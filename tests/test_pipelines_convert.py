"""`egotriad convert`: any event format into any other, video to events, IMU to a table."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from egotriad.cli import main
from egotriad.converters.dvs import DvsConfig, DvsEmulator
from egotriad.converters.event_files import FORMATS, open_events, write_events
from egotriad.converters.gpmf import read_gopro_imu
from egotriad.converters.imu_tables import read_imu_table
from egotriad.converters.interpolate import UpsampleConfig, Upsampler
from egotriad.converters.video import read_frames
from egotriad.manifests import Events
from egotriad.manifests.events import concatenate
from egotriad.pipelines.convert_cli import convert

SIZE_WH = (346, 260)


def random_events(n: int = 3000) -> Events:
    rng = np.random.default_rng(0)
    return Events(
        t_us=np.sort(rng.integers(10_000, 200_000, n)),
        x=rng.integers(0, SIZE_WH[0], n).astype(np.uint16),
        y=rng.integers(0, SIZE_WH[1], n).astype(np.uint16),
        p=rng.random(n) < 0.4,
        size_wh=SIZE_WH,
    ).canonical()


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    """Result of a conversion that succeeds."""
    assert convert([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """Message of a conversion that does not."""
    assert convert(list(map(str, words))) == code
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def written(path: Path) -> Events:
    return open_events(path, size_wh=SIZE_WH).read()


@pytest.mark.parametrize("source", FORMATS)
def test_any_format_becomes_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
):
    events = random_events()
    write_events(tmp_path / "source", events, format=source)
    for target in FORMATS:
        result = run(
            capsys, tmp_path / "source", tmp_path / target, "--to", target, "--size", "346x260"
        )
        assert written(tmp_path / target).same_as(events), target
        assert result["events"] == 3000
        assert result["format"] == target
        assert result["on"] == events.p.sum()
        assert (result["first_us"], result["last_us"]) == (events.t_us[0], events.t_us[-1])


def test_suffixes_choose_the_format_and_people_get_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_events(tmp_path / "a.raw", random_events())
    assert main(["convert", str(tmp_path / "a.raw"), str(tmp_path / "b.h5")]) == 0
    out = capsys.readouterr().out
    assert "b.h5: 3,000 events of 346x260 pixels as dsec" in out
    assert "% ON" in out
    assert written(tmp_path / "b.h5").same_as(random_events())


def test_a_clock_offset_is_kept_added_dropped_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    events, offset_us = random_events(), 3_000_000_000
    first_us = int(events.t_us[0])
    source = tmp_path / "a.h5"
    write_events(source, events, t_offset_us=offset_us)

    def times(target: str, *words: str) -> tuple[int, int, object]:
        """First time in the target, offset stored in it, offset reported."""
        result = run(capsys, source, tmp_path / target, *words)
        reader = open_events(tmp_path / target)
        return int(reader.read().t_us[0]), reader.t_offset_us, result["t_offset_us"]

    assert times("b.h5") == (first_us, offset_us, offset_us)
    assert times("b.h5", "--origin", "file") == (first_us, 0, offset_us)
    assert times("b.h5", "--origin", "absolute") == (first_us + offset_us, 0, 0)
    assert times("b.h5", "--origin", "first") == (0, offset_us + first_us, offset_us + first_us)
    assert times("b.raw", "--origin", "first") == (0, 0, offset_us + first_us)
    assert times("b.raw", "--origin", "file") == (first_us, 0, offset_us)
    message = complaint(capsys, 2, source, tmp_path / "c.raw")
    assert "evt3 cannot hold a clock offset, got 3000000000 us" in message
    assert not (tmp_path / "c.raw").exists()


def test_a_span_is_cut_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    events = random_events()
    write_events(tmp_path / "a.dat", events)
    run(capsys, tmp_path / "a.dat", tmp_path / "b.dat", "--start-us", 50_000, "--end-us", 60_000)
    assert written(tmp_path / "b.dat").same_as(events.between(50_000, 60_000))
    result = run(
        capsys, tmp_path / "a.dat", tmp_path / "c.dat", "--start-us", 10**9, "--origin", "first"
    )
    assert (result["events"], result["first_us"]) == (0, None)


def test_a_preview_is_written_beside_and_a_video_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_events(tmp_path / "a.dat", random_events())
    run(capsys, tmp_path / "a.dat", tmp_path / "b.npy", "--preview", tmp_path / "b.mp4")
    result = run(capsys, tmp_path / "a.dat", tmp_path / "c.mp4")
    assert result["format"] == "mp4"
    for name in ("b.mp4", "c.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert len(list(container.decode(video=0))) == 6  # 0.19 s
    assert "which is the target itself" in complaint(
        capsys, 2, tmp_path / "a.dat", tmp_path / "d.mp4", "--preview", tmp_path / "d.mp4"
    )


def test_a_source_that_is_cut_off_leaves_the_old_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_events(tmp_path / "a.dat", random_events())
    write_events(tmp_path / "b.h5", random_events(5))
    before = (tmp_path / "b.h5").read_bytes()
    content = (tmp_path / "a.dat").read_bytes()
    (tmp_path / "a.dat").write_bytes(content[:-3])
    message = complaint(capsys, 1, tmp_path / "a.dat", tmp_path / "b.h5")
    assert "a.dat: ends at byte" in message
    assert (tmp_path / "b.h5").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "a.npy"
    write_events(source, random_events())
    (tmp_path / "broken.h5").write_bytes(b"no HDF5 at all")
    (tmp_path / "notes.doc").write_bytes(b"no video at all")
    for code, words, expected in (
        (1, [tmp_path / "nothere.h5", "b.h5"], "nothere.h5: no such file; check the path"),
        (1, [tmp_path / "broken.h5", "b.npy"], "in no event format that is known here"),
        (1, [tmp_path / "notes.doc", "b.npy"], "notes.doc: not a media file"),
        (2, [source, "b.h5"], "does not say the size of its sensor; give it (--size"),
        (2, [source, "b.h5", "--size", "big"], "--size: got 'big', need WIDTHxHEIGHT"),
        (2, [source, "b.xyz", "--size", "346x260"], "'.xyz' means no event format"),
        (2, [source, "b.h5", "--from", "evt4"], "no event format is called 'evt4'"),
        (
            2,
            [source, "b.h5", "--preset", "clean", "--seed", "1"],
            "--preset, --seed: means nothing",
        ),
        (2, [source, "b.parquet", "--size", "346x260", "--to", "dsec"], "--to, --size: means"),
        (2, [source, "b.h5", "--origin", "last"], "--origin"),
    ):
        target = tmp_path / words[1]
        assert expected in complaint(capsys, code, words[0], target, *words[2:]), words
        assert not target.exists()


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_events(tmp_path / "a.dat", random_events(5))
    (tmp_path / "b.npy").mkdir()
    for target in (tmp_path / "a.dat" / "b.raw", tmp_path / "b.npy"):
        message = complaint(capsys, 2, tmp_path / "a.dat", target)
        assert f"{target}: cannot be written" in message
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_exit_code_74(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_events(tmp_path / "a.dat", random_events(5))
    monkeypatch.setattr("egotriad.pipelines.convert.event_video", full)
    message = complaint(capsys, 74, tmp_path / "a.dat", tmp_path / "b.mp4")
    assert "the disk is full" in message


def drifting_texture(path: Path, frames: int = 20) -> Path:
    """Lossless video, 25 Hz, of a random texture that moves by 2 pixels a frame."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(20, 235, (12, 30), dtype=np.uint8), np.ones((4, 4), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.time_base = Fraction(1, 25)
        for k in range(frames):
            image = np.ascontiguousarray(texture[:, 2 * k : 2 * k + 64])
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def emulated(path: Path, config: DvsConfig, upsample: UpsampleConfig, seed: int) -> Events:
    emulator = DvsEmulator(config, (64, 48), seed=seed, recording=path.stem)
    upsampler = Upsampler(upsample, (64, 48))
    parts = [
        emulator.feed(piece.luma, piece.t_us)
        for chunk in read_frames(path)
        for piece in upsampler.feed(chunk.luma, chunk.t_us)
    ]
    return concatenate(parts, (64, 48)).canonical()


def test_a_video_becomes_the_events_of_the_chosen_camera(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    video, target = drifting_texture(tmp_path / "walk.mkv"), tmp_path / "b.h5"
    result = run(capsys, video, target, "--preview", tmp_path / "b.mp4")
    expected = emulated(video, DvsConfig.preset("clean"), UpsampleConfig(), seed=0)
    assert open_events(target).read().same_as(expected)
    assert result["events"] == len(expected) > 5000
    assert (tmp_path / "b.mp4").stat().st_size > 1000
    words = ("--preset", "noisy", "--timing", "slots", "--upsample", "none", "--seed", 5)
    run(capsys, video, target, *words)
    noisy = DvsConfig.preset("noisy", timing="slots")
    expected = emulated(video, noisy, UpsampleConfig(method="none"), seed=5)
    assert open_events(target).read().same_as(expected)


def test_a_video_is_fitted_to_the_sensor_and_upsampled_by_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    video = drifting_texture(tmp_path / "walk.mkv")
    words = ("--size", "32x24", "--upsample", "linear", "--upsample-factor", 3)
    result = run(capsys, video, tmp_path / "b.raw", *words)
    assert result["size_wh"] == [32, 24]
    assert open_events(tmp_path / "b.raw").size_wh == (32, 24)
    assert "needs the file SuperSloMo39.ckpt" in complaint(
        capsys, 2, video, tmp_path / "c.raw", "--upsample", "superslomo"
    )
    assert "--preset: got 'best', need one of ideal" in complaint(
        capsys, 2, video, tmp_path / "c.raw", "--preset", "best"
    )
    assert "--origin: means nothing with a video" in complaint(
        capsys, 2, video, tmp_path / "c.raw", "--origin", "first"
    )


def test_the_imu_of_a_gopro_becomes_a_table(
    shared: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = shared("real/gopro_max_walk/max-heromode.mp4")
    result = run(capsys, source, tmp_path / "imu.parquet")
    track, table = read_gopro_imu(source), read_imu_table(tmp_path / "imu.parquet")
    assert np.array_equal(table.accel.values, track.accel.values)
    assert np.array_equal(table.gyro.t_us, track.gyro.t_us)
    assert result["accel_samples"] == len(track.accel)
    assert result["rate_hz"] == track.rate_hz


def test_the_imu_of_aria_glasses_becomes_a_table(
    shared: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("projectaria_tools")
    result = run(capsys, shared("real/aria_aea_clip/recording.vrs"), tmp_path / "imu.parquet")
    assert result["gyro_samples"] == len(read_imu_table(tmp_path / "imu.parquet").gyro) > 100
    assert result["rate_hz"] == pytest.approx(1000, rel=0.01)


def test_help_needs_no_torch():
    script = (
        "import sys\n"
        "from egotriad.pipelines.convert_cli import convert\n"
        "convert(['--help'])\n"
        "assert not {'torch', 'transformers', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--upsample" in done.stdout
