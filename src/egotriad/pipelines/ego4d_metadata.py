"""`ego4d.json`: what Ego4D says of its videos. EGO4D/docs, data/metadata.md; v1, v2 and v2.1.

Keys come and go between versions and nulls are common: what is missing is `None` or empty here,
unknown keys are passed over, and only what is needed is held (the file is read video by video).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.converters.json_stream import JsonStream, open_json
from egotriad.manifests.errors import RecordingError

__all__ = ["Component", "Ego4dMetadata", "Ego4dVideo", "Span", "read_metadata"]

Span = tuple[int, int]
"""Start and end in microseconds of the canonical video."""

SPLIT_KEYS = ("split_em", "split_av", "split_fho", "split_goalstep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One camera file in the canonical video.

    Attributes:
        index: `component_idx` of the IMU's rows.
        start_us, end_us: where it lies in the canonical video; None where the metadata is silent.
    """

    index: int
    start_us: int | None
    end_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ego4dVideo:
    """One canonical video.

    Attributes:
        uid: lower-case UUID, the name of its files.
        duration_us: 0 where the metadata gives no usable length.
        frames: at 30 per second, as declared.
        source: institution.
        device: camera model.
        participant: the wearer's number; the only subject id.
        scenarios: stripped.
        has_imu: what the metadata claims; a usable file is not guaranteed.
        splits: benchmark -> train, val, test, or anything else the file has.
        components: by index; empty where the file has none.
        imu_us: where the metadata says that IMU samples lie; empty where it does not say.
        redacted_us: blanked stretches.
        companions: uids filmed at the same time or grouped with it.
    """

    uid: str
    duration_us: int
    frames: int | None
    source: str
    device: str | None
    participant: int | None
    scenarios: tuple[str, ...]
    has_imu: bool
    splits: Mapping[str, str]
    components: tuple[Component, ...]
    imu_us: tuple[Span, ...]
    redacted_us: tuple[Span, ...]
    companions: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ego4dMetadata:
    """All videos of one release.

    Attributes:
        version: as the file says.
        videos: by uid, in the file's order.
        damaged: uid -> what makes an entry useless.
    """

    version: str
    videos: Mapping[str, Ego4dVideo]
    damaged: Mapping[str, str]


def read_metadata(path: Path) -> Ego4dMetadata:
    """Reads `ego4d.json`.

    Raises:
        RecordingError: no such file, no JSON, or no list `videos` in it.
    """
    version, keys = "", []
    entries: dict[str, dict[str, Any]] = {}
    concurrent: dict[str, set[str]] = {}
    repeated: Counter[str] = Counter()
    with open_json(path) as stream:
        for key in _members(stream, path):
            keys.append(key)
            if key == "version":
                version = str(stream.value())
            elif key == "videos" and stream.peek() == "[":
                for entry in _objects(stream):
                    uid = str(entry.get("video_uid") or "")
                    repeated[uid] += uid in entries
                    entries.setdefault(uid, _reduced(entry))
            elif key == "concurrent_video_sets" and stream.peek() == "[":
                for entry in _objects(stream):
                    _gather(concurrent, entry)
            else:
                stream.skip()
    if not entries:
        raise RecordingError(
            f"{path.name}: not Ego4D's metadata: got top-level keys {', '.join(keys[:8])}; need "
            "'videos', a list of objects with 'video_uid'"
        )
    damaged = {uid: f"{path.name} lists it twice" for uid, more in repeated.items() if more and uid}
    if "" in entries:
        del entries[""]
        damaged["(no uid)"] = f"{path.name} has a video without video_uid"
    videos = {uid: _video(uid, entry, concurrent.get(uid, set())) for uid, entry in entries.items()}
    return Ego4dMetadata(version=version, videos=videos, damaged=damaged)


def _members(stream: JsonStream, path: Path) -> Iterator[str]:
    if stream.peek() != "{":
        raise RecordingError(
            f"{path.name}: got a JSON {type(stream.value()).__name__}, need an object"
        )
    yield from stream.members()


