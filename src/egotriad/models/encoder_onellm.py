"""OneLLM's IMU path: a convolution, CLIP ViT-L/14, and three expert resamplers to 30 tokens.

`imu (B, 6, 400) -> conv (B, 391, 1024) -> CLIP trunk (B, 392, 1024) -> 30 queries, 3 experts
-> (B, 30, 4096) -> [start tag | 30 | end tag] (B, 32, 4096)`

Homepage: https://github.com/csuhan/OneLLM (code and weights under the Llama 2 Community License;
hub `csuhan/OneLLM-7B`, `consolidated.00-of-01.pth`, fp16). Paper: Han et al., OneLLM, CVPR 2024,
`model/LLM/onellm.py`. What comes out is made for LLaMA-2-7B's embeddings (width 4096). The file
holds the language model and other modalities too; they are left alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from egotriad.converters.imu_presets import preset
from egotriad.manifests.errors import UsageError
from egotriad.models.checkpoints import KeyMap
from egotriad.models.contract import EncoderContract
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.onellm_blocks import ClipTrunk, Router, expert, fresh

__all__ = ["ENCODER", "OneLlmImu", "OneLlmImuConfig"]

KERNEL = 10
EXPERTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OneLlmImuConfig:
    """Settings of OneLLM's IMU path; the defaults are the published sizes.

    Attributes:
        width, heads, clip_layers: of the CLIP trunk.
        expert_layers, hidden: blocks per expert, width inside their feed-forward.
        queries: tokens that the experts give.
        out: width of the language model.
        trainable: whether training may change it.
    """

    width: int = 1024
    heads: int = 16
    clip_layers: int = 24
    expert_layers: int = 8
    hidden: int = 2816
    queries: int = 30
    out: int = 4096
    trainable: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError(
                f"onellm: width {self.width} does not divide into {self.heads} heads; choose others"
            )


class OneLlmImu(PublishedEncoder):
    """620,615,683 weights; the published path counts 865,280 more, CLIP's stem for images."""

    Config: ClassVar[type] = OneLlmImuConfig
    keys: ClassVar[KeyMap] = KeyMap(
        take=(
            ("llma.clip.visual.class_embedding", "clip.class_embedding"),
            ("llma.clip.visual.ln_pre.", "clip.ln_pre."),
            ("llma.clip.visual.transformer.", "clip.transformer."),
            ("llma.clip.visual.ln_post.", "clip.ln_post."),
            ("llma.resample_layers.", "experts."),
            *(
                (f"llma.{name}.imu", name)
                for name in (
                    "conv1",
                    "positional_embedding",
                    "clip_proj1",
                    "resample_tokens",
                    "routers",
                    "clip_proj2",
                    "start_tag",
                    "end_tag",
                )
            ),
        ),
        others=True,
    )

    def __init__(self, config: OneLlmImuConfig) -> None:
        super().__init__(config)
        view = preset("onellm")
        self.contract = EncoderContract(preset=view, tokens=config.queries + 2)
        self.width = config.out
        width = config.width
        self.conv1 = nn.Conv1d(6, width, KERNEL, bias=False)
        self.positional_embedding = fresh(view.samples - KERNEL + 2, width)
        self.clip = ClipTrunk(width, config.heads, config.clip_layers)
        self.clip_proj1 = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.resample_tokens = fresh(1, config.queries, width)
        self.routers = Router(width, EXPERTS)
        self.experts = nn.ModuleList(
            expert(width, config.heads, config.hidden, config.expert_layers) for _ in range(EXPERTS)
        )
        self.clip_proj2 = nn.Sequential(nn.Linear(width, config.out), nn.LayerNorm(config.out))
        self.start_tag = fresh(1, 1, config.out)
        self.end_tag = fresh(1, 1, config.out)
        self.freeze()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, queries + 2, out) features of (B, 6, 400)."""
        self.contract.require(inputs)
        samples = self.conv1(inputs).transpose(1, 2)  # (B, 391, width)
        tokens = self.clip_proj1(self.clip(samples, self.positional_embedding))
        batch, queries = len(inputs), self.config.queries
        x = torch.cat([self.resample_tokens.expand(batch, -1, -1), tokens], dim=1)
        shares = self.routers(x[:, :queries])  # (B, queries, experts)
        opinions = torch.stack([one(x)[:, :queries] for one in self.experts], dim=-1)
        mixed = (opinions * shares[:, :, None]).sum(dim=-1)  # (B, queries, width)
        tags = [tag.expand(batch, -1, -1) for tag in (self.start_tag, self.end_tag)]
        return torch.cat([tags[0], self.clip_proj2(mixed), tags[1]], dim=1)


ENCODER = OneLlmImu
