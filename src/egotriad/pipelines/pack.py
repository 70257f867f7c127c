"""Parts into shards: a deterministic order, exact names, hashes, and the marker files last."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from egotriad.manifests.files import atomic, canonical_json, sha256_file, write_text
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.manifests.shards import TableWriter, open_table
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.card import dataset_card
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import BUILDER

__all__ = ["pack"]

TABLE_FOLDERS = {"windows": "data", "events": "events"}


@dataclass(frozen=True, slots=True)
class _Shard:
    split: str
    index: int
    count: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.parquet"


def pack(
    parts: Sequence[Part], folder: Path, out: Path, config: BuildConfig, *, title: str
) -> list[dict[str, Any]]:
    """Writes the final files of a build from its parts; returns the manifest's lines.

    While it runs, `manifest.jsonl` and `SHA256SUMS` are absent, so that a reader refuses what is
    not whole; files of an earlier build that are no longer named are removed at the end.

    Args:
        parts: every finished part, in any order.
        folder: where the parts lie.
        out: the build's folder.
        config: the build's configuration.
        title: name for the dataset card.
    """
    for marker in ("SHA256SUMS", "manifest.jsonl"):
        (out / marker).unlink(missing_ok=True)
    lines: list[dict[str, Any]] = []
    for shard in _shards(parts, config):
        lines += _write_shard(shard, folder, out, config)
    lines.sort(key=lambda line: line["path"])
    keep = {line["path"] for line in lines}
    for directory in TABLE_FOLDERS.values():
        for file in (out / directory).glob("*.parquet"):
            if f"{directory}/{file.name}" not in keep:
                file.unlink()
    rejected = sorted(
        (entry for part in parts for entry in part.rejected), key=lambda e: e["window_id"]
    )
    write_text(out / "rejected.jsonl", "".join(canonical_json(entry) + "\n" for entry in rejected))
    write_text(out / "README.md", dataset_card(title, lines, parts, config))
    write_text(out / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    write_text(out / "SHA256SUMS", _sums(out, lines))
    return lines


def _sums(out: Path, lines: Sequence[dict[str, Any]]) -> str:
    known = {line["path"]: line["sha256"] for line in lines}
    for name in ("README.md", "manifest.jsonl", "rejected.jsonl"):
        known[name] = sha256_file(out / name)
    return "".join(f"{known[name]}  {name}\n" for name in sorted(known))


def _shards(parts: Sequence[Part], config: BuildConfig) -> list[_Shard]:
    """Groups parts by split, in hash order of their groups, closing a shard once it is full."""

    def order(part: Part) -> tuple[str, str]:
        return hashlib.blake2b(part.split_group.encode()).hexdigest(), part.recording

    shards: list[_Shard] = []
    for split in SPLITS:
        groups: list[list[Part]] = [[]]
        size = 0
        for part in sorted((p for p in parts if p.split == split and p.rows), key=order):
            if size >= config.shard_mib << 20:
                groups.append([])
                size = 0
            groups[-1].append(part)
            size += sum(file["bytes"] for file in part.files.values())
        filled = [group for group in groups if group]
        shards += [
            _Shard(split, index, len(filled), tuple(group)) for index, group in enumerate(filled)
        ]
    return shards


def _write_shard(
    shard: _Shard, folder: Path, out: Path, config: BuildConfig
) -> list[dict[str, Any]]:
    tables = ["windows", "events"] if config.events else ["windows"]
    ids: list[str] = []
    lines: list[dict[str, Any]] = []
    for table in tables:
        path = out / TABLE_FOLDERS[table] / shard.name
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic(path))
            writer = stack.enter_context(
                TableWriter(temporary, table, builder=BUILDER, config_hash=config.hash)
            )
            for part in shard.parts:
                file = next(name for name in part.files if name.endswith(f".{table}.parquet"))
                for rows in _row_groups(folder / file, table):
                    if table == "windows":
                        ids += rows.column("window_id").to_pylist()
                        rows = _renumber(rows, writer.rows, config.events)
                    writer.write(rows)
        lines.append(_manifest_line(shard, table, path, ids, config))
    return lines


def _row_groups(path: Path, table: str) -> Iterator[pa.Table]:
    file = open_table(path, table)
    for group in range(file.num_row_groups):
        yield file.read_row_group(group)


def _renumber(rows: pa.Table, first: int, events: bool) -> pa.Table:
    """Event rows count from the start of the shard, as they did from the start of the part."""
    index = rows.schema.get_field_index("event_row")
    field = rows.schema.field(index)
    numbers = (
        pa.array(range(first, first + rows.num_rows), field.type)
        if events
        else pa.nulls(rows.num_rows, field.type)
    )
    return rows.set_column(index, field, numbers)


def _manifest_line(
    shard: _Shard, table: str, path: Path, ids: Sequence[str], config: BuildConfig
) -> dict[str, Any]:
    metadata = open_table(path, table).metadata
    counts = [part.event_count for part in shard.parts if part.event_count is not None]
    return {
        "path": f"{path.parent.name}/{path.name}",
        "config": table,
        "split": shard.split,
        "index": shard.index,
        "count": shard.count,
        "rows": metadata.num_rows,
        "row_groups": metadata.num_row_groups,
        "events": sum(counts) if counts else None,
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "first_window_id": ids[0],
        "last_window_id": ids[-1],
        "videos": len(shard.parts),
        "wearers": len({part.split_group for part in shard.parts}),
        "schema_version": SCHEMA_VERSION,
        "codec": "parquet",
        "config_hash": config.hash,
    }
