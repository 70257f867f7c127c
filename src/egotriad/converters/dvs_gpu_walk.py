"""The whole pixel model of the event emulator as a Triton kernel.

A program holds a group of pixels of one clip in registers and runs through all frames of a call. It
is one warp: what its lanes have to tell each other needs no barrier. In a frame, the events of
pixels on one straight line come in closed form; those that leak or noise moves in turn are walked
from event to event, as long as one lane has events. The arithmetic is that of `dvs_walk`.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

from egotriad.converters.dvs_gpu_expand import Stretches, expanded, stretches
from egotriad.converters.dvs_gpu_place import Clock
from egotriad.converters.dvs_gpu_state import GROUP, WalkDrive, WalkInput, WalkState
from egotriad.converters.dvs_gpu_triton import EXACT, jit, mixed, tl
from egotriad.converters.dvs_walk import LEAK_FACTORS, MOST_LEAK

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["walk_keys"]

_TILE = 32  # arrivals that are looked at together
_MOVED = 5  # columns of the state that change


def walk_keys(
    frames: WalkInput, state: WalkState, drive: WalkDrive, clock: Clock, *, slots: bool
) -> tuple[Tensor, WalkState]:
    """Sort keys of the events of the frames, and the state after them."""
    import torch

    clips, n, pixels = frames.levels.shape
    groups, device = -(-pixels // GROUP), frames.levels.device
    after = [torch.empty_like(column) for column in state[:_MOVED]]
    heads = torch.full((clips * groups, GROUP), -1, dtype=torch.int32, device=device)
    nothing = frames.levels  # for what a kernel does not look at
    absent = (nothing,) * 4

    def scan(found: Stretches) -> None:
        _scan[groups, clips](
            frames.levels,
            nothing if frames.logs is None else frames.logs,
            nothing if frames.decay is None else frames.decay,
            nothing if frames.follow is None else frames.follow,
            frames.begin_us,
            frames.length_us,
            frames.dead,
            frames.leak_key,
            *(frames.arrivals or absent),
            heads,
            drive.log_of_level,
            drive.leak_factors,
            *state,
            *after,
            found.hits,
            found.ends,
            found.events,
            found.busiest,
            n,
            pixels,
            found.capacity,
            found.hits.shape[1],
            slots=slots,
            has_logs=frames.logs is not None,
            has_low_pass=frames.decay is not None,
            has_noise=frames.arrivals is not None,
            most_leak=float(MOST_LEAK),
            draw_shift=64 - (LEAK_FACTORS.bit_length() - 1),
            aligned=gcd(pixels, 16),
            tile=_TILE,
            size=GROUP,
            num_warps=1,
            **EXACT,
        )

    found = stretches(scan, (clips, groups, n), words=2, likely=GROUP * n // 4, device=device)
    keys = expanded(found, clock, pixels, GROUP, slots=slots)
    return keys, WalkState(*after, *state[_MOVED:])


@jit
def _scan(
    levels: tl.tensor,
    logs: tl.tensor,
    decay_of: tl.tensor,
    follow_of: tl.tensor,
    begin_of: tl.tensor,
    length_of: tl.tensor,
    dead_of: tl.tensor,
    key_of: tl.tensor,
    arrival_ends: tl.tensor,
    arrival_pixel: tl.tensor,
    arrival_fraction: tl.tensor,
    arrival_on: tl.tensor,
    heads: tl.tensor,
    log_of_level: tl.tensor,
    leak_factors: tl.tensor,
    log_before: tl.tensor,
    lag_before: tl.tensor,
    difference_before: tl.tensor,
    wake_before: tl.tensor,
    leak_before: tl.tensor,
    pos_of: tl.tensor,
    neg_of: tl.tensor,
    mean_leak_of: tl.tensor,
    log_after: tl.tensor,
    lag_after: tl.tensor,
    difference_after: tl.tensor,
    wake_after: tl.tensor,
    leak_after: tl.tensor,
    hits: tl.tensor,
    ends: tl.tensor,
    events_of: tl.tensor,
    busiest_of: tl.tensor,
    n: tl.tensor,
    pixels: tl.tensor,
    capacity: tl.tensor,
    plane: tl.tensor,
    slots: tl.constexpr,
    has_logs: tl.constexpr,
    has_low_pass: tl.constexpr,
    has_noise: tl.constexpr,
    most_leak: tl.constexpr,
    draw_shift: tl.constexpr,
    aligned: tl.constexpr,
    tile: tl.constexpr,
    size: tl.constexpr,
) -> None:
    """Hits of one group of pixels of one clip in all frames; `aligned` divides `pixels`."""
    group, clip = tl.program_id(0), tl.program_id(1)
    groups, clips = tl.num_programs(0), tl.num_programs(1)
    program = (clip * groups + group).to(tl.int64)
    pixels = pixels // aligned * aligned  # tells the compiler which loads it may join
    pixel = group * size + tl.arange(0, size)
    inside = pixel < pixels
    place = clip.to(tl.int64) * pixels + pixel
    log = tl.load(log_before + place, mask=inside, other=0.0)
    lag = tl.load(lag_before + place, mask=inside, other=0.0)
    difference = tl.load(difference_before + place, mask=inside, other=0.0)
    wake_us = tl.load(wake_before + place, mask=inside, other=0.0)
    leak = tl.load(leak_before + place, mask=inside, other=0.0)
    pos = tl.load(pos_of + place, mask=inside, other=1e30)
    neg = tl.load(neg_of + place, mask=inside, other=1e30)
    mean_leak = tl.load(mean_leak_of + place, mask=inside, other=0.0)
    head = heads + program * size
    out, out_line = hits + program * capacity, hits + plane + program * capacity
    used = 0
    for k in range(n):
        interval = clip.to(tl.int64) * n + k
        begin_us, length_us = tl.load(begin_of + interval), tl.load(length_of + interval)
        length, dead = length_us.to(tl.float32), tl.load(dead_of + interval)
        row = interval * pixels + pixel
        level = tl.load(levels + row, mask=inside, other=0).to(tl.int32)
        log_now = tl.load(log_of_level + level)
        if has_logs:
            log_now = tl.load(logs + row, mask=inside, other=0.0)
        change = log_now - log
        log = log_now
        if has_low_pass:
            decay = tl.load(decay_of + interval * 256 + level)
            follow = tl.load(follow_of + interval * 256 + level)
            lagged = decay * lag - follow * change
            change += lagged - lag
            lag = lagged
        change += leak * length
        after = difference + change
        loud = inside & ((after >= pos) | (-after >= neg))
        arrival, stop = tl.full([size], -1, tl.int32), 0
        if has_noise:
            listed = (k * clips + clip).to(tl.int64) * groups + group
            start = tl.load(arrival_ends + listed - 1, mask=listed > 0, other=0).to(tl.int32)
            stop = tl.load(arrival_ends + listed).to(tl.int32)
            if stop > start:
                first_pixel = clip * pixels + group * size
                arrival = _heads(arrival_pixel, start, stop, first_pixel, head, tile, size)
            loud = loud | (arrival >= 0)
        count = tl.zeros([size], tl.int32)
        if tl.max(loud.to(tl.int32), 0) > 0:
            key = tl.load(key_of + interval).to(tl.uint64, bitcast=True)
            was_dead = difference == float("inf")
            late = ((wake_us - begin_us) / length_us).to(tl.float32)
            start_at = tl.where(was_dead, late, 0.0)
            gap = tl.where(was_dead, 0.0, difference)
            on = tl.where(was_dead, change, after) >= 0
            first, step, events = _line(loud, start_at, gap, change, on, pos, neg, dead)
            silent = (loud == 0) | ((arrival < 0) & (events == 0) & (was_dead == 0))
            # Several events on one line, unless it is steep by the leak, which each event renews.
            one_line = leak * length * most_leak <= tl.where(on, change, -change)
            lined = (silent == 0) & (arrival < 0) & ((events < 2) | one_line)
            count = tl.where(lined, events, 0)
            fires = count > 0
            address = pixel << 1 | on.to(tl.int32)
            number = tl.where(slots, 0.0, first)
            used = _record(out, out_line, capacity, used, fires, address, count, number, step)
            last = first + (count - 1).to(tl.float32) * step + dead
            now = tl.where(fires, last, start_at)
            draws = tl.zeros([size], tl.int64)
            new = _renewed(key, pixel, draws, leak_factors, mean_leak, leak, fires, draw_shift)
            change = tl.where(fires, change + (new - leak) * length, change)
            leak = new
            draws += lined.to(tl.int64)
            gap = tl.where(lined, 0.0, gap)
            rest = change * (1.0 - now)
            walks = (lined == 0) | (rest <= -neg) | (rest >= pos)
            walks = walks & (silent == 0) & (now <= 1)
            while tl.max(walks.to(tl.int32), 0) > 0:
                on, event = _crossing(walks, now, gap, change, pos, neg)
                if has_noise:
                    arrival = _passed(walks, now, arrival, stop, arrival_pixel, arrival_fraction)
                    waits = walks & (arrival >= 0)
                    fraction = tl.load(arrival_fraction + arrival, mask=waits, other=0.0)
                    arrives = waits & (fraction < event)
                    event = tl.where(arrives, fraction, event)
                    drawn = tl.load(arrival_on + arrival, mask=arrives, other=0).to(tl.int32)
                    on = tl.where(arrives, drawn != 0, on)
                    arrival = _follower(arrives, arrival, stop, arrival_pixel)
                walks = walks & (event <= 1)
                one, zero = tl.full([size], 1, tl.int32), tl.zeros([size], tl.float32)
                address = pixel << 1 | on.to(tl.int32)
                number = tl.where(slots, count.to(tl.float32), event)
                used = _record(out, out_line, capacity, used, walks, address, one, number, zero)
                new = _renewed(key, pixel, draws, leak_factors, mean_leak, leak, walks, draw_shift)
                change = tl.where(walks, change + (new - leak) * length, change)
                leak = new
                count += walks.to(tl.int32)
                draws += walks.to(tl.int64)
                now = tl.where(walks, event + dead, now)
                gap = tl.where(walks, 0.0, gap)
                walks = walks & (now <= 1)
            sleeps = (silent == 0) & (now > 1)
            after = tl.where(silent, after, gap + change * (1.0 - now))
            after = tl.where(sleeps, float("inf"), after)
            woken_us = begin_us + now.to(tl.float64) * length_us
            wake_us = tl.where(sleeps & (now > start_at), woken_us, wake_us)
        difference = after
        tl.store(ends + program * n + k, used)
        tl.store(events_of + program * n + k, tl.sum(count, 0))
        if slots:
            tl.atomic_max(busiest_of + interval, tl.max(count, 0))
    tl.store(log_after + place, log, mask=inside)
    tl.store(lag_after + place, lag, mask=inside)
    tl.store(difference_after + place, difference, mask=inside)
    tl.store(wake_after + place, wake_us, mask=inside)
    tl.store(leak_after + place, leak, mask=inside)


@jit
def _heads(
    arrival_pixel: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    first_pixel: tl.tensor,
    head: tl.tensor,
    tile: tl.constexpr,
    size: tl.constexpr,
) -> tl.tensor:
    """The first arrival at each pixel of the group, or -1: by way of memory, all -1 again after."""
    for at in range(start, stop, tile):
        here = at + tl.arange(0, tile)
        valid = here < stop
        mine = tl.load(arrival_pixel + here, mask=valid, other=-1)
        other = tl.load(arrival_pixel + here - 1, mask=valid & (here > start), other=-1)
        tl.store(head + mine - first_pixel, here, mask=valid & (mine != other))
    tl.debug_barrier()
    arrival = tl.load(head + tl.arange(0, size))
    tl.debug_barrier()
    tl.store(head + tl.arange(0, size), tl.full([size], -1, tl.int32))
    tl.debug_barrier()
    return arrival


@jit
def _line(
    loud: tl.tensor,
    start_at: tl.tensor,
    gap: tl.tensor,
    change: tl.tensor,
    on: tl.tensor,
    pos: tl.tensor,
    neg: tl.tensor,
    dead: tl.tensor,
) -> tl.tensor:
    """Events of the loud pixels on their lines: the first, the distance, how many."""
    slope, threshold = tl.where(on, change, -change), tl.where(on, pos, neg)
    left = tl.maximum(threshold - tl.where(on, gap, -gap), 0.0)
    rises = loud & (slope > 0)
    per_slope = tl.where(rises, 1.0 / tl.where(rises, slope, 1.0).to(tl.float64), 0.0)
    first = start_at.to(tl.float64) + left.to(tl.float64) * per_slope
    step = threshold.to(tl.float64) * per_slope + dead.to(tl.float64)
    happens = loud & (first <= 1) & (rises | (left == 0))
    several = happens & rises
    later = tl.where(several, (1.0 - first) / tl.where(several, step, 1.0), 0.0).to(tl.int32)
    return first.to(tl.float32), step.to(tl.float32), tl.where(happens, later + 1, 0)


@jit
def _crossing(
    walks: tl.tensor,
    now: tl.tensor,
    gap: tl.tensor,
    change: tl.tensor,
    pos: tl.tensor,
    neg: tl.tensor,
) -> tl.tensor:
    """Polarity and time of the next crossing: at once, or where the line meets a threshold."""
    within = (-neg < gap) & (gap < pos)
    on = tl.where(within, change, gap) > 0
    left = tl.where(on, pos, neg) - tl.where(on, gap, -gap)
    moves = walks & (change != 0)
    wait = tl.div_rn(left, tl.where(moves, tl.abs(change), 1.0))
    wait = tl.where(moves, wait, float("inf"))
    return on, now + tl.where(left > 0, wait, 0.0)


@jit
def _passed(
    walks: tl.tensor,
    now: tl.tensor,
    arrival: tl.tensor,
    stop: tl.tensor,
    arrival_pixel: tl.tensor,
    arrival_fraction: tl.tensor,
) -> tl.tensor:
    """The next arrivals after those that meet a pixel in its dead time."""
    waits = walks & (arrival >= 0)
    late = waits & (tl.load(arrival_fraction + arrival, mask=waits, other=0.0) < now)
    while tl.max(late.to(tl.int32), 0) > 0:
        arrival = _follower(late, arrival, stop, arrival_pixel)
        waits = walks & (arrival >= 0)
        late = waits & (tl.load(arrival_fraction + arrival, mask=waits, other=0.0) < now)
    return arrival


@jit
def _follower(
    moves: tl.tensor, arrival: tl.tensor, stop: tl.tensor, arrival_pixel: tl.tensor
) -> tl.tensor:
    """For the pixels that move on, their next arrival or -1."""
    follows = moves & (arrival + 1 < stop)
    mine = tl.load(arrival_pixel + arrival, mask=follows, other=-1)
    other = tl.load(arrival_pixel + arrival + 1, mask=follows, other=-2)
    return tl.where(moves, tl.where(follows & (mine == other), arrival + 1, -1), arrival)


@jit
def _record(
    out: tl.tensor,
    out_line: tl.tensor,
    capacity: tl.tensor,
    used: tl.tensor,
    fires: tl.tensor,
    address: tl.tensor,
    events: tl.tensor,
    first: tl.tensor,
    step: tl.tensor,
) -> tl.tensor:
    """Writes the hits of the pixels that fire; how many there are then."""
    found = fires.to(tl.int32)
    position = used + tl.cumsum(found, 0) - 1
    kept = fires & (position < capacity)
    tl.store(out + position, events.to(tl.int64) << 32 | address.to(tl.int64), mask=kept)
    first, step = first.to(tl.int32, bitcast=True), step.to(tl.int32, bitcast=True)
    line = step.to(tl.int64) << 32 | (first.to(tl.int64) & 0xFFFFFFFF)
    tl.store(out_line + position, line, mask=kept)
    return used + tl.sum(found, 0)


@jit
def _renewed(
    key: tl.tensor,
    pixel: tl.tensor,
    draws: tl.tensor,
    leak_factors: tl.tensor,
    mean_leak: tl.tensor,
    leak: tl.tensor,
    fires: tl.tensor,
    draw_shift: tl.constexpr,
) -> tl.tensor:
    """The leaks, newly drawn where a pixel fires."""
    bits = mixed(key, pixel.to(tl.int64) + (draws << 32))
    renews = fires & (mean_leak != 0)
    factor = tl.load(leak_factors + (bits >> draw_shift).to(tl.int32), mask=renews, other=0.0)
    return tl.where(renews, mean_leak * factor, leak)
