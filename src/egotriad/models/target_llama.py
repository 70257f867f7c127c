"""A LLaMA without a sensor: it answers the question and sees nothing of the clip.

`nothing (B, 0) -> nothing (B, 0, D) -> [prompt]`

For checks of the speculative loop and of step costs against a published text model (Vicuna, Llama
2, TinyLlama ...). Its text is the same for every clip, so acceptance against it says nothing about
sensors.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from egotriad.manifests import Clip, Span
from egotriad.models.checkpoints import KeyMap
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import VICUNA_7B, decoder_config
from egotriad.models.fit import Source
from egotriad.models.prompt import ANSWER_CUE

__all__ = ["TARGET", "LlamaTarget", "LlamaTargetConfig", "vicuna_prompt"]

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


def vicuna_prompt(question: str) -> str:
    """Vicuna v1.5's template around a question.

    The place of the sensor tokens that other models have comes first: with nothing there, the text
    behind it is tokenised whole.
    """
    return f"<clip>{SYSTEM} USER: {question}{ANSWER_CUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaTargetConfig(ConditionedConfig):
    """Settings of a text-only target; the defaults are Vicuna-7B's."""

    template: str = vicuna_prompt("What is the wearer doing?")
    decoder: DecoderConfig = VICUNA_7B


class LlamaTarget(ConditionedLM):
    """Says the same whatever the clip."""

    kind: ClassVar[str] = "target"
    name: ClassVar[str] = "llama"
    placeholder: ClassVar[str] = "<clip>"
    Config: ClassVar[type[ConditionedConfig]] = LlamaTargetConfig
    keys: ClassVar[KeyMap] = KeyMap(
        take=(("model.", "decoder.model."), ("lm_head.", "decoder.lm_head."))
    )
    options: ClassVar[tuple[str, ...]] = ("question",)
    config: LlamaTargetConfig

    @classmethod
    def small(cls) -> LlamaTargetConfig:
        """Two layers of width 96."""
        return LlamaTargetConfig(decoder=DecoderConfig(layers=2))

    @classmethod
    def published(
        cls, folder: Path, values: dict[str, Any], options: dict[str, Any]
    ) -> tuple[LlamaTargetConfig, list[Source]]:
        """Settings and files of a LLaMA folder of transformers.

        Args:
            folder: with config.json and weights.
            values: its config.json.
            options: `question`.

        Raises:
            CheckpointError: when it is no LLaMA that can be built here.
        """
        config = LlamaTargetConfig(decoder=decoder_config(values, folder / "config.json"))
        if "question" in options:
            config = replace(config, template=vicuna_prompt(options["question"]))
        return config, [Source(folder, cls.keys)]

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """float32 (0,): nothing is taken from the clip."""
        return torch.empty(0)

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, 0, D): no tokens for each of the B inputs."""
        embed = self.decoder.get_input_embeddings().weight
        return embed.new_empty(len(inputs), 0, embed.shape[1])


TARGET = LlamaTarget
