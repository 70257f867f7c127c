"""The event emulator on a CUDA device: the events of the CPU, bit for bit, of many clips at once.

The state of a block of pixels stays on the chip while the block runs through all frames of a call
(kernels in Triton: `dvs_gpu_levels`, `dvs_gpu_walk`); the events it finds are brought in order by
`dvs_gpu_order`. Where Triton is missing the same arithmetic runs in torch. What is drawn once
per recording (thresholds, leak rates) or sparsely (shot noise), and the seldom used stages of the
signal (`dvs_signal.Signal`) come from the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_engines import Engine
from egotriad.converters.dvs_gpu_pixels import LevelPixels, Pixels, WalkPixels
from egotriad.converters.dvs_gpu_place import KEY_BITS, BatchEvents, new_clock
from egotriad.converters.dvs_gpu_triton import interprets
from egotriad.converters.dvs_noise import Maps
from egotriad.converters.dvs_place import MAX_INTERVAL_US, Columns
from egotriad.manifests.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GpuBatch", "GpuEngine", "new_engine"]

_MOST_CLIPS = (1 << 16) - 1  # CUDA's limit of a grid's second side
_MOST_PIXELS = (1 << 31) - 1  # of all clips: kernels number them in int32
_PIECE_PIXELS = 1 << 28  # of all frames of a launch: some gigabytes with hits and keys


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
                "compat: got 'v2e' with more than thresholds, which runs on the CPU alone; use "
                "backend 'cpu', or compat 'none'"
            )
        if len(frames) > _MOST_CLIPS or frames.size > _MOST_PIXELS:
            raise UsageError(
                f"frames: got {frames.shape} (clips, H, W), need at most {_MOST_CLIPS} clips and "
                f"{_MOST_PIXELS} pixels; make several batches"
            )
        self.size_wh = frames.shape[2], frames.shape[1]
        self._clips, self._kind = len(frames), "float32" if config.hdr else "uint8"
        self.device = _usable(device)
        self._pixels: Pixels = (
            LevelPixels(config, frames, maps, self.device)
            if config.moves_only
            else WalkPixels(config, frames, maps, self.device, seeds=seeds, recordings=recordings)
        )

    def advance(
        self, frames: NDArray[Any] | Tensor, times_us: NDArray[np.float64], number: int
    ) -> BatchEvents:
        """Events of the next frames.

        Args:
            frames: (C, n, H, W), in host memory, or a tensor on the device, which saves the copy.
                n is one or more.
            times_us: float64 (C, n + 1), borders of the frame intervals, microseconds, increasing
                by at least one.
            number: index in the recording of the first of these frames.

        Returns:
            The events of one clip after the other, on the device.

        Raises:
            UsageError: when frames or times are not as above, or the times of all clips together
                do not fit into sort keys.
        """
        self._check(frames, times_us)
        clock = new_clock(times_us, self.size_wh, self.device)
        return self._pixels.events(frames, times_us, number, clock)

    def _check(self, frames: NDArray[Any] | Tensor, times_us: NDArray[np.float64]) -> None:
        """Refuses what kernels would read beyond, before any state changes."""
        kind, shape = str(frames.dtype).removeprefix("torch."), tuple(frames.shape)
        width, height = self.size_wh
        n = shape[1] if len(shape) == 4 else 0
        if kind != self._kind or shape != (self._clips, max(n, 1), height, width):
            raise UsageError(
                f"frames: got {kind} {shape}, need {self._kind} "
                f"({self._clips}, n, {height}, {width}) with n of 1 or more"
            )
        if times_us.dtype != np.float64 or times_us.shape != (self._clips, n + 1):
            raise UsageError(
                f"times_us: got {times_us.dtype} {times_us.shape}, need float64 "
                f"{(self._clips, n + 1)}, borders of {n} intervals of each clip"
            )
        steps_us = np.diff(np.floor(times_us + 0.5))
        if not ((steps_us >= 1) & (steps_us <= MAX_INTERVAL_US)).all():
            raise UsageError(
                f"times_us: got steps of {steps_us.min():.0f} to {steps_us.max():.0f} us, need "
                f"1 to {MAX_INTERVAL_US} us"
            )


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


def _usable(device: str | None) -> str:
    """The device to use."""
    try:
        import torch
    except ImportError as exc:
        raise MissingDependency("backend 'gpu' needs torch: pip install 'egotriad[train]'") from exc
    if device is None:
        device = "cpu" if interprets() else "cuda"
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "backend: got 'gpu', but torch sees no CUDA device; use backend 'cpu', which gives "
            "the same events"
        )
    return device


def _pieces(times_us: NDArray[np.float64], size_wh: tuple[int, int]) -> list[slice]:
    """The frames in pieces whose events fit into sort keys, and that fit into memory."""
    pixels = size_wh[0] * size_wh[1]
    frame, number = np.arange(len(times_us) - 1), max(1, _PIECE_PIXELS // pixels)
    most_us = 1 << KEY_BITS - (2 * pixels - 1).bit_length() - 1
    piece = frame // number + (times_us[1:] - times_us[0]) // most_us
    borders = [0, *(np.flatnonzero(np.diff(piece)) + 1), len(frame)]
    return [slice(begin, end) for begin, end in pairwise(borders) if end > begin]
