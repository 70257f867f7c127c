"""Three strided convolutions over a normalised IMU window.

`imu (B, 6, 150) -> normalise -> conv /4 -> conv /2 -> conv /2 -> (B, 10, 96)`
"""

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from egotriad.converters.imu_presets import ImuPreset
from egotriad.models.contract import EncoderContract

__all__ = ["ENCODER", "ConvEncoder", "ConvEncoderConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvEncoderConfig:
    """Settings of the convolutional encoder.

    Attributes:
        rate_hz, window_s: the IMU view it takes.
        widths, kernels, strides: one entry per convolution; kernels odd.
    """

    rate_hz: float = 50.0
    window_s: float = 3.0
    widths: tuple[int, ...] = (32, 64, 96)
    kernels: tuple[int, ...] = (9, 5, 5)
    strides: tuple[int, ...] = (4, 2, 2)


class ConvEncoder(nn.Module):
    """Per-channel normalisation by the training set's mean and deviation, then convolutions."""

    Config: ClassVar[type] = ConvEncoderConfig
    mean: Tensor  # (6, 1)
    std: Tensor  # (6, 1)

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__()
        self.config = config
        samples = round(config.rate_hz * config.window_s)
        self.contract = EncoderContract(
            preset=ImuPreset(
                name="conv", rate_hz=config.rate_hz, samples=samples, source="this project"
            ),
            tokens=reduce(lambda length, stride: -(-length // stride), config.strides, samples),
        )
        self.width = config.widths[-1]
        self.register_buffer("mean", torch.zeros(6, 1))
        self.register_buffer("std", torch.ones(6, 1))
        layers: list[nn.Module] = []
        channels = 6
        for width, kernel, stride in zip(
            config.widths, config.kernels, config.strides, strict=True
        ):
            layers += [nn.Conv1d(channels, width, kernel, stride, padding=kernel // 2), nn.GELU()]
            channels = width
        self.layers = nn.Sequential(*layers)

    def fit_normalisation(self, inputs: Tensor) -> None:
        """Takes the per-channel mean and deviation of the training windows (N, 6, T)."""
        self.mean.copy_(inputs.mean(dim=(0, 2))[:, None])
        self.std.copy_(inputs.std(dim=(0, 2))[:, None].clamp_min(1e-6))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, K, d) features of (B, 6, T) in SI units."""
        self.contract.require(inputs)
        return self.layers((inputs - self.mean) / self.std).transpose(1, 2)


ENCODER = ConvEncoder
