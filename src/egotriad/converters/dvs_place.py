"""Compiled second pass of the event emulator: gives every event its time and brings all in order.

The first pass lists "hits", pixels that fire in a frame interval, in row-major order within each
frame. Here their number is known, so every event is written once, at its place in the canonical
order (t, y, x, p). The intervals of successive frames share no microsecond: sorting each frame
sorts the stream.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import types
from numpy.typing import NDArray

from egotriad.converters.compiled import Float, Int, compiled
from egotriad.converters.simd import vectorised
from egotriad.converters.simd_lanes import Lanes, Memory, select

__all__ = [
    "ADDRESS",
    "EVENTS",
    "FIRST",
    "MAX_INTERVAL_US",
    "MAX_SIDE",
    "STEP",
    "Columns",
    "Hits",
    "more_hits",
    "no_hits",
    "place",
]

# While a frame is sorted, one int64 holds time offset (31 bits) | y (15) | x (15) | p (1).
MAX_SIDE, MAX_INTERVAL_US = 1 << 15, (1 << 31) - 1
_ADDRESS_BITS = 31
_SIDE = MAX_SIDE - 1
_TOGETHER = 8  # events of a pixel whose keys are made at once

Hits: TypeAlias = NDArray[np.int32]
"""Pixels that fire, (n, 4), row-major within each frame and block of pixels; the last two columns
hold the bits of float32."""

ADDRESS = 0
"""Column of `Hits`: y << 16 | x << 1 | p."""
EVENTS = 1
"""Column of `Hits`: how many events."""
FIRST = 2
"""Column of `Hits`: fraction of the frame interval at which the first event lies."""
STEP = 3
"""Column of `Hits`: fraction of the frame interval between successive events."""


class Columns(NamedTuple):
    """Events, one array per field, each (N,)."""

    t_us: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]


def no_hits() -> Hits:
    """Space for no hits."""
    return np.empty((0, 4), np.int32)


@compiled
def more_hits(hits: Hits, used: Int, room: Int) -> Hits:
    """A copy of those used with place for `room` more, and at least twice the place there was."""
    grown = np.empty((max(used + room, 2 * hits.shape[0]), 4), np.int32)
    grown[:used] = hits[:used]
    return grown


@compiled
def place(
    hits: Hits, ends: NDArray[np.int64], times_us: NDArray[np.float64], slots: bool, once: bool
) -> Columns:
    """All events of all hits, in canonical order.

    An event's time is rounded to the nearest microsecond within its frame interval, which begins
    one microsecond after the (rounded) time of the earlier frame and ends at that of the later.

    Args:
        hits: from a scan.
        ends: (blocks, n) where the hits of each block of pixels in each frame end; all frames of a
            block come before the next block.
        times_us: (n + 1,) start of the first interval, then the time of each frame.
        slots: give a pixel's event i the time of slot i of as many slots as the frame's busiest
            pixel has events, instead of its own.
        once: no pixel has two entries in a frame; else those of a pixel follow each other.
    """
    blocks, n = ends.shape
    counts, busiest = _counted(hits, ends, slots, once)
    total = counts.sum()
    t_us, p = np.empty(total, np.int64), np.empty(total, np.bool_)
    x, y = np.empty(total, np.uint16), np.empty(total, np.uint16)
    room = counts.max() + _TOGETHER if n else 0
    keys, spare = np.empty(room, np.int64), np.empty(room, np.int64)
    starts = np.zeros(blocks, np.int64)
    starts[1:] = ends[: blocks - 1, n - 1]
    done = 0
    for k in range(n):
        count = counts[k]
        here = slice(done, done + count)
        events = Columns(t_us[here], x[here], y[here], p[here])
        first_us = int(np.floor(times_us[k] + 0.5)) + 1
        last_us = int(np.floor(times_us[k + 1] + 0.5)) - first_us
        lead_us, interval_us = times_us[k] - first_us + 0.5, times_us[k + 1] - times_us[k]
        if slots and once and busiest[k] <= interval_us:
            slot_us = interval_us / busiest[k]
            _write_slots(
                hits, starts, ends[:, k], events, keys, first_us, lead_us, slot_us, last_us
            )
        else:
            if slots:
                slot_us = interval_us / busiest[k]
                _slot_keys(hits, starts, ends[:, k], keys, lead_us, slot_us, last_us)
            else:
                _crossing_keys(hits, starts, ends[:, k], keys, lead_us, interval_us, last_us)
            ordered = _sorted_keys(keys, spare, count, last_us)
            if not once:
                _mend_order(ordered[:count])
            _unpack(ordered, events, first_us)
        starts[:] = ends[:, k]
        done += count
    return Columns(t_us, x, y, p)


@compiled
def _counted(
    hits: Hits, ends: NDArray[np.int64], slots: bool, once: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Events of each frame and, for slots, of its busiest pixel."""
    blocks, n = ends.shape
    counts, busiest = np.zeros(n, np.int64), np.ones(n, np.int64)
    begin = 0
    for block in range(blocks):
        for k in range(n):
            events = hits[begin : ends[block, k], EVENTS]
            for h in range(events.size):
                counts[k] += events[h]
            if slots:
                address = hits[begin : ends[block, k], ADDRESS]
                busiest[k] = max(busiest[k], _most(address, events, once))
            begin = ends[block, k]
    return counts, busiest


