"""Models of true size with random weights: how fast they are needs no checkpoint.

`classes, settings -> on the meta device: is there room? -> on the device, in their precision`

What such models say means nothing, and a draft of them is hardly ever accepted.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import UsageError
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoders import LLAMA_IDS
from egotriad.models.placement import Placement, require_room
from egotriad.models.seeding import torch_stream
from egotriad.models.tokenizer import llama_like, tokenizer_json, train_tokenizer, wrapped

__all__ = ["Wanted", "random_models", "stand_in_tokenizer"]

Wanted = tuple[type[ConditionedLM], ConditionedConfig]
"""A model's class and its settings."""


def random_models(
    wanted: Sequence[Wanted],
    tokenizer: PreTrainedTokenizerFast,
    placement: Placement,
    *,
    seed: int = 0,
) -> list[ConditionedLM]:
    """Models in eval mode on their device; nothing large is made before all of them have room.

    Args:
        wanted: what to make.
        tokenizer: of all; its number of ids is their vocabulary.
        placement: where, and the precision of every weight.
        seed: of the weights.

    Raises:
        CheckpointError: when they do not fit the device's free memory.
        UsageError: in 4 bit, which needs weights to pack.
    """
    if placement.precision == "4bit":
        raise UsageError(
            "random weights: got precision 4bit, which packs the weights of files; need bfloat16, "
            "float16 or float32"
        )
    with torch.device("meta"):
        outlines = [model_class(config, tokenizer) for model_class, config in wanted]
    require_room(outlines, placement, packable=False)
    made = []
    for model_class, config in wanted:
        key = f"random {model_class.kind} {model_class.name}"
        with torch_stream(seed, key), _made_in(placement.dtype), torch.device(placement.device):
            model = model_class(config, tokenizer)
        made.append(model.to(placement.device).eval().requires_grad_(False))
    return made


def stand_in_tokenizer(prompts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of 32,000 ids of LLaMA's layout that has learnt nothing but some prompts.

    Their words are an id each, so prompts come out somewhat shorter than with LLaMA's own; the ids
    that nothing encodes to are there for the size of embeddings and logits.
    """
    learnt = json.loads(tokenizer_json(train_tokenizer(prompts, vocab_size=LLAMA_IDS)))["model"]
    vocab = dict(learnt["vocab"])
    vocab |= {f"<unused {i}>": i for i in range(len(vocab), LLAMA_IDS)}
    return wrapped(llama_like(vocab, [(left, right) for left, right in learnt["merges"]]))


@contextmanager
def _made_in(dtype: torch.dtype) -> Iterator[None]:
    """Inside, new weights have this type: a 7B model is never in float32 on its way."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
