"""Batches give what sequences give alone: states, texts, rounds."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.sampling import GREEDY, Draws, Sampling
from egotriad.alignment.speculate import speculate
from egotriad.alignment.speculate_batch import DraftBatch, speculate_batch
from egotriad.manifests.errors import UsageError
from egotriad.models.ragged import RaggedState
from egotriad.models.state import DecoderState

WIDTH, VOCABULARY, NEVER = 32, 64, -7


@cache
def decoder(seed: int, noise: float = 0.0) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).double().eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    weight.copy_(0.3 * torch.randn_like(weight))
            torch.manual_seed(seed + 1000)
            for weight in model.parameters():
                weight += noise * 0.3 * torch.randn_like(weight)
    return model


def prefixes(sizes: tuple[int, ...], seed: int) -> list[Tensor]:
    return [
        torch.tensor(np.random.default_rng((seed, b)).standard_normal((1, size, WIDTH)))
        for b, size in enumerate(sizes)
    ]


SIZES = (5, 9, 7, 12)


def test_rows_of_a_batch_equal_sequences_alone_through_feeds_and_rollbacks() -> None:
    batch = RaggedState(decoder(1), prefixes(SIZES, 1))
    alone = [DecoderState(decoder(1), prefix) for prefix in prefixes(SIZES, 1)]
    for row, state in zip(batch.prefix_logits, alone, strict=True):
        torch.testing.assert_close(row, state.prefix_logits, atol=1e-5, rtol=0)
    rng = np.random.default_rng(0)
    for _ in range(25):
        ids = [rng.integers(3, VOCABULARY, int(rng.integers(0, 5))).tolist() for _ in SIZES]
        if any(ids):
            rows = batch.feed(ids)
            for b, (state, new) in enumerate(zip(alone, ids, strict=True)):
                if new:
                    torch.testing.assert_close(
                        rows[b, : len(new)], state.feed(new), atol=1e-5, rtol=0
                    )
        counts = [int(rng.integers(0, state.length + 1)) // 2 for state in alone]
        batch.rollback(counts)
        for state, n in zip(alone, counts, strict=True):
            state.rollback(n)
        assert batch.lengths == [state.length for state in alone]


def test_forgetting_more_than_a_row_holds_is_an_error() -> None:
    state = RaggedState(decoder(1), prefixes((4, 5), 1))
    state.feed([[7, 8], [9]])
    with pytest.raises(ValueError, match="rows hold"):
        state.rollback([0, 2])


@pytest.mark.parametrize("gamma", [1, 3, 5])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.8, top_k=20)])
def test_a_batch_gives_the_texts_and_rounds_of_its_sequences(
    gamma: int, sampling: Sampling
) -> None:
    draws = [Draws(4, str(b), 24) for b in range(len(SIZES))]
    targets, drafts = prefixes(SIZES, 1), prefixes((6, 6, 11, 5), 1)
    limits = {"gamma": gamma, "max_new_tokens": 24, "eos_id": 11, "sampling": sampling}
    together = speculate_batch(
        RaggedState(decoder(1), targets),
        DraftBatch(RaggedState(decoder(1, 0.05), drafts), 11, sampling=sampling, draws=draws),
        draws=draws,
        **limits,
    )
    for target, draft, luck, expected in zip(targets, drafts, draws, together, strict=True):
        proposer = DraftProposer(
            DecoderState(decoder(1, 0.05), draft), 11, sampling=sampling, draws=luck
        )
        done = speculate(DecoderState(decoder(1), target), proposer, draws=luck, **limits)
        assert done == expected
    assert len({len(s.ids) for s in together}) > 1 or gamma == 1
    assert sum(r.matched for s in together for r in s.rounds) > 0


def test_a_batch_needs_ids_to_draft_and_numbers_to_sample_with() -> None:
    state = RaggedState(decoder(1), prefixes((4,), 1))
    draft = DraftBatch(RaggedState(decoder(1), prefixes((4,), 1)), NEVER)
    with pytest.raises(UsageError, match="gamma 0"):
        speculate_batch(state, draft, gamma=0, max_new_tokens=4, eos_id=NEVER)
    warm = Sampling(temperature=1.0)
    with pytest.raises(UsageError, match="pass draws"):
        speculate_batch(state, draft, gamma=2, max_new_tokens=4, eos_id=NEVER, sampling=warm)
    with pytest.raises(UsageError, match="draws"):
        DraftBatch(state, NEVER, sampling=warm)
