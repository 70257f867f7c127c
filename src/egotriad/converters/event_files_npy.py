"""Event files of NumPy: Tonic's structured array and EventGPT's dictionary.

`tonic`   one-dimensional structured array, fields x, y int16, t int64 (us), p bool
          (neuromorphs/tonic, `tonic/io.py`). Files with other integer types, other orders of the
          fields and polarities -1/1 are read too.
`eventgpt` a zero-dimensional object array that holds a dict of one-dimensional arrays x, y, t, p
          (XduSyL/EventGPT, `common/common.py`), one window of less than 100 ms. It is a pickle,
          and is read and written as a whole, in memory.

Neither says the size of its sensor.
"""

import bisect
import io
import math
import pickle
import tokenize
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.event_files_fields import (
    BLOCK_EVENTS,
    Size,
    WrappingClock,
    opened,
    polarity,
    sensor_size,
)
from egotriad.converters.event_files_stream import Block, EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError
from egotriad.manifests.events import concatenate

__all__ = ["create_eventgpt", "create_tonic", "is_pickled", "open_eventgpt", "open_tonic"]

TONIC = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
COLUMNS = ("x", "y", "t", "p")

# A pickled array names these three and nothing else (numpy >= 2 and < 2 keep the first elsewhere).
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def open_tonic(path: Path, size_wh: Size | None) -> EventReader:
    """A Tonic structured array, mapped into memory, so that any span is found by bisection.

    Raises:
        RecordingError: no whole npy file, or no array of the fields x, y, t, p.
        UsageError: no size given.
    """
    events = _mapped(path)
    names = events.dtype.names or ()
    kinds = {name: events.dtype[name].kind for name in names}
    usable = set(COLUMNS) <= set(names) and all(kinds[name] in "iub" for name in COLUMNS)
    if events.ndim != 1 or not usable:
        raise RecordingError(
            f"{path.name}: holds an array {events.shape} of {events.dtype}, need one dimension "
            "with integer fields x, y, t (microseconds) and p"
        )
    total = len(events)
    del events

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        stored = _mapped(path)
        start, end = 0, len(stored)
        if start_us is not None:
            start = bisect.bisect_left(stored["t"], start_us, key=int)
        if end_us is not None:
            end = bisect.bisect_left(stored["t"], end_us, key=int)
        for index in range(start, end, BLOCK_EVENTS):
            part = stored[index : min(index + BLOCK_EVENTS, end)]
            yield Block(
                _times(part["t"], path),
                part["x"],
                part["y"],
                polarity(part["p"], path, index),
                index,
                index + len(part),
            )

    return EventReader(
        path=path,
        format="tonic",
        size_wh=sensor_size(path, None, size_wh),
        blocks=blocks,
        total=total,
        unit="events",
    )


@contextmanager
def create_tonic(path: Path, size_wh: Size, t_offset_us: int) -> Iterator[Callable[[Events], None]]:
    """Writes a Tonic structured array; its count is put in when it is known."""
    total = 0
    with path.open("wb") as file:
        header = _header(0)
        file.write(header)

        def put(events: Events) -> None:
            nonlocal total
            rows = np.empty(len(events), TONIC)
            rows["x"], rows["y"], rows["t"], rows["p"] = events.x, events.y, events.t_us, events.p
            file.write(rows.tobytes())
            total += len(events)

        yield put
        counted = _header(total)
        if len(counted) != len(header):
            raise RecordingError(
                f"{path.name}: this NumPy leaves no room for {total} events in a header; update it"
            )
        file.seek(0)
        file.write(counted)


def is_pickled(path: Path) -> bool:
    """Whether an npy file holds objects (a pickle) instead of plain numbers."""
    with opened(path) as file:
        return _read_header(file, path)[1].hasobject


