"""The text-only draft: what an IMU draft is worth without its IMU.

`nothing (B, 0) -> learnt vectors (B, K, D) -> [prompt | vectors | prompt]`
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests import Clip, Span
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM

__all__ = ["DRAFT", "TextDraft", "TextDraftConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDraftConfig(ConditionedConfig):
    """Settings of a text-only draft.

    Attributes:
        tokens: number of learnt vectors where an IMU draft has its IMU tokens.
    """

    template: str = "USER: <imu>\nWhat is the wearer doing? ASSISTANT:"
    tokens: int = 10


class TextDraft(ConditionedLM):
    """The same decoder and budget as the IMU draft, behind vectors that are equal for every clip.

    It learns all that the target's texts have in common; what an IMU draft gains over it comes from
    the sensor.
    """

    kind: ClassVar[str] = "draft"
    name: ClassVar[str] = "text"
    placeholder: ClassVar[str] = "<imu>"
    Config: ClassVar[type[ConditionedConfig]] = TextDraftConfig
    config: TextDraftConfig

    def __init__(
        self,
        config: TextDraftConfig,
        tokenizer: PreTrainedTokenizerFast,
        decoder: LlamaForCausalLM | None = None,
    ) -> None:
        super().__init__(config, tokenizer, decoder)
        self.vectors = nn.Parameter(0.02 * torch.randn(config.tokens, config.decoder.hidden_size))

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """float32 (0,): nothing is taken from the clip."""
        return torch.empty(0)

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, K, D): the learnt vectors for each of the B inputs."""
        return self.vectors.expand(len(inputs), -1, -1)


DRAFT = TextDraft
