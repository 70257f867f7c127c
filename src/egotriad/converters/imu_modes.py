"""Two rate conversions of others, exactly as they do them, for features that equal theirs.

Both count samples and never look at a time stamp; `imu.resample` says what that costs.
"""

import math

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import UsageError

__all__ = ["block_mean", "sinc_hann"]

FILTER_WIDTH = 6
ROLLOFF = 0.99
"""Defaults of torchaudio.functional.resample (lowpass_filter_width, rolloff)."""


def block_mean(
    values: NDArray[np.float64], *, source_hz: float, rate_hz: float
) -> NDArray[np.float64]:
    """LIMU-BERT's down-sampling: means of consecutive blocks of source_hz / rate_hz samples.

    A block length with a fraction alternates between the two whole ones around it (2.5: 2, 3, 2,
    3, ...). As theirs it stops early: the last whole block is missing when nothing follows it
    (block length whole), or fewer than one sample (not whole). (dapowan/LIMU-BERT-Public,
    dataset/uci.py, `down_sample`; the same in hhar.py, motion.py, shoaib.py.)

    Args:
        values: (C, N), one row per signal, in any unit.
        source_hz: rate of the samples.
        rate_hz: rate wanted, at most source_hz.

    Returns:
        float64 (C, M); mean k covers the samples from about k * source_hz / rate_hz on, so it lies
        half a block later than a sample of that time.

    Raises:
        UsageError: rates that are not positive, or a rate above the source's.
    """
    if not 0 < rate_hz <= source_hz < math.inf:
        raise UsageError(
            f"block means: got {rate_hz} Hz out of {source_hz} Hz, need above 0 and at most the "
            f"source's rate; use mode bandlimited to go up"
        )
    count = values.shape[1]
    length = source_hz / rate_hz
    whole = int(length)
    if whole == length:
        edges = np.arange(0, max(count, 1), whole)
    else:
        edges = np.array(_fractional_edges(count, length))
    if len(edges) < 2:
        return np.empty((len(values), 0))
    starts, lengths = edges[:-1], np.diff(edges)
    total = np.zeros((len(values), len(starts)))
    # One sample of each block after the other, from the left: the order decides the last bit.
    for offset in range(lengths.max()):
        inside = offset < lengths
        total[:, inside] += values[:, starts[inside] + offset]
    return np.asarray(total / lengths)


def _fractional_edges(count: int, length: float) -> list[int]:
    """Starts of blocks and the end of the last; the remainder adds up in floats, as theirs does."""
    whole = int(length)
    remainder = 0.0
    edges = [0]
    while edges[-1] + whole + 1 < count:
        remainder += length - whole
        longer = remainder >= 1
        remainder -= longer
        edges.append(edges[-1] + whole + longer)
    return edges


def sinc_hann(
    values: NDArray[np.float64],
    *,
    source_hz: int,
    rate_hz: int,
    start: int = 0,
    count: int | None = None,
) -> NDArray[np.float64]:
    """What torchaudio.functional.resample gives: a sinc of six zero crossings under a Hann window.

    Samples beyond either end count as zero, as there. In float64: equal to torchaudio in float64,
    and to its float32 within the rounding of float32. (pytorch/audio, src/torchaudio/functional/
    functional.py, `_get_sinc_resample_kernel`: sinc_interp_hann, lowpass_filter_width 6,
    rolloff 0.99.)

    Args:
        values: (C, N), one row per signal.
        source_hz: rate of the samples, a whole number.
        rate_hz: rate wanted, a whole number.
        start: number of the first sample to give.
        count: how many to give; None = all, which are ceil(N * rate_hz / source_hz) - start.

    Returns:
        float64 (C, count).

    Raises:
        UsageError: rates that are not whole numbers above 0.
    """
    if source_hz < 1 or rate_hz < 1 or source_hz != int(source_hz) or rate_hz != int(rate_hz):
        raise UsageError(f"got {source_hz} Hz to {rate_hz} Hz, need whole numbers above 0")
    divisor = math.gcd(int(source_hz), int(rate_hz))
    down, up = int(source_hz) // divisor, int(rate_hz) // divisor
    total = -(-values.shape[1] * up // down)
    count = total - start if count is None else count
    if down == up:
        return np.asarray(values[:, start : start + count], np.float64).copy()
    number = start + np.arange(count)
    first, taps = _taps(down, up)
    nearest = number * down // up
    margin = taps.shape[1]
    lowest = int(nearest[0]) + first if count else 0
    padded = np.zeros((len(values), (int(nearest[-1]) - lowest if count else 0) + margin))
    inside = slice(max(lowest, 0), min(lowest + padded.shape[1], values.shape[1]))
    if inside.start < inside.stop:
        padded[:, inside.start - lowest : inside.stop - lowest] = values[:, inside]
    out = np.zeros((len(values), count))
    for k in range(margin):
        out += taps[number % up, k] * padded[:, nearest + first + k - lowest]
    return out


def _taps(down: int, up: int) -> tuple[int, NDArray[np.float64]]:
    """Weights (up, K) of the samples around each phase, and the number of the first of them.

    Output j lies between samples j * down // up and the next; its weights are those of row j % up.
    """
    base = min(down, up) * ROLLOFF
    reach = math.ceil(FILTER_WIDTH * down / base)
    offset = np.arange(-reach, reach + 2)
    phase = np.arange(up)[:, None]
    # Distance of sample from output in units of the sinc's zero crossings.
    t = (offset + phase * down // up) / down - phase / up
    t = np.clip(t * base, -FILTER_WIDTH, FILTER_WIDTH)
    window = np.cos(t * math.pi / FILTER_WIDTH / 2) ** 2
    return -reach, np.sinc(t) * window * base / down
