"""A tiny target of EventGPT's shape: event frames -> tower -> projector -> aggregator -> LLaMA.

`frames (B, F, 3, H, W) uint8 -> tower (B, F, N, 96) -> projector, adaptor (B, F, N, D)
-> [F temporal tokens | N spatial tokens] (B, F + N, D) -> [prompt | event tokens | prompt]`

Order, aggregator and prompt are EventGPT's (XduSyL/EventGPT, `EventChatModel`): temporal tokens
(means over a frame's patches) come first, spatial tokens (means over the frames) follow. Where
EventGPT has CLIP, this has three strided convolutions that are trained beforehand and then frozen.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from egotriad.converters.event_frames import eventgpt_frames
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ClipRejected
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoder import DecoderConfig

__all__ = ["TARGET", "TinyTarget", "TinyTargetConfig", "VisualTower", "event_frames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyTargetConfig(ConditionedConfig):
    """Settings of the tiny target.

    Attributes:
        frames: event frames per span (equal event counts), 5 in EventGPT.
        tower_widths: channels of the tower's convolutions (7x7/4, 3x3/2, 3x3/2).
    """

    template: str = "USER: <event>\nWhat is the wearer doing? ASSISTANT:"
    decoder: DecoderConfig = field(default_factory=lambda: DecoderConfig(layers=2))
    dropout: float = 0.1
    frames: int = 5
    tower_widths: tuple[int, int, int] = (32, 64, 96)


class VisualTower(nn.Module):
    """Event frames to patch features, one patch per 16 x 16 pixels; any frame size."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel, stride in zip(widths, (7, 3, 3), (4, 2, 2), strict=True):
            layers += [
                nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, C) patch features of uint8 RGB frames (B, 3, H, W), row by row.

        The white background becomes 0, so that the convolutions' zero padding is more background.
        """
        inverted = (255 - frames).to(torch.float32, memory_format=torch.channels_last) / 255.0
        return self.layers(inverted).flatten(2).transpose(1, 2)


class TinyTarget(ConditionedLM):
    """Narrates the events of a span of at most 100 ms."""

    kind: ClassVar[str] = "target"
    name: ClassVar[str] = "tiny"
    placeholder: ClassVar[str] = "<event>"
    Config: ClassVar[type[ConditionedConfig]] = TinyTargetConfig
    config: TinyTargetConfig

    def __init__(self, config: TinyTargetConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(config, tokenizer)
        width = config.decoder.hidden_size
        self.visual_tower = VisualTower(config.tower_widths)
        self.visual_projector = nn.Sequential(
            nn.Linear(config.tower_widths[-1], width), nn.GELU(), nn.Linear(width, width)
        )
        self.feature_adaptor = nn.Linear(width, width)

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """uint8 (F, 3, H, W): the span's events as EventGPT draws them (see `event_frames`)."""
        return event_frames(clip, span, self.config.frames)

    def features(self, frames: Tensor) -> Tensor:
        """(B, F, N, C) tower features of uint8 frames (B, F, 3, H, W)."""
        patches = self.visual_tower(frames.flatten(0, 1))
        return patches.unflatten(0, frames.shape[:2])

    def aggregate(self, features: Tensor) -> Tensor:
        """(B, F + N, D) event tokens of tower features (B, F, N, C): temporal, then spatial.

        EventGPT projects and adapts every patch and then takes the means. All that follows the
        GELU is affine and commutes with a mean, so here the means come first: the same tokens for
        a fifth of the work.
        """
        linear_in, gelu, linear_out = self.visual_projector
        hidden = gelu(linear_in(features))  # (B, F, N, D)
        means = torch.cat([hidden.mean(dim=2), hidden.mean(dim=1)], dim=1)
        return self.feature_adaptor(linear_out(means))

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, F + N, D) event tokens of uint8 frames (B, F, 3, H, W)."""
        return self.aggregate(self.features(inputs))


def event_frames(clip: Clip, span: Span, count: int) -> Tensor:
    """uint8 (count, 3, H, W), RGB: the span's events as EventGPT draws them; no events give white.

    Raises:
        ClipRejected: `no-events` when the clip carries none at all.
    """
    if clip.events is None:
        raise ClipRejected("no-events", f"{clip.window_id}: no events, the target sees nothing")
    frames = eventgpt_frames(clip.events, span, count=count)  # (F, H, W, 3)
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


TARGET = TinyTarget
