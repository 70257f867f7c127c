"""Last stage of the event emulator on a GPU: a sort key for every event, the sort, the columns.

A key holds clip, microseconds since the clip's origin and address (2 · pixel + polarity), from the
highest bit down; sorted keys are the canonical order (t, y, x, p) of one clip after the other.
Times are computed as in `dvs_place`, in float64 and in the same order of operations.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "KEY_BITS",
    "BatchEvents",
    "Clock",
    "HitList",
    "Intervals",
    "hit_events",
    "joined",
    "new_clock",
]

KEY_BITS = 63
"""Bits of a sort key, which is an int64 and not negative."""


class Intervals(NamedTuple):
    """Frame intervals of all clips on the device, each (C n,): the n of a clip follow each other.

    Attributes:
        lead_us: float64, start of the interval minus `first_us` plus a half.
        length_us: float64.
        last_us: int64, the last microsecond of the interval, counted from its first.
        first_us: int64, the first microsecond, counted from the clip's origin.
    """

    lead_us: "Tensor"
    length_us: "Tensor"
    last_us: "Tensor"
    first_us: "Tensor"


class Clock(NamedTuple):
    """How the events of one call are numbered.

    Attributes:
        intervals: of all clips.
        origin_us: int64 (C,), host array, microsecond at which the times of a clip begin.
        time_bits: bits of a key that hold the time.
        address_bits: bits of a key that hold the address.
        width: pixels in a row.
    """

    intervals: Intervals
    origin_us: NDArray[np.int64]
    time_bits: int
    address_bits: int
    width: int


class HitList(NamedTuple):
    """Pixels that fire, each (M,), in any order.

    Attributes:
        interval: int64, clip · n + frame.
        address: int64, 2 · pixel + polarity.
        events: int64, how many.
        first: float32, fraction of the interval at which the first lies; with slots the number of
            events that the pixel has had in the interval before.
        step: float32, fraction of the interval between successive events; unused with slots.
    """

    interval: "Tensor"
    address: "Tensor"
    events: "Tensor"
    first: "Tensor"
    step: "Tensor"


class BatchEvents(NamedTuple):
    """Events of several clips on the device, clip after clip, each in canonical order.

    Attributes:
        t_us: int64 (N,), on the clock of the clip.
        x: uint16 (N,).
        y: uint16 (N,).
        p: bool (N,).
        ends: int64 (C,), where the events of each clip end.
    """

    t_us: "Tensor"
    x: "Tensor"
    y: "Tensor"
    p: "Tensor"
    ends: "Tensor"


def joined(parts: Sequence[HitList]) -> HitList:
    """All of them, one after the other."""
    import torch

    return HitList(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def new_clock(times_us: NDArray[np.float64], size_wh: tuple[int, int], device: str) -> Clock:
    """Intervals whose borders are `times_us`, float64 (C, n + 1).

    Raises:
        UsageError: when clip, time and address together do not fit into a key.
    """
    import torch

    borders = np.floor(times_us + 0.5).astype(np.int64)
    origin_us = borders[:, :1] + 1
    first_us = borders[:, :-1] + 1
    lead_us = times_us[:, :-1] - first_us + 0.5
    time_bits = int((borders[:, -1:] - origin_us).max()).bit_length()
    address_bits = (2 * size_wh[0] * size_wh[1] - 1).bit_length()
    clip_bits = (len(times_us) - 1).bit_length()
    if clip_bits + time_bits + address_bits > KEY_BITS:
        raise UsageError(
            f"{len(times_us)} clips of {size_wh[0]}x{size_wh[1]} pixels over 2^{time_bits} us: "
            f"need 2^{KEY_BITS} sort keys or fewer; feed fewer frames or fewer clips at once"
        )
    columns = (lead_us, np.diff(times_us), np.diff(borders) - 1, first_us - origin_us)
    intervals = Intervals(*(torch.from_numpy(c.reshape(-1)).to(device) for c in columns))
    return Clock(intervals, origin_us[:, 0], time_bits, address_bits, size_wh[0])


def hit_events(hits: HitList, clock: Clock, *, slots: bool) -> BatchEvents:
    """The events of these hits, in canonical order.

    Args:
        hits: see `HitList`.
        clock: of these intervals.
        slots: times are those of as many slots as the interval's busiest pixel has events.
    """
    return _unpacked(_keys(hits, clock, slots=slots).sort().values, clock)


def _keys(hits: HitList, clock: Clock, *, slots: bool) -> "Tensor":
    """Sort key of each event, int64 (N,)."""
    import torch

    ends = hits.events.cumsum(0)
    row = torch.repeat_interleave(hits.events)
    nth = torch.arange(len(row), device=row.device) - (ends - hits.events)[row]
    interval, first = hits.interval[row], hits.first[row].double()
    lead_us, length_us, last_us, first_us = (column[interval] for column in clock.intervals)
    if slots:
        busiest = torch.ones_like(clock.intervals.last_us).scatter_reduce_(
            0, hits.interval, hits.first.long() + hits.events, "amax"
        )
        exact_us = lead_us + (first + nth + 1) * (length_us / busiest.double()[interval])
    else:
        begin_us = lead_us + first * length_us
        later_us = begin_us + nth * (hits.step[row].double() * length_us)
        exact_us = torch.where(nth > 0, later_us, begin_us)
    offset_us = torch.minimum(exact_us.long().clamp_min(0), last_us)
    clip = interval // max(1, len(clock.intervals.last_us) // len(clock.origin_us))
    time = clip << clock.time_bits | first_us + offset_us
    return time << clock.address_bits | hits.address[row]


def _unpacked(keys: "Tensor", clock: Clock) -> BatchEvents:
    """The events of sorted keys."""
    import torch

    address = keys & (1 << clock.address_bits) - 1
    time = keys >> clock.address_bits
    clip, pixel = time >> clock.time_bits, address >> 1
    clips = torch.arange(len(clock.origin_us), device=keys.device)
    origin_us = torch.from_numpy(clock.origin_us).to(keys.device)
    y = pixel // clock.width
    return BatchEvents(
        t_us=origin_us[clip] + (time & (1 << clock.time_bits) - 1),
        x=(pixel - y * clock.width).to(torch.uint16),
        y=y.to(torch.uint16),
        p=(address & 1).bool(),
        ends=torch.searchsorted(clip, clips, right=True),
    )
