"""Event columns straight from their Parquet pages, several times faster than as lists.

Parquet stores two levels with every value of a list, and decoding them costs pyarrow more than
decoding the values. A row group of the event table is one row without nulls, so its levels say
nothing: here they are skipped. Pages are those of parquet-format's README (data page version 1) and
Encodings.md; any that are not as `schema.writer_options` asks for are left to pyarrow. Times are
decoded by pyarrow all the same, but as a column that is no list.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests.errors import ShardError
from egotriad.manifests.shards_flat import delta_decoded
from egotriad.manifests.thrift import read_struct

__all__ = ["read_planes", "read_times"]

TIMES = {"ev_t.list.element": "DELTA_BINARY_PACKED"}
PLANES = {
    "ev_x.list.element": "BYTE_STREAM_SPLIT",
    "ev_y.list.element": "BYTE_STREAM_SPLIT",
    "ev_p.list.element": "PLAIN",
}
"""Leaf -> encoding of the values that are read here."""

DAMAGED = (OSError, ValueError, LookupError, TypeError, struct.error, pa.ArrowException)
"""What unpacking bytes that are not those that were written can raise."""

DATA_PAGE = 0
TYPE, UNPACKED_SIZE, PACKED_SIZE, CRC = 1, 2, 3, 4
"""Fields of parquet.thrift's PageHeader."""


def read_times(path: Path, metadata: pq.FileMetaData, group: int) -> NDArray[np.int32] | None:
    """`ev_t` of one row, microseconds; see `read_planes`."""
    decoded = _read(path, metadata, group, TIMES, _times)
    return None if decoded is None else decoded["ev_t"]


def read_planes(
    path: Path, metadata: pq.FileMetaData, group: int, count: int, part: slice
) -> dict[str, NDArray[Any]] | None:
    """`ev_x`, `ev_y` (uint16) and `ev_p` (bool) of one row.

    Args:
        path: an events file.
        metadata: of the file.
        group: row group.
        count: number of events in it.
        part: which of them.

    Returns:
        The arrays; None when the file was not written as ours are: let pyarrow read it.

    Raises:
        ShardError: when a page is damaged.
    """
    return _read(
        path,
        metadata,
        group,
        PLANES,
        lambda chunk, page: _plane(page, PLANES[chunk.path_in_schema], count, part),
    )


def _read(
    path: Path,
    metadata: pq.FileMetaData,
    group: int,
    encodings: Mapping[str, str],
    decode: Callable[[pq.ColumnChunkMetaData, NDArray[np.uint8]], NDArray[Any]],
) -> dict[str, NDArray[Any]] | None:
    """Columns of a row, decoded from chunk and page; None when they are not as ours are."""
    chunks = _chunks(metadata, group, encodings)
    if chunks is None:
        return None
    columns = {}
    with path.open("rb") as file:
        for leaf, chunk in chunks.items():
            file.seek(chunk.data_page_offset)
            packed = file.read(chunk.total_compressed_size)
            try:
                page = _page(packed, chunk.total_uncompressed_size)
                if page is None:
                    return None
                columns[leaf.partition(".")[0]] = decode(chunk, page)
            except DAMAGED as exc:
                raise ShardError(
                    f"{path.name}: row group {group} is damaged in {leaf} ({exc}); "
                    "fetch it again, or verify-shards --repair"
                ) from exc
    return columns


def _chunks(
    metadata: pq.FileMetaData, group: int, encodings: Mapping[str, str]
) -> dict[str, pq.ColumnChunkMetaData] | None:
    row = metadata.row_group(group)
    leaves = (row.column(index) for index in range(row.num_columns))
    chunks = {leaf.path_in_schema: leaf for leaf in leaves if leaf.path_in_schema in encodings}
    ours = row.num_rows == 1 and all(
        set(chunk.encodings) == {"RLE", encodings[leaf]} and chunk.compression == "ZSTD"
        for leaf, chunk in chunks.items()
    )
    return chunks if ours and chunks.keys() == encodings.keys() else None


def _page(packed: bytes, limit: int) -> NDArray[np.uint8] | None:
    """The encoded values of a chunk's page, checked and without their levels.

    Arrow never puts a row on two pages, so one row is one page. None without a checksum.
    """
    fields, start = read_struct(packed)
    header = {number: value for number, (_, value) in fields.items()}
    body = memoryview(packed)[start:]
    if CRC not in header:
        return None
    if header[TYPE] != DATA_PAGE or len(body) != header[PACKED_SIZE]:
        raise ValueError(f"got {len(body)} bytes, need one data page of {header[PACKED_SIZE]}")
    if zlib.crc32(body) != header[CRC] & 0xFFFFFFFF:
        raise ValueError("CRC checksum verification failed")
    if not 0 <= header[UNPACKED_SIZE] <= limit:
        raise ValueError(f"a page of {header[UNPACKED_SIZE]} bytes, need at most {limit}")
    values = pa.decompress(body, header[UNPACKED_SIZE], codec="zstd")
    for _levels in ("repetition", "definition"):
        values = values.slice(4 + struct.unpack_from("<I", values)[0])
    return np.frombuffer(values, np.uint8)


def _plane(page: NDArray[np.uint8], encoding: str, count: int, part: slice) -> NDArray[Any]:
    length = -(-count // 8) if encoding == "PLAIN" else 4 * count
    if len(page) != length:
        raise ValueError(f"{len(page)} bytes of values, need {length}")
    if encoding == "PLAIN":
        return np.unpackbits(page, count=count, bitorder="little")[part].view(np.bool_)
    low, high, *_ = page.reshape(4, count)[:, part]  # byte k of all values; uint16 fills two
    values = high.astype(np.uint16)
    values <<= np.uint16(8)
    values |= low
    return values


def _times(chunk: pq.ColumnChunkMetaData, page: NDArray[np.uint8]) -> NDArray[np.int32]:
    return delta_decoded(page.tobytes(), chunk.num_values)
