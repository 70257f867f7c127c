"""Makes one recording of the simulated world: its video, its IMU, and the truth about both.

```
full_scale/<uid>.mp4    grey H.264, full range, constant frame rate
imu/<uid>.csv           Ego4D's columns
truth/<uid>.npz         poses at 120 Hz, true IMU times, biases
truth/<uid>.json        the script with times, wearer, room, IMU clock; written last, so that a
                        recording is complete when it is there and the files it lists are
```

`truth/<uid>.npz` holds `pose_t_s` (p,) from 0 at 120 Hz, `camera_position_m` (p, 3),
`head_quaternion_wxyz` (p, 4) (head axes to world axes), and for each row of the CSV `imu_true_s`
(n,), `accel_bias` and `gyro_bias` (n, 3).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from egotriad.manifests.files import atomic, sha256_file, write_text
from egotriad.pipelines.world_motion import CAMERA_POINT, PATH_RATE_HZ
from egotriad.pipelines.world_path import Array
from egotriad.pipelines.world_plan import Scene, Shoot, WorldOptions, direct
from egotriad.pipelines.world_room import render
from egotriad.pipelines.world_script import generator
from egotriad.pipelines.world_sensors import (
    GRAVITY,
    IMU_POINT,
    RATE_HZ,
    Clock,
    draw_biases,
    draw_clock,
    draw_noise,
    ideal_imu,
)

__all__ = ["RecordingJob", "make_recording", "read_truth"]

CODEC_OPTIONS = {"preset": "ultrafast", "crf": "12"}
"""Coarser video makes events of its own: per-pixel counts correlate .998 with those of the
unencoded frames at crf 12, .993 at 18, .984 at 23."""

CHUNK_FRAMES = 256

CSV_HEADER = (
    "component_idx,component_timestamp_ms,canonical_timestamp_ms,"
    "gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingJob:
    """One recording to be made under the folder `raw`."""

    raw: Path
    options: WorldOptions
    shoot: Shoot


def read_truth(raw: Path, uid: str) -> dict[str, Any] | None:
    """The truth about a recording, or None when the recording is not complete and unharmed."""
    try:
        truth: dict[str, Any] = json.loads((raw / "truth" / f"{uid}.json").read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    for name, facts in truth["files"].items():
        path = raw / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            return None
    return truth


def make_recording(job: RecordingJob) -> None:
    """Writes all files of one recording, the truth last."""
    options, uid = job.options, job.shoot.uid
    scene = direct(options, job.shoot)
    numbers = (job.shoot.wearer, job.shoot.recording)
    duration_s = float(scene.frames / options.exact_frame_rate)
    clock = draw_clock(duration_s, options.faults, generator(options.seed, "clock", *numbers))
    rng = generator(options.seed, "imu", *numbers)
    biases = draw_biases(scene.wearer, len(clock.true_s), rng)
    noise = draw_noise(len(clock.true_s), rng)
    ideal = ideal_imu(scene.choreography.path, scene.wearer, clock.true_s)
    accel, gyro = (ideal[sensor] + biases[sensor] + noise[sensor] for sensor in (0, 1))

    names = [f"full_scale/{uid}.mp4", f"imu/{uid}.csv", f"truth/{uid}.npz"]
    video, csv, npz = (job.raw / name for name in names)
    for path in (video, csv, npz):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f"{path.name}.tmp-*"):  # of a process that was killed
            left_over.unlink()
    _write_video(video, _frames(scene, options), options)
    _write_imu(csv, clock.stamp_s, accel, gyro)
    _write_arrays(npz, scene, clock, biases, duration_s)
    files = {
        name: {"bytes": (job.raw / name).stat().st_size, "sha256": sha256_file(job.raw / name)}
        for name in names
    }
    truth = _truth(scene, clock, options, job.shoot) | {"files": files}
    write_text(job.raw / "truth" / f"{uid}.json", json.dumps(truth, indent=1) + "\n")


def _frames(scene: Scene, options: WorldOptions) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, scene.frames, CHUNK_FRAMES):
        numbers = np.arange(start, min(start + CHUNK_FRAMES, scene.frames))
        positions, rotations = scene.choreography.path.pose(
            numbers / float(options.exact_frame_rate), CAMERA_POINT
        )
        yield from render(scene.room, positions, rotations, options.size_wh)


def _write_video(path: Path, frames: Iterator[NDArray[np.uint8]], options: WorldOptions) -> None:
    width, height = options.size_wh
    rate = options.exact_frame_rate
    # Planar 4:2:0 with neutral colour: what every reader of real recordings is made for.
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=CODEC_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # more would make the bytes depend on the machine
        stream.codec_context.color_range = 2  # full range: 0 is black, 255 white
        stream.codec_context.time_base = Fraction(1) / rate
        for number, grey in enumerate(frames):
            planes[:height] = grey
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1) / rate
            frame.color_range = 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_imu(path: Path, stamp_s: Array, accel: Array, gyro: Array) -> None:
    stamp_ms = stamp_s * 1e3
    rows = np.column_stack([stamp_ms, stamp_ms, gyro, accel])
    line = "0,%.6f,%.6f" + 6 * ",%.7f"
    with atomic(path) as temporary:
        temporary.write_text(
            "\n".join([CSV_HEADER, *(line % tuple(row) for row in rows.tolist())]) + "\n", "utf-8"
        )


def _write_arrays(
    path: Path, scene: Scene, clock: Clock, biases: tuple[Array, Array], duration_s: float
) -> None:
    times = np.arange(np.floor(duration_s * PATH_RATE_HZ) + 1) / PATH_RATE_HZ
    positions, rotations = scene.choreography.path.pose(times, CAMERA_POINT)
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez(
            handle,
            pose_t_s=times,
            camera_position_m=positions,
            head_quaternion_wxyz=np.roll(Rotation.from_matrix(rotations).as_quat(), 1, axis=1),
            imu_true_s=clock.true_s,
            accel_bias=biases[0].astype(np.float32),
            gyro_bias=biases[1].astype(np.float32),
        )


def _truth(scene: Scene, clock: Clock, options: WorldOptions, shoot: Shoot) -> dict[str, Any]:
    wearer = scene.wearer
    segments = [
        {
            "activity": segment.beat.activity,
            "tempo": segment.beat.tempo,
            **{key: value for key, value in asdict(segment).items() if key != "beat"},
            "narration_s": spoken.time_s,
            "narration": spoken.text,
            "annotation_uid": spoken.annotation_uid,
        }
        for segment, spoken in zip(scene.choreography.segments, scene.spoken, strict=True)
    ]
    return {
        "video_uid": shoot.uid,
        "wearer": shoot.wearer,
        "split": shoot.split,
        "frames": scene.frames,
        "segments": segments,
        "style": {
            "speed": wearer.speed,
            "amplitude": wearer.amplitude,
            "eye_height_m": wearer.eye_height_m,
        },
        "room": {
            "size_m": list(scene.room.size_m),
            "boxes_m": scene.room.boxes.tolist(),
            "greys": scene.room.greys.tolist(),
        },
        "imu": {
            "rate_hz": RATE_HZ,
            "gravity": GRAVITY,
            "imu_point_m": IMU_POINT.tolist(),
            "camera_point_m": CAMERA_POINT.tolist(),
            "mount_rotvec": wearer.mount_rotvec.tolist(),
            "offset_s": options.clock_offset_s,
            "drift_ppm": options.clock_drift_ppm,
            "gaps_s": clock.gaps_s.tolist(),
            "back_steps_s": clock.back_steps_s.tolist(),
        },
    }
