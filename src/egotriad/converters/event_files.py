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
from contextlib import contextmanager
from pathlib import Path

from egotriad.converters.event_files_fields import Size
from egotriad.converters.event_files_formats import (
    FORMATS,
    EventFormat,
    event_format,
    format_named,
    written_format,
)
from egotriad.converters.event_files_stream import EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError
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
    return format_named(format or event_format(path)).open(path, size_wh)


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
    kind = format_named(name)
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
            "times (--origin absolute) or leave it out (--origin file)"
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
