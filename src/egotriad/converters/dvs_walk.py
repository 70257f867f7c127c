"""Compiled loop of the whole event emulator: low pass, leak, noise and refractory period.

State of a pixel is the difference between its signal and the reference it has memorised. Between
two frames signal and leak are straight lines, so a pixel whose difference is inside its thresholds
at the later frame has been silent, and that test is all that most pixels cost. After an event the
reference follows the signal for the dead time, so the difference begins again at zero: on a
straight line, all later events of the interval are equally far apart. Only pixels with shot noise
or a fast leak need to be walked through the interval from event to event.

Frames are walked block of pixels by block of pixels, as in `dvs_levels`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import Float, Int, compiled
from egotriad.converters.counter_rng import mix
from egotriad.converters.dvs_noise import BLOCK, Arrivals, ShotNoise, arrive
from egotriad.converters.dvs_place import Hits, more_hits
from egotriad.converters.dvs_walk_space import Interval, Space, new_space
from egotriad.converters.simd import LANES, outside, trailing_zeros

__all__ = ["LEAK_FACTORS", "MOST_LEAK", "Drive", "Walk", "WalkFrames", "scan_walk"]

_LEAK_BITS = 12
LEAK_FACTORS = 1 << _LEAK_BITS
"""Number of equally likely ratios of a leak to its mean."""

MOST_LEAK = np.float32(16)
"""A line is the signal's when the leak is at most 1 / this of it."""
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
    blocks = (pixels + BLOCK - 1) // BLOCK
    ends = np.empty((blocks, n), np.int64)
    space = new_space()
    quiet = Arrivals(
        np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.bool_), np.empty(0, np.int32)
    )
    used = 0
    for block in range(blocks):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, pixels)
        here = slice(begin, end)
        part = Walk(
            state.log[here],
            state.lag[here],
            state.difference[here],
            state.wake_us[here],
            state.pos[here],
            state.neg[here],
            state.leak[here],
            state.mean_leak[here],
        )
        for k in range(n):
            interval = Interval(
                frames.times_us[k],
                frames.times_us[k + 1] - frames.times_us[k],
                begin,
                width,
                mix(drive.leak_key, frames.number + k),
            )
            levels = frames.levels[k, here]
            if frames.logs.shape[0]:
                space.log[: end - begin] = frames.logs[k, here]
            else:
                _look_up(levels, drive.log_of_level, space.log)
            _ramp(part, space)
            if frames.decay.shape[0]:
                _look_up(levels, frames.decay[k], space.decay)
                _look_up(levels, frames.follow[k], space.follow)
                _low_pass(part, space)
            _advance(part, space, np.float32(interval.length_us))
            arrivals = quiet
            if noise.per_us[block] > 0:
                arrivals = arrive(
                    noise, block, frames.number + k, interval.length_us, levels, space.head
                )
                for pixel in arrivals.pixel:
                    space.loud[pixel] = 1
            number = _find(part, space, interval)
            dead = np.float32(drive.refractory_us / interval.length_us)
            _fire(space, number, interval, dead)
            if used + number > hits.events.size:
                hits = more_hits(hits, used, number)
            hits, used = _settle(part, space, number, interval, dead, drive, arrivals, hits, used)
            part.difference[:] = space.after[: end - begin]
            ends[block, k] = used
    return hits, ends


