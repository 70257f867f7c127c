"""Shard files: written whole or not at all, read back as clips.

```
README.md  manifest.jsonl  SHA256SUMS  provenance.json  rejected.jsonl
data/{split}-{i:05d}-of-{n:05d}.parquet      table `windows`
events/{split}-{i:05d}-of-{n:05d}.parquet    table `events`: same rows, same order
data_qa/{split}-{i:05d}-of-{n:05d}.parquet   table `qa`, where there are questions
```
`manifest.jsonl` is written after all data and `SHA256SUMS` last: where both are there, the build is
complete.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from egotriad.manifests.clip import Clip
from egotriad.manifests.rows import event_table, window_table
from egotriad.manifests.schema import ROWS_PER_GROUP, TABLES, file_metadata, writer_options
from egotriad.manifests.shards_read import (
    ShardReader,
    read_manifest,
    read_shards,
    shards_sha256,
)
from egotriad.manifests.shards_table import open_table
from egotriad.manifests.shards_write import EventWriter

__all__ = [
    "ShardReader",
    "TableWriter",
    "open_table",
    "read_manifest",
    "read_shards",
    "shards_sha256",
]


class TableWriter:
    """Writes one Parquet file of a table, row group by row group, in bounded memory.

    Args:
        path: the file; callers give a temporary name and move it when done (`files.atomic`).
        table: `windows`, `events` or `qa`.
        builder: name and version of the builder, stored in the file.
        config_hash: of the build's configuration, stored in the file.
    """

    def __init__(self, path: Path, table: str, *, builder: str, config_hash: str) -> None:
        schema = TABLES[table]
        metadata = file_metadata(table, builder=builder, config_hash=config_hash)
        self.rows = 0
        self._schema = schema.with_metadata(metadata)
        self._write: Callable[[pa.Table], None]
        if table == "events":
            events = EventWriter(path, self._schema)
            self._write, self._close = events.write, events.close
        else:
            arrow = pq.ParquetWriter(path, self._schema, **writer_options(table))
            self._write = partial(arrow.write_table, row_group_size=ROWS_PER_GROUP[table])
            self._close = arrow.close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def write(self, table: pa.Table) -> None:
        """Writes a table as one row group (or several of at most `ROWS_PER_GROUP` rows)."""
        if table.num_rows:
            self._write(table.replace_schema_metadata(self._schema.metadata))
            self.rows += table.num_rows

    def write_windows(
        self,
        clips: Sequence[Clip],
        previews: Sequence[bytes | None],
        event_rows: Sequence[int | None],
    ) -> None:
        """Writes the light rows of one recording's clips; none of none."""
        if clips:
            self.write(window_table(clips, previews, event_rows))

    def write_events(self, clip: Clip) -> None:
        """Writes the events of one clip as one row in one row group."""
        self.write(event_table(clip))
