"""Event files of text as v2e and the Event Camera Dataset write them.

Lines `t x y p`, t in seconds with a decimal point, p 0 or 1, after comments that begin with `#`
(SensorsINI/v2e, `v2ecore/output/ae_text_output.py`; rpg.ifi.uzh.ch/davis_data.html). v2e's fifth
column, signal or noise, is ignored. Times are read and written in whole microseconds, never as
floating point. The size of the sensor is not in the format; ours has a comment `# size 346x260`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.event_files_fields import Size, opened, polarity, sensor_size
from egotriad.converters.event_files_stream import Block, EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError

__all__ = ["create_text", "open_text"]

READ_BYTES = 1 << 22
LINE_BYTES = 48  # longest line written
MIN_LINE_BYTES = 9  # shortest line with an event: "0. 0 0 1" and its end

_NEWLINE, _HASH, _MINUS, _PLUS, _POINT, _ZERO, _E, _BLANK = (ord(c) for c in "\n#-+.0e ")
_MAX_DIGITS = 18  # of a mantissa in int64


def open_text(path: Path, size_wh: Size | None) -> EventReader:
    """A text file of events.

    Raises:
        RecordingError: no such file.
        UsageError: the size is neither in a comment nor given.
    """
    with opened(path) as file:
        head = file.read(4096)
    size = re.search(rb"^# size (\d+)x(\d+)\n", head, re.MULTILINE)
    stored_size = (int(size[1]), int(size[2])) if size else None
    return EventReader(
        path=path,
        format="text",
        size_wh=sensor_size(path, stored_size, size_wh),
        blocks=lambda start_us, end_us: _blocks(path),
        total=path.stat().st_size,
        unit="bytes",
    )


@contextmanager
def create_text(path: Path, size_wh: Size, t_offset_us: int) -> Iterator[Callable[[Events], None]]:
    """Writes a text file, times with six decimals."""
    with path.open("wb") as file:
        file.write(
            b"#!events.txt\n# Format is time (float s), x, y, polarity (0=off, 1=on)\n"
            + f"# size {size_wh[0]}x{size_wh[1]}\n".encode()
        )

        def put(events: Events) -> None:
            text = np.empty(LINE_BYTES * len(events), np.uint8)
            count = _format_lines(events.t_us, events.x, events.y, events.p, text)
            file.write(text[:count].tobytes())

        yield put


def _blocks(path: Path) -> Iterator[Block]:
    lines, index = 0, 0
    columns = np.zeros(1, np.int64)  # of the first line; the others must have as many
    with opened(path) as file:
        for text in _whole_lines(file):
            room = len(text) // MIN_LINE_BYTES + 1
            t_us = np.empty(room, np.int64)
            x, y, p = (np.empty(room, np.int32) for _ in range(3))
            count, right_lines, right_bytes = _parse_lines(
                np.frombuffer(text, np.uint8), columns, t_us, x, y, p
            )
            on = polarity(p[:count], path, index)
            yield Block(t_us[:count], x[:count], y[:count], on, index, file.tell())
            lines, index = lines + right_lines, index + count
            if right_bytes < len(text):
                line = text[right_bytes : text.find(b"\n", right_bytes)][:80]
                raise RecordingError(
                    f"{path.name}: line {lines + 1} is {line!r}, need a time in seconds with a "
                    "decimal point, x, y and polarity, as many columns as in the lines before; the "
                    "file is damaged or cut off there"
                )


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The file in pieces that end with a line; a last line without an end gets one."""
    rest = b""
    while data := file.read(READ_BYTES):
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
            rest = data[end:]
        else:  # no line is that long: let it be refused
            yield rest + data + b"\n"
            return
    if rest:
        yield rest + b"\n"


@compiled
def _parse_lines(
    text: NDArray[np.uint8],
    columns: NDArray[np.int64],
    t_us: NDArray[np.int64],
    x: NDArray[np.int32],
    y: NDArray[np.int32],
    p: NDArray[np.int32],
) -> tuple[int, int, int]:
    """Parses whole lines up to the first that is wrong.

    Returns:
        Events, lines and bytes that are right.
    """
    count, lines, start = 0, 0, 0
    values = np.empty(5, np.int64)
    while start < len(text):
        position, found = _skip_blanks(text, start), 0
        while text[position] != _NEWLINE and text[position] != _HASH:
            if found == 5:
                return count, lines, start
            if found:
                after, values[found] = _parse_integer(text, position)
            else:
                after, values[found] = _parse_seconds(text, position)
            if after < 0:
                return count, lines, start
            found += 1
            position = _skip_blanks(text, after)
        if text[position] == _HASH:
            if found:
                return count, lines, start
            while text[position] != _NEWLINE:
                position += 1
        if found:
            if found < 4 or (columns[0] and found != columns[0]):
                return count, lines, start
            columns[0] = found
            t_us[count] = values[0]
            x[count], y[count], p[count] = values[1], values[2], values[3]
            count += 1
        lines += 1
        start = position + 1
    return count, lines, start


