"""Noise of the event emulator: what differs from pixel to pixel, and events out of nothing.

Shot noise is a Poisson process in each block of pixels. The draws of each frame interval are keyed
by block and frame, and their number grows with the noise events, not with the pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from egotriad.converters.compiled import Int, compiled
from egotriad.converters.counter_rng import key_of, mix, uniforms
from egotriad.converters.simd import trailing_zeros

__all__ = [
    "BLOCK",
    "SHOT_NOISE_DARKNESS",
    "Arrivals",
    "Maps",
    "ShotNoise",
    "arrive",
    "draw_arrivals",
    "log_normal_map",
    "most_arrivals",
    "new_arrivals",
    "no_shot_noise",
    "shot_noise",
    "threshold_map",
]

BLOCK = 4096
"""Pixels, row-major, that share a Poisson process; another number gives other noise."""

MIN_MISMATCHED_LOG = 0.01
"""Thresholds drawn smaller become this: v2ecore/emulator.py, _init."""

SHOT_NOISE_DARKNESS = 0.75
"""Share of black's shot noise that white lacks: v2ecore/emulator.py, SHOT_NOISE_INTEN_FACTOR."""

_WAIT_BITS = 10
_HALF_LIFE = np.log(2.0)


class Maps(NamedTuple):
    """What differs from pixel to pixel, each float32 (P,), row-major.

    Attributes:
        pos: ON thresholds.
        neg: OFF thresholds.
        leak_rate: factors on the leak rate.
        tau_s: time constants of SCIDVS, seconds; None: to be drawn.
        pos_varies: whether `pos` is more than one number.
        neg_varies: whether `neg` is.
    """

    pos: NDArray[np.float32]
    neg: NDArray[np.float32]
    leak_rate: NDArray[np.float32]
    tau_s: NDArray[np.float32] | None = None
    pos_varies: bool = False
    neg_varies: bool = False


class ShotNoise(NamedTuple):
    """Poisson process of noise events in each block of pixels.

    Attributes:
        key: generator of its draws.
        per_us: float64 (blocks,), events per microsecond on offer in each block.
        keep: float32 (2 P,), for each pixel of a block ON, then for each OFF: the chance to keep
            an outcome drawn uniformly (alias method).
        other: int32 (2 P,), the outcome instead, counted within the block.
        rate_of_level: float32 (256,), rate of shot noise relative to that of black.
        waits: float64 (1024,), equally likely parts of an exponential wait beyond whole half-lives.
    """

    key: np.uint64
    per_us: NDArray[np.float64]
    keep: NDArray[np.float32]
    other: NDArray[np.int32]
    rate_of_level: NDArray[np.float32]
    waits: NDArray[np.float64]


class Arrivals(NamedTuple):
    """Noise events of one block in one frame interval, in order of time.

    Attributes:
        pixel: int32, within the block.
        fraction: float32, where in the interval.
        on: bool, polarity.
        follower: int32, the next arrival at the same pixel, or -1.
    """

    pixel: NDArray[np.int32]
    fraction: NDArray[np.float32]
    on: NDArray[np.bool_]
    follower: NDArray[np.int32]


def threshold_map(
    nominal: float, sigma: float, pixels: int, *, seed: int, recording: str, polarity: str
) -> NDArray[np.float32]:
    """Thresholds (P,) drawn from a normal distribution, none below 0.01."""
    draws = ndtri(uniforms(key_of(seed, recording, f"{polarity} threshold"), pixels))
    return np.maximum(nominal + sigma * draws, MIN_MISMATCHED_LOG).astype(np.float32)


def log_normal_map(
    decades: float, pixels: int, *, seed: int, recording: str, purpose: str
) -> NDArray[np.float32]:
    """Factors (P,) of median 1 whose log10 is normal with standard deviation `decades`."""
    draws = ndtri(uniforms(key_of(seed, recording, purpose), pixels))
    return np.power(10.0, decades * draws).astype(np.float32)


