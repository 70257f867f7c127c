"""Event files of HDF5: DSEC's layout and v2e's.

`dsec`    `events/{p,x,y,t}`, `ms_to_idx`, optional `t_offset` (uzh-rpg/DSEC,
          `scripts/utils/eventslicer.py`): t counts microseconds from t_offset, and ms_to_idx[ms] is
          the first event at or after that millisecond. Compressed with blosc (hdf5plugin). DSEC
          leaves the sensor's size out; we add it as attributes `width`, `height` of `events`, and a
          checksum to every block. Written t is int64 (DSEC's uint32 ends after 71 minutes).
`v2e-h5`  `events` uint32 (N, 4), rows t (us), x, y, p (SensorsINI/v2e, `v2ecore/emulator.py`). Its
          clock wraps after 71 minutes and its -1 for OFF became 4294967295; both are undone. We
          add `width`, `height` as attributes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.event_files_fields import (
    BLOCK_EVENTS,
    Size,
    WrappingClock,
    polarity,
    sensor_size,
)
from egotriad.converters.event_files_stream import Block, EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import MissingDependency, RecordingError

__all__ = ["create_dsec", "create_v2e_h5", "hdf5_layout", "open_dsec", "open_v2e_h5"]

STORED_EVENTS = 1 << 16
"""Events in one compressed block of a file."""

CHECKED = ("v110", "v110")
"""Versions of HDF5's own structures: the first with checksums, of 2016."""

INDEX_STEP = 1 << 20
"""Milliseconds added to the index at once; a gap of days must not take memory."""


def hdf5_layout(path: Path) -> str | None:
    """`dsec` or `v2e-h5`, whichever layout an HDF5 file has, None for neither."""
    with _opened(path) as file:
        events = file.get("events")
        if events is None:
            return None
        return "v2e-h5" if hasattr(events, "dtype") else "dsec"


def open_dsec(path: Path, size_wh: Size | None) -> EventReader:
    """A DSEC file; a span is found by its index.

    Raises:
        RecordingError: not HDF5, cut off, or not in DSEC's layout.
        UsageError: the size is neither stored nor given.
        MissingDependency: h5py or hdf5plugin is not installed.
    """
    with _opened(path) as file:
        events = file.get("events")
        columns = {name: events.get(name) for name in "txyp"} if hasattr(events, "get") else {}
        shapes = {getattr(column, "shape", ()) for column in columns.values()}
        one_length = len(shapes) == 1 and len(next(iter(shapes))) == 1
        if not one_length or any(column.dtype.kind not in "iub" for column in columns.values()):
            raise RecordingError(
                f"{path.name}: need datasets of whole numbers and one length, events/t "
                f"(microseconds), events/x, events/y and events/p, got {sorted(file)}"
            )
        total = len(columns["t"])
        t_offset_us = int(file["t_offset"][()]) if "t_offset" in file else 0
        stored_size = _stored_size(events)

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        with _opened(path) as file:
            events, index = file["events"], file.get("ms_to_idx")
            start = 0 if start_us is None else _first_from(path, events["t"], index, start_us)
            end = (
                total if end_us is None else _first_from(path, events["t"], index, end_us, up=True)
            )
            for k in range(start, end, BLOCK_EVENTS):
                part = slice(k, min(k + BLOCK_EVENTS, end))
                yield Block(
                    events["t"][part].astype(np.int64),
                    events["x"][part],
                    events["y"][part],
                    polarity(events["p"][part], path, k),
                    k,
                    part.stop,
                )

    return EventReader(
        path=path,
        format="dsec",
        size_wh=sensor_size(path, stored_size, size_wh),
        t_offset_us=t_offset_us,
        blocks=blocks,
        total=total,
        unit="events",
    )


@contextmanager
def create_dsec(path: Path, size_wh: Size, t_offset_us: int) -> Iterator[Callable[[Events], None]]:
    """Writes a DSEC file, its index growing with the events.

    Raises:
        MissingDependency: h5py or hdf5plugin is not installed.
    """
    h5py, hdf5plugin = _libraries()
    blosc = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE)
    with h5py.File(path, "w", libver=CHECKED) as file:
        events = file.create_group("events")
        events.attrs["width"], events.attrs["height"] = size_wh
        file.create_dataset("t_offset", data=np.int64(t_offset_us))
        types = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
        columns = {
            name: _column(events, name, (), dtype, fletcher32=True, **blosc)
            for name, dtype in types.items()
        }
        index = _column(file, "ms_to_idx", (), np.uint64, fletcher32=True, **blosc)

        def put(chunk: Events) -> None:
            if not len(chunk):
                return
            before, last_ms = len(columns["t"]), int(chunk.t_us[-1]) // 1000
            for first_ms in range(len(index), last_ms + 1, INDEX_STEP):
                ms = np.arange(first_ms, min(first_ms + INDEX_STEP, last_ms + 1))
                _append(index, before + np.searchsorted(chunk.t_us, ms * 1000, side="left"))
            fields: tuple[NDArray[Any], ...] = (chunk.t_us, chunk.x, chunk.y, chunk.p)
            for name, values in zip("txyp", fields, strict=True):
                _append(columns[name], values)

        yield put


