"""A small Ego4D in the true on-disk format, filmed in the simulated world, with chosen defects.

```
ego4d.json                                  videos[], clips[], concurrent_video_sets[], ...
v2/annotations/narration.json               two passes of each video
v2/annotations/all_narrations_redacted.json the same in the other schema
v2/imu/<uid>.csv   v2/video_540ss/<uid>.mp4   as `ego4d --datasets imu video_540ss` lays them
```
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egotriad.manifests.files import write_text
from egotriad.pipelines.dataset_simulated import DATASET as SIMULATED
from egotriad.pipelines.fake_ego4d_plants import PLANTS, Draft
from egotriad.pipelines.world_plan import WorldOptions
from egotriad.pipelines.world_recording import CSV_HEADER

__all__ = ["FakeVideo", "fake_uid", "write_fake_ego4d"]

FIRST_SAMPLE_LATE_MS = 5.0
"""Component times count from the first IMU sample, which is not quite the first frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeVideo:
    """One video that was written.

    Attributes:
        uid: its uid.
        plant: key of PLANTS, or empty for a clean one.
        truth: what the simulated world knows of it (`world_recording.read_truth`).
        truth_imu: the IMU file before anything was planted, in the simulated world's folder.
    """

    uid: str
    plant: str
    truth: Mapping[str, Any]
    truth_imu: Path


def fake_uid(number: int) -> str:
    """Uid of a fake video."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ego4d/{number}"))


def write_fake_ego4d(
    raw: Path,
    plants: Sequence[str] = ("", ""),
    *,
    world: WorldOptions | None = None,
    video_set: str = "video_540ss",
) -> tuple[FakeVideo, ...]:
    """Writes one video per plant, each of another wearer; the world goes into `raw`.world.

    Args:
        raw: the tree.
        plants: what is wrong with each video: keys of `fake_ego4d_plants.PLANTS`; empty: nothing.
        world: size and length of the recordings; its number of wearers is that of the plants.
        video_set: folder of the videos.
    """
    shared = world or WorldOptions(
        clips_per_recording=6, size_wh=(128, 96), frame_rate_hz=30.0, render_workers=1
    )
    options = WorldOptions(
        wearers=len(plants),
        recordings_per_wearer=1,
        clips_per_recording=shared.clips_per_recording,
        seed=shared.seed,
        size_wh=shared.size_wh,
        frame_rate_hz=shared.frame_rate_hz,
        clock_offset_s=shared.clock_offset_s,
        render_workers=shared.render_workers,
    )
    films = raw.with_name(f"{raw.name}.world")
    SIMULATED.download(films, options)
    listed = json.loads((films / "ego4d.json").read_text("utf-8"))["videos"]
    drafts: list[Draft] = []
    written: list[FakeVideo] = []
    for number, (plant, video) in enumerate(zip(plants, listed, strict=True)):
        truth = json.loads((films / "truth" / f"{video['video_uid']}.json").read_text("utf-8"))
        imu = films / "imu" / f"{video['video_uid']}.csv"
        draft = _draft(number, video, truth, imu, films)
        if plant:
            PLANTS[plant](draft)
        drafts.append(draft)
        written.append(FakeVideo(uid=draft.uid, plant=plant, truth=truth, truth_imu=imu))
        _write_files(raw / "v2", draft, video_set)
    _write_metadata(raw, drafts)
    _write_narrations(raw / "v2" / "annotations", drafts)
    return tuple(written)


def _draft(
    number: int, video: Mapping[str, Any], truth: Mapping[str, Any], imu: Path, films: Path
) -> Draft:
    uid = fake_uid(number)
    rows = np.loadtxt(imu, delimiter=",", skiprows=1)
    rows[:, 1] = rows[:, 2] - FIRST_SAMPLE_LATE_MS
    return Draft(
        uid=uid,
        header=CSV_HEADER.split(","),
        rows=rows,
        video=(films / "full_scale" / f"{video['video_uid']}.mp4").read_bytes(),
        entry=_entry(uid, number, video),
        narrations=[
            (segment["narration_s"], segment["narration"], segment["annotation_uid"])
            for segment in truth["segments"]
        ],
    )


def _entry(uid: str, number: int, video: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ego4d.json, with the keys that a released one has."""
    duration_s = video["duration_sec"]
    facts = video["video_metadata"]
    stream = {
        "fps": 30.0,
        "num_frames": facts["num_frames"],
        "video_codec": "vp9",
        "audio_codec": None,
        "display_resolution_width": facts["display_resolution_width"],
        "display_resolution_height": facts["display_resolution_height"],
        "mp4_duration_sec": duration_s,
        "video_start_sec": 0.0,
        "video_duration_sec": duration_s,
        "audio_start_sec": None,
        "audio_duration_sec": None,
    }
    component = {
        "video_component_uid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{uid}/0")),
        "video_uid": uid,
        "component_idx": 0,
        "redacted": False,
        "canonical_video_start_sec": 0.0,
        "canonical_video_end_sec": duration_s,
        "canonical_video_start_frame": 0,
        "canonical_video_end_frame": facts["num_frames"] - 1,
        "video_metadata": {**stream, "video_start_sec": None},
    }
    return {
        "video_uid": uid,
        "duration_sec": duration_s,
        "scenarios": ["Cooking\n" if number % 2 else "Walking on street"],
        "video_metadata": stream,
        "split_em": "test" if video["split_em"] == "test" else "train",
        "split_av": None,
        "split_fho": None,
        "s3_path": f"s3://ego4d-{('cmu', 'minnesota')[number % 2]}/public/v2/full_scale/{uid}.mp4",
        "origin_video_id": f"origin-{number}",
        "video_source": ("cmu", "minnesota")[number % 2],
        "device": "GoPro Hero Black 7",
        "physical_setting_name": None,
        "fb_participant_id": 100 + number,
        "is_stereo": False,
        "has_imu": True,
        "has_gaze": False,
        "video_components": [component],
        "concurrent_sets": None,
        "has_redacted_regions": False,
        "redacted_intervals": [],
        "gaps": None,
        "imu_metadata": {
            "s3_path": f"s3://ego4d-consortium-sharing/public/v2/imu/{uid}.csv",
            "component_metadata": [
                {
                    "canonical_video_start_ms": 0.0,
                    "canonical_video_end_ms": duration_s * 1e3,
                }
            ],
        },
        "gaze_metadata": None,
    }


