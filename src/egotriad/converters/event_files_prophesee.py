"""Event files of Prophesee: EVT2 and EVT3 (`.raw`) and DAT (`.dat`), with their text header.

The header is lines that begin with `% `; files of today end it with `% end`. Their layout is that
of prophesee-ai/openeb (`hal/cpp/include/metavision/hal/decoders`, `sdk/modules/base/cpp/include/
metavision/sdk/base/events/event2d.h`).

A cut between two words cannot be seen in these formats. Where a word is cut in two, the events
before it are read and then the cut is an error.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.event_files_evt import (
    EVT3_LOOP_US,
    decode_evt2,
    decode_evt3,
    encode_evt2,
    encode_evt3,
    evt2_state,
    evt3_state,
)
from egotriad.converters.event_files_fields import (
    Size,
    WrappingClock,
    opened,
    polarity,
    records,
    sensor_size,
)
from egotriad.converters.event_files_stream import Block, EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError

__all__ = [
    "create_dat",
    "create_evt2",
    "create_evt3",
    "open_dat",
    "open_evt2",
    "open_evt3",
    "prophesee_format",
]

logger = getLogger(__name__)

MAX_HEADER_LINE = 1000

DAT = np.dtype([("t", "<u4"), ("address", "<u4")])
DAT_TYPES = (0, 12)  # contrast events, as the toolboxes and as openeb number them


@dataclass(frozen=True, slots=True)
class _Header:
    """Fields of a header by lower-case key, and where the data begin."""

    fields: dict[str, str]
    end: int

    @property
    def size_wh(self) -> Size | None:
        words = " ".join(f"{key}={value}" for key, value in self.fields.items())
        geometry = re.search(r"geometry=(\d+)x(\d+)", words)
        if geometry:
            return int(geometry[1]), int(geometry[2])
        width, height = (re.search(rf"\b{key}=(\d+)", words) for key in ("width", "height"))
        return (int(width[1]), int(height[1])) if width and height else None

    @property
    def format(self) -> str | None:
        encoding = self.fields.get("format", "").split(";")[0] or self.fields.get("evt", "")
        known = {"EVT2": "evt2", "2.0": "evt2", "EVT3": "evt3", "3.0": "evt3"}
        if encoding:
            return known.get(encoding, encoding)
        return "dat" if "version" in self.fields else None


def prophesee_format(path: Path) -> str | None:
    """`evt2`, `evt3` or `dat` by a file's header; another encoding by its own name; else None."""
    return _header(path).format


def open_evt2(path: Path, size_wh: Size | None) -> EventReader:
    """An EVT2 stream; a time word that falls by half its range or more is a wrap (4.8 h).

    Raises:
        RecordingError: no such file, or its header names another encoding.
        UsageError: the size is neither in the header nor given.
    """
    return _open_evt(path, size_wh, "evt2", np.dtype("<u4"), evt2_state, decode_evt2, 1)


def open_evt3(path: Path, size_wh: Size | None) -> EventReader:
    """An EVT3 stream; a time word that falls by half its range or more is a wrap (16.8 s).

    Raises:
        RecordingError: no such file, or its header names another encoding.
        UsageError: the size is neither in the header nor given.
    """
    return _open_evt(path, size_wh, "evt3", np.dtype("<u2"), evt3_state, decode_evt3, 12)


@contextmanager
def create_evt2(path: Path, size_wh: Size, t_offset_us: int) -> Iterator[Callable[[Events], None]]:
    """Writes an EVT2 stream."""
    with path.open("wb") as file:
        file.write(_raw_header("EVT2", "2.0", size_wh))
        state = evt2_state()

        def put(events: Events) -> None:
            words = np.empty(2 * len(events), "<u4")
            count = encode_evt2(events.t_us, events.x, events.y, events.p, state, words)
            file.write(words[:count].tobytes())

        yield put


@contextmanager
def create_evt3(path: Path, size_wh: Size, t_offset_us: int) -> Iterator[Callable[[Events], None]]:
    """Writes an EVT3 stream, runs along a row as vectors."""
    with path.open("wb") as file:
        file.write(_raw_header("EVT3", "3.0", size_wh))
        state = evt3_state()

        def put(events: Events) -> None:
            if not len(events):
                return
            loops = int(events.t_us[-1]) // EVT3_LOOP_US - max(int(state[0]), 0) // EVT3_LOOP_US
            words = np.empty(4 * len(events) + 2 * loops, "<u2")
            count = encode_evt3(events.t_us, events.x, events.y, events.p, state, words)
            file.write(words[:count].tobytes())

        yield put


