"""Every way to run a decoder gives the same text, and buffers of fixed shape are used again."""

import copy
import pickle
import shutil

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.manifests.errors import UsageError
from egotriad.models.engines import ENGINES, EngineName, Engines

IDS, LENGTH = 97, 40


@pytest.fixture(scope="module")
def target() -> LlamaForCausalLM:
    return llama(0)


@pytest.fixture(scope="module")
def draft(target: LlamaForCausalLM) -> LlamaForCausalLM:
    """Nearly the target, so that some drafts stand and some do not."""
    model = llama(0)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in model.parameters():
            weight += 0.1 * weight.abs().mean() * torch.randn_like(weight)
    return model


def llama(seed: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=IDS,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        pad_token_id=None,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        for name, weight in model.named_parameters():
            if "norm" not in name:  # wide weights: texts that do not repeat themselves
                weight.copy_(torch.randn_like(weight) * 1.7 / weight.shape[-1] ** 0.5)
    return model


def prefix(size: int, seed: int = 0) -> Tensor:
    return torch.randn(1, size, 64, generator=torch.Generator().manual_seed(seed))


COMPILED = (pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning"))
"""torch uses what it has itself deprecated."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=COMPILED if name == "compiled" else ()) for name in ENGINES],
)
def test_texts_are_identical_in_float32_with_and_without_a_draft(
    name: EngineName, target: LlamaForCausalLM, draft: LlamaForCausalLM
) -> None:
    if name == "compiled" and shutil.which("g++") is None:
        pytest.skip("torch compiles with a C++ compiler on the CPU; there is none here")
    check_texts(name, target, draft)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["lean", "graphed", "compiled"])
def test_texts_are_identical_in_float32_on_a_device(
    name: EngineName, target: LlamaForCausalLM, draft: LlamaForCausalLM
) -> None:
    check_texts(name, copy.deepcopy(target).cuda(), copy.deepcopy(draft).cuda())


def check_texts(name: EngineName, target: LlamaForCausalLM, draft: LlamaForCausalLM) -> None:
    """Plain and speculative texts of an engine are those of transformers."""
    engines, eager, kept = Engines(name), Engines("eager"), set()
    for seed, size in enumerate((11, 30)):
        limits = {"max_new_tokens": LENGTH, "eos_id": -1}
        start = prefix(size, seed).to(target.device)
        expected = plain_greedy(eager.state(target, start), **limits)
        assert len(set(expected)) > LENGTH // 4
        state = engines.state(target, start)
        assert plain_greedy(state, **limits) == expected
        proposer = DraftProposer(engines.state(draft, prefix(5, seed).to(draft.device)), -1)
        done = speculate(state, proposer, gamma=3, **limits)
        assert done.ids == expected
        kept |= {r.matched for r in done.rounds}
    assert len(kept) > 1


@pytest.mark.parametrize("name", ["lean", "graphed"])
def test_a_buffer_is_lent_to_one_state_at_a_time_and_then_again(
    name: EngineName, target: LlamaForCausalLM, draft: LlamaForCausalLM
) -> None:
    engines = Engines(name)
    one, two = engines.state(target, prefix(4)), engines.state(target, prefix(4))
    assert torch.equal(one.feed([5, 6]), two.feed([5, 6]))
    first, second = one._engine._lean, two._engine._lean  # type: ignore[attr-defined]
    assert first is not second
    del one
    other = engines.state(draft, prefix(4))
    assert other._engine._lean is not first  # type: ignore[attr-defined]
    again = engines.state(target, prefix(9, 1))
    assert again._engine._lean is first  # type: ignore[attr-defined]
    assert again.cached == 9
    fresh = Engines(name).state(target, prefix(9, 1))
    torch.testing.assert_close(again.prefix_logits, fresh.prefix_logits)


@pytest.mark.parametrize("name", ["lean", "graphed"])
def test_a_model_that_was_moved_gets_other_buffers(name: EngineName) -> None:
    model, engines = llama(0), Engines(name)
    before = engines.state(model, prefix(9)).prefix_logits
    model.double()
    wide = engines.state(model, prefix(9).double()).prefix_logits
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), before, atol=1e-5, rtol=1e-5)


def test_a_copy_begins_without_buffers(target: LlamaForCausalLM) -> None:
    engines = Engines("graphed")
    state = engines.state(target, prefix(4))
    for copied in (copy.deepcopy(engines), pickle.loads(pickle.dumps(engines))):
        assert copied.name == "graphed"
        assert copied._lent == []
    assert state.cached == 4


def test_what_is_no_plain_llama_is_left_to_the_library_or_refused() -> None:
    model = llama(0)
    model.model.layers[0].self_attn.q_proj = torch.nn.Linear(64, 64)  # with a bias
    assert Engines("auto").of(model) == "eager"
    assert Engines("eager").state(model, prefix(4)).cached == 4
    for name in ("lean", "graphed", "compiled"):
        with pytest.raises(
            UsageError, match=f"engine {name}: this decoder has .*need engine eager"
        ):
            Engines(name).state(model, prefix(4))
    with pytest.raises(UsageError, match="engine: got 'fast', need auto or eager"):
        Engines("fast")  # type: ignore[arg-type]


def test_the_cache_is_as_long_as_what_was_fed(target: LlamaForCausalLM) -> None:
    for name in ("eager", "lean", "graphed"):
        state = Engines(name).state(target, prefix(7))
        assert state.cached == 7
        state.feed([3, 4, 5])
        state.rollback(2)
        assert (state.cached, state.length) == (8, 1)
