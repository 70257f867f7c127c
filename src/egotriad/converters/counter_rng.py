"""Random numbers that are a function of what they are for, not of when they are drawn.

A draw is the hash of a key (seed, recording, purpose) and a counter (pixel, frame, ...): the idea
of counter-based generators (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2,
3", SC 2011), with the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom
Number Generators", OOPSLA 2014) as the hash. Neither the size of the pieces a recording is cut
into nor the number of workers nor the device changes a value.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from egotriad.converters.compiled import Int, compiled
from egotriad.manifests.files import short_hash

__all__ = [
    "fill_normals",
    "fill_uniforms",
    "gamma_quantiles",
    "key_of",
    "mix",
    "normal_quantiles",
    "uniform",
    "uniforms",
]

_TO_UNIT = 2.0**-53
_NORMAL_BITS = 16


def key_of(seed: int, recording: str, purpose: str) -> np.uint64:
    """The generator of one purpose in one recording."""
    return np.uint64(int(short_hash([seed, recording, purpose]), 16))


@compiled
def mix(key: Int, counter: Int) -> Int:
    """64 random bits, uint64, of a key (uint64) and a counter (any integer)."""
    z = np.uint64(key) + np.uint64(counter + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def uniform(key: Int, counter: Int) -> float:
    """A float64 inside (0, 1)."""
    bits = np.float64(mix(key, counter) >> np.uint64(11))
    return (bits + 0.5) * _TO_UNIT


def uniforms(key: Int, count: int) -> NDArray[np.float64]:
    """The draws 0 to `count` - 1 of a key, inside (0, 1)."""
    values = np.empty(count)
    fill_uniforms(key, values)
    return values


@compiled
def fill_normals(key: Int, quantiles: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Puts the draws 0, 1, ... of a key into `out` (n,): standard normal, by `normal_quantiles`."""
    for i in range(out.size):
        out[i] = quantiles[mix(key, i) >> np.uint64(64 - _NORMAL_BITS)]


@compiled
def fill_uniforms(key: Int, out: NDArray[np.float64]) -> None:
    """Puts the draws 0, 1, ... of a key, inside (0, 1), into `out` (n,)."""
    for i in range(out.size):
        out[i] = uniform(key, i)


@cache
def normal_quantiles() -> NDArray[np.float32]:
    """The standard normal as 65,536 equally likely values, float32; the last is 4.3."""
    count = 1 << _NORMAL_BITS
    return ndtri((np.arange(count) + 0.5) / count).astype(np.float32)


@cache
def gamma_quantiles(spread: float, count: int = 4096) -> NDArray[np.float64]:
    """The gamma distribution of mean 1 and standard deviation `spread`, as equally likely values.

    It is the waiting time for 1 / spread² arrivals of a Poisson process.
    """
    if spread == 0:
        return np.ones(count)
    shape = spread**-2
    values = gammaincinv(shape, (np.arange(count) + 0.5) / count) / shape
    return np.asarray(values / values.mean())