def _objects(stream: JsonStream) -> Iterator[dict[str, Any]]:
    return (item for item in stream.items() if isinstance(item, dict))


def _gather(concurrent: dict[str, set[str]], entry: dict[str, Any]) -> None:
    """Notes who was filmed together; sets that Ego4D calls invalid are no sets."""
    if entry.get("valid") is False:
        return
    uids = {str(video.get("video_uid") or "") for video in _dicts(entry.get("videos"))} - {""}
    for uid in uids:
        concurrent.setdefault(uid, set()).update(uids - {uid})


KEPT = (
    "duration_sec",
    "device",
    "fb_participant_id",
    "has_imu",
    "scenarios",
    "video_source",
    "group_video_uids",
    *SPLIT_KEYS,
)


def _reduced(entry: dict[str, Any]) -> dict[str, Any]:
    """The part of a video's entry that is needed; the rest may go."""
    video = _dict(entry.get("video_metadata"))
    imu = _dict(entry.get("imu_metadata"))
    return {key: entry.get(key) for key in KEPT} | {
        "frames": video.get("num_frames"),
        "lengths": [video.get("video_duration_sec"), video.get("mp4_duration_sec")],
        "components": [
            (
                part.get("component_idx"),
                part.get("canonical_video_start_sec"),
                part.get("canonical_video_end_sec"),
            )
            for part in _dicts(entry.get("video_components"))
        ],
        "imu_ms": [
            (part.get("canonical_video_start_ms"), part.get("canonical_video_end_ms"))
            for part in _dicts(imu.get("component_metadata"))
        ],
        "redacted_s": [
            (part.get("start_sec"), part.get("end_sec"))
            for part in _dicts(entry.get("redacted_intervals"))
        ],
    }


def _video(uid: str, entry: dict[str, Any], together: set[str]) -> Ego4dVideo:
    lengths = [entry["duration_sec"], *entry["lengths"]]
    length_us = next((us for us in map(_seconds, lengths) if us), 0)
    participant = entry["fb_participant_id"]
    grouped = entry["group_video_uids"]
    return Ego4dVideo(
        uid=uid,
        duration_us=length_us,
        frames=_whole(entry["frames"]),
        source=str(entry["video_source"] or ""),
        device=entry["device"] or None,
        participant=participant if _whole(participant) is not None else None,
        scenarios=tuple(" ".join(str(name).split()) for name in entry["scenarios"] or ()),
        has_imu=entry["has_imu"] is True,
        splits={
            key.removeprefix("split_"): str(entry[key]).strip().lower()
            for key in SPLIT_KEYS
            if entry[key]
        },
        components=_components(entry["components"]),
        imu_us=_spans(entry["imu_ms"], 1e3),
        redacted_us=_spans(entry["redacted_s"], 1e6),
        companions=frozenset(together | set(map(str, grouped or ()))) - {uid},
    )


def _components(found: list[tuple[Any, Any, Any]]) -> tuple[Component, ...]:
    parts = [
        Component(index=index, start_us=_seconds(start), end_us=_seconds(end))
        for index, start, end in found
        if isinstance(index, int)
    ]
    return tuple(sorted(parts, key=lambda part: part.index))


def _spans(found: list[tuple[Any, Any]], factor: float) -> tuple[Span, ...]:
    """Times in microseconds, sorted; what is no stretch of time is left out."""
    spans = [(_us(start, factor), _us(end, factor)) for start, end in found]
    return tuple(
        sorted((s, e) for s, e in spans if s is not None and e is not None and s < e),
    )


def _seconds(value: Any) -> int | None:
    return _us(value, 1e6)


def _us(value: Any, factor: float) -> int | None:
    """A time from 0 to ten million seconds in microseconds; None for anything else."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return round(value * factor) if usable and 0 <= value * factor <= 1e13 else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
