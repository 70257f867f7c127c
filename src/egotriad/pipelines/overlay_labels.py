"""Tables of labelled stretches of Ego4D videos, whatever their columns are called.

CSV (or TSV) with a header, a JSON list of objects, or JSON lines. What each column means is said by
the user: `uid=video_uid start_s=start_sec end_s=end_sec label=label split=split`.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.converters.narration_text import read_text
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.overlay_ego4d import OverlaySpan

__all__ = ["LabelColumns", "LabelTable", "read_labels"]

FRAME_HZ = 30.0
"""Ego4D's canonical videos have 30 frames a second, all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumns:
    """Names of the columns.

    Attributes:
        uid: of the video.
        start, end: of the stretch.
        in_frames: whether these are frames of the canonical video; else seconds.
        label: name of the class.
        split: the overlay's own split, None where there is none.
    """

    uid: str
    start: str
    end: str
    in_frames: bool
    label: str
    split: str | None

    @classmethod
    def parse(cls, words: str) -> "LabelColumns":
        """Reads `uid=... start_s=... end_s=... label=... [split=...]`, or start_frame, end_frame.

        Raises:
            UsageError: a word that is none of these, or a missing one.
        """
        pairs = dict(word.partition("=")[::2] for word in words.split())
        in_frames = "start_frame" in pairs
        unit = "frame" if in_frames else "s"
        need = {"uid", f"start_{unit}", f"end_{unit}", "label"}
        strange, absent = pairs.keys() - need - {"split"}, need - pairs.keys()
        if strange or absent or not all(pairs.values()):
            raise UsageError(
                f"--columns: got {words!r}; need uid=, start_s= and end_s= (or start_frame= and "
                "end_frame=), label=, and if there is one split=, each with a column's name"
            )
        return cls(
            uid=pairs["uid"],
            start=pairs[f"start_{unit}"],
            end=pairs[f"end_{unit}"],
            in_frames=in_frames,
            label=pairs["label"],
            split=pairs.get("split"),
        )

    def names(self) -> tuple[str, ...]:
        """The columns that the table must have."""
        names = (self.uid, self.start, self.end, self.label)
        return names if self.split is None else (*names, self.split)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """What a table holds.

    Attributes:
        spans: by video uid, in time order.
        splits: by video uid, the overlay's own words for where its stretches belong.
    """

    spans: Mapping[str, tuple[OverlaySpan, ...]]
    splits: Mapping[str, str]


def read_labels(path: Path, columns: LabelColumns) -> LabelTable:
    """Reads a table; underscores in labels become spaces.

    Raises:
        RecordingError: no such file, no table, other columns (those there are named), or a row that
            is no labelled stretch of a video (the row is named).
    """
    spans: dict[str, list[OverlaySpan]] = {}
    splits: dict[str, set[str]] = {}
    for number, row in enumerate(_rows(path), start=1):
        absent = [name for name in columns.names() if name not in row]
        if absent:
            raise RecordingError(
                f"{path.name}: has no column {', '.join(absent)}, only {', '.join(row)}; say what "
                "its columns mean: --columns 'uid=... start_s=... end_s=... label=...'"
            )
        uid = str(row[columns.uid]).strip().lower()
        spans.setdefault(uid, []).append(_span(path, number, row, columns))
        if columns.split is not None:
            splits.setdefault(uid, set()).add(str(row[columns.split]).strip().lower())
    if not spans:
        raise RecordingError(f"{path.name}: holds no row; need labelled stretches")
    return LabelTable(
        spans={
            uid: tuple(sorted(of, key=lambda s: (s.start_us, s.end_us)))
            for uid, of in spans.items()
        },
        splits={uid: ", ".join(sorted(words)) for uid, words in splits.items()},
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    text = read_text(path)
    if path.suffix.lower() in (".json", ".jsonl"):
        yield from _objects(path, text)
        return
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    for row in csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter):
        yield {name: value for name, value in row.items() if name is not None}


def _objects(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        if text.lstrip().startswith("["):
            found = json.loads(text)
        else:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as exc:
        raise RecordingError(
            f"{path.name}: neither a JSON list nor JSON lines ({exc}); make a table of it: one row "
            "a labelled stretch"
        ) from exc
    if not all(isinstance(item, dict) for item in found) or (
        len(found) == 1 and any(isinstance(value, list | dict) for value in found[0].values())
    ):
        keys = (
            ", ".join(list(found[0])[:8]) if found and isinstance(found[0], dict) else "no objects"
        )
        raise RecordingError(
            f"{path.name}: got {keys}, need a list of objects, one a labelled stretch"
        )
    return list(found)


def _span(path: Path, number: int, row: Mapping[str, Any], columns: LabelColumns) -> OverlaySpan:
    where = f"{path.name}, row {number}"
    try:
        start, end = (float(row[name]) for name in (columns.start, columns.end))
        factor = 1e6 / FRAME_HZ if columns.in_frames else 1e6
        start_us, end_us = round(start * factor), round(end * factor)
    except (TypeError, ValueError, OverflowError) as exc:
        raise RecordingError(
            f"{where}: {columns.start} and {columns.end} are no times ({exc})"
        ) from exc
    if not 0 <= start_us < end_us:
        raise RecordingError(
            f"{where}: got {columns.start} {row[columns.start]}, {columns.end} "
            f"{row[columns.end]}; need a stretch that ends after it begins"
        )
    label = " ".join(str(row[columns.label] or "").replace("_", " ").split())
    if not label or label.replace(".", "").isdigit():
        raise RecordingError(
            f"{where}: {columns.label} is {row[columns.label]!r}; need the name of a class (join "
            "the list of classes to the table first)"
        )
    return OverlaySpan(start_us=start_us, end_us=end_us, text=label, id=f"row-{number}")