@compiled
def _most(address: NDArray[np.int32], events: NDArray[np.int32], once: bool) -> Int:
    """Events of the busiest pixel."""
    most: Int = np.int32(0)
    before, in_pixel = np.int32(-1), np.int32(0)
    for h in range(events.size):
        again = not once and address[h] >> 1 == before
        in_pixel = events[h] + (in_pixel if again else np.int32(0))
        before = address[h] >> 1
        most = max(most, in_pixel)
    return most


@compiled
def _write_slots(
    hits: Hits,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    events: Columns,
    rest: NDArray[np.int64],
    first_us: Int,
    lead_us: Float,
    slot_us: Float,
    last_us: Int,
) -> None:
    """One frame's events, slot after slot: no two slots share a microsecond, so this is in order.

    `rest` is space for the pixels that have events left, as events << 31 | address.
    """
    done, left = 0, 0
    t_us = first_us + min(max(np.int64(lead_us + slot_us), 0), last_us)
    for block in range(starts.size):
        here = hits[starts[block] : ends[block]]
        size = here.shape[0]
        t, p = events.t_us[done : done + size], events.p[done : done + size]
        x, y = events.x[done : done + size], events.y[done : done + size]
        for h in range(size):
            address = here[h, ADDRESS]
            t[h], p[h] = t_us, address & 1
            x[h], y[h] = (address >> 1) & _SIDE, address >> 16
        for h in range(size):
            rest[left] = np.int64(here[h, EVENTS] - 1) << _ADDRESS_BITS | np.int64(here[h, ADDRESS])
            left += here[h, EVENTS] > 1
        done += size
    slot = 1
    while left:
        slot += 1
        t_us = first_us + min(max(np.int64(lead_us + slot * slot_us), 0), last_us)
        kept = 0
        t, p = events.t_us[done : done + left], events.p[done : done + left]
        x, y = events.x[done : done + left], events.y[done : done + left]
        for h in range(left):
            t[h], p[h] = t_us, rest[h] & 1
            x[h], y[h] = (rest[h] >> 1) & _SIDE, (rest[h] >> 16) & _SIDE
        for h in range(left):
            key = rest[h] - (np.int64(1) << _ADDRESS_BITS)
            rest[kept] = key
            kept += key >> _ADDRESS_BITS > 0
        done += left
        left = kept


@compiled
def _crossing_keys(
    hits: Hits,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    keys: NDArray[np.int64],
    lead_us: Float,
    interval_us: Float,
    last_us: Int,
) -> None:
    """Sort keys of one frame's events: microseconds after its first one, then the address."""
    done, values = 0, hits.view(np.float32)
    for block in range(starts.size):
        for h in range(starts[block], ends[block]):
            begin_us, step_us = values[h, FIRST] * interval_us, values[h, STEP] * interval_us
            events = hits[h, EVENTS]
            for i in range(0, events, _TOGETHER):
                _put_keys(keys, done + i, lead_us + begin_us, step_us, i, last_us, hits[h, ADDRESS])
            done += events


