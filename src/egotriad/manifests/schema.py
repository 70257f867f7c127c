"""The tables of a shard, column by column.

`windows` (light: text, IMU, metadata, preview) and `events` (heavy: one row, one row group per
window) hold the same windows in the same order; light reads never touch events. `qa`, where there
is any, holds questions and answers about windows. Encodings are measured choices
(docs/results/shards.md): delta coding for sorted times, byte-stream split for floats and
coordinates, no dictionaries on data.
"""

import json
from typing import Any

import pyarrow as pa

__all__ = [
    "EVENTS",
    "FOLDERS",
    "QA",
    "ROWS_PER_GROUP",
    "SCHEMA_VERSION",
    "WINDOWS",
    "file_metadata",
    "way_out",
    "writer_options",
]

SCHEMA_VERSION = "1.2.0"
"""Readers take this version only. `upgrade-shards` takes earlier ones of the same major number."""

SHORT_STRINGS = (
    "source",
    "source_version",
    "split_group",
    "split_origin",
    "imu_kind",
    "text_source",
    "window_policy",
    "align_status",
    "license_id",
    "sim_id",
)


def _field(name: str, kind: pa.DataType, *, null: bool = False, **meta: str) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata=meta or None)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


_SPANS = _list(
    pa.struct(
        [
            pa.field("start_us", pa.int32(), nullable=False),
            pa.field("duration_us", pa.int32(), nullable=False),
        ]
    )
)
_NARRATIONS = _list(
    pa.struct(
        [
            pa.field("t_us", pa.int64(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("pass", pa.string(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("subject", pa.string(), nullable=False),
            pa.field("unsure", pa.bool_(), nullable=False),
            pa.field("group", pa.int32()),
        ]
    )
)
_QC = pa.struct(
    [
        pa.field("imu_gap_fraction", pa.float32()),
        pa.field("imu_clip_fraction", pa.float32()),
        pa.field("imu_score", pa.float32()),
        pa.field("flags", _list(pa.string()), nullable=False),
    ]
)
_IMU = _list(pa.list_(pa.field("element", pa.float32(), nullable=False), 6))
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

WINDOWS = pa.schema(
    [
        _field("window_id", pa.string()),
        _field("source", pa.string()),
        _field("source_version", pa.string()),
        _field("video_uid", pa.string()),
        _field("wearer_id", pa.string(), null=True),
        _field("split_group", pa.string()),
        _field("split_origin", pa.string()),
        _field("t_start_us", pa.int64(), unit="us"),
        _field("duration_us", pa.int32(), unit="us"),
        _field("window_policy", pa.string(), format="canonical JSON"),
        _field(
            "imu",
            _IMU,
            null=True,
            unit="m/s^2,m/s^2,m/s^2,rad/s,rad/s,rad/s",
            channels="acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z",
            gravity="included",
        ),
        _field("imu_rate_hz", pa.float32(), null=True, unit="Hz"),
        _field("imu_src_rate_hz", pa.float32(), null=True, unit="Hz"),
        _field("imu_mask", _list(pa.bool_()), null=True, true="valid", absent="all valid"),
        _field("imu_kind", pa.string()),
        _field("narration", pa.string(), null=True),
        _field("narrations", _NARRATIONS, unit="us", relative="t_start_us"),
        _field("anchor", pa.int32(), null=True, index="narrations"),
        _field("other_actions", pa.int32(), ambiguous="above 0"),
        _field("text_source", pa.string()),
        _field("align_status", pa.string()),
        _field("align_offset_us", pa.int64(), null=True, unit="us"),
        _field("align_ppm", pa.float32(), null=True),
        _field("align_score", pa.float32(), null=True),
        _field("num_events", pa.int64(), null=True),
        _field("event_rate_hz", pa.float32(), null=True, over="event_spans"),
        _field("event_on_fraction", pa.float32(), null=True),
        _field("event_spans", _SPANS, unit="us", relative="t_start_us"),
        _field("event_row", pa.int32(), null=True),
        _field("sim_id", pa.string(), null=True),
        _field("event_preview", _IMAGE, null=True),
        _field("license_id", pa.string()),
        _field("qc", _QC),
    ]
)

EVENTS = pa.schema(
    [
        _field("window_id", pa.string()),
        _field("t_start_us", pa.int64(), unit="us"),
        _field("duration_us", pa.int32(), unit="us"),
        _field("sensor_width", pa.uint16(), unit="px"),
        _field("sensor_height", pa.uint16(), unit="px"),
        _field("sim_id", pa.string()),
        _field("event_spans", _SPANS, unit="us", relative="t_start_us"),
        _field(
            "ev_t",
            _list(pa.int32()),
            unit="us",
            relative="t_start_us",
            monotonic="nondecreasing",
        ),
        _field("ev_x", _list(pa.uint16()), unit="px", origin="top-left"),
        _field("ev_y", _list(pa.uint16()), unit="px", origin="top-left"),
        _field("ev_p", _list(pa.bool_()), true="ON"),
        _field("ev_ms_to_idx", _list(pa.int32()), definition="DSEC"),
    ]
)

QA = pa.schema(
    [
        _field("qa_id", pa.string()),
        _field("window_id", pa.string(), of="windows"),
        _field("question", pa.string()),
        _field("answer", pa.string()),
        _field("task", pa.string(), null=True),
    ]
)

TABLES = {"windows": WINDOWS, "events": EVENTS, "qa": QA}
FOLDERS = {"windows": "data", "events": "events", "qa": "data_qa"}
ROWS_PER_GROUP = {"windows": 256, "events": 1, "qa": 4096}


def way_out(version: str) -> str | None:
    """What to do about shards of a schema version; None when they can be read as they are."""
    if version == SCHEMA_VERSION:
        return None
    need = f"need {SCHEMA_VERSION}"
    try:
        found, current = (tuple(map(int, v.split("."))) for v in (version, SCHEMA_VERSION))
    except ValueError:
        return f"{need}; these are no shards of egotriad"
    if found > current:
        return f"{need}; it is newer: pip install --upgrade egotriad"
    if found[0] < current[0]:
        return f"{need}; upgrade-shards knows no way from there: run build-shards again"
    return f"{need}; run egotriad upgrade-shards OLD NEW"


def writer_options(table: str) -> dict[str, Any]:
    """Arguments of `pyarrow.parquet.ParquetWriter` for a table (`windows`, `events` or `qa`).

    `column_encoding` is keyed by the leaf's path in the file; a wrong key is ignored silently by
    pyarrow, so a test reads the encodings back.
    """
    common = {
        "compression": "zstd",
        "compression_level": 3,
        "write_page_checksum": True,
        "write_page_index": True,
    }
    if table == "windows":
        return common | {
            "use_dictionary": list(SHORT_STRINGS),
            "column_encoding": {"imu.list.element.list.element": "BYTE_STREAM_SPLIT"},
            # Editing a caption should upload a caption, not the shard.
            "use_content_defined_chunking": True,
        }
    if table == "qa":
        return common | {"use_dictionary": ["task"], "use_content_defined_chunking": True}
    return common | {
        "use_dictionary": False,
        "write_statistics": ["window_id"],
        "column_encoding": {
            "ev_t.list.element": "DELTA_BINARY_PACKED",
            "ev_x.list.element": "BYTE_STREAM_SPLIT",
            "ev_y.list.element": "BYTE_STREAM_SPLIT",
            "ev_ms_to_idx.list.element": "DELTA_BINARY_PACKED",
        },
    }


def _feature(kind: pa.DataType, name: str = "") -> Any:
    """The `datasets` feature of an Arrow type, in the JSON form the Hub reads from Parquet."""
    if name == "event_preview":
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}


def file_metadata(table: str, *, builder: str, config_hash: str) -> dict[bytes, bytes]:
    """Key-value metadata of a file: versions, config, and what the Hub's viewer needs.

    No time, host or path: the same rows give the same bytes.
    """
    features = {field.name: _feature(field.type, field.name) for field in TABLES[table]}
    return {
        b"egotriad.schema_version": SCHEMA_VERSION.encode(),
        b"egotriad.table": table.encode(),
        b"egotriad.builder": builder.encode(),
        b"egotriad.config_hash": config_hash.encode(),
        b"huggingface": json.dumps({"info": {"features": features}}).encode(),
    }
