"""The same draft and target through transformers' own assisted generation: an independent check.

`generate(assistant_model=...)` cannot run a target whose prompt holds embeddings (it crashes, or
returns another model's text), nor give the draft a prompt of its own. Two small pieces make it:

- the target's prefix enters as placeholder ids, over which the embeddings are laid in the first
  pass (`PrefixedLlama`);
- a candidate generator with its own prefix and cache drafts in the assistant's place
  (`PrefixedCandidates`), put in through a private method of transformers 5, which a test watches.

Greedy, its texts and rounds are those of `egotriad.alignment.speculate`; it is the baseline of
the speed comparison (benchmarks/bench_speculate.py).
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LlamaForCausalLM
from transformers.generation.candidate_generator import CandidateGenerator

from egotriad.alignment.acceptance import RoundCount
from egotriad.alignment.rules import common_prefix
from egotriad.manifests.errors import UsageError

__all__ = ["PrefixedCandidates", "PrefixedLlama", "assisted_generate"]

PLACEHOLDER = 1
"""Any id will do that the vocabulary has and that is not the padding id (a mask would follow)."""


class PrefixedLlama(LlamaForCausalLM):  # type: ignore[misc]
    """A LLaMA whose first pass replaces the embeddings of its first ids by given ones."""

    @classmethod
    def of(cls, decoder: LlamaForCausalLM) -> "PrefixedLlama":
        """The same weights and modules under this class."""
        wrapped = copy.copy(decoder)
        wrapped.__class__ = cls
        return cast(PrefixedLlama, wrapped)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        logits_to_keep: int = 0,
        prefix: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As LLaMA's; `prefix` (1, P, D) stands for the first P of `input_ids`.

        `generate` looks at the names of the parameters: those it needs are spelled out.
        """
        kwargs |= {"attention_mask": attention_mask, "logits_to_keep": logits_to_keep}
        if prefix is None or input_ids is None:
            return super().forward(input_ids=input_ids, **kwargs)
        kwargs.pop("inputs_embeds", None)
        text = self.get_input_embeddings()(input_ids[:, prefix.shape[1] :])
        return super().forward(inputs_embeds=torch.cat([prefix, text], dim=1), **kwargs)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> Any:
        """As LLaMA's; the prefix only goes into the first pass."""
        prefix = kwargs.pop("prefix", None)
        inputs = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        return inputs | {"prefix": prefix} if is_first_iteration else inputs


class PrefixedCandidates(CandidateGenerator):  # type: ignore[misc]
    """Greedy drafts of a decoder on a prefix of its own.

    Args:
        decoder: the draft's.
        prefix: (1, P, D) its embeddings before the text.
        target_prefix: number of placeholders before the text in the target's ids.
        gamma: drafted ids per round.
        eos_id: drafting stops after it.
        longest: largest number of ids, placeholders included.

    Attributes:
        rounds: what transformers says of every round.
    """

    def __init__(
        self,
        decoder: LlamaForCausalLM,
        prefix: Tensor,
        *,
        target_prefix: int,
        gamma: int,
        eos_id: int,
        longest: int,
    ) -> None:
        self._decoder, self._prefix = decoder, prefix
        self._target_prefix, self._gamma = target_prefix, gamma
        self._eos_id, self._longest = eos_id, longest
        self._cache: Any = None
        self._fed: list[int] = []
        self.rounds: list[RoundCount] = []

    def get_candidates(self, input_ids: Tensor, **_: Any) -> tuple[Tensor, None]:
        """The ids so far and up to gamma drafted ones."""
        room = min(self._gamma, self._longest - input_ids.shape[1] - 1)
        if room < 1:
            return input_ids, None
        text = input_ids[0, self._target_prefix :].tolist()
        drafted: list[int] = []
        logits = self._after(text)
        while len(drafted) < room and drafted[-1:] != [self._eos_id]:
            if drafted:
                logits = self._run(input_ids=torch.tensor([drafted[-1:]], device=input_ids.device))
                self._fed.append(drafted[-1])
            drafted.append(int(logits[0, -1].argmax()))
        added = torch.tensor([drafted], device=input_ids.device)
        return torch.cat([input_ids, added], dim=1), None

    def update_candidate_strategy(self, _: Tensor, scores: Tensor, num_matches: int) -> None:
        """Notes a round: transformers' own count of matches."""
        drafted = scores.shape[1] - 1
        self.rounds.append(RoundCount(drafted, int(num_matches), int(num_matches) + 1))

    def _after(self, text: list[int]) -> Tensor:
        """Logits after a text, from what the cache lacks of it."""
        if self._cache is None:
            self._cache = DynamicCache(config=self._decoder.config)
            embeddings = self._prefix
            if text:
                ids = torch.tensor([text], device=embeddings.device)
                more = self._decoder.get_input_embeddings()(ids)
                embeddings = torch.cat([embeddings, more], dim=1)
            self._fed = list(text)
            return self._run(inputs_embeds=embeddings)
        kept = min(common_prefix(self._fed, text), len(text) - 1)
        if len(self._fed) > kept:
            self._cache.crop(kept - len(self._fed))
        missing = text[kept:]
        self._fed = list(text)
        return self._run(input_ids=torch.tensor([missing], device=self._prefix.device))

    def _run(self, **inputs: Tensor) -> Tensor:
        out = self._decoder(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return cast(Tensor, out.logits)


@torch.inference_mode()
def assisted_generate(
    target: LlamaForCausalLM,
    target_prefix: Tensor,
    draft: LlamaForCausalLM | None,
    draft_prefix: Tensor | None,
    *,
    gamma: int,
    max_new_tokens: int,
    eos_id: int,
) -> tuple[list[int], list[RoundCount]]:
    """The target's greedy text by transformers, with a draft or plain.

    Args:
        target: in eval mode.
        target_prefix: (1, P, D) embeddings before its text.
        draft: with the target's vocabulary, in eval mode; None for plain generation.
        draft_prefix: (1, P', D') embeddings before the draft's text.
        gamma: drafted ids per round.
        max_new_tokens: the text ends here if no end of sequence came before.
        eos_id: the text ends after it; never when negative.

    Returns:
        Ids, and rounds as transformers counts them (none without a draft).

    Raises:
        UsageError: when the vocabularies differ.
    """
    size = target_prefix.shape[1]
    ids = torch.full((1, size), PLACEHOLDER, device=target_prefix.device)
    model = PrefixedLlama.of(target)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        # None would be filled in from the model's own settings.
        eos_token_id=eos_id if eos_id >= 0 else target.config.vocab_size,
        pad_token_id=0,
    )
    candidates = None
    options: dict[str, Any] = {}
    if draft is not None and draft_prefix is not None:
        sizes = draft.config.vocab_size, target.config.vocab_size
        if sizes[0] != sizes[1]:
            raise UsageError(f"assisted generation: vocabularies of {sizes[0]} and {sizes[1]} ids")
        candidates = PrefixedCandidates(
            draft,
            draft_prefix,
            target_prefix=size,
            gamma=gamma,
            eos_id=eos_id,
            longest=size + max_new_tokens,
        )
        model._get_candidate_generator = lambda **_: candidates
        options["assistant_model"] = draft  # chooses the mode; its place is taken above
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=settings,
        prefix=target_prefix,
        **options,
    )
    return out[0, size:].tolist(), candidates.rounds if candidates else []
