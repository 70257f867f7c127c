"""Shard files: written whole or not at all, read back as clips.

```
README.md  manifest.jsonl  SHA256SUMS  provenance.json  rejected.jsonl
data/{split}-{i:05d}-of-{n:05d}.parquet      table `windows`
events/{split}-{i:05d}-of-{n:05d}.parquet    table `events`: same rows, same order
```
`manifest.jsonl` is written after all data and `SHA256SUMS` last: where both are there, the build is
complete.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from egotriad.manifests.clip import Clip
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.rows import clips_of, event_table, events_of, window_table
from egotriad.manifests.schema import SCHEMA_VERSION, TABLES, file_metadata, writer_options

__all__ = ["TableWriter", "open_table", "read_manifest", "read_shards", "shards_sha256"]

ROWS_PER_GROUP = 256


class TableWriter:
    """Writes one Parquet file of a table, row group by row group, in bounded memory.

    Args:
        path: the file; callers give a temporary name and move it when done (`files.atomic`).
        table: `windows` or `events`.
        builder: name and version of the builder, stored in the file.
        config_hash: of the build's configuration, stored in the file.
    """

    def __init__(self, path: Path, table: str, *, builder: str, config_hash: str) -> None:
        schema = TABLES[table]
        metadata = file_metadata(table, builder=builder, config_hash=config_hash)
        self.rows = 0
        self._schema = schema.with_metadata(metadata)
        self._writer = pq.ParquetWriter(path, self._schema, **writer_options(table))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Writes a table as one row group (row groups of at most 256 rows)."""
        if table.num_rows:
            table = table.replace_schema_metadata(self._schema.metadata)
            self._writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            self.rows += table.num_rows

    def write_windows(
        self,
        clips: Sequence[Clip],
        previews: Sequence[bytes | None],
        event_rows: Sequence[int | None],
    ) -> None:
        """Writes the light rows of one recording's clips."""
        self.write(window_table(clips, previews, event_rows))

    def write_events(self, clip: Clip) -> None:
        """Writes the events of one clip as one row in one row group."""
        self.write(event_table(clip))


def open_table(path: Path, table: str) -> pq.ParquetFile:
    """Opens a shard file with page checksums verified on every read.

    Raises:
        ShardError: when it is missing, not Parquet, another table, or another schema version.
    """
    try:
        # Everything in one row group read is wanted: prebuffering only costs memory here.
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as exc:
        raise ShardError(f"{path.name}: is missing; rebuild or fetch it again") from exc
    except (pa.ArrowInvalid, OSError) as exc:
        raise ShardError(f"{path.name}: not a whole Parquet file ({exc}); rebuild it") from exc
    metadata = file.schema_arrow.metadata or {}
    version = metadata.get(b"egotriad.schema_version", b"none").decode()
    kind = metadata.get(b"egotriad.table", b"none").decode()
    if version != SCHEMA_VERSION or kind != table:
        raise ShardError(
            f"{path.name}: holds table {kind!r} of schema version {version}, need {table!r} of "
            f"{SCHEMA_VERSION}; rebuild the shards with this version of egotriad"
        )
    return file


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The manifest's lines.

    Raises:
        ShardError: when the folder holds no complete build.
    """
    manifest = path / "manifest.jsonl"
    if not manifest.is_file() or not (path / "SHA256SUMS").is_file():
        found = "an unfinished build" if (path / "parts").is_dir() else "no build"
        raise ShardError(
            f"{path.name or path}: holds {found} (no manifest.jsonl with SHA256SUMS); "
            "run build-shards again to finish it"
        )
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def shards_sha256(path: Path | str) -> str:
    """One hash for the whole build: that of its SHA256SUMS."""
    read_manifest(Path(path))
    return sha256_file(Path(path) / "SHA256SUMS")


def read_shards(
    path: Path | str, *, split: str | None = None, events: bool = True
) -> Iterator[Clip]:
    """Every clip of a build, in the build's order.

    Args:
        path: folder of the build.
        split: train, validation or test; None = all.
        events: False leaves `Clip.events` None and never opens the event table.

    Raises:
        ShardError: when the folder holds no complete build, the split is not in it, or a file is
            missing, damaged or of another version.
    """
    root = Path(path)
    lines = [line for line in read_manifest(root) if line["config"] == "windows"]
    if split is not None:
        splits = sorted({line["split"] for line in lines})
        lines = [line for line in lines if line["split"] == split]
        if not lines:
            raise ShardError(f"{root.name}: has no split {split!r}, only {', '.join(splits)}")
    for line in lines:
        heavy = root / "events" / Path(line["path"]).name
        yield from _read_file(root / line["path"], heavy if events else None, line["split"])


def _read_file(light: Path, heavy: Path | None, split: str) -> Iterator[Clip]:
    windows = open_table(light, "windows")
    columns = [name for name in windows.schema_arrow.names if name != "event_preview"]
    event_file: pq.ParquetFile | None = None
    for group in range(windows.num_row_groups):
        for clip, event_row in clips_of(_read_group(windows, group, light, columns), split):
            if heavy is None or event_row is None:
                yield clip
                continue
            event_file = event_file or open_table(heavy, "events")
            table = _read_group(event_file, event_row, heavy, None)
            found = table.column("window_id")[0].as_py()
            if found != clip.window_id:
                raise ShardError(
                    f"{heavy.name}: row {event_row} is {found}, need {clip.window_id}; "
                    "the two tables are not of one build"
                )
            yield replace(clip, events=events_of(table))


def _read_group(
    file: pq.ParquetFile, group: int, path: Path, columns: list[str] | None
) -> pa.Table:
    try:
        return file.read_row_group(group, columns=columns)
    except (pa.ArrowInvalid, OSError) as exc:
        raise ShardError(f"{path.name}: row group {group} is damaged ({exc})") from exc
