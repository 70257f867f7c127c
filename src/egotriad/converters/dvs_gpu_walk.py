"""The whole pixel model of the event emulator as a Triton kernel.

A program holds a group of pixels of one clip in registers and runs through all frames of a call. It
is one warp: what its lanes have to tell each other needs no barrier. In a frame, the events of
pixels on one straight line come in closed form; those that leak or noise moves in turn are walked
from event to event, as long as one lane has events. The arithmetic is that of `dvs_walk`.
"""

from __future__ import annotations

from math import gcd

from egotriad.converters.dvs_gpu_order import Stretches, ordered, stretches
from egotriad.converters.dvs_gpu_place import BatchEvents, Clock
from egotriad.converters.dvs_gpu_state import GROUP, WalkDrive, WalkInput, WalkState
from egotriad.converters.dvs_gpu_steps import (
    after_dead_time,
    first_arrivals,
    follower,
    line_events,
    next_crossing,
    record,
    renewed,
)
from egotriad.converters.dvs_gpu_triton import EXACT, jit, tl
from egotriad.converters.dvs_walk import LEAK_FACTORS, MOST_LEAK

__all__ = ["walk_events"]

_TILE = 32  # arrivals that are looked at together
_MOVED = 5  # columns of the state that change


def walk_events(
    frames: WalkInput, state: WalkState, drive: WalkDrive, clock: Clock, *, slots: bool
) -> tuple[BatchEvents, WalkState]:
    """Events of the frames, and the state after them."""
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
            *found[:5],
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

    found = stretches(scan, (clips, groups, n), words=2, likely=GROUP * n // 2, device=device)
    events = ordered(found, clock, pixels, GROUP, slots=slots)
    return events, WalkState(*after, *state[_MOVED:])


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
    frame_of: tl.tensor,
    used_of: tl.tensor,
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
    out = program * capacity
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
                arrival = first_arrivals(arrival_pixel, start, stop, first_pixel, head, tile, size)
            loud = loud | (arrival >= 0)
        count = tl.zeros([size], tl.int32)
        if tl.max(loud.to(tl.int32), 0) > 0:
            key = tl.load(key_of + interval).to(tl.uint64, bitcast=True)
            was_dead = difference == float("inf")
            late = ((wake_us - begin_us) / length_us).to(tl.float32)
            start_at = tl.where(was_dead, late, 0.0)
            gap = tl.where(was_dead, 0.0, difference)
            on = tl.where(was_dead, change, after) >= 0
            first, step, events = line_events(loud, start_at, gap, change, on, pos, neg, dead)
            silent = (loud == 0) | ((arrival < 0) & (events == 0) & (was_dead == 0))
            # Several events on one line, unless it is steep by the leak, which each event renews.
            one_line = leak * length * most_leak <= tl.where(on, change, -change)
            lined = (silent == 0) & (arrival < 0) & ((events < 2) | one_line)
            count = tl.where(lined, events, 0)
            fires = count > 0
            address = pixel << 1 | on.to(tl.int32)
            number = tl.where(slots, 0.0, first)
            used = record(
                hits + out,
                plane,
                frame_of + out,
                k,
                capacity,
                used,
                fires,
                address,
                count,
                number,
                step,
            )
            last = first + (count - 1).to(tl.float32) * step + dead
            now = tl.where(fires, last, start_at)
            draws = tl.zeros([size], tl.int64)
            new = renewed(key, pixel, draws, leak_factors, mean_leak, leak, fires, draw_shift)
            change = tl.where(fires, change + (new - leak) * length, change)
            leak = new
            draws += lined.to(tl.int64)
            gap = tl.where(lined, 0.0, gap)
            rest = change * (1.0 - now)
            walks = (lined == 0) | (rest <= -neg) | (rest >= pos)
            walks = walks & (silent == 0) & (now <= 1)
            while tl.max(walks.to(tl.int32), 0) > 0:
                on, event = next_crossing(walks, now, gap, change, pos, neg)
                if has_noise:
                    arrival = after_dead_time(
                        walks, now, arrival, stop, arrival_pixel, arrival_fraction
                    )
                    waits = walks & (arrival >= 0)
                    fraction = tl.load(arrival_fraction + arrival, mask=waits, other=0.0)
                    arrives = waits & (fraction < event)
                    event = tl.where(arrives, fraction, event)
                    drawn = tl.load(arrival_on + arrival, mask=arrives, other=0).to(tl.int32)
                    on = tl.where(arrives, drawn != 0, on)
                    arrival = follower(arrives, arrival, stop, arrival_pixel)
                walks = walks & (event <= 1)
                one, zero = tl.full([size], 1, tl.int32), tl.zeros([size], tl.float32)
                address = pixel << 1 | on.to(tl.int32)
                number = tl.where(slots, count.to(tl.float32), event)
                used = record(
                    hits + out,
                    plane,
                    frame_of + out,
                    k,
                    capacity,
                    used,
                    walks,
                    address,
                    one,
                    number,
                    zero,
                )
                new = renewed(key, pixel, draws, leak_factors, mean_leak, leak, walks, draw_shift)
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
        tl.store(events_of + program * n + k, tl.sum(count, 0))
        if slots:
            tl.atomic_max(busiest_of + interval, tl.max(count, 0))
    tl.store(used_of + program, used)
    tl.store(log_after + place, log, mask=inside)
    tl.store(lag_after + place, lag, mask=inside)
    tl.store(difference_after + place, difference, mask=inside)
    tl.store(wake_after + place, wake_us, mask=inside)
    tl.store(leak_after + place, leak, mask=inside)
