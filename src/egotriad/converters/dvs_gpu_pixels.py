"""The pixels of several clips on a GPU: from frames to events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_engines import shaped, start_walk
from egotriad.converters.dvs_gpu_arrivals import (
    arrivals_from_host,
    arrivals_on_device,
    noise_tables,
)
from egotriad.converters.dvs_gpu_levels import level_events
from egotriad.converters.dvs_gpu_place import BatchEvents, Clock, hit_events
from egotriad.converters.dvs_gpu_state import (
    WalkInput,
    levels_state,
    log_table,
    on_device,
    walk_drive,
    walk_input,
    walk_state,
)
from egotriad.converters.dvs_gpu_torch import scan_levels
from egotriad.converters.dvs_gpu_torch_walk import scan_walk
from egotriad.converters.dvs_gpu_triton import has_kernels
from egotriad.converters.dvs_gpu_walk import walk_events
from egotriad.converters.dvs_noise import Maps

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LevelPixels", "Pixels", "WalkPixels"]


class Pixels(Protocol):
    """State of the pixels of C clips; moved by every call."""

    def events(
        self,
        frames: NDArray[Any] | Tensor,
        times_us: NDArray[np.float64],
        number: int,
        clock: Clock,
    ) -> BatchEvents:
        """Events of the next frames, (C, n, H, W); see `dvs_gpu.GpuBatch`."""


class LevelPixels:
    """8-bit frames, contrast thresholds, nothing else; made from frames (C, H, W)."""

    def __init__(
        self, config: DvsConfig, frames: NDArray[np.uint8], maps: Sequence[Maps], device: str
    ) -> None:
        self._slots, self._device = config.timing == "slots", device
        self._state, self._log_of_level = levels_state(frames, maps, device), log_table(device)

    def events(
        self,
        frames: NDArray[Any] | Tensor,
        times_us: NDArray[np.float64],
        number: int,
        clock: Clock,
    ) -> BatchEvents:
        """See `Pixels`."""
        levels = on_device(frames, self._device).flatten(2)
        given = (levels, self._state, self._log_of_level)
        if has_kernels(self._device):
            events, self._state = level_events(*given, clock, slots=self._slots)
            return events
        hits, self._state = scan_levels(*given, slots=self._slots)
        return hit_events(hits, clock, slots=self._slots)


class WalkPixels:
    """The whole pixel model; made from frames (C, H, W)."""

    def __init__(
        self,
        config: DvsConfig,
        frames: NDArray[Any],
        maps: Sequence[Maps],
        device: str,
        *,
        seeds: Sequence[int],
        recordings: Sequence[str],
    ) -> None:
        clips = zip(frames, maps, seeds, recordings, strict=True)
        starts = [
            start_walk(config, frame, each, seed=seed, recording=recording)
            for frame, each, seed, recording in clips
        ]
        self._config, self._slots, self._device = config, config.timing == "slots", device
        self._state = walk_state([start.state for start in starts], device)
        self._drive = walk_drive([start.drive for start in starts], device)
        self._signals = [start.signal for start in starts]
        self._noises = [start.noise for start in starts]
        self._noisy = any((noise.per_us > 0).any() for noise in self._noises)
        self._tables = None
        if self._noisy and has_kernels(device):
            self._tables = noise_tables(self._noises, device)

    def events(
        self,
        frames: NDArray[Any] | Tensor,
        times_us: NDArray[np.float64],
        number: int,
        clock: Clock,
    ) -> BatchEvents:
        """See `Pixels`."""
        given = self._input(frames, times_us, number)
        if has_kernels(self._device):
            events, self._state = walk_events(
                given, self._state, self._drive, clock, slots=self._slots
            )
            return events
        hits, self._state = scan_walk(given, self._state, self._drive, slots=self._slots)
        return hit_events(hits, clock, slots=self._slots)

    def _input(
        self, frames: NDArray[Any] | Tensor, times_us: NDArray[np.float64], number: int
    ) -> WalkInput:
        logs = None
        if self._config.hdr or self._config.shapes_signal:
            frames, logs = self._shaped(frames, times_us, number)
        levels = on_device(frames, self._device).flatten(2)
        given = walk_input(self._config, self._drive, levels, logs, times_us, number)
        if not self._noisy:
            return given
        if self._tables is not None:
            arrivals = arrivals_on_device(self._tables, levels, given.length_us, number)
        else:
            arrivals = arrivals_from_host(self._noises, levels, times_us, number)
        return given._replace(arrivals=arrivals)

    def _shaped(
        self, frames: NDArray[Any] | Tensor, times_us: NDArray[np.float64], number: int
    ) -> tuple[NDArray[np.uint8], Tensor]:
        """Luma (C, n, H, W) and log intensity, float32 (C, n, P), from the CPU's signal stages."""
        host = frames if isinstance(frames, np.ndarray) else frames.cpu().numpy()
        each = [
            shaped(self._config, signal, clip, borders_us, number)
            for signal, clip, borders_us in zip(self._signals, host, times_us, strict=True)
        ]
        levels = np.stack([one.levels for one in each]).reshape(host.shape)
        return levels, on_device(np.stack([one.logs for one in each]), self._device)
