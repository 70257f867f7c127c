"""`egotriad sync` from files to verdicts: simulated, faked and real recordings."""

import json
import shutil
from pathlib import Path

import pytest

from egotriad.converters.imu_files import read_ego4d_imu
from egotriad.converters.sync_report import SegmentOffset, SyncReport
from egotriad.converters.video import read_frames
from egotriad.manifests import Alignment
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.dataset_simulated import DATASET
from egotriad.pipelines.fake_gopro import write_fake_gopro
from egotriad.pipelines.sync import SyncWatch, aligned, sync_recording
from egotriad.pipelines.sync_cli import sync
from egotriad.pipelines.sync_files import SyncJob, find_jobs, sync_file
from egotriad.pipelines.world_plan import WorldOptions

UID = "s5-w00-r0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WorldOptions]:
    """One recording of about 25 s whose IMU is 0.6 s ahead (its stamps too large)."""
    options = WorldOptions(
        wearers=1,
        recordings_per_wearer=1,
        clips_per_recording=6,
        seed=5,
        size_wh=(96, 72),
        frame_rate_hz=20.0,
        clock_offset_s=0.6,
        clock_drift_ppm=100.0,
        render_workers=1,
    )
    raw = tmp_path_factory.mktemp("world")
    DATASET.download(raw, options)
    return raw, options


def test_a_simulated_recording_is_brought_onto_its_video(world: tuple[Path, WorldOptions]) -> None:
    raw, _ = world
    job = SyncJob(video=raw / "full_scale" / f"{UID}.mp4", imu=raw / "imu" / f"{UID}.csv")
    report = sync_file(job).report
    assert report.verdict == "corrected"
    segment = report.segments[0]
    truth_us = -0.6e6 - 100e-6 * segment.middle_us
    assert segment.offset_us == pytest.approx(truth_us, abs=1500.0)
    assert report.witnesses_agree
    assert report.focal_per_width == pytest.approx(0.5, rel=0.05)


def test_a_dataset_recording_is_synchronised_and_its_alignment_told(
    world: tuple[Path, WorldOptions],
) -> None:
    (recording,) = DATASET.recordings(*world)
    report = sync_recording(recording, read_ego4d_imu(world[0] / "imu" / f"{UID}.csv"))
    told = aligned(recording.align, report)
    assert told.status == "estimated"
    assert told.offset_us == pytest.approx(-0.6e6, abs=5000)
    assert told.score == report.correlation > 0.95


def test_a_pass_that_is_only_watched_gives_the_very_same_report(
    world: tuple[Path, WorldOptions],
) -> None:
    (recording,) = DATASET.recordings(*world)
    track = recording.read_imu()
    watch = SyncWatch(recording.video_path, track)
    for chunk in read_frames(recording.video_path, size_wh=(32, 24), through=watch.through):
        if chunk.t_us[-1] > 15_000_000:  # the pass ends before the video does
            break
    assert watch.report() == sync_recording(recording, track)


