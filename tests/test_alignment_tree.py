from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.alignment.tree import Tree, TreeDraft, TreeShape, speculate_tree
from egotriad.manifests.errors import UsageError
from egotriad.models.state import DecoderState

NEVER = -7


@cache
def decoder(noise: float = 0.0) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(config).double().eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    weight.copy_(0.3 * torch.randn_like(weight))
            torch.manual_seed(1001)
            for weight in model.parameters():
                weight += noise * 0.3 * torch.randn_like(weight)
    return model


def state(noise: float = 0.0, size: int = 9, sequence: int = 0) -> DecoderState:
    tail = np.random.default_rng(sequence).standard_normal((1, 4, 32))
    head = np.random.default_rng((sequence, size)).standard_normal((1, size - 4, 32))
    return DecoderState(decoder(noise), torch.tensor(np.concatenate([head, tail], axis=1)))


def path_logits(ids: list[int], size: int = 9) -> Tensor:
    """A fresh pass without cache over a text."""
    return state(size=size).feed(ids)[-1]


def test_each_node_sees_the_text_and_its_ancestors_alone() -> None:
    holder = state()
    holder.feed([5, 6])
    rows = holder.feed_tree([10, 11, 12], [-1, -1, 0])
    more = holder.feed_tree([13, 14], [2, 1])
    for row, path in (
        (rows[0], [10]),
        (rows[1], [11]),
        (rows[2], [10, 12]),
        (more[0], [10, 12, 13]),
        (more[1], [11, 14]),
    ):
        torch.testing.assert_close(row, path_logits([5, 6, *path]), atol=1e-9, rtol=0)
    holder.keep_nodes([0, 2, 3])
    assert holder.length == 5
    after = holder.feed([20])[-1]
    torch.testing.assert_close(after, path_logits([5, 6, 10, 12, 13, 20]), atol=1e-9, rtol=0)
    holder.rollback(3)
    torch.testing.assert_close(holder.feed([9])[-1], path_logits([5, 6, 10, 9]), atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 4), (3, 2, 8), (5, 4, 20), (6, 3, 5)])
def test_the_text_is_the_targets_own_whatever_the_tree(shape: tuple[int, int, int]) -> None:
    for sequence in range(3):
        text = plain_greedy(state(sequence=sequence), max_new_tokens=24, eos_id=NEVER)
        for eos_id, limit in ((NEVER, 24), (text[11], 24), (NEVER, 1), (NEVER, 2)):
            expected = plain_greedy(state(sequence=sequence), max_new_tokens=limit, eos_id=eos_id)
            draft = TreeDraft(state(0.05, 6, sequence), eos_id)
            done = speculate_tree(
                state(sequence=sequence),
                draft,
                TreeShape(*shape),
                max_new_tokens=limit,
                eos_id=eos_id,
            )
            assert done.ids == expected
            assert [i for r in done.rounds for i in r.emitted] == done.ids
            for r in done.rounds:
                assert r.drafted[: len(r.emitted) - 1] == r.emitted[:-1]


def test_a_tree_of_width_one_is_a_chain() -> None:
    for sequence in range(4):
        chain = speculate(
            state(sequence=sequence),
            DraftProposer(state(0.05, 6, sequence), NEVER),
            gamma=4,
            max_new_tokens=24,
            eos_id=NEVER,
        )
        tree = speculate_tree(
            state(sequence=sequence),
            TreeDraft(state(0.05, 6, sequence), NEVER),
            TreeShape(4, 1, 4),
            max_new_tokens=24,
            eos_id=NEVER,
        )
        assert tree == chain


def test_a_wider_tree_needs_fewer_passes() -> None:
    passes = {}
    for width, nodes in ((1, 4), (3, 24), (8, 64)):
        passes[width] = sum(
            len(
                speculate_tree(
                    state(sequence=sequence),
                    TreeDraft(state(0.1, 6, sequence), NEVER),
                    TreeShape(4, width, nodes),
                    max_new_tokens=24,
                    eos_id=NEVER,
                ).rounds
            )
            for sequence in range(6)
        )
    assert passes[1] > passes[3] > passes[8]


def test_the_target_drafting_for_itself_is_always_right() -> None:
    done = speculate_tree(
        state(), TreeDraft(state(), NEVER), TreeShape(4, 3, 200), max_new_tokens=20, eos_id=NEVER
    )
    assert len(done.rounds) == 4


def test_the_likeliest_nodes_are_kept_with_their_parents() -> None:
    tree = TreeDraft(state(), NEVER).propose_tree([5], TreeShape(3, 3, 7))
    assert len(tree.ids) == 7
    assert all(parent < node for node, parent in enumerate(tree.parents))

    def score(node: int) -> float:
        path = []
        while node >= 0:
            path.insert(0, tree.ids[node])
            node = tree.parents[node]
        rows = state().feed([5, *path]).log_softmax(-1)
        return sum(float(rows[k, i]) for k, i in enumerate(path))

    scores = [score(node) for node in range(7)]
    assert scores == sorted(scores, reverse=True)
    first = state().feed([5])[-1].argmax()
    assert tree.ids[0] == first
    assert Tree([1, 2, 3], [-1, -1, 0]).children() == {-1: [0, 1], 0: [2]}


def test_adapters_and_empty_shapes_are_refused() -> None:
    other = DecoderState(decoder(), torch.zeros(1, 5, 32).double(), lean=False)
    with pytest.raises(UsageError, match="draft a chain"):
        other.feed_tree([5], [-1])
    with pytest.raises(UsageError, match="nodes 0"):
        TreeShape(3, 2, 0)
