"""Published narration files (Ego4D, Ego-Exo4D, imu2clip) -> narrations of each recording."""

import csv
import logging
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.converters.json_stream import JsonStream, open_json
from egotriad.converters.narration_text import (
    Collector,
    NarrationSet,
    clean,
    is_usable_time,
    read_text,
)
from egotriad.manifests.errors import RecordingError

__all__ = [
    "LabelledWindow",
    "narrated_ego4d_videos",
    "read_ego4d_narrations",
    "read_egoexo4d_descriptions",
    "read_imu2clip_windows",
]

_LOG = logging.getLogger(__name__)

_UID = re.compile("[0-9a-f-]{36}")
_UID_KEY = re.compile(r'"[0-9a-f-]{36}"\s*:')
"""Uids stand as values inside videos; as keys only before one."""

_SUBJECTS = {"C": "wearer", "O": "other"}
_IMU2CLIP_COLUMNS = ("window_start", "window_end", "video_uid", "narration_uid", "text", "label")


def read_ego4d_narrations(
    path: Path, *, uids: Collection[str] | None = None
) -> dict[str, NarrationSet]:
    """Reads `narration.json` or `all_narrations_redacted.json` of Ego4D.

    Both annotator passes are kept, told apart by `annotation_pass` (in the second file: the
    annotator's id). Times are `timestamp_sec` (`time`), seconds of the canonical video; an item
    that has only `_unmapped_timestamp_sec` is counted and left out, and `_clip_time_*` is not used
    (its clock is not documented). What was mended or left out is counted per video and logged. The
    file is read video by video: only what is returned is held.

    Args:
        path: the file.
        uids: videos to keep; all when not given.

    Returns:
        The narrations of each video uid, in the file's order of videos; a video without any is
        kept, with none.

    Raises:
        RecordingError: no such file, no JSON, or neither of the two schemas.
    """
    found: dict[str, NarrationSet] = {}

    def keep(uid: str, video: Any, read: Callable[[Any], NarrationSet]) -> None:
        found[uid] = read(video)

    with open_json(path) as stream:
        if stream.peek() != "{":
            raise RecordingError(
                f"{path.name}: got a JSON {type(stream.value()).__name__}, need an object"
            )
        _visit_ego4d(path, stream, keep, uids)
    _log_counts(path, found)
    return found


def narrated_ego4d_videos(path: Path) -> frozenset[str]:
    """The uids of the videos with at least one narration in such a file, whatever its text.

    Raises:
        RecordingError: as `read_ego4d_narrations`.
    """
    narrated: set[str] = set()

    def look(uid: str, video: Any, read: Callable[[Any], NarrationSet]) -> None:
        passes = (video, *video.values()) if isinstance(video, dict) else ()
        if any(_listed(entry) for entry in passes):
            narrated.add(uid)

    with open_json(path) as stream:
        _visit_ego4d(path, stream, look)
    return frozenset(narrated)


def _visit_ego4d(
    path: Path,
    stream: JsonStream,
    visit: Callable[[str, Any, Callable[[Any], NarrationSet]], None],
    uids: Collection[str] | None = None,
) -> None:
    """Hands over the videos of either file, all or these, with what reads them."""

    def unwanted(key: str) -> bool:
        return uids is not None and key not in uids and _UID.fullmatch(key) is not None

    keys, foreign, redacted = [], False, False
    for key in stream.members():
        keys.append(key)
        if key == "videos" and stream.peek() == "{":
            redacted = True
            for uid in stream.members():
                if unwanted(uid):
                    stream.skip_to(_UID_KEY)
                elif uids is None or uid in uids:
                    visit(uid, stream.value(), _redacted_video)
                else:
                    stream.skip()
            continue
        if unwanted(key):
            stream.skip_to(_UID_KEY)
            continue
        video = stream.value()
        if _is_pass_entry(video):
            if uids is None or key in uids:
                visit(key, video, _pass_video)
        else:
            foreign = True
    if not redacted and (foreign or not keys):
        raise RecordingError(
            f"{path.name}: not Ego4D narrations: got top-level keys "
            f"{', '.join(keys[:8]) or '(none)'}; need 'videos', or video uids with "
            f"'narration_pass_1' / 'narration_pass_2'"
        )


