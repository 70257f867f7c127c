"""The builder on recordings made here: what is rejected, what fails, what survives."""

import dataclasses
import errno
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import av
import numpy as np
import pytest

from egotriad.converters.sync import SyncConfig
from egotriad.converters.sync_report import SegmentOffset, SyncReport
from egotriad.converters.video import FrameChunk, TimedFrame, read_frames
from egotriad.manifests import Alignment, ImuTrack, Narration, Recording, SensorStream
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.shards import read_shards
from egotriad.pipelines import part_imu
from egotriad.pipelines.build import build
from egotriad.pipelines.cli import build_shards
from egotriad.pipelines.dataset_gopro import GoProOptions
from egotriad.pipelines.plan import BuildConfig, plan_build
from egotriad.pipelines.sync import SyncWatch


def still_imu(seconds: float, gap_s: tuple[float, float] = (0.0, 0.0)) -> ImuTrack:
    t_us = (np.arange(round(seconds * 200)) * 5000).astype(np.int64)
    keep = (t_us < gap_s[0] * 1e6) | (t_us >= gap_s[1] * 1e6)
    t_us = t_us[keep]
    accel = np.zeros((3, len(t_us)))
    accel[2] = 9.81
    return ImuTrack(
        accel=SensorStream(t_us, accel),
        gyro=SensorStream(t_us, np.zeros((3, len(t_us)))),
        rate_hz=200.0,
        notes={},
    )


def broken_imu() -> ImuTrack:
    raise RecordingError("row 17: got 'abc', need a number")


def moving_bar(path: Path, seconds: float) -> Path:
    """A bright bar that moves one pixel a frame over grey, 30 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(round(seconds * 30)):
            image = np.full((48, 64, 3), 80, np.uint8)
            image[:, (k % 56) : (k % 56) + 8] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


class Made:
    """A dataset whose recordings are handed over."""

    name: ClassVar[str] = "made"
    licence_id: ClassVar[str] = "own"
    build_defaults: ClassVar[dict[str, Any]] = {}
    Options: ClassVar[type] = dict

    def __init__(self, recordings: list[Recording]) -> None:
        self._recordings = recordings

    def download(self, raw: Path, options: Any) -> None:
        pass

    def recordings(self, raw: Path, options: Any) -> Iterator[Recording]:
        yield from self._recordings

    def fake(self, raw: Path) -> Any:
        return {}


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Four seconds of video with a still IMU and two narrations."""
    video = moving_bar(tmp_path / "bar.mp4", 4.0)
    return Recording(
        source="made",
        source_version="1",
        recording_id="bar",
        wearer=None,
        video_path=video,
        read_imu=functools.partial(still_imu, 4.0),
        narrations=(Narration(t_us=500_000, text="one"), Narration(t_us=2_500_000, text="two")),
        duration_us=4_000_000,
        license_id="own",
        imu_kind="synthetic",
        text_source="label",
        align=Alignment(status="assumed"),
        files=(video,),
    )


CONFIG = BuildConfig(window_s=1.0, sensor="native")


def make(recordings: list[Recording], tmp_path: Path, config: BuildConfig = CONFIG) -> Any:
    return build(Made(recordings), {}, config, raw=tmp_path, out=tmp_path / "out", workers=1)


def test_events_follow_the_moving_bar(recording: Recording, tmp_path: Path) -> None:
    report = make([recording], tmp_path)
    clips = list(read_shards(tmp_path / "out"))
    assert report.clips == len(clips) == 4
    events = clips[1].events
    frame = (events.t_us + clips[1].t_start_us) / 1e6 * 30
    # The bar's right edge, brighter than before, is at column 7 + frame (modulo 56).
    ahead = (events.x - frame[:]) % 56
    on, off = ahead[events.p], ahead[~events.p]
    assert np.median(on) == pytest.approx(7, abs=1.5)
    assert min(np.median(off), 56 - np.median(off)) <= 1.5
    assert [clip.narration for clip in clips] == ["one", None, "two", None]
    assert clips[2].narrations[0].t_us == 500_000


