"""Thrift's compact protocol, as far as Parquet's footers need it: read, changed, written back.

Source: apache/thrift doc/specs/thrift-compact-protocol.md. A struct becomes a dict from field id to
(type, value), in the order of its fields; lists become (element type, values). What is not
understood is an error, never dropped, so that writing back what was read gives the same bytes. The
value of a struct may be bytes when it is written: one that was written before.
"""

from typing import Any

__all__ = [
    "BINARY",
    "FALSE",
    "I32",
    "I64",
    "LIST",
    "STRUCT",
    "TRUE",
    "Struct",
    "put_varint",
    "read_struct",
    "read_varint",
    "write_struct",
]

Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)


def read_struct(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """A struct and where it ends.

    Args:
        data: bytes that hold it.
        at: where it begins.

    Raises:
        ValueError, IndexError: the bytes are no struct, or hold a map (Parquet has none).
    """
    fields: Struct = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        kind, step = head & 0x0F, head >> 4
        if step:
            number += step
        else:
            raw, at = read_varint(data, at)
            number = _unzigzag(raw)
        if kind in (TRUE, FALSE):
            fields[number] = (kind, None)
        else:
            value, at = _read(kind, data, at)
            fields[number] = (kind, value)
    return fields, at + 1


def write_struct(fields: Struct) -> bytes:
    """The bytes of a struct."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def _read(kind: int, data: bytes, at: int) -> tuple[Any, int]:
    if I16 <= kind <= I64:
        raw, at = read_varint(data, at)
        return _unzigzag(raw), at
    if kind == BINARY:
        size, at = read_varint(data, at)
        if at + size > len(data):
            raise ValueError("thrift: a text reaches past the end")
        return data[at : at + size], at + size
    if kind == STRUCT:
        return read_struct(data, at)
    if kind in (LIST, SET):
        return _read_list(data, at)
    if kind in (TRUE, FALSE, BYTE):  # a byte each inside a list
        return data[at], at + 1
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    raise ValueError(f"thrift: type {kind}")


def _read_list(data: bytes, at: int) -> tuple[tuple[int, list[Any]], int]:
    head = data[at]
    kind, size, at = head & 0x0F, head >> 4, at + 1
    if size == 15:
        size, at = read_varint(data, at)
    values = []
    for _ in range(size):
        value, at = _read(kind, data, at)
        values.append(value)
    return (kind, values), at


def _write_struct(out: bytearray, fields: Struct) -> None:
    number = 0
    for field, (kind, value) in fields.items():
        step, number = field - number, field
        if 0 < step < 16:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            put_varint(out, _zigzag(field))
        if I16 <= kind <= I64:  # as in `_write`; most fields are, and a call takes its time
            put_varint(out, value << 1 if value >= 0 else ~(value << 1))
        elif kind > FALSE:
            _write(out, kind, value)
    out.append(0)


def _write(out: bytearray, kind: int, value: Any) -> None:
    if I16 <= kind <= I64:
        put_varint(out, _zigzag(value))
    elif kind == BINARY:
        put_varint(out, len(value))
        out += value
    elif kind == STRUCT and isinstance(value, bytes):
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        element, values = value
        out.append(min(len(values), 15) << 4 | element)
        if len(values) >= 15:
            put_varint(out, len(values))
        for item in values:
            _write(out, element, item)
    elif kind == DOUBLE:
        out += value
    else:
        out.append(value)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number, seven bits a byte from the lowest on, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def put_varint(out: bytearray, value: int) -> None:
    """Appends an unsigned number, see `read_varint`."""
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else ~(value << 1)
