"""`ConditionedLM`: a LLaMA decoder that writes about what a sensor measured; drafts and targets.

`clip, span -> prepare -> inputs (B, ...) -> condition -> (B, K, D)`
`prefix (B, P, D) = [BOS, prompt | condition | prompt, ASSISTANT:]`
`[prefix | ids (B, L)] -> logits (B, L, V)`: row i predicts ids[i].

Targets and drafts differ only in `prepare` and `condition`; all share the decoder, the prompt rule,
the loss and the two ways of greedy decoding (a batch at a time here, one clip with rollback through
`DecoderState`).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerFast

from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import UsageError
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.prompt import prompt_ids
from egotriad.models.state import DecoderState

__all__ = ["ConditionedConfig", "ConditionedLM"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedConfig:
    """What every draft and target is made of.

    Attributes:
        template: the prompt, with the model's placeholder once and ` ASSISTANT:` at its end.
        decoder: shape of the decoder.
        dropout: share of its input embeddings' values dropped, in training only.
    """

    template: str
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout: got {self.dropout}, need 0 <= dropout < 1")


class ConditionedLM(nn.Module):
    """Base of all drafts and targets: subclasses say how a clip becomes embeddings.

    Args:
        config: the subclass's own `Config`.
        tokenizer: LLaMA-like (BOS 1, EOS 2); turns the template into ids and sizes the vocabulary.

    Attributes:
        kind: target | draft. name: the plug-in's name. placeholder: what the template holds.
        Config: the frozen dataclass of the subclass, constructible without arguments.
        decoder: the `LlamaForCausalLM`.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    placeholder: ClassVar[str]
    Config: ClassVar[type[ConditionedConfig]]

    def __init__(self, config: ConditionedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.config = config
        self.prompt = prompt_ids(config.template, self.placeholder, tokenizer)
        self.eos_id = int(tokenizer.eos_token_id)
        self.decoder = build_decoder(config.decoder, len(tokenizer))
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def small(cls) -> ConditionedConfig:
        """Settings of the same architecture that a test or a trial can afford."""
        config_class: Any = cls.Config  # the base's own lacks a default template
        return config_class()

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """Model-ready tensor of one clip around one event span, without a batch axis.

        Raises:
            ClipRejected: when the clip lacks what the model needs.
        """
        raise NotImplementedError

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, K, D) embeddings of a batch of prepared inputs."""
        raise NotImplementedError

    def fit(self, inputs: Tensor) -> None:
        """Takes from all training inputs (N, ...) what is counted, not trained (normalisation)."""

    def jittered(self, inputs: Tensor, sigma: float) -> Tensor:
        """Training inputs (B, ...) with `sigma` standard deviations of augmentation; here as is."""
        return inputs

    def wrap(self, condition: Tensor) -> Tensor:
        """(B, P, D): the prompt's embeddings around the condition's (B, K, D)."""
        embed = self.decoder.get_input_embeddings()
        sides = [
            embed(torch.tensor(ids, device=condition.device)).expand(len(condition), -1, -1)
            for ids in (self.prompt.before, self.prompt.after)
        ]
        return torch.cat([sides[0], condition, sides[1]], dim=1)

    def prefix(self, inputs: Tensor) -> Tensor:
        """(B, P, D) embeddings of everything before the first generated id, prompt included."""
        return self.wrap(self.condition(inputs))

    def teacher_forced(self, prefix: Tensor, ids: Tensor) -> Tensor:
        """(B, L, V) logits: position i predicts ids (B, L) [i] from the prefix and ids before it.

        Padding belongs at the right end of `ids`: attention is causal, so it changes nothing
        before it.
        """
        text = self.decoder.get_input_embeddings()(ids[:, :-1])
        out = self.decoder(
            inputs_embeds=self.dropout(torch.cat([prefix, text], dim=1)),
            use_cache=False,
            logits_to_keep=ids.shape[1],
        )
        return out.logits  # (B, L, V)

    def prefix_loss(self, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy over the ids where `mask` (B, L) is True, given a prefix."""
        return F.cross_entropy(self.teacher_forced(prefix, ids)[mask], ids[mask])

    def loss(self, inputs: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy of generated ids (B, L) for prepared inputs (B, ...)."""
        return self.prefix_loss(self.prefix(inputs), ids, mask)

    def state(self, inputs: Tensor) -> DecoderState:
        """The decoder on one clip's prefix, ready to be fed and rolled back.

        Args:
            inputs: (1, ...), one prepared clip.
        """
        self._require_eval()
        if len(inputs) != 1:
            raise ValueError(f"a decoder state holds one clip, got {len(inputs)}")
        with torch.inference_mode():
            return DecoderState(self.decoder, self.prefix(inputs.to(self.device)))

    @torch.inference_mode()
    def greedy(self, inputs: Tensor, max_new_tokens: int) -> list[list[int]]:
        """Greedy ids of each prepared input; they end with EOS when it came in time.

        Raises:
            UsageError: when `max_new_tokens` is below 1.
        """
        self._require_eval()
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens: got {max_new_tokens}, need 1 or more")
        inputs = inputs.to(self.device)
        cache = DynamicCache(config=self.decoder.config)
        out = self.decoder(
            inputs_embeds=self.prefix(inputs),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        columns: list[Tensor] = []
        running = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        while running.any() and len(columns) < max_new_tokens:
            if columns:
                out = self.decoder(input_ids=columns[-1][:, None], past_key_values=cache)
            columns.append(out.logits[:, -1].argmax(-1))  # (B,)
            running &= columns[-1] != self.eos_id
        return [self._until_eos(row) for row in torch.stack(columns, dim=1).tolist()]

    def stored_weights(self) -> dict[str, Tensor]:
        """All weights by name, a tied output embedding only once (under its input name)."""
        weights = self.state_dict()
        if self.decoder.config.tie_word_embeddings:
            del weights["decoder.lm_head.weight"]
        return weights

    def _until_eos(self, ids: list[int]) -> list[int]:
        return ids[: ids.index(self.eos_id) + 1] if self.eos_id in ids else ids

    def _require_eval(self) -> None:
        if self.training:
            raise ValueError(f"{self.name} is in training mode (dropout); call eval() first")
