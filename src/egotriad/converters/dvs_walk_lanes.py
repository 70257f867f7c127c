"""The vector half of the walk: all pixels to the next frame, and the events of the loud ones.

See `dvs_walk` for what it computes and why.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from egotriad.converters.dvs_noise import BLOCK
from egotriad.converters.simd import rows_of_four, store_rows_of_four, vectorised
from egotriad.converters.simd_lanes import (
    LANES,
    Lanes,
    Memory,
    any_of,
    bits,
    compress,
    count,
    first_places,
    select,
    word,
)

__all__ = [
    "AFTER",
    "CHANGE",
    "DIFFERENCE",
    "LEAK",
    "LEAK_BITS",
    "MEAN_LEAK",
    "MOST_LEAK",
    "NEG",
    "NOW",
    "ONE_LINE",
    "PIXEL",
    "POS",
    "ROWS",
    "SIMPLE",
    "START",
    "WIDEST",
    "Interval",
    "Look",
    "advance",
    "advance_last",
    "enlist",
    "enlist_last",
    "fire",
]

LEAK_BITS = 12
"""Random bits that a leak is drawn with."""

MOST_LEAK = np.float32(16)
"""A line is the signal's when the leak is at most 1 / this of it."""

WIDEST = BLOCK + LANES
"""Length of a row of the list of loud pixels: vectors are written past its last entry."""

# Rows of that list, float32 (ROWS, WIDEST); of the first three, the bits are those of int32.
PIXEL = 0
ONE_LINE = 1  # whether all events of the first line are before any other
SIMPLE = 2  # whether they are all, if there is no shot noise
DIFFERENCE = 3  # signal minus reference at the start of the interval
AFTER = 4  # the same at its end; first without an event, then as it will be
CHANGE = 5  # by how much signal and leak move it in a whole interval
POS, NEG = 6, 7  # thresholds
LEAK = 8  # before; then after the first event
MEAN_LEAK = 9
START = 10  # fraction of the interval at which the pixel wakes
NOW = 11  # fraction of the interval at which it can fire again after the events of the first line
ROWS = 12


class Look(NamedTuple):
    """What the pixels see in the frames of one call.

    Attributes:
        levels: uint8 (n, P), luma.
        tables: float32 (n, 256, 4), by level: log intensity; decay and follow as in `WalkFrames`.
        logs: float32 (n, P), log intensity.
        has_logs: whether it is in `logs`, not in `tables`.
    """

    levels: NDArray[np.uint8]
    tables: NDArray[np.float32]
    logs: NDArray[np.float32]
    has_logs: bool


class Interval(NamedTuple):
    """One frame interval.

    Attributes:
        begin_us: its start.
        length_us: its length.
        length: the same as float32.
        dead: dead time after an event as a fraction of it, float32.
        key: generator of the leaks drawn in it.
    """

    begin_us: float
    length_us: float
    length: np.float32
    dead: np.float32
    key: np.uint64


@vectorised(types.int64)
def advance(
    walk: Any,
    look: Any,
    k: Any,
    pixels: Any,
    length: Lanes,
    noisy: Memory,
    steps: Memory,
    start: Any,
    place: Any,
) -> Any:
    """Moves the 16 pixels from `start` on to a frame as if none had an event.

    Args:
        walk: `Walk`.
        look: `Look`.
        k: index of the frame in it.
        pixels: P.
        length: of the interval, microseconds, float32.
        noisy: uint16, a bit per pixel that is loud in any case.
        steps: float32 (2, WIDEST), takes their differences before and the changes.
        start: a multiple of 16.
        place: where in the rows of `steps`.

    Returns:
        A bit for each of them that is loud.
    """
    return _advanced(walk, look, k, pixels, length, noisy, steps, start, place, None)