def open_dat(path: Path, size_wh: Size | None) -> EventReader:
    """A DAT file of contrast events, version 2; its 32-bit clock's wraps (71 minutes) are undone.

    Raises:
        RecordingError: no such file, no DAT header, or other than contrast events.
        UsageError: the size is neither in the header nor given.
    """
    header = _header(path)
    with opened(path) as file:
        file.seek(header.end)
        kind = file.read(2)
    version = header.fields.get("version", "none")
    if not version.startswith("2") or len(kind) < 2 or kind[0] not in DAT_TYPES or kind[1] != 8:
        raise RecordingError(
            f"{path.name}: version {version}, event type and size {list(kind)}; need a DAT file of "
            "version 2 with contrast events (type 0 or 12) of 8 bytes"
        )
    start = header.end + 2

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        clock, index = WrappingClock(32), 0
        for rows, _ in records(path, start, DAT):
            address = rows["address"]
            yield Block(
                clock(rows["t"].astype(np.int64)),
                address & 0x3FFF,
                (address >> 14) & 0x3FFF,
                polarity(address >> 28, path, index),
                index,
                index + len(rows),
            )
            index += len(rows)

    return EventReader(
        path=path,
        format="dat",
        size_wh=sensor_size(path, header.size_wh, size_wh),
        blocks=blocks,
        total=(path.stat().st_size - start) // DAT.itemsize,
        unit="events",
    )


@contextmanager
def create_dat(path: Path, size_wh: Size, t_offset_us: int) -> Iterator[Callable[[Events], None]]:
    """Writes a DAT file."""
    with path.open("wb") as file:
        file.write(
            f"% Data file containing CD events.\n% Version 2\n% Height {size_wh[1]}\n"
            f"% Width {size_wh[0]}\n".encode()
        )
        file.write(bytes([12, DAT.itemsize]))

        def put(events: Events) -> None:
            rows = np.empty(len(events), DAT)
            rows["t"] = events.t_us
            rows["address"] = (
                events.x | (events.y.astype(np.uint32) << 14) | (events.p.astype(np.uint32) << 28)
            )
            file.write(rows.tobytes())

        yield put


def _open_evt(
    path: Path,
    size_wh: Size | None,
    name: str,
    word: np.dtype[Any],
    new_state: Callable[[], NDArray[np.int64]],
    decode: Callable[..., int],
    events_per_word: int,
) -> EventReader:
    header = _header(path)
    if header.format not in (None, name):
        raise RecordingError(f"{path.name}: its header says {header.format}, need {name}")

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        state, index = new_state(), 0
        for words, position in records(path, header.end, word):
            room = events_per_word * len(words)
            t_us, x, y = (
                np.empty(room, np.int64),
                np.empty(room, np.uint16),
                np.empty(room, np.uint16),
            )
            p = np.empty(room, np.bool_)
            count = decode(words, state, t_us, x, y, p)
            if count < 0:
                wrong = words[-1 - count]
                byte = position - (len(words) + 1 + count) * word.itemsize
                raise RecordingError(
                    f"{path.name}: the word {wrong:#x} at byte {byte} is of no type that {name} "
                    "has; the file is damaged there or of another encoding"
                )
            yield Block(t_us[:count], x[:count], y[:count], p[:count], index, position)
            index += count
        if state[1]:
            logger.warning(
                "%s: left out %d events that come before the first time or row", path.name, state[1]
            )

    return EventReader(
        path=path,
        format=name,
        size_wh=sensor_size(path, header.size_wh, size_wh),
        blocks=blocks,
        total=path.stat().st_size,
        unit="bytes",
    )


def _raw_header(encoding: str, version: str, size_wh: Size) -> bytes:
    """What openeb's own writer of encoded events puts there, without the date, and `% evt`."""
    width, height = size_wh
    return (
        f"% camera_integrator_name MetavisionSDK\n% evt {version}\n"
        f"% format {encoding};height={height};width={width}\n% geometry {width}x{height}\n"
        "% plugin_integrator_name MetavisionSDK\n% end\n"
    ).encode()


def _header(path: Path) -> _Header:
    fields: dict[str, str] = {}
    end = 0
    with opened(path) as file:
        while (line := file.readline(MAX_HEADER_LINE)).startswith(b"% "):
            if not line.isascii() or len(line) == MAX_HEADER_LINE:
                break  # data that happen to begin like a header line
            if not line.endswith(b"\n"):
                raise RecordingError(f"{path.name}: ends inside its header; copy it again")
            end += len(line)
            key, _, value = line[2:].decode().strip().partition(" ")
            if key == "end":
                break
            fields[key.lower()] = value.strip()
    return _Header(fields, end)