def open_eventgpt(path: Path, size_wh: Size | None) -> EventReader:
    """An EventGPT window; nothing but arrays is ever unpickled.

    Times stored as uint16 wrap at 65,536 us. Steps back by half of that or more are taken for such
    wraps and undone; shorter ones are an error when the events are read.

    Raises:
        RecordingError: no whole npy file, a pickle of anything but a dict of the arrays x, y, t, p
            of one length, or other than integers in them.
        UsageError: no size given.
    """
    size_wh = sensor_size(path, None, size_wh)
    columns = _window(path)
    t_us = _times(columns["t"], path)
    if columns["t"].dtype == np.uint16:
        t_us = WrappingClock(16)(t_us)
    on = polarity(columns["p"], path, 0)

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        for index in range(0, len(t_us), BLOCK_EVENTS):
            part = slice(index, index + BLOCK_EVENTS)
            t_part = t_us[part]
            yield Block(
                t_part,
                columns["x"][part],
                columns["y"][part],
                on[part],
                index,
                index + len(t_part),
            )

    return EventReader(
        path=path,
        format="eventgpt",
        size_wh=size_wh,
        blocks=blocks,
        total=len(t_us),
        unit="events",
    )


@contextmanager
def create_eventgpt(
    path: Path, size_wh: Size, t_offset_us: int
) -> Iterator[Callable[[Events], None]]:
    """Writes one EventGPT window, times in int64 (uint16, as released, would wrap)."""
    parts: list[Events] = []
    yield parts.append
    events = concatenate(parts, size_wh)
    columns = {"x": events.x, "y": events.y, "t": events.t_us, "p": events.p.view(np.uint8)}
    with path.open("wb") as file:
        np.save(file, np.array(columns, dtype=object), allow_pickle=True)


def _mapped(path: Path) -> NDArray[Any]:
    """The array of a file of plain numbers, on disk."""
    with opened(path) as file:
        shape, dtype = _read_header(file, path)
        start = file.tell()
    size = path.stat().st_size - start
    need = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size != need:
        raise RecordingError(
            f"{path.name}: holds {size} bytes of {dtype}, need {need} of plain numbers; the file "
            "is cut off or damaged, copy it again"
        )
    if not need:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape)


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(file)
    # The header is a piece of Python, which NumPy parses.
    except (ValueError, TypeError, EOFError, KeyError, SyntaxError, tokenize.TokenError) as exc:
        raise RecordingError(
            f"{path.name}: its header cannot be read ({exc}); the file is cut off or damaged, or "
            "no npy file"
        ) from exc
    return shape, dtype


def _header(count: int) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(TONIC), "fortran_order": False}
    np.lib.format.write_array_header_1_0(buffer, fields | {"shape": (count,)})
    return buffer.getvalue()


def _times(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if values.dtype == np.uint64 and len(values) and values.max() >= 1 << 63:
        raise RecordingError(
            f"{path.name}: a time is {values.max()} us, need less than 2^63; the file is damaged"
        )
    return values.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays, dicts, lists, texts and numbers, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ADMITTED[module, name]


def _window(path: Path) -> dict[str, NDArray[Any]]:
    """The four columns, checked."""
    with opened(path) as file:
        _, dtype = _read_header(file, path)
        if not dtype.hasobject:
            raise RecordingError(
                f"{path.name}: holds plain {dtype}, need EventGPT's dict of arrays"
            )
        try:
            stored = _ArraysOnly(file, encoding="latin1").load()
        except Exception as exc:  # a pickle can fail in any way
            raise RecordingError(
                f"{path.name}: not a whole pickle of nothing but arrays ({exc}); copy it again, or "
                "ask for it in another format"
            ) from exc
    holder = stored.item() if isinstance(stored, np.ndarray) and stored.shape == () else stored
    columns = {name: holder.get(name) for name in COLUMNS} if isinstance(holder, dict) else {}
    arrays = {name: column for name, column in columns.items() if _is_usable(column)}
    if len(arrays) < len(COLUMNS) or len({len(column) for column in arrays.values()}) > 1:
        found = {
            name: f"{column.dtype} {column.shape}"
            if isinstance(column, np.ndarray)
            else type(column).__name__
            for name, column in columns.items()
        }
        raise RecordingError(
            f"{path.name}: need a dict of four one-dimensional integer arrays x, y, t, p of one "
            f"length, got {found or type(holder).__name__}"
        )
    return arrays


def _is_usable(column: object) -> TypeGuard[NDArray[Any]]:
    return isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "iub"
