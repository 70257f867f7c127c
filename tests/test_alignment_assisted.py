"""transformers' assisted generation finds the same texts and the same rounds."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.alignment.assisted import assisted_generate
from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.manifests.errors import UsageError
from egotriad.models.state import DecoderState


@cache
def decoder(seed: int, noise: float = 0.0, vocabulary: int = 64) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=False,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    weight.copy_(0.3 * torch.randn_like(weight))
            torch.manual_seed(seed + 1000)
            for weight in model.parameters():
                weight += noise * 0.3 * torch.randn_like(weight)
    return model


def prefix(size: int, sequence: int) -> Tensor:
    """Embeddings whose last four positions do not depend on the size."""
    tail = np.random.default_rng(sequence).standard_normal((1, 4, 32))
    head = np.random.default_rng((sequence, size)).standard_normal((1, size - 4, 32))
    return torch.tensor(np.concatenate([head, tail], axis=1), dtype=torch.float32)


@pytest.mark.parametrize("gamma", [1, 2, 4, 7])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_texts_and_rounds_are_those_of_transformers(gamma: int, noise: float) -> None:
    matched = set()
    for sequence in range(5):
        target = DecoderState(decoder(1), prefix(9, sequence))
        text = plain_greedy(target, max_new_tokens=24, eos_id=-7)
        for eos_id in (-7, text[13]):
            limits = {"gamma": gamma, "max_new_tokens": 24, "eos_id": eos_id}
            draft = DecoderState(decoder(1, noise), prefix(6, sequence))
            ours = speculate(target, DraftProposer(draft, eos_id), **limits)
            ids, rounds = assisted_generate(
                decoder(1), prefix(9, sequence), decoder(1, noise), prefix(6, sequence), **limits
            )
            assert ids == ours.ids
            assert [(r.drafted, r.accepted) for r in rounds] == [
                (r.count.drafted, r.count.accepted) for r in ours.rounds
            ]
            matched |= {r.accepted for r in rounds}
    assert set(range(min(gamma, 4) + 1)) <= matched


def test_plain_generation_by_transformers_is_plain_greedy() -> None:
    for sequence in range(4):
        target = DecoderState(decoder(1), prefix(9, sequence))
        ids, rounds = assisted_generate(
            decoder(1), prefix(9, sequence), None, None, gamma=1, max_new_tokens=20, eos_id=-7
        )
        assert ids == plain_greedy(target, max_new_tokens=20, eos_id=-7)
        assert rounds == []


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(UsageError, match="80 and 64"):
        assisted_generate(
            decoder(1),
            prefix(9, 0),
            decoder(2, 0.0, 80),
            prefix(6, 0),
            gamma=2,
            max_new_tokens=4,
            eos_id=2,
        )
