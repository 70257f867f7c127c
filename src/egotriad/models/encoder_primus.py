"""PRIMUS: the IMU2CLIP stack trained on Ego-Exo4D by self-supervision, text, video and neighbours.

`imu (B, 6, 250) -> conv, GRU (B, 512) -> head (B, 1, 512)`

Homepage: https://github.com/Nokia-Bell-Labs/pretrained-imu-encoders (code Clear BSD, one file of it
GPL-3.0). Weights: Zenodo 15147513, a PyTorch Lightning `.ckpt` (its licence is not stated).
Paper: Das et al., PRIMUS: Pretraining IMU Encoders with Multimodal Self-Supervision, ICASSP 2025.
Trained on the head of Aria glasses (`imu-right`, 1000 Hz).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from egotriad.converters.imu_presets import preset
from egotriad.models.checkpoints import KeyMap
from egotriad.models.contract import EncoderContract
from egotriad.models.conv_gru import STEPS, WIDTH, Tokens, features, stack, tokens_and_width
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.settings import require_one_of

__all__ = ["ENCODER", "Primus", "PrimusConfig"]

Head = Literal["mmcl", "ssl", "none"]
SHORTEST = 123
"""Samples at which the third convolution still has one step to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimusConfig:
    """Settings of PRIMUS.

    Attributes:
        tokens: what comes out (see `conv_gru.features`).
        head: of the pooled vector: multimodal (the authors' choice downstream), self-supervised,
            or none.
        trainable: whether training may change it.
    """

    tokens: Tokens = "pooled"
    head: Head = "mmcl"
    trainable: bool = False

    def __post_init__(self) -> None:
        require_one_of("tokens", self.tokens, Tokens)
        require_one_of("head", self.head, Head)


class Primus(PublishedEncoder):
    """850,892 weights and two heads, 1,376,204 in all; the scale of its input does not matter."""

    Config: ClassVar[type] = PrimusConfig
    keys: ClassVar[KeyMap] = KeyMap(take=(("imu_encoder.", ""),), others=True)

    def __init__(self, config: PrimusConfig) -> None:
        super().__init__(config)
        tokens, self.width = tokens_and_width(config.tokens)
        self.contract = EncoderContract(
            preset=preset("primus"), tokens=tokens, shortest=SHORTEST, longest=float("inf")
        )
        self.backbone = stack(nn.AdaptiveAvgPool1d(STEPS))
        self.ssl_head = nn.Linear(WIDTH, WIDTH)
        self.mmcl_head = nn.Linear(WIDTH, WIDTH)
        self.freeze()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, K, d) features of (B, 6, T)."""
        self.contract.require(inputs)
        found = features(self.backbone, inputs, self.config.tokens)
        if self.config.tokens != "pooled" or self.config.head == "none":
            return found
        return self.mmcl_head(found) if self.config.head == "mmcl" else self.ssl_head(found)


ENCODER = Primus
