"""Event files of every format that is in use, read and written as streams.

| name | suffixes | what it is |
|---|---|---|
| dsec | .h5 .hdf5 | DSEC's HDF5 with its index by millisecond |
| v2e-h5 | | v2e's HDF5, one table of four columns |
| tonic | .npy | NumPy structured array x, y, t, p |
| eventgpt | | one window as EventGPT reads it, a pickled dict in .npy |
| evt2, evt3 | .raw (evt3) | Prophesee's encoded streams |
| dat | .dat | Prophesee's decoded events |
| aedat2 | .aedat .aedat2 | jAER, of three sensors |
| aedat4 | .aedat4 | iniVation DV |
| text | .txt | `t x y p`, seconds |

Formats are recognised by content when read and by suffix when written; a name chooses another. What
a format cannot hold (addresses, times, sensor sizes, a clock offset) is refused before a byte is
written; a file is written whole or not at all.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from egotriad.converters.event_files_aedat2 import AEDAT2_SIZES, create_aedat2, open_aedat2
from egotriad.converters.event_files_aedat4 import create_aedat4, open_aedat4
from egotriad.converters.event_files_evt import EVT2_LOOP_US
from egotriad.converters.event_files_hdf5 import (
    create_dsec,
    create_v2e_h5,
    hdf5_layout,
    open_dsec,
    open_v2e_h5,
)
from egotriad.converters.event_files_npy import (
    create_eventgpt,
    create_tonic,
    is_pickled,
    open_eventgpt,
    open_tonic,
)
from egotriad.converters.event_files_prophesee import (
    create_dat,
    create_evt2,
    create_evt3,
    open_dat,
    open_evt2,
    open_evt3,
    prophesee_format,
)
from egotriad.converters.event_files_stream import EventReader, Size, opened
from egotriad.converters.event_files_text import create_text, open_text
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.files import atomic

__all__ = [
    "FORMATS",
    "EventFormat",
    "EventReader",
    "EventWriter",
    "create_events",
    "event_format",
    "open_events",
    "write_events",
    "written_format",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFormat:
    """One format: its functions, and what it can hold.

    Attributes:
        open: path and size given by the user (or None) -> reader.
        create: path, size, clock offset -> context manager that gives the function which writes.
        suffixes: that mean this format when a file is written.
        max_side: largest width and height of a sensor.
        sizes: the only sizes, empty for any.
        first_us: earliest time.
        end_us: first time that is too late.
        holds_offset: whether a clock offset can be stored.
    """

    open: Callable[[Path, Size | None], EventReader]
    create: Callable[[Path, Size, int], AbstractContextManager[Callable[[Events], None]]]
    suffixes: tuple[str, ...] = ()
    max_side: int = 1 << 16
    sizes: tuple[Size, ...] = ()
    first_us: int = 0
    end_us: int = 1 << 62
    holds_offset: bool = False


FORMATS = {
    "dsec": EventFormat(
        open=open_dsec,
        create=create_dsec,
        suffixes=(".h5", ".hdf5"),
        end_us=100_000_000_000,  # its index has an entry for every millisecond from 0
        holds_offset=True,
    ),
    "v2e-h5": EventFormat(open=open_v2e_h5, create=create_v2e_h5, end_us=1 << 32),
    "tonic": EventFormat(
        open=open_tonic,
        create=create_tonic,
        suffixes=(".npy",),
        max_side=1 << 15,
        first_us=-(1 << 62),
    ),
    "eventgpt": EventFormat(open=open_eventgpt, create=create_eventgpt, first_us=-(1 << 62)),
    "evt2": EventFormat(open=open_evt2, create=create_evt2, max_side=1 << 11, end_us=EVT2_LOOP_US),
    "evt3": EventFormat(
        open=open_evt3,
        create=create_evt3,
        suffixes=(".raw",),
        max_side=1 << 11,
        end_us=1 << 44,  # a million loops of its clock, 4 bytes each
    ),
    "dat": EventFormat(
        open=open_dat, create=create_dat, suffixes=(".dat",), max_side=1 << 14, end_us=1 << 32
    ),
    "aedat2": EventFormat(
        open=open_aedat2,
        create=create_aedat2,
        suffixes=(".aedat", ".aedat2"),
        sizes=tuple(AEDAT2_SIZES),
        end_us=1 << 31,
    ),
    "aedat4": EventFormat(
        open=open_aedat4,
        create=create_aedat4,
        suffixes=(".aedat4",),
        max_side=1 << 15,
        first_us=-(1 << 62),
    ),
    "text": EventFormat(
        open=open_text,
        create=create_text,
        suffixes=(".txt",),
        first_us=-(10**18) + 1,
        end_us=10**18,
    ),
}
"""All formats by name."""


def open_events(
    path: Path, *, size_wh: Size | None = None, format: str | None = None
) -> EventReader:
    """Opens an event file.

    Args:
        path: the file.
        size_wh: width and height of the sensor where the file does not say them.
        format: name of the format; None recognises it.

    Raises:
        RecordingError: the file is missing, empty, cut off, damaged, or of no format known here.
        UsageError: an unknown name, or a size that is missing or not the file's.
        MissingDependency: the format needs a package that is not installed.
    """
    return _named(format or event_format(path)).open(path, size_wh)


def event_format(path: Path) -> str:
    """Name of an event file's format, by its content.

    Raises:
        RecordingError: as `open_events`.
    """
    with opened(path) as file:
        head = file.read(64)
    found = _recognised(path, head)
    if found is None:
        known = ", ".join(FORMATS)
        raise RecordingError(
            f"{path.name}: is in no event format that is known here ({known}); if it is in one of "
            "them, name it (--from)"
        )
    return found


def written_format(path: Path) -> str:
    """Name of the format that a path's suffix means when a file is written.

    Raises:
        UsageError: it means none.
    """
    suffix = path.suffix.lower()
    for name, kind in FORMATS.items():
        if suffix in kind.suffixes:
            return name
    known = ", ".join(s for kind in FORMATS.values() for s in kind.suffixes)
    raise UsageError(
        f"{path.name}: the suffix {suffix!r} means no event format, need one of {known}; or name "
        f"the format (--to {'|'.join(FORMATS)})"
    )


class EventWriter:
    """Takes the events of one file, in order, piece by piece; made by `create_events`.

    Attributes:
        count: events so far.
    """

    def __init__(self, path: Path, name: str, size_wh: Size, put: Callable[[Events], None]) -> None:
        self.count = 0
        self._path, self._name, self._size_wh, self._put = path, name, size_wh, put
        self._last_us: int | None = None

    def write(self, events: Events) -> None:
        """Writes events, in canonical order, none before the last of those already written.

        Raises:
            UsageError: another sensor size, an event outside the sensor, times out of order, or
                times that the format cannot hold.
        """
        if not len(events):
            return
        kind, where = FORMATS[self._name], self._path.name
        width, height = self._size_wh
        if events.size_wh != self._size_wh:
            raise UsageError(f"{where}: got events of {events.size_wh}, need {self._size_wh}")
        if int(events.x.max()) >= width or int(events.y.max()) >= height:
            raise UsageError(
                f"{where}: events reach x={events.x.max()}, y={events.y.max()}, need them inside "
                f"the sensor of {width}x{height}; correct size_wh"
            )
        first_us, last_us = int(events.t_us[0]), int(events.t_us[-1])
        before_us = first_us if self._last_us is None else self._last_us
        if first_us < before_us or bool((events.t_us[1:] < events.t_us[:-1]).any()):
            raise UsageError(
                f"{where}: times go back (after {before_us} us, in events {first_us} to {last_us} "
                "us); sort the events first (Events.canonical)"
            )
        if first_us < kind.first_us or last_us >= kind.end_us:
            raise UsageError(
                f"{where}: times {first_us} to {last_us} us, but {self._name} holds "
                f"{kind.first_us} to {kind.end_us - 1} us; make them relative (--origin first) or "
                "choose another format"
            )
        self._put(events)
        self._last_us = last_us
        self.count += len(events)


@contextmanager
def create_events(
    path: Path, *, size_wh: Size, format: str | None = None, t_offset_us: int = 0
) -> Iterator[EventWriter]:
    """Creates an event file; it appears at `path`, whole, when the block ends without an error.

    Args:
        path: the file.
        size_wh: width and height of the sensor.
        format: name of the format; None takes it from the suffix.
        t_offset_us: what to add to the events' times to get the camera's own clock.

    Raises:
        UsageError: an unknown format, or one that cannot hold this size or an offset.
        MissingDependency: the format needs a package that is not installed.
    """
    name = format or written_format(path)
    kind = _named(name)
    width, height = size_wh
    if min(size_wh) < 1 or max(size_wh) > kind.max_side:
        raise UsageError(
            f"{path.name}: a sensor of {width}x{height} does not fit into {name}, need 1 to "
            f"{kind.max_side} pixels each way; choose another format"
        )
    if kind.sizes and size_wh not in kind.sizes:
        known = ", ".join(f"{w}x{h}" for w, h in kind.sizes)
        raise UsageError(
            f"{path.name}: {name} exists for sensors of {known}, got {width}x{height}; choose "
            "another format"
        )
    if t_offset_us and not kind.holds_offset:
        raise UsageError(
            f"{path.name}: {name} cannot hold a clock offset, got {t_offset_us} us; add it to the "
            "times (--origin absolute) or leave it out (--origin first)"
        )
    with atomic(path) as temporary, kind.create(temporary, size_wh, t_offset_us) as put:
        yield EventWriter(path, name, size_wh, put)


def write_events(
    path: Path,
    events: Events | Iterable[Events],
    *,
    size_wh: Size | None = None,
    format: str | None = None,
    t_offset_us: int = 0,
) -> int:
    """Writes events, or pieces of them in order, to a file; returns how many they are.

    Args:
        path: the file.
        events: in canonical order.
        size_wh: width and height of the sensor; needed with pieces.
        format: name of the format; None takes it from the suffix.
        t_offset_us: what to add to the events' times to get the camera's own clock.

    Raises:
        UsageError: the size is missing, or as `create_events` and `EventWriter.write`.
        MissingDependency: the format needs a package that is not installed.
    """
    if isinstance(events, Events):
        size_wh, events = size_wh or events.size_wh, [events]
    if size_wh is None:
        raise UsageError(f"{path.name}: give size_wh, the width and height of the sensor")
    with create_events(path, size_wh=size_wh, format=format, t_offset_us=t_offset_us) as writer:
        for piece in events:
            writer.write(piece)
    return writer.count


def _named(name: str) -> EventFormat:
    if name not in FORMATS:
        raise UsageError(f"no event format is called {name!r}; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def _recognised(path: Path, head: bytes) -> str | None:
    """Name of the format that a file's first bytes and layout show."""
    if head.startswith(b"\x89HDF\r\n"):
        return hdf5_layout(path)
    if head.startswith(b"\x93NUMPY"):
        return "eventgpt" if is_pickled(path) else "tonic"
    if head.startswith(b"#!AER-DAT"):
        return {b"2": "aedat2", b"4": "aedat4"}.get(head[9:10])
    if head.startswith(b"% "):
        found = prophesee_format(path)
        return found if found in FORMATS else None
    is_text = head[:1] in b"#-+.0123456789" and head.isascii() and b"\0" not in head
    return "text" if head and is_text else None