def open_v2e_h5(path: Path, size_wh: Size | None) -> EventReader:
    """A v2e file.

    Raises:
        RecordingError: not HDF5, cut off, or not in v2e's layout.
        UsageError: the size is neither stored nor given.
        MissingDependency: h5py is not installed.
    """
    with _opened(path) as file:
        events = file.get("events")
        shape: tuple[int, ...] = getattr(events, "shape", ())
        if len(shape) != 2 or shape[1] != 4 or events.dtype.kind not in "iu":
            raise RecordingError(
                f"{path.name}: need a dataset events of whole numbers (N, 4), got {sorted(file)}"
            )
        total = shape[0]
        stored_size = _stored_size(events)

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        with _opened(path) as file:
            clock = WrappingClock(32)
            for k in range(0, total, BLOCK_EVENTS):
                rows = file["events"][k : k + BLOCK_EVENTS]
                t_us = clock(rows[:, 0].astype(np.int64))
                on = polarity(rows[:, 3], path, k)
                yield Block(t_us, rows[:, 1], rows[:, 2], on, k, k + len(rows))

    return EventReader(
        path=path,
        format="v2e-h5",
        size_wh=sensor_size(path, stored_size, size_wh),
        blocks=blocks,
        total=total,
        unit="events",
    )


@contextmanager
def create_v2e_h5(
    path: Path, size_wh: Size, t_offset_us: int
) -> Iterator[Callable[[Events], None]]:
    """Writes a v2e file, gzip 4 as v2e does, in larger blocks than v2e's 512 events.

    Raises:
        MissingDependency: h5py is not installed.
    """
    h5py, _ = _libraries()
    with h5py.File(path, "w", libver=CHECKED) as file:
        options = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        events = _column(file, "events", (4,), np.uint32, fletcher32=True, **options)
        events.attrs["width"], events.attrs["height"] = size_wh

        def put(chunk: Events) -> None:
            rows = np.empty((len(chunk), 4), np.uint32)
            rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = chunk.t_us, chunk.x, chunk.y, chunk.p
            _append(events, rows)

        yield put


def _libraries() -> tuple[Any, Any]:
    try:
        import h5py
        import hdf5plugin
    except ImportError as exc:
        raise MissingDependency(
            f"HDF5 event files need {exc.name}; pip install 'egotriad[events]'"
        ) from exc
    return h5py, hdf5plugin


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, open for reading, with the library's complaints in our words."""
    h5py, _ = _libraries()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as exc:
        raise RecordingError(
            f"{path.name}: cannot be read as HDF5 ({exc}); it is cut off, damaged or no HDF5 file, "
            "copy it again"
        ) from exc


def _stored_size(node: Any) -> Size | None:
    attributes = node.attrs
    if "width" in attributes and "height" in attributes:
        return int(attributes["width"]), int(attributes["height"])
    return None


def _column(group: Any, name: str, row: tuple[int, ...], dtype: type, **options: Any) -> Any:
    """An empty dataset that grows along its first axis."""
    return group.create_dataset(
        name,
        shape=(0, *row),
        maxshape=(None, *row),
        chunks=(STORED_EVENTS, *row),
        dtype=dtype,
        **options,
    )


def _append(dataset: Any, values: NDArray[Any]) -> None:
    before = len(dataset)
    dataset.resize(before + len(values), axis=0)
    dataset[before:] = values


def _first_from(path: Path, t: Any, index: Any, t_us: int, *, up: bool = False) -> int:
    """Number of the first event at or after a time, by the index where there is one.

    With `up` it may be later by what happens in one millisecond: the reader cuts exactly anyway.
    """
    if not len(t) or t_us <= 0:
        return 0
    ms = -(-t_us // 1000) if up else t_us // 1000
    if index is None or ms >= len(index):
        return _bisected(t, ms * 1000)
    found = int(index[ms])
    inside = found <= len(t)
    after = not inside or found == len(t) or int(t[found]) >= ms * 1000
    before = found == 0 or (inside and int(t[found - 1]) < ms * 1000)
    if not (inside and after and before):
        raise RecordingError(
            f"{path.name}: ms_to_idx[{ms}] is {found}, which is not the first event from {ms} ms "
            "on; the index is of other events, so write the file anew without a span"
        )
    return found


def _bisected(t: Any, t_us: int) -> int:
    low, high = 0, len(t)
    while low < high:
        middle = (low + high) // 2
        if int(t[middle]) < t_us:
            low = middle + 1
        else:
            high = middle
    return low
