"""The convolution-and-GRU stack ("MW2") that IMU2CLIP introduced and PRIMUS took over.

`(B, 6, T) -> GroupNorm -> 3 x [conv, pool] -> (B, 32 channels, 32 steps) -> GroupNorm -> GRU`

Moon et al., IMU2CLIP, 2022; numbers of layers and weights as in their checkpoints' keys.
"""

from typing import Literal

from torch import Tensor, nn

__all__ = ["CHANNELS", "STEPS", "WIDTH", "Tokens", "features", "stack", "tokens_and_width"]

CHANNELS = 32
STEPS = 32
WIDTH = 512

Tokens = Literal["pooled", "sequence", "conv"]


class Block(nn.Module):
    """Dilated convolution without bias, then pooling; no activation."""

    def __init__(self, channels: int, kernel: int, pool: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(channels, CHANNELS, kernel, dilation=2, bias=False), pool
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def stack(last_pool: nn.Module) -> nn.Sequential:
    """The six layers, 850,892 weights.

    Args:
        last_pool: of the third block; it must leave 32 steps.
    """
    return nn.Sequential(
        nn.GroupNorm(2, 6),
        Block(6, 10, nn.MaxPool1d(3)),
        Block(CHANNELS, 5, nn.MaxPool1d(3)),
        Block(CHANNELS, 5, last_pool),
        nn.GroupNorm(4, CHANNELS),
        nn.GRU(STEPS, WIDTH, batch_first=True),
    )


def features(layers: nn.Sequential, inputs: Tensor, tokens: Tokens) -> Tensor:
    """Feature vectors of windows (B, 6, T).

    The GRU reads the 32 channels one after the other, each with its 32 steps as features, as the
    authors' module does: its sequence is one of channels, not of time. `conv` is one of time.

    Returns:
        `pooled` (B, 1, 512): the GRU's last state, which is what was trained; `sequence`
        (B, 32, 512): its state after every channel; `conv` (B, 32, 32): what goes into it, one
        vector per 156 ms of the 5 s.
    """
    convolved = layers[:-1](inputs)  # (B, channels, steps)
    if tokens == "conv":
        return convolved.transpose(1, 2)
    states, last = layers[-1](convolved)
    return states if tokens == "sequence" else last.transpose(0, 1)


def tokens_and_width(tokens: Tokens) -> tuple[int, int]:
    """Number and width of the feature vectors."""
    return {"pooled": (1, WIDTH), "sequence": (CHANNELS, WIDTH), "conv": (STEPS, CHANNELS)}[tokens]
