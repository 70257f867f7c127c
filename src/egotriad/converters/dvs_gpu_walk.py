"""The whole pixel model of the event emulator as a Triton kernel.

A program holds a group of pixels of one clip in registers and runs through all frames of a call.
In a frame, the events of pixels on one straight line come in closed form; those that leak or noise
moves in turn are walked from event to event, all lanes of the program at once, as long as one of
them has events. The arithmetic is that of `dvs_walk`.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

from egotriad.converters.dvs_gpu_expand import Stretches, expanded, stretches
from egotriad.converters.dvs_gpu_place import Clock
from egotriad.converters.dvs_gpu_state import GROUP, WalkDrive, WalkInput, WalkState
from egotriad.converters.dvs_gpu_triton import EXACT, jit, mixed, tl
from egotriad.converters.dvs_walk import LEAK_FACTORS, MOST_LEAK

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["walk_keys"]

_TILE = 32  # arrivals that are looked at together


def walk_keys(
    frames: WalkInput, state: WalkState, drive: WalkDrive, clock: Clock, *, slots: bool
) -> tuple[Tensor, WalkState]:
    """Sort keys of the events of the frames, and the state after them."""
    import torch

    clips, n, pixels = frames.levels.shape
    groups, device = -(-pixels // GROUP), frames.levels.device
    moved = WalkState(*(torch.empty_like(column) for column in state[:5]), *state[5:])
    none, arrivals = frames.levels, frames.arrivals
    heads = torch.full((clips * groups, GROUP), -1, dtype=torch.int32, device=device)

    def scan(found: Stretches) -> None:
        _scan[groups, clips](
            frames.levels,
            none if frames.logs is None else frames.logs,
            none if frames.decay is None else frames.decay,
            none if frames.follow is None else frames.follow,
            frames.begin_us,
            frames.length_us,
            frames.dead,
            frames.leak_key,
            *((none,) * 4 if arrivals is None else arrivals[:4]),
            heads,
            drive.log_of_level,
            drive.leak_factors,
            *state,
            *moved[:5],
            found.hits,
            found.ends,
            found.events,
            found.busiest,
            n,
            pixels,
            found.capacity,
            found.hits.shape[1],
            SLOTS=slots,
            LOGS=frames.logs is not None,
            LOW_PASS=frames.decay is not None,
            ARRIVALS=arrivals is not None,
            MOST_LEAK=float(MOST_LEAK),
            DRAW_SHIFT=64 - (LEAK_FACTORS.bit_length() - 1),
            ALIGNED=gcd(pixels, 16),
            TILE=_TILE,
            GROUP=GROUP,
            num_warps=1,
            **EXACT,
        )

    found = stretches(scan, (clips, groups, n), words=2, likely=GROUP * n // 4, device=device)
    return expanded(found, clock, pixels, GROUP, slots=slots), moved


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
    SLOTS: tl.constexpr,
    LOGS: tl.constexpr,
    LOW_PASS: tl.constexpr,
    ARRIVALS: tl.constexpr,
    MOST_LEAK: tl.constexpr,
    DRAW_SHIFT: tl.constexpr,
    ALIGNED: tl.constexpr,
    TILE: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """Hits of one group of pixels of one clip in all frames; `ALIGNED` divides `pixels`."""
    group, clip = tl.program_id(0), tl.program_id(1)
    groups, clips = tl.num_programs(0), tl.num_programs(1)
    program = (clip * groups + group).to(tl.int64)
    pixels = pixels // ALIGNED * ALIGNED  # tells the compiler which loads it may join
    lane = tl.arange(0, GROUP)
    pixel = group * GROUP + lane
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
    head_of = heads + program * GROUP + lane
    first_row = clip.to(tl.int64) * n
    used = 0
    for k in range(n):
        interval = first_row + k
        row = interval * pixels
        begin_us, length_us = tl.load(begin_of + interval), tl.load(length_of + interval)
        length, dead = length_us.to(tl.float32), tl.load(dead_of + interval)
        level = tl.load(levels + row + pixel, mask=inside, other=0).to(tl.int32)
        before = log
        if LOGS:
            log = tl.load(logs + row + pixel, mask=inside, other=0.0)
        else:
            log = tl.load(log_of_level + level)
        change = log - before
        if LOW_PASS:
            decay = tl.load(decay_of + interval * 256 + level)
            follow = tl.load(follow_of + interval * 256 + level)
            lagged = decay * lag - follow * change
            change += lagged - lag
            lag = lagged
        change += leak * length
        after = difference + change
        loud = inside & ((after >= pos) | (-after >= neg))
        arrival = tl.full([GROUP], -1, tl.int32)
        stop = 0
        if ARRIVALS:
            list_place = (k * clips + clip).to(tl.int64) * groups + group
            start = tl.load(arrival_ends + list_place - 1, mask=list_place > 0, other=0)
            start = start.to(tl.int32)
            stop = tl.load(arrival_ends + list_place).to(tl.int32)
            if stop > start:
                first_pixel = clip * pixels + group * GROUP
                for at in range(start, stop, TILE):
                    here = at + tl.arange(0, TILE)
                    valid = here < stop
                    mine = tl.load(arrival_pixel + here, mask=valid, other=-1)
                    other = tl.load(arrival_pixel + here - 1, mask=valid & (here > start), other=-1)
                    is_first = valid & (mine != other)
                    slot = heads + program * GROUP + mine - first_pixel
                    tl.store(slot, here, mask=is_first)
                tl.debug_barrier()
                arrival = tl.load(head_of)
                tl.debug_barrier()
                tl.store(head_of, tl.full([GROUP], -1, tl.int32))
                tl.debug_barrier()
            loud = loud | (arrival >= 0)
        count = tl.zeros([GROUP], tl.int32)
        if tl.max(loud.to(tl.int32), 0) > 0:
            key = tl.load(key_of + interval)
            was_dead = difference == float("inf")
            late = ((wake_us - begin_us) / length_us).to(tl.float32)
            start_at = tl.where(was_dead, late, 0.0)
            gap = tl.where(was_dead, 0.0, difference)
            on = tl.where(was_dead, change, after) >= 0
            slope = tl.where(on, change, -change)
            threshold = tl.where(on, pos, neg)
            # Events on the line: float64, as exact as the CPU.
            left = tl.maximum(threshold - tl.where(on, gap, -gap), 0.0)
            rises = loud & (slope > 0)
            per_slope = 1.0 / tl.where(rises, slope, 1.0).to(tl.float64)
            per_slope = tl.where(rises, per_slope, 0.0)
            exact_first = start_at.to(tl.float64) + left.to(tl.float64) * per_slope
            exact_step = threshold.to(tl.float64) * per_slope + dead.to(tl.float64)
            happens = loud & (exact_first <= 1) & (rises | (left == 0))
            later = (1.0 - exact_first) / tl.where(happens & rises, exact_step, 1.0)
            later = tl.where(happens & rises, later, 0.0).to(tl.int32)
            events = tl.where(happens, later + 1, 0)
            silent = (arrival < 0) & (events == 0) & (was_dead == 0)
            one_line = (events < 2) | (leak * length * MOST_LEAK <= slope)
            lined = loud & (arrival < 0) & one_line & (silent == 0)
            fires = lined & (events > 0)
            first, step = exact_first.to(tl.float32), exact_step.to(tl.float32)
            last = first + (events - 1).to(tl.float32) * step + dead
            now = tl.where(fires, last, start_at)
            used = _record(
                hits, program, capacity, plane, used, fires, pixel << 1 | on.to(tl.int32), events,
                tl.where(SLOTS, 0.0, first), step,
            )  # fmt: skip
            draws = tl.zeros([GROUP], tl.int64)
            renewed = _renewed(key, pixel, draws, leak_factors, mean_leak, leak, fires, DRAW_SHIFT)
            change = tl.where(fires, change + (renewed - leak) * length, change)
            leak = renewed
            count = tl.where(fires, events, 0)
            draws += lined.to(tl.int64)
            gap = tl.where(lined, 0.0, gap)
            rest = change * (1.0 - now)
            inner = (-neg < rest) & (rest < pos)
            walks = loud & (silent == 0) & ((lined == 0) | (inner == 0)) & (now <= 1)
            while tl.max(walks.to(tl.int32), 0) > 0:
                # The next crossing: at once, or where the line meets a threshold.
                within = (-neg < gap) & (gap < pos)
                on = tl.where(within, change, gap) > 0
                left = tl.where(on, pos, neg) - tl.where(on, gap, -gap)
                meets = walks & (left > 0) & (change != 0)
                ahead = tl.div_rn(left, tl.where(meets, tl.abs(change), 1.0))
                ahead = tl.where((left > 0) & (change == 0), float("inf"), ahead)
                event = now + tl.where(left > 0, ahead, 0.0)
                if ARRIVALS:
                    arrives = walks & (arrival >= 0)
                    fraction = tl.load(arrival_fraction + arrival, mask=arrives, other=0.0)
                    passed = arrives & (fraction < now)
                    while tl.max(passed.to(tl.int32), 0) > 0:
                        arrival = _follower(arrival_pixel, arrival, stop, passed)
                        arrives = walks & (arrival >= 0)
                        fraction = tl.load(arrival_fraction + arrival, mask=arrives, other=0.0)
                        passed = arrives & (fraction < now)
                    arrives = arrives & (fraction < event)
                    event = tl.where(arrives, fraction, event)
                    sign = tl.load(arrival_on + arrival, mask=arrives, other=0)
                    on = tl.where(arrives, sign.to(tl.int32) != 0, on)
                    arrival = _follower(arrival_pixel, arrival, stop, arrives)
                walks = walks & (event <= 1)
                used = _record(
                    hits, program, capacity, plane, used, walks, pixel << 1 | on.to(tl.int32),
                    tl.full([GROUP], 1, tl.int32),
                    tl.where(SLOTS, count.to(tl.float32), event), tl.zeros([GROUP], tl.float32),
                )  # fmt: skip
                renewed = _renewed(
                    key, pixel, draws, leak_factors, mean_leak, leak, walks, DRAW_SHIFT
                )
                change = tl.where(walks, change + (renewed - leak) * length, change)
                leak = renewed
                count += walks.to(tl.int32)
                draws += walks.to(tl.int64)
                now = tl.where(walks, event + dead, now)
                gap = tl.where(walks, 0.0, gap)
                walks = walks & (now <= 1)
            moved = loud & (silent == 0)
            sleeps = moved & (now > 1)
            after = tl.where(moved, gap + change * (1.0 - now), after)
            after = tl.where(sleeps, float("inf"), after)
            woken_us = begin_us + now.to(tl.float64) * length_us
            wake_us = tl.where(sleeps & (now > start_at), woken_us, wake_us)
        difference = after
        tl.store(ends + program * n + k, used)
        tl.store(events_of + program * n + k, tl.sum(count, 0))
        if SLOTS:
            tl.atomic_max(busiest_of + interval, tl.max(count, 0))
    tl.store(log_after + place, log, mask=inside)
    tl.store(lag_after + place, lag, mask=inside)
    tl.store(difference_after + place, difference, mask=inside)
    tl.store(wake_after + place, wake_us, mask=inside)
    tl.store(leak_after + place, leak, mask=inside)


@jit
def _record(
    hits: tl.tensor,
    program: tl.tensor,
    capacity: tl.tensor,
    plane: tl.tensor,
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
    place = hits + program * capacity + position
    kept = fires & (position < capacity)
    tl.store(place, events.to(tl.int64) << 32 | address.to(tl.int64), mask=kept)
    first, step = first.to(tl.int32, bitcast=True), step.to(tl.int32, bitcast=True)
    line = step.to(tl.int64) << 32 | (first.to(tl.int64) & 0xFFFFFFFF)
    tl.store(place + plane, line, mask=kept)
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
    DRAW_SHIFT: tl.constexpr,
) -> tl.tensor:
    """Leaks, newly drawn for the pixels that fire: `counter_rng.mix` of key and counter."""
    bits = mixed(key.to(tl.uint64, bitcast=True), pixel.to(tl.int64) + (draws << 32))
    renews = fires & (mean_leak != 0)
    factor = tl.load(leak_factors + (bits >> DRAW_SHIFT).to(tl.int32), mask=renews, other=0.0)
    return tl.where(renews, mean_leak * factor, leak)


@jit
def _follower(arrival_pixel: tl.tensor, arrival: tl.tensor, stop: tl.tensor, moves: tl.tensor) -> tl.tensor:
    """For the pixels that move on, their next arrival or -1."""
    follows = moves & (arrival + 1 < stop)
    mine = tl.load(arrival_pixel + arrival, mask=follows, other=-1)
    other = tl.load(arrival_pixel + arrival + 1, mask=follows, other=-2)
    return tl.where(moves, tl.where(follows & (mine == other), arrival + 1, -1), arrival)
