"""Narration files -> cleaned texts at points in time."""

import csv
import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from egotriad.manifests import Narration
from egotriad.manifests.errors import RecordingError

__all__ = ["clean", "read_ego4d_narrations", "read_user_narrations"]

EARLIEST_S = -0.1
"""Ego4D's stamps reach slightly below zero (about -0.04 s). Down to here a time counts as zero."""
LATEST_S = 1e7
"""No recording lasts four months."""

_SUBJECT = re.compile(r"(?<!\S)[#@]([co]|summary)(?!\w)", re.IGNORECASE)
_UNSURE = re.compile(r"(?<!\w)(?:#unsure|_unsure_)(?!\w)", re.IGNORECASE)
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^}]*\}")
_SRT_TIMES = re.compile(r"\s*(-?)(\d{1,4}):(\d{1,2}):(\d{1,2})[,.](\d{1,3})\s*-->\s*\S")

_LOG = logging.getLogger(__name__)


def clean(text: str) -> tuple[str, str]:
    """Text without the annotators' marks, and whom it is about.

    Ego4D marks subjects with words of their own: `#C` the camera wearer, `#O` another person,
    `#summary` a summary (also seen: `#c`, `@c`, `#o`). They are removed as whole words; the letters
    C, O, X, ... of the sentences themselves stay. `#unsure` and `_unsure_` stand for an object that
    the annotator could not name and become "something" (as in imu2clip). White space is collapsed.

    Returns:
        The text, possibly empty, and the first mark in lower case: "c", "o", "summary" or "".
    """
    marks = _SUBJECT.findall(text)
    text = _UNSURE.sub("something", _SUBJECT.sub(" ", text))
    return " ".join(text.split()), marks[0].lower() if marks else ""


def read_ego4d_narrations(path: Path) -> dict[str, tuple[Narration, ...]]:
    """Reads `narration.json` or `all_narrations_redacted.json` of Ego4D.

    Both annotator passes are kept, told apart by `annotation_pass` (in the second file: the
    annotator's id). Summaries, empty texts and times that are missing or before -0.1 s are left
    out and counted in the log; times a little below zero become zero. Each video's narrations are
    sorted by time (the files are not), ties in the file's order; a video without any is kept, with
    an empty tuple.

    Returns:
        Narrations of each video uid, in the file's order of videos.

    Raises:
        RecordingError: no such file, no JSON, or neither of the two schemas.
    """
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as exc:
        raise RecordingError(f"{path.name}: not JSON ({exc}); download it again") from exc
    if not isinstance(content, dict):
        raise RecordingError(f"{path.name}: got a JSON {type(content).__name__}, need an object")
    if isinstance(content.get("videos"), dict):
        found = {uid: _redacted_items(video) for uid, video in content["videos"].items()}
    elif content and all(_is_pass_entry(video) for video in content.values()):
        found = {uid: _pass_items(video) for uid, video in content.items()}
    else:
        keys = ", ".join(list(content)[:8])
        raise RecordingError(
            f"{path.name}: not Ego4D narrations: got top-level keys {keys or '(none)'}; need "
            f"'videos', or video uids with 'narration_pass_1' / 'narration_pass_2'"
        )
    dropped = 0
    result = {}
    for uid, items in found.items():
        kept = [narration for narration in items if narration is not None]
        dropped += len(items) - len(kept)
        result[uid] = _sorted(kept)
    if dropped:
        _LOG.info("%s: %d narrations without text or usable time left out", path.name, dropped)
    return result


def _is_pass_entry(video: Any) -> bool:
    return isinstance(video, dict) and ("status" in video or any("narration_" in k for k in video))