@vectorised(types.int64)
def advance_last(
    walk: Any,
    look: Any,
    k: Any,
    pixels: Any,
    length: Lanes,
    noisy: Memory,
    steps: Memory,
    start: Any,
    place: Any,
) -> Any:
    """As `advance` where fewer than 16 pixels are left of all."""
    left = length.builder.sub(pixels, start)
    return _advanced(walk, look, k, pixels, length, noisy, steps, start, place, left)


def _advanced(
    walk: Any,
    look: Any,
    k: Any,
    pixels: Any,
    length: Lanes,
    noisy: Memory,
    steps: Memory,
    start: Any,
    place: Any,
    left: Any,
) -> Any:
    builder = length.builder
    where = None if left is None else first_places(builder, left)
    in_frame = builder.add(builder.mul(k, pixels), start)
    table = look.tables.from_index(builder.mul(k, k.type(1024)))
    log, decay, follow, _ = rows_of_four(table, look.levels.from_index(in_frame), left)
    has_logs = Lanes(builder, look.has_logs)
    at = builder.select(look.has_logs, in_frame, start)
    log = select(has_logs, look.logs.load(at, where), log)
    # The low pass answers the ramp of log intensity.
    lag_before = walk.lag.load(start, where)
    rise = log - walk.log.load(start, where)
    lag = decay * lag_before - follow * rise
    change = rise + (lag - lag_before) + walk.leak.load(start, where) * length
    difference = walk.difference.load(start, where)
    after = difference + change
    pos, neg = walk.pos.load(start, where), walk.neg.load(start, where)
    found = (after >= pos) | (-after >= neg) | noisy.bits(builder.lshr(start, start.type(4)))
    if where is not None:
        found = found & where
    walk.log.store(start, log, where)
    walk.lag.store(start, lag, where)
    walk.difference.store(start, after, where)
    for row, lanes in enumerate((difference, change)):
        steps.row(row, WIDEST, lanes).store(place, lanes)
    return word(found)


@vectorised(types.int64)
def enlist(
    walk: Any, steps: Memory, loud: Memory, start: Any, place: Any, found: Any, number: Any
) -> Any:
    """Appends those of the 16 pixels from `start` on whose bits are `found` to the list.

    Args:
        walk: `Walk`.
        steps: as `advance` left it.
        loud: the list.
        start: the first pixel.
        place: its place in `steps`.
        found: from `advance`.
        number: of entries so far.

    Returns:
        The new number.
    """
    return _enlisted(walk, steps, loud, start, place, bits(loud.builder, found), number, None)


@vectorised(types.int64)
def enlist_last(
    walk: Any, steps: Memory, loud: Memory, start: Any, place: Any, found: Any, number: Any
) -> Any:
    """As `enlist` where fewer than 16 pixels are left of all."""
    where = bits(loud.builder, found)
    return _enlisted(walk, steps, loud, start, place, where, number, where)


def _enlisted(
    walk: Any,
    steps: Memory,
    loud: Memory,
    start: Any,
    place: Any,
    found: Lanes,
    number: Any,
    where: Lanes | None,
) -> Any:
    builder = found.builder
    entries = {
        PIXEL: Lanes(builder, start).to("int32") + Lanes.counting(builder),
        DIFFERENCE: steps.row(0, WIDEST, "float32").load(place),
        AFTER: walk.difference.load(start, where),
        CHANGE: steps.row(1, WIDEST, "float32").load(place),
        POS: walk.pos.load(start, where),
        NEG: walk.neg.load(start, where),
        LEAK: walk.leak.load(start, where),
        MEAN_LEAK: walk.mean_leak.load(start, where),
    }
    for row, lanes in entries.items():
        loud.row(row, WIDEST, lanes).store(number, compress(lanes, found))
    return builder.add(number, count(found))


