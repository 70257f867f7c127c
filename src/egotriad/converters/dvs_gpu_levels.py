"""The noise-free event emulator as a Triton kernel.

A program holds a group of pixels of one clip in registers and runs through all frames of a call,
reading every level once. It works in integers and float32 alone: the float64 arithmetic of event
times is left to `dvs_gpu_order`, which sees nothing but hits. The arithmetic is that of
`dvs_levels`.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

from egotriad.converters.dvs_gpu_order import Stretches, ordered, stretches
from egotriad.converters.dvs_gpu_place import BatchEvents, Clock
from egotriad.converters.dvs_gpu_state import LevelsState
from egotriad.converters.dvs_gpu_triton import EXACT, jit, tl

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["level_events"]

_GROUP = 128  # pixels of a program


def level_events(
    levels: Tensor, state: LevelsState, log_of_level: Tensor, clock: Clock, *, slots: bool
) -> tuple[BatchEvents, LevelsState]:
    """Events of the frames, uint8 (C, n, P), and the state after them."""
    import torch

    clips, n, pixels = levels.shape
    groups = -(-pixels // _GROUP)
    base = torch.empty_like(state.base)

    def scan(found: Stretches) -> None:
        _scan[groups, clips](
            levels,
            log_of_level,
            *state,
            base,
            *found[:5],
            n,
            pixels,
            found.capacity,
            slots=slots,
            aligned=gcd(pixels, 16),
            size=_GROUP,
            num_warps=1,
            **EXACT,
        )

    likely = _GROUP * n // 2
    found = stretches(scan, (clips, groups, n), words=1, likely=likely, device=levels.device)
    tables = (log_of_level, state.pos, state.neg)
    events = ordered(found, clock, pixels, _GROUP, slots=slots, tables=tables)
    return events, state._replace(level=levels[:, -1].reshape(-1).clone(), base=base)


@jit
def _scan(
    levels: tl.tensor,
    log_of_level: tl.tensor,
    level_before: tl.tensor,
    base_before: tl.tensor,
    pos_of: tl.tensor,
    neg_of: tl.tensor,
    base_after: tl.tensor,
    hits: tl.tensor,
    frame_of: tl.tensor,
    used_of: tl.tensor,
    events_of: tl.tensor,
    busiest_of: tl.tensor,
    n: tl.tensor,
    pixels: tl.tensor,
    capacity: tl.tensor,
    slots: tl.constexpr,
    aligned: tl.constexpr,
    size: tl.constexpr,
) -> None:
    """Hits of one group of pixels of one clip in all frames; `aligned` divides `pixels`."""
    group, clip = tl.program_id(0), tl.program_id(1)
    pixels = pixels // aligned * aligned  # tells the compiler which loads it may join
    lane = tl.arange(0, size)
    pixel = group * size + lane
    inside = pixel < pixels
    program = (clip * tl.num_programs(0) + group).to(tl.int64)
    state = clip.to(tl.int64) * pixels + pixel
    before = tl.load(level_before + state, mask=inside, other=0).to(tl.int32)
    base = tl.load(base_before + state, mask=inside, other=0.0)
    pos = tl.load(pos_of + state, mask=inside, other=1e30)
    neg = tl.load(neg_of + state, mask=inside, other=1e30)
    first_row = clip.to(tl.int64) * n
    row = first_row * pixels
    ahead = tl.load(levels + row + pixel, mask=inside, other=0)
    used = 0
    for k in range(n):
        level = ahead.to(tl.int32)
        row = (first_row + tl.minimum(k + 1, n - 1)) * pixels
        ahead = tl.load(levels + row + pixel, mask=inside, other=0)
        log = tl.load(log_of_level + level)
        difference = log - base
        on, off = difference >= pos, -difference >= neg
        found = (on | off).to(tl.int32)
        events = 0
        if tl.max(found, 0) > 0:
            loud, threshold = on | off, tl.where(on, pos, neg)
            # Quotients are small: a rough one is right but for one, which exact products tell.
            risen = tl.abs(difference)
            count = tl.where(loud, risen / threshold, 0.0).to(tl.int32)
            left = risen.to(tl.float64) - count.to(tl.float64) * threshold.to(tl.float64)
            count += (left >= threshold.to(tl.float64)).to(tl.int32) - (left < 0).to(tl.int32)
            count = tl.where(loud, count, 0)
            word = lane << 17 | before << 9 | level << 1 | on.to(tl.int32)
            word = base.to(tl.int32, bitcast=True).to(tl.int64) << 32 | word.to(tl.int64)
            position = used + tl.cumsum(found, 0) - 1
            kept, out = loud & (position < capacity), program * capacity + position
            tl.store(hits + out, word, mask=kept)
            tl.store(frame_of + out, tl.zeros_like(lane) + k, mask=kept)
            used += tl.sum(found, 0)
            events = tl.sum(count, 0)
            if slots:
                tl.atomic_max(busiest_of + clip.to(tl.int64) * n + k, tl.max(count, 0))
            base = base + count.to(tl.float32) * tl.where(on, threshold, -threshold)
        tl.store(events_of + program * n + k, events)
        before = level
    tl.store(used_of + program, used)
    tl.store(base_after + state, base, mask=inside)
