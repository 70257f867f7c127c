"""Compiled loop of the noise-free event emulator on 8-bit frames: which pixels fire, and when.

A pixel's bounds hold exactly the levels at which its log difference reaches no threshold (the
lin-log table is monotone), so the test of a silent pixel is three bytes and two compares. The
frames of one call are walked block of pixels by block of pixels, all frames of a block before the
next block, so that the state of a block stays in the nearest cache.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import Int, compiled
from egotriad.converters.dvs_place import Hits, more_hits
from egotriad.converters.simd import LANES, outside, trailing_zeros

__all__ = ["LOOKUP_PER_LOG", "Levels", "Tables", "new_levels", "scan_levels"]

LOOKUP_PER_LOG = 512
"""Entries per natural-log unit of `Tables.level_of_log`: narrower than the gap of two levels."""

_BLOCK = 8192
_MARGIN_LOG = np.float32(1e-5)  # more than float32 rounding moves a sum of two log values


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
    padded = -(-frame.size // LANES) * LANES
    state = Levels(
        base=np.zeros(padded, np.float32),
        pos=np.ones(padded, np.float32),
        neg=np.ones(padded, np.float32),
        low=np.zeros(padded, np.uint8),
        high=np.full(padded, 255, np.uint8),
    )
    state.base[: frame.size] = tables.log_of_level[frame]
    state.pos[: frame.size], state.neg[: frame.size] = pos, neg
    found = Found(
        np.arange(frame.size, dtype=np.uint32),
        state.base,
        state.base,
        state.base.copy(),
        state.base,
    )
    _memorise(state, tables, found, frame.size)
    return state


class Found(NamedTuple):
    """Space for the pixels of one block that fire in one frame."""

    pixel: NDArray[np.uint32]
    log: NDArray[np.float32]
    before: NDArray[np.float32]
    base: NDArray[np.float32]
    threshold: NDArray[np.float32]


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
    used = 0
    found = Found(
        np.empty(_BLOCK, np.uint32),
        np.empty(_BLOCK, np.float32),
        np.empty(_BLOCK, np.float32),
        np.empty(_BLOCK, np.float32),
        np.empty(_BLOCK, np.float32),
    )
    for block in range(blocks):
        begin, end = block * _BLOCK, min((block + 1) * _BLOCK, pixels)
        for k in range(n):
            number = _find(frames[k], state, begin, end, found.pixel)
            if used + number > hits.events.size:
                hits = more_hits(hits, used, number)
            _look_up(frames[k], frames[k - 1] if k else previous, state, tables, found, number)
            here = slice(used, used + number)
            _fire(
                found,
                width,
                Hits(hits.address[here], hits.events[here], hits.first[here], hits.step[here]),
            )
            _memorise(state, tables, found, number)
            used += number
            ends[block, k] = used
    return hits, ends


@compiled
def _find(
    frame: NDArray[np.uint8], state: Levels, begin: int, end: int, loud: NDArray[np.uint32]
) -> Int:
    """Puts the pixels from `begin` to `end` that are out of bounds into `loud`; their number."""
    found = np.uint64(0)
    whole = begin + (end - begin) // LANES * LANES
    for start in range(begin, whole, LANES):
        mask = outside(frame, state.low, state.high, start)
        while mask != 0:
            loud[found] = np.uint64(start) + trailing_zeros(mask)
            found += np.uint64(1)
            mask &= mask - np.uint64(1)
    for pixel in range(whole, end):
        if frame[pixel] < state.low[pixel] or frame[pixel] > state.high[pixel]:
            loud[found] = pixel
            found += np.uint64(1)
    return np.int64(found)


@compiled
def _look_up(
    frame: NDArray[np.uint8],
    before: NDArray[np.uint8],
    state: Levels,
    tables: Tables,
    found: Found,
    number: int,
) -> None:
    for i in range(number):
        pixel = found.pixel[i]
        found.log[i] = tables.log_of_level[frame[pixel]]
        found.before[i] = tables.log_of_level[before[pixel]]
        base, pos, neg = state.base[pixel], state.pos[pixel], state.neg[pixel]
        found.base[i] = base
        found.threshold[i] = pos if found.log[i] > base else -neg


@compiled
def _fire(found: Found, width: int, hits: Hits) -> None:
    """Records the events of the pixels found; `found.base` becomes what they memorise."""
    per_row = 1 / width
    for i in range(hits.events.size):
        log, base, threshold = found.log[i], found.base[i], found.threshold[i]
        # The quotient of two float32 is never rounded up to an integer in float64.
        count = np.int32(np.float64(log - base) / np.float64(threshold))
        # A change of zero means that rounding of `base` left a whole threshold over: due at once.
        change = np.float64(log) - found.before[i]
        per_change = 1 / change if change != 0 else 0.0
        y = np.int32((found.pixel[i] + 0.5) * per_row)
        x = np.int32(found.pixel[i]) - y * np.int32(width)
        hits.address[i] = y << 16 | x << 1 | (threshold > 0)
        hits.events[i] = count
        hits.first[i] = (np.float64(base) + threshold - found.before[i]) * per_change
        hits.step[i] = threshold * per_change
        found.base[i] = base + np.float32(count) * threshold


@compiled
def _memorise(state: Levels, tables: Tables, found: Found, number: int) -> None:
    """Moves what the pixels found have memorised, and their bounds with it."""
    log, last = tables.log_of_level, tables.level_of_log.size - 1
    for i in range(number):
        pixel = found.pixel[i]
        base, pos, neg = found.base[i], state.pos[pixel], state.neg[pixel]
        state.base[pixel] = base
        up: Int = np.int64((base + pos - _MARGIN_LOG) * np.float32(LOOKUP_PER_LOG))
        high = np.uint64(tables.level_of_log[np.uint64(max(min(up, last), 0))])
        down: Int = np.int64((base - neg + _MARGIN_LOG) * np.float32(LOOKUP_PER_LOG)) + 1
        low = np.uint64(tables.level_of_log[np.uint64(max(min(down, last), 0))])
        state.high[pixel] = high + np.uint64(log[high + np.uint64(1)] - base < pos)
        state.low[pixel] = low + np.uint64(base - log[low] >= neg)
