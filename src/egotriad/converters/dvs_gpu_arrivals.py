"""Shot noise for the event emulator on a GPU: drawn on the CPU, in proportion to its events.

The draws are those of `dvs_noise.arrive`, so the noise is that of the CPU.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.dvs_gpu_state import ArrivalList, on_device
from egotriad.converters.dvs_noise import BLOCK, ShotNoise, arrive
from egotriad.converters.dvs_walk import WalkFrames

__all__ = ["GROUP", "arrival_list"]

GROUP = 512
"""Pixels of a group in an `ArrivalList`: those of one program of `dvs_gpu_walk`."""


class _Found(NamedTuple):
    """Arrivals of one clip, each (A,): place is frame · P + pixel."""

    place: NDArray[np.int64]
    fraction: NDArray[np.float32]
    on: NDArray[np.bool_]


def arrival_list(
    noises: Sequence[ShotNoise], frames: Sequence[WalkFrames], device: str
) -> ArrivalList:
    """The shot noise of one call.

    Args:
        noises: of each clip.
        frames: of each clip.
        device: where to.
    """
    n, pixels = frames[0].levels.shape
    clips = len(frames)
    places, fractions, polarities = [], [], []
    for clip, (noise, each) in enumerate(zip(noises, frames, strict=True)):
        found = _gather(noise, each.levels, each.times_us, each.number)
        frame, pixel = np.divmod(found.place, pixels)
        places.append((frame * clips + clip) * pixels + pixel)
        fractions.append(found.fraction)
        polarities.append(found.on)
    place = np.concatenate(places)
    order = np.argsort(place, kind="stable")  # the arrivals of a pixel keep their order in time
    place = place[order]
    last = np.append(np.arange(GROUP, pixels, GROUP), pixels)
    group_ends = (np.arange(n * clips)[:, None] * pixels + last).ravel()
    return ArrivalList(
        ends=on_device(np.searchsorted(place, group_ends), device),
        pixel=on_device((place % (clips * pixels)).astype(np.int32), device),
        fraction=on_device(np.concatenate(fractions)[order], device),
        on=on_device(np.concatenate(polarities)[order], device),
        frame_ends=np.searchsorted(place, np.arange(1, n + 1) * clips * pixels),
    )


@compiled
def _gather(
    noise: ShotNoise, levels: NDArray[np.uint8], times_us: NDArray[np.float64], number: int
) -> _Found:
    """All arrivals in frames `number` and on, of luma uint8 (n, P)."""
    n, pixels = levels.shape
    head = np.full(BLOCK, -1, np.int32)
    found = _Found(np.empty(1024, np.int64), np.empty(1024, np.float32), np.empty(1024, np.bool_))
    used = 0
    for k in range(n):
        for block in range(noise.per_us.size):
            begin, end = block * BLOCK, min((block + 1) * BLOCK, pixels)
            interval_us = times_us[k + 1] - times_us[k]
            arrivals = arrive(noise, block, number + k, interval_us, levels[k, begin:end], head)
            count = arrivals.pixel.size
            if used + count > found.place.size:
                found = _more(found, used, count)
            for i in range(count):
                head[arrivals.pixel[i]] = -1
                found.place[used + i] = k * pixels + begin + arrivals.pixel[i]
            found.fraction[used : used + count] = arrivals.fraction
            found.on[used : used + count] = arrivals.on
            used += count
    return _Found(found.place[:used], found.fraction[:used], found.on[:used])


@compiled
def _more(found: _Found, used: int, room: int) -> _Found:
    """A copy with place for at least `room` more, and twice what there was."""
    capacity = max(used + room, 2 * used)
    grown = _Found(
        np.empty(capacity, np.int64), np.empty(capacity, np.float32), np.empty(capacity, np.bool_)
    )
    grown.place[:used] = found.place[:used]
    grown.fraction[:used] = found.fraction[:used]
    grown.on[:used] = found.on[:used]
    return grown