def test_short_spans_come_from_upsampled_frames_and_the_record_says_so(
    recording: Recording, tmp_path: Path
) -> None:
    spans = dataclasses.replace(CONFIG, event_spans="0.1s@center")
    plain = dataclasses.replace(spans, upsample="none")
    assert plain.sim_id != spans.sim_id
    counts = {}
    for name, config in (("flow", spans), ("none", plain)):
        out = tmp_path / name
        build(Made([recording]), {}, config, raw=tmp_path, out=out, workers=1)
        clips = list(read_shards(out))
        times_us = np.concatenate([clip.events.t_us for clip in clips])
        counts[name] = len(times_us)
        assert {clip.origin.sim_id for clip in clips} == {config.sim_id}
        record = json.loads((out / "provenance.json").read_text())
        assert record["event_source"]["upsampling"]["method"] == name
        assert "intervals" in record["recordings"][0]["notes"]["upsampling"]
    # The bar moves a pixel a frame: there is nothing between two frames to add.
    assert counts["flow"] == pytest.approx(counts["none"], rel=0.2)


def test_noise_is_keyed_by_seed_and_recording(recording: Recording, tmp_path: Path) -> None:
    def events_of(name: str, **changes: Any) -> list[bytes]:
        noisy = dataclasses.replace(CONFIG, preset="noisy", **changes)
        named = dataclasses.replace(recording, recording_id=name.partition("-")[0])
        build(Made([named]), {}, noisy, raw=tmp_path, out=tmp_path / name, workers=1)
        return [clip.events.t_us.tobytes() for clip in read_shards(tmp_path / name)]

    first = events_of("bar")
    assert events_of("bar-again") == first
    assert events_of("bar-seeded", event_seed=1) != first
    assert events_of("rod") != first


def test_narration_windows_that_stick_out_are_reported(
    recording: Recording, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, windows="point", window_s=1.5)
    report = make([recording], tmp_path, config)
    assert (report.clips, report.rejected) == (1, {"outside-recording": 1})
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "outside-recording"


def test_what_is_wrong_with_the_imu_is_in_the_shard_and_can_reject(
    recording: Recording, tmp_path: Path
) -> None:
    def without_gravity() -> ImuTrack:
        track = still_imu(4.0)
        noise = np.random.default_rng(0).normal(0, 0.02, (3, len(track.accel)))
        accel = SensorStream(track.accel.t_us, noise)
        gyro = SensorStream(track.gyro.t_us, noise[::-1] * 0.1)
        return dataclasses.replace(track, accel=accel, gyro=gyro)

    odd = dataclasses.replace(recording, read_imu=without_gravity)
    make([odd], tmp_path)
    clips = list(read_shards(tmp_path / "out"))
    assert {clip.qc.imu_score for clip in clips} == {0.0}
    assert all("gravity-missing" in clip.qc.flags for clip in clips)
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert "gravity-missing" in record["recordings"][0]["imu"]["flags"]
    strict = dataclasses.replace(CONFIG, min_imu_score=0.5)
    with pytest.raises(RecordingError, match="4 x imu-quality"):
        build(Made([odd]), {}, strict, raw=tmp_path, out=tmp_path / "strict", workers=1)


def test_a_gap_in_the_imu_rejects_its_window_only(recording: Recording, tmp_path: Path) -> None:
    gappy = dataclasses.replace(recording, read_imu=functools.partial(still_imu, 4.0, (1.2, 1.7)))
    report = make([gappy], tmp_path)
    assert (report.clips, report.rejected) == (3, {"imu-gap": 1})
    kept = make([gappy], tmp_path, dataclasses.replace(CONFIG, max_gap_fraction=0.6))
    assert kept.clips == 4
    masked = list(read_shards(tmp_path / "out"))[1]
    assert 0.4 < 1 - masked.imu.valid.mean() < 0.6
    assert np.isnan(masked.imu.data[:, ~masked.imu.valid]).all()
    assert masked.qc.imu_gap_fraction == pytest.approx(1 - masked.imu.valid.mean(), abs=1e-6)


