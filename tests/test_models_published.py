"""Published folders onto a device: precision, memory, 4-bit, and what a machine may lack."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests.errors import (
    CheckpointError,
    MissingDependency,
    TokenizerMismatch,
    UsageError,
)
from egotriad.models import placement as placing
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.placement import Placement, free_bytes, needed_bytes
from egotriad.models.published import load_published, open_published
from egotriad.models.seeding import torch_stream
from egotriad.models.target_llama import vicuna_prompt
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer

SHAPE = DecoderConfig(hidden_size=32, intermediate_size=64, layers=2, heads=2, tie_embeddings=False)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([vicuna_prompt("What?")], vocab_size=300)


@pytest.fixture(scope="module")
def decoder(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    with torch_stream(0, "published"):
        return build_decoder(SHAPE, len(tokenizer)).eval()


@pytest.fixture
def folder(tmp_path: Path, decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    save_file(dict(decoder.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(decoder.config.to_json_string())
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    return tmp_path


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_weights_arrive_in_the_precision_asked_for(
    precision: str, folder: Path, decoder: LlamaForCausalLM
) -> None:
    placement = Placement(precision=precision)
    model, _, meta = load_published(folder, placement=placement)
    assert meta["published"]["precision"] == precision
    assert {p.dtype for p in model.parameters()} == {placement.dtype}
    assert not any(p.requires_grad for p in model.parameters())
    ids = torch.tensor([[1, 280, 7]])
    with torch.inference_mode():
        found, expected = model.decoder(ids).logits.float(), decoder(ids).logits
    torch.testing.assert_close(
        found, expected, atol=0.0 if precision == "float32" else 0.02, rtol=0
    )
    assert model.state(torch.empty(1, 0)).prefix_logits.dtype == torch.float32


def test_weights_are_read_in_pieces(
    folder: Path, decoder: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = placing.read_tensors

    def counted(path: Path, keys: dict[str, str]) -> dict[str, Tensor]:
        found = original(path, keys)
        read.append(len(found))
        return found

    monkeypatch.setattr(placing, "PIECE_BYTES", 20_000)
    monkeypatch.setattr(placing, "read_tensors", counted)
    model = load_published(folder, placement=Placement(precision="float32"))[0]
    assert len(read) > 3
    assert sum(read) == len(decoder.state_dict())
    for name, weight in decoder.state_dict().items():
        assert torch.equal(model.decoder.state_dict()[name], weight)


def test_too_little_memory_is_said_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(placing, "read_tensors", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(CheckpointError, match=r"GB in bfloat16, 0.0 GB are free on cpu.*4bit"):
        load_published(folder)


def test_what_is_needed_and_free_is_known_beforehand(folder: Path) -> None:
    model = open_published(folder).model
    count = sum(p.numel() for p in model.parameters())
    blocks = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    assert needed_bytes(model, Placement(precision="float32")) == 4 * count
    assert needed_bytes(model, Placement()) == 2 * count
    four = needed_bytes(model, Placement(precision="4bit"))
    assert four == 2 * (count - blocks) + 0.5625 * blocks
    free = free_bytes("cpu")
    assert free is None or free > 1e6


def test_devices_and_precisions_that_are_not_there_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="precision: got 'int3', need float32 or bfloat16"):
        Placement(precision="int3")
    with pytest.raises(UsageError, match="got 'gpu:0', need cpu, cuda or cuda:N"):
        Placement(device="gpu:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no GPU here"):
        Placement(device="cuda")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependency, match="pip install bitsandbytes"):
        load_published(folder, placement=Placement(precision="4bit"))


class Params4bit(nn.Parameter):
    """bitsandbytes' parameter as far as loading sees it: packed by its first `to(device)`.

    It stays readable here: rounded to 15 steps of each block's largest value.
    """

    def __new__(
        cls,
        data: Tensor,
        requires_grad: bool = False,
        compress_statistics: bool = True,
        quant_type: str = "fp4",
        module: nn.Module | None = None,
    ) -> "Params4bit":
        self = torch.Tensor._make_subclass(cls, data, requires_grad)
        self.compress_statistics, self.quant_type = compress_statistics, quant_type
        return self

    def to(self, device: str) -> "Params4bit":
        blocks = self.data.float().reshape(-1, 64)
        scale = blocks.abs().amax(dim=1, keepdim=True)
        rounded = (blocks / scale * 7).round() / 7 * scale
        self.data = rounded.reshape(self.shape).to(self.dtype)
        self.packed = True
        return self


class Linear4bit(nn.Linear):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_type: str = "fp4",
        device: str | None = None,
    ) -> None:
        super().__init__(inputs, outputs, bias, device)
        self.weight = Params4bit(
            self.weight.data, compress_statistics=compress_statistics, quant_type=quant_type
        )


def test_four_bits_pack_the_blocks_and_leave_head_and_embeddings(
    folder: Path, decoder: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bitsandbytes' interface re-written above: it needs no GPU and is not installed."""
    library = types.ModuleType("bitsandbytes")
    library.nn = types.SimpleNamespace(Linear4bit=Linear4bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    model, _, meta = load_published(folder, placement=Placement(precision="4bit"))
    packed = [n for n, m in model.decoder.named_modules() if isinstance(m, Linear4bit)]
    assert len(packed) == 2 * 7
    assert all(name.startswith("model.layers.") for name in packed)
    assert all(model.decoder.get_submodule(name).weight.packed for name in packed)
    assert {model.decoder.get_submodule(name).weight.quant_type for name in packed} == {"nf4"}
    assert type(model.decoder.lm_head) is nn.Linear
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    ids = torch.tensor([[1, 280, 7]])
    with torch.inference_mode():
        found, expected = model.decoder(ids).logits.float(), decoder(ids).logits
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    state = model.state(torch.empty(1, 0))  # not the lean path: its layers are no plain ones
    assert state.feed([280, 7]).shape == (2, found.shape[-1])
    assert meta["published"]["precision"] == "4bit"


def test_another_vocabulary_than_the_weights_is_refused(folder: Path) -> None:
    smaller = train_tokenizer(["wrong"], vocab_size=280)
    (folder / "tokenizer.json").write_text(tokenizer_json(smaller))
    assert open_published(folder).fit.extra_rows  # left out: ids that no piece belongs to
    larger = train_tokenizer([vicuna_prompt("What?"), "many more words here"], vocab_size=320)
    (folder / "tokenizer.json").write_text(tokenizer_json(larger))
    with pytest.raises(CheckpointError, match=r"lm_head.weight \(\[300, 32\].*need \[320, 32\]"):
        load_published(folder)


def test_weights_of_llamas_vocabulary_need_llamas_tokenizer(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.device("meta"):
        narrow = DecoderConfig(hidden_size=2, intermediate_size=2, layers=1, heads=1)
        decoder = build_decoder(narrow, 32_000)
    weights = {key: torch.zeros(like.shape) for key, like in decoder.state_dict().items()}
    del weights["lm_head.weight"]  # tied
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(decoder.config.to_json_string())
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    with pytest.raises(TokenizerMismatch, match=r"300 ids.*pass LLaMA's as tokenizer"):
        open_published(tmp_path)


def test_damaged_settings_are_named(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="holds a list, need a JSON object"):
        open_published(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="not the config of a LLaMA decoder"):
        open_published(folder)
