"""What the event emulator keeps on a GPU, and how it gets there: tensors of several clips at once.

C clips of P pixels each, n frames a call. Pixels are row-major, those of a clip together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
    "on_device",
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
        leak_factors: float32 (LEAK_FACTORS,), equally likely ratios of a leak to its mean.
        refractory_us: dead time after an event.
        leak_keys: of each clip, the generator of the draws from `leak_factors`.
    """

    log_of_level: "Tensor"
    leak_factors: "Tensor"
    refractory_us: float
    leak_keys: tuple[np.uint64, ...]


class ArrivalList(NamedTuple):
    """Shot noise of one call, by frame, then pixel, then time.

    Attributes:
        ends: int64 (n C G,), where the arrivals of each group of successive pixels end: the groups
            of a clip, then the clips, then the frames.
        pixel: int32 (A,), among those of all clips.
        fraction: float32 (A,), where in the interval.
        on: bool (A,), polarity.
        frame_ends: int64 (n,), host array, where the arrivals of each frame end.
    """

    ends: "Tensor"
    pixel: "Tensor"
    fraction: "Tensor"
    on: "Tensor"
    frame_ends: NDArray[np.int64]


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


def on_device(values: "NDArray[Any] | Tensor", device: str) -> "Tensor":
    """A contiguous tensor on the device."""
    import torch

    if isinstance(values, torch.Tensor):
        return values.to(device).contiguous()
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def log_table(device: str) -> "Tensor":
    """Log intensity of each level, float32 (257,)."""
    return on_device(tables().log_of_level, device)


def levels_state(frames: NDArray[np.uint8], maps: Sequence[Maps], device: str) -> LevelsState:
    """State that has memorised `frames`, uint8 (C, H, W)."""
    return LevelsState(
        level=on_device(frames.ravel().copy(), device),
        base=on_device(tables().log_of_level[frames.ravel()], device),
        pos=on_device(np.concatenate([each.pos for each in maps]), device),
        neg=on_device(np.concatenate([each.neg for each in maps]), device),
    )


def walk_state(walks: Sequence[Walk], device: str) -> WalkState:
    """The states of all clips."""
    columns = ([getattr(walk, name) for walk in walks] for name in WalkState._fields)
    return WalkState(*(on_device(np.concatenate(column), device) for column in columns))


def walk_drive(drives: Sequence[Drive], device: str) -> WalkDrive:
    """The constants of all clips, which have one configuration."""
    return WalkDrive(
        log_of_level=log_table(device),
        leak_factors=on_device(drives[0].leak_factors, device),
        refractory_us=drives[0].refractory_us,
        leak_keys=tuple(drive.leak_key for drive in drives),
    )


def walk_input(
    frames: Sequence[WalkFrames],
    levels: "Tensor",
    drive: WalkDrive,
    arrivals: ArrivalList | None,
) -> WalkInput:
    """One call's frames of each clip, as `dvs_engines.shaped` gives them; `levels` on the device."""
    device = str(levels.device)
    borders_us = np.stack([each.times_us for each in frames])
    length_us = np.diff(borders_us)
    numbers = range(frames[0].number, frames[0].number + length_us.shape[1])
    keys = [[np.uint64(mix(key, number)) for number in numbers] for key in drive.leak_keys]

    def stacked(name: str) -> "Tensor | None":
        arrays = [getattr(each, name) for each in frames]
        return on_device(np.stack(arrays), device) if arrays[0].size else None

    return WalkInput(
        levels=levels,
        logs=stacked("logs"),
        decay=stacked("decay"),
        follow=stacked("follow"),
        begin_us=on_device(borders_us[:, :-1], device),
        length_us=on_device(length_us, device),
        dead=on_device((drive.refractory_us / length_us).astype(np.float32), device),
        leak_key=on_device(np.array(keys, np.uint64).view(np.int64), device),
        arrivals=arrivals,
    )
