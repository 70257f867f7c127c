"""Shot noise drawn on the GPU: the draws of `dvs_noise.draw_arrivals`, bit for bit.

A lane draws the arrivals of one block of pixels in one frame interval, one after the other; its
program goes on as long as one of its lanes does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from egotriad.converters.dvs_gpu_state import ArrivalList, on_device
from egotriad.converters.dvs_gpu_triton import EXACT, jit, tl
from egotriad.converters.dvs_noise import BLOCK, ShotNoise

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NoiseTables", "drawn_arrivals", "mixed", "noise_tables"]

_LANES = 32
_NOWHERE = (1 << 63) - 1


class NoiseTables:
    """The shot noise of several clips on the device; see `dvs_noise.ShotNoise`.

    Attributes:
        keys: int64 (C,), bits of the generators.
        per_us: float64 (C, blocks).
        keep: float32 (C, 2 P).
        other: int32 (C, 2 P).
        rate_of_level: float32 (256,).
        waits: float64.
        half_lives: float64 (64,), so many half-lives of the wait for the next event.
    """