@compiled
def _skip_blanks(text: NDArray[np.uint8], position: int) -> int:
    """The next byte that is no blank, tab or carriage return; a line's end stops it."""
    while text[position] <= _BLANK and text[position] != _NEWLINE:
        position += 1
    return position


@compiled
def _parse_integer(text: NDArray[np.uint8], position: int) -> tuple[int, np.int64]:
    """An integer of up to nine digits that ends at a blank.

    Returns:
        Where it ends, and its value; -1 where it is no such number.
    """
    negative = text[position] == _MINUS
    if negative or text[position] == _PLUS:
        position += 1
    start = position
    value = np.int64(0)
    while _ZERO <= text[position] <= _ZERO + 9:
        value = value * 10 + (np.int64(text[position]) - _ZERO)
        position += 1
    if not 1 <= position - start <= 9 or text[position] > _BLANK:
        return -1, np.int64(0)
    return position, -value if negative else value


@compiled
def _parse_seconds(text: NDArray[np.uint8], position: int) -> tuple[int, np.int64]:
    """Seconds with a decimal point or an exponent, that end at a blank, in microseconds.

    Returns:
        Where they end, and the nearest microsecond; -1 where they are no such number.
    """
    negative = text[position] == _MINUS
    if negative or text[position] == _PLUS:
        position += 1
    mantissa, power = np.int64(0), np.int64(6)
    digits, point, empty = 0, False, True
    while True:
        byte = np.int64(text[position])
        if _ZERO <= byte <= _ZERO + 9:
            empty = False
            if mantissa or byte != _ZERO:
                digits += 1
            if digits <= _MAX_DIGITS:
                mantissa = mantissa * 10 + (byte - _ZERO)
                power -= point
            elif not point:
                return -1, np.int64(0)
        elif byte == _POINT and not point:
            point = True
        else:
            break
        position += 1
    if (text[position] | 32) == _E and not empty:
        position, exponent = _parse_integer(text, position + 1)
        if abs(exponent) > 99:
            return -1, np.int64(0)
        point, power = True, power + exponent
    if position < 0 or empty or not point or text[position] > _BLANK:
        return -1, np.int64(0)
    mantissa = _scaled(mantissa, power)
    return (position if mantissa >= 0 else -1), (-mantissa if negative else mantissa)


@compiled
def _scaled(mantissa: np.int64, power: np.int64) -> np.int64:
    """`mantissa` times a power of ten, rounded half up; -1 where it does not fit."""
    while power > 0 and mantissa:
        if mantissa >= 1 << 58:
            return np.int64(-1)
        mantissa *= 10
        power -= 1
    divisor = np.int64(1)
    while power < 0 and divisor < 10**_MAX_DIGITS:
        divisor *= 10
        power += 1
    return (mantissa + divisor // 2) // divisor * (power >= 0)


@compiled
def _format_lines(
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    text: NDArray[np.uint8],
) -> int:
    """Writes events as lines; returns the number of bytes."""
    count = 0
    for k in range(len(t_us)):
        t = t_us[k]
        if t < 0:
            text[count] = _MINUS
            count += 1
            t = -t
        count = _format_integer(t // 1_000_000, 1, text, count)
        text[count] = _POINT
        count = _format_integer(t % 1_000_000, 6, text, count + 1)
        for value in (np.int64(x[k]), np.int64(y[k]), np.int64(p[k])):
            text[count] = _BLANK
            count = _format_integer(value, 1, text, count + 1)
        text[count] = _NEWLINE
        count += 1
    return count


@compiled
def _format_integer(value: np.int64, least_digits: int, text: NDArray[np.uint8], count: int) -> int:
    """Writes a number that is not negative; returns where it ends."""
    digits, rest = 1, value // 10
    while rest:
        digits += 1
        rest //= 10
    digits = max(digits, least_digits)
    for k in range(digits):
        text[count + digits - 1 - k] = _ZERO + value % 10
        value //= 10
    return count + digits
