"""Values and levels as the bytes of a Parquet data page (parquet-format's Encodings.md).

The bytes are those of Arrow's encoders: so were shards written before, and a rebuild must give the
same bytes. Levels are those of a file's only row: a list of values that are never null.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.shards_flat import delta_encoded
from egotriad.manifests.thrift import put_varint

__all__ = ["ENCODERS", "list_levels"]


def list_levels(count: int) -> bytes:
    """Repetition and definition levels of one list, as a page (version 1) begins with them.

    Args:
        count: number of values; an empty list has one pair of levels, and no value.
    """
    if not count:
        return _sized(_run(1, 0)) * 2
    return _sized(_first_new(count)) + _sized(_run(count, 1))


def _first_new(count: int) -> bytes:
    """A zero and then ones: bits in groups of eight, until eight alike follow and make a run."""
    if count == 1:
        return _run(1, 0)
    packed = 8 if count >= 16 else count
    groups = -(-packed // 8)
    bits = ((1 << packed) - 2).to_bytes(groups, "little")
    rest = _run(count - packed, 1) if count > packed else b""
    return _varint(groups << 1 | 1) + bits + rest


def _run(count: int, level: int) -> bytes:
    return _varint(count << 1) + bytes([level])


def _sized(levels: bytes) -> bytes:
    return len(levels).to_bytes(4, "little") + levels


def _varint(value: int) -> bytes:
    out = bytearray()
    put_varint(out, value)
    return bytes(out)


def plain(levels: bytes, values: NDArray[Any]) -> bytes:
    """PLAIN: values as they are, of Parquet's width; booleans come as bits, the lowest first."""
    return levels + values.tobytes()


def byte_stream_split(levels: bytes, values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """BYTE_STREAM_SPLIT of 16 bits that Parquet stores as 32: all low bytes, all high, zeros."""
    page = np.empty(len(levels) + 4 * len(values), np.uint8)
    page[: len(levels)] = np.frombuffer(levels, np.uint8)
    planes = page[len(levels) :].reshape(4, len(values))
    planes[0] = values  # modulo 256
    np.right_shift(values, 8, out=planes[1], casting="unsafe")
    planes[2:] = 0
    return page


def delta_binary_packed(levels: bytes, values: NDArray[np.int32]) -> bytes:
    """DELTA_BINARY_PACKED: differences of neighbours, less the least of each block, in few bits."""
    return levels + delta_encoded(values)


Encoder = Callable[[bytes, NDArray[Any]], "bytes | NDArray[np.uint8]"]

ENCODERS: Mapping[str, Encoder] = {
    "PLAIN": plain,
    "BYTE_STREAM_SPLIT": byte_stream_split,
    "DELTA_BINARY_PACKED": delta_binary_packed,
}
"""Encoding -> what makes a page of levels and values with it."""
