"""The event emulator on a CUDA device: the events of the CPU, bit for bit, of many clips at once.

The state of a block of pixels stays on the chip while the block runs through all frames of a call
(kernels in Triton: `dvs_gpu_levels`, `dvs_gpu_walk`); then every event gets a sort key, and sorted
keys become columns. Where Triton is missing the same arithmetic runs in torch. What is drawn once
per recording (thresholds, leak rates) or sparsely (shot noise), and the seldom used stages of the
signal (`dvs_signal.Signal`) come from the CPU.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from os import environ
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_engines import Engine, shaped, start_walk
from egotriad.converters.dvs_gpu_arrivals import arrivals_from_host, arrivals_on_device, noise_tables
from egotriad.converters.dvs_gpu_place import (
    KEY_BITS,
    BatchEvents,
    Clock,
    hit_keys,
    new_clock,
    unpacked,
)
from egotriad.converters.dvs_gpu_state import (
    WalkInput,
    levels_state,
    log_table,
    on_device,
    walk_drive,
    walk_input,
    walk_state,
)
from egotriad.converters.dvs_noise import Maps
from egotriad.converters.dvs_place import Columns
from egotriad.manifests.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GpuBatch", "GpuEngine", "new_engine"]


def new_engine(
    config: DvsConfig,
    frame: NDArray[Any],
    maps: Maps,
    *,
    seed: int,
    recording: str,
    device: str | None = None,
) -> Engine:
    """An engine that has memorised `frame`, (H, W), with the events of the CPU's engines.

    Args:
        config: parameters.
        frame: uint8 luma, or float32 natural-log intensity with `config.hdr`.
        maps: what differs from pixel to pixel.
        seed: of the noise.
        recording: name of the recording.
        device: a torch device; by default `cuda`, or `cpu` where `TRITON_INTERPRET=1` asks for
            Triton's interpreter.

    Raises:
        MissingDependency: torch is not installed.
        UsageError: there is no such device, or only the CPU has this configuration.
    """
    return GpuEngine(
        GpuBatch(config, frame[None], [maps], seeds=[seed], recordings=[recording], device=device)
    )


class GpuBatch:
    """Emulators of several recordings with one size, one configuration and as many frames each.

    Args:
        config: parameters.
        frames: (C, H, W), the first frame of each recording: uint8 luma, or float32 natural-log
            intensity with `config.hdr`.
        maps: of each recording.
        seeds: of each recording.
        recordings: their names.
        device: see `new_engine`.

    Raises:
        MissingDependency: torch is not installed.
        UsageError: there is no such device, or only the CPU has this configuration.
    """

    def __init__(
        self,
        config: DvsConfig,
        frames: NDArray[Any],
        maps: Sequence[Maps],
        *,
        seeds: Sequence[int],
        recordings: Sequence[str],
        device: str | None = None,
    ) -> None:
        if config.compat == "v2e" and not config.moves_only:
            raise UsageError(
                "compat: 'v2e' with noise, low pass, refractory period, hdr, CSDVS or SCIDVS runs on "
                "the CPU alone; use backend 'cpu', or compat 'none'"
            )
        self.size_wh = frames.shape[2], frames.shape[1]
        self.device = _usable(device)
        self._slots = config.timing == "slots"
        kind = _Levels if config.moves_only else _Walk
        self._pixels = kind(config, frames, maps, seeds, recordings, self.device)

    def advance(
        self, frames: "NDArray[Any] | Tensor", times_us: NDArray[np.float64], number: int
    ) -> BatchEvents:
        """Events of the next frames.

        Args:
            frames: (C, n, H, W), in host memory, or a tensor on the device, which saves the copy.
            times_us: float64 (C, n + 1), borders of the frame intervals, microseconds.
            number: index in the recording of the first of these frames.

        Returns:
            The events of one clip after the other, on the device.

        Raises:
            UsageError: when the times of all clips together do not fit into sort keys.
        """
        clock = new_clock(times_us, self.size_wh, self.device)
        keys = self._pixels.keys(frames, times_us, number, clock, self._slots)
        keys = keys.sort().values
        if _has_triton(self.device):
            from egotriad.converters import dvs_gpu_expand

            return dvs_gpu_expand.unpacked(keys, clock)
        return unpacked(keys, clock)


class GpuEngine:
    """One recording on the device: see `dvs_engines.Engine`."""

    def __init__(self, batch: GpuBatch) -> None:
        self._batch = batch

    def advance(self, frames: NDArray[Any], times_us: NDArray[np.float64], number: int) -> Columns:
        """See `Engine`."""
        parts = []
        for piece in _pieces(times_us, self._batch.size_wh):
            borders = times_us[None, piece.start : piece.stop + 1]
            found = self._batch.advance(frames[None, piece], borders, number + piece.start)
            columns = (found.t_us, found.x, found.y, found.p)
            parts.append(Columns(*(column.cpu().numpy() for column in columns)))
        if len(parts) == 1:
            return parts[0]
        nothing = Columns(*(np.empty(0, kind) for kind in (np.int64, np.uint16, np.uint16, bool)))
        return Columns(*(np.concatenate(column) for column in zip(nothing, *parts, strict=True)))


class _Levels:
    """8-bit frames, contrast thresholds, nothing else."""

    def __init__(
        self,
        config: DvsConfig,
        frames: NDArray[np.uint8],
        maps: Sequence[Maps],
        seeds: Sequence[int],
        recordings: Sequence[str],
        device: str,
    ) -> None:
        self._state, self._log_of_level = levels_state(frames, maps, device), log_table(device)
        self._device = device

    def keys(
        self,
        frames: "NDArray[np.uint8] | Tensor",
        times_us: NDArray[np.float64],
        number: int,
        clock: Clock,
        slots: bool,
    ) -> "Tensor":
        levels = on_device(frames, self._device).flatten(2)
        if _has_triton(self._device):
            from egotriad.converters.dvs_gpu_levels import level_keys

            keys, self._state = level_keys(
                levels, self._state, self._log_of_level, clock, slots=slots
            )
            return keys
        from egotriad.converters.dvs_gpu_torch import scan_levels

        hits, self._state = scan_levels(levels, self._state, self._log_of_level, slots=slots)
        return hit_keys(hits, clock, slots=slots)


class _Walk:
    """The whole pixel model."""

    def __init__(
        self,
        config: DvsConfig,
        frames: NDArray[Any],
        maps: Sequence[Maps],
        seeds: Sequence[int],
        recordings: Sequence[str],
        device: str,
    ) -> None:
        names = zip(frames, maps, seeds, recordings, strict=True)
        starts = [
            start_walk(config, frame, each, seed=seed, recording=recording)
            for frame, each, seed, recording in names
        ]
        self._config, self._device = config, device
        self._state = walk_state([start.state for start in starts], device)
        self._drive = walk_drive([start.drive for start in starts], device)
        self._signals = [start.signal for start in starts]
        self._noises = [start.noise for start in starts]
        self._noisy = any((noise.per_us > 0).any() for noise in self._noises)
        self._noise_tables = None
        if self._noisy and _has_triton(device):
            self._noise_tables = noise_tables(self._noises, device)

    def keys(
        self,
        frames: "NDArray[Any] | Tensor",
        times_us: NDArray[np.float64],
        number: int,
        clock: Clock,
        slots: bool,
    ) -> "Tensor":
        given = self._input(frames, times_us, number)
        if _has_triton(self._device):
            from egotriad.converters.dvs_gpu_walk import walk_keys

            keys, self._state = walk_keys(given, self._state, self._drive, clock, slots=slots)
            return keys
        from egotriad.converters.dvs_gpu_torch_walk import scan_walk

        hits, self._state = scan_walk(given, self._state, self._drive, slots=slots)
        return hit_keys(hits, clock, slots=slots)

    def _input(
        self, frames: "NDArray[Any] | Tensor", times_us: NDArray[np.float64], number: int
    ) -> WalkInput:
        logs = None
        if self._config.hdr or self._config.shapes_signal:
            frames, logs = self._shaped(frames, times_us, number)
        levels = on_device(frames, self._device).flatten(2)
        given = walk_input(self._config, self._drive, levels, logs, times_us, number)
        if not self._noisy:
            return given
        if self._noise_tables:
            arrivals = arrivals_on_device(self._noise_tables, levels, given.length_us, number)
        else:
            arrivals = arrivals_from_host(self._noises, levels, times_us, number)
        return given._replace(arrivals=arrivals)

    def _shaped(
        self, frames: "NDArray[Any] | Tensor", times_us: NDArray[np.float64], number: int
    ) -> tuple[NDArray[np.uint8], "Tensor"]:
        """Luma (C, n, H, W) and log intensity, float32 (C, n, P), from the CPU's signal stages."""
        host = frames if isinstance(frames, np.ndarray) else frames.cpu().numpy()
        each = [
            shaped(self._config, signal, clip, borders_us, number)
            for signal, clip, borders_us in zip(self._signals, host, times_us, strict=True)
        ]
        levels = np.stack([one.levels for one in each]).reshape(host.shape)
        return levels, on_device(np.stack([one.logs for one in each]), self._device)


