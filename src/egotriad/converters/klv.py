"""GPMF's key-length-value layout, GoPro's telemetry format, and nothing about what it means.

An item is a four-character key, a type character, a structure size, a repeat count (big endian,
8 bytes in all), then size * repeat bytes of data, padded to a multiple of four. Type 0 nests: its
data are items. Type `?` packs several types into each structure; the `TYPE` item before it names
them (`lllllllSS`, `f[8]L`). (gopro/gpmf-parser, README "GPMF Deeper Dive".)
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import RecordingError

__all__ = ["Item", "item_bytes", "nest_bytes", "parse"]

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
    "q": ">i4",
    "Q": ">i8",
}
_FRACTION = {"q": 2.0**16, "Q": 2.0**32}
"""Fixed point: Q15.16 and Q31.32."""

_ELEMENT = re.compile(r"(.)(?:\[(\d{1,3})\])?", re.DOTALL)


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

    def numbers(self, structure: str = "") -> NDArray[np.float64]:
        """The data as float64 (repeat, columns).

        float64 holds every type exactly except 64-bit counts above 2^53 (microseconds: 285 years).
        A date (`U`) becomes seconds since 1970 UTC.

        Args:
            structure: the `TYPE` of a complex item (`?`); not looked at for any other.

        Raises:
            RecordingError: a type that is no number, or a structure that is not whole numbers.
        """
        if self.kind == "U" and self.size == _DATE_LENGTH:
            return np.array([[_utc_s(self.key, text)] for text in self.texts()]).reshape(-1, 1)
        if self.kind == "?":
            kinds = _expanded(self.key, structure, self.size)
        else:
            width = np.dtype(_NUMBERS.get(self.kind, "V1")).itemsize
            kinds = self.kind * (self.size // width)
        stored = np.dtype(
            [(str(place), _NUMBERS.get(kind, "V1")) for place, kind in enumerate(kinds)]
        )
        if not kinds or not set(kinds) <= set(_NUMBERS) or stored.itemsize != self.size:
            raise RecordingError(
                f"GPMF {self.key}: type {self.kind or 'nest'!r} ({structure or 'no TYPE'}) with "
                f"structures of {self.size} bytes holds no numbers this reader knows "
                f"({', '.join(_NUMBERS)})"
            )
        rows = np.frombuffer(self.data, stored)
        columns = np.empty((self.repeat, len(kinds)))
        with np.errstate(invalid="ignore"):  # a signalling NaN
            for place, kind in enumerate(kinds):
                columns[:, place] = rows[str(place)] / _FRACTION.get(kind, 1.0)
        return columns

    def text(self) -> str:
        """The data as one text (Latin-1, as GoPro writes units), without padding."""
        return self.data.decode("latin-1").strip("\0 ")

    def texts(self) -> tuple[str, ...]:
        """The data as one text a structure; structures of one character are one text together."""
        if self.size <= 1:
            return (self.text(),)
        starts = range(0, len(self.data), self.size)
        return tuple(
            self.data[start : start + self.size].decode("latin-1").strip("\0 ") for start in starts
        )


def parse(data: bytes) -> tuple[Item, ...]:
    """All items of a payload, nests opened.

    Raises:
        RecordingError: a length that reaches past the end, a key that is no four characters, bytes
            left over, or nests in nests without end.
    """
    return tuple(_items(data, 0, len(data), 1))


def item_bytes(key: str, kind: str, size: int, data: bytes, *, repeat: int | None = None) -> bytes:
    """One item as it is stored: header, data, padding.

    Args:
        key: four characters.
        kind: type character.
        size: bytes of one structure.
        data: the structures, big endian.
        repeat: number of structures; as many as the data hold when not given.
    """
    count = len(data) // size if repeat is None else repeat
    header = _HEADER.pack(key.encode("ascii"), kind.encode("latin-1"), size, count)
    return header + data + bytes(-len(data) % 4)


def nest_bytes(key: str, *items: bytes) -> bytes:
    """A nest of stored items."""
    data = b"".join(items)
    size = 1 if len(data) <= 0xFFFF else 4  # items are padded to four bytes
    return item_bytes(key, "\0", size, data)


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


def _expanded(key: str, structure: str, size: int) -> str:
    """One type character a column, `f[8]L` spelled out; a structure holds at most 255 bytes."""
    kinds = ""
    for kind, count in _ELEMENT.findall(structure):
        kinds += kind * int(count or 1)
        if len(kinds) > size:
            raise RecordingError(
                f"GPMF {key}: TYPE {structure!r} describes more than its {size} bytes; damaged file"
            )
    return kinds


_DATE_LENGTH = 16


def _utc_s(key: str, text: str) -> float:
    """Seconds since 1970 of a date as GPMF writes it, `yymmddhhmmss.sss`, UTC, years 20xx."""
    try:
        date = datetime.strptime(f"20{text}000", "%Y%m%d%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError as exc:
        raise RecordingError(f"GPMF {key}: {text!r} is no date (yymmddhhmmss.sss)") from exc
    return date.timestamp()
