"""The lean forward equals transformers' own, in every way a cache is used."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.models.graphed import GraphedLlama
from egotriad.models.lean import runs_lean
from egotriad.models.state import DecoderState


def llama(heads: int = 4, kv_heads: int = 4, dtype: torch.dtype = torch.float32, **more: object):
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        **more,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                # Norm weights away from 1, or a forgotten one would not show.
                spread = 0.3 * torch.randn_like(weight)
                weight.copy_(1 + spread if "norm" in name else spread)
    return model.to(dtype)


def prefix(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(np.random.default_rng(size).standard_normal((1, size, 64)), dtype=dtype)


@pytest.mark.parametrize(
    "model",
    [
        llama(),
        llama(4, 2),
        llama(4, 1, tie_word_embeddings=True),
        llama(head_dim=32),
        llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
        llama(
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        ),
    ],
    ids=["plain", "grouped", "one-kv-head-tied", "wide-heads", "linear-rope", "llama3-rope"],
)
def test_lean_equals_the_library_through_feeds_and_rollbacks(model: LlamaForCausalLM) -> None:
    assert runs_lean(model)
    ours, theirs = (DecoderState(model, prefix(11), lean=lean) for lean in (True, False))
    torch.testing.assert_close(ours.prefix_logits, theirs.prefix_logits, atol=1e-5, rtol=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(40):  # beyond the first buffer
        ids = rng.integers(0, 97, int(rng.integers(1, 9))).tolist()
        keep = int(rng.integers(1, len(ids) + 1))
        rows = theirs.feed(ids)
        torch.testing.assert_close(ours.feed(ids, keep=keep), rows[-keep:], atol=1e-5, rtol=1e-5)
        n = int(rng.integers(0, 5)) if rng.random() < 0.8 else 0
        n = min(n, theirs.length)
        ours.rollback(n)
        theirs.rollback(n)
    assert ours.length == theirs.length > 64


def test_a_long_prefix_and_a_long_text_at_once() -> None:
    model = llama(4, 2)
    ours, theirs = (DecoderState(model, prefix(300), lean=lean) for lean in (True, False))
    torch.testing.assert_close(ours.prefix_logits, theirs.prefix_logits, atol=1e-5, rtol=1e-5)
    ids = np.random.default_rng(1).integers(0, 97, 120).tolist()
    torch.testing.assert_close(ours.feed(ids), theirs.feed(ids), atol=2e-5, rtol=1e-5)


def test_half_precision_stays_close_and_float64_stays_float64() -> None:
    half = llama(dtype=torch.bfloat16)
    rows = [DecoderState(half, prefix(9, torch.bfloat16), lean=x).feed([5, 6]) for x in (0, 1)]
    assert rows[0].dtype == rows[1].dtype == torch.float32
    torch.testing.assert_close(rows[0], rows[1], atol=0.3, rtol=0.1)
    assert DecoderState(llama(dtype=torch.float64), prefix(9, torch.float64)).feed([5]).dtype == (
        torch.float64
    )


def test_adapters_and_other_positions_are_left_to_the_library() -> None:
    model = llama()
    model.model.layers[0].self_attn.q_proj = torch.nn.Sequential(torch.nn.Linear(64, 64))
    assert not runs_lean(model)
    assert not runs_lean(llama(attention_bias=True))
    assert not runs_lean(llama(hidden_act="gelu"))
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert not runs_lean(llama(rope_parameters=dynamic))


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_fixed_shapes_equal_the_lean_forward_and_serve_one_sequence_after_another(
    kv_heads: int,
) -> None:
    model = llama(4, kv_heads, dtype=torch.float64)
    runner = GraphedLlama(model, 200, most=5)
    rng = np.random.default_rng(0)
    for size in (11, 30, 7):
        ours = DecoderState(model, prefix(size, torch.float64), runner=runner)
        theirs = DecoderState(model, prefix(size, torch.float64))
        for _ in range(25):
            ids = rng.integers(0, 97, int(rng.integers(1, 8))).tolist()
            keep = int(rng.integers(1, len(ids) + 1))
            rows = theirs.feed(ids, keep=keep)
            torch.testing.assert_close(ours.feed(ids, keep=keep), rows, atol=1e-12, rtol=1e-12)
            n = int(rng.integers(0, min(4, theirs.length) + 1))
            ours.rollback(n)
            theirs.rollback(n)


def test_rows_of_an_earlier_step_are_not_written_over() -> None:
    model = llama()
    state = DecoderState(model, prefix(5), runner=GraphedLlama(model, 40))
    first = state.feed([5])
    kept = first.clone()
    state.feed([6])
    assert torch.equal(first, kept)


def test_a_full_buffer_grows_and_its_steps_are_made_anew() -> None:
    model = llama(dtype=torch.float64)
    runner = GraphedLlama(model, 20)
    size = runner.capacity
    ours = DecoderState(model, prefix(20, torch.float64), runner=runner)
    theirs = DecoderState(model, prefix(20, torch.float64))
    for k in range(size):
        rows = ours.feed([k % 90 + 3])
        torch.testing.assert_close(rows, theirs.feed([k % 90 + 3]), atol=1e-12, rtol=1e-12)
    assert runner.capacity > size
    assert runner.capacity % 64 == size % 64 == 0
    assert ours.cached == theirs.cached == size + 20
