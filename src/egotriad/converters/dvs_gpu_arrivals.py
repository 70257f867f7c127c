"""Shot noise for the event emulator on a GPU, drawn on the CPU or there: the same, bit for bit.

Its cost grows with the number of noise events, and with the number of blocks of `BLOCK` pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.dvs_gpu_state import GROUP, ArrivalList, on_device
from egotriad.converters.dvs_gpu_triton import EXACT, jit, mixed, tl
from egotriad.converters.dvs_noise import BLOCK, ShotNoise, arrive

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NoiseTables", "arrivals_from_host", "arrivals_on_device", "noise_tables"]

_LANES = 32
_NOWHERE = (1 << 63) - 1


class _Found(NamedTuple):
    """Arrivals of one clip, each (A,): place is frame · P + pixel."""

    place: NDArray[np.int64]
    fraction: NDArray[np.float32]
    on: NDArray[np.bool_]


class NoiseTables(NamedTuple):
    """The shot noise of C clips on the device: see `dvs_noise.ShotNoise`.

    Attributes:
        keys: int64 (C,), bits of the generators.
        per_us: float64 (C, blocks).
        keep: float32 (C, 2 P).
        other: int32 (C, 2 P).
        rate_of_level: float32 (256,).
        waits: float64.
        half_lives: float64 (64,), so many half-lives of an exponential wait of mean 1.
    """

    keys: Tensor
    per_us: Tensor
    keep: Tensor
    other: Tensor
    rate_of_level: Tensor
    waits: Tensor
    half_lives: Tensor


def noise_tables(noises: Sequence[ShotNoise], device: str) -> NoiseTables:
    """The processes of all clips, which have one configuration."""
    first = noises[0]
    return NoiseTables(
        keys=on_device(np.array([each.key for each in noises], np.uint64).view(np.int64), device),
        per_us=on_device(np.stack([each.per_us for each in noises]), device),
        keep=on_device(np.stack([each.keep for each in noises]), device),
        other=on_device(np.stack([each.other for each in noises]), device),
        rate_of_level=on_device(first.rate_of_level, device),
        waits=on_device(first.waits, device),
        half_lives=on_device(np.arange(64) * np.log(2.0), device),
    )


def arrivals_from_host(
    noises: Sequence[ShotNoise], levels: Tensor, times_us: NDArray[np.float64], number: int
) -> ArrivalList:
    """The shot noise of one call, drawn on the CPU.

    Args:
        noises: of each clip.
        levels: uint8 (C, n, P), luma, on the device.
        times_us: float64 (C, n + 1), borders of the intervals.
        number: index of the first frame in the recording.
    """
    clips, _, pixels = levels.shape
    parts = []
    for clip, noise in enumerate(noises):
        found = _gather(noise, levels[clip].cpu().numpy(), times_us[clip], number)
        frame, pixel = np.divmod(found.place, pixels)
        parts.append(found._replace(place=(frame * clips + clip) * pixels + pixel))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    place, fraction, on = (on_device(column, str(levels.device)) for column in columns)
    return _listed(place, fraction, on, levels)


def arrivals_on_device(
    tables: NoiseTables, levels: Tensor, length_us: Tensor, number: int
) -> ArrivalList:
    """As `arrivals_from_host`, drawn by a kernel; `length_us`, float64 (C, n), of the intervals."""
    import torch

    clips, n, pixels = levels.shape
    mean = (tables.per_us * length_us.T[:, :, None]).flatten()  # n, C, blocks
    room = (mean + 10 * mean.sqrt()).long() + 20  # as dvs_noise.most_arrivals
    ends = room.cumsum(0)
    place = torch.full((int(ends[-1]),), _NOWHERE, device=levels.device)
    fraction = torch.empty_like(place, dtype=torch.float32)
    on = torch.empty_like(place, dtype=torch.bool)
    _draw[-(-len(room) // _LANES),](
        *tables,
        levels,
        1 / mean,
        room,
        ends,
        place,
        fraction,
        on,
        number,
        n,
        clips,
        pixels,
        tables.per_us.shape[1],
        len(tables.waits).bit_length() - 1,
        block_size=BLOCK,
        lanes=_LANES,
        num_warps=1,
        **EXACT,
    )
    found = place != _NOWHERE
    return _listed(place[found], fraction[found], on[found], levels)


def _listed(place: Tensor, fraction: Tensor, on: Tensor, levels: Tensor) -> ArrivalList:
    """The list of arrivals at (frame · C + clip) · P + pixel, those of a pixel in order of time."""
    import torch

    clips, n, pixels = levels.shape
    place, order = place.sort(stable=True)
    last = torch.arange(GROUP, pixels + GROUP, GROUP, device=place.device).clamp_max(pixels)
    group_ends = torch.arange(n * clips, device=place.device)[:, None] * pixels + last
    return ArrivalList(
        ends=torch.searchsorted(place, group_ends.flatten()),
        pixel=(place % (clips * pixels)).int(),
        fraction=fraction[order],
        on=on[order],
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


@jit
def _draw(
    key_of: tl.tensor,
    per_us: tl.tensor,
    keep_of: tl.tensor,
    other_of: tl.tensor,
    rate_of_level: tl.tensor,
    waits: tl.tensor,
    half_lives: tl.tensor,
    levels: tl.tensor,
    gap_of: tl.tensor,
    room_of: tl.tensor,
    ends: tl.tensor,
    place_of: tl.tensor,
    fraction_of: tl.tensor,
    on_of: tl.tensor,
    number: tl.tensor,
    n: tl.tensor,
    clips: tl.tensor,
    pixels: tl.tensor,
    blocks: tl.tensor,
    wait_bits: tl.tensor,
    block_size: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Arrivals of `lanes` pairs of block and interval, each to a stretch of its own."""
    pair = tl.program_id(0).to(tl.int64) * lanes + tl.arange(0, lanes)
    block, clip, k = pair % blocks, pair // blocks % clips, pair // blocks // clips
    valid = k < n
    first_pixel = block * block_size
    size = tl.minimum(pixels - first_pixel, block_size)
    gap = tl.load(gap_of + pair, mask=valid, other=1.0)
    room = tl.load(room_of + pair, mask=valid, other=0)
    out = tl.load(ends + pair, mask=valid, other=0) - room
    key = tl.load(key_of + clip, mask=valid, other=0).to(tl.uint64, bitcast=True)
    key = mixed(mixed(key, number + k), block)
    outcomes = clip * 2 * pixels + 2 * first_pixel
    count, draw = tl.zeros([lanes], tl.int64), tl.zeros([lanes], tl.int64)
    now = _wait(mixed(key, draw), waits, half_lives, wait_bits) * gap
    draws = valid & (now < 1)
    while tl.max(draws.to(tl.int32), 0) > 0:
        bits = mixed(key, draw + 1)
        spot = (bits >> 32) * (2 * size).to(tl.uint64)
        drawn = (spot >> 32).to(tl.int64)
        keep = tl.load(keep_of + outcomes + drawn, mask=draws, other=0.0)
        other = tl.load(other_of + outcomes + drawn, mask=draws, other=0).to(tl.int64)
        kept = (spot & 0xFFFFFFFF).to(tl.float32) < keep * 4294967296.0
        outcome = tl.where(kept, drawn, other)
        on = outcome < size
        pixel = first_pixel + tl.where(on, outcome, outcome - size)
        level = tl.load(levels + (clip * n + k) * pixels + pixel, mask=draws, other=0)
        # The noise of a pixel that is not black is thinned.
        rate = tl.load(rate_of_level + level.to(tl.int32))
        happens = draws & ((bits & 0xFFFFFFFF).to(tl.float32) < rate * 4294967296.0)
        tl.store(place_of + out + count, (k * clips + clip) * pixels + pixel, mask=happens)
        tl.store(fraction_of + out + count, now.to(tl.float32), mask=happens)
        tl.store(on_of + out + count, on, mask=happens)
        count += happens.to(tl.int64)
        draw += 2
        now += _wait(mixed(key, draw), waits, half_lives, wait_bits) * gap
        draws = draws & (now < 1) & (count < room)


@jit
def _wait(
    bits: tl.tensor, waits: tl.tensor, half_lives: tl.tensor, wait_bits: tl.tensor
) -> tl.tensor:
    """`dvs_noise._wait`: half-lives are the zeros before the lowest bit set."""
    one = tl.full([], 1, tl.uint64)
    some = bits | one << (63 - wait_bits)
    lowest = (some & (0 - some)).to(tl.float64)  # a power of two, so its exponent says which
    zeros = (lowest.to(tl.int64, bitcast=True) >> 52) - 1023
    part = (bits >> (64 - wait_bits)).to(tl.int32)
    return tl.load(half_lives + zeros) + tl.load(waits + part)
