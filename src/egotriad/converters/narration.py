"""Narrations -> cleaned texts at points in time: the readers of all files that carry them.

A user's own files are read here; published ones in `narration_datasets`, subtitles in
`narration_subtitles`. What all go through (marks, times, order) is in `narration_text`, and which
of them tell the same action in `narration_passes`.
"""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

from egotriad.converters.narration_datasets import (
    read_ego4d_narrations,
    read_egoexo4d_descriptions,
    read_imu2clip_windows,
)
from egotriad.converters.narration_subtitles import TimedText, srt_rows, track_rows, vtt_rows
from egotriad.converters.narration_text import Collector, clean, is_usable_time, read_text
from egotriad.manifests import Narration
from egotriad.manifests.errors import RecordingError

__all__ = [
    "clean",
    "read_ego4d_narrations",
    "read_egoexo4d_descriptions",
    "read_imu2clip_windows",
    "read_user_narrations",
]

MEDIA_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm")

_LOG = logging.getLogger(__name__)


def read_user_narrations(path: Path, *, stream_index: int | None = None) -> tuple[Narration, ...]:
    """Reads a user's own narrations, in time order.

    - `.csv`: UTF-8, a header with the columns `time_s` (seconds on the video's clock) and `text`;
      other columns are ignored.
    - `.srt`, `.vtt`: the start of each subtitle; the lines of one are joined, formatting removed.
    - `.mp4`, `.mov`, `.m4v`, `.mkv`, `.webm`: a subtitle track of the file.

    Annotators' marks are read as in Ego4D (`narration_text.clean`). Rows without text are left out,
    rows out of order sorted, times from -0.1 s to 0 become 0; each is counted in the log.

    Args:
        path: the file.
        stream_index: which stream of a media file; None takes the first text track.

    Raises:
        RecordingError: naming the line, what it holds and what it needs; also for a missing file,
            another suffix, and a file without a single narration.
    """
    collector = Collector()
    for where, time_s, raw in _rows(path, stream_index):
        if not is_usable_time(time_s):
            raise RecordingError(
                f"{path.name}, {where}: got time {time_s:g} s, need a time from 0 s on, "
                f"counted from the first video frame"
            )
        collector.add(time_s, raw, annotation_pass="user")
    found = collector.result()
    if not found.narrations:
        raise RecordingError(
            f"{path.name}: no narration in it ({found.counts.get('empty', 0)} rows without text); "
            "need at least one"
        )
    if found.counts:
        words = ", ".join(f"{count} {name}" for name, count in found.counts.items())
        _LOG.info("%s: narrations mended or left out: %s", path.name, words)
    return found.narrations


def _rows(path: Path, stream_index: int | None) -> Iterator[TimedText]:
    suffix = path.suffix.lower()
    if suffix in MEDIA_SUFFIXES:
        return track_rows(path, stream_index=stream_index)
    readers = {".csv": _csv_rows, ".srt": srt_rows, ".vtt": vtt_rows}
    if suffix not in readers:
        raise RecordingError(
            f"{path.name}: narrations come as .csv, .srt or .vtt, or as a subtitle track of a "
            "media file; convert the file"
        )
    text = read_text(path)
    if not text.strip():
        raise RecordingError(f"{path.name}: the file is empty; need narrations, one a row")
    return readers[suffix](path, text.splitlines(keepends=True))


def _csv_rows(path: Path, lines: list[str]) -> Iterator[TimedText]:
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
            yield f"line {rows.line_num}", _number(path, rows.line_num, row["time_s"]), row["text"]
    except csv.Error as exc:
        raise RecordingError(f"{path.name}, line {rows.line_num}: {exc}") from exc


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise RecordingError(
            f"{path.name}, line {line}: got time_s {text!r}, need a number of seconds such as 12.5"
        ) from exc
