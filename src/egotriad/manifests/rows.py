"""Clips to Arrow rows and back, without a Python object per sample or event."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from egotriad.manifests.clip import Alignment, Clip, Imu, Narration, Origin, Quality
from egotriad.manifests.errors import ShardError
from egotriad.manifests.events import Span
from egotriad.manifests.schema import EVENTS, WINDOWS

__all__ = [
    "EVENT_HEAD",
    "EVENT_PLANES",
    "clips_of",
    "event_table",
    "ms_to_idx",
    "planes_of",
    "times_of",
    "union_us",
    "window_table",
]

EVENT_HEAD = ["window_id", "sensor_width", "sensor_height"]
EVENT_PLANES = ["ev_x", "ev_y", "ev_p"]


def window_table(
    clips: Sequence[Clip], previews: Sequence[bytes | None], event_rows: Sequence[int | None]
) -> pa.Table:
    """Rows of the `windows` table.

    Args:
        clips: one per row.
        previews: PNG of each clip's events, or None.
        event_rows: row of each clip in the events file of the same shard, or None without events.
    """
    rows = [
        _window_row(clip, preview, row)
        for clip, preview, row in zip(clips, previews, event_rows, strict=True)
    ]
    columns: list[pa.Array] = []
    for field in WINDOWS:
        if field.name == "imu":
            columns.append(_imu_column(clips))
        else:
            columns.append(pa.array([row[field.name] for row in rows], field.type))
    return pa.Table.from_arrays(columns, schema=WINDOWS)


def _window_row(clip: Clip, preview: bytes | None, event_row: int | None) -> dict[str, Any]:
    imu, events = clip.imu, clip.events
    observed_s = union_us(clip.event_spans) / 1e6
    return {
        "window_id": clip.window_id,
        "source": clip.source,
        "source_version": clip.origin.source_version,
        "video_uid": clip.recording,
        "wearer_id": clip.wearer,
        "split_group": clip.origin.split_group,
        "split_origin": clip.origin.split_origin,
        "t_start_us": clip.t_start_us,
        "duration_us": clip.duration_us,
        "window_policy": clip.window_policy,
        "imu_rate_hz": imu.rate_hz if imu else None,
        "imu_src_rate_hz": clip.origin.imu_source_rate_hz,
        "imu_mask": imu.valid if imu and not imu.valid.all() else None,
        "imu_kind": clip.origin.imu_kind,
        "narration": clip.narration,
        "narrations": [_narration_row(narration) for narration in clip.narrations],
        "anchor": clip.anchor,
        "other_actions": clip.other_actions,
        "text_source": clip.origin.text_source,
        "align_status": clip.align.status,
        "align_offset_us": clip.align.offset_us,
        "align_ppm": clip.align.drift_ppm,
        "align_score": clip.align.score,
        "num_events": None if events is None else len(events),
        "event_rate_hz": None if events is None or not observed_s else len(events) / observed_s,
        "event_on_fraction": None if events is None or not len(events) else float(events.p.mean()),
        "event_spans": [
            {"start_us": s.start_us, "duration_us": s.duration_us} for s in clip.event_spans
        ],
        "event_row": event_row,
        "sim_id": clip.origin.sim_id,
        "event_preview": None if preview is None else {"bytes": preview, "path": None},
        "license_id": clip.origin.license_id,
        "qc": {
            "imu_gap_fraction": clip.qc.imu_gap_fraction,
            "imu_clip_fraction": clip.qc.imu_clip_fraction,
            "imu_score": clip.qc.imu_score,
            "flags": list(clip.qc.flags),
        },
    }


def _narration_row(narration: Narration) -> dict[str, Any]:
    return {
        "t_us": narration.t_us,
        "text": narration.text,
        "pass": narration.annotation_pass,
        "id": narration.annotation_id,
        "subject": narration.subject,
        "unsure": narration.unsure,
        "group": narration.group,
    }


def _imu_column(clips: Sequence[Clip]) -> pa.Array:
    lengths = [clip.imu.data.shape[1] if clip.imu else 0 for clip in clips]
    samples = [clip.imu.data.T for clip in clips if clip.imu]  # (T, 6) each
    flat = np.concatenate(samples).reshape(-1) if samples else np.empty(0, np.float32)
    kind = WINDOWS.field("imu").type
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), type=kind.value_type)
    return pa.ListArray.from_arrays(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        values,
        type=kind,
        mask=pa.array([clip.imu is None for clip in clips]),
    )


def union_us(spans: Sequence[Span]) -> int:
    """Microseconds covered by at least one of the spans."""
    covered, reached = 0, 0
    for span in sorted(spans):
        covered += max(0, span.end_us - max(span.start_us, reached))
        reached = max(reached, span.end_us)
    return covered


def ms_to_idx(t_us: NDArray[np.int64] | NDArray[np.int32], duration_us: int) -> NDArray[np.int32]:
    """DSEC's index: entry ms is the first event at or after ms * 1000 us.

    Returns:
        int32 (ceil(duration_ms) + 1,). Source: uzh-rpg/DSEC scripts/utils/eventslicer.py.
    """
    edges = np.arange(-(-duration_us // 1000) + 1, dtype=np.int64) * 1000
    # In the times' own type: otherwise all of them would be converted.
    edges = np.minimum(edges, np.iinfo(t_us.dtype).max).astype(t_us.dtype)
    return np.searchsorted(t_us, edges, side="left").astype(np.int32)


def event_table(clip: Clip) -> pa.Table:
    """The one-row `events` table of a clip.

    Raises:
        ShardError: when the clip has no events, or they are unordered or outside the window.
    """
    events = clip.events
    if events is None or clip.origin.sim_id is None:
        raise ShardError(f"{clip.window_id}: has no events to write")
    t = events.t_us
    if len(t) and (t[0] < 0 or t[-1] >= clip.duration_us or bool((t[1:] < t[:-1]).any())):
        raise ShardError(
            f"{clip.window_id}: event times {t.min()}..{t.max()} us, need 0..{clip.duration_us} us "
            "in order; call Events.canonical() and make them relative to the window"
        )
    width, height = events.size_wh
    row: dict[str, Any] = {
        "window_id": clip.window_id,
        "t_start_us": clip.t_start_us,
        "duration_us": clip.duration_us,
        "sensor_width": width,
        "sensor_height": height,
        "sim_id": clip.origin.sim_id,
        "event_spans": [
            {"start_us": s.start_us, "duration_us": s.duration_us} for s in clip.event_spans
        ],
    }
    arrays: dict[str, NDArray[Any]] = {
        "ev_t": t.astype(np.int32),
        "ev_x": events.x,
        "ev_y": events.y,
        "ev_p": events.p,
        "ev_ms_to_idx": ms_to_idx(t, clip.duration_us),
    }
    columns = [
        pa.ListArray.from_arrays(
            pa.array([0, len(arrays[field.name])], pa.int32()),
            _values(arrays[field.name], field.type.value_type),
            type=field.type,
        )
        if field.name in arrays
        else pa.array([row[field.name]], field.type)
        for field in EVENTS
    ]
    return pa.Table.from_arrays(columns, schema=EVENTS)


def _values(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An Arrow array; booleans are packed by NumPy, which takes Arrow twenty times as long."""
    if values.dtype != np.bool_:
        return pa.array(values, kind)
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.BooleanArray.from_buffers(kind, len(values), [None, bits])