def read_egoexo4d_descriptions(path: Path) -> dict[str, NarrationSet]:
    """Reads `atomic_descriptions_{train,val}.json` of Ego-Exo4D.

    Each annotator's descriptions are one pass (`annotation_pass` is the annotator's id). Rejected
    annotations are left out and counted. The subject is read from `subject` or
    `narration_subject`; flags may be booleans or the strings "0" and "1". Times are seconds of the
    take, whose frame-aligned videos begin at 0. The file is read take by take.

    Returns:
        The descriptions of each take uid, in the file's order of takes.

    Raises:
        RecordingError: no such file, no JSON, or another schema.
    """
    found: dict[str, NarrationSet] | None = None
    keys: list[str] = []
    with open_json(path) as stream:
        if stream.peek() != "{":
            raise RecordingError(
                f"{path.name}: got a JSON {type(stream.value()).__name__}, need an object"
            )
        for key in stream.members():
            keys.append(key)
            if key == "annotations" and stream.peek() == "{":
                found = {uid: _take(path, stream.value()) for uid in stream.members()}
            else:
                stream.skip()
    if found is None:
        raise _no_descriptions(path, keys)
    _log_counts(path, found)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledWindow:
    """A window as imu2clip published it: whole seconds, a narration inside, an activity.

    Where in the window the narration's time lies is not in the file.
    """

    t_start_us: int
    duration_us: int
    text: str
    label: str
    annotation_id: str
    unsure: bool


