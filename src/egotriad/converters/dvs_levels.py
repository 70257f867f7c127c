"""Compiled loop of the noise-free event emulator on 8-bit frames: which pixels fire, and when.

A pixel's bounds hold exactly the levels at which its log difference reaches no threshold (the
lin-log table is monotone), so the test of a silent pixel is three bytes and two compares. The
frames of one call are walked block of pixels by block of pixels, all frames of a block before the
next block, so that the state of a block stays in the nearest cache.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.dvs_place import Hits, more_hits
from egotriad.converters.simd import BYTES, outside, store_rows_of_four, vectorised
from egotriad.converters.simd_lanes import LANES, Lanes, Memory, bits, compress, count, select

__all__ = ["LOOKUP_PER_LOG", "Levels", "Tables", "new_levels", "scan_levels"]

LOOKUP_PER_LOG = 512
"""Entries per natural-log unit of `Tables.level_of_log`: narrower than the gap of two levels."""

_BLOCK = 8192
_WIDEST = _BLOCK + LANES  # vectors are written past the last entry

# Rows of the list of pixels that fire, float32 (ROWS, WIDEST); of the first five, the bits are
# those of int32. Levels are luma.
_PIXEL = 0
_LEVEL, _LEVEL_BEFORE = 1, 2  # in this frame and the one before
_LOW, _HIGH = 3, 4  # bounds after the events
_BASE = 5  # memorised log value; then as it is after the events
_POS, _NEG = 6, 7  # thresholds
_ROWS = 8

_MARGIN_LOG = 1e-5  # more than float32 rounding moves a sum of two log values


class Tables(NamedTuple):
    """Log value of each level, float32 (257,), infinite after the last, and its rough inverse.

    `level_of_log`, uint8 (n,), holds at i the highest level of log i / LOOKUP_PER_LOG or less.
    """

    log_of_level: NDArray[np.float32]
    level_of_log: NDArray[np.uint8]


class Levels(NamedTuple):
    """State per pixel, row-major, padded to whole vectors with pixels that never fire.

    Attributes:
        base: float32, memorised log value.
        pos: float32, contrast threshold of ON events.
        neg: float32, contrast threshold of OFF events.
        low: uint8, lowest level at which the pixel stays silent.
        high: uint8, highest level at which the pixel stays silent.
    """

    base: NDArray[np.float32]
    pos: NDArray[np.float32]
    neg: NDArray[np.float32]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]


def new_levels(
    frame: NDArray[np.uint8], pos: NDArray[np.float32], neg: NDArray[np.float32], tables: Tables
) -> Levels:
    """State that has memorised `frame`, uint8 (P,), with thresholds of shape (P,)."""
    padded = -(-frame.size // BYTES) * BYTES
    state = Levels(
        base=np.zeros(padded, np.float32),
        pos=np.full(padded, np.inf, np.float32),
        neg=np.full(padded, np.inf, np.float32),
        low=np.zeros(padded, np.uint8),
        high=np.full(padded, 255, np.uint8),
    )
    state.base[: frame.size] = tables.log_of_level[frame]
    state.pos[: frame.size], state.neg[: frame.size] = pos, neg
    _bound_all(state, tables)
    return state


@compiled
def _bound_all(state: Levels, tables: Tables) -> None:
    bounds = np.empty((2, LANES), np.int32)
    for start in range(0, state.base.size, LANES):
        _bound(state, tables, tables.level_of_log.size - 1, bounds, start)
        for i in range(LANES):
            state.low[start + i], state.high[start + i] = bounds[0, i], bounds[1, i]


@compiled
def scan_levels(
    frames: NDArray[np.uint8],
    previous: NDArray[np.uint8],
    width: int,
    state: Levels,
    tables: Tables,
    hits: Hits,
) -> tuple[Hits, NDArray[np.int64]]:
    """Hits of the frames after `previous`; moves `state`.

    Args:
        frames: uint8 (n, P), pixels row-major; n may be zero.
        previous: uint8 (P,).
        width: pixels in a row.
        state: changed in place.
        tables: of the lin-log curve.
        hits: space to use; what it held is overwritten.

    Returns:
        The hits (in `hits`, or in larger arrays when it is full) and, int64 (blocks, n), where the
        hits of each block of pixels in each frame end.
    """
    n, pixels = frames.shape
    blocks = (pixels + _BLOCK - 1) // _BLOCK
    ends = np.empty((blocks, n), np.int64)
    loud = np.empty((_ROWS, _WIDEST), np.float32)
    used, last = 0, tables.level_of_log.size - 1
    for block in range(blocks):
        begin, end = block * _BLOCK, min((block + 1) * _BLOCK, pixels)
        for k in range(n):
            number = _find(frames[k], frames[k - 1] if k else previous, state, begin, end, loud)
            if used + number + LANES > hits.shape[0]:
                hits = more_hits(hits, used, number + LANES)
            for start in range(0, number, LANES):
                _fire(loud, tables, last, hits, width, start, used)
            _memorise(state, loud, number)
            used += number
            ends[block, k] = used
    return hits, ends


@compiled
def _find(
    frame: NDArray[np.uint8],
    before: NDArray[np.uint8],
    state: Levels,
    begin: int,
    end: int,
    loud: NDArray[np.float32],
) -> int:
    """Lists the pixels from `begin` to `end` that are out of bounds; their number."""
    number = 0
    whole = begin + (end - begin) // BYTES * BYTES
    for start in range(begin, whole, BYTES):
        found = outside(frame, state.low, state.high, start)
        part = start
        while found:
            if found & np.uint64(0xFFFF):
                number = _list(frame, before, state, loud, part, number, np.int64(found))
            found >>= np.uint64(LANES)
            part += LANES
    for part in range(whole, end, LANES):
        found = np.uint64(0)
        for pixel in range(part, min(part + LANES, end)):
            level = frame[pixel]
            fires = level < state.low[pixel] or level > state.high[pixel]
            found |= np.uint64(fires) << np.uint64(pixel - part)
        number = _list_last(frame, before, state, loud, part, number, np.int64(found))
    return number


@vectorised(types.int64)
def _list(
    frame: Memory, before: Memory, state: Any, loud: Memory, start: Any, number: Any, found: Any
) -> Any:
    """Lists those of the 16 pixels from `start` on whose bits are `found`; the new `number`."""
    levels = (frame.load(start), before.load(start))
    return _listed(levels, state, loud, start, number, bits(frame.builder, found))


@vectorised(types.int64)
def _list_last(
    frame: Memory, before: Memory, state: Any, loud: Memory, start: Any, number: Any, found: Any
) -> Any:
    """The same where the frame may have fewer than 16 pixels left."""
    where = bits(frame.builder, found)
    levels = (frame.load(start, where), before.load(start, where))
    return _listed(levels, state, loud, start, number, where)


def _listed(
    levels: tuple[Lanes, Lanes], state: Any, loud: Memory, start: Any, number: Any, where: Lanes
) -> Any:
    builder = where.builder
    listed = {
        _PIXEL: Lanes(builder, start).to("int32") + Lanes.counting(builder),
        _LEVEL: levels[0],
        _LEVEL_BEFORE: levels[1],
        _BASE: state.base.load(start),
        _POS: state.pos.load(start),
        _NEG: state.neg.load(start),
    }
    for row, lanes in listed.items():
        loud.row(row, _WIDEST, lanes).store(number, compress(lanes, where))
    return builder.add(number, count(where))


@vectorised(types.void)
def _fire(
    loud: Memory, tables: Any, last: Any, hits: Memory, width: Any, start: Any, used: Any
) -> None:
    """Records the events of 16 pixels listed, from entry `start` on; what they memorise."""
    builder = loud.builder

    def entry(row: int, kind: str = "float32") -> Lanes:
        return loud.row(row, _WIDEST, kind).load(start)

    pixel, base, pos, neg = entry(_PIXEL, "int32"), entry(_BASE), entry(_POS), entry(_NEG)
    # Past the last entry anything may stand.
    log = tables.log_of_level.gather(entry(_LEVEL, "int32") & 255)
    before = tables.log_of_level.gather(entry(_LEVEL_BEFORE, "int32") & 255).to("float64")
    on = log > base
    threshold = select(on, pos, -neg)
    # The quotient of two float32 is never rounded up to an integer in float64.
    events = ((log - base).to("float64") / threshold.to("float64")).to("int32")
    # A change of zero means that rounding of `base` left a whole threshold over: due at once.
    change = log.to("float64") - before
    per_change = select(change.equals(0), change, 1 / change)
    first = (base.to("float64") + threshold.to("float64") - before) * per_change
    step = threshold.to("float64") * per_change
    per_row = 1 / Lanes(builder, width).to("float64")
    y = ((pixel.to("float64") + 0.5) * per_row).to("int32")
    x = pixel - y * Lanes(builder, width).to("int32")
    columns = (y << 16 | x << 1 | on.to("int32"), events, first.to("float32"), step.to("float32"))
    store_rows_of_four(hits, builder.add(used, start), columns)

    base = base + events.to("float32") * threshold
    low, high = _bounds(tables, last, base, pos, neg)
    for row, lanes in {_BASE: base, _LOW: low, _HIGH: high}.items():
        loud.row(row, _WIDEST, lanes).store(start, lanes)


@vectorised(types.void)
def _bound(state: Any, tables: Any, last: Any, bounds: Memory, start: Any) -> None:
    """Puts the bounds of 16 pixels into `bounds`, int32 (2, 16)."""
    operands = (state.base.load(start), state.pos.load(start), state.neg.load(start))
    for k, lanes in enumerate(_bounds(tables, last, *operands)):
        bounds.row(k, LANES, lanes).store(start.type(0), lanes)


def _bounds(tables: Any, last: Any, base: Lanes, pos: Lanes, neg: Lanes) -> tuple[Lanes, Lanes]:
    """Lowest and highest level at which pixels that have memorised `base` stay silent.

    `last` is the last index of `tables.level_of_log`.
    """

    def level(log: Lanes, *, above: int) -> Lanes:
        place, most = log * LOOKUP_PER_LOG, Lanes(log.builder, last).to("float32")
        place = select(place < most, select(place > -1, place, place.of(-1)), most)
        index = place.to("int32") + above
        index = select(index > 0, index, index.of(0))
        return tables.level_of_log.gather(select(index < most.to("int32"), index, most.to("int32")))

    low = level(base - neg + _MARGIN_LOG, above=1)
    high = level(base + pos - _MARGIN_LOG, above=0)
    # The tables are right to within one level.
    low = low + (base - tables.log_of_level.gather(low) >= neg).to("int32")
    high = high + (tables.log_of_level.gather(high + 1) - base < pos).to("int32")
    return low, high


@compiled
def _memorise(state: Levels, loud: NDArray[np.float32], number: int) -> None:
    """Gives the pixels listed what they memorise, and the bounds that follow from it."""
    bases, lows, highs, marks = state.base, state.low, state.high, loud.view(np.int32)
    for i in range(number):
        pixel = marks[_PIXEL, i]
        bases[pixel], lows[pixel], highs[pixel] = loud[_BASE, i], marks[_LOW, i], marks[_HIGH, i]