def test_the_command_prints_the_verdict_and_draws_both_curves(
    world: tuple[Path, WorldOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, _ = world
    figure = tmp_path / "sync.html"
    words = [str(raw / "full_scale"), "--imu", str(raw / "imu"), "--figure", str(figure)]
    assert sync(words) == 0
    said = capsys.readouterr().out
    assert f"{UID}.mp4: corrected" in said
    assert "to IMU time" in said
    assert "the event rate agrees" in said
    html = figure.read_text("utf-8")
    assert html.startswith("<!doctype html>")
    assert "before: angular speed" in html
    assert "after: angular speed" in html
    assert html.count("<svg") == 3
    assert str(raw) not in html


def test_json_is_one_line_and_unreadable_files_do_not_stop_the_others(
    world: tuple[Path, WorldOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, _ = world
    shutil.copy(raw / "full_scale" / f"{UID}.mp4", tmp_path / "a.mp4")
    shutil.copy(raw / "imu" / f"{UID}.csv", tmp_path / "a.csv")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    shutil.copy(raw / "imu" / f"{UID}.csv", tmp_path / "b.csv")
    shutil.copy(tmp_path / "a.mp4", tmp_path / "c.mp4")  # and no IMU for it
    words = [str(tmp_path), "--imu", str(tmp_path), "--json", "--workers", "1"]
    assert sync(words) == 3
    (line,) = capsys.readouterr().out.splitlines()
    values = json.loads(line)
    assert [entry["recording"] for entry in values["recordings"]] == ["a.mp4"]
    assert values["recordings"][0]["verdict"] == "corrected"
    assert "b.mp4" in values["failed"]["b.mp4"]
    assert "got 0 IMU files" in values["failed"]["c.mp4"]


def test_a_gopro_file_brings_its_own_imu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, _ = write_fake_gopro(tmp_path)
    assert sync([str(video)]) == 0
    assert "cannot tell" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.mp4"], 1, "no such file or folder"),
        (["."], 2, "no video among"),
        (["a.mp4", "--imu", "nowhere"], 1, "nowhere: no such file or folder"),
        (["a.mp4", "b.mp4", "--imu", "a.csv"], 2, "one file for 2 videos"),
        (["a.mp4", "--imu", "imu"], 1, "got 0 IMU files in imu"),
        (["a.mp4", "--figure", "x.png"], 2, "ends in .html"),
        (["a.mp4", "--search-seconds", "0"], 2, "need 0.2 to 600 s"),
        (["a.mp4"], 1, "a.mp4"),
    ],
)
def test_mistakes_are_told_with_the_right_exit_code(
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if words != ["."]:
        Path("imu").mkdir()
        for name in ("a.mp4", "b.mp4", "a.csv"):
            Path(name).write_bytes(b"")
    assert sync(words) == code
    assert message in capsys.readouterr().err


def test_a_folder_stands_for_its_videos_and_imus_of_the_same_name(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.mov", "a.csv", "a.parquet", "notes.txt"):
        (tmp_path / name).touch()
    jobs = find_jobs((tmp_path,), tmp_path, SyncJob(video=Path()))
    assert [job.video.name for job in jobs] == ["a.mov", "b.MP4"]
    with pytest.raises(RecordingError, match=r"a\.mov: got 2 IMU files .* a\.parquet or a\.csv"):
        sync_file(jobs[0])
    with pytest.raises(UsageError, match="no video"):
        find_jobs((), None, SyncJob(video=Path()))


def report_of(verdict: str) -> SyncReport:
    segment = SegmentOffset(
        number=0,
        start_us=0,
        end_us=10,
        middle_us=5,
        offset_us=1234.4,
        interval_us=10.0,
        correlation=0.9,
        peak_ratio=2.0,
    )
    return SyncReport(verdict=verdict, reasons=("x",), segments=(segment,), correlation=0.97)


@pytest.mark.parametrize(
    ("verdict", "before", "after"),
    [
        ("corrected", "assumed", Alignment(status="estimated", offset_us=1234, score=0.97)),
        ("ok", "assumed", Alignment(status="estimated", score=0.97)),
        ("ok", "hardware", Alignment(status="hardware", score=0.97)),
        ("suspect", "hardware", Alignment(status="unverified", score=0.97)),
        ("cannot tell", "assumed", Alignment(status="assumed")),
    ],
)
def test_an_alignment_says_what_was_done(verdict: str, before: str, after: Alignment) -> None:
    assert aligned(Alignment(status=before), report_of(verdict)) == after


def test_real_stabilised_footage_is_not_judged(shared) -> None:
    report = sync_file(SyncJob(video=shared("real/gopro_max_walk/max-heromode.mp4"))).report
    assert report.verdict == "cannot tell"
    assert "stabilised" in report.reasons[0]


def test_real_aria_glasses_recording_of_half_a_second_is_too_short(shared) -> None:
    pytest.importorskip("projectaria_tools")
    report = sync_file(SyncJob(video=shared("real/aria_aea_clip/recording.vrs"))).report
    assert report.verdict == "cannot tell"
    assert report.reasons[0] == (
        "the IMU is too short: the longest of its clock segments lasts 0.4 s, need 8 s"
    )
