"""GPMF's key-length-value layout, GoPro's telemetry format, and nothing about what it means.

An item is a four-character key, a type character, a structure size, a repeat count (big endian,
8 bytes in all), then size * repeat bytes of data, padded to a multiple of four. Type 0 nests: its
data are items. (gopro/gpmf-parser, README "GPMF Deeper Dive".)
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import RecordingError

__all__ = ["Item", "parse"]

DEEPEST = 8
"""DEVC > STRM > data is three levels; a file nested deeper than this is damaged."""

_HEADER = struct.Struct(">4scBH")
_NUMBERS = {
    "b": ">i1",
    "B": ">u1",
    "s": ">i2",
    "S": ">u2",
    "l": ">i4",
    "L": ">u4",
    "f": ">f4",
    "d": ">f8",
    "j": ">i8",
    "J": ">u8",
}


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One key with its data, or with the items nested in it.

    Attributes:
        key: four characters.
        kind: type character; empty for a nest.
        size: bytes of one structure.
        repeat: number of structures.
        data: as stored, without padding; empty for a nest.
        children: of a nest.
    """

    key: str
    kind: str
    size: int
    repeat: int
    data: bytes
    children: tuple["Item", ...]

    def __repr__(self) -> str:
        return f"Item({self.key} {self.kind or 'nest'} {self.size} x {self.repeat})"

    def all(self, key: str) -> Iterator["Item"]:
        """The children of that key, in order."""
        return (child for child in self.children if child.key == key)

    def first(self, key: str) -> "Item | None":
        """The first child of that key."""
        return next(self.all(key), None)

    def numbers(self) -> NDArray[np.float64]:
        """The data as float64 (repeat, columns).

        float64 holds every type exactly except 64-bit counts above 2^53 (microseconds: 285 years).

        Raises:
            RecordingError: a type that is no number, or a structure that is not whole numbers.
        """
        stored = np.dtype(_NUMBERS.get(self.kind, "V1"))
        if self.kind not in _NUMBERS or not self.size or self.size % stored.itemsize:
            raise RecordingError(
                f"GPMF {self.key}: type {self.kind or 'nest'!r} with structures of {self.size} "
                f"bytes holds no numbers this reader knows ({', '.join(_NUMBERS)})"
            )
        columns = self.size // stored.itemsize
        with np.errstate(invalid="ignore"):  # a signalling NaN
            stored_values = np.frombuffer(self.data, stored).astype(np.float64)
        return stored_values.reshape(self.repeat, columns)

    def text(self) -> str:
        """The data as text (Latin-1, as GoPro writes units), without padding."""
        return self.data.decode("latin-1").strip("\0 ")


def parse(data: bytes) -> tuple[Item, ...]:
    """All items of a payload, nests opened.

    Raises:
        RecordingError: a length that reaches past the end, a key that is no four characters, bytes
            left over, or nests in nests without end.
    """
    return tuple(_items(data, 0, len(data), 1))


def _items(data: bytes, start: int, end: int, depth: int) -> Iterator[Item]:
    if depth > DEEPEST and start < end:
        raise RecordingError(f"GPMF: nested more than {DEEPEST} deep at byte {start}; damaged file")
    while start < end:
        if not any(data[start : min(start + 4, end)]):  # a key of zeros ends a nest
            return
        if end - start < _HEADER.size:
            raise RecordingError(f"GPMF: {end - start} stray bytes at byte {start}; damaged file")
        name, kind, size, repeat = _HEADER.unpack_from(data, start)
        body, length = start + _HEADER.size, size * repeat
        start = body + (length + 3 & ~3)
        if not all(0x20 <= character < 0x7F for character in name):
            raise RecordingError(
                f"GPMF: got {name!r} at byte {body - _HEADER.size}, need a key; damaged file"
            )
        key = name.decode("ascii")
        if start > end:
            raise RecordingError(
                f"GPMF {key}: claims {length} bytes at byte {body}, {end - body} are left; "
                f"the file is cut off or damaged"
            )
        nested = kind == b"\0"
        yield Item(
            key=key,
            kind="" if nested else kind.decode("latin-1"),
            size=size,
            repeat=repeat,
            data=b"" if nested else data[body : body + length],
            children=tuple(_items(data, body, body + length, depth + 1)) if nested else (),
        )
