"""Opening one Parquet file of a shard, and what can be wrong with it."""

from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from egotriad.manifests.errors import ShardError
from egotriad.manifests.schema import way_out
from egotriad.manifests.sources import FolderSource, ShardSource, failures

__all__ = ["open_table", "read_group", "table_of"]


def open_table(path: Path, table: str) -> pq.ParquetFile:
    """Opens a shard file with page checksums verified on every read.

    Raises:
        ShardError: when it is missing, not Parquet, another table, or another schema version.
    """
    return table_of(FolderSource(path.parent), path.name, table)


def table_of(source: ShardSource, file: str, table: str) -> pq.ParquetFile:
    """A table of a source, see `open_table`."""
    name = PurePosixPath(file).name
    try:
        place = source.open(file)
        # On a disk, prebuffering a row group that is wanted whole only costs memory.
        remote = not isinstance(place, Path)
        parquet = pq.ParquetFile(place, page_checksum_verification=True, pre_buffer=remote)
    except FileNotFoundError as exc:
        raise ShardError(f"{name}: is missing or out of reach; rebuild or fetch it again") from exc
    except failures() as exc:
        raise ShardError(
            f"{name}: not a whole Parquet file, or out of reach ({exc}); rebuild or fetch it again"
        ) from exc
    metadata = parquet.schema_arrow.metadata or {}
    version = metadata.get(b"egotriad.schema_version", b"none").decode(errors="replace")
    kind = metadata.get(b"egotriad.table", b"none").decode(errors="replace")
    if kind != table:
        raise ShardError(f"{name}: holds table {kind!r}, need {table!r}; fetch or build it again")
    if (advice := way_out(version)) is not None:
        raise ShardError(f"{name}: is of schema version {version}, {advice}")
    return parquet


def read_group(file: pq.ParquetFile, group: int, path: str, columns: list[str]) -> pa.Table:
    """Some columns of one row group.

    Args:
        file: from `table_of`.
        group: index of the row group.
        path: what messages call the file.
        columns: which columns.

    Raises:
        ShardError: when a page is damaged, or the file is out of reach by now.
    """
    try:
        return file.read_row_group(group, columns=columns)
    except failures() as exc:
        raise ShardError(
            f"{PurePosixPath(path).name}: row group {group} is damaged or out of reach ({exc})"
        ) from exc
