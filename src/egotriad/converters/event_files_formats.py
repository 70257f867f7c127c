"""The table of event file formats, and how a file's own is found."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from egotriad.converters.event_files_aedat2 import AEDAT2_SIZES, create_aedat2, open_aedat2
from egotriad.converters.event_files_aedat4 import create_aedat4, open_aedat4
from egotriad.converters.event_files_evt import EVT2_LOOP_US
from egotriad.converters.event_files_fields import Size, opened
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
from egotriad.converters.event_files_stream import EventReader
from egotriad.converters.event_files_text import create_text, open_text
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = ["FORMATS", "EventFormat", "event_format", "format_named", "written_format"]


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


def format_named(name: str) -> EventFormat:
    """The format of that name.

    Raises:
        UsageError: there is none.
    """
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
