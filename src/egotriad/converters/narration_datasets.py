"""Published narration files (Ego4D, Ego-Exo4D, imu2clip) -> narrations of each recording."""

import csv
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    "read_ego4d_narrations",
    "read_egoexo4d_descriptions",
    "read_imu2clip_windows",
]

_LOG = logging.getLogger(__name__)

_SUBJECTS = {"C": "wearer", "O": "other"}
_IMU2CLIP_COLUMNS = ("window_start", "window_end", "video_uid", "narration_uid", "text", "label")


def read_ego4d_narrations(path: Path) -> dict[str, NarrationSet]:
    """Reads `narration.json` or `all_narrations_redacted.json` of Ego4D.

    Both annotator passes are kept, told apart by `annotation_pass` (in the second file: the
    annotator's id). Times are `timestamp_sec` (`time`), seconds of the canonical video; an item
    that has only `_unmapped_timestamp_sec` is counted and left out, and `_clip_time_*` is not used
    (its clock is not documented). What was mended or left out is counted per video and logged.

    Returns:
        The narrations of each video uid, in the file's order of videos; a video without any is
        kept, with none.

    Raises:
        RecordingError: no such file, no JSON, or neither of the two schemas.
    """
    content = _json_object(path)
    if isinstance(content.get("videos"), dict):
        found = {uid: _redacted_video(video) for uid, video in content["videos"].items()}
    elif content and all(_is_pass_entry(video) for video in content.values()):
        found = {uid: _pass_video(video) for uid, video in content.items()}
    else:
        keys = ", ".join(list(content)[:8])
        raise RecordingError(
            f"{path.name}: not Ego4D narrations: got top-level keys {keys or '(none)'}; need "
            f"'videos', or video uids with 'narration_pass_1' / 'narration_pass_2'"
        )
    _log_counts(path, found)
    return found


def read_egoexo4d_descriptions(path: Path) -> dict[str, NarrationSet]:
    """Reads `atomic_descriptions_{train,val}.json` of Ego-Exo4D.

    Each annotator's descriptions are one pass (`annotation_pass` is the annotator's id). Rejected
    annotations are left out and counted. The subject is read from `subject` or
    `narration_subject`; flags may be booleans or the strings "0" and "1". Times are seconds of the
    take, whose frame-aligned videos begin at 0.

    Returns:
        The descriptions of each take uid, in the file's order of takes.

    Raises:
        RecordingError: no such file, no JSON, or another schema.
    """
    content = _json_object(path)
    takes = content.get("annotations")
    if not isinstance(takes, dict) or not all(isinstance(a, list) for a in takes.values()):
        raise RecordingError(
            f"{path.name}: not Ego-Exo4D atomic descriptions: got top-level keys "
            f"{', '.join(list(content)[:8]) or '(none)'}; need 'annotations' with a list per take"
        )
    found = {uid: _take(annotations) for uid, annotations in takes.items()}
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


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as exc:
        raise RecordingError(f"{path.name}: not JSON ({exc}); download it again") from exc
    if not isinstance(content, dict):
        raise RecordingError(f"{path.name}: got a JSON {type(content).__name__}, need an object")
    return content


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


def _take(annotations: list[Any]) -> NarrationSet:
    """One take of atomic_descriptions_*.json."""
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
    return "" if value is None else str(value)
