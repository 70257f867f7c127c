"""Steps of the kernel that walks pixels through a frame interval (`dvs_gpu_walk`).

Every tensor has one value for each pixel of the group unless something else is said.
"""

from __future__ import annotations

from egotriad.converters.dvs_gpu_triton import jit, mixed, tl

__all__ = [
    "after_dead_time",
    "first_arrivals",
    "follower",
    "line_events",
    "next_crossing",
    "record",
    "renewed",
]


@jit
def first_arrivals(
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
def line_events(
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
def next_crossing(
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
def after_dead_time(
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
        arrival = follower(late, arrival, stop, arrival_pixel)
        waits = walks & (arrival >= 0)
        late = waits & (tl.load(arrival_fraction + arrival, mask=waits, other=0.0) < now)
    return arrival


@jit
def follower(
    moves: tl.tensor, arrival: tl.tensor, stop: tl.tensor, arrival_pixel: tl.tensor
) -> tl.tensor:
    """For the pixels that move on, their next arrival or -1."""
    follows = moves & (arrival + 1 < stop)
    mine = tl.load(arrival_pixel + arrival, mask=follows, other=-1)
    other = tl.load(arrival_pixel + arrival + 1, mask=follows, other=-2)
    return tl.where(moves, tl.where(follows & (mine == other), arrival + 1, -1), arrival)


@jit
def record(
    out: tl.tensor,
    plane: tl.tensor,
    frame_of: tl.tensor,
    k: tl.tensor,
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
    tl.store(out + plane + position, line, mask=kept)
    tl.store(frame_of + position, tl.zeros_like(found) + k, mask=kept)
    return used + tl.sum(found, 0)


@jit
def renewed(
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
