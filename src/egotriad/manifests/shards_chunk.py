"""What Parquet tells of a column chunk of one page: header, metadata and indexes, as structs.

Structs and their fields are those of parquet-format's parquet.thrift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from egotriad.manifests.shards_footer import (
    CHUNK_METADATA,
    COLUMN_INDEX,
    COLUMNS,
    OFFSET_INDEX,
)
from egotriad.manifests.thrift import (
    BINARY,
    FALSE,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Struct,
    write_struct,
)

__all__ = ["Chunk", "Leaf", "group_of", "page_header"]

TYPES = {"bool": 0, "int32": 1, "uint16": 1, "int64": 2, "string": 6}
ENCODINGS = {"PLAIN": 0, "RLE": 3, "DELTA_BINARY_PACKED": 5, "BYTE_STREAM_SPLIT": 9}
ZSTD, DATA_PAGE, ASCENDING = 6, 0, 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column of the file: a field of the table, a list's values, or a field of those.

    Attributes:
        path: names from the table's field on.
        kind: name of the Arrow type of its values.
        encoding: of them.
        has_statistics: whether the least and the greatest are told (texts only).
    """

    path: tuple[str, ...]
    kind: str
    encoding: str
    has_statistics: bool

    @property
    def is_listed(self) -> bool:
        """Whether a row has any number of values."""
        return len(self.path) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A column chunk as it was written.

    Attributes:
        leaf: the column.
        count: number of values.
        text: the value, of a text.
        start: of the page in the file.
        unpacked_size: bytes with the page's header, before compression.
        packed_size: bytes with the page's header, as they are in the file.
    """

    leaf: Leaf
    count: int
    text: bytes | None
    start: int
    unpacked_size: int
    packed_size: int

    def struct(self) -> Struct:
        """ColumnChunk; the places of its indexes are yet to be filled in.

        Its metadata are bytes already: a file has thousands of chunks, and holds them to its end.
        """
        chunk: Struct = {
            2: (I64, 0),
            CHUNK_METADATA: (STRUCT, write_struct(self._metadata())),
            OFFSET_INDEX[0]: (I64, 0),
            OFFSET_INDEX[1]: (I32, 0),
        }
        if self.leaf.has_statistics:
            chunk |= {COLUMN_INDEX[0]: (I64, 0), COLUMN_INDEX[1]: (I32, 0)}
        return chunk

    def offset_index(self) -> Struct:
        """OffsetIndex: where the page is."""
        place: Struct = {1: (I64, self.start), 2: (I32, self.packed_size), 3: (I64, 0)}
        index: Struct = {1: (LIST, (STRUCT, [place]))}
        if self.text is not None:
            index[2] = (LIST, (I64, [len(self.text)]))
        return index

    def column_index(self) -> Struct | None:
        """ColumnIndex: the least and the greatest of the page, None without statistics."""
        if not self.leaf.has_statistics:
            return None
        return {
            1: (LIST, (TRUE, [FALSE])),
            2: (LIST, (BINARY, [self.text])),
            3: (LIST, (BINARY, [self.text])),
            4: (I32, ASCENDING),
            5: (LIST, (I64, [0])),
        }

    def _metadata(self) -> Struct:
        encoding = ENCODINGS[self.leaf.encoding]
        pages: Struct = {1: (I32, DATA_PAGE), 2: (I32, encoding), 3: (I32, 1)}
        metadata: Struct = {
            1: (I32, TYPES[self.leaf.kind]),
            2: (LIST, (I32, [ENCODINGS["RLE"], encoding])),
            3: (LIST, (BINARY, [name.encode() for name in self.leaf.path])),
            4: (I32, ZSTD),
            5: (I64, max(self.count, 1)),  # an empty list has a pair of levels
            6: (I64, self.unpacked_size),
            7: (I64, self.packed_size),
            9: (I64, self.start),
        }
        if self.leaf.has_statistics:
            ends: Struct = {5: (BINARY, self.text), 6: (BINARY, self.text)}
            metadata[12] = (STRUCT, {3: (I64, 0), **ends, 7: (TRUE, None), 8: (TRUE, None)})
        metadata[13] = (LIST, (STRUCT, [pages]))
        sizes = self._sizes()
        return metadata | {16: (STRUCT, sizes)} if sizes else metadata

    def _sizes(self) -> Struct:
        """SizeStatistics: bytes of texts, and how many levels are 0 and how many 1."""
        if self.text is not None:
            return {1: (I64, len(self.text)), 2: (LIST, (I64, [])), 3: (LIST, (I64, []))}
        if not self.leaf.is_listed:
            return {}
        defined = [0, self.count] if self.count else [1, 0]
        return {2: (LIST, (I64, [1, max(self.count, 1) - 1])), 3: (LIST, (I64, defined))}


def page_header(leaf: Leaf, count: int, unpacked_size: int, packed_size: int, crc: int) -> Struct:
    """PageHeader.

    Args:
        leaf: the column.
        count: number of values.
        unpacked_size: bytes of the page before compression.
        packed_size: bytes of the page in the file.
        crc: CRC-32 of those.
    """
    run_length = ENCODINGS["RLE"]
    data: Struct = {
        1: (I32, max(count, 1)),
        2: (I32, ENCODINGS[leaf.encoding]),
        3: (I32, run_length),
        4: (I32, run_length),
    }
    return {
        1: (I32, DATA_PAGE),
        2: (I32, unpacked_size),
        3: (I32, packed_size),
        4: (I32, crc - (crc >> 31 << 32)),  # as a signed number
        5: (STRUCT, data),
    }


def group_of(chunks: Sequence[Chunk], structs: list[Struct]) -> Struct:
    """RowGroup of one row.

    Args:
        chunks: its columns, in the order of the file.
        structs: of them.
    """
    return {
        COLUMNS: (LIST, (STRUCT, structs)),
        2: (I64, sum(chunk.unpacked_size for chunk in chunks)),
        3: (I64, 1),
        5: (I64, chunks[0].start),
        6: (I64, sum(chunk.packed_size for chunk in chunks)),
    }
