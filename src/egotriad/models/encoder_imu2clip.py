"""IMU2CLIP: an IMU encoder aligned with CLIP's text and video on Ego4D.

`imu (B, 6, 1000) -> conv, GRU -> (B, 1, 512)`, in CLIP ViT-B/32's text space once trained

Homepage: https://github.com/facebookresearch/imu2clip (CC BY-NC 4.0; no weights were published, so
this loads what a user has trained with that code). Paper: Moon et al., IMU2CLIP, 2022.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from egotriad.converters.imu_presets import preset
from egotriad.models.checkpoints import KeyMap
from egotriad.models.contract import EncoderContract
from egotriad.models.conv_gru import Tokens, features, stack, tokens_and_width
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.settings import require_one_of

__all__ = ["ENCODER", "Imu2Clip", "Imu2ClipConfig"]

SHORTEST, LONGEST = 978, 1004
"""Between these the third pooling leaves 32 steps, which the GRU needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imu2ClipConfig:
    """Settings of IMU2CLIP.

    Attributes:
        tokens: what comes out (see `conv_gru.features`).
        trainable: whether training may change it.
    """

    tokens: Tokens = "pooled"
    trainable: bool = False

    def __post_init__(self) -> None:
        require_one_of("tokens", self.tokens, Tokens)


class Imu2Clip(PublishedEncoder):
    """850,892 weights; the scale of its input does not matter (GroupNorm)."""

    Config: ClassVar[type] = Imu2ClipConfig
    keys: ClassVar[KeyMap] = KeyMap(take=(("net.", "net."),))

    def __init__(self, config: Imu2ClipConfig) -> None:
        super().__init__(config)
        tokens, self.width = tokens_and_width(config.tokens)
        self.contract = EncoderContract(
            preset=preset("imu2clip"), tokens=tokens, shortest=SHORTEST, longest=LONGEST
        )
        self.net = stack(nn.MaxPool1d(3))
        self.freeze()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, K, d) features of (B, 6, T)."""
        self.contract.require(inputs)
        return features(self.net, inputs, self.config.tokens)


ENCODER = Imu2Clip
