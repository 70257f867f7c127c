"""OneLLM-7B: its IMU path in front of its LLaMA-2, from Meta's layout.

`imu (B, 6, 400) -> OneLLM's IMU path (B, 32, 4096) = [start | 30 | end]
-> [BOS | 32 IMU tokens | prompt] -> LLaMA-2-7B`

Homepage: https://github.com/csuhan/OneLLM (read at commit 8587a47; code and weights under the
Llama 2 Community License). Weights: hub `csuhan/OneLLM-7B`, one `consolidated.00-of-01.pth` of
fp16, with seven other modalities and CLIP's text tower beside these 7,359,031,299 (CLIP's stem for
images, 865,280 more, belongs to its IMU path in name only). Tokenizer: LLaMA-2's, in the
repository as `config/llama2/tokenizer.model`. Paper: Han et al., OneLLM, CVPR 2024.

Meta's rotary positions turn neighbouring pairs of values, those of transformers turn halves: rows
of the query and key matrices are put in that order while they are read, a gigabyte at a time.
Answers end with `###`, which counts as EOS here (`egotriad.models.stop`).

`reference_compat` does what the release does after its first generated id (`MetaModel.generate`,
`Transformer.forward_inference`): it has put 32 tokens into the prompt but counts 30, so that the
two last positions of the prompt are overwritten by the first two generated ids, and every id
stands two positions too early. The other quirk, fp16, is a matter of the precision asked for.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.models.checkpoints import KeyMap
from egotriad.models.conditioned import ConditionedConfig
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import VICUNA_7B
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.encoder import ImuEncoder
from egotriad.models.encoder_onellm import OneLlmImu
from egotriad.models.fit import Source
from egotriad.models.llama2c import halves_from_pairs
from egotriad.models.projector import ProjectorKind
from egotriad.models.prompt import OLD_CUE
from egotriad.models.ragged import RaggedState
from egotriad.models.state import DecoderState
from egotriad.models.target_eventgpt import SYSTEM

__all__ = ["DRAFT", "ONELLM_FILE", "OneLlmConfig", "OneLlmDraft", "onellm_prompt"]

ONELLM_FILE = "consolidated.00-of-01.pth"
OVERWRITTEN = 2
"""Positions of the prompt that the release loses: it inserts 32 tokens and counts 30."""
META_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
ROTATED = (".q_proj.weight", ".k_proj.weight")


def onellm_prompt(question: str) -> str:
    """The release's template (`v1` of its `data/conversation_lib.py`), the IMU behind BOS."""
    return f"<imu>{SYSTEM}###Human: {question}{OLD_CUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneLlmConfig(ImuDraftConfig):
    """Settings of OneLLM; the defaults are OneLLM-7B's.

    Attributes:
        reference_compat: positions after the first generated id as the released code has them.
    """

    template: str = onellm_prompt("Describe the scene.")
    decoder: DecoderConfig = VICUNA_7B
    encoder: str = "onellm"
    projector: ProjectorKind = "none"
    reference_compat: bool = False


