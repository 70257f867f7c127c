"""Trees of Ego4D as they lie on disk, built: what is clean equals the truth, the rest is named."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from egotriad.cli import main
from egotriad.converters.narration import read_imu2clip_windows
from egotriad.manifests import Recording
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import read_shards
from egotriad.pipelines import ego4d_narrations
from egotriad.pipelines.build import BuildReport, build
from egotriad.pipelines.dataset_ego4d import DATASET
from egotriad.pipelines.ego4d_options import Ego4dOptions, read_uids
from egotriad.pipelines.fake_ego4d import write_fake_ego4d
from egotriad.pipelines.fake_ego4d_plants import PLANTS
from egotriad.pipelines.plan import BuildConfig, plan_build
from egotriad.pipelines.world_plan import WorldOptions

SMALL: dict[str, Any] = {
    "windows": "grid",
    "window_s": 2.0,
    "sensor": "32x24",
    "event_spans": "0.05s@center",
    "upsample": "none",
}
WORLD = WorldOptions(clips_per_recording=3, size_wh=(64, 48), frame_rate_hz=30.0, render_workers=1)
FAILS = {
    "identical-columns": "identical-columns: accl_y and accl_z hold the same values in 100.0%",
    "accel-in-g": r"wrong-unit: accelerometer: declared m/s\^2, .* gravity in g",
    "wrong-columns": "broken-imu: .* got columns .*acc_x.*; need .*accl_x",
    "empty-csv": "broken-imu: .* a header and no rows",
    "all-null": r"no-samples: none of \d+ rows .* \(null-time: \d+ rows\)",
    "no-imu": "no-imu: Ego4D has none of this video; pass --no-imu",
    "promised-imu": r"not-downloaded: v2/imu/.*\.csv is not in the raw folder",
    "cut-video": "broken-video: .* looks cut off",
    "damaged-video": r"decodes to \d+ of \d+ frames",
    "short-video": r"broken-video: .* lasts 1\d\.\d+ s, ego4d.json says 14400.000 s",
}
NOTED = {
    "": ("imu_defects", "none"),
    "null-time": ("imu_defects", r"null-time 11\d rows"),
    "impossible-time": ("imu_defects", "impossible-time 3 rows"),
    "outside-video": ("imu_defects", "outside-video 40 rows"),
    "null-accel": ("imu_defects", r"null-accel 11\d samples"),
    "null-gyro": ("imu_defects", r"null-gyro 11\d samples"),
    "duplicate-time": ("imu_defects", r"duplicate-time 11\d samples"),
    "back-step": ("imu_defects", r"back-step 1, largest 294\.9 ms"),
    "gap": ("imu_defects", r"gap 1, largest 60\d\.\d ms"),
    "unknown-component": ("imu_defects", r"unknown-component 11\d rows"),
    "missing-component": ("imu_defects", "missing-component 1"),
    "two-components": ("imu_defects", "none"),
    "offset-varies": ("imu_defects", "offset-varies component 0 by 40.0 ms"),
    "late-clock": ("imu_components", r"\+405\.000 ms from its video's start"),
    "no-narration": ("no-narration", "no narration of this video is there"),
    "redacted": ("redacted", "10.000-12.000 s"),
    "no-duration": ("no-duration", "the video file's is used"),
}


@pytest.fixture(scope="module")
def planted(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, str], BuildReport]:
    """A build over one video per plant; uid of each plant, and the report."""
    raw = tmp_path_factory.mktemp("planted") / "raw"
    videos = write_fake_ego4d(raw, ["", *PLANTS], world=WORLD)
    out = raw.with_name("shards")
    config = BuildConfig(**SMALL, sync="off")
    report = build(DATASET, Ego4dOptions(), config, raw=raw, out=out, workers=1)
    return out, {video.plant: video.uid for video in videos}, report


def test_every_plant_is_foreseen() -> None:
    assert FAILS.keys() | NOTED.keys() == {"", *PLANTS}


@pytest.mark.parametrize("plant", FAILS)
def test_a_video_that_cannot_be_used_fails_under_its_name(
    planted: tuple[Path, dict[str, str], BuildReport], plant: str
) -> None:
    _, uids, report = planted
    assert re.search(FAILS[plant], report.failed[uids[plant]])
    assert len(report.failed) == len(FAILS)


@pytest.mark.parametrize("plant", NOTED)
def test_a_defect_that_can_be_lived_with_is_noted_under_its_name(
    planted: tuple[Path, dict[str, str], BuildReport], plant: str
) -> None:
    out, uids, _ = planted
    provenance = json.loads((out / "provenance.json").read_text())
    notes = {part["recording"]: part["notes"] for part in provenance["recordings"]}[uids[plant]]
    key, want = NOTED[plant]
    assert re.search(want, notes[key])
    if (key, want) == ("imu_defects", "none"):
        assert notes[key] == "none"


def test_windows_over_a_defect_are_rejected_and_no_others(
    planted: tuple[Path, dict[str, str], BuildReport],
) -> None:
    out, uids, _ = planted
    plants = {uid: plant for plant, uid in uids.items()}
    rejected: dict[str, list[tuple[str, float]]] = {}
    for line in (out / "rejected.jsonl").read_text().splitlines():
        entry = json.loads(line)
        _, uid, span = entry["window_id"].split("/")
        start_us = int(re.findall(r"\d+", span)[0])
        rejected.setdefault(plants[uid], []).append((entry["reason"], start_us / 1e6))
    at_10_s = [("imu-gap", 10.0)]
    assert rejected == {
        "null-time": at_10_s,
        "null-accel": at_10_s,
        "null-gyro": at_10_s,
        "gap": at_10_s,
        "unknown-component": at_10_s,
        "back-step": [("imu-gap", 8.0)],  # two stretches claim 9.7 to 10.0 s
        "late-clock": [("imu-gap", 0.0)],
        "missing-component": [("imu-gap", start) for start in (6.0, 8.0, 10.0, 12.0)],
        "redacted": [("redacted", start) for start in (8.0, 10.0, 12.0)],
    }


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even this machine's own."""

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("narrations", ["narration.json", "all_narrations_redacted.json"])
def test_a_tree_laid_by_hand_builds_without_any_network(
    tmp_path: Path, narrations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "my_ego4d", tmp_path / "shards"
    first, second = write_fake_ego4d(raw, world=WORLD, video_set="full_scale")
    for name in ("narration.json", "all_narrations_redacted.json"):
        if name != narrations:
            (raw / "v2" / "annotations" / name).unlink()
    (raw / "ego4d.json").rename(raw / "v2" / "ego4d.json")  # where its README says it lies
    (raw / "v2" / "full_scale" / "manifest.csv").write_text("as the program leaves it")
    small = ["--sensor", "32x24", "--no-events", "--window-seconds", "2", "--engine", "serial"]
    words = ["build-shards", "ego4d", "--raw", str(raw), "--out", str(out), *small, "--json"]
    assert main([*words, "--video", "full_scale"]) == 0
    assert json.loads(capsys.readouterr().out)["recordings"] == 2
    clips = list(read_shards(out))
    assert {clip.recording for clip in clips} == {first.uid, second.uid}
    told = sorted(
        (s["narration_s"], s["narration"].removeprefix("#C ")) for s in first.truth["segments"]
    )
    mine = [clip for clip in clips if clip.recording == first.uid]
    passes = {name for clip in mine for n in clip.narrations if (name := n.annotation_pass)}
    assert passes == {"narration_pass_1", "narration_pass_2"}
    heard = {
        (clip.t_start_us + n.t_us, n.text)
        for clip in mine
        for n in clip.narrations
        if n.annotation_pass == "narration_pass_1"
    }
    assert heard <= {(round(at_s * 1e6), text) for at_s, text in told}
    assert heard
    assert {clip.origin.split_group for clip in mine} == {"ego4d/+100"}


def test_wearers_of_the_benchmarks_test_sets_stay_out_of_training(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_fake_ego4d(raw, world=WORLD)
    metadata = json.loads((raw / "ego4d.json").read_text())
    for video, split in zip(metadata["videos"], ("train", "multi"), strict=True):
        video["split_em"] = split
    (raw / "ego4d.json").write_text(json.dumps(metadata))
    found = list(DATASET.recordings(raw, Ego4dOptions()))
    assert [getattr(recording, "official_split", "") for recording in found] == ["train", "test"]
    found = list(DATASET.recordings(raw, Ego4dOptions(split_by="wearer")))
    assert [getattr(recording, "official_split", "") for recording in found] == [None, None]


def test_the_clocks_offset_is_found_within_two_milliseconds(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    videos = write_fake_ego4d(raw, ("", "late-clock"))
    config = BuildConfig(**{**SMALL, "events": False}, sync="correct")
    build(DATASET, Ego4dOptions(), config, raw=raw, out=out, workers=1)
    provenance = json.loads((out / "provenance.json").read_text())
    parts = {part["recording"]: part["imu"]["sync"] for part in provenance["recordings"]}
    for video, verdict, want_us in zip(videos, ("ok", "corrected"), (0, -400_000), strict=True):
        sync = parts[video.uid]
        assert sync["verdict"] == verdict
        assert sync["segments"][0]["offset_us"] == pytest.approx(want_us, abs=2000)


@pytest.mark.usefixtures("no_sockets")
def test_the_published_excerpts_windows_are_read_and_join_by_uid(
    shared: Any, tmp_path: Path
) -> None:
    windows = read_imu2clip_windows(
        shared("real/ego4d_narration_excerpt/imu2clip_motion_narr_2.5_excerpt.csv")
    )
    assert sum(map(len, windows.values())) == 400
    assert all(w.duration_us == 5_000_000 for listed in windows.values() for w in listed)
    uids = tmp_path / "uids.txt"
    uids.write_text("\n".join(windows))
    assert read_uids([str(uids)]) == list(windows)


def test_a_release_is_planned_before_anything_of_it_is_fetched_and_not_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    videos = write_fake_ego4d(raw, world=WORLD)
    for video in videos:
        (raw / "v2" / "video_540ss" / f"{video.uid}.mp4").unlink()
        (raw / "v2" / "imu" / f"{video.uid}.csv").unlink()
    options = Ego4dOptions(has=("imu", "narration"))
    found = list(DATASET.recordings(raw, options))
    plans = plan_build([r for r in found if isinstance(r, Recording)], BuildConfig(**SMALL))
    assert sum(len(plan.windows) for plan in plans) >= 2 * 6
    words = ["build-shards", "ego4d", "--raw", str(raw), "--out", str(out), "--no-download"]
    assert main([*words, "--uids", videos[0].uid, "--no-imu", "--engine", "serial"]) != 0
    assert "not-downloaded: v2/video_540ss/" in capsys.readouterr().err


def test_outputs_say_from_which_files_they_come(
    planted: tuple[Path, dict[str, str], BuildReport],
) -> None:
    out, uids, _ = planted
    provenance = json.loads((out / "provenance.json").read_text())
    notes = {part["recording"]: part["notes"] for part in provenance["recordings"]}[uids[""]]
    assert notes["source_ego4d.json"] == sha256_file(out.with_name("raw") / "ego4d.json")
    assert len(notes["source_narration.json"]) == 64
    assert notes["ego4d_device"] == "GoPro Hero Black 7"
    assert notes["ego4d_splits"] == "em train"


def test_the_first_release_is_read_from_its_own_folder(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_fake_ego4d(raw, world=WORLD)
    (raw / "v2").rename(raw / "v1")
    metadata = json.loads((raw / "ego4d.json").read_text())
    for video in metadata["videos"]:  # as older exports have it
        video["imu_metadata"] = None
        video |= {"imu_s3_path": "s3://x/y.csv", "split_goalstep": None}
    (raw / "ego4d.json").write_text(json.dumps(metadata))
    found = list(DATASET.recordings(raw, Ego4dOptions(release="v1")))
    assert [getattr(recording, "source_version", "") for recording in found] == ["v1", "v1"]
    for recording in found:
        assert isinstance(recording, Recording)
        assert recording.read_imu is not None
        assert recording.read_imu().notes["imu_defects"] == "none"
        assert recording.narrations


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build-shards", "ego4d", "--video", "full-scale"], 'Did you mean "full_scale"'),
        (["build-shards", "ego4d", "--has", "imu,gaze"], "--has: got 'gaze'; need one of imu"),
        (["check", "gopro"], "gopro: there is nothing to check; it downloads nothing"),
    ],
)
def test_a_misspelt_word_is_a_usage_error_that_names_the_right_one(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")] if words[0] == "build-shards" else []
    assert main([*words, *out, "--raw", str(tmp_path / "raw")]) == 2
    assert message in capsys.readouterr().err


def test_nothing_chosen_and_nothing_there_says_how_to_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["build-shards", "ego4d", "--raw", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    )
    assert "choose what to download (--uids, --has imu,narration" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["narration.json", "all_narrations_redacted.json"])
def test_more_videos_than_are_held_are_chosen_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    raw = tmp_path / "raw"
    videos = write_fake_ego4d(raw, ("", "no-narration", ""), world=WORLD)
    for path in (raw / "v2" / "annotations").iterdir():
        if path.name != file:
            path.unlink()
    options = Ego4dOptions(has=("imu", "narration"))
    held = list(DATASET.recordings(raw, options))
    monkeypatch.setattr(ego4d_narrations, "HELD_VIDEOS", 0)
    read_again = list(DATASET.recordings(raw, options))
    assert [r.recording_id for r in held] == [videos[0].uid, videos[2].uid]
    assert [getattr(r, "narrations", ()) for r in held] == [
        getattr(r, "narrations", ()) for r in read_again
    ]
