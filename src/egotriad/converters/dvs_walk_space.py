"""What the walk of `dvs_walk` holds of one block of pixels in one frame interval."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.dvs_noise import BLOCK

__all__ = ["Interval", "Space", "new_space"]


class Interval(NamedTuple):
    """One frame interval of one block of pixels."""

    begin_us: float
    length_us: float
    first_pixel: int
    width: int
    key: np.uint64


class Space(NamedTuple):
    """Values of the pixels of one block in one frame interval; from `pixel` on, of loud ones."""

    log: NDArray[np.float32]
    lag: NDArray[np.float32]
    decay: NDArray[np.float32]
    follow: NDArray[np.float32]
    change: NDArray[np.float32]
    after: NDArray[np.float32]
    loud: NDArray[np.uint8]
    zeros: NDArray[np.uint8]
    head: NDArray[np.int32]
    pixel: NDArray[np.uint32]
    on: NDArray[np.bool_]
    start: NDArray[np.float32]
    left: NDArray[np.float32]
    slope: NDArray[np.float32]
    threshold: NDArray[np.float32]
    address: NDArray[np.int32]
    events: NDArray[np.int32]
    first: NDArray[np.float32]
    step: NDArray[np.float32]


@compiled
def new_space() -> Space:
    """Space for one block, used again for every block and interval."""
    return Space(
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.zeros(BLOCK, np.uint8),
        np.zeros(BLOCK, np.uint8),
        np.full(BLOCK, -1, np.int32),
        np.empty(BLOCK, np.uint32),
        np.empty(BLOCK, np.bool_),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.int32),
        np.empty(BLOCK, np.int32),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
    )
