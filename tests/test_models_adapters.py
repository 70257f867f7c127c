"""LoRA adapters: on a decoder, folded in, in files, and read by PEFT itself."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.adapters import (
    ADAPTER_FILES,
    AdapterConfig,
    adapter_of,
    attach_adapter,
    fold_adapter,
    read_adapter,
    write_adapter,
)
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.decoder_config import BaseDecoder
from egotriad.models.seeding import torch_stream

SHAPE = DecoderConfig(
    hidden_size=32, intermediate_size=48, layers=2, heads=4, kv_heads=2, tie_embeddings=False
)
BASE = BaseDecoder(name="some/llama", revision=None, sha256="0" * 64, licence=None)
IDS = torch.tensor([[1, 5, 9, 40, 2]])
SMALL = AdapterConfig(rank=4, alpha=6.0)


def plain() -> LlamaForCausalLM:
    with torch_stream(0, "plain"):
        return build_decoder(SHAPE, 64).eval()


def adapted() -> LlamaForCausalLM:
    """A decoder whose adapter has left its zero start."""
    decoder = plain()
    with torch_stream(0, "adapter"):
        attach_adapter(decoder, SMALL)
        for name, weight in decoder.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=0.2)
    return decoder


@torch.no_grad()
def logits(decoder: LlamaForCausalLM) -> Tensor:
    return decoder(IDS).logits


def test_a_fresh_adapter_changes_nothing_and_is_all_that_is_trained() -> None:
    decoder = plain()
    before = logits(decoder)
    attach_adapter(decoder, SMALL)
    assert torch.equal(logits(decoder), before)
    assert adapter_of(decoder) == SMALL
    assert adapter_of(plain()) is None
    trained = {name for name, weight in decoder.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 2 * 7  # two matrices, two blocks, seven layers
    assert all(".lora_" in name for name in trained)
    with pytest.raises(UsageError, match="has an adapter already"):
        attach_adapter(decoder, SMALL)


def test_its_update_is_alpha_over_rank_times_b_times_a() -> None:
    decoder = adapted()
    layer = decoder.model.layers[1].mlp.down_proj
    a, b = layer.lora_A.default.weight, layer.lora_B.default.weight
    expected = layer.base_layer.weight + 6.0 / 4 * b @ a
    fold_adapter(decoder)
    torch.testing.assert_close(decoder.model.layers[1].mlp.down_proj.weight, expected)


def test_folded_in_it_says_the_same_and_the_decoder_is_a_plain_one() -> None:
    decoder = adapted()
    expected = logits(decoder)
    assert (expected - logits(plain())).abs().max() > 0.1
    fold_adapter(decoder)
    torch.testing.assert_close(logits(decoder), expected, atol=1e-5, rtol=0)
    assert adapter_of(decoder) is None
    assert set(decoder.state_dict()) == set(plain().state_dict())
    assert all(weight.requires_grad for weight in decoder.parameters())
    fold_adapter(decoder)  # nothing is left to fold


def test_files_hold_it_exactly_and_nothing_of_the_decoder(tmp_path: Path) -> None:
    decoder, again = adapted(), plain()
    write_adapter(decoder, tmp_path, BASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(ADAPTER_FILES)
    assert all(".lora_" in name for name in load_file(tmp_path / ADAPTER_FILES[1]))
    read_adapter(again, tmp_path)
    assert torch.equal(logits(again), logits(decoder))
    assert adapter_of(again) == SMALL


def test_peft_reads_the_same_files(tmp_path: Path) -> None:
    from peft import PeftModel

    decoder = adapted()
    write_adapter(decoder, tmp_path, BASE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(plain(), tmp_path).eval()
    assert torch.equal(logits(theirs), logits(decoder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "need plain LoRA"),
        ({"use_dora": True}, "need plain LoRA"),
        ({"target_modules": ["q_proj"]}, "LORA on q_proj"),
        ({"r": 0}, "not the settings of an adapter"),
        ({"r": 3}, r"does not fit the adapter: .*lora_A\.weight is \[4, 32\], need \[3, 32\]"),
    ],
)
def test_adapters_of_another_kind_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    write_adapter(adapted(), tmp_path, BASE)
    path = tmp_path / ADAPTER_FILES[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        read_adapter(plain(), tmp_path)


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    write_adapter(adapted(), tmp_path, BASE)
    path = tmp_path / ADAPTER_FILES[1]
    weights = load_file(path)
    name = next(iter(weights))
    weights["stranger"] = weights.pop(name)
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=rf"missing {name}; unexpected stranger"):
        read_adapter(plain(), tmp_path)
    (tmp_path / ADAPTER_FILES[0]).unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: not the settings"):
        read_adapter(plain(), tmp_path)


@pytest.mark.parametrize("size", [{"rank": 0}, {"alpha": 0.0}, {"alpha": float("nan")}])
def test_sizes_that_make_no_adapter_are_refused(size: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="need rank >= 1 and alpha > 0"):
        AdapterConfig(**size)
