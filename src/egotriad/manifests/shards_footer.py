"""What stands behind the row groups of a Parquet file: page indexes, and the footer that names all.

Structs and their fields are those of parquet-format's parquet.thrift.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from egotriad.manifests.errors import ShardError
from egotriad.manifests.thrift import Struct, read_struct, write_struct

__all__ = [
    "MAGIC",
    "chunks_of",
    "groups_of",
    "metadata_of",
    "read_footer",
    "write_footer",
    "write_indexes",
]

MAGIC = b"PAR1"

ROWS, ROW_GROUPS = 3, 4  # FileMetaData
COLUMNS = 1  # RowGroup
CHUNK_METADATA = 3  # ColumnChunk
OFFSET_INDEX, COLUMN_INDEX = (4, 5), (6, 7)  # ColumnChunk: place and length of each


def read_footer(path: Path) -> Struct:
    """The FileMetaData of a file.

    Raises:
        ShardError: it is no whole Parquet file.
    """
    try:
        with path.open("rb") as file:
            file.seek(-8, 2)
            tail = file.read(8)
            size = int.from_bytes(tail[:4], "little")
            file.seek(-8 - size, 2)
            footer, end = read_struct(file.read(size))
            if tail[4:] != MAGIC or end != size:
                raise ValueError("no footer")
            return footer
    except (OSError, ValueError, IndexError) as exc:
        raise ShardError(f"{path.name}: is no whole Parquet file ({exc}); build it again") from exc


def groups_of(footer: Struct) -> list[Struct]:
    """The row groups of a file."""
    groups: list[Struct] = footer[ROW_GROUPS][1][1]
    return groups


def chunks_of(footer: Struct) -> Iterator[Struct]:
    """The column chunks of a file, row group by row group."""
    for group in groups_of(footer):
        yield from group[COLUMNS][1][1]


def metadata_of(chunk: Struct) -> Struct:
    """The ColumnMetaData of a column chunk."""
    metadata: Struct = chunk[CHUNK_METADATA][1]
    return metadata


def write_indexes(indexes: Sequence[tuple[Struct, bytes, bytes]], out: BinaryIO) -> None:
    """All column indexes, then all offset indexes, as parquet-format recommends.

    Args:
        indexes: chunk, its offset index and its column index (empty where it has none); the
            chunks, which have fields for the places of those that are not empty, learn them.
        out: the file, after its row groups.
    """
    for number, (place, length) in ((2, COLUMN_INDEX), (1, OFFSET_INDEX)):
        for entry in indexes:
            chunk: Struct = entry[0]
            index: Any = entry[number]
            if index:
                chunk[place] = (chunk[place][0], out.tell())
                chunk[length] = (chunk[length][0], len(index))
                out.write(index)


def write_footer(footer: Struct, groups: Sequence[Struct], rows: int, out: BinaryIO) -> None:
    """The footer of a file, after its indexes.

    Args:
        footer: of a file of the same schema, metadata and writer.
        groups: row groups that the file holds, in order.
        rows: that they hold.
        out: the file.
    """
    whole = dict(footer)
    whole[ROWS] = (whole[ROWS][0], rows)
    kind, (element, _) = whole[ROW_GROUPS]
    whole[ROW_GROUPS] = (kind, (element, list(groups)))
    written = write_struct(whole)
    out.write(written + len(written).to_bytes(4, "little") + MAGIC)
