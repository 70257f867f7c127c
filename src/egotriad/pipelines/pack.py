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
from egotriad.manifests.schema import FOLDERS, SCHEMA_VERSION
from egotriad.manifests.shards import TableWriter, open_table
from egotriad.manifests.shards_join import join_parquet
from egotriad.manifests.split import SPLITS
from egotriad.manifests.verify_files import DATA_PATH
from egotriad.pipelines.describe import DESCRIPTIONS, describe
from egotriad.pipelines.facts import facts_of
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import BUILDER

__all__ = [
    "Shard",
    "asked_parts",
    "finish_files",
    "manifest_line",
    "pack",
    "plan_shards",
    "qa_path",
    "remove_leftovers",
    "renumber",
    "unmark",
    "window_ids",
]


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
        return {table: f"{FOLDERS[table]}/{self.name}" for table in tables}


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
    unmark(out)
    lines: list[dict[str, Any]] = []
    shards = plan_shards(parts, config)
    for shard in shards:
        lines += _shard_lines(shard, folder, out, config, keep)
    lines += _qa_lines(shards, folder, out, config, keep)
    rejected = sorted(
        (entry for part in parts for entry in part.rejected), key=lambda e: e["window_id"]
    )
    write_text(out / "rejected.jsonl", "".join(canonical_json(entry) + "\n" for entry in rejected))
    reasons = Counter(entry["reason"] for entry in rejected)
    lines.sort(key=lambda line: line["path"])
    describe(out, lines, facts_of(config), title=title, rejected=reasons)
    finish_files(out, lines, record=record)
    return lines


def unmark(out: Path) -> None:
    """Takes away what marks a folder as a complete build, and what a killed writer has left."""
    for marker in ("SHA256SUMS", "manifest.jsonl"):
        (out / marker).unlink(missing_ok=True)
    remove_leftovers(out)


def remove_leftovers(out: Path) -> None:
    """Deletes what a killed writer has left in a build's folder; no other may be writing."""
    for folder in (out, *(out / name for name in FOLDERS.values())):
        for file in folder.glob("*.tmp-*"):
            file.unlink(missing_ok=True)


