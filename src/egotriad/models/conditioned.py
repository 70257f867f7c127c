"""`ConditionedLM`: a LLaMA decoder that writes about what a sensor measured; drafts and targets.

`clip, span -> prepare -> inputs (B, ...) -> condition -> (B, K, D)`
`prefix (B, P, D) = [BOS, prompt | condition | prompt, ASSISTANT:]`
`[prefix | ids (B, L)] -> logits (B, L, V)`: row i predicts ids[i].

Targets and drafts differ only in `prepare` and `condition`; all share the decoder, the prompt rule,
the loss and the two ways of greedy decoding (a batch at a time here, one clip with rollback through
`DecoderState`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.decoder_config import BaseDecoder
from egotriad.models.engines import Engines
from egotriad.models.prompt import prompt_ids
from egotriad.models.ragged import RaggedState
from egotriad.models.state import DecoderState

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from egotriad.models.card import CardFacts

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
        decoder: one of `config.decoder`'s shape with weights of its own; a fresh one when None.

    Attributes:
        kind: target | draft. name: the plug-in's name. placeholder: what the template holds.
        Config: the frozen dataclass of the subclass, constructible without arguments.
        decoder: the `LlamaForCausalLM`.
        base: the published decoder whose weights it still has (beneath an adapter, if there is
            one); a saved folder then names it instead of holding its weights. None otherwise:
            training that changes them sets it so.
        meta: how the model came about, as its folder says; empty before it is saved or loaded.
        engines: how `state` runs the decoder; other `Engines` may be put in its place.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    placeholder: ClassVar[str]
    Config: ClassVar[type[ConditionedConfig]]

    def __init__(
        self,
        config: ConditionedConfig,
        tokenizer: PreTrainedTokenizerFast,
        decoder: LlamaForCausalLM | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.base: BaseDecoder | None = None
        self.meta: dict[str, Any] = {}
        self.prompt = prompt_ids(config.template, self.placeholder, tokenizer)
        self.eos_id = int(tokenizer.eos_token_id)
        self.decoder = _fitting(decoder, config, tokenizer) or build_decoder(
            config.decoder, len(tokenizer)
        )
        self.engines = Engines()
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
            return self.engines.state(self.decoder, self.prefix(inputs.to(self.device)))

    def states(self, inputs: list[Tensor]) -> RaggedState:
        """The decoder on the prefixes of several clips, each fed and rolled back at its own pace.

        Args:
            inputs: as `prepare` gives them, without a batch axis.
        """
        self._require_eval()
        with torch.inference_mode():
            prefixes = [self.prefix(one[None].to(self.device)) for one in inputs]
            return RaggedState(self.decoder, prefixes)

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

    def save_pretrained(
        self,
        folder: Path,
        *,
        meta: dict[str, Any] | None = None,
        whole: bool = False,
        card: "CardFacts | None" = None,
    ) -> None:
        """Writes its folder (see `egotriad.models.folder.save_model`).

        Args:
            folder: where to.
            meta: how it came about; what it was loaded with when None.
            whole: also the weights of the published decoder beneath it, an adapter folded in.
            card: what only the user knows, for the model card; as it was loaded when None.

        Raises:
            UsageError: when the folder holds something that is not a model.
        """
        from egotriad.models.folder import save_model

        meta = self.meta if meta is None else meta
        save_model(folder, self, self.tokenizer, meta, whole=whole, card=card)

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, revision: str | None = None, merge: bool = True
    ) -> Self:
        """The model of a folder or of a repository on the hub, in eval mode on the CPU.

        Args:
            folder: a local folder, or a hub id.
            revision: branch, tag or commit on the hub.
            merge: fold an adapter into the decoder, so that a step costs what it costs without;
                False keeps the two apart.

        Raises:
            CheckpointError: as `egotriad.models.folder.load_model`; or it is another model.
            DownloadError: when the hub has no such model, or cannot be reached.
        """
        from egotriad.models.folder import load_model
        from egotriad.models.hub import model_folder

        path = model_folder(folder, revision)
        model, _, _ = load_model(path, merge=merge)
        if not isinstance(model, cls):
            raise CheckpointError(
                f"{folder}: holds a {type(model).__name__}, need a {cls.__name__}"
            )
        return model

    def push_to_hub(
        self,
        repo_id: str,
        *,
        public: bool = False,
        i_have_the_right_to_redistribute: tuple[str, ...] = (),
        card: "CardFacts | None" = None,
        api: "HfApi | None" = None,
    ) -> str:
        """Sends it to a model repository, private unless said otherwise; returns the commit.

        See `egotriad.models.hub.push_model` for arguments, errors and what is sent.
        """
        from egotriad.models.hub import push_model

        return push_model(
            self,
            repo_id,
            public=public,
            i_have_the_right_to_redistribute=i_have_the_right_to_redistribute,
            card=card,
            api=api,
        )

    def _until_eos(self, ids: list[int]) -> list[int]:
        return ids[: ids.index(self.eos_id) + 1] if self.eos_id in ids else ids

    def _require_eval(self) -> None:
        if self.training:
            raise ValueError(f"{self.name} is in training mode (dropout); call eval() first")


def _fitting(
    decoder: LlamaForCausalLM | None, config: ConditionedConfig, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM | None:
    """The decoder as given, when it is of the config's width and the tokenizer's vocabulary."""
    if decoder is None:
        return None
    found = (
        decoder.config.hidden_size,
        decoder.config.num_hidden_layers,
        decoder.config.vocab_size,
    )
    need = (config.decoder.hidden_size, config.decoder.layers, len(tokenizer))
    if found != need:
        raise UsageError(f"decoder: (width, layers, ids) are {found}, the config says {need}")
    return decoder
