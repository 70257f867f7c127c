"""A simulated world: head-mounted camera and IMU, textured rooms, scripted activities, narrations.

Needs no download and no licence, and its truth is known: times, poses, clocks, texts. `download`
renders it into ordinary files of Ego4D's shape, and `recordings` reads these back as any Ego4D
download would be read.

```
raw/world.json                    the options, so that two worlds never mix in one folder
raw/ego4d.json                    videos: participant, split, length
raw/annotations/narration.json    narration_pass_1, texts like "#C C washes the plate slowly."
raw/full_scale/<uid>.mp4  raw/imu/<uid>.csv  raw/truth/<uid>.npz|json   (see world_recording.py)
```

One narration: {"timestamp_sec": 3.1, "timestamp_frame": 186, "_unmapped_timestamp_sec": 3.1,
"narration_text": "#C C nods.", "annotation_uid": "nod:0002"}; the id begins with the true activity.

Sensors: grey video, 90 degrees wide, global shutter (camera axes x right, y down, z forward); IMU
at 197.45 Hz on its own clock, m/s^2 with gravity and rad/s (axes x forward, y left, z up, turned by
the wearer's mount). Traps: as in real recordings the mount differs between wearers, the IMU sits
beside the camera, and its samples do not fall on the frames.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from egotriad.converters.imu_files import read_ego4d_imu
from egotriad.converters.narration import read_ego4d_narrations
from egotriad.manifests import Alignment, Recording
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.files import write_text
from egotriad.manifests.progress import Meter
from egotriad.pipelines import engine
from egotriad.pipelines.world_plan import WORLD_VERSION, WorldOptions, plan_world
from egotriad.pipelines.world_recording import RecordingJob, make_recording, read_truth

__all__ = ["DATASET", "Simulated"]


class Simulated:
    """The simulated world as a dataset."""

    name: ClassVar[str] = "simulated"
    licence_id: ClassVar[str] = "own"
    build_defaults: ClassVar[Mapping[str, Any]] = {
        "windows": "point",
        "window_s": 4.5,
        "event_spans": "0.1s x3 /0.05s @peak",
        "sensor": "native",
        "sync": "off",  # its clocks are known
        "upsample": "none",  # its frame rate is its own choice
    }
    Options: ClassVar[type] = WorldOptions

    def download(self, raw: Path, options: WorldOptions) -> None:
        """Renders what is missing of the world.

        Raises:
            UsageError: the folder holds another world.
        """
        if not _is_here(raw, options):
            _claim(raw, options)
        shoots = plan_world(options)
        jobs = [
            RecordingJob(raw=raw, options=options, shoot=shoot)
            for shoot in shoots
            if read_truth(raw, shoot.uid) is None
        ]
        workers = options.render_workers or engine.default_workers()
        with Meter() as meter:
            results = engine.run(make_recording, jobs, workers=workers)
            for done, (_, result) in enumerate(results, start=1):
                if isinstance(result, Exception):
                    raise result
                meter("recordings rendered", done, len(jobs))
        _write_annotations(raw, options, [_truth(raw, shoot.uid) for shoot in shoots])

    def recordings(self, raw: Path, options: WorldOptions) -> list[Recording]:
        """Describes the rendered recordings, in the order of wearers.

        Raises:
            RecordingError: there is no rendered world in the folder.
            UsageError: the folder holds another world.
        """
        if not _is_here(raw, options) or not (raw / "ego4d.json").is_file():
            raise RecordingError(f"{raw}: holds no simulated world; run its download first")
        videos = json.loads((raw / "ego4d.json").read_text("utf-8"))["videos"]
        narrations = raw / "annotations" / "narration.json"
        texts = read_ego4d_narrations(narrations)
        sure = options.faults == type(options.faults)()
        recordings = []
        for video in videos:
            uid = video["video_uid"]
            imu, mp4 = raw / "imu" / f"{uid}.csv", raw / "full_scale" / f"{uid}.mp4"
            recordings.append(
                Recording(
                    source=self.name,
                    source_version=WORLD_VERSION,
                    recording_id=uid,
                    wearer=f"s{options.seed}-w{video['fb_participant_id']:02d}",
                    video_path=mp4,
                    read_imu=partial(read_ego4d_imu, imu),
                    narrations=texts[uid].narrations,
                    duration_us=round(video["duration_sec"] * 1e6),
                    license_id=self.licence_id,
                    imu_kind="synthetic",
                    text_source="label",
                    align=Alignment(status="provided" if sure else "assumed"),
                    official_split=video["split_em"],
                    files=(mp4, imu, narrations),
                )
            )
        return recordings

    def fake(self, raw: Path) -> WorldOptions:
        """Renders a tiny world, one wearer of it held out; returns its options."""
        options = WorldOptions(
            wearers=2,
            recordings_per_wearer=1,
            clips_per_recording=2,
            size_wh=(64, 48),
            frame_rate_hz=30.0,
            render_workers=1,
        )
        self.download(raw, options)
        return options


DATASET = Simulated()


def _is_here(raw: Path, options: WorldOptions) -> bool:
    """Whether the folder holds this world (True) or none (False); another one is an error."""
    path = raw / "world.json"
    if not path.is_file():
        return False
    record = json.loads(path.read_text("utf-8"))
    if record["hash"] == options.hash:
        return True
    old, new = record["options"], json.loads(json.dumps(asdict(options)))
    differing = [
        f"{key} {value} (asked for {new.get(key)})"
        for key, value in old.items()
        if new.get(key) != value
    ]
    raise UsageError(
        f"{raw}: holds another simulated world, "
        f"{', '.join(differing) or 'of version ' + record['version']}; "
        "choose another folder or delete this one"
    )


def _claim(raw: Path, options: WorldOptions) -> None:
    """Writes the world's options into a folder, so that no other world is mixed in."""
    values = {key: value for key, value in asdict(options).items() if key != "render_workers"}
    record = {"hash": options.hash, "version": WORLD_VERSION, "options": values}
    write_text(raw / "world.json", json.dumps(record, indent=1) + "\n")


