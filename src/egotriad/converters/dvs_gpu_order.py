"""From hits to ordered events on a GPU, in two passes over the hits and one over the events.

The interval of a frame is cut into buckets of time of about as many events each. The first pass
counts the events of each bucket, the second writes their sort keys there in any order, and then a
program sorts each bucket on the chip and writes the columns. Buckets that are too full for that,
such as those of many pixels with one event time, are sorted by torch before.

A hit of the whole model is two words: address | events << 32, first | step << 32 (float32 bits).
A hit of the noise-free model is one: ON, level (8 bits), level before (8), pixel in the group (15),
and above them the memorised log intensity (32), from which first and step follow. Event times are
computed as in `dvs_place`, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from egotriad.converters.dvs_gpu_place import BatchEvents, Clock
from egotriad.converters.dvs_gpu_triton import EXACT, jit, tl

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Stretches", "ordered", "stretches"]

_TILE = 32  # hits that are worked on together
_SPLIT = 4  # programs that share the hits of a stretch
_ROOM = 256  # events that are sorted on the chip
_LIKELY = 96  # events of a bucket, on the average


class Stretches(NamedTuple):
    """Hits of all programs of a scan: those of the groups of pixels of a clip, then the clips.

    Attributes:
        hits: int64 (words, C G capacity), each program writes a stretch of its own.
        frames: int32 (C G capacity), frame of each hit.
        used: int32 (C G,), number of hits of each program.
        events: int32 (C G, n), number of events of each frame of a program.
        busiest: int32 (C n,), events of the busiest pixel of each interval; with slots alone.
        capacity: hits a program has room for.
    """

    hits: Tensor
    frames: Tensor
    used: Tensor
    events: Tensor
    busiest: Tensor
    capacity: int


def stretches(
    scan: Callable[[Stretches], None],
    shape: tuple[int, int, int],
    *,
    words: int,
    likely: int,
    device: Any,
) -> Stretches:
    """What a scan finds; runs it again with more room when a program has more hits than `likely`.

    Args:
        scan: fills what it is given; writes no hits beyond the capacity, but counts them.
        shape: clips, groups of pixels in each, frames.
        words: of a hit.
        likely: hits of a program.
        device: where.
    """
    import torch

    clips, groups, n = shape
    used = torch.empty(clips * groups, dtype=torch.int32, device=device)
    events, busiest = used.new_empty((clips * groups, n)), used.new_ones(clips * n)
    capacity = _rounded(likely)
    while True:
        total = clips * groups * capacity
        hits = torch.empty((words, total), dtype=torch.int64, device=device)
        found = Stretches(hits, used.new_empty(total), used, events, busiest, capacity)
        scan(found)
        most = int(used.max())
        if most <= capacity:
            return found
        capacity = _rounded(most)


def _rounded(hits: int) -> int:
    """A multiple of 16, so that Triton compiles kernels for one kind of capacity alone."""
    return max(1, -(-hits // 16)) * 16


def ordered(
    found: Stretches,
    clock: Clock,
    pixels: int,
    size: int,
    *,
    slots: bool,
    tables: tuple[Tensor, Tensor, Tensor] | None = None,
) -> BatchEvents:
    """The events of all clips, each in canonical order.

    Args:
        found: hits.
        clock: of these intervals.
        pixels: of a clip.
        size: pixels of a program.
        slots: times are those of slots.
        tables: log intensity of each level, ON and OFF thresholds of all pixels: for hits of the
            noise-free model.
    """
    import torch

    clips, n = len(clock.origin_us), found.events.shape[1]
    groups = len(found.used) // clips
    per_interval = found.events.reshape(clips, groups, n).sum(1)
    parts = (per_interval.flatten() + _LIKELY - 1) // _LIKELY
    parts = parts.clamp_min(1).minimum(clock.intervals.last_us + 1)
    number, buckets = torch.stack([per_interval.sum(), parts.sum()]).tolist()
    keys = torch.empty(number, dtype=torch.int64, device=parts.device)
    log_of_level, pos, neg = tables or (clock.intervals.lead_us,) * 3

    def pass_over_hits(fill: Tensor, *, writes: bool) -> None:
        _place[len(found.used), _SPLIT](
            *found[:3],
            found.busiest,
            *clock.intervals,
            parts,
            parts.cumsum(0) - parts,
            log_of_level,
            pos,
            neg,
            fill,
            keys,
            n,
            pixels,
            groups,
            found.capacity,
            found.hits.shape[1],
            clock.time_bits,
            clock.address_bits,
            slots=slots,
            walk=tables is None,
            writes=writes,
            size=size,
            tile=_TILE,
            num_warps=1,
            **EXACT,
        )

    counts = torch.zeros(buckets, dtype=torch.int64, device=parts.device)
    pass_over_hits(counts, writes=False)
    ends = counts.cumsum(0)
    pass_over_hits(ends - counts, writes=True)
    full = counts > _ROOM
    if full.any():
        there = torch.repeat_interleave(full, counts).nonzero().ravel()
        keys[there] = keys[there].sort().values
    return _sorted(keys, ends, per_interval.sum(1).cumsum(0), clock)


def _sorted(keys: Tensor, bucket_ends: Tensor, clip_ends: Tensor, clock: Clock) -> BatchEvents:
    """Columns of the events of `keys`, whose buckets are in order."""
    import torch

    number, device = len(keys), keys.device
    events = BatchEvents(
        t_us=torch.empty_like(keys),
        x=torch.empty(number, dtype=torch.uint16, device=device),
        y=torch.empty(number, dtype=torch.uint16, device=device),
        p=torch.empty(number, dtype=torch.bool, device=device),
        ends=clip_ends,
    )
    _sort[len(bucket_ends),](
        keys,
        bucket_ends,
        torch.from_numpy(clock.origin_us).to(device),
        *events[:3],
        events.p.view(torch.uint8),
        clock.width,
        clock.time_bits,
        clock.address_bits,
        room=_ROOM,
        num_warps=1,
        **EXACT,
    )
    return events


@jit
def _place(
    hits: tl.tensor,
    frame_of: tl.tensor,
    used_of: tl.tensor,
    busiest_of: tl.tensor,
    lead_of: tl.tensor,
    length_of: tl.tensor,
    last_of: tl.tensor,
    first_of: tl.tensor,
    parts_of: tl.tensor,
    bucket_of: tl.tensor,
    log_of_level: tl.tensor,
    pos: tl.tensor,
    neg: tl.tensor,
    fill: tl.tensor,
    keys: tl.tensor,
    n: tl.tensor,
    pixels: tl.tensor,
    groups: tl.tensor,
    capacity: tl.tensor,
    plane: tl.tensor,
    time_bits: tl.tensor,
    address_bits: tl.tensor,
    slots: tl.constexpr,
    walk: tl.constexpr,
    writes: tl.constexpr,
    size: tl.constexpr,
    tile: tl.constexpr,
) -> None:
    """Counts the events of each bucket in `fill`, or writes keys from where `fill` points."""
    program = tl.program_id(0).to(tl.int64)
    clip, group = program // groups, program % groups
    used = tl.load(used_of + program)
    for at in range(tl.program_id(1) * tile, used, tl.num_programs(1) * tile):
        spot = at + tl.arange(0, tile)
        valid = spot < used
        hit = program * capacity + spot
        word = tl.load(hits + hit, mask=valid, other=0)
        if walk:
            address, events = word & 0xFFFFFFFF, (word >> 32).to(tl.int32)
            line = tl.load(hits + plane + hit, mask=valid, other=0)
            first = line.to(tl.int32).to(tl.float32, bitcast=True)
            step = (line >> 32).to(tl.int32).to(tl.float32, bitcast=True)
        else:
            pixel = group * size + (word >> 17 & 0x7FFF)
            address = pixel << 1 | word & 1
            off = -tl.load(neg + clip * pixels + pixel, mask=valid, other=1.0)
            on = tl.load(pos + clip * pixels + pixel, mask=valid, other=1.0)
            threshold = tl.where((word & 1) != 0, on, off)
            first, step, events = _line(word, threshold, log_of_level, slots)
        events = tl.where(valid, events, 0)
        interval = clip * n + tl.load(frame_of + hit, mask=valid, other=0)
        lead_us, length_us = tl.load(lead_of + interval), tl.load(length_of + interval)
        last_us, first_us = tl.load(last_of + interval), tl.load(first_of + interval)
        parts, bucket = tl.load(parts_of + interval), tl.load(bucket_of + interval)
        per_us = parts.to(tl.float64) / (last_us + 1).to(tl.float64)
        begin_us = lead_us + first.to(tl.float64) * length_us
        step_us = step.to(tl.float64) * length_us
        if slots:
            step_us = length_us / tl.load(busiest_of + interval).to(tl.float64)
        nth = tl.zeros([tile], tl.float64)
        for _ in range(0, tl.max(events, 0)):
            exact_us = tl.where(nth > 0, begin_us + nth * step_us, begin_us)
            if slots:
                exact_us = lead_us + (first.to(tl.float64) + nth + 1.0) * step_us
            offset_us = tl.minimum(tl.maximum(exact_us.to(tl.int64), 0), last_us)
            part = tl.minimum((offset_us.to(tl.float64) * per_us).to(tl.int64), parts - 1)
            due = nth < events
            there = tl.atomic_add(fill + bucket + part, 1, mask=due, sem="relaxed")
            if writes:
                time = clip << time_bits | first_us + offset_us
                tl.store(keys + there, time << address_bits | address, mask=due)
            nth += 1.0


@jit
def _line(
    word: tl.tensor, threshold: tl.tensor, log_of_level: tl.tensor, slots: tl.constexpr
) -> tl.tensor:
    """First, step and number of the events of hits of the noise-free model, as `dvs_levels`."""
    base = (word >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    log = tl.load(log_of_level + (word >> 1 & 0xFF))
    before = tl.load(log_of_level + (word >> 9 & 0xFF)).to(tl.float64)
    wide = threshold.to(tl.float64)
    # The quotient of two float32 is never rounded up to an integer in float64.
    events = ((log - base).to(tl.float64) / wide).to(tl.int32)
    change = log.to(tl.float64) - before
    per_change = tl.where(change != 0, 1.0 / tl.where(change != 0, change, 1.0), 0.0)
    first = ((base.to(tl.float64) + wide - before) * per_change).to(tl.float32)
    if slots:
        first = tl.zeros_like(first)
    return first, (wide * per_change).to(tl.float32), events


@jit
def _sort(
    keys: tl.tensor,
    ends: tl.tensor,
    origin_us: tl.tensor,
    t_us: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    p: tl.tensor,
    width: tl.tensor,
    time_bits: tl.tensor,
    address_bits: tl.tensor,
    room: tl.constexpr,
) -> None:
    """Columns of the events of a bucket, sorted; one with more than `room` is sorted already."""
    bucket = tl.program_id(0)
    begin, end = tl.load(ends + bucket - 1, mask=bucket > 0, other=0), tl.load(ends + bucket)
    one = tl.full([], 1, tl.int64)
    for at in range(begin, end, room):
        event = at + tl.arange(0, room)
        valid = event < end
        key = tl.load(keys + event, mask=valid, other=0x7FFFFFFFFFFFFFFF)
        if end - begin <= room:
            key = tl.sort(key)
        address = (key & (one << address_bits) - 1).to(tl.int32)
        time, pixel = key >> address_bits, address >> 1
        row = pixel // width
        origin = tl.load(origin_us + (time >> time_bits), mask=valid, other=0)
        tl.store(t_us + event, origin + (time & (one << time_bits) - 1), mask=valid)
        tl.store(x + event, (pixel - row * width).to(tl.uint16), mask=valid)
        tl.store(y + event, row.to(tl.uint16), mask=valid)
        tl.store(p + event, (address & 1).to(tl.uint8), mask=valid)
