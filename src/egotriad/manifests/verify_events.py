"""Rows of the `events` table: order, bounds, index and spans, and that they are the windows' own.

NumPy passes over blocks that stay in the cache: a few nanoseconds an event, well below decoding.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests.events import Span
from egotriad.manifests.rows import ms_to_idx
from egotriad.manifests.verify_findings import Finding, Place
from egotriad.manifests.verify_windows import same_float32, spans_of

__all__ = ["check_events", "check_pairs", "first_disorder"]

ARRAYS = ("ev_t", "ev_x", "ev_y", "ev_p", "ev_ms_to_idx")
SHARED = ("window_id", "t_start_us", "duration_us", "sim_id", "event_spans")
BLOCK = 1 << 16


def check_pairs(
    events: pq.ParquetFile, windows: Sequence[dict[str, Any]], place: Place
) -> Iterator[Finding]:
    """Rows of an events file that are not those of the windows file of the same name.

    Args:
        events: opened, with the right schema.
        windows: rows of the windows file that have events, in order.
        place: the events file.
    """
    table = events.read(columns=list(SHARED), use_threads=False)
    yield from place.unequal("pairs", rows=(table.num_rows, len(windows)))
    for number, (row, window) in enumerate(zip(table.to_pylist(), windows, strict=False)):
        here = place.at(row=number, row_group=number, where=window["window_id"])
        yield from here.unequal("pairs", **{name: (row[name], window[name]) for name in SHARED})


def check_events(
    file: pq.ParquetFile,
    place: Place,
    windows: Sequence[dict[str, Any]] | None,
    windows_place: Place,
) -> Iterator[Finding]:
    """Faults of every row of an `events` file.

    Args:
        file: opened, with the right schema, one row in a row group.
        place: the file.
        windows: rows of the windows file to compare counts with, None when they are not known.
        windows_place: the windows file.
    """
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        row = table.drop_columns(list(ARRAYS)).to_pylist()[0]
        arrays = {name: _array(table, name) for name in ARRAYS}
        here = place.at(row=group, row_group=group, where=row["window_id"])
        faults = list(_lengths(arrays, here)) or list(_bounds(row, arrays, here))
        yield from faults
        if faults:
            continue  # order and index of such events mean nothing
        yield from _order(row, arrays, here)
        if windows is not None and group < len(windows):
            stated = windows_place.at(row=group, where=row["window_id"])
            yield from _counts(windows[group], arrays["ev_p"], stated)


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    values = table.column(name).combine_chunks().flatten()
    return values.to_numpy(zero_copy_only=False)


def _lengths(arrays: dict[str, NDArray[Any]], place: Place) -> Iterator[Finding]:
    count = len(arrays["ev_t"])
    for name in ("ev_x", "ev_y", "ev_p"):
        length = len(arrays[name])
        yield from place.unequal("count", **{name: (f"{length} values", f"{count} values")})


def _bounds(
    row: dict[str, Any], arrays: dict[str, NDArray[Any]], place: Place
) -> Iterator[Finding]:
    limits = {
        "ev_t": row["duration_us"],
        "ev_x": row["sensor_width"],
        "ev_y": row["sensor_height"],
    }
    for name, limit in limits.items():
        values = arrays[name]
        low = values.dtype.kind == "i" and len(values) and values.min() < 0
        if low or (len(values) and values.max() >= limit):
            first = int(np.argmax((values < 0) | (values >= limit)))
            need = f"0 <= {name} < {limit}"
            yield place.finding("bounds", values[first], need, column=f"{name}[{first}]")


def _order(row: dict[str, Any], arrays: dict[str, NDArray[Any]], place: Place) -> Iterator[Finding]:
    columns = [arrays[name] for name in ("ev_t", "ev_y", "ev_x", "ev_p")]
    wrong = first_disorder(*columns)
    if wrong is not None:
        before, after = (tuple(int(c[k]) for c in columns) for k in (wrong - 1, wrong))
        need = "(t, y, x, p) in order"
        yield place.finding("order", f"{before} before {after}", need, column=f"event {wrong}")
        return  # index and spans are searched for in ordered times
    t = arrays["ev_t"]
    index, due = arrays["ev_ms_to_idx"], ms_to_idx(t, row["duration_us"])
    if not np.array_equal(index, due):
        got = f"{len(index)} entries"
        if len(index) == len(due):
            first = int(np.argmax(index != due))
            got, need = f"{index[first]} at {first} ms", str(due[first])
        else:
            need = f"{len(due)} entries"
        yield place.finding("index", got, need, column="ev_ms_to_idx")
    outside = len(t) - _inside(t, spans_of(row))
    if outside:
        yield place.finding("event-spans", f"{outside} events outside them", "0", column="ev_t")


def first_disorder(
    t_us: NDArray[np.int32],
    y: NDArray[np.uint16],
    x: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> int | None:
    """Index of the first event that belongs before its predecessor by (t, y, x, p), or None."""
    for start in range(0, len(t_us) - 1, BLOCK):
        part = slice(start, start + BLOCK + 1)
        t, on = t_us[part], p[part]
        address = y[part].astype(np.uint32)
        address <<= np.uint32(16)
        address |= x[part]
        wrong = address[1:] < address[:-1]
        wrong |= (address[1:] == address[:-1]) & (on[1:] < on[:-1])
        wrong &= t[1:] == t[:-1]
        wrong |= t[1:] < t[:-1]
        if wrong.any():
            return start + int(np.argmax(wrong)) + 1
    return None


def _inside(t_us: NDArray[np.int32], spans: Sequence[Span]) -> int:
    """Events in at least one span; times and spans in order."""
    count, reached = 0, 0
    for span in spans:
        edges = np.clip([max(span.start_us, reached), span.end_us], 0, np.iinfo(t_us.dtype).max)
        lo, hi = np.searchsorted(t_us, edges.astype(t_us.dtype))
        count += max(0, int(hi - lo))
        reached = max(reached, span.end_us)
    return count


def _counts(window: dict[str, Any], p: NDArray[np.bool_], place: Place) -> Iterator[Finding]:
    yield from place.unequal("count", num_events=(window["num_events"], len(p)))
    on = np.count_nonzero(p) / len(p) if len(p) else None
    if not same_float32(window["event_on_fraction"], on):
        yield place.finding("count", window["event_on_fraction"], on, column="event_on_fraction")
