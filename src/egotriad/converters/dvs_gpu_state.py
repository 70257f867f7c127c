"""What the event emulator keeps on a GPU, and how it gets there: tensors of several clips at once.

C clips of P pixels each, n frames a call. Pixels are row-major, those of a clip together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.counter_rng import mix
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_noise import Maps
from egotriad.converters.dvs_signal import low_pass_tables, tables
from egotriad.converters.dvs_walk import Drive, Walk

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "GROUP",
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

GROUP = 64
"""Pixels of a clip that one program walks; their shot noise is listed together."""


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
        leak_keys: uint64 (C,), host array, generators of the draws from `leak_factors`.
    """

    log_of_level: "Tensor"
    leak_factors: "Tensor"
    refractory_us: float
    leak_keys: NDArray[np.uint64]


class ArrivalList(NamedTuple):
    """Shot noise of one call, by frame, then clip, then pixel, then time.

    Attributes:
        ends: int64 (n C G,), where the arrivals of each group of `GROUP` successive pixels end:
            the groups of a clip, then the clips, then the frames.
        pixel: int32 (A,), among those of all clips.
        fraction: float32 (A,), where in the interval.
        on: bool (A,), polarity.
    """

    ends: "Tensor"
    pixel: "Tensor"
    fraction: "Tensor"
    on: "Tensor"


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
        leak_keys=np.array([drive.leak_key for drive in drives], np.uint64),
    )


def walk_input(
    config: DvsConfig,
    drive: WalkDrive,
    levels: "Tensor",
    logs: "Tensor | None",
    times_us: NDArray[np.float64],
    number: int,
) -> WalkInput:
    """The frames of one call without their shot noise.

    Args:
        config: parameters.
        drive: constants.
        levels: uint8 (C, n, P), luma.
        logs: float32 (C, n, P), log intensity, or None when it is that of `levels`.
        times_us: float64 (C, n + 1), borders of the intervals.
        number: index of the first frame in the recording.
    """
    device, length_us = str(levels.device), np.diff(times_us)
    clips, n = length_us.shape
    decay = follow = None
    if config.cutoff_hz and not config.shapes_signal:
        lengths_us, which = np.unique(length_us, return_inverse=True)  # few at a steady rate
        there = on_device(which.reshape(clips, n), device)
        found = low_pass_tables(config.cutoff_hz, lengths_us)
        decay, follow = (on_device(table, device)[there] for table in found)
    return WalkInput(
        levels=levels,
        logs=logs,
        decay=decay,
        follow=follow,
        begin_us=on_device(times_us[:, :-1], device),
        length_us=on_device(length_us, device),
        dead=on_device((drive.refractory_us / length_us).astype(np.float32), device),
        leak_key=on_device(_frame_keys(drive.leak_keys, number, n), device),
        arrivals=None,
    )


@compiled
def _frame_keys(keys: NDArray[np.uint64], number: int, n: int) -> NDArray[np.int64]:
    """Bits of the generators of n frames from `number` on, (C, n)."""
    found = np.empty((keys.size, n), np.uint64)
    for clip in range(keys.size):
        for k in range(n):
            found[clip, k] = mix(keys[clip], number + k)
    return found.view(np.int64)