class OneLlmDraft(ImuDraft):
    """Answers a question about 2 s of IMU, in 32 tokens."""

    name: ClassVar[str] = "onellm"
    Config: ClassVar[type[ConditionedConfig]] = OneLlmConfig
    options: ClassVar[tuple[str, ...]] = ("question", "reference_compat")
    config: OneLlmConfig

    def __init__(
        self,
        config: OneLlmConfig,
        tokenizer: PreTrainedTokenizerFast,
        encoder: ImuEncoder | None = None,
        decoder: LlamaForCausalLM | None = None,
    ) -> None:
        settings = {**config.encoder_settings, "out": config.decoder.hidden_size}
        super().__init__(replace(config, encoder_settings=settings), tokenizer, encoder, decoder)

    @classmethod
    def small(cls) -> OneLlmConfig:
        """The same path, 32 wide, in front of two layers."""
        settings = {
            "width": 32,
            "heads": 2,
            "clip_layers": 1,
            "expert_layers": 1,
            "hidden": 48,
            "queries": 4,
            "trainable": True,
        }
        return OneLlmConfig(encoder_settings=settings, decoder=DecoderConfig(layers=2))

    @classmethod
    def published(
        cls, folder: Path, values: dict[str, Any], options: dict[str, Any]
    ) -> tuple[OneLlmConfig, list[Source]]:
        """Settings and file of OneLLM-7B; there is no other size.

        Args:
            folder: with `consolidated.00-of-01.pth`.
            values: nothing; the release keeps its sizes in its code.
            options: `question`; `reference_compat`.
        """
        config = OneLlmConfig(reference_compat=bool(options.get("reference_compat", False)))
        if "question" in options:
            config = replace(config, template=onellm_prompt(options["question"]))
        return config, [Source(folder / ONELLM_FILE, meta_keys(config.decoder.layers))]

    def converted(self, name: str, tensor: Tensor) -> Tensor:
        """A weight of the file as this model holds it."""
        heads = self.config.decoder.heads
        return halves_from_pairs(tensor, heads) if _rotated(name) else tensor

    def state(self, inputs: Tensor) -> DecoderState:
        """As `ConditionedLM.state`; under `reference_compat` the prompt loses its end."""
        if not self.config.reference_compat:
            return super().state(inputs)
        self._require_eval()
        if len(inputs) != 1:
            raise ValueError(f"a decoder state holds one clip, got {len(inputs)}")
        with torch.inference_mode():
            prefix = self.prefix(inputs.to(self.device))
        # The prompt's end goes into the text and out again: all that stays are its logits.
        state = self.engines.state(self.decoder, prefix[:, :-OVERWRITTEN])
        state.prefix_logits = state.feed(self._prompt_end)[-1]
        state.rollback(OVERWRITTEN)
        return state

    def states(self, inputs: list[Tensor]) -> RaggedState:
        """As `ConditionedLM.states`, with the same loss under `reference_compat`."""
        if not self.config.reference_compat:
            return super().states(inputs)
        self._require_eval()
        with torch.inference_mode():
            prefixes = [self.prefix(one[None].to(self.device)) for one in inputs]
        states = RaggedState(self.decoder, [found[:, :-OVERWRITTEN] for found in prefixes])
        states.prefix_logits = states.feed([self._prompt_end] * len(inputs))[:, -1]
        states.rollback([OVERWRITTEN] * len(inputs))
        return states

    @property
    def _prompt_end(self) -> list[int]:
        """The ids that the release overwrites."""
        return list(self.prompt.after[-OVERWRITTEN:])

    def teacher_forced(self, prefix: Tensor, ids: Tensor) -> Tensor:
        """(B, L, V) logits, as `ConditionedLM.teacher_forced`."""
        if not self.config.reference_compat:
            return super().teacher_forced(prefix, ids)
        first = super().teacher_forced(prefix, ids[:, :1])
        others = super().teacher_forced(prefix[:, :-OVERWRITTEN], ids)
        return torch.cat([first, others[:, 1:]], dim=1)

    def greedy(self, inputs: Tensor, max_new_tokens: int) -> list[list[int]]:
        """Greedy ids of each prepared input, as `ConditionedLM.greedy`."""
        if not self.config.reference_compat or max_new_tokens < 1:
            return super().greedy(inputs, max_new_tokens)
        return [self._greedy_alone(row[None], max_new_tokens) for row in inputs]

    def _greedy_alone(self, inputs: Tensor, max_new_tokens: int) -> list[int]:
        state = self.state(inputs)
        ids = [int(state.prefix_logits.argmax())]
        while ids[-1] != self.eos_id and len(ids) < max_new_tokens:
            ids.append(int(state.feed(ids[-1:])[-1].argmax()))
        return ids


def meta_keys(layers: int) -> KeyMap:
    """What the file's keys are called here; of what is not named, only other modalities may be."""
    blocks = tuple(
        (f"llma.layers.{layer}.{theirs}.", f"decoder.model.layers.{layer}.{ours}.")
        for layer in range(layers)
        for theirs, ours in META_NAMES.items()
    )
    return KeyMap(
        take=(
            *((theirs, f"encoder.{ours}") for theirs, ours in OneLlmImu.keys.take),
            ("llma.tok_embeddings.", "decoder.model.embed_tokens."),
            ("llma.norm.", "decoder.model.norm."),
            ("llma.output.", "decoder.lm_head."),
            *blocks,
            ("llma.layers.", "decoder.model.layers."),  # more layers than there should be
        ),
        others=True,
    )


def _rotated(name: str) -> bool:
    """Whether a weight's rows lie in the order of rotary positions."""
    return name.startswith("decoder.") and name.endswith(ROTATED)


DRAFT = OneLlmDraft