def read_imu2clip_windows(path: Path) -> dict[str, tuple[LabelledWindow, ...]]:
    """Reads imu2clip's `splits/dataset_motion_narr_2.5*.csv` (windows of labelled Ego4D motions).

    Returns:
        The windows of each video uid in time order, videos in the file's order.

    Raises:
        RecordingError: no such file, other columns, or a row that is no window.
    """
    rows = csv.DictReader(read_text(path).splitlines(keepends=True))
    missing = [name for name in _IMU2CLIP_COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise RecordingError(
            f"{path.name}, line 1: got columns {', '.join(rows.fieldnames or ()) or '(none)'}; "
            f"{', '.join(missing)} missing; need imu2clip's motion windows"
        )
    found: defaultdict[str, list[LabelledWindow]] = defaultdict(list)
    for row in rows:
        try:
            start_us, end_us = (
                round(float(row[name]) * 1e6) for name in ("window_start", "window_end")
            )
        except (TypeError, ValueError, OverflowError) as exc:
            raise _bad_window(path, rows.line_num, row) from exc
        if not 0 <= start_us < end_us:
            raise _bad_window(path, rows.line_num, row)
        text = clean(row["text"] or "")
        found[row["video_uid"]].append(
            LabelledWindow(
                t_start_us=start_us,
                duration_us=end_us - start_us,
                text=text.text,
                label=row["label"] or "",
                annotation_id=row["narration_uid"],
                unsure=text.unsure,
            )
        )
    return {
        uid: tuple(sorted(windows, key=lambda w: (w.t_start_us, w.text, w.annotation_id)))
        for uid, windows in found.items()
    }


def _bad_window(path: Path, line: int, row: Mapping[str, Any]) -> RecordingError:
    return RecordingError(
        f"{path.name}, line {line}: got window {row['window_start']} to {row['window_end']}, "
        "need two times in seconds, the later one second"
    )


def _no_descriptions(path: Path, keys: list[str]) -> RecordingError:
    return RecordingError(
        f"{path.name}: not Ego-Exo4D atomic descriptions: got top-level keys "
        f"{', '.join(keys[:8]) or '(none)'}; need 'annotations' with a list per take"
    )


def _log_counts(path: Path, found: Mapping[str, NarrationSet]) -> None:
    counts: Counter[str] = Counter()
    for recording in found.values():
        counts.update(recording.counts)
    if counts:
        words = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        _LOG.info("%s: narrations mended or left out: %s", path.name, words)


def _is_pass_entry(video: Any) -> bool:
    return isinstance(video, dict) and ("status" in video or any("narration_" in k for k in video))


def _listed(entry: Any, key: str = "narrations") -> list[dict[str, Any]]:
    """The items of an entry; an entry without any, or null, has none."""
    items = entry.get(key) if isinstance(entry, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _pass_video(video: dict[str, Any]) -> NarrationSet:
    """One entry of narration.json."""
    collector = Collector()
    for name in ("narration_pass_1", "narration_pass_2"):
        for item in _listed(video.get(name)):
            time_s = item.get("timestamp_sec")
            if time_s is None and item.get("_unmapped_timestamp_sec") is not None:
                collector.counts["unmapped_time"] += 1
                continue
            collector.add(
                time_s,
                item.get("narration_text"),
                annotation_pass=name,
                annotation_id=_id(item.get("annotation_uid")),
            )
        for item in _listed(video.get(name), "summaries"):
            _add_summary(
                collector, item, ("start_sec", "end_sec", "summary_text", "annotation_uid"), name
            )
    return collector.result()


def _redacted_video(video: Any) -> NarrationSet:
    """One entry of all_narrations_redacted.json."""
    collector = Collector()
    for item in _listed(video):
        annotator = str(item.get("annotator") or "all_narrations")
        mark = "#summary " if item.get("is_summary") else ""
        text = item.get("text")
        collector.add(
            item.get("time"),
            f"{mark}{text}" if isinstance(text, str) else None,
            annotation_pass=annotator,
            annotation_id=_id(item.get("_annotation_uid")),
        )
    for item in _listed(video, "summaries"):
        annotator = str(item.get("annotator") or "all_narrations")
        _add_summary(
            collector, item, ("start_time", "end_time", "text", "_annotation_uid"), annotator
        )
    return collector.result()


def _add_summary(
    collector: Collector, item: dict[str, Any], keys: tuple[str, str, str, str], author: str
) -> None:
    start_s, end_s, raw, uid = (item.get(key) for key in keys)
    text = clean(raw).text if isinstance(raw, str) else ""
    if text and is_usable_time(start_s) and is_usable_time(end_s):
        start_us, end_us = (max(0, round(time_s * 1e6)) for time_s in (start_s, end_s))
        collector.add_summary(start_us, end_us, text, author, _id(uid))
    else:
        collector.counts["untimed" if text else "empty"] += 1


def _take(path: Path, annotations: Any) -> NarrationSet:
    """One take of atomic_descriptions_*.json."""
    if not isinstance(annotations, list):
        raise _no_descriptions(path, ["annotations"])
    collector = Collector()
    for annotation in annotations:
        if not isinstance(annotation, dict) or _flag(annotation.get("rejected")):
            collector.counts["rejected"] += 1
            continue
        for item in _listed(annotation, "descriptions"):
            subject = item.get("subject") or item.get("narration_subject") or ""
            collector.add(
                item.get("timestamp"),
                item.get("text"),
                annotation_pass=_id(annotation.get("annotator_id")),
                annotation_id=_id(annotation.get("annotation_uid")),
                subject=_SUBJECTS.get(str(subject).upper(), ""),
                unsure=_flag(item.get("unsure")),
            )
    return collector.result()


def _flag(value: Any) -> bool:
    """A boolean that may be written as a string: "0" is false, as is a missing one."""
    return value not in (None, False, 0, "", "0", "false", "False")


def _id(value: Any) -> str:
    # One string for all narrations of a task: a million copies take 80 MB.
    return "" if value is None else sys.intern(str(value))
