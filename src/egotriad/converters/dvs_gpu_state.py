"""What the event emulator keeps on a GPU, and how it gets there: tensors of several clips at once.

Pixels are row-major; the pixels of a clip follow each other, then the clips. C clips of P pixels
and n frames a call.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.counter_rng import mix
from egotriad.converters.dvs_noise import Maps
from egotriad.converters.dvs_signal import tables
from egotriad.converters.dvs_walk import Drive, Walk, WalkFrames

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ArrivalList",
    "LevelsState",
    "WalkDrive",
    "WalkInput",
    "WalkState",
    "levels_state",
    "log_table",
    "walk_drive",
    "walk_input",
    "walk_state",
]


class LevelsState(NamedTuple):
    """State and constants per pixel of noise-free clips, each (C P,).

    Attributes:
        level: uint8, level of the last frame.
        base: float32, memorised log intensity.
        pos: float32, contrast threshold of ON events.
        neg: float32, contrast threshold of OFF events.
    """

    level: "Tensor"
    base: "Tensor"
    pos: "Tensor"
    neg: "Tensor"


class WalkState(NamedTuple):
    """State and constants per pixel of the whole model, each (C P,): see `dvs_walk.Walk`."""

    log: "Tensor"
    lag: "Tensor"
    difference: "Tensor"
    wake_us: "Tensor"
    leak: "Tensor"
    pos: "Tensor"
    neg: "Tensor"
    mean_leak: "Tensor"


class WalkDrive(NamedTuple):
    """What is the same for all pixels.

    Attributes:
        log_of_level: float32 (257,).
        leak_factors: float32 (LEAK_FACTORS,) or (1,), equally likely ratios of a leak to its mean.
        refractory_us: dead time after an event.
        leak_keys: uint64 (C,), host array, generators of the draws from `leak_factors`.
    """

    log_of_level: "Tensor"
    leak_factors: "Tensor"
    refractory_us: float
    leak_keys: NDArray[np.uint64]


class ArrivalList(NamedTuple):
    """Shot noise of one call, by frame, then clip, then pixel, then time.

    Attributes:
        ends: int64 (n C G,), where the arrivals of each group of `group` successive pixels end.
        pixel: int32 (A,), within the clip.
        fraction: float32 (A,), where in the interval.
        on: bool (A,), polarity.
        group: pixels in a group.
    """

    ends: "Tensor"
    pixel: "Tensor"
    fraction: "Tensor"
    on: "Tensor"
    group: int


class WalkInput(NamedTuple):
    """Frames of one call.

    Attributes:
        levels: uint8 (C, n, P).
        logs: float32 (C, n, P), log intensity; None when it is that of `levels`.
        decay: float32 (C, n, 256), see `dvs_walk.WalkFrames`; None without low pass.
        follow: float32 (C, n, 256), likewise.
        begin_us: float64 (C, n), start of each interval.
        length_us: float64 (C, n).
        dead: float32 (C, n), dead time as a fraction of the interval.
        leak_key: int64 (C, n), bits of the generator of leaks.
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


def log_table(device: str) -> "Tensor":
    """Log intensity of each level, float32 (257,)."""
    import torch

    return torch.from_numpy(tables().log_of_level).to(device)


def levels_state(frames: NDArray[np.uint8], maps: Sequence[Maps], device: str) -> LevelsState:
    """State that has memorised `frames`, uint8 (C, P)."""
    import torch

    level = torch.from_numpy(np.ascontiguousarray(frames).reshape(-1)).to(device)
    return LevelsState(
        level=level,
        base=log_table(device)[level.long()],
        pos=_joined([each.pos for each in maps], device),
        neg=_joined([each.neg for each in maps], device),
    )


def walk_state(walks: Sequence[Walk], device: str) -> WalkState:
    """The states of all clips."""
    return WalkState(
        *(_joined([getattr(each, name) for each in walks], device) for name in WalkState._fields)
    )


def walk_drive(drives: Sequence[Drive], device: str) -> WalkDrive:
    """The constants of all clips, which have one configuration."""
    import torch

    return WalkDrive(
        log_of_level=log_table(device),
        leak_factors=torch.from_numpy(drives[0].leak_factors).to(device),
        refractory_us=drives[0].refractory_us,
        leak_keys=np.array([drive.leak_key for drive in drives], np.uint64),
    )


def walk_input(
    frames: Sequence[WalkFrames], drive: WalkDrive, arrivals: ArrivalList | None, device: str
) -> WalkInput:
    """The frames of all clips, as `dvs_engines.shaped` gives them."""
    times_us = np.stack([each.times_us for each in frames])
    numbers = frames[0].number + np.arange(times_us.shape[1] - 1)
    length_us = np.diff(times_us)
    leak_key = [[mix(key, number) for number in numbers] for key in drive.leak_keys]
    return WalkInput(
        levels=_stacked([each.levels for each in frames], device),
        logs=_stacked([each.logs for each in frames], device) if frames[0].logs.size else None,
        decay=_stacked([each.decay for each in frames], device) if frames[0].decay.size else None,
        follow=_stacked([each.follow for each in frames], device)
        if frames[0].follow.size
        else None,
        begin_us=_stacked(times_us[:, :-1], device),
        length_us=_stacked(length_us, device),
        dead=_stacked((drive.refractory_us / length_us).astype(np.float32), device),
        leak_key=_stacked(np.array(leak_key, np.uint64).view(np.int64), device),
        arrivals=arrivals,
    )


def _joined(arrays: Sequence[NDArray[np.float32]], device: str) -> "Tensor":
    import torch

    return torch.from_numpy(np.concatenate(arrays)).to(device)


def _stacked(arrays: "Sequence[NDArray] | NDArray", device: str) -> "Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.stack(arrays))).to(device)
