"""One function for every target's folder, and one hash."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models import placement
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.draft_text import TextDraft, TextDraftConfig
from egotriad.models.folder import folder_sha256, save_model
from egotriad.models.loading import load_draft, load_target, model_sha256, target_tokenizer
from egotriad.models.placement import Placement
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer

SMALL = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["USER: What is the wearer doing? ASSISTANT:"], vocab_size=290)


@pytest.fixture
def own(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    model = TinyTarget(TinyTargetConfig(decoder=SMALL), tokenizer)
    save_model(tmp_path / "own", model, tokenizer, {"seed": 7})
    return tmp_path / "own"


@pytest.fixture
def published(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path / "llama"
    folder.mkdir()
    decoder = build_decoder(SMALL, len(tokenizer))
    weights = dict(decoder.state_dict())
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(decoder.config.to_json_string())
    (folder / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    return folder


def test_both_kinds_of_folder_load_in_the_precision_asked_for(own: Path, published: Path) -> None:
    model, _, meta = load_target(own)
    assert (model.name, meta["seed"]) == ("tiny", 7)
    assert next(model.parameters()).dtype == torch.float32
    half = load_target(own, placement=Placement(precision="bfloat16"))[0]
    assert next(half.parameters()).dtype == torch.bfloat16
    model, _, meta = load_target(published, question="What?")
    assert (model.name, meta["published"]["model_type"]) == ("llama", "llama")
    assert next(model.parameters()).dtype == torch.bfloat16
    assert not model.training


def test_a_hash_stands_for_everything_that_decides_what_a_target_says(
    own: Path, published: Path
) -> None:
    assert model_sha256(own) == folder_sha256(own)
    first = model_sha256(published)
    (published / "README.md").write_text("a card")
    assert model_sha256(published) == first
    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    assert model_sha256(published) != first


def test_drafts_load_by_the_same_rules(
    own: Path, published: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    draft = TextDraft(TextDraftConfig(decoder=SMALL), tokenizer)
    save_model(tmp_path / "draft", draft, tokenizer, {"seed": 8})
    found, _, meta = load_draft(tmp_path / "draft", placement=Placement(precision="bfloat16"))
    assert (found.name, meta["seed"]) == ("text", 8)
    assert next(found.parameters()).dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="own: holds a target, need a draft"):
        load_draft(own)
    with pytest.raises(CheckpointError, match="holds the target llama, need a draft"):
        load_draft(published)
    with pytest.raises(UsageError, match="written by train-draft, takes no prompt"):
        load_draft(tmp_path / "draft", prompt="llava_v0")


def test_a_tokenizer_comes_without_the_weights(
    own: Path,
    published: Path,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "read_tensors", lambda *_: pytest.fail("weights were read"))
    for folder in (own, published):
        assert tokenizer_json(target_tokenizer(folder)) == tokenizer_json(tokenizer)


def test_drafts_and_options_of_others_are_refused(
    own: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    save_model(tmp_path / "d", TextDraft(TextDraftConfig(decoder=SMALL), tokenizer), tokenizer, {})
    with pytest.raises(CheckpointError, match="holds a draft, need a target"):
        load_target(tmp_path / "d")
    with pytest.raises(UsageError, match="takes no question, tokenizer"):
        load_target(own, question="?", tokenizer=own)
    with pytest.raises(UsageError, match="4bit is for published 7B"):
        load_target(own, placement=Placement(precision="4bit"))