@vectorised(types.void)
def fire(
    loud: Memory,
    hits: Memory,
    interval: Any,
    factors: Memory,
    wake_us: Memory,
    width: Any,
    start: Any,
    left: Any,
) -> None:
    """The events that 16 loud pixels have on their lines, and what follows.

    Args:
        loud: the list, as `enlist` leaves it; completed.
        hits: int32 (WIDEST, 4), the events as in `Hits`, a row for each entry of the list.
        interval: `Interval`.
        factors: float32, leaks over their mean.
        wake_us: float64 (P,), end of the dead time of pixels in it.
        width: pixels in a row.
        start: of the entries.
        left: entries from there on; with fewer than 16, the rest is made up.
    """
    builder = interval.length.builder

    def entry(row: int, kind: str = "float32") -> Lanes:
        return loud.row(row, WIDEST, kind).load(start)

    def put(row: int, lanes: Lanes) -> None:
        loud.row(row, WIDEST, lanes).store(start, lanes)

    pixel, change, silent_after = entry(PIXEL, "int32"), entry(CHANGE), entry(AFTER)
    pos, neg, difference = entry(POS), entry(NEG), entry(DIFFERENCE)
    zero = change.of(0)
    dead = difference.equals(np.inf) & first_places(builder, left)
    put(START, zero)
    with any_of(dead):
        known_us = wake_us.gather(select(dead, pixel, pixel.of(0)))
        woken = ((known_us - interval.begin_us) / interval.length_us).to("float32")
        put(START, select(dead, woken, zero))
    begin = entry(START)
    difference = select(dead, zero, difference)

    # The straight line to the next thresholds: divided in float64.
    on = select(dead, change, silent_after) >= 0
    threshold, slope = select(on, pos, neg), select(on, change, -change)
    short = threshold - select(on, difference, -difference)
    short = select(short > 0, short, zero)  # what rounding has left over is due at once
    rises = slope > 0
    per_slope = 1 / slope.to("float64")
    per_slope = select(rises, per_slope, per_slope.of(0))
    first = begin.to("float64") + short.to("float64") * per_slope
    step = threshold.to("float64") * per_slope + interval.dead.to("float64")
    later = ((1 - first) / step).to("int32")
    happens = (first <= 1) & (rises | short.equals(0))
    events = select(happens, select(rises, later, later.of(0)) + 1, later.of(0))
    first, step = first.to("float32"), step.to("float32")
    store_rows_of_four(hits, start, (_addresses(pixel, width, on), events, first, step))

    # After the last of them: the leak is another, and the difference begins again at zero.
    has, leak = events > 0, entry(LEAK)
    mean, draws = entry(MEAN_LEAK), _draws(Lanes(builder, interval.key), pixel)
    renewed = select(mean > 0, mean * factors.gather(draws), zero)
    now = select(has, first + (events - 1).to("float32") * step + interval.dead, begin)
    moved = select(has, change + (renewed - leak) * interval.length, change)
    rest = moved * (1 - now)
    asleep, silent = now > 1, ~has & ~dead  # silent: rounding made it loud
    one_line = (events < 2) | (leak * interval.length * MOST_LEAK <= slope)
    simple = (one_line & (asleep | ((rest > -neg) & (rest < pos)))) | silent
    put(AFTER, select(silent, silent_after, select(asleep, rest.of(np.inf), zero + rest)))
    put(LEAK, select(has, renewed, leak))
    put(NOW, now)
    put(ONE_LINE, one_line.to("int32"))
    put(SIMPLE, simple.to("int32"))


def _addresses(pixel: Lanes, width: Any, on: Lanes) -> Lanes:
    """Y << 16 | x << 1 | p."""
    columns = Lanes(pixel.builder, width)
    per_row = 1 / columns.to("float64")
    y = ((pixel.to("float64") + 0.5) * per_row).to("int32")
    x = pixel - y * columns.to("int32")
    return y << 16 | x << 1 | on.to("int32")


def _draws(key: Lanes, pixel: Lanes) -> Lanes:
    """`LEAK_BITS` random bits of each pixel: those of `counter_rng.mix`, int64."""
    z = key + (pixel.to("int64") + 1) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return (z ^ (z >> 31)) >> (64 - LEAK_BITS)
