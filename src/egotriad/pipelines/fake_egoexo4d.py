"""A tiny Ego-Exo4D on disk, as its download program lays it: three takes of two people.

Walkers of the simulated world wear the glasses: the colour video is rendered, both IMUs are derived
from the same paths, and timesync.csv ties frames to device time, so that everything read back has a
known truth (`FakeTake`). Planted on purpose: a tick without a frame and a repeated one, takes that
start minutes after the glasses were switched on, glasses numbered 02, two annotators, a rejected
annotation, both spellings of the subject, "0" and "1" for booleans, a take that is not described.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.files import atomic, write_text
from egotriad.pipelines.fake_aria import (
    IMU_LEFT,
    IMU_RIGHT,
    RATES_HZ,
    VrsRecord,
    calibration,
    configurations,
    imu_record,
    write_vrs,
)
from egotriad.pipelines.world_motion import CAMERA_POINT
from egotriad.pipelines.world_plan import Scene, WorldOptions, direct, plan_world
from egotriad.pipelines.world_room import render
from egotriad.pipelines.world_sensors import ideal_imu

__all__ = ["FAKE_TAKES", "FakeTake", "motion_of", "scene_of", "write_fake_egoexo4d"]

SIZE_WH = (64, 48)
TICK_NS = 33_331_900
"""The glasses' frames: a little faster than 30 Hz."""
JITTER_NS = 200_000
WORLD = WorldOptions(
    wearers=2, recordings_per_wearer=2, clips_per_recording=2, size_wh=SIZE_WH, frame_rate_hz=30.0
)
DEVICE_FROM_HEAD = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Head axes (x forward, y left, z up) to those of the glasses (x down, y left, z forward)."""
EXO = ("cam01", "cam02")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeTake:
    """One take and its truth.

    Attributes:
        uid, name, capture, camera, university, participant: as in takes.json.
        shoot: which recording of the simulated world it is.
        start_row: `timesync_start_idx`.
        split: as in splits.json.
        blank, repeated: ticks (from 0) without a frame, and with the one before.
    """

    uid: str
    name: str
    capture: str
    camera: str
    university: str
    participant: int
    shoot: int
    start_row: int
    split: str
    blank: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()

    @property
    def boot_s(self) -> float:
        """Device time of row 0 of the capture's timesync.csv."""
        return 284.324 if self.camera == "aria01" else 1811.5

    def device_ns(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Device time of these ticks of the take."""
        rows = ticks + self.start_row + 1
        jitter = np.rint(JITTER_NS * np.sin(rows * 0.7)).astype(np.int64)
        return round(self.boot_s * 1e9) + rows * TICK_NS + jitter


FAKE_TAKES = (
    FakeTake(
        uid="11111111-aaaa-4aaa-8aaa-000000000001",
        name="fake_cooking_01_1",
        capture="fake_cooking_01",
        camera="aria01",
        university="cmu",
        participant=657,
        shoot=0,
        start_row=40,
        split="train",
        blank=(70,),
        repeated=(110,),
    ),
    FakeTake(
        uid="11111111-aaaa-4aaa-8aaa-000000000002",
        name="fake_cooking_01_2",
        capture="fake_cooking_01",
        camera="aria01",
        university="cmu",
        participant=657,
        shoot=1,
        start_row=400,
        split="val",
    ),
    FakeTake(
        uid="22222222-bbbb-4bbb-8bbb-000000000003",
        name="fake_bike_02_3",
        capture="fake_bike_02",
        camera="aria02",
        university="iiith",
        participant=12,
        shoot=2,
        start_row=25,
        split="test",
    ),
)


def scene_of(take: FakeTake) -> Scene:
    """What the wearer of a take does, and where."""
    return direct(WORLD, plan_world(WORLD)[take.shoot])


def motion_of(
    take: FakeTake, since_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True accelerometer and gyroscope (n, 3) of the glasses, seconds from the first frame on."""
    scene = scene_of(take)
    accel, gyro = ideal_imu(scene.choreography.path, scene.wearer, since_s)
    return accel @ DEVICE_FROM_HEAD.T, gyro @ DEVICE_FROM_HEAD.T


def write_fake_egoexo4d(root: Path) -> None:
    """Writes the tree: metadata, annotations, captures, takes."""
    scenes = {take.uid: scene_of(take) for take in FAKE_TAKES}
    frames = {uid: scene.frames for uid, scene in scenes.items()}
    for take in FAKE_TAKES:
        _write_take(root, take, scenes[take.uid])
    for capture in sorted({take.capture for take in FAKE_TAKES}):
        _write_timesync(root, [take for take in FAKE_TAKES if take.capture == capture], frames)
    _write_json(root / "takes.json", [_take_entry(t, frames[t.uid]) for t in FAKE_TAKES])
    _write_json(root / "captures.json", [_capture_entry(take) for take in FAKE_TAKES[1:]])
    splits = {take.uid: take.split for take in FAKE_TAKES}
    benchmarks = {take.uid: ["atomic_action_descriptions"] for take in FAKE_TAKES}
    _write_json(
        root / "annotations" / "splits.json",
        {"take_uid_to_split": splits, "take_uid_to_benchmark": benchmarks},
    )
    for split in ("train", "val"):
        described = {
            take.uid: _annotations(scenes[take.uid]) for take in FAKE_TAKES if take.split == split
        }
        if split == "train":  # as in the real file: a take that takes.json does not know
            described["33333333-cccc-4ccc-8ccc-000000000009"] = []
        _write_json(
            root / "annotations" / f"atomic_descriptions_{split}.json",
            {"ds": "20240324_01:26:30", "take_cam_id_map": {}, "annotations": described},
        )


def _write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def _write_take(root: Path, take: FakeTake, scene: Scene) -> None:
    folder = root / "takes" / take.name
    videos = folder / "frame_aligned_videos"
    ticks = np.arange(scene.frames)
    since_s = (take.device_ns(ticks) - take.device_ns(ticks[:1])) / 1e9
    for index in (*take.blank, *take.repeated):  # the video shows the last frame again
        since_s[index] = since_s[index - 1]
    frames = render(scene.room, *scene.choreography.path.pose(since_s, CAMERA_POINT), SIZE_WH)
    for camera, shown in ((f"{take.camera}_214-1", frames), *((exo, frames[:10]) for exo in EXO)):
        _write_video(videos / f"{camera}.mp4", shown)
        small = videos / "downscaled" / "448" / f"{camera}.mp4"
        small.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(videos / f"{camera}.mp4", small)
    records = [
        *configurations((IMU_RIGHT, IMU_LEFT)),
        *sorted(_imu_records(take, scene), key=lambda record: record.time_s),
    ]
    tags = {"device_type": "Aria", "calib_json": json.dumps(calibration())}
    write_vrs(folder / f"{take.camera}_noimagestreams.vrs", records, tags)


def _imu_records(take: FakeTake, scene: Scene) -> Iterator[VrsRecord]:
    """Both IMUs, from a fifth of a second before the take to as long after it."""
    origin_ns = int(take.device_ns(np.zeros(1, np.int64))[0])
    for stream in (IMU_RIGHT, IMU_LEFT):
        count = round((scene.frames * TICK_NS / 1e9 + 0.4) * RATES_HZ[stream])
        since_ns = np.rint((np.arange(count) / RATES_HZ[stream] - 0.2) * 1e9).astype(np.int64)
        for t_ns, accel, gyro in zip(since_ns, *motion_of(take, since_ns / 1e9), strict=True):
            yield imu_record(stream, origin_ns + int(t_ns), accel, gyro)


def _write_video(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    width, height = SIZE_WH
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=30, options={"preset": "ultrafast", "crf": "12"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # more would make the bytes depend on the machine
        stream.codec_context.color_range = 2
        for number, grey in enumerate(frames):
            planes[:height] = grey
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.color_range = number, 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_timesync(root: Path, takes: list[FakeTake], frames: dict[str, int]) -> None:
    camera, capture = takes[0].camera, takes[0].capture
    times: list[str] = []
    for row in range(max(take.start_row + frames[take.uid] for take in takes) + 30):
        cell = str(int(takes[0].device_ns(np.array([row - takes[0].start_row - 1]))[0]))
        for take in takes:
            if row - take.start_row - 1 in take.blank:
                cell = ""
            if row - take.start_row - 1 in take.repeated:
                cell = times[-1]
        times.append(cell)
    heading = [f"{camera}_214-1_capture_timestamp_ns", f"{camera}_214-1_frame_number"]
    heading += [f"{exo}_{kind}" for exo in EXO for kind in ("pts", "frame_number")]
    lines = [",".join(heading)]
    for row, cell in enumerate(times):
        lines.append(f"{cell},{row if cell else ''}" + f",{row * 512},{row}" * len(EXO))
    write_text(root / "captures" / capture / "timesync.csv", "\n".join(lines) + "\n")


def _take_entry(take: FakeTake, frames: int) -> dict[str, object]:
    videos: dict[str, object] = {
        take.camera: {
            name: {
                "cam_id": take.camera,
                "stream_id": stream,
                "readable_stream_id": name,
                "clip_uid": f"{take.uid[:8]}-clip",
                "relative_path": f"frame_aligned_videos/{take.camera}_{stream}.mp4",
            }
            for name, stream in (("slam-left", "1201-1"), ("et", "211-1"), ("rgb", "214-1"))
        }
    }
    for exo in EXO:
        path = f"frame_aligned_videos/{exo}.mp4"
        videos[exo] = {"0": {"cam_id": exo, "stream_id": "0", "relative_path": path}}
    videos["best_exo"] = {"0": {"clip_uid": None, "stream_id": "0", "relative_path": None}}
    cooking = "cooking" in take.name
    return {
        "root_dir": f"takes/{take.name}",
        "take_name": take.name,
        "take_uid": take.uid,
        "capture_uid": _capture_uid(take.capture),
        "participant_uid": take.participant,
        "university_name": take.university,
        "is_dropped": False,
        "is_narrated": False,
        "best_exo": None,
        "task_start_sec": None,
        "task_end_sec": None,
        "task_name": "Cook an Omelet" if cooking else "Remove a Wheel",
        "parent_task_id": 1000 if cooking else 4000,
        "parent_task_name": "Cooking" if cooking else "Bike Repair",
        "take_idx": take.shoot,
        "duration_sec": frames / 30,
        "timesync_start_idx": take.start_row,
        "timesync_end_idx": take.start_row + frames,
        "validated": True,
        "has_trimmed_vrs": True,
        "vrs_relative_path": f"{take.camera}_noimagestreams.vrs",
        "vrs_all_streams_relative_path": f"{take.camera}.vrs",
        "frame_aligned_videos": videos,
        "capture": _capture_entry(take),
    }


def _capture_uid(capture: str) -> str:
    return f"99999999-dddd-4ddd-8ddd-{sum(capture.encode()):012d}"


def _capture_entry(take: FakeTake) -> dict[str, object]:
    return {
        "root_dir": f"captures/{take.capture}",
        "capture_name": take.capture,
        "capture_uid": _capture_uid(take.capture),
        "university_name": take.university,
        "timesync_validated": True,
        "validated": True,
        "cameras": [
            {"cam_id": camera, "is_ego": camera == take.camera, "device_type": camera[:4]}
            for camera in (take.camera, *EXO)
        ],
    }


def _annotations(scene: Scene) -> list[dict[str, object]]:
    """Two annotators, the second two fifths of a second late and with strings for flags."""
    described = [(round(s.time_s, 5), s.text.removeprefix("#C ")) for s in scene.spoken]
    return [
        _annotation(1, [_description(at, text, "subject", False) for at, text in described]),
        _annotation(
            2, [_description(at + 0.4, text, "narration_subject", "0") for at, text in described]
        ),
        _annotation(3, [_description(0.5, "Rejected.", "subject", False)], rejected=True),
    ]


def _annotation(
    number: int, descriptions: list[dict[str, object]], *, rejected: bool = False
) -> dict[str, object]:
    return {
        "annotation_uid": f"fe6b4107-ecdb-4e90-93c5-{number:012d}",
        "annotator_id": f"528406369502297{number}",
        "rejected": rejected,
        "reject_reason": "other" if rejected else None,
        "descriptions": descriptions,
    }


def _description(at_s: float, text: str, subject: str, unsure: object) -> dict[str, object]:
    return {
        "text": text,
        "timestamp": at_s,
        subject: "C",
        "ego_visible": True,
        "best_exo": {"raw_cam_id": "1", "cam_id": "cam01"},
        "unsure": unsure,
    }