CLOCKS_OFF = SyncReport(
    verdict="corrected",
    reasons=("the IMU's stamps are 0.9 s too small",),
    segments=(
        SegmentOffset(
            number=0,
            start_us=0,
            end_us=3_995_000,
            middle_us=2_000_000,
            offset_us=900_000.0,
            interval_us=900.0,
            correlation=0.97,
            peak_ratio=3.0,
        ),
    ),
    clock_segments=1,
)


class Watched(SyncWatch):
    """Counts the frames of the pass that it watches."""

    frames: ClassVar[list[int]] = []

    def through(self, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
        for frame, t_us in super().through(frames):
            self.frames.append(t_us)
            yield frame, t_us

    def report(self, config: SyncConfig | None = None) -> SyncReport:
        assert super().report(config).verdict == "cannot tell"  # nothing turns in this video
        return CLOCKS_OFF


def test_clocks_are_checked_on_the_frames_that_the_events_are_made_of(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_imu, "SyncWatch", Watched)
    monkeypatch.delattr(part_imu, "sync_recording")  # no pass of its own
    Watched.frames.clear()
    assert make([recording], tmp_path).rejected == {}
    assert len(Watched.frames) == 120
    clips = list(read_shards(tmp_path / "out"))
    assert [clip.t_start_us for clip in clips] == [0, 1_000_000, 2_000_000, 3_000_000]
    assert {clip.align.status for clip in clips} == {"unverified"}
    assert {clip.align.offset_us for clip in clips} == {None}


def test_a_clock_that_shall_be_corrected_is_known_before_windows_are_chosen(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_imu, "sync_recording", lambda described, track: CLOCKS_OFF)
    config = dataclasses.replace(CONFIG, sync="correct")
    assert make([recording], tmp_path, config).rejected == {"imu-gap": 1}
    clips = list(read_shards(tmp_path / "out"))
    assert [clip.t_start_us for clip in clips] == [1_000_000, 2_000_000, 3_000_000]
    assert {clip.align.offset_us for clip in clips} == {900_000}
    assert all(clip.imu is not None and len(clip.events) > 0 for clip in clips)


def test_frames_too_far_apart_reject_the_windows_between_them(
    recording: Recording, tmp_path: Path
) -> None:
    def with_a_hole(**options: Any) -> Iterator[Any]:
        for chunk in read_frames(recording.video_path, chunk_frames=7, **options):
            keep = (chunk.t_us < 1_300_000) | (chunk.t_us > 2_200_000)
            if keep.any():
                yield FrameChunk(chunk.luma[keep], chunk.t_us[keep])

    holed = dataclasses.replace(recording, read_video=with_a_hole)
    report = make([holed], tmp_path)
    assert report.rejected == {"video-gap": 2}
    starts = [clip.t_start_us for clip in read_shards(tmp_path / "out")]
    assert starts == [0, 3_000_000]
    reasons = (tmp_path / "out" / "rejected.jsonl").read_text()
    assert "no frame between 1.267 and 2.233 s" in reasons


def test_a_video_shorter_than_its_recording_rejects_the_rest(
    recording: Recording, tmp_path: Path
) -> None:
    longer = dataclasses.replace(
        recording, duration_us=6_000_000, read_imu=functools.partial(still_imu, 6.0)
    )
    report = make([longer], tmp_path)
    assert report.clips == 4
    assert report.rejected == {"video-ends": 2}


def test_one_broken_recording_among_good_ones_is_quarantined(
    recording: Recording, tmp_path: Path
) -> None:
    bad = dataclasses.replace(recording, recording_id="bad", read_imu=broken_imu)
    none = dataclasses.replace(recording, recording_id="none", read_imu=None)
    report = make([bad, recording, none], tmp_path)
    assert report.clips == 4
    assert report.failed["bad"] == "made/bad: row 17: got 'abc', need a number"
    assert "--no-imu" in report.failed["none"]
    record = json.loads((tmp_path / "out" / "quarantine" / "bad.json").read_text())
    assert record["error"] == "RecordingError"
    mended = dataclasses.replace(bad, read_imu=recording.read_imu, source_version="2")
    assert make([mended, recording], tmp_path).failed == {}
    assert not (tmp_path / "out" / "quarantine" / "bad.json").exists()


def test_when_nothing_can_be_built_no_shards_appear(recording: Recording, tmp_path: Path) -> None:
    bad = dataclasses.replace(recording, read_imu=broken_imu)
    with pytest.raises(RecordingError, match="row 17"):
        make([bad], tmp_path)
    out = tmp_path / "out"
    assert not (out / "data").exists()
    assert not (out / "manifest.jsonl").exists()
    assert not list(out.rglob("*.parquet*"))


def test_clips_without_imu_or_without_events(recording: Recording, tmp_path: Path) -> None:
    silent = dataclasses.replace(recording, read_imu=None)
    make([silent], tmp_path, dataclasses.replace(CONFIG, imu=False))
    assert all(clip.imu is None for clip in read_shards(tmp_path / "out"))
    blind = dataclasses.replace(recording, video_path=None)
    make([blind], tmp_path, dataclasses.replace(CONFIG, events=False))
    assert all(clip.events is None for clip in read_shards(tmp_path / "out"))
    assert not list((tmp_path / "out" / "events").glob("*.parquet"))
    assert "Events are synthetic" not in (tmp_path / "out" / "README.md").read_text()


def test_shards_close_after_their_size_and_keep_the_rows_aligned(
    recording: Recording, tmp_path: Path
) -> None:
    names = [f"r{k}" for k in range(3)]
    copies = [dataclasses.replace(recording, recording_id=n, official_split="train") for n in names]
    noisy = dataclasses.replace(CONFIG, shard_mib=1, pos_thres=0.01, neg_thres=0.01)
    make(copies, tmp_path, dataclasses.replace(noisy, window_s=4.0))
    files = sorted(p.name for p in (tmp_path / "out" / "events").iterdir())
    assert len(list(read_shards(tmp_path / "out"))) == 3
    assert files == [f"train-{k:05d}-of-{len(files):05d}.parquet" for k in range(len(files))]


def test_changed_options_never_mix_with_old_parts(recording: Recording, tmp_path: Path) -> None:
    make([recording], tmp_path)
    before = (tmp_path / "out" / "SHA256SUMS").read_text()
    report = make([recording], tmp_path, dataclasses.replace(CONFIG, pos_thres=0.3))
    assert report.reused == 0
    assert (tmp_path / "out" / "SHA256SUMS").read_text() != before
    again = make([recording], tmp_path)
    assert again.reused == 1
    assert (tmp_path / "out" / "SHA256SUMS").read_text() == before


def test_planning_refuses_two_recordings_of_one_name(recording: Recording) -> None:
    with pytest.raises(UsageError, match="two recordings are called 'bar'"):
        list(plan_build([recording, recording], CONFIG))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulate", "--out", "x"], "did you mean simulated"),
        (["gopro", "--out", "x", "--input", "a.mp4", "--sensor", "big"], "WIDTHxHEIGHT"),
        (["gopro", "--out", "x", "--input", "a.mp4", "--event-spans", "soon"], "for example"),
        (["gopro", "--out", "x", "--input", "a.mp4", "--no-imu", "--no-events"], "nothing to"),
        (["gopro", "--out", "x", "--input", "a.mp4", "--event-spans", "2s x3"], "fewer or shorter"),
        (["gopro", "--out", "x", "--input", "a.mp4", "--colour", "red"], "--colour"),
        (["gopro", "--input", "a.mp4"], "--out"),
        (["gopro", "--out", "x", "--input", "a.mp4", "--pos-thres", "-1"], "pos_thres"),
    ],
)
def test_wrong_words_are_usage_errors(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_shards(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 74, "the disk is full"),
        (KeyboardInterrupt(), 75, "run the same command again"),
    ],
)
def test_a_full_disk_and_an_interruption_have_their_own_codes(
    error: BaseException,
    code: int,
    message: str,
    recording: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> ImuTrack:
        raise error

    stuck = Made([dataclasses.replace(recording, read_imu=fail)])
    stuck.Options = GoProOptions
    kind = SimpleNamespace(load=lambda name: stuck)
    monkeypatch.setattr("egotriad.pipelines.cli.DATASETS", kind)
    assert build_shards(["gopro", "--out", str(tmp_path / "out"), "--engine", "serial"]) == code
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.parquet*"))
