"""Compiled second pass of the event emulator: gives every event its time and brings all in order.

The first pass lists "hits", pixels that fire in a frame interval, in row-major order within each
frame. Here their number is known, so every event is written once, at its place in the canonical
order (t, y, x, p). The intervals of successive frames share no microsecond: sorting each frame
sorts the stream.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import Float, Int, compiled

__all__ = ["MAX_INTERVAL_US", "MAX_SIDE", "Columns", "Hits", "more_hits", "no_hits", "place"]

# While a frame is sorted, one int64 holds time offset (31 bits) | y (15) | x (15) | p (1).
MAX_SIDE, MAX_INTERVAL_US = 1 << 15, (1 << 31) - 1
_ADDRESS_BITS = 31
_SIDE = MAX_SIDE - 1


class Hits(NamedTuple):
    """Pixels that fire, row-major within each frame and block of pixels.

    Attributes:
        address: int32, y << 16 | x << 1 | p.
        events: int32, how many.
        first: float32, fraction of the frame interval at which the first event lies.
        step: float32, fraction of the frame interval between successive events.
    """

    address: NDArray[np.int32]
    events: NDArray[np.int32]
    first: NDArray[np.float32]
    step: NDArray[np.float32]


class Columns(NamedTuple):
    """Events, one array per field, each (N,)."""

    t_us: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.bool_]


def no_hits() -> Hits:
    """Space for no hits."""
    return Hits(*(np.empty(0, dtype) for dtype in "iiff"))


@compiled
def more_hits(hits: Hits, used: int, room: int) -> Hits:
    """A copy with place for at least `room` more, and twice what there was."""
    capacity = max(used + room, 2 * used)
    grown = Hits(
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.float32),
        np.empty(capacity, np.float32),
    )
    grown.address[:used] = hits.address[:used]
    grown.events[:used] = hits.events[:used]
    grown.first[:used] = hits.first[:used]
    grown.step[:used] = hits.step[:used]
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
    total = hits.events[: ends[-1, -1]].sum() if n else 0
    t_us, p = np.empty(total, np.int64), np.empty(total, np.bool_)
    x, y = np.empty(total, np.uint16), np.empty(total, np.uint16)
    keys, spare = np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.zeros(blocks, np.int64)
    starts[1:] = ends[: blocks - 1, n - 1]
    done = 0
    for k in range(n):
        count, busiest = _counted(hits, starts, ends[:, k], once)
        if keys.size < count + 1:
            keys, spare = np.empty(2 * count + 1, np.int64), np.empty(2 * count + 1, np.int64)
        here = slice(done, done + count)
        events = Columns(t_us[here], x[here], y[here], p[here])
        first_us = int(np.floor(times_us[k] + 0.5)) + 1
        last_us = int(np.floor(times_us[k + 1] + 0.5)) - first_us
        lead_us, interval_us = times_us[k] - first_us + 0.5, times_us[k + 1] - times_us[k]
        if slots and once and busiest <= interval_us:
            slot_us = interval_us / busiest
            _write_slots(
                hits, starts, ends[:, k], events, keys, first_us, lead_us, slot_us, last_us
            )
        else:
            if slots:
                slot_us = interval_us / busiest
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
    hits: Hits, starts: NDArray[np.int64], ends: NDArray[np.int64], once: bool
) -> tuple[Int, Int]:
    """Events of one frame and events of its busiest pixel."""
    count: Int = 0
    busiest: Int = np.int32(1)
    for block in range(starts.size):
        events = hits.events[starts[block] : ends[block]]
        address = hits.address[starts[block] : ends[block]]
        if once:
            for h in range(events.size):
                busiest = max(busiest, events[h])
                count += events[h]
        else:
            before, in_pixel = np.int32(-1), np.int32(0)
            for h in range(events.size):
                in_pixel = (in_pixel if address[h] >> 1 == before else np.int32(0)) + events[h]
                before = address[h] >> 1
                busiest = max(busiest, in_pixel)
                count += events[h]
    return count, busiest


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
        address = hits.address[starts[block] : ends[block]]
        number = hits.events[starts[block] : ends[block]]
        t, p = events.t_us[done : done + address.size], events.p[done : done + address.size]
        x, y = events.x[done : done + address.size], events.y[done : done + address.size]
        for h in range(address.size):
            t[h], p[h] = t_us, address[h] & 1
            x[h], y[h] = (address[h] >> 1) & _SIDE, address[h] >> 16
        for h in range(address.size):
            rest[left] = np.int64(number[h] - 1) << _ADDRESS_BITS | np.int64(address[h])
            left += number[h] > 1
        done += address.size
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
    done = 0
    for block in range(starts.size):
        here = slice(starts[block], ends[block])
        address, events = hits.address[here], hits.events[here]
        first, step = hits.first[here], hits.step[here]
        for h in range(address.size):
            begin_us, step_us = lead_us + first[h] * interval_us, step[h] * interval_us
            # Most pixels have one event or two: both are written without asking, and what is one
            # too many is overwritten.
            keys[done] = _key(begin_us, last_us, address[h])
            keys[done + 1] = _key(begin_us + step_us, last_us, address[h])
            for i in range(2, events[h]):
                keys[done + i] = _key(begin_us + i * step_us, last_us, address[h])
            done += events[h]


@compiled
def _key(exact_us: Float, last_us: Int, address: Int) -> Int:
    offset_us = min(max(np.int64(exact_us), 0), last_us)
    return offset_us << _ADDRESS_BITS | np.int64(address)


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
            address = hits.address[h]
            in_pixel = in_pixel if address >> 1 == before else 0
            before = address >> 1
            for _ in range(hits.events[h]):
                in_pixel += 1
                keys[done] = _key(lead_us + in_pixel * slot_us, last_us, address)
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
