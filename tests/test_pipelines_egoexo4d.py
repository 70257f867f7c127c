import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.imu import resample
from egotriad.converters.vrs import RGB, open_vrs
from egotriad.manifests import Recording, Unreadable
from egotriad.manifests.errors import DownloadError, RecordingError, UsageError
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_egoexo4d import DATASET
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_streams import read_take_imu
from egotriad.pipelines.egoexo4d_takes import Take, read_splits, read_takes
from egotriad.pipelines.egoexo4d_timesync import TakeRows, read_device_times
from egotriad.pipelines.fake_egoexo4d import FAKE_TAKES, motion_of, scene_of
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.sync import sync_recording

pytest.importorskip("projectaria_tools", reason="needs projectaria-tools (egotriad[aria])")

HERE = EgoExo4DOptions(download=False)
COLUMN = "aria01_214-1_capture_timestamp_ns"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake release, not to be written to."""
    root = tmp_path_factory.mktemp("egoexo4d")
    assert DATASET.fake(root) == EgoExo4DOptions()
    return root


@pytest.fixture
def raw(tree: Path, tmp_path: Path) -> Path:
    """A copy of the fake release to be damaged."""
    return Path(shutil.copytree(tree, tmp_path / "raw"))


def recordings(raw: Path, options: EgoExo4DOptions = HERE) -> dict[str, Recording | Unreadable]:
    return {r.recording_id: r for r in DATASET.recordings(raw, options)}


def timesync_of(raw: Path) -> Path:
    return raw / "captures" / FAKE_TAKES[0].capture / "timesync.csv"


def test_takes_become_recordings_of_their_wearers_in_the_official_splits(tree: Path):
    found = recordings(tree)
    assert list(found) == [take.uid for take in FAKE_TAKES]
    assert [r.official_split for r in found.values()] == ["train", "validation", "test"]
    assert [r.wearer for r in found.values()] == ["657", "657", "12"]
    for take, recording in zip(FAKE_TAKES, found.values(), strict=True):
        true_us = scene_of(take).frames * 33_331.9
        assert recording.duration_us == pytest.approx(true_us, abs=500)
        assert recording.align.status == "hardware"
        assert [file.suffix for file in recording.files] == [".csv", ".vrs", ".mp4"]
        assert isinstance(pickle.loads(pickle.dumps(recording)), Recording)


@pytest.mark.parametrize("side", ["right", "left"])
def test_either_imu_tells_the_wearers_true_motion_at_the_true_time(tree: Path, side: str):
    options = replace(HERE, imu_side=side)
    for take, recording in zip(FAKE_TAKES, recordings(tree, options).values(), strict=True):
        track = recording.read_imu()
        found = resample(track, t_start_us=500_000, duration_us=9_000_000, rate_hz=200.0)
        accel, gyro = motion_of(take, 0.5 + np.arange(1800) / 200)
        # Bounds: the slope of the quickest movement times half a sample of the slower IMU.
        assert np.abs(found.data[:3].T - accel).max() < 0.05
        assert np.abs(found.data[3:].T - gyro).max() < 0.01
        assert found.valid.all()


def test_frames_carry_the_times_at_which_they_were_taken(tree: Path):
    take, recording = FAKE_TAKES[0], recordings(tree)[FAKE_TAKES[0].uid]
    t_us = np.concatenate([chunk.t_us for chunk in recording.read_video(size_wh=(32, 24))])
    ticks = np.delete(np.arange(scene_of(take).frames), [*take.blank, *take.repeated])
    true_ns = take.device_ns(ticks) - take.device_ns(np.zeros(1, np.int64))
    np.testing.assert_allclose(t_us, true_ns / 1000, atol=0.6)
    notes = recording.read_imu().notes
    assert (
        notes["timesync"]
        == f"{scene_of(take).frames} ticks, 1 without a frame, 1 with the one before"
    )


def test_imu_and_video_are_found_in_step_within_two_milliseconds(tree: Path):
    recording = recordings(tree)[FAKE_TAKES[1].uid]
    report = sync_recording(recording, recording.read_imu())
    assert report.verdict == "ok"
    assert abs(report.segments[0].offset_us) < 2000


def test_descriptions_are_exact_and_on_the_recordings_clock(tree: Path):
    take, recording = FAKE_TAKES[0], recordings(tree)[FAKE_TAKES[0].uid]
    spoken = scene_of(take).spoken
    first = [n for n in recording.narrations if n.annotation_pass.endswith("1")]
    second = [n for n in recording.narrations if n.annotation_pass.endswith("2")]
    for narrations, late_s in ((first, 0.0), (second, 0.4)):
        assert [n.text for n in narrations] == [s.text.removeprefix("#C ") for s in spoken]
        for narration, said in zip(narrations, spoken, strict=True):
            tick = (said.time_s + late_s) * 30
            below = np.array([int(tick), int(tick) + 1])
            device = np.interp(tick, below, take.device_ns(below))
            true_us = (device - take.device_ns(np.zeros(1, np.int64))[0]) / 1000
            assert abs(narration.t_us - true_us) < 20
    assert all(n.subject == "wearer" and not n.unsure for n in recording.narrations)
    assert recording.notes["descriptions_rejected"] == "1"


def test_the_calibration_and_what_is_known_of_the_take_go_into_the_notes(tree: Path):
    recording = recordings(tree)[FAKE_TAKES[2].uid]
    notes = recording.read_imu().notes | recording.notes
    calibration = json.loads(notes["aria_calibration"])
    assert calibration["imu-right"]["accel"]["late_ns"] == 4_000_000
    assert calibration["imu-right"]["device_from_imu"][2] == [0.0, 0.0, 1.0, 0.0]
    assert calibration["camera-rgb"] is None
    assert notes["aria_calibrated"] == "true"
    assert (notes["take_name"], notes["task"]) == ("fake_bike_02_3", "Bike Repair: Remove a Wheel")
    assert len(notes["sha256_takes.json"]) == 64


def test_takes_are_chosen_by_uid_name_file_and_filter(tree: Path, tmp_path: Path):
    first, second, third = (take.uid for take in FAKE_TAKES)
    listed = tmp_path / "uids.txt"
    listed.write_text(f"{third}\n{FAKE_TAKES[0].name.upper()}\n")
    for changed, expected in (
        ({"uids": (second, FAKE_TAKES[2].name)}, [second, third]),
        ({"uids": (str(listed),)}, [first, third]),
        ({"universities": ("IIITH",)}, [third]),
        ({"scenarios": ("cooking",)}, [first, second]),
        ({"splits": ("train", "test")}, [first, third]),
        ({"has": ("imu", "narration")}, [first, second]),
        ({"limit_hours": 0.0035}, [first]),
        ({"video": "full"}, [first, second, third]),
    ):
        assert list(recordings(tree, replace(HERE, **changed))) == expected


def test_what_was_asked_for_by_name_and_cannot_be_had_is_reported(tree: Path):
    typo = "fake_cookin_01_1"
    asked = replace(HERE, uids=(typo, "xyz/../1", FAKE_TAKES[2].uid), has=("narration",))
    found = recordings(tree, asked)
    assert "did you mean fake_cooking_01_1?" in found[typo].message
    assert "unknown-uid" in found["xyz-1"].message
    assert "no-narration: the release has none" in found[FAKE_TAKES[2].uid].message
    with pytest.raises(UsageError, match=r"--universities: got 'cmuu'; did you mean cmu\?"):
        recordings(tree, replace(HERE, universities=("cmuu",)))
    with pytest.raises(UsageError, match=r"--video: got '449'; did you mean 448\?"):
        EgoExo4DOptions(video="449")
    with pytest.raises(UsageError, match="--limit-hours: got 0"):
        EgoExo4DOptions(limit_hours=0)


def test_a_tree_laid_by_hand_is_read_as_far_as_it_goes(raw: Path):
    first, second, third = (take.uid for take in FAKE_TAKES)
    shutil.rmtree(raw / "takes" / FAKE_TAKES[2].name)
    next((raw / "takes" / FAKE_TAKES[1].name).glob("*.vrs")).unlink()
    found = recordings(raw)
    assert isinstance(found[first], Recording)
    with pytest.raises(
        RecordingError,
        match=r"missing-file: takes/fake_cooking_01_2/aria01_noimagestreams\.vrs: bring it with: "
        "egoexo --parts take_vrs_noimagestream",
    ):
        found[second].read_imu()
    assert third not in found, "nothing of it was ever brought"
    assert third in recordings(raw, replace(HERE, uids=(third,)))


def test_a_damaged_record_of_failures_is_named(raw: Path):
    (raw / "downloads_failed.json").write_text("{")
    with pytest.raises(DownloadError, match=r"downloads_failed\.json: is damaged"):
        recordings(raw)


def test_the_vrs_with_image_streams_stands_in_for_the_other(raw: Path):
    folder = raw / "takes" / FAKE_TAKES[0].name
    (folder / "aria01_noimagestreams.vrs").rename(folder / "aria01.vrs")
    recording = recordings(raw)[FAKE_TAKES[0].uid]
    assert recording.files[1].name == "aria01.vrs"
    assert recording.read_imu().rate_hz == pytest.approx(1001.1)


def test_without_annotations_there_are_no_texts_and_splits_are_hashed(raw: Path):
    shutil.rmtree(raw / "annotations")
    for recording in recordings(raw).values():
        assert (recording.narrations, recording.text_source) == ((), "none")
        assert recording.official_split is None
    with pytest.raises(RecordingError, match="--has narration: neither annotations/atomic"):
        recordings(raw, replace(HERE, has=("narration",)))


def edited_takes(raw: Path, **values: object) -> None:
    path = raw / "takes.json"
    takes = json.loads(path.read_text())
    takes[0] |= values
    path.write_text(json.dumps(takes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"frame_aligned_videos": {"cam01": {"0": {}}}},
            "got 0 cameras with an 'rgb' video among cam01",
        ),
        ({"timesync_start_idx": None}, "is of another make: int"),
        ({"timesync_end_idx": 100_000}, "has 739 rows, the take lies in rows 41 to 100000"),
        ({"root_dir": "takes/elsewhere"}, "missing-file: takes/elsewhere/frame_aligned_videos"),
    ],
)
def test_a_take_of_another_make_is_named_and_the_others_go_on(
    raw: Path, values: dict[str, object], message: str
):
    edited_takes(raw, **values)
    found = recordings(raw, replace(HERE, uids=tuple(take.uid for take in FAKE_TAKES)))
    assert message in found[FAKE_TAKES[0].uid].message
    assert sum(isinstance(r, Recording) for r in found.values()) == 2


def test_a_take_without_a_key_says_which_and_what_there_is(raw: Path):
    path = raw / "takes.json"
    takes = json.loads(path.read_text())
    del takes[0]["duration_sec"]
    del takes[1]["capture"]
    path.write_text(json.dumps(takes))
    first, second, third = read_takes(path)
    assert "fake_cooking_01_1: has no 'duration_sec'; it holds root_dir, take_name" in first.message
    assert "has no 'capture'" in second.message
    assert isinstance(third, Take)


def test_a_take_without_an_imu_or_a_participant_is_still_one(raw: Path):
    edited_takes(
        raw, participant_uid=None, vrs_relative_path=None, vrs_all_streams_relative_path=None
    )
    recording = recordings(raw)[FAKE_TAKES[0].uid]
    with pytest.raises(RecordingError, match="no-imu: the release has none of this take"):
        recording.read_imu()
    assert recording.wearer is None
    assert recording.split_group.startswith("egoexo4d/99999999")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ('{"a": 1}', "got top-level keys a, need Ego-Exo4D's list"),
        ("[]", "got no entry; need takes"),
        ('[{"video_uid": 1}]', "got video_uid; need takes with 'take_uid'"),
    ],
)
def test_a_takes_json_that_is_none_says_what_it_holds(raw: Path, content: str, message: str):
    (raw / "takes.json").write_text(content)
    with pytest.raises(RecordingError, match=message):
        recordings(raw)


def test_splits_of_other_names_are_refused(tmp_path: Path):
    path = tmp_path / "splits.json"
    path.write_text('{"take_uid_to_split": {"a": "multi"}}')
    with pytest.raises(RecordingError, match="got splits multi; need train, val and test"):
        read_splits(path)
    path.write_text('{"splits": {}}')
    with pytest.raises(RecordingError, match="got top-level keys splits; need 'take_uid_to_split'"):
        read_splits(path)


def clock_of(tmp_path: Path, cells: list[str], first: int = 0, last: int | None = None):
    path = tmp_path / "timesync.csv"
    path.write_text("\n".join([f"{COLUMN},cam01_pts", *(f"{cell},7" for cell in cells)]) + "\n")
    last = len(cells) - 1 if last is None else last
    return TakeRows(path=path, column=COLUMN, first=first, last=last).read()


def test_ticks_without_a_frame_of_their_own_are_left_out_and_their_time_is_interpolated(
    tmp_path: Path,
):
    cells = ["1000000", "34000000.0", "", "100000000", "100000000", "160000000"]
    clock = clock_of(tmp_path, cells)
    assert clock.captured.tolist() == [True, True, False, True, False, True]
    assert (clock.blank, clock.repeated, clock.origin_ns) == (1, 1, 1_000_000)
    assert clock.frame_times_us.tolist() == [0, 33_000, 66_000, 99_000, 99_000, 159_000]
    assert clock.duration_us == 159_000 + 60_000
    assert clock.recording_us(50_000) == 49_500, "half way between ticks 1 and 2"
    assert clock.recording_us(5 * 1_000_000 // 30 + 40_000) == pytest.approx(199_000, abs=1)


def test_the_clock_begins_with_the_first_frame_that_was_taken(tmp_path: Path):
    clock = clock_of(tmp_path, ["1000000", "", "67000000", "100000000"], first=1)
    assert clock.origin_ns == 67_000_000
    assert clock.frame_times_us[clock.captured].tolist() == [0, 33_000]
    assert clock.recording_us(0) == -33_000


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["", "", "67000000"], "is empty at an end of rows 0 to 2"),
        (["5000000", "4000000"], "falls at row 1"),
        (["1e18", "1.1e18"], "need device time: nanoseconds since boot"),
        (["", ""], "holds nothing, need device time"),
        (["12", "abc"], "cannot be read as a table"),
    ],
)
def test_a_timesync_that_tells_no_time_says_why(tmp_path: Path, cells: list[str], message: str):
    with pytest.raises(RecordingError, match=message):
        clock_of(tmp_path, cells)


def test_a_timesync_of_other_glasses_names_its_columns(tree: Path, tmp_path: Path):
    with pytest.raises(RecordingError, match=f"columns of device times: {COLUMN}"):
        read_device_times(timesync_of(tree), "aria03_214-1_capture_timestamp_ns")
    with pytest.raises(RecordingError, match="no such file; download the capture's timesync"):
        read_device_times(tmp_path / "timesync.csv", COLUMN)


def test_a_video_of_another_length_than_the_take_is_refused(raw: Path):
    edited_takes(raw, timesync_end_idx=FAKE_TAKES[0].start_row + 300)
    recording = recordings(raw)[FAKE_TAKES[0].uid]
    with pytest.raises(RecordingError, match=r"holds 319 frames, timesync.csv has 300 rows"):
        next(recording.read_video())


@pytest.mark.parametrize("frames", [318, 320])
def test_a_video_may_be_longer_or_shorter_by_a_frame(raw: Path, frames: int):
    edited_takes(raw, timesync_end_idx=FAKE_TAKES[0].start_row + frames)
    recording = recordings(raw)[FAKE_TAKES[0].uid]
    assert sum(len(c.t_us) for c in recording.read_video()) == min(frames, 319) - 2


def test_an_imu_of_another_take_or_clock_is_refused(raw: Path):
    other = raw / "takes" / FAKE_TAKES[1].name / "aria01_noimagestreams.vrs"
    shutil.copy(other, raw / "takes" / FAKE_TAKES[0].name / other.name)
    recording = recordings(raw)[FAKE_TAKES[0].uid]
    with pytest.raises(
        RecordingError,
        match=r"IMU runs from 297\.490 to 308\.188 s of device time, the take from 285",
    ):
        recording.read_imu()


def test_faults_cost_their_takes_and_the_rest_is_built(raw: Path, tmp_path: Path):
    first, second, third = FAKE_TAKES
    video = raw / "takes" / second.name / "frame_aligned_videos/downscaled/448/aria01_214-1.mp4"
    video.write_bytes(video.read_bytes()[:-20_000])
    vrs = raw / "takes" / third.name / "aria02_noimagestreams.vrs"
    vrs.write_bytes(vrs.read_bytes()[:-500])
    config = BuildConfig(sensor="32x24", window_s=2.0, sync="off")
    report = build(DATASET, HERE, config, raw=raw, out=tmp_path / "out", workers=1)
    assert (report.recordings, report.clips) == (1, 5)
    assert "aria01_214-1.mp4: the file looks cut off" in report.failed[second.uid]
    assert "aria02_noimagestreams.vrs: the file is cut off" in report.failed[third.uid]
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    (recording,) = provenance["recordings"]
    assert recording["recording"] == first.uid
    assert "device_from_imu" in recording["notes"]["aria_calibration"]
    assert recording["notes"]["descriptions_rejected"] == "1"


def test_a_real_aria_recording_is_read_on_a_takes_clock(
    tmp_path: Path, shared: Callable[[str], Path]
):
    vrs = shared("real/aria_aea_clip/recording.vrs")
    opened = open_vrs(vrs)
    late_ns = opened.camera_calibration(RGB).late_ns
    path = tmp_path / "timesync.csv"
    stamps = opened.frame_times_us() * 1000 + opened.origin_ns + late_ns
    path.write_text("\n".join([COLUMN, *map(str, stamps)]) + "\n")
    rows = TakeRows(path=path, column=COLUMN, first=0, last=len(stamps) - 1)
    for label, rate_hz in (("imu-right", 1001.1), ("imu-left", 798.2)):
        track, plain = read_take_imu(vrs, rows, label), opened.imu(label)
        assert track.rate_hz == pytest.approx(rate_hz, abs=0.1)
        np.testing.assert_array_equal(track.accel.values, plain.accel.values)
        assert np.abs(track.accel.t_us - plain.accel.t_us).max() <= 1
    camera = json.loads(track.notes["aria_calibration"])["camera-rgb"]
    assert camera["size_wh"] == [1408, 1408]
    assert camera["late_ns"] == late_ns


def test_real_descriptions_are_read_with_the_stated_counts(
    raw: Path, shared: Callable[[str], Path]
):
    excerpt = shared("real/egoexo4d_atomic_excerpt/atomic_descriptions_excerpt.json")
    content = json.loads(excerpt.read_text())
    uid = max(content["annotations"], key=lambda uid: len(content["annotations"][uid]))
    assert len(content["annotations"]) == 8
    path = raw / "annotations" / "atomic_descriptions_train.json"
    path.write_text(
        json.dumps(
            content
            | {
                "annotations": content["annotations"]
                | {FAKE_TAKES[0].uid: content["annotations"][uid]}
            }
        )
    )
    recording = recordings(raw)[FAKE_TAKES[0].uid]
    kept = [a for a in content["annotations"][uid] if not a["rejected"]]
    assert len(recording.narrations) == sum(len(a["descriptions"]) for a in kept)
    assert len({n.annotation_pass for n in recording.narrations}) == len(kept)