def _write_files(root: Path, draft: Draft, video_set: str) -> None:
    for folder in ("imu", video_set):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / video_set / f"{draft.uid}.mp4").write_bytes(draft.video)
    if draft.has_csv:
        lines = [",".join(draft.header)]
        lines += [
            ",".join("NULL" if np.isnan(value) else f"{value:.7f}" for value in row)
            for row in draft.rows.tolist()
        ]
        (root / "imu" / f"{draft.uid}.csv").write_text("\n".join(lines) + "\n", "utf-8")


def _write_metadata(raw: Path, drafts: Sequence[Draft]) -> None:
    content = {
        "date": "230118",
        "version": "v2.1",
        "description": "Ego4D, as it would be",
        "videos": [draft.entry for draft in drafts],
        "clips": [],
        "concurrent_video_sets": [],
        "physical_settings": [],
    }
    write_text(raw / "ego4d.json", json.dumps(content) + "\n")


def _write_narrations(folder: Path, drafts: Sequence[Draft]) -> None:
    """Both files; the second pass says the same 0.4 s later."""
    passes: dict[str, Any] = {}
    redacted: dict[str, Any] = {}
    for draft in drafts:
        entry: dict[str, Any] = {"status": "complete" if draft.narrations else "redacted"}
        items = []
        for name, shift_s in (("narration_pass_1", 0.0), ("narration_pass_2", 0.4)):
            told = [(at_s + shift_s, text, uid) for at_s, text, uid in draft.narrations]
            if told:
                entry[name] = {"narrations": [_pass_item(*item) for item in told], "summaries": []}
            items += [_redacted_item(name, *item) for item in told]
        passes[draft.uid] = entry
        redacted[draft.uid] = {"narrations": items, "summaries": []}
    write_text(folder / "narration.json", json.dumps(passes) + "\n")
    write_text(folder / "all_narrations_redacted.json", json.dumps({"videos": redacted}) + "\n")


def _pass_item(at_s: float, text: str, uid: str) -> dict[str, Any]:
    return {
        "timestamp_sec": at_s,
        "timestamp_frame": round(at_s * 30),
        "_unmapped_timestamp_sec": at_s,
        "narration_text": f"{text}\n",
        "annotation_uid": uid,
    }


def _redacted_item(annotator: str, at_s: float, text: str, uid: str) -> dict[str, Any]:
    return {
        "time": at_s,
        "text": text,
        "_annotation_uid": uid,
        "_clip_time_start": 0.0,
        "_clip_time_end": at_s,
        "_project_id": 1,
        "annotator": annotator,
        "is_summary": False,
        "_map_errs": [],
    }
