"""Takes of Ego-Exo4D as `takes.json` and `annotations/splits.json` tell of them.

Names of files are as the download program lays them, below the root of the tree, joined by "/".
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests import Unreadable
from egotriad.manifests.errors import RecordingError

__all__ = ["SPLITS_JSON", "TAKES_JSON", "Take", "file_safe", "read_splits", "read_takes"]

TAKES_JSON, SPLITS_JSON = "takes.json", "annotations/splits.json"
SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One take.

    Attributes:
        uid, name: its two names; annotations and downloads go by the uid, folders by the name.
        capture_uid: of the session it was cut from.
        participant: who wore the glasses, None where the source does not say.
        university, scenario, task: where it was recorded; what was done (`Bike Repair`, `Remove a
            Wheel`).
        duration_s: as declared.
        first_row, last_row: rows of its frames in the capture's timesync.csv, both included.
        validated: whether the authors checked the capture's clocks by hand.
        camera: of the glasses (`aria01`); rgb: stream of its colour camera (`214-1`).
        timesync, video, small_video: files; the videos are of the colour camera, in full and with
            448 pixels on the shorter side.
        vrs, full_vrs: recordings of the glasses without and with image streams, None where the take
            was released without.
    """

    uid: str
    name: str
    capture_uid: str
    participant: str | None
    university: str
    scenario: str
    task: str
    duration_s: float
    first_row: int
    last_row: int
    validated: bool
    camera: str
    rgb: str
    timesync: str
    video: str
    small_video: str
    vrs: str | None
    full_vrs: str | None

    @property
    def time_column(self) -> str:
        """Column of timesync.csv with the device times of the colour camera's frames."""
        return f"{self.camera}_{self.rgb}_capture_timestamp_ns"


def file_safe(name: str) -> str:
    """A name that can be a file's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def read_takes(path: Path) -> list[Take | Unreadable]:
    """All takes of a takes.json, in its order; one that lacks what is needed is `Unreadable`.

    Raises:
        RecordingError: no such file, or not a list of takes.
    """
    content = _json(path)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise RecordingError(f"{path.name}: got {_words(content)}, need Ego-Exo4D's list of takes")
    if not content or not any("take_uid" in item for item in content):
        found = ", ".join(list(content[0])[:8]) if content else "no entry"
        raise RecordingError(f"{path.name}: got {found}; need takes with 'take_uid'")
    return [
        _take_or_not(item, number)
        for number, item in enumerate(content)
        if not item.get("is_dropped")
    ]


def read_splits(path: Path) -> dict[str, str]:
    """Official split (train, validation, test) of each take uid in an annotations/splits.json.

    Raises:
        RecordingError: no such file, another schema, or a split of another name.
    """
    content = _json(path)
    splits = content.get("take_uid_to_split") if isinstance(content, dict) else None
    if not isinstance(splits, dict):
        raise RecordingError(f"{path.name}: got {_words(content)}; need 'take_uid_to_split'")
    strange = {str(split) for split in splits.values()} - SPLITS.keys()
    if strange:
        raise RecordingError(
            f"{path.name}: got splits {', '.join(sorted(strange))}; need train, val and test"
        )
    return {uid: SPLITS[split] for uid, split in splits.items()}


def _json(path: Path) -> Any:
    if not path.is_file():
        raise RecordingError(f"{path.name}: no such file; download it")
    try:
        return json.loads(path.read_bytes())
    except ValueError as exc:
        raise RecordingError(f"{path.name}: not JSON ({exc}); download it again") from exc


def _words(content: Any) -> str:
    if isinstance(content, dict):
        return f"top-level keys {', '.join(list(content)[:8]) or '(none)'}"
    return f"a JSON {type(content).__name__}"


def _take_or_not(item: dict[str, Any], number: int) -> Take | Unreadable:
    uid = file_safe(str(item.get("take_uid") or f"take-{number}"))
    try:
        return _take(item, uid)
    except KeyError as exc:
        problem = f"has no {exc}"
    except (TypeError, ValueError, AttributeError) as exc:
        problem = f"is of another make: {exc}"
    return Unreadable(
        recording_id=uid,
        message=f"takes.json, {item.get('take_name') or uid}: {problem}; it holds "
        f"{', '.join(list(item)[:40])}",
    )


def _take(item: dict[str, Any], uid: str) -> Take:
    folder, capture = str(item["root_dir"]).rstrip("/"), item["capture"]
    camera, stream = _colour_camera(item)
    video = f"{folder}/{stream['relative_path']}"
    place, _, file = video.rpartition("/")
    participant = item.get("participant_uid")
    session = capture.get("root_dir") or f"captures/{capture['capture_name']}"
    first, last = int(item["timesync_start_idx"]), int(item["timesync_end_idx"])
    return Take(
        uid=uid,
        name=str(item["take_name"]),
        capture_uid=str(capture.get("capture_uid") or item["capture_uid"]),
        participant=None if participant is None else str(participant),
        university=str(item.get("university_name") or ""),
        scenario=str(item.get("parent_task_name") or "").strip(),
        task=str(item.get("task_name") or "").strip(),
        duration_s=float(item["duration_sec"]),
        first_row=first + 1,
        last_row=last,
        validated=bool(item.get("validated")),
        camera=camera,
        rgb=str(stream["stream_id"]),
        timesync=f"{session.rstrip('/')}/timesync.csv",
        video=video,
        small_video=f"{place}/downscaled/448/{file}",
        vrs=_below(folder, item.get("vrs_relative_path")),
        full_vrs=_below(folder, item.get("vrs_all_streams_relative_path")),
    )


def _below(folder: str, name: Any) -> str | None:
    return f"{folder}/{name}" if name else None


def _colour_camera(item: dict[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The glasses and their colour stream; of several, those that the VRS file is of."""
    videos = item["frame_aligned_videos"]
    colour = {
        camera: streams["rgb"]
        for camera, streams in videos.items()
        if (streams.get("rgb") or {}).get("relative_path")
    }
    recorded = str(item.get("vrs_relative_path") or "")
    of_the_file = [camera for camera in colour if re.match(rf"{re.escape(camera)}[_.]", recorded)]
    chosen = of_the_file or list(colour)
    if len(chosen) != 1:
        raise ValueError(
            f"got {len(chosen)} cameras with an 'rgb' video among {', '.join(videos)}, need one"
        )
    return chosen[0], colour[chosen[0]]
