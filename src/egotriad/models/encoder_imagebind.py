"""ImageBind's IMU branch: patches of 8 samples, 6 blocks, one vector among six modalities.

`imu (B, 6, 2000) -> 250 patches (B, 251, 512) -> 6 blocks -> CLS -> (B, 1, 1024), norm 5`

Homepage: https://github.com/facebookresearch/ImageBind (code and `imagebind_huge.pth` both
CC BY-NC-SA 4.0: not for commercial use). Paper: Girdhar et al., ImageBind, CVPR 2023. The authors
published no loader for IMU: that the rows are accelerometer, gyroscope in SI units, 5 s at 400 Hz,
is not confirmed there. Names of the weights are the authors' behind `modality_...imu.`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egotriad.converters.imu_presets import preset
from egotriad.models.checkpoints import KeyMap
from egotriad.models.contract import EncoderContract
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.settings import require_one_of

__all__ = ["ENCODER", "ImageBindImu", "ImageBindImuConfig"]

Tokens = Literal["cls", "patches"]
WIDTH, HEADS, BLOCKS, OUT = 512, 8, 6, 1024
PATCH = 8
PATCHES = 250
EPSILON = 1e-6
SCALE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBindImuConfig:
    """Settings of ImageBind's IMU branch.

    Attributes:
        tokens: `cls` (1 x 1024, the published embedding) or `patches` (250 x 512, of the trunk).
        trainable: whether training may change it; the authors' drop-path of training is left out.
    """

    tokens: Tokens = "cls"
    trainable: bool = False

    def __post_init__(self) -> None:
        require_one_of("tokens", self.tokens, Tokens)


class Preprocessor(nn.Module):
    """Patches to vectors, a class token in front, positions."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + PATCHES, WIDTH))
        self.imu_stem = nn.ModuleDict(
            {"proj": nn.Linear(6 * PATCH, WIDTH, bias=False), "norm_layer": nn.LayerNorm(WIDTH)}
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 251, 512) of (B, 6, 2000); a patch is laid out channel by channel."""
        patches = inputs.reshape(-1, 6, PATCHES, PATCH).transpose(1, 2).flatten(2)  # (B, 250, 48)
        vectors = self.imu_stem["norm_layer"](self.imu_stem["proj"](patches))
        return torch.cat([self.cls_token.expand(len(inputs), -1, -1), vectors], 1) + self.pos_embed


class Mlp(nn.Module):
    """Two linear layers around GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm block; its attention has one learnt key and value besides the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, add_bias_kv=True, batch_first=True)
        self.norm_2 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.mlp = Mlp()

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.norm_2(x))


class ImageBindImu(PublishedEncoder):
    """19,600,384 weights."""

    Config: ClassVar[type] = ImageBindImuConfig
    keys: ClassVar[KeyMap] = KeyMap(
        take=(
            ("modality_preprocessors.imu.", "preprocessor."),
            ("modality_trunks.imu.blocks.", "blocks."),
            ("modality_heads.imu.", "head."),
            ("modality_postprocessors.imu.1.", ""),
        ),
        others=True,
    )
    log_logit_scale: Tensor

    def __init__(self, config: ImageBindImuConfig) -> None:
        super().__init__(config)
        tokens, self.width = (1, OUT) if config.tokens == "cls" else (PATCHES, WIDTH)
        self.contract = EncoderContract(preset=preset("imagebind"), tokens=tokens)
        self.preprocessor = Preprocessor()
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.ModuleDict(
            {"0": nn.LayerNorm(WIDTH, eps=EPSILON), "3": nn.Linear(WIDTH, OUT, bias=False)}
        )
        self.register_buffer("log_logit_scale", torch.tensor(math.log(SCALE)))
        self.freeze()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 1, 1024) or (B, 250, 512) features of (B, 6, 2000)."""
        self.contract.require(inputs)
        x = self.blocks(self.preprocessor(inputs))
        if self.config.tokens == "patches":
            return x[:, 1:]
        embedding = self.head["3"](self.head["0"](x[:, :1]))
        return F.normalize(embedding, dim=-1) * self.log_logit_scale.exp()


ENCODER = ImageBindImu
