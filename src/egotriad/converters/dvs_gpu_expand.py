"""From hits to events on a GPU: how kernels hand over what they find, and what becomes of it.

Every program of a scan writes its hits, frame after frame, to a stretch of memory of its own, and
where each frame's end. Here a program takes the hits of one group of pixels in one frame and writes
a sort key for every event at its place. Times are computed as in `dvs_place`, in float64.

A hit of the whole model is two words: address | events << 32, first | step << 32 (float32 bits).
A hit of the noise-free model is one: ON, level (8 bits), level before (8), pixel in the group (15),
and above them the memorised log intensity (32), from which first and step follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from egotriad.converters.dvs_gpu_place import BatchEvents, Clock, clip_ends
from egotriad.converters.dvs_gpu_triton import EXACT, jit, tl

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Stretches", "expanded", "stretches", "unpacked_by_kernel"]

_TILE = 32  # hits that are worked on together
_EVENTS = 1024  # likewise, events


class Stretches(NamedTuple):
    """Hits of all programs of a scan; a program is a group of pixels, then a clip.

    Attributes:
        hits: int64 (words, C G capacity).
        ends: int32 (C G, n), where the hits of each frame end in the stretch of a program.
        events: int32 (C G, n), number of events of each frame of a program.
        busiest: int32 (C n,), events of the busiest pixel of each interval; with slots alone.
        capacity: hits a program has room for.
        groups: programs of a clip, G.
    """

    hits: Tensor
    ends: Tensor
    events: Tensor
    busiest: Tensor
    capacity: int
    groups: int


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
    ends = torch.empty((clips * groups, n), dtype=torch.int32, device=device)
    events, busiest = torch.empty_like(ends), ends.new_ones(clips * n)
    capacity = max(likely, 1)
    while True:
        hits = torch.empty((words, clips * groups * capacity), dtype=torch.int64, device=device)
        found = Stretches(hits, ends, events, busiest, capacity, groups)
        scan(found)
        most = int(ends[:, -1].max())
        if most <= capacity:
            return found
        capacity = most


def expanded(
    found: Stretches,
    clock: Clock,
    pixels: int,
    group: int,
    *,
    slots: bool,
    tables: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """Key of each event, int64 (N,), unsorted.

    Args:
        found: hits.
        clock: of these intervals.
        pixels: of a clip.
        group: pixels of a program.
        slots: times are those of slots.
        tables: log intensity of each level, ON and OFF thresholds of all pixels: for hits of the
            noise-free model.
    """
    import torch

    programs, n = found.ends.shape
    ends = found.events.reshape(-1).cumsum(0, dtype=torch.int64)
    keys = torch.empty(int(ends[-1]), dtype=torch.int64, device=ends.device)
    log_of_level, pos, neg = tables or (clock.intervals.lead_us,) * 3
    _expand[programs * n,](
        found.hits,
        found.ends,
        found.events,
        ends,
        found.busiest,
        *clock.intervals,
        log_of_level,
        pos,
        neg,
        keys,
        n,
        pixels,
        found.groups,
        found.capacity,
        programs * found.capacity,
        clock.time_bits,
        clock.address_bits,
        slots=slots,
        walk=tables is None,
        size=group,
        tile=_TILE,
        num_warps=1,
        **EXACT,
    )
    return keys


def unpacked_by_kernel(keys: Tensor, clock: Clock) -> BatchEvents:
    """The events of sorted keys: as `dvs_gpu_place.unpacked`."""
    import torch

    number, device = len(keys), keys.device
    origin_us = torch.from_numpy(clock.origin_us).to(device)
    events = BatchEvents(
        t_us=torch.empty_like(keys),
        x=torch.empty(number, dtype=torch.uint16, device=device),
        y=torch.empty(number, dtype=torch.uint16, device=device),
        p=torch.empty(number, dtype=torch.bool, device=device),
        ends=clip_ends(keys, clock),
    )
    if number:
        _unpack[-(-number // _EVENTS),](
            keys,
            origin_us,
            events.t_us,
            events.x,
            events.y,
            events.p.view(torch.uint8),
            number,
            clock.width,
            clock.time_bits,
            clock.address_bits,
            block=_EVENTS,
            **EXACT,
        )
    return events


@jit
def _expand(
    hits: tl.tensor,
    hit_ends: tl.tensor,
    events_of: tl.tensor,
    event_ends: tl.tensor,
    busiest_of: tl.tensor,
    lead_of: tl.tensor,
    length_of: tl.tensor,
    last_of: tl.tensor,
    first_of: tl.tensor,
    log_of_level: tl.tensor,
    pos: tl.tensor,
    neg: tl.tensor,
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
    size: tl.constexpr,
    tile: tl.constexpr,
) -> None:
    """Keys of the events of one group of pixels in one frame."""
    place = tl.program_id(0).to(tl.int64)
    program, k = place // n, place % n
    clip, group = program // groups, program % groups
    interval = clip * n + k
    begin = tl.load(hit_ends + place - 1, mask=k > 0, other=0)
    end = tl.load(hit_ends + place)
    out = tl.load(event_ends + place) - tl.load(events_of + place)
    lead_us, length_us = tl.load(lead_of + interval), tl.load(length_of + interval)
    last_us, first_us = tl.load(last_of + interval), tl.load(first_of + interval)
    slot_us = length_us / tl.load(busiest_of + interval).to(tl.float64)
    for at in range(begin, end, tile):
        hit = at + tl.arange(0, tile)
        valid = hit < end
        word = tl.load(hits + program * capacity + hit, mask=valid, other=0)
        if walk:
            address, events = word & 0xFFFFFFFF, (word >> 32).to(tl.int32)
            line = tl.load(hits + plane + program * capacity + hit, mask=valid, other=0)
            first = line.to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)
            step = (line >> 32).to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)
        else:
            pixel = group * size + (word >> 17 & 0x7FFF)
            address = pixel << 1 | word & 1
            on = (word & 1) != 0
            threshold = tl.where(
                on,
                tl.load(pos + clip * pixels + pixel, mask=valid, other=1.0),
                -tl.load(neg + clip * pixels + pixel, mask=valid, other=1.0),
            )
            base = (word >> 32).to(tl.int32).to(tl.float32, bitcast=True)
            log = tl.load(log_of_level + (word >> 1 & 0xFF))
            before = tl.load(log_of_level + (word >> 9 & 0xFF)).to(tl.float64)
            wide = threshold.to(tl.float64)
            # The quotient of two float32 is never rounded up to an integer in float64.
            events = ((log - base).to(tl.float64) / wide).to(tl.int32)
            change = log.to(tl.float64) - before
            per_change = tl.where(change != 0, 1.0 / tl.where(change != 0, change, 1.0), 0.0)
            first = ((base.to(tl.float64) + wide - before) * per_change).to(tl.float32)
            first = tl.where(slots, 0.0, first).to(tl.float64)
            step = (wide * per_change).to(tl.float32).to(tl.float64)
        events = tl.where(valid, events, 0)
        position = out + tl.cumsum(events, 0) - events
        out += tl.sum(events, 0)
        nth = tl.zeros([tile], tl.float64)
        for _ in range(0, tl.max(events, 0)):
            if slots:
                exact_us = lead_us + (first + nth + 1.0) * slot_us
            else:
                begin_us = lead_us + first * length_us
                exact_us = tl.where(nth > 0, begin_us + nth * (step * length_us), begin_us)
            offset_us = tl.minimum(tl.maximum(exact_us.to(tl.int64), 0), last_us)
            key = (clip << time_bits | first_us + offset_us) << address_bits | address
            tl.store(keys + position, key, mask=nth < events)
            position += 1
            nth += 1.0


@jit
def _unpack(
    keys: tl.tensor,
    origin_us: tl.tensor,
    t_us: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    p: tl.tensor,
    number: tl.tensor,
    width: tl.tensor,
    time_bits: tl.tensor,
    address_bits: tl.tensor,
    block: tl.constexpr,
) -> None:
    """Columns of the events of sorted keys."""
    event = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    valid = event < number
    key = tl.load(keys + event, mask=valid, other=0)
    one = tl.full([], 1, tl.int64)
    address = (key & (one << address_bits) - 1).to(tl.int32)
    time, pixel = key >> address_bits, address >> 1
    row = pixel // width
    origin = tl.load(origin_us + (time >> time_bits), mask=valid, other=0)
    tl.store(t_us + event, origin + (time & (one << time_bits) - 1), mask=valid)
    tl.store(x + event, (pixel - row * width).to(tl.uint16), mask=valid)
    tl.store(y + event, row.to(tl.uint16), mask=valid)
    tl.store(p + event, (address & 1).to(tl.uint8), mask=valid)
