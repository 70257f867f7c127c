"""Rows of the `windows` table: each against itself, and against all others of the build."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests.clip import window_id
from egotriad.manifests.events import Span
from egotriad.manifests.rows import union_us
from egotriad.manifests.split import hash_split
from egotriad.manifests.verify_findings import Finding, Place
from egotriad.manifests.verify_text import private_text

__all__ = ["Build", "check_windows", "same_float32", "spans_of"]

TEXTS = ("narration", "narrations")
KEPT = (
    "window_id",
    "source",
    "video_uid",
    "split_group",
    "t_start_us",
    "duration_us",
    "num_events",
    "event_rate_hz",
    "event_on_fraction",
    "event_spans",
    "event_row",
    "sim_id",
)
"""Columns that the manifest and the events are compared with."""


@dataclass(slots=True)
class Build:
    """What must hold over all files, gathered as they are read.

    Attributes:
        windows: window_id -> split.
        questions: qa_ids.
        splits: group or wearer -> split.
    """

    windows: dict[str, str] = field(default_factory=dict)
    questions: set[str] = field(default_factory=set)
    splits: dict[tuple[str, ...], str] = field(default_factory=dict)

    def unique(self, row: dict[str, Any], split: str, place: Place) -> Iterator[Finding]:
        """Faults of a row against the rows before it."""
        if row["window_id"] in self.windows:
            yield place.finding("duplicate", "a window that came before", "each window once")
        self.windows.setdefault(row["window_id"], split)
        people: dict[str, tuple[str, ...]] = {"split_group": (row["split_group"],)}
        if row["wearer_id"] is not None:
            people["wearer_id"] = (row["source"], row["wearer_id"])
        for column, key in people.items():
            first = self.splits.setdefault((column, *key), split)
            if first != split:
                name = "/".join(key)
                yield place.finding("leak", f"{name} in {first} and {split}", "one", column=column)


def check_windows(
    file: pq.ParquetFile, split: str, place: Place, build: Build, kept: list[dict[str, Any]]
) -> Iterator[Finding]:
    """Faults of every row of a `windows` file; what later checks need goes into `build`, `kept`.

    Args:
        file: opened, with the right schema.
        split: the file's, by its name.
        place: the file.
        build: what was seen in the files before.
        kept: gets the columns KEPT of each row.
    """
    columns = [name for name in file.schema_arrow.names if name != "event_preview"]
    columns.append("event_preview.path")
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=columns, use_threads=False)
        imu, mask = (table.column(name).combine_chunks() for name in ("imu", "imu_mask"))
        for index, row in enumerate(table.drop_columns(["imu", "imu_mask"]).to_pylist()):
            number = len(kept)
            here = place.at(row_group=group, row=number, where=row["window_id"])
            yield from _identity(row, split, here)
            yield from build.unique(row, split, here)
            yield from _imu(row, imu[index], mask[index], here)
            yield from _narrations(row, here)
            yield from _event_columns(row, number, here)
            yield from _private(row, here)
            kept.append({name: row[name] for name in KEPT})


def _identity(row: dict[str, Any], split: str, place: Place) -> Iterator[Finding]:
    name = window_id(row["source"], row["video_uid"], row["t_start_us"], row["duration_us"])
    yield from place.unequal("window-id", window_id=(row["window_id"], name))
    if row["duration_us"] <= 0:
        yield place.finding("duration", row["duration_us"], "above 0 us", column="duration_us")
    origins = ("official", "hash", "single-source")
    if row["split_origin"] not in origins:
        yield place.finding("split", row["split_origin"], origins, column="split_origin")
    elif row["split_origin"] == "hash":
        yield from place.unequal("split", split_group=(split, hash_split(row["split_group"])))


def _imu(row: dict[str, Any], imu: pa.Scalar, mask: pa.Scalar, place: Place) -> Iterator[Finding]:
    rate_hz = row["imu_rate_hz"]
    if not imu.is_valid:
        yield from place.unequal("imu", imu_rate_hz=(rate_hz, None), imu_mask=(mask.as_py(), None))
        return
    if rate_hz is None or not 0 < rate_hz < math.inf:
        yield place.finding("imu", rate_hz, "a rate above 0 Hz", column="imu_rate_hz")
        return
    samples = imu.values.flatten().to_numpy(zero_copy_only=False).reshape(-1, 6)  # (T, 6)
    due = round(row["duration_us"] * rate_hz / 1e6)
    yield from place.unequal("imu", imu=(f"{len(samples)} samples", f"{due} samples"))
    valid = np.ones(len(samples), bool)
    if mask.is_valid:
        valid = mask.values.to_numpy(zero_copy_only=False)
        if len(valid) != len(samples) or valid.all():
            got = f"{len(valid)} entries, {int(valid.sum())} true"
            need = f"{len(samples)} entries, one or more false"
            yield place.finding("imu-mask", got, need, column="imu_mask")
            return
    yield from _mask(samples, valid, place)
    gap = row["qc"]["imu_gap_fraction"]
    if gap is not None and len(valid) and abs(gap - (1.0 - float(valid.mean()))) > 1e-6:
        due_gap = f"{1.0 - float(valid.mean()):.6f}"
        yield place.finding("imu-mask", gap, due_gap, column="qc.imu_gap_fraction")


def _mask(
    samples: NDArray[np.float32], valid: NDArray[np.bool_], place: Place
) -> Iterator[Finding]:
    """Valid samples are finite, the others NaN."""
    wrong = np.where(valid, ~np.isfinite(samples).all(axis=1), ~np.isnan(samples).all(axis=1))
    if wrong.any():
        first = int(np.argmax(wrong))
        got = f"{int(wrong.sum())} samples, the first number {first}, that the mask contradicts"
        yield place.finding("imu-mask", got, "finite where valid, NaN elsewhere", column="imu")


def _narrations(row: dict[str, Any], place: Place) -> Iterator[Finding]:
    told, anchor = row["narrations"], row["anchor"]
    for index, narration in enumerate(told):
        if not 0 <= narration["t_us"] < row["duration_us"]:
            need = f"0 <= t_us < {row['duration_us']}"
            column = f"narrations[{index}].t_us"
            yield place.finding("narration", narration["t_us"], need, column=column)
    if anchor is None:
        return
    if not 0 <= anchor < len(told):
        need = f"an index of {len(told)} narrations"
        yield place.finding("narration", anchor, need, column="anchor")
        return
    yield from place.unequal("narration", narration=(row["narration"], told[anchor]["text"]))


def _event_columns(row: dict[str, Any], number: int, place: Place) -> Iterator[Finding]:
    spans = spans_of(row)
    for index, span in enumerate(spans):
        if span.start_us < 0 or span.duration_us <= 0 or span.end_us > row["duration_us"]:
            need = f"inside the window of {row['duration_us']} us"
            yield place.finding("event-spans", span, need, column=f"event_spans[{index}]")
    if list(spans) != sorted(spans):
        yield place.finding("event-spans", spans, "in order", column="event_spans")
    count = row["num_events"]
    present = {name: row[name] is not None for name in ("num_events", "event_row", "sim_id")}
    if len(set(present.values())) > 1:
        got = ", ".join(name for name, there in present.items() if there)
        yield place.finding("events", f"only {got}", f"all of {', '.join(present)}, or none")
        return
    if count is None:
        return
    yield from place.unequal("event-row", event_row=(row["event_row"], number))
    observed_s = union_us(spans) / 1e6
    rate_hz = count / observed_s if observed_s else None
    if not same_float32(row["event_rate_hz"], rate_hz):
        yield place.finding("count", row["event_rate_hz"], rate_hz, column="event_rate_hz")


def _private(row: dict[str, Any], place: Place) -> Iterator[Finding]:
    told = {name: row[name] for name in TEXTS}
    others = {name: value for name, value in row.items() if name not in TEXTS}
    for values, names in ((others, True), (told, False)):
        if not any(private_text(json.dumps(values, ensure_ascii=False), names=names)):
            continue
        for column, value in values.items():
            for kind, shown in private_text(json.dumps(value, ensure_ascii=False), names=names):
                yield place.finding("private", f"{kind} {shown!r}", "none", column=column)


def spans_of(row: dict[str, Any]) -> tuple[Span, ...]:
    """The event spans of a row of either table."""
    return tuple(Span(span["start_us"], span["duration_us"]) for span in row["event_spans"])


def same_float32(stored: float | None, computed: float | None) -> bool:
    """Whether a value that was stored as float32 is the one computed now."""
    if stored is None or computed is None:
        return stored is computed
    return bool(np.float32(stored) == np.float32(computed))
