"""Whether the times of events keep to a rhythm, such as the frame rate they were made from."""

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.manifests.errors import UsageError

__all__ = ["layering", "vector_strength"]


def vector_strength(t_us: NDArray[np.int64], rates_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """How strongly events keep to one phase of each rate: |mean of exp(2 pi i rate t)|.

    1 when all fall on the same phase, 0 when they are spread evenly; for N events without any
    rhythm about 0.9 / sqrt(N). (Goldberg and Brown, J. Neurophysiol. 32, 1969.)

    Args:
        t_us: int64 (N,); best spans a whole number of periods.
        rates_hz: float64 (R,).

    Returns:
        float64 (R,); NaN without events.
    """
    if not len(t_us):
        return np.full(rates_hz.shape, np.nan)
    return _strengths(t_us - t_us[0], rates_hz)


def layering(t_us: NDArray[np.int64], frame_rate_hz: float, *, harmonics: int = 10) -> float:
    """How much of the frame rate is in the times of events: the greatest of its vector strengths.

    A camera knows of no frames; what it has at such a rate is chance, and the slow changes of the
    scene. Simulated streams pulse.

    Args:
        t_us: int64 (N,), of at least several frames.
        frame_rate_hz: of the video.
        harmonics: multiples of that rate to look at.

    Raises:
        UsageError: when the rate or the number of multiples is not positive.
    """
    if harmonics < 1 or not frame_rate_hz > 0:
        raise UsageError(f"got {frame_rate_hz} Hz and {harmonics} harmonics, need both above zero")
    return float(vector_strength(t_us, frame_rate_hz * np.arange(1.0, harmonics + 1)).max())


@compiled
def _strengths(t_us: NDArray[np.int64], rates_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    strengths = np.empty(len(rates_hz))
    for k in range(len(rates_hz)):
        step = 2e-6 * np.pi * rates_hz[k]
        real = imaginary = 0.0
        at_once = 0
        for i in range(len(t_us)):
            at_once += 1
            if i + 1 == len(t_us) or t_us[i + 1] != t_us[i]:
                real += at_once * np.cos(step * t_us[i])
                imaginary += at_once * np.sin(step * t_us[i])
                at_once = 0
        strengths[k] = np.hypot(real, imaginary) / len(t_us)
    return strengths
