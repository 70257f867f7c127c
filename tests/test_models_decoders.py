"""Published decoders: exact sizes, config mistakes, folders, and the text-only target they make."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests.errors import (
    CheckpointError,
    DownloadError,
    TokenizerMismatch,
    UsageError,
)
from egotriad.models import decoder_files
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.decoder_files import decoder_path, open_decoder, published_decoder
from egotriad.models.decoders import DECODERS, KnownDecoder, config_mistakes, decoder_config
from egotriad.models.placement import Placement
from egotriad.models.published import load_published
from egotriad.models.seeding import torch_stream
from egotriad.models.target_llama import LlamaTarget, vicuna_prompt
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer

SHAPE = DecoderConfig(
    hidden_size=32, intermediate_size=48, layers=2, heads=4, kv_heads=2, tie_embeddings=False
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["C walks forward.", vicuna_prompt("What?")], vocab_size=320)


def write_llama(
    folder: Path, tokenizer: PreTrainedTokenizerFast, shape: DecoderConfig, **config: object
) -> LlamaForCausalLM:
    """A LLaMA as transformers writes it, with the mistakes of JackFram's configs."""
    folder.mkdir()
    with torch_stream(0, "llama"):
        decoder = build_decoder(shape, len(tokenizer)).eval()
    weights = dict(decoder.state_dict())
    if shape.tie_embeddings:
        del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")
    values = {
        **json.loads(decoder.config.to_json_string()),
        "bos_token_id": 0,
        "pad_token_id": 1,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    return decoder


@pytest.mark.parametrize("known", DECODERS.values(), ids=DECODERS)
def test_every_known_decoder_has_its_published_number_of_weights(known: KnownDecoder) -> None:
    with torch.device("meta"):
        decoder = build_decoder(known.config, 32_000)
    assert sum(p.numel() for p in decoder.parameters()) == known.parameters


@pytest.mark.parametrize("tied", [False, True])
def test_a_published_llama_becomes_a_drafts_decoder(
    tied: bool, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    shape = DecoderConfig(**{**_fields(SHAPE), "tie_embeddings": tied})
    original = write_llama(tmp_path / "llama", tokenizer, shape)
    config, decoder = published_decoder(tmp_path / "llama", tokenizer)
    assert config == shape
    ids = torch.tensor([[1, 300, 7, 40]])
    with torch.no_grad():
        assert torch.equal(decoder(ids).logits, original(ids).logits)
    assert all(p.requires_grad for p in decoder.parameters())
    assert (decoder.lm_head.weight is decoder.model.embed_tokens.weight) == tied
    assert (decoder.config.bos_token_id, decoder.config.pad_token_id) == (1, None)


def _fields(config: DecoderConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in DecoderConfig.__dataclass_fields__}


def test_config_mistakes_are_corrected_loudly(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    write_llama(tmp_path / "llama", tokenizer, SHAPE)
    with caplog.at_level(logging.WARNING):
        published_decoder(tmp_path / "llama", tokenizer)
    assert "bos_token_id is 0, LLaMA's is 1; 1 is used" in caplog.text
    assert "pad_token_id is 1, LLaMA's is None; None is used" in caplog.text
    assert config_mistakes({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}) == []
    assert "ids from 32000 on" in config_mistakes({"vocab_size": 32_064})[0]


def test_the_text_target_answers_alone_with_its_own_prompt(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    original = write_llama(tmp_path / "llama", tokenizer, SHAPE)
    model, _, meta = load_published(
        tmp_path / "llama", placement=Placement(precision="float32"), question="What?"
    )
    assert isinstance(model, LlamaTarget)
    assert meta["published"]["model_type"] == "llama"
    prompt = vicuna_prompt("What?").removeprefix("<clip>")
    ids = [*tokenizer.encode(prompt), 300]
    with torch.no_grad():
        expected = original(torch.tensor([ids])).logits[0, -2:]
    state = model.state(torch.empty(1, 0))
    torch.testing.assert_close(state.prefix_logits, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.feed([300])[0], expected[1], atol=1e-5, rtol=1e-5)


def test_decoders_of_another_kind_or_vocabulary_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llama(tmp_path / "llama", tokenizer, SHAPE)
    other = train_tokenizer(["quite another text"], vocab_size=len(tokenizer))
    with pytest.raises(TokenizerMismatch):
        published_decoder(tmp_path / "llama", other)
    write_llama(tmp_path / "biased", tokenizer, SHAPE, attention_bias=True)
    with pytest.raises(CheckpointError, match=r"'attention_bias': True.*is not built here"):
        published_decoder(tmp_path / "biased", tokenizer)
    write_llama(tmp_path / "long", tokenizer, SHAPE, rope_parameters={"rope_type": "yarn"})
    with pytest.raises(CheckpointError, match="plain rotary positions"):
        published_decoder(tmp_path / "long", tokenizer)
    with pytest.raises(CheckpointError, match=r"not the config of a LLaMA.*KeyError"):
        decoder_config({"hidden_size": 8}, tmp_path)

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UsageError, match=r"'vicuna68m': no such file.*none of stories15m, "):
        decoder_path("vicuna68m")
    with pytest.raises(DownloadError, match=r"hub 'double7/vicuna-68m'.*\(no route\)"):
        decoder_files.decoder_path("vicuna-68m")
    assert decoder_path(tmp_path) == tmp_path


def test_a_file_in_a_repository_is_brought_alone_and_known_by_both_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def download(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert decoder_path("stories15m") == tmp_path / "stories15M.bin"
    decoder_path("karpathy/tinyllamas/stories42M.bin", revision="abc")
    assert asked == [
        ("karpathy/tinyllamas", "stories15M.bin", None),
        ("karpathy/tinyllamas", "stories42M.bin", "abc"),
    ]


def test_an_opened_decoder_says_what_it_is_and_where_it_came_from(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    commit = tmp_path / "snapshots" / "models--some--llama" / "snapshots" / "abc123"
    commit.parent.mkdir(parents=True)
    write_llama(commit, tokenizer, SHAPE)
    write_llama(tmp_path / "snapshots" / "mine", tokenizer, SHAPE)
    named = open_decoder("some/llama", commit)
    assert (named.name, named.revision, named.licence) == ("some/llama", "abc123", None)
    assert (named.config, named.ids, len(named.mistakes)) == (SHAPE, len(tokenizer), 2)
    local = open_decoder(tmp_path / "snapshots" / "mine")
    assert (local.name, local.revision) == ("mine", None)
    assert local.base().sha256 == named.base().sha256
    changed = tmp_path / "snapshots" / "mine" / "model.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    assert open_decoder(tmp_path / "snapshots" / "mine").base().sha256 != named.base().sha256