def times_of(table: pa.Table) -> NDArray[np.int32]:
    """The times of a one-row `events` table, int32 (N,), microseconds."""
    return _flat(table, "ev_t")


def planes_of(table: pa.Table, part: slice) -> dict[str, NDArray[Any]]:
    """Some of `ev_x`, `ev_y` (uint16) and `ev_p` (bool) of a one-row `events` table."""
    return {name: _flat(table, name, part) for name in EVENT_PLANES}


def _flat(table: pa.Table, name: str, part: slice = slice(None)) -> NDArray[Any]:
    values = table.column(name).chunk(0).flatten()
    return values[part].to_numpy(zero_copy_only=False)


def clips_of(table: pa.Table, split: str) -> Iterator[tuple[Clip, int | None]]:
    """(clip without events, its event row) for every row of a `windows` table.

    Without the columns `imu` and `imu_mask`, `Clip.imu` is None.
    """
    light = table.drop_columns(
        [name for name in ("imu", "event_preview") if name in table.column_names]
    )
    windows = _imu_of(table) if "imu" in table.column_names else repeat(None)
    for row, data in zip(light.to_pylist(), windows, strict=False):
        yield _clip(row, data, split), row["event_row"]


def _imu_of(table: pa.Table) -> Iterator[NDArray[np.float32] | None]:
    """The (6, T) samples of every row, None where there are none."""
    for chunk in table.column("imu").chunks:
        offsets = chunk.offsets.to_numpy()
        samples = chunk.values.flatten().to_numpy().reshape(-1, 6)
        for index, present in enumerate(chunk.is_valid().to_pylist()):
            first, end = offsets[index : index + 2]
            yield np.ascontiguousarray(samples[first:end].T) if present else None


def _clip(row: dict[str, Any], data: NDArray[np.float32] | None, split: str) -> Clip:
    imu = None
    if data is not None:
        mask = row["imu_mask"]
        valid = np.ones(data.shape[1], bool) if mask is None else np.array(mask, bool)
        imu = Imu(data=data, rate_hz=row["imu_rate_hz"], valid=valid)
    return Clip(
        window_id=row["window_id"],
        source=row["source"],
        recording=row["video_uid"],
        wearer=row["wearer_id"],
        t_start_us=row["t_start_us"],
        duration_us=row["duration_us"],
        imu=imu,
        events=None,
        event_spans=tuple(Span(s["start_us"], s["duration_us"]) for s in row["event_spans"]),
        narration=row["narration"],
        narrations=tuple(
            Narration(
                t_us=n["t_us"],
                text=n["text"],
                annotation_pass=n["pass"],
                annotation_id=n["id"],
                subject=n["subject"],
                unsure=n["unsure"],
                group=n["group"],
            )
            for n in row["narrations"]
        ),
        window_policy=row["window_policy"],
        anchor=row["anchor"],
        other_actions=row["other_actions"],
        split=split,
        align=Alignment(
            status=row["align_status"],
            offset_us=row["align_offset_us"],
            drift_ppm=row["align_ppm"],
            score=row["align_score"],
        ),
        qc=Quality(
            imu_gap_fraction=row["qc"]["imu_gap_fraction"],
            imu_clip_fraction=row["qc"]["imu_clip_fraction"],
            imu_score=row["qc"]["imu_score"],
            flags=tuple(row["qc"]["flags"]),
        ),
        origin=Origin(
            source_version=row["source_version"],
            license_id=row["license_id"],
            imu_kind=row["imu_kind"],
            text_source=row["text_source"],
            split_group=row["split_group"],
            split_origin=row["split_origin"],
            imu_source_rate_hz=row["imu_src_rate_hz"],
            sim_id=row["sim_id"],
        ),
    )
