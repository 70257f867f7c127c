import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.clock import fit_rate
from egotriad.converters.video import read_frames
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines import dataset_simulated
from egotriad.pipelines.dataset_simulated import DATASET
from egotriad.pipelines.world_activities import ACTIVITIES
from egotriad.pipelines.world_motion import CAMERA_POINT
from egotriad.pipelines.world_plan import WorldOptions, direct, plan_world
from egotriad.pipelines.world_recording import CSV_HEADER, RecordingJob, make_recording
from egotriad.pipelines.world_room import render
from egotriad.pipelines.world_sensors import RATE_HZ, ideal_imu

TINY = WorldOptions(
    wearers=2,
    recordings_per_wearer=1,
    clips_per_recording=2,
    size_wh=(64, 48),
    frame_rate_hz=30.0,
    render_workers=1,
)
UIDS = ("s0-w00-r0", "s0-w01-r0")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    assert DATASET.fake(folder) == TINY
    return folder


def digests(raw: Path) -> dict[str, str]:
    return {
        str(path.relative_to(raw)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(raw.rglob("*"))
        if path.is_file()
    }


def truth_of(raw: Path, uid: str) -> dict:
    return json.loads((raw / "truth" / f"{uid}.json").read_text())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Uids of the recordings that were rendered since."""
    uids: list[str] = []

    def make(job: RecordingJob) -> None:
        uids.append(job.shoot.uid)
        make_recording(job)

    monkeypatch.setattr(dataset_simulated, "make_recording", make)
    return uids


def test_the_fake_world_is_read_back_as_recordings(raw: Path) -> None:
    recordings = DATASET.recordings(raw, TINY)
    assert [r.recording_id for r in recordings] == list(UIDS)
    assert {r.official_split for r in recordings} == {"train", "test"}
    for recording in recordings:
        assert recording.source == "simulated"
        assert recording.wearer == recording.recording_id[:6]
        assert recording.align.status == "provided"
        assert all(path.is_file() for path in recording.files)
        for narration in recording.narrations:
            assert narration.text.startswith("C ")
            assert narration.annotation_pass == "narration_pass_1"
            activity, number = narration.annotation_id.split(":")
            assert activity in ACTIVITIES
            assert len(number) == 4


def test_the_imu_csv_has_ego4ds_columns_and_the_true_rate(raw: Path) -> None:
    with (raw / "imu" / f"{UIDS[0]}.csv").open() as handle:
        header = next(csv.reader(handle))
    assert ",".join(header) == CSV_HEADER
    track = DATASET.recordings(raw, TINY)[0].read_imu()
    assert track.rate_hz == pytest.approx(RATE_HZ, abs=0.01)
    assert fit_rate(track.gyro.t_us).rate_hz == pytest.approx(RATE_HZ, abs=0.01)


def test_the_imu_file_is_ideal_imu_plus_bias_plus_little_noise(raw: Path) -> None:
    scene = direct(TINY, plan_world(TINY)[0])
    truth = np.load(raw / "truth" / f"{UIDS[0]}.npz")
    track = DATASET.recordings(raw, TINY)[0].read_imu()
    accel, gyro = ideal_imu(scene.choreography.path, scene.wearer, truth["imu_true_s"])
    accel_noise = track.accel.values.T - accel - truth["accel_bias"]
    gyro_noise = track.gyro.values.T - gyro - truth["gyro_bias"]
    assert accel_noise.std() == pytest.approx(0.0281, rel=0.1)
    assert gyro_noise.std() == pytest.approx(0.00238, rel=0.1)
    assert abs(accel_noise.mean()) < 0.003


def test_the_video_is_the_rendered_one_within_coding_error_and_on_exact_times(raw: Path) -> None:
    scene = direct(TINY, plan_world(TINY)[0])
    chunks = list(read_frames(raw / "full_scale" / f"{UIDS[0]}.mp4"))
    frames = np.concatenate([chunk.luma for chunk in chunks])
    t_us = np.concatenate([chunk.t_us for chunk in chunks])
    assert len(frames) == scene.frames == truth_of(raw, UIDS[0])["frames"]
    np.testing.assert_array_equal(t_us, np.rint(np.arange(scene.frames) * 1e6 / 30))
    chosen = np.arange(0, scene.frames, 10)
    pose = scene.choreography.path.pose(chosen / 30, CAMERA_POINT)
    error = frames[chosen].astype(float) - render(scene.room, *pose, TINY.size_wh)
    assert np.abs(error).mean() < 1.5
    assert abs(error.mean()) < 0.3  # full range in, full range out


def test_the_narrations_have_ego4ds_schema_and_lie_in_their_movement(raw: Path) -> None:
    content = json.loads((raw / "annotations" / "narration.json").read_text())
    assert list(content) == list(UIDS)
    for uid in UIDS:
        assert set(content[uid]) == {"narration_pass_1", "status"}
        assert set(content[uid]["narration_pass_1"]) == {"narrations", "summaries"}
        items = content[uid]["narration_pass_1"]["narrations"]
        for item, segment in zip(items, truth_of(raw, uid)["segments"], strict=True):
            assert set(item) == {
                "timestamp_sec",
                "timestamp_frame",
                "_unmapped_timestamp_sec",
                "narration_text",
                "annotation_uid",
            }
            assert item["narration_text"].startswith("#C C ")
            assert item["annotation_uid"].startswith(segment["activity"] + ":")
            middle = (segment["motion_start_s"] + segment["motion_end_s"]) / 2
            assert abs(item["timestamp_sec"] - middle) <= 0.3
            assert item["timestamp_frame"] == round(item["timestamp_sec"] * 30)


def test_the_poses_in_the_truth_are_those_of_the_path(raw: Path) -> None:
    scene = direct(TINY, plan_world(TINY)[1])
    truth = np.load(raw / "truth" / f"{UIDS[1]}.npz")
    position, rotation = scene.choreography.path.pose(truth["pose_t_s"], CAMERA_POINT)
    np.testing.assert_array_equal(truth["camera_position_m"], position)
    w, x, y, z = truth["head_quaternion_wxyz"].T
    np.testing.assert_allclose(2 * (x * z - w * y), rotation[:, 2, 0], atol=1e-9)
    assert truth["pose_t_s"][-1] == pytest.approx(scene.frames / 30, abs=0.01)


def test_every_default_window_fits_inside_its_recording() -> None:
    options = WorldOptions(wearers=12)
    for shoot in plan_world(options):
        scene = direct(options, shoot)
        times = [spoken.time_s for spoken in scene.spoken]
        assert len(times) == 12
        assert times == sorted(times)
        assert times[0] > 2.25
        assert times[-1] < scene.frames / 60 - 2.25


def test_two_workers_and_one_write_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    DATASET.download(tmp_path, replace(TINY, render_workers=2))
    assert digests(tmp_path) == digests(raw)


def test_a_second_download_renders_nothing(raw: Path, made: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    DATASET.download(raw, TINY)
    assert made == []
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def damage_csv(raw: Path) -> None:
    (raw / "imu" / f"{UIDS[1]}.csv").unlink()


def damage_video(raw: Path) -> None:
    path = raw / "full_scale" / f"{UIDS[1]}.mp4"
    path.write_bytes(path.read_bytes()[:1000])


def damage_truth(raw: Path) -> None:
    (raw / "truth" / f"{UIDS[1]}.json").write_text('{"files": ')


@pytest.mark.parametrize("damage", [damage_csv, damage_video, damage_truth])
def test_only_a_damaged_recording_is_rendered_again(
    tmp_path: Path, made: list[str], damage: Callable[[Path], None]
) -> None:
    options = replace(TINY, clips_per_recording=1)
    DATASET.download(tmp_path, options)
    whole = digests(tmp_path)
    damage(tmp_path)
    left_over = tmp_path / "full_scale" / f"{UIDS[1]}.mp4.tmp-999999"
    left_over.write_bytes(b"half a video")
    made.clear()
    DATASET.download(tmp_path, options)
    assert made == [UIDS[1]]
    assert digests(tmp_path) == whole


def test_another_world_is_refused_where_one_lies(raw: Path) -> None:
    other = replace(TINY, seed=7, size_wh=(32, 32))
    message = r"seed 0 \(asked for 7\), size_wh \[64, 48\] \(asked for \[32, 32\]\); choose another"
    with pytest.raises(UsageError, match=message):
        DATASET.download(raw, other)
    with pytest.raises(UsageError, match="another simulated world"):
        DATASET.recordings(raw, other)


def test_reading_before_rendering_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no simulated world; run its download first"):
        DATASET.recordings(tmp_path, TINY)


def test_clock_faults_reach_the_csv_and_the_truth(tmp_path: Path) -> None:
    options = replace(
        TINY,
        wearers=1,
        clock_offset_s=0.25,
        clock_drift_ppm=300.0,
        clock_gaps=1,
        clock_back_steps=1,
    )
    DATASET.download(tmp_path, options)
    recording = DATASET.recordings(tmp_path, options)[0]
    assert recording.align.status == "assumed"
    imu = truth_of(tmp_path, UIDS[0])["imu"]
    assert (imu["offset_s"], imu["drift_ppm"]) == (0.25, 300.0)
    true_s = np.load(tmp_path / "truth" / f"{UIDS[0]}.npz")["imu_true_s"]
    t_us = recording.read_imu().accel.t_us
    ((moment, fall),) = imu["back_steps_s"]
    stamp = true_s * (1 + 300e-6) + 0.25 - fall * (true_s >= moment)
    np.testing.assert_allclose(t_us, stamp * 1e6, atol=1)
    ((start, end),) = imu["gaps_s"]
    assert not ((true_s >= start) & (true_s < end)).any()
    assert (np.diff(t_us) < 0).sum() == 1


def test_a_world_without_faults_moves_the_same_as_one_with_them() -> None:
    shoot = plan_world(TINY)[0]
    faulty = direct(replace(TINY, clock_offset_s=0.5), shoot)
    assert faulty.spoken == direct(TINY, shoot).spoken


def test_ten_of_thirty_six_wearers_are_held_out_and_never_split() -> None:
    shoots = plan_world(WorldOptions())
    held_out = {shoot.wearer for shoot in shoots if shoot.split == "test"}
    train = {shoot.wearer for shoot in shoots if shoot.split == "train"}
    assert (len(held_out), len(train)) == (10, 26)
    assert not held_out & train
    assert len(shoots) == 72
    other = {shoot.wearer for shoot in plan_world(WorldOptions(seed=1)) if shoot.split == "test"}
    assert other != held_out


@pytest.mark.parametrize(("wearers", "held_out"), [(1, 0), (2, 1), (3, 1), (18, 5)])
def test_someone_is_held_out_and_someone_is_not(wearers: int, held_out: int) -> None:
    shoots = plan_world(WorldOptions(wearers=wearers, recordings_per_wearer=1))
    assert sum(shoot.split == "test" for shoot in shoots) == held_out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wearers": 0}, "got counts"),
        ({"seed": -1}, "--seed: got -1"),
        ({"held_out_share": 1.0}, "--held-out-share"),
        ({"size_wh": (127, 96)}, "--size-wh: got"),
        ({"frame_rate_hz": 1.0}, "--frame-rate-hz"),
        ({"render_workers": 0}, "--render-workers"),
        ({"clock_gaps": -1}, "IMU clock"),
    ],
)
def test_impossible_options_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WorldOptions(**values)


def test_the_number_of_processes_is_no_part_of_the_world() -> None:
    assert replace(TINY, render_workers=5).hash == TINY.hash
    assert replace(TINY, clock_gaps=1).hash != TINY.hash