def finish_files(
    out: Path, lines: Sequence[dict[str, Any]], *, record: Callable[[str], None] | None = None
) -> None:
    """Removes data files that are not named, then writes `manifest.jsonl` and `SHA256SUMS`.

    Args:
        out: the build's folder, all other files written.
        lines: of the manifest, in the order of their paths.
        record: called with the hash of SHA256SUMS just before that file, the last one, is written.
    """
    known = {line["path"]: line["sha256"] for line in lines}
    for directory in FOLDERS.values():
        for file in (out / directory).glob("*.parquet"):
            if f"{directory}/{file.name}" not in known:
                file.unlink()
    write_text(out / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    for name in (*DESCRIPTIONS, "manifest.jsonl", "rejected.jsonl"):
        if (out / name).is_file():
            known[name] = sha256_file(out / name)
    sums = "".join(f"{known[name]}  {name}\n" for name in sorted(known))
    if record is not None:
        record(sha256_text(sums))
    write_text(out / "SHA256SUMS", sums)


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
    counts = [part.event_count for part in shard.parts if part.event_count is not None]
    facts = {
        "events": sum(counts) if counts else None,
        "videos": len(shard.parts),
        "wearers": len({part.split_group for part in shard.parts}),
    }
    ids: list[str] = []
    lines: list[dict[str, Any]] = []
    for table, name in shard.paths(config).items():
        if name not in keep:
            _write_table(shard.parts, table, folder, out / name, config)
        ids = ids or window_ids(out / name, table)
        lines.append(manifest_line(out, name, config.hash, ids, sha256=keep.get(name), **facts))
    return lines


def _qa_lines(
    shards: Sequence[Shard], folder: Path, out: Path, config: BuildConfig, keep: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Writes the questions of each split that has any, a row group per recording, to one file."""
    lines = []
    for split in SPLITS:
        name, parts = qa_path(split), asked_parts(shards, split)
        if not parts:
            continue
        if name not in keep:
            _write_table(parts, "qa", folder, out / name, config)
        ids = window_ids(out / name, "qa")
        lines.append(manifest_line(out, name, config.hash, ids, sha256=keep.get(name)))
    return lines


def qa_path(split: str) -> str:
    """Path of the questions of a split in a build's folder."""
    return f"{FOLDERS['qa']}/{split}-00000-of-00001.parquet"


def asked_parts(shards: Sequence[Shard], split: str) -> list[Part]:
    """The parts of a split that hold questions, in the order of their rows."""
    parts = [part for shard in shards if shard.split == split for part in shard.parts]
    return [part for part in parts if any(name.endswith(".qa.parquet") for name in part.files)]


def window_ids(path: Path, table: str) -> list[str]:
    """The column `window_id` of a data file."""
    return open_table(path, table).read(["window_id"])["window_id"].to_pylist()


def _write_table(
    parts: Sequence[Part], table: str, folder: Path, path: Path, config: BuildConfig
) -> None:
    names = [next(n for n in part.files if n.endswith(f".{table}.parquet")) for part in parts]
    files = [folder / name for name in names]
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic(path))
        if table != "windows" and _are_sound(parts, files) and join_parquet(files, temporary):
            return
        writer = stack.enter_context(
            TableWriter(temporary, table, builder=BUILDER, config_hash=config.hash)
        )
        for file in files:
            for rows in _row_groups(file, table):
                if table == "windows":
                    rows = renumber(rows, writer.rows, config.events)
                writer.write(rows)


def _are_sound(parts: Sequence[Part], files: Sequence[Path]) -> bool:
    """Whether part files hold what was written; copying would not notice, reading will say why."""
    return all(
        sha256_file(file) == part.files[file.name]["sha256"]
        for part, file in zip(parts, files, strict=True)
    )


def _row_groups(path: Path, table: str) -> Iterator[pa.Table]:
    file = open_table(path, table)
    for group in range(file.num_row_groups):
        yield file.read_row_group(group)


def renumber(rows: pa.Table, first: int, events: bool) -> pa.Table:
    """Event rows count from the start of the shard, as they did from the start of the part."""
    index = rows.schema.get_field_index("event_row")
    field = rows.schema.field(index)
    numbers = (
        pa.array(range(first, first + rows.num_rows), field.type)
        if events
        else pa.nulls(rows.num_rows, field.type)
    )
    return rows.set_column(index, field, numbers)


def manifest_line(
    out: Path,
    path: str,
    config_hash: str,
    ids: Sequence[str],
    *,
    sha256: str | None = None,
    events: int | None = None,
    videos: int | None = None,
    wearers: int | None = None,
) -> dict[str, Any]:
    """What the manifest says of a data file.

    Args:
        out: the build's folder.
        path: of the file in it, `{folder}/{split}-{index}-of-{count}.parquet`.
        config_hash: of the configuration.
        ids: window_id of each row.
        sha256: of the file where it is known.
        events: number of them, None without the modality and in a file of questions.
        videos: number of recordings, None in a file of questions.
        wearers: number of groups that a split never divides, None in a file of questions.
    """
    match = DATA_PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{path}: not the path of a data file")
    table = next(table for table, name in FOLDERS.items() if name == match["folder"])
    metadata = open_table(out / path, table).metadata
    return {
        "path": path,
        "config": table,
        "split": match["split"],
        "index": int(match["index"]),
        "count": int(match["count"]),
        "rows": metadata.num_rows,
        "row_groups": metadata.num_row_groups,
        "events": events,
        "bytes": (out / path).stat().st_size,
        "sha256": sha256 or sha256_file(out / path),
        "first_window_id": ids[0],
        "last_window_id": ids[-1],
        "videos": videos,
        "wearers": wearers,
        "schema_version": SCHEMA_VERSION,
        "codec": "parquet",
        "config_hash": config_hash,
    }
