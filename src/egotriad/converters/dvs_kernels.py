"""Compiled inner loops of the event emulator: find what fires in each frame, then place it in time.

Pass one (`scan_levels`, `scan_logs`) walks the frames and lists the pixels whose log intensity has
moved a threshold or more away from their memorised value ("hits"), in row-major order, and moves
that value. Pass two (`place`) knows the number of events, gives each its time and brings each
frame's events into canonical order (t, y, x, p) by a stable radix sort on time. The intervals of
successive frames share no microsecond, so the whole stream is in order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled

__all__ = [
    "LOOKUP_PER_LOG",
    "MAX_INTERVAL_US",
    "MAX_SIDE",
    "Bounds",
    "Hits",
    "Pixels",
    "Tables",
    "place",
    "scan_levels",
    "scan_logs",
    "start_bounds",
]

LOOKUP_PER_LOG = 512
"""Entries per natural-log unit of `Tables.level_of_log`."""

# While a frame is sorted, one int64 holds time offset (31 bits) | y (15) | x (15) | p (1).
MAX_SIDE, MAX_INTERVAL_US = 1 << 15, (1 << 31) - 1
_ADDRESS_BITS = 31
_RADIX_BITS = 12


class Pixels(NamedTuple):
    """State of the model: memorised log value and thresholds, each (H, W).

    All float32 for 8-bit input and float64 for log input, as in v2e: with 8-bit levels, differences
    tie with thresholds often enough that the precision decides a few per cent of the events.
    """

    base: NDArray[np.floating]
    pos: NDArray[np.floating]
    neg: NDArray[np.floating]


class Bounds(NamedTuple):
    """Lowest and highest level, uint8 (H, W), at which a pixel stays silent."""

    low: NDArray[np.uint8]
    high: NDArray[np.uint8]


class Tables(NamedTuple):
    """Log value of each level, float32 (257,), infinite after the last, and its rough inverse.

    `level_of_log`, uint8 (n,), holds at i the highest level of log i / LOOKUP_PER_LOG or less.
    """

    log_of_level: NDArray[np.float32]
    level_of_log: NDArray[np.uint8]


class Hits(NamedTuple):
    """Pixels that fire, one entry per pixel and frame.

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


@compiled
def start_bounds(pixels: Pixels, bounds: Bounds, tables: Tables) -> None:
    """Fills `bounds` for freshly memorised values."""
    for y in range(pixels.base.shape[0]):
        for x in range(pixels.base.shape[1]):
            _set_bounds(pixels, bounds, tables, y, x)


@compiled
def scan_levels(
    frames: NDArray[np.uint8],
    previous: NDArray[np.uint8],
    pixels: Pixels,
    bounds: Bounds,
    tables: Tables,
    hits: Hits,
) -> tuple[Hits, NDArray[np.int64]]:
    """Hits of 8-bit frames (n, H, W) after the frame `previous`; moves `pixels` and `bounds`.

    A pixel's bounds hold exactly the levels that make its log difference reach no threshold (the
    table is monotone), so the scan of silent pixels is three bytes and two compares per pixel.

    Args:
        frames: uint8 (n, H, W); n may be zero.
        previous: uint8 (H, W).
        pixels: state, changed in place.
        bounds: state, changed in place.
        tables: of the lin-log curve.
        hits: space to use; what it held is overwritten.

    Returns:
        The hits (in `hits`, or in larger arrays when it is full) and, int64 (n,), where each
        frame's hits end.
    """
    n, height, width = frames.shape
    used = 0
    ends = np.empty(n, np.int64)
    mask = np.zeros((width + 7) // 8 * 8, np.bool_)
    words = mask.view(np.int64)
    loud = np.empty(width + 8, np.int64)
    for k in range(n):
        before = frames[k - 1] if k else previous
        for y in range(height):
            if used + width > hits.events.size:
                hits = _more_hits(hits, used, width)
            row, low, high = frames[k, y], bounds.low[y], bounds.high[y]
            for x in range(width):
                mask[x] = (row[x] < low[x]) | (row[x] > high[x])
            found = 0  # silent pixels are skipped eight at a time; the rest without a branch
            for word in range(words.size):
                if words[word] != 0:
                    for x in range(8 * word, 8 * word + 8):
                        loud[found] = x
                        found += mask[x]
            for i in range(found):
                x = loud[i]
                log = tables.log_of_level[row[x]]
                used = _hit(pixels, hits, used, y, x, log, tables.log_of_level[before[y, x]])
            for i in range(found):  # apart from the loop above: a third faster than in it
                _set_bounds(pixels, bounds, tables, y, loud[i])
        ends[k] = used
    return hits, ends


@compiled
def scan_logs(
    frames: NDArray[np.float32], previous: NDArray[np.float32], pixels: Pixels, hits: Hits
) -> tuple[Hits, NDArray[np.int64]]:
    """As `scan_levels` for frames (n, H, W) of natural-log intensity."""
    n, height, width = frames.shape
    used = 0
    ends = np.empty(n, np.int64)
    for k in range(n):
        before = frames[k - 1] if k else previous
        for y in range(height):
            if used + width > hits.events.size:
                hits = _more_hits(hits, used, width)
            for x in range(width):
                difference = frames[k, y, x] - pixels.base[y, x]
                if difference >= pixels.pos[y, x] or -difference >= pixels.neg[y, x]:
                    used = _hit(pixels, hits, used, y, x, frames[k, y, x], before[y, x])
        ends[k] = used
    return hits, ends


@compiled
def place(
    hits: Hits, ends: NDArray[np.int64], times_us: NDArray[np.float64], slots: bool
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.bool_]]:
    """Events (t_us, x, y, p) of all hits, in canonical order.

    An event's time is rounded to the nearest microsecond within its frame interval, which begins
    one microsecond after the (rounded) time of the earlier frame and ends at that of the later.

    Args:
        hits: from a scan.
        ends: where each frame's hits end.
        times_us: (n + 1,) start of the first interval, then the time of each frame.
        slots: give event i of a pixel the time of slot i of as many slots as the frame's busiest
            pixel has events, instead of its own crossing time.
    """
    total = hits.events[: ends[-1]].sum() if ends.size else 0
    t_us = np.empty(total, np.int64)
    x, y = np.empty(total, np.uint16), np.empty(total, np.uint16)
    p = np.empty(total, np.bool_)
    done, begin = 0, 0
    for k in range(ends.size):
        end = ends[k]
        if slots and end > begin:
            hits.first[begin:end] = 1 / hits.events[begin:end].max()
            hits.step[begin:end] = hits.first[begin]
        first_us = int(np.floor(times_us[k] + 0.5)) + 1
        last_us = int(np.floor(times_us[k + 1] + 0.5))
        keys = np.empty(hits.events[begin:end].sum(), np.int64)
        lead_us, interval_us = times_us[k] - first_us, times_us[k + 1] - times_us[k]
        _fill_keys(keys, hits, begin, end, lead_us, interval_us, last_us - first_us)
        for key in _sorted_by_time(keys, last_us - first_us):
            t_us[done] = first_us + (key >> _ADDRESS_BITS)
            y[done] = (key >> 16) & (MAX_SIDE - 1)
            x[done] = (key >> 1) & (MAX_SIDE - 1)
            p[done] = key & 1
            done += 1
        begin = end
    return t_us, x, y, p