@compiled
def _look_up(
    levels: NDArray[np.uint8], table: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    for i in range(levels.size):
        out[i] = table[levels[i]]


@compiled
def _ramp(part: Walk, space: Space) -> None:
    """Change of log intensity over the interval."""
    log, change = space.log[: part.log.size], space.change[: part.log.size]
    for i in range(log.size):
        change[i] = log[i] - part.log[i]
    part.log[:] = log


@compiled
def _low_pass(part: Walk, space: Space) -> None:
    """Change of the low-passed signal from that of log intensity.

    The response of a first-order low pass to a ramp. Loops over few arrays each: one loop over all
    of them would not become vector instructions.
    """
    size = part.log.size
    lag, change = space.lag[:size], space.change[:size]
    decay, follow = space.decay[:size], space.follow[:size]
    for i in range(size):
        lag[i] = decay[i] * part.lag[i]
    for i in range(size):
        lag[i] -= follow[i] * change[i]
    for i in range(size):
        decay[i] = lag[i] - part.lag[i]
    for i in range(size):
        change[i] += decay[i]
    part.lag[:] = lag


@compiled
def _advance(part: Walk, space: Space, interval_us: Float) -> None:
    """Differences at the end of the interval if nothing happens before, and who is loud."""
    size = part.log.size
    change, after, loud = space.change[:size], space.after[:size], space.loud[:size]
    for i in range(size):
        change[i] += part.leak[i] * interval_us
    for i in range(size):
        after[i] = part.difference[i] + change[i]
    for i in range(size):
        loud[i] = (after[i] >= part.pos[i]) | (-after[i] >= part.neg[i])
    space.loud[size:] = 0


@compiled
def _find(part: Walk, space: Space, interval: Interval) -> Int:
    """Lists the loud pixels with what decides on their events; their number."""
    number = np.uint64(0)
    for place in range(0, part.log.size, LANES):
        mask = outside(space.loud, space.zeros, space.zeros, place)
        while mask != 0:
            space.pixel[number] = np.uint64(place) + trailing_zeros(mask)
            number += np.uint64(1)
            mask &= mask - np.uint64(1)
    for i in range(np.int64(number)):
        pixel = space.pixel[i]
        difference, after, slope = part.difference[pixel], space.after[pixel], space.change[pixel]
        pos, neg = part.pos[pixel], part.neg[pixel]
        start: Float = np.float32(0)
        if difference == _DEAD:
            start = np.float32((part.wake_us[pixel] - interval.begin_us) / interval.length_us)
            difference, after = np.float32(0), slope
        on = after >= 0
        space.on[i], space.start[i] = on, start
        space.threshold[i] = pos if on else neg
        space.slope[i] = slope if on else -slope
        space.left[i] = space.threshold[i] - (difference if on else -difference)
    return np.int64(number)


@compiled
def _fire(space: Space, number: int, interval: Interval, dead: Float) -> None:
    """Events of the loud pixels on their lines; what rounding has left over is due at once."""
    per_row = 1 / interval.width
    for i in range(number):
        left, slope = max(space.left[i], np.float32(0)), space.slope[i]
        rises = slope > 0
        per_slope = 1 / slope if rises else np.float32(0)
        first = space.start[i] + left * per_slope
        step = space.threshold[i] * per_slope + dead
        later = np.int32((1 - first) / step) if rises else np.int32(0)
        happens = (first <= 1) & (rises | (left == 0))
        space.first[i], space.step[i] = first, step
        space.events[i] = later + 1 if happens else 0
        pixel = interval.first_pixel + np.int64(space.pixel[i])
        y = np.int32((pixel + 0.5) * per_row)
        x = np.int32(pixel) - y * np.int32(interval.width)
        space.address[i] = y << 16 | x << 1 | np.int32(space.on[i])


@compiled
def _settle(
    part: Walk,
    space: Space,
    number: Int,
    interval: Interval,
    dead: Float,
    drive: Drive,
    arrivals: Arrivals,
    hits: Hits,
    used: Int,
) -> tuple[Hits, int]:
    """Records the events of the loud pixels and leaves them as they are after.

    `hits` has room for one hit of each of them, or becomes larger; returns it and the new `used`.
    """
    one, zero, length = np.float32(1), np.float32(0), np.float32(interval.length_us)
    for i in range(number):
        pixel = space.pixel[i]
        was_dead = part.difference[pixel] == _DEAD
        now, events = space.start[i], space.events[i]
        change = space.slope[i] if space.on[i] else -space.slope[i]
        arrival = space.head[pixel]
        if arrival < 0 and events == 0 and not was_dead:
            continue  # rounding made it loud
        pos, neg = part.pos[pixel], part.neg[pixel]
        difference = zero if was_dead else part.difference[pixel]
        count = 0
        # Several events on one line, unless it is steep by the leak, which each event renews.
        one_line = events < 2 or part.leak[pixel] * length * MOST_LEAK <= space.slope[i]
        if arrival < 0 and one_line:
            if events > 0:
                hits.address[used], hits.events[used] = space.address[i], events
                hits.first[used], hits.step[used] = space.first[i], space.step[i]
                used += 1
                now = space.first[i] + np.float32(events - 1) * space.step[i] + dead
                change += _renewed(part, pixel, drive, interval, 0) * length
                difference, count = zero, 1
            walks = not -neg < change * (one - now) < pos
        else:
            walks = True
        space.head[pixel] = -1
        while walks and now <= one:
            # The next crossing: at once, or where the line meets a threshold.
            on = change > 0 if -neg < difference < pos else difference > 0
            left = (pos if on else neg) - (difference if on else -difference)
            event = now + (left / abs(change) if left > 0 else zero)
            while arrival >= 0 and arrivals.fraction[arrival] < now:
                arrival = arrivals.follower[arrival]
            if arrival >= 0 and not arrivals.fraction[arrival] >= event:
                event, on = arrivals.fraction[arrival], arrivals.on[arrival]
                arrival = arrivals.follower[arrival]
            if not event <= one:
                break
            if used + number - i > hits.events.size:
                hits = more_hits(hits, used, number)
            hits.address[used], hits.events[used] = space.address[i] & -2 | np.int32(on), 1
            hits.first[used], hits.step[used] = event, zero
            used += 1
            change += _renewed(part, pixel, drive, interval, count) * length
            count += 1
            now, difference = event + dead, zero
        space.after[pixel] = difference + change * (one - now)
        if now > one:
            space.after[pixel] = _DEAD
            if now > space.start[i]:
                part.wake_us[pixel] = interval.begin_us + np.float64(now) * interval.length_us
    return hits, used


@compiled
def _renewed(part: Walk, pixel: int, drive: Drive, interval: Interval, number: Int) -> Float:
    """Draws the leak of a pixel after its event `number` of an interval; by how much it grew."""
    mean = part.mean_leak[pixel]
    if mean == 0:
        return np.float32(0)
    counter = np.int64(pixel) + interval.first_pixel + (number << 32)
    draw = mix(interval.key, counter) >> np.uint64(64 - _LEAK_BITS)
    before = part.leak[pixel]
    part.leak[pixel] = mean * drive.leak_factors[draw]
    return part.leak[pixel] - before