def _truth(raw: Path, uid: str) -> dict[str, Any]:
    truth = read_truth(raw, uid)
    if truth is None:
        raise RecordingError(f"{raw}: {uid} vanished while the world was rendered; run again")
    return truth


def _write_annotations(raw: Path, options: WorldOptions, truths: list[dict[str, Any]]) -> None:
    videos = [_video_entry(truth, options) for truth in truths]
    narrations = {truth["video_uid"]: _narration_entry(truth, options) for truth in truths}
    metadata = {
        "version": f"simulated-{WORLD_VERSION}",
        "description": "A simulated world in the shape of Ego4D",
        "videos": videos,
    }
    for path, content in (
        (raw / "annotations" / "narration.json", narrations),
        (raw / "ego4d.json", metadata),
    ):
        text = json.dumps(content, indent=1) + "\n"
        if not path.is_file() or path.read_text("utf-8") != text:
            write_text(path, text)


def _video_entry(truth: dict[str, Any], options: WorldOptions) -> dict[str, Any]:
    width, height = options.size_wh
    return {
        "video_uid": truth["video_uid"],
        "duration_sec": float(truth["frames"] / options.exact_frame_rate),
        "scenarios": ["simulated"],
        "video_metadata": {
            "fps": float(options.exact_frame_rate),
            "num_frames": truth["frames"],
            "video_codec": "h264",
            "display_resolution_width": width,
            "display_resolution_height": height,
        },
        "split_em": truth["split"],
        "split_av": truth["split"],
        "split_fho": truth["split"],
        "device": "simulated",
        "fb_participant_id": truth["wearer"],
        "is_stereo": False,
        "has_imu": True,
        "has_gaze": False,
    }


def _narration_entry(truth: dict[str, Any], options: WorldOptions) -> dict[str, Any]:
    items = [
        {
            "timestamp_sec": segment["narration_s"],
            "timestamp_frame": round(segment["narration_s"] * options.exact_frame_rate),
            "_unmapped_timestamp_sec": segment["narration_s"],
            "narration_text": segment["narration"],
            "annotation_uid": segment["annotation_uid"],
        }
        for segment in truth["segments"]
    ]
    return {"narration_pass_1": {"narrations": items, "summaries": []}, "status": "complete"}
