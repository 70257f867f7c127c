"""Parts into shards: a deterministic order, exact names, hashes, and the marker files last."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from egotriad.manifests.files import (
    atomic,
    canonical_json,
    sha256_file,
    sha256_text,
    write_text,
)
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.manifests.shards import TableWriter, open_table
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.describe import DESCRIPTIONS, describe
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import BUILDER

__all__ = ["Shard", "pack", "plan_shards"]

TABLE_FOLDERS = {"windows": "data", "events": "events"}


@dataclass(frozen=True, slots=True)
class Shard:
    """The parts that share the files of one name, in the order of their rows."""

    split: str
    index: int
    count: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Name of the shard's files."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.parquet"

    def paths(self, config: BuildConfig) -> dict[str, str]:
        """Table -> path in the build's folder."""
        tables = ("windows", "events") if config.events else ("windows",)
        return {table: f"{TABLE_FOLDERS[table]}/{self.name}" for table in tables}


def pack(
    parts: Sequence[Part],
    folder: Path,
    out: Path,
    config: BuildConfig,
    *,
    title: str,
    keep: Mapping[str, str] = MappingProxyType({}),
    record: Callable[[str], None] | None = None,
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
        keep: path in `out` -> SHA-256 of shard files that hold already what would be written.
        record: called with the hash of SHA256SUMS just before that file, the last one, is written.
    """
    for marker in ("SHA256SUMS", "manifest.jsonl"):
        (out / marker).unlink(missing_ok=True)
    lines: list[dict[str, Any]] = []
    for shard in plan_shards(parts, config):
        lines += _shard_lines(shard, folder, out, config, keep)
    lines.sort(key=lambda line: line["path"])
    named = {line["path"] for line in lines}
    for directory in TABLE_FOLDERS.values():
        for file in (out / directory).glob("*.parquet"):
            if f"{directory}/{file.name}" not in named:
                file.unlink()
    rejected = sorted(
        (entry for part in parts for entry in part.rejected), key=lambda e: e["window_id"]
    )
    write_text(out / "rejected.jsonl", "".join(canonical_json(entry) + "\n" for entry in rejected))
    reasons = Counter(entry["reason"] for entry in rejected)
    describe(out, lines, config, title=title, rejected=reasons)
    write_text(out / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    sums = _sums(out, lines)
    if record is not None:
        record(sha256_text(sums))
    write_text(out / "SHA256SUMS", sums)
    return lines


def _sums(out: Path, lines: Sequence[dict[str, Any]]) -> str:
    known = {line["path"]: line["sha256"] for line in lines}
    for name in (*DESCRIPTIONS, "manifest.jsonl", "rejected.jsonl"):
        known[name] = sha256_file(out / name)
    return "".join(f"{known[name]}  {name}\n" for name in sorted(known))


def plan_shards(parts: Sequence[Part], config: BuildConfig) -> list[Shard]:
    """Groups parts by split, in hash order of their groups, closing a shard once it is full."""

    def order(part: Part) -> tuple[str, str]:
        return hashlib.blake2b(part.split_group.encode()).hexdigest(), part.recording

    shards: list[Shard] = []
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
            Shard(split, index, len(filled), tuple(group)) for index, group in enumerate(filled)
        ]
    return shards


def _shard_lines(
    shard: Shard, folder: Path, out: Path, config: BuildConfig, keep: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Writes the files of a shard, except those to keep; returns their lines of the manifest."""
    ids: list[str] = []
    lines: list[dict[str, Any]] = []
    for table, name in shard.paths(config).items():
        if name not in keep:
            _write_table(shard, table, folder, out / name, config)
        if not ids:
            ids = open_table(out / name, table).read(["window_id"])["window_id"].to_pylist()
        sha256 = keep.get(name) or sha256_file(out / name)
        lines.append(_manifest_line(shard, table, out / name, ids, config, sha256))
    return lines


def _write_table(shard: Shard, table: str, folder: Path, path: Path, config: BuildConfig) -> None:
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic(path))
        writer = stack.enter_context(
            TableWriter(temporary, table, builder=BUILDER, config_hash=config.hash)
        )
        for part in shard.parts:
            file = next(name for name in part.files if name.endswith(f".{table}.parquet"))
            for rows in _row_groups(folder / file, table):
                if table == "windows":
                    rows = _renumber(rows, writer.rows, config.events)
                writer.write(rows)


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
    shard: Shard,
    table: str,
    path: Path,
    ids: Sequence[str],
    config: BuildConfig,
    sha256: str,
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
        "sha256": sha256,
        "first_window_id": ids[0],
        "last_window_id": ids[-1],
        "videos": len(shard.parts),
        "wearers": len({part.split_group for part in shard.parts}),
        "schema_version": SCHEMA_VERSION,
        "codec": "parquet",
        "config_hash": config.hash,
    }