@compiled
def _fill_keys(
    keys: NDArray[np.int64],
    hits: Hits,
    begin: int,
    end: int,
    lead_us: float,
    interval_us: float,
    last_us: int,
) -> None:
    """Sort key of every event of one frame: microseconds after its first one, then the address."""
    done = 0
    for h in range(begin, end):
        fraction = hits.first[h]
        for i in range(hits.events[h]):
            exact_us = lead_us + (fraction + i * hits.step[h]) * interval_us
            offset_us = min(max(int(np.floor(exact_us + 0.5)), 0), last_us)
            keys[done] = offset_us << _ADDRESS_BITS | hits.address[h]
            done += 1


@compiled
def _sorted_by_time(keys: NDArray[np.int64], last_us: int) -> NDArray[np.int64]:
    """The keys, stably sorted by their time alone (least significant digit first)."""
    bits = 0
    while last_us >> bits:
        bits += 1
    passes = max(1, (bits + _RADIX_BITS - 1) // _RADIX_BITS)
    digit_bits = (bits + passes - 1) // passes
    spare = np.empty_like(keys)
    for k in range(passes):
        shift = _ADDRESS_BITS + k * digit_bits
        place_of = np.zeros((1 << digit_bits) + 1, np.int64)
        for key in keys:
            place_of[((key >> shift) & ((1 << digit_bits) - 1)) + 1] += 1
        for digit in range(1 << digit_bits):
            place_of[digit + 1] += place_of[digit]
        for key in keys:
            digit = (key >> shift) & ((1 << digit_bits) - 1)
            spare[place_of[digit]] = key
            place_of[digit] += 1
        keys, spare = spare, keys
    return keys


@compiled
def _hit(
    pixels: Pixels, hits: Hits, used: int, y: int, x: int, log: float, log_before: float
) -> int:
    """Records the events of one pixel, moves its memorised value; returns the new `used`."""
    base, pos, neg = pixels.base[y, x], pixels.pos[y, x], pixels.neg[y, x]
    on = log > base
    threshold = pos if on else -neg  # both loaded: a choice between values needs no branch
    quotient = np.float64(log - base) / np.float64(threshold)
    count = np.int32(np.floor(quotient))
    if count == quotient:  # it may have been rounded up to that; the exact floor is slower
        count = np.int32(np.float64(log - base) // np.float64(threshold))
    if count < 1:
        return used
    # A change of zero means that rounding of `base` left a whole threshold over: due at once.
    change = np.float64(log) - log_before
    to_first = np.float64(base) + threshold - log_before
    hits.first[used] = to_first / change if change != 0 else 0.0
    hits.step[used] = threshold / change if change != 0 else 0.0
    hits.address[used] = y << 16 | x << 1 | on
    hits.events[used] = count
    pixels.base[y, x] = base + np.float32(count) * np.float32(threshold)
    return used + 1


@compiled
def _set_bounds(pixels: Pixels, bounds: Bounds, tables: Tables, y: int, x: int) -> None:
    """Bounds of one pixel: a guess from the table, made exact in the difference's arithmetic."""
    base, pos, neg = pixels.base[y, x], pixels.pos[y, x], pixels.neg[y, x]
    log, last = tables.log_of_level, tables.level_of_log.size - 1
    # A cell of the inverse table is narrower than the gap between two levels, so the guess is off
    # by one at most and two steps up from below it end at the bound.
    high = int(tables.level_of_log[min(int((base + pos) * LOOKUP_PER_LOG), last)])
    high = max(high - 1, 0)
    high += log[high + 1] - base < pos
    high += log[high + 1] - base < pos
    low = int(tables.level_of_log[max(int((base - neg) * LOOKUP_PER_LOG), 0)])
    low += base - log[low] >= neg
    low += base - log[low] >= neg
    bounds.low[y, x], bounds.high[y, x] = low, high


@compiled
def _more_hits(hits: Hits, used: int, room: int) -> Hits:
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