@vectorised(types.void, width=_TOGETHER)
def _put_keys(
    keys: Memory,
    at: Any,
    begin_us: Lanes,
    step_us: Lanes,
    event: Any,
    last_us: Any,
    address: Any,
) -> None:
    """The keys of eight events of a pixel, of which the first is number `event`."""
    builder = begin_us.builder
    number = Lanes(builder, event, _TOGETHER) + Lanes.counting(builder, _TOGETHER).to("int64")
    exact_us = begin_us + number.to("float64") * step_us
    exact_us = select(number.equals(0), begin_us, exact_us)  # a step may be infinite
    latest_us = Lanes(builder, last_us, _TOGETHER).to("float64")
    exact_us = select(exact_us > 0, exact_us, exact_us.of(0))
    offset_us = select(exact_us < latest_us, exact_us, latest_us).to("int32").to("int64")
    pixel = Lanes(builder, address, _TOGETHER).to("int64")
    keys.store(at, offset_us << _ADDRESS_BITS | pixel)


@compiled
def _slot_keys(
    hits: Hits,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    keys: NDArray[np.int64],
    lead_us: Float,
    slot_us: Float,
    last_us: Int,
) -> None:
    """As `_crossing_keys`, with the times of slots."""
    done = 0
    for block in range(starts.size):
        before, in_pixel = np.int32(-1), 0
        for h in range(starts[block], ends[block]):
            address = hits[h, ADDRESS]
            in_pixel = in_pixel if address >> 1 == before else 0
            before = address >> 1
            for _ in range(hits[h, EVENTS]):
                in_pixel += 1
                offset_us = min(max(np.int64(lead_us + in_pixel * slot_us), 0), last_us)
                keys[done] = offset_us << _ADDRESS_BITS | np.int64(address)
                done += 1


@compiled
def _sorted_keys(
    keys: NDArray[np.int64], spare: NDArray[np.int64], count: int, last_us: Int
) -> NDArray[np.int64]:
    """The first `count` keys stably sorted by time, in `keys` or in `spare`.

    A radix sort, least significant digit first, with digits of about as many values as there are
    keys. What comes in by address and is sorted by time is in canonical order.
    """
    bits = 1
    while last_us >> bits:
        bits += 1
    passes = 1
    while 1 << (bits + passes - 1) // passes > max(4 * count, 256):
        passes += 1
    digit_bits = (bits + passes - 1) // passes
    place_of = np.empty(1 << digit_bits, np.int32)
    for k in range(passes):
        _radix_pass(keys[:count], spare, _ADDRESS_BITS + k * digit_bits, place_of)
        keys, spare = spare, keys
    return keys


@compiled
def _radix_pass(
    keys: NDArray[np.int64], out: NDArray[np.int64], shift: int, place_of: NDArray[np.int32]
) -> None:
    mask = np.uint64(place_of.size - 1)
    place_of[:] = 0
    for key in keys:
        place_of[np.uint64(key >> shift) & mask] += 1
    position = 0
    for digit in range(place_of.size):
        here = place_of[digit]
        place_of[digit] = position
        position += here
    for key in keys:
        where = np.uint64(key >> shift) & mask
        out[np.uint64(place_of[where])] = key
        place_of[where] += 1


@compiled
def _mend_order(keys: NDArray[np.int64]) -> None:
    """Sorts keys that are out of order by little: ON before OFF of a pixel in one microsecond."""
    for i in range(1, keys.size):
        key = keys[i]
        if keys[i - 1] > key:
            j = i
            while j > 0 and keys[j - 1] > key:
                keys[j] = keys[j - 1]
                j -= 1
            keys[j] = key


@compiled
def _unpack(keys: NDArray[np.int64], events: Columns, first_us: Int) -> None:
    for i in range(events.p.size):
        events.t_us[i] = first_us + (keys[i] >> _ADDRESS_BITS)
        events.y[i] = (keys[i] >> 16) & _SIDE
        events.x[i] = (keys[i] >> 1) & _SIDE
        events.p[i] = keys[i] & 1