def _listed(entry: Any) -> list[dict[str, Any]]:
    """The narration items of an entry; an entry without any, or null, has none."""
    items = entry.get("narrations") if isinstance(entry, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _pass_items(video: dict[str, Any]) -> list[Narration | None]:
    """Items of one entry of narration.json."""
    return [
        _ego4d_item(
            item.get("timestamp_sec"), item.get("narration_text"), name, item.get("annotation_uid")
        )
        for name in ("narration_pass_1", "narration_pass_2")
        for item in _listed(video.get(name))
    ]


def _redacted_items(video: dict[str, Any]) -> list[Narration | None]:
    """Items of one entry of all_narrations_redacted.json."""
    return [
        _ego4d_item(
            item.get("time"),
            item.get("text"),
            str(item.get("annotator") or "all_narrations"),
            item.get("_annotation_uid"),
        )
        for item in _listed(video)
        if not item.get("is_summary")
    ]


def _ego4d_item(time_s: Any, raw: Any, annotation_pass: str, uid: Any) -> Narration | None:
    """A narration, or None when it has no text or no usable time."""
    text, mark = clean(raw) if isinstance(raw, str) else ("", "")
    if not isinstance(time_s, int | float) or not EARLIEST_S <= time_s <= LATEST_S:
        return None
    if not text or mark == "summary":
        return None
    return Narration(
        t_us=max(0, round(time_s * 1e6)),
        text=text,
        annotation_pass=annotation_pass,
        annotation_id=str(uid or ""),
    )


def read_user_narrations(path: Path) -> tuple[Narration, ...]:
    """Reads a user's own narrations, sorted by time (ties in the file's order).

    - `.csv`: UTF-8, a header with the columns `time_s` (seconds on the video's clock) and `text`;
      other columns are ignored.
    - `.srt`: the start of each subtitle; the lines of one are joined, formatting tags removed.

    Rows with an empty text are left out (and counted in the log); times from -0.1 s to 0 become 0.

    Raises:
        RecordingError: naming the line, what it holds and what it needs; also for a missing file,
            another suffix, and a file without a single narration.
    """
    readers = {".csv": _csv_rows, ".srt": _srt_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(f"{path.name}: narrations come as .csv or .srt; convert the file")
    text = _read_text(path)
    if not text.strip():
        raise RecordingError(f"{path.name}: the file is empty; need narrations, one a row")
    narrations, empty = [], 0
    for line, time_s, raw in reader(path, text.splitlines(keepends=True)):
        if not EARLIEST_S <= time_s <= LATEST_S:
            raise RecordingError(
                f"{path.name}, line {line}: got time {time_s:g} s, need a time from 0 s on, "
                f"counted from the first video frame"
            )
        words, _ = clean(raw)
        if words:
            t_us = max(0, round(time_s * 1e6))
            narrations.append(Narration(t_us=t_us, text=words, annotation_pass="user"))
        else:
            empty += 1
    if not narrations:
        raise RecordingError(
            f"{path.name}: no narration in it ({empty} rows without text); need at least one"
        )
    if empty:
        _LOG.info("%s: %d rows without text left out", path.name, empty)
    return _sorted(narrations)


def _csv_rows(path: Path, lines: list[str]) -> Iterator[tuple[int, float, str]]:
    """(line number, seconds, text) of every row."""
    rows = csv.DictReader(lines, skipinitialspace=True)
    header = [name.strip() for name in rows.fieldnames or ()]
    if not {"time_s", "text"} <= set(header):
        raise RecordingError(
            f"{path.name}, line 1: got columns {', '.join(header)}; need 'time_s' and 'text'"
        )
    rows.fieldnames = header
    try:
        for row in rows:
            got = sum(cell is not None for cell in row.values()) + len(row.get(None, ["x"])) - 1
            if got != len(header):
                raise RecordingError(
                    f"{path.name}, line {rows.line_num}: got {got} cells, need {len(header)}; "
                    f'a text with commas goes between double quotes: 1.5,"C walks, then turns"'
                )
            yield rows.line_num, _number(path, rows.line_num, row["time_s"]), row["text"]
    except csv.Error as exc:
        raise RecordingError(f"{path.name}, line {rows.line_num}: {exc}") from exc


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise RecordingError(
            f"{path.name}, line {line}: got time_s {text!r}, need a number of seconds such as 12.5"
        ) from exc


def _srt_rows(path: Path, lines: list[str]) -> Iterator[tuple[int, float, str]]:
    """(line number, seconds, text) of every subtitle: a number, a line of times, lines of text."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, "\n"], 1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield _srt_block(path, block)
            block = []


def _srt_block(path: Path, block: list[tuple[int, str]]) -> tuple[int, float, str]:
    times_at = 1 if block[0][1].strip().isdigit() and len(block) > 1 else 0
    number, line = block[times_at]
    match = _SRT_TIMES.match(line)
    if match is None:
        raise RecordingError(
            f"{path.name}, line {number}: got {line.strip()[:40]!r}, "
            f"need times such as 00:00:12,500 --> 00:00:14,000"
        )
    sign, hours, minutes, seconds, fraction = match.groups()
    time_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")
    text = " ".join(_MARKUP.sub("", words) for _, words in block[times_at + 1 :])
    return number, -time_s if sign else time_s, text


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RecordingError(
            f"{path.name}: not UTF-8 at byte {exc.start}; save the file as UTF-8"
        ) from exc


def _sorted(narrations: Iterable[Narration]) -> tuple[Narration, ...]:
    return tuple(sorted(narrations, key=lambda narration: narration.t_us))
