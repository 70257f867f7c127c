"""Events files, written page by page: Arrow's own writer takes two to three times as long.

Parquet stores two levels with every value of a list, and making them costs Arrow more than encoding
and compressing the values. A row group of the event table is one row without nulls, so its levels
are two runs. Files come out byte for byte as Arrow (26) writes them under `schema.writer_options`:
readers, and what joins files, do not tell the two apart.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests.errors import ShardError
from egotriad.manifests.schema import EVENTS, writer_options
from egotriad.manifests.shards_chunk import Chunk, Leaf, group_of, page_header
from egotriad.manifests.shards_encode import ENCODERS, list_levels
from egotriad.manifests.shards_footer import MAGIC, write_footer, write_indexes
from egotriad.manifests.thrift import Struct, read_struct, write_struct

__all__ = ["EventWriter"]

LARGEST_PAGE = 2**31 - 1
"""Bytes; Parquet counts them in 32 bits."""


class EventWriter:
    """Writes an events file, every row as a row group.

    Args:
        path: the file.
        schema: `schema.EVENTS`, with the metadata that the file is to have.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        options = writer_options("events")
        self._name = path.name
        self._leaves = list(_leaves(options))
        self._codec = pa.Codec(options["compression"], options["compression_level"])
        self._footer = _empty_footer(schema, options)
        self._groups: list[Struct] = []
        self._indexes: list[tuple[Struct, bytes, bytes]] = []
        self._file = path.open("wb")
        self._file.write(MAGIC)

    def write(self, table: pa.Table) -> None:
        """Writes the rows of an `events` table.

        Raises:
            ShardError: its columns are not those of the schema, hold nulls, or too many events.
        """
        if not table.schema.equals(EVENTS):
            raise ShardError(
                f"{self._name}: got columns {table.schema.names} of a row, need those of the "
                "events table, with their types"
            )
        for row in range(table.num_rows):
            self._write_row(table.slice(row, 1))

    def close(self) -> None:
        """Writes the indexes and the footer: without them the file is none."""
        with self._file:
            write_indexes(self._indexes, self._file)
            write_footer(self._footer, self._groups, len(self._groups), self._file)

    def _write_row(self, row: pa.Table) -> None:
        chunks = [self._write_chunk(leaf, row) for leaf in self._leaves]
        structs = [chunk.struct() for chunk in chunks]
        for chunk, struct in zip(chunks, structs, strict=True):
            ends = chunk.column_index()
            indexes = (write_struct(chunk.offset_index()), write_struct(ends) if ends else b"")
            self._indexes.append((struct, *indexes))
        self._groups.append(group_of(chunks, structs))

    def _write_chunk(self, leaf: Leaf, row: pa.Table) -> Chunk:
        cell = _cell(leaf, row)
        count = len(cell)
        text = cell[0].as_py().encode() if leaf.kind == "string" else None
        levels = list_levels(count) if leaf.is_listed else b""
        page = ENCODERS[leaf.encoding](levels, _stored(leaf, cell, text))
        if len(page) > LARGEST_PAGE:
            raise ShardError(
                f"{self._name}: {count} values in {'.'.join(leaf.path)} of a row, need fewer "
                "(2 GiB encoded); lower --max-events"
            )
        body = self._codec.compress(page)
        start = self._file.tell()
        head = write_struct(page_header(leaf, count, len(page), len(body), zlib.crc32(body)))
        self._file.write(head)
        self._file.write(body)
        return Chunk(
            leaf=leaf,
            count=count,
            text=text,
            start=start,
            unpacked_size=len(head) + len(page),
            packed_size=len(head) + len(body),
        )


def _leaves(options: dict[str, Any]) -> Iterator[Leaf]:
    for field in EVENTS:
        for path, kind in _paths(field):
            encoding = options["column_encoding"].get(".".join(path), "PLAIN")
            yield Leaf(path, str(kind), encoding, field.name in options["write_statistics"])


def _paths(field: pa.Field) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    if not pa.types.is_list(field.type):
        yield (field.name,), field.type
        return
    path, kind = (field.name, "list", "element"), field.type.value_type
    if pa.types.is_struct(kind):
        yield from (((*path, inner.name), inner.type) for inner in kind)
    else:
        yield path, kind


def _cell(leaf: Leaf, row: pa.Table) -> pa.Array:
    """The values of a row, those of a list one after the other."""
    levels = [row.column(leaf.path[0]).chunk(0)]
    if leaf.is_listed:
        levels.append(levels[0].flatten())
        levels += [levels[1].field(name) for name in leaf.path[3:]]
    if any(level.null_count for level in levels):
        raise ShardError(f"{'.'.join(leaf.path)}: got null, need a value; it may not be absent")
    return levels[-1]


def _stored(leaf: Leaf, values: pa.Array, text: bytes | None) -> NDArray[Any]:
    """Values as Parquet stores them: 16 bits in 32, booleans in bits, texts after their length."""
    if text is not None:
        return np.frombuffer(len(text).to_bytes(4, "little") + text, np.uint8)
    if leaf.kind == "bool":
        return _bits(values)
    array: NDArray[Any] = values.to_numpy()
    if leaf.kind == "uint16" and leaf.encoding == "PLAIN":
        array = array.astype(np.int32)
    return array


def _bits(values: pa.BooleanArray) -> NDArray[np.uint8]:
    """Booleans as Arrow holds them, which is how Parquet stores them, if they begin with a byte."""
    first, count = values.offset, len(values)
    if first % 8 or not count:
        return np.packbits(values.to_numpy(zero_copy_only=False), bitorder="little")
    bits = np.frombuffer(values.buffers()[1], np.uint8)[first // 8 : (first + count + 7) // 8]
    if count % 8:
        bits = bits.copy()
        bits[-1] &= (1 << count % 8) - 1
    return bits


def _empty_footer(schema: pa.Schema, options: dict[str, Any]) -> Struct:
    """What Arrow says of a file without rows: schema, metadata, and the writer's name."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema, **options).close()
    data = sink.getvalue().to_pybytes()
    size = int.from_bytes(data[-8:-4], "little")
    return read_struct(data[-8 - size : -8])[0]
