"""Compiled loop of the whole event emulator: low pass, leak, noise and refractory period.

State of a pixel is the difference between its signal and the reference it has memorised. Between
two frames signal and leak are straight lines, so a pixel whose difference is inside its thresholds
at the later frame has been silent, and that test is all that most pixels cost. After an event the
reference follows the signal for the dead time, so the difference begins again at zero: on a
straight line, all later events of the interval are equally far apart. Only pixels with shot noise
need to be walked through the interval from event to event.

Frames are walked block of pixels by block of pixels, as in `dvs_levels`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import Float, Int, compiled
from egotriad.converters.counter_rng import mix
from egotriad.converters.dvs_noise import (
    BLOCK,
    Arrivals,
    ShotNoise,
    draw_arrivals,
    most_arrivals,
    new_arrivals,
)
from egotriad.converters.dvs_place import ADDRESS, EVENTS, FIRST, STEP, Hits, more_hits
from egotriad.converters.dvs_walk_lanes import (
    AFTER,
    CHANGE,
    DIFFERENCE,
    LEAK,
    LEAK_BITS,
    MOST_LEAK,
    NEG,
    NOW,
    ONE_LINE,
    PIXEL,
    POS,
    ROWS,
    SIMPLE,
    START,
    WIDEST,
    Interval,
    Look,
    advance,
    advance_last,
    enlist,
    enlist_last,
    fire,
)
from egotriad.converters.simd_lanes import LANES

__all__ = ["LEAK_FACTORS", "MOST_LEAK", "Drive", "Walk", "WalkFrames", "scan_walk"]

LEAK_FACTORS = 1 << LEAK_BITS
"""Number of equally likely ratios of a leak to its mean."""

_DEAD = np.float32(np.inf)  # difference of a pixel in its dead time: it never looks silent


class Walk(NamedTuple):
    """State and constants per pixel, each (P,), row-major.

    Attributes:
        log: float32, log intensity of the last frame.
        lag: float32, what the low-passed value has over `log`.
        difference: float32, signal minus reference; infinite in the dead time.
        wake_us: float64, end of the dead time of pixels that are in it.
        pos: float32, contrast threshold of ON events.
        neg: float32, contrast threshold of OFF events.
        leak: float32, by how much the reference falls now, log units per microsecond.
        mean_leak: float32, the same on average.
    """

    log: NDArray[np.float32]
    lag: NDArray[np.float32]
    difference: NDArray[np.float32]
    wake_us: NDArray[np.float64]
    pos: NDArray[np.float32]
    neg: NDArray[np.float32]
    leak: NDArray[np.float32]
    mean_leak: NDArray[np.float32]


class Drive(NamedTuple):
    """What is the same for all pixels.

    Attributes:
        refractory_us: dead time after an event.
        leak_factors: float32 (LEAK_FACTORS,), equally likely ratios of a leak to its mean.
        leak_key: generator of the draws from them.
        log_of_level: float32 (256 or more,).
    """

    refractory_us: float
    leak_factors: NDArray[np.float32]
    leak_key: np.uint64
    log_of_level: NDArray[np.float32]


class WalkFrames(NamedTuple):
    """Frames of one call.

    Attributes:
        levels: uint8 (n, P), luma.
        logs: float32 (n, P), log intensity; (0, P) when it is that of `levels`.
        times_us: float64 (n + 1,), time of the frame before, then of each frame.
        decay: float32 (n, 256), part of the lag that is left after an interval, by level; (0, 256)
            without low pass.
        follow: float32 (n, 256), part of the change of log intensity that becomes lag.
        number: index in the recording of the first of these frames.
    """

    levels: NDArray[np.uint8]
    logs: NDArray[np.float32]
    times_us: NDArray[np.float64]
    decay: NDArray[np.float32]
    follow: NDArray[np.float32]
    number: int


class _Space(NamedTuple):
    """Room for what happens to a block of pixels in a frame interval.

    Attributes:
        steps: float32 (2, WIDEST), differences before the interval and their changes.
        places: int64, first pixels of the vectors with loud pixels.
        found: int64, a bit for each of those.
        loud: float32 (ROWS, WIDEST), pixels that may have an event: see `dvs_walk_lanes`.
        hits: int32 (WIDEST, 4), their events on straight lines, as in `Hits`.
        head: int32 (BLOCK,), first arrival of each pixel, or -1.
        noisy: uint16, a bit for each pixel of the array: whether it has an arrival.
        arrivals: noise events.
    """

    steps: NDArray[np.float32]
    places: NDArray[np.int64]
    found: NDArray[np.int64]
    loud: NDArray[np.float32]
    hits: NDArray[np.int32]
    head: NDArray[np.int32]
    noisy: NDArray[np.uint16]
    arrivals: Arrivals


@compiled
def scan_walk(
    frames: WalkFrames, width: int, state: Walk, drive: Drive, noise: ShotNoise, hits: Hits
) -> tuple[Hits, NDArray[np.int64]]:
    """Hits of `frames`; moves `state`.

    Args:
        frames: to emulate.
        width: pixels in a row.
        state: changed in place.
        drive: constants.
        noise: shot noise.
        hits: space to use; what it held is overwritten.

    Returns:
        The hits (in `hits`, or in larger arrays when it is full) and, int64 (blocks, n), where the
        hits of each block of pixels in each frame end. Pixels with shot noise have a hit for each
        event.
    """
    n, pixels = frames.levels.shape
    ends = np.empty(((pixels + BLOCK - 1) // BLOCK, n), np.int64)
    has_logs = frames.logs.shape[0] > 0
    logs = frames.logs if has_logs else state.log.reshape(1, -1)
    look = Look(frames.levels, _tables(frames, drive), logs, has_logs)
    longest_us = np.diff(frames.times_us).max() if n else 0.0
    space = _Space(
        np.empty((2, WIDEST), np.float32),
        np.empty(BLOCK // LANES + 1, np.int64),
        np.empty(BLOCK // LANES + 1, np.int64),
        np.empty((ROWS, WIDEST), np.float32),
        np.empty((WIDEST, 4), np.int32),
        np.full(BLOCK, -1, np.int32),
        np.zeros(pixels // LANES + 1, np.uint16),
        new_arrivals(most_arrivals(noise.per_us.max() * longest_us)),
    )
    used = 0
    for block in range(ends.shape[0]):
        hits, used = _scan_block(
            block, frames, width, look, state, drive, noise, space, hits, used, ends[block]
        )
    return hits, ends


@compiled
def _tables(frames: WalkFrames, drive: Drive) -> NDArray[np.float32]:
    """Log intensity, decay and follow by level for each frame, (n, 256, 4)."""
    tables = np.zeros((frames.levels.shape[0], 256, 4), np.float32)
    tables[:, :, 0] = drive.log_of_level[:256]
    if frames.decay.shape[0]:
        tables[:, :, 1] = frames.decay
        tables[:, :, 2] = frames.follow
    return tables


@compiled
def _scan_block(
    block: int,
    frames: WalkFrames,
    width: int,
    look: Look,
    state: Walk,
    drive: Drive,
    noise: ShotNoise,
    space: _Space,
    hits: Hits,
    used: int,
    ends: NDArray[np.int64],
) -> tuple[Hits, int]:
    """Takes one block of pixels through all frames; the hits and how many are used."""
    # In here, taking an array out of a named tuple would count its references each time.
    levels, times_us, pixels = frames.levels, frames.times_us, frames.levels.shape[1]
    loud, head, noisy, arrivals = space.loud, space.head, space.noisy, space.arrivals
    steps, places, found = space.steps, space.places, space.found
    arriving, factors, wake_us = arrivals.pixel, drive.leak_factors, state.wake_us
    begin, end = block * BLOCK, min((block + 1) * BLOCK, pixels)
    whole = begin + (end - begin) // LANES * LANES
    for k in range(ends.size):
        length_us = times_us[k + 1] - times_us[k]
        dead = np.float32(drive.refractory_us / length_us)
        key = mix(drive.leak_key, frames.number + k)
        interval = Interval(times_us[k], length_us, np.float32(length_us), dead, key)
        noise_events = 0
        if noise.per_us[block] > 0:
            here = levels[k, begin:end]
            noise_events = draw_arrivals(
                noise, block, frames.number + k, length_us, here, head, arrivals
            )
            for i in range(noise_events):
                pixel = begin + arriving[i]
                noisy[pixel // LANES] |= np.uint16(1 << pixel % LANES)
        # Where there are loud pixels is noted first: a branch on it would be guessed wrong often.
        vectors, length = 0, interval.length
        for start in range(begin, whole, LANES):
            bits = advance(state, look, k, pixels, length, noisy, steps, start, start - begin)
            places[vectors], found[vectors] = start, bits
            vectors += bits != 0
        number = 0
        for i in range(vectors):
            start = places[i]
            number = enlist(state, steps, loud, start, start - begin, found[i], number)
        if whole < end:
            at = whole - begin
            bits = advance_last(state, look, k, pixels, length, noisy, steps, whole, at)
            number = enlist_last(state, steps, loud, whole, at, bits, number)
        for start in range(0, number, LANES):
            fire(loud, space.hits, interval, factors, wake_us, width, start, number - start)
        done = -1
        while done < number:
            if done >= 0 or used + number > hits.shape[0]:
                hits = more_hits(hits, used, number)
            done, used = _settle(
                max(done, 0), number, interval, state, drive, space, begin, hits, used
            )
        for i in range(noise_events):
            noisy[(begin + arriving[i]) // LANES] = 0
        ends[k] = used
    return hits, used


@compiled
def _settle(
    done: int,
    number: int,
    interval: Interval,
    state: Walk,
    drive: Drive,
    space: _Space,
    begin: int,
    hits: Hits,
    used: int,
) -> tuple[int, int]:
    """Records the events of the loud pixels from entry `done` on; leaves them as they are after.

    In one piece: to hand ten arrays to another function costs more than a pixel's events.

    Returns:
        The entry before which `hits` is full, or `number`; and how many hits are used.
    """
    one, zero, length, dead = np.float32(1), np.float32(0), interval.length, interval.dead
    differences, leaks, wakes_us = state.difference, state.leak, state.wake_us
    mean_leaks, factors = state.mean_leak, drive.leak_factors
    loud, lines, head, values = space.loud, space.hits, space.head, hits.view(np.float32)
    marks = loud.view(np.int32)
    fractions, polarities = space.arrivals.fraction, space.arrivals.on
    followers = space.arrivals.follower
    for entry in range(done, number):
        # Unsigned: numba looks twice at an index that may count from the end.
        i, pixel = np.uint64(entry), np.uint64(marks[PIXEL, entry])
        place = pixel - np.uint64(begin)
        arrival, now = head[place], loud[NOW, i]
        has, has_line = lines[i, EVENTS] > 0, arrival < 0 and marks[ONE_LINE, i]
        if marks[SIMPLE, i] and arrival < 0:
            # Copied without asking whether there are events: a wrong guess costs more.
            _copy(lines, i, hits, used)
            used += has
            differences[pixel], leaks[pixel] = loud[AFTER, i], loud[LEAK, i]
            if has and now > one:
                wakes_us[pixel] = interval.begin_us + np.float64(now) * interval.length_us
            continue
        before, room, leak_before = used, hits.shape[0] - (number - entry - 1), leaks[pixel]
        pos, neg, change, count = loud[POS, i], loud[NEG, i], loud[CHANGE, i], 0
        difference = zero if loud[DIFFERENCE, i] == _DEAD else loud[DIFFERENCE, i]
        if has_line and has:
            # The leak that the last event on the line renews brings more.
            _copy(lines, i, hits, used)
            used += 1
            leaks[pixel] = loud[LEAK, i]
            change += (loud[LEAK, i] - leak_before) * length
            difference, count = zero, 1
        else:
            now = loud[START, i]
        while now <= one:
            # The next crossing: at once, or where the line meets a threshold.
            on = change > 0 if -neg < difference < pos else difference > 0
            left = (pos if on else neg) - (difference if on else -difference)
            event = now + (left / abs(change) if left > 0 else zero)
            while arrival >= 0 and fractions[arrival] < now:
                arrival = followers[arrival]
            if arrival >= 0 and not fractions[arrival] >= event:
                event, on = fractions[arrival], polarities[arrival]
                arrival = followers[arrival]
            if not event <= one:
                break
            if used == room:
                leaks[pixel] = leak_before
                return entry, before
            hits[used, ADDRESS], hits[used, EVENTS] = lines[i, ADDRESS] & -2 | np.int32(on), 1
            values[used, FIRST], values[used, STEP] = event, zero
            used += 1
            renewed = _renewed(mean_leaks[pixel], factors, interval.key, pixel, count)
            change += (renewed - leaks[pixel]) * length
            leaks[pixel] = renewed
            count += 1
            now, difference = event + dead, zero
        differences[pixel] = difference + change * (one - now)
        if now > one:
            differences[pixel] = _DEAD
            if now > loud[START, i]:
                wakes_us[pixel] = interval.begin_us + np.float64(now) * interval.length_us
        head[place] = -1
    return number, used


@compiled
def _copy(lines: NDArray[np.int32], i: Int, hits: Hits, used: Int) -> None:
    # All at once: one load and one store.
    end = np.uint64(used)
    row = lines[i, 0], lines[i, 1], lines[i, 2], lines[i, 3]
    hits[end, 0], hits[end, 1], hits[end, 2], hits[end, 3] = row


@compiled
def _renewed(mean: Float, factors: NDArray[np.float32], key: Int, pixel: Int, number: Int) -> Float:
    """The leak of a pixel after its event `number` of an interval."""
    if mean == 0:
        return mean
    draw = mix(key, np.int64(pixel) + (number << 32)) >> np.uint64(64 - LEAK_BITS)
    return mean * factors[draw]
