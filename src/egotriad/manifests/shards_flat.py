"""Delta-coded integers by pyarrow, but as a column that is no list: several times as fast.

pyarrow neither encodes nor decodes a page by itself. So what is encoded is taken out of a Parquet
file of one column, and what is to be decoded gets such a file around it, both in memory (structs of
parquet-format's parquet.thrift).
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests.errors import ShardError
from egotriad.manifests.shards_footer import MAGIC
from egotriad.manifests.thrift import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    Struct,
    put_varint,
    read_struct,
    read_varint,
    write_struct,
)

__all__ = ["delta_decoded", "delta_encoded"]

BLOCK, MINIBLOCKS = 128, 4
"""Differences in a block, and parts of it, as Arrow makes them."""

STEP = 1 << 20
"""Differences encoded at once, whole blocks of them."""

INT32, REQUIRED, DELTA_BINARY_PACKED, RLE, DATA_PAGE, UNCOMPRESSED = 1, 0, 5, 3, 0, 0
PACKED_SIZE = 3  # PageHeader


def delta_encoded(values: NDArray[np.int32]) -> bytes:
    """DELTA_BINARY_PACKED of any number of integers (parquet-format's Encodings.md)."""
    first = int(values[0]) if len(values) else 0
    head = bytearray()
    for number in (BLOCK, MINIBLOCKS, len(values), first << 1 if first >= 0 else ~(first << 1)):
        put_varint(head, number)
    blocks = (_blocks(values[k : k + STEP + 1]) for k in range(0, len(values) - 1, STEP))
    return b"".join((head, *blocks))


def _blocks(values: NDArray[np.int32]) -> bytes:
    """The blocks of differences alone, without what stands before them."""
    sink = pa.BufferOutputStream()
    column = pa.field("value", pa.int32(), nullable=False)
    # Arrow 23 and later begin a page every 20,000 rows unless told otherwise.
    is_new = int(pa.__version__.partition(".")[0]) >= 23
    pq.write_table(
        pa.Table.from_arrays([pa.array(values)], schema=pa.schema([column])),
        sink,
        row_group_size=len(values),
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        column_encoding={"value": "DELTA_BINARY_PACKED"},
        data_page_size=2**31 - 1,
        **({"max_rows_per_page": len(values)} if is_new else {}),
    )
    data = sink.getvalue().to_pybytes()
    header, at = read_struct(data, len(MAGIC))
    end = at + header[PACKED_SIZE][1]
    numbers = []
    for _name in ("block", "miniblocks", "count", "first"):
        number, at = read_varint(data, at)
        numbers.append(number)
    if numbers[:3] != [BLOCK, MINIBLOCKS, len(values)]:
        raise ShardError(
            f"pyarrow {pa.__version__} encodes integers in {numbers[1]} of {numbers[0]} and "
            f"{numbers[2]} in a page, need {MINIBLOCKS} of {BLOCK} and {len(values)}; install "
            "pyarrow 26"
        )
    return data[at:end]


def delta_decoded(values: bytes, most: int) -> NDArray[np.int32]:
    """Integers of DELTA_BINARY_PACKED.

    Args:
        values: the encoded bytes, whole.
        most: that there may be.

    Raises:
        ValueError, IndexError, OSError: they are damaged.
    """
    _block, at = read_varint(values, 0)
    _miniblocks, at = read_varint(values, at)
    count, _ = read_varint(values, at)
    if count > most:
        raise ValueError(f"{count} values, need at most {most}")
    if not count:
        return np.empty(0, np.int32)
    file = pq.ParquetFile(pa.BufferReader(_file_of(values, count)))
    array: NDArray[np.int32] = file.read(use_threads=False).column(0).chunk(0).to_numpy()
    return array


def _file_of(values: bytes, count: int) -> bytes:
    """A file of one column of so many integers."""
    size = len(values)
    page: Struct = {
        1: (I32, count),
        2: (I32, DELTA_BINARY_PACKED),
        3: (I32, RLE),
        4: (I32, RLE),
    }
    head = write_struct(
        {1: (I32, DATA_PAGE), 2: (I32, size), PACKED_SIZE: (I32, size), 5: (STRUCT, page)}
    )
    size += len(head)
    metadata: Struct = {
        1: (I32, INT32),
        2: (LIST, (I32, [DELTA_BINARY_PACKED])),
        3: (LIST, (BINARY, [b"value"])),
        4: (I32, UNCOMPRESSED),
        5: (I64, count),
        6: (I64, size),
        7: (I64, size),
        9: (I64, len(MAGIC)),
    }
    chunk: Struct = {2: (I64, 0), 3: (STRUCT, metadata)}
    group: Struct = {1: (LIST, (STRUCT, [chunk])), 2: (I64, size), 3: (I64, count)}
    root: Struct = {4: (BINARY, b"schema"), 5: (I32, 1)}
    column: Struct = {1: (I32, INT32), 3: (I32, REQUIRED), 4: (BINARY, b"value")}
    footer = write_struct(
        {
            1: (I32, 2),
            2: (LIST, (STRUCT, [root, column])),
            3: (I64, count),
            4: (LIST, (STRUCT, [group])),
        }
    )
    return b"".join((MAGIC, head, values, footer, len(footer).to_bytes(4, "little"), MAGIC))
