"""Batches of what is in memory: shuffled indices, padded ids, event frames at two bits a pixel."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egotriad.manifests.errors import UsageError

__all__ = ["FrameStore", "pad_ids", "shuffled_batches"]


def shuffled_batches(
    count: int, batch: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Endless batches of indices below `count`: every epoch in a new order, its remainder dropped.

    With fewer than `batch` examples, each batch is all of them.
    """
    batch = min(batch, count)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def pad_ids(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Id sequences as one long tensor (B, L), padded with 0 on the right, and its bool mask."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = True
    return ids, mask


class FrameStore:
    """Event frames in memory at two bits a pixel (a twelfth of uint8 RGB), unpacked by batches.

    EventGPT's frames have three colours: white (255, 255, 255), red (255, 0, 0) and blue
    (0, 0, 255). Red and blue planes tell them apart; green is where both are set.
    """

    def __init__(self) -> None:
        self._packed: list[NDArray[np.uint8]] = []
        self._shape: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return len(self._packed)

    def add(self, frames: Tensor) -> None:
        """Appends the frames of one span, uint8 (F, 3, H, W).

        Raises:
            UsageError: when their number or size differs from those before.
        """
        count, _, height, width = frames.shape
        if self._shape not in (None, (count, height, width)):
            raise UsageError(
                f"{count} event frames of {width}x{height} pixels after others of shape "
                f"{self._shape}; train on shards of one sensor size"
            )
        self._shape = (count, height, width)
        planes = frames.numpy()[:, ::2].reshape(count, 2, height * width) > 127
        self._packed.append(np.packbits(planes, axis=-1))

    def batch(self, rows: NDArray[np.int64], frames: NDArray[np.int64] | None = None) -> Tensor:
        """uint8 (B, F, 3, H, W) of these rows.

        Args:
            rows: (B,) which spans.
            frames: (B, k) which frames of each; None = all, in order.
        """
        assert self._shape is not None
        count, height, width = self._shape
        if frames is None:
            frames = np.broadcast_to(np.arange(count), (len(rows), count))
        packed = np.stack([self._packed[row][pick] for row, pick in zip(rows, frames, strict=True)])
        planes = np.unpackbits(packed, axis=-1, count=height * width) * np.uint8(255)
        red, blue = planes[:, :, 0], planes[:, :, 1]
        rgb = np.stack([red, red & blue, blue], axis=2)
        return torch.from_numpy(rgb.reshape(*frames.shape, 3, height, width))