def _usable(device: str | None) -> str:
    """The device to use."""
    try:
        import torch
    except ImportError as exc:
        raise MissingDependency(
            "backend 'gpu' needs torch: pip install 'egotriad[train]'"
        ) from exc
    if device is None:
        device = "cpu" if _interprets() else "cuda"
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "backend: got 'gpu', but torch sees no CUDA device; use backend 'cpu', which gives "
            "the same events"
        )
    return device


def _interprets() -> bool:
    """Whether Triton is to run its kernels without a device."""
    return environ.get("TRITON_INTERPRET") == "1"


def _has_triton(device: str) -> bool:
    """Whether kernels can run there."""
    return find_spec("triton") is not None and (_interprets() or not device.startswith("cpu"))


def _pieces(times_us: NDArray[np.float64], size_wh: tuple[int, int]) -> list[slice]:
    """The frames in pieces so short that the events of one fit into sort keys."""
    address_bits = (2 * size_wh[0] * size_wh[1] - 1).bit_length()
    piece = (times_us[1:] - times_us[0]) // (1 << KEY_BITS - address_bits - 1)
    borders = [0, *(np.flatnonzero(np.diff(piece)) + 1), len(piece)]
    return [slice(a, b) for a, b in zip(borders[:-1], borders[1:], strict=True) if b > a]
