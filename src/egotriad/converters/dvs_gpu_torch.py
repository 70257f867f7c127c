"""The loops of the event emulator in torch, on any device: all pixels of all clips, frame by frame.

The arithmetic is that of `dvs_levels` and `dvs_walk`, operation by operation, so the events are the
same to the last bit. The kernels of `dvs_gpu_levels` and `dvs_gpu_walk` are faster; this is what
runs where there is no Triton, and what they are easy to compare with.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from egotriad.converters.dvs_gpu_place import HitList

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ArrivalList",
    "LevelsState",
    "WalkDrive",
    "WalkInput",
    "WalkState",
    "mix_tensor",
    "scan_levels",
    "scan_walk",
]

_DEAD = float("inf")


class LevelsState(NamedTuple):
    """State per pixel of all clips, each (C P,): log intensity of the last frame, memorised log
    intensity, thresholds; float32."""

    log: "Tensor"
    base: "Tensor"
    pos: "Tensor"
    neg: "Tensor"


class WalkState(NamedTuple):
    """State and constants per pixel of all clips, each (C P,): see `dvs_walk.Walk`."""

    log: "Tensor"
    lag: "Tensor"
    difference: "Tensor"
    wake_us: "Tensor"
    leak: "Tensor"
    pos: "Tensor"
    neg: "Tensor"
    mean_leak: "Tensor"


class ArrivalList(NamedTuple):
    """Shot noise of one call, by interval, then pixel, then time.

    Attributes:
        ends: int64 (n C groups,), where the arrivals of each group of successive pixels of a clip
            end; the groups of a clip follow each other, then the clips, then the frames.
        pixel: int32 (A,), within the clip.
        clip: int32 (A,).
        fraction: float32 (A,), where in the interval.
        on: bool (A,).
    """

    ends: "Tensor"
    pixel: "Tensor"
    clip: "Tensor"
    fraction: "Tensor"
    on: "Tensor"


class WalkInput(NamedTuple):
    """Frames of one call.

    Attributes:
        levels: uint8 (C, n, P).
        logs: float32 (C, n, P); None when they are those of `levels`.
        decay: float32 (C, n, 256), see `dvs_walk.WalkFrames`; None without low pass.
        follow: float32 (C, n, 256), likewise.
        begin_us: float64 (C, n), start of each interval.
        length_us: float64 (C, n).
        dead: float32 (C, n), dead time as a fraction of the interval.
        leak_key: int64 (C, n), the bits of the generator of leaks.
        arrivals: shot noise; None without.
    """

    levels: "Tensor"
    logs: "Tensor | None"
    decay: "Tensor | None"
    follow: "Tensor | None"
    begin_us: "Tensor"
    length_us: "Tensor"
    dead: "Tensor"
    leak_key: "Tensor"
    arrivals: ArrivalList | None


class WalkDrive(NamedTuple):
    """What is the same for all pixels: float32 (256 or more,) and (LEAK_FACTORS or 1,)."""

    log_of_level: "Tensor"
    leak_factors: "Tensor"