def shot_noise(
    rate_hz: float,
    pos: NDArray[np.float32],
    neg: NDArray[np.float32],
    *,
    seed: int,
    recording: str,
) -> ShotNoise:
    """The process for pixels of these thresholds, each (P,).

    A black pixel has `rate_hz` events per second, ON and OFF together, on the average over the
    array; as in v2e, a pixel's noise is inversely proportional to its threshold. v2e's own rates
    lie 5.5 % lower in black.
    """
    pixels = pos.size
    weights = [1 / pos.astype(np.float64), 1 / neg.astype(np.float64)]
    total = weights[0].sum() + weights[1].sum()
    per_us = np.zeros(-(-pixels // BLOCK))
    keep, other = np.empty(2 * pixels, np.float32), np.empty(2 * pixels, np.int32)
    for block in range(per_us.size):
        here = slice(block * BLOCK, min((block + 1) * BLOCK, pixels))
        both = np.concatenate([weights[0][here], weights[1][here]]) / total
        per_us[block] = rate_hz * pixels / 1e6 * both.sum()
        outcomes = slice(2 * here.start, 2 * here.stop)
        keep[outcomes], other[outcomes] = _alias_table(both / both.mean())
    brightness = np.arange(256) / 255
    return ShotNoise(
        key=key_of(seed, recording, "shot noise"),
        per_us=per_us,
        keep=keep,
        other=other,
        rate_of_level=(1 - SHOT_NOISE_DARKNESS * brightness).astype(np.float32),
        waits=-np.log1p(-(np.arange(1 << _WAIT_BITS) + 0.5) / (2 << _WAIT_BITS)),
    )


def no_shot_noise(pixels: int) -> ShotNoise:
    """The process that never has an event."""
    nothing = np.empty(0, np.float32)
    blocks = np.zeros(-(-pixels // BLOCK))
    return ShotNoise(
        np.uint64(0), blocks, nothing, np.empty(0, np.int32), nothing, np.empty(0, np.float64)
    )


@compiled
def arrive(
    noise: ShotNoise,
    block: int,
    frame: int,
    interval_us: float,
    levels: NDArray[np.uint8],
    head: NDArray[np.int32],
) -> Arrivals:
    """Noise events of one block in one frame interval.

    Args:
        noise: the process.
        block: index of the block.
        frame: index of the frame in the recording.
        interval_us: length of the interval.
        levels: uint8 (p,), luma of the pixels of the block.
        head: int32 (p,), all -1; becomes each pixel's first arrival.
    """
    space = new_arrivals(most_arrivals(noise.per_us[block] * interval_us))
    count = draw_arrivals(noise, block, frame, interval_us, levels, head, space)
    return Arrivals(
        space.pixel[:count], space.fraction[:count], space.on[:count], space.follower[:count]
    )


@compiled
def most_arrivals(mean: float) -> Int:
    """A number that a Poisson process with this mean never exceeds: ten standard deviations."""
    return np.int64(mean + 10 * np.sqrt(mean)) + 20


@compiled
def new_arrivals(room: int) -> Arrivals:
    """Space for `room` arrivals."""
    return Arrivals(
        np.empty(room, np.int32),
        np.empty(room, np.float32),
        np.empty(room, np.bool_),
        np.empty(room, np.int32),
    )


@compiled
def draw_arrivals(
    noise: ShotNoise,
    block: int,
    frame: int,
    interval_us: float,
    levels: NDArray[np.uint8],
    head: NDArray[np.int32],
    space: Arrivals,
) -> int:
    """As `arrive`, into `space`, which takes `most_arrivals`; their number."""
    gap = 1 / (noise.per_us[block] * interval_us)  # mean distance, in intervals
    key = mix(mix(noise.key, frame), block)
    outcomes, first = np.uint64(2 * levels.size), 2 * block * BLOCK
    low = np.uint64(0xFFFFFFFF)
    count, draw = 0, 0
    now = _wait(mix(key, draw), noise.waits) * gap
    while now < 1 and count < space.pixel.size:
        bits = mix(key, draw + 1)
        place = (bits >> np.uint64(32)) * outcomes
        drawn = first + np.int64(place >> np.uint64(32))
        kept = np.float32(place & low) < noise.keep[drawn] * np.float32(2.0**32)
        outcome = drawn - first if kept else np.int64(noise.other[drawn])
        on = outcome < levels.size
        pixel = outcome if on else outcome - levels.size
        space.pixel[count], space.fraction[count], space.on[count] = pixel, now, on
        # The noise of a pixel that is not black is thinned.
        count += np.float32(bits & low) < noise.rate_of_level[levels[pixel]] * np.float32(2.0**32)
        draw += 2
        now += _wait(mix(key, draw), noise.waits) * gap
    for i in range(count - 1, -1, -1):
        space.follower[i] = head[space.pixel[i]]
        head[space.pixel[i]] = i
    return count


@compiled
def _wait(bits: Int, waits: NDArray[np.float64]) -> float:
    """An exponentially distributed number of mean 1 from 64 random bits.

    An exponential wait is a geometric number of half-lives (zeros before the lowest bit set) and
    the part of a half-life that is left over. No logarithm, whose last bit differs between
    mathematical libraries.
    """
    half_lives = trailing_zeros(bits | np.uint64(1 << (63 - _WAIT_BITS)))
    return np.float64(half_lives) * _HALF_LIFE + waits[bits >> np.uint64(64 - _WAIT_BITS)]


@compiled
def _alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Table to draw an index in proportion to weights of mean 1 (Vose, IEEE TSE 17(9), 1991)."""
    count = weights.size
    keep, other = weights.copy(), np.arange(count).astype(np.int32)
    small, large = np.empty(count, np.int32), np.empty(count, np.int32)
    smalls = larges = 0
    for i in range(count):
        if keep[i] < 1:
            small[smalls] = i
            smalls += 1
        else:
            large[larges] = i
            larges += 1
    while smalls and larges:
        smalls -= 1
        donor = large[larges - 1]
        other[small[smalls]] = donor
        keep[donor] -= 1 - keep[small[smalls]]
        if keep[donor] < 1:
            larges -= 1
            small[smalls] = donor
            smalls += 1
    for i in range(larges):
        keep[large[i]] = 1.0
    for i in range(smalls):
        keep[small[i]] = 1.0
    return keep, other
