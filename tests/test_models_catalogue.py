"""`egotriad models list|show|check`: what can be used, and what a file lacks before it is read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.plugins import DRAFTS, ENCODERS, TARGETS
from egotriad.models import check as checking
from egotriad.models import checkpoints
from egotriad.models.catalogue import KINDS, catalogue, entry
from egotriad.models.cli import models
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.folder import save_model
from egotriad.models.seeding import torch_stream
from egotriad.models.systems import SYSTEMS
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["USER: What is the wearer doing? ASSISTANT:"], vocab_size=290)


@pytest.fixture
def target(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    small = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)
    with torch_stream(0, "catalogue"):
        model = TinyTarget(TinyTargetConfig(decoder=small), tokenizer)
    save_model(tmp_path / "target", model, tokenizer, {})
    return tmp_path / "target"


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = models([*words, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out)


def test_every_plug_in_has_an_entry_and_every_entry_is_one() -> None:
    for plugins in (ENCODERS, DRAFTS, TARGETS):
        listed = {found.name for found in catalogue() if found.kind == plugins.noun}
        if plugins is DRAFTS:  # those that build a system are listed as that
            listed = listed - set(SYSTEMS) | {system.draft for system in SYSTEMS.values()}
        assert listed == set(plugins.names())
    names = [found.name for found in catalogue()]
    assert len(names) == len(set(names))
    assert not [found for found in catalogue() if found.about == "installed plug-in"]
    assert [found.kind for found in catalogue()] == sorted(
        (found.kind for found in catalogue()), key=KINDS.index
    )


@pytest.mark.parametrize("name", [e.name for e in catalogue() if e.kind == "encoder"])
def test_the_catalogues_encoder_sizes_are_those_of_the_modules(name: str) -> None:
    if entry(name).parameters is None:
        return
    encoder_class = ENCODERS.load(name)
    with torch.device("meta"):
        encoder = encoder_class(encoder_class.Config())
    assert sum(p.numel() for p in encoder.parameters()) == entry(name).parameters


@pytest.mark.parametrize("name", ["eventgpt", "video_llava"])
def test_the_catalogues_target_sizes_are_those_of_the_modules(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    target_class = TARGETS.load(name)
    assert issubclass(target_class, ConditionedLM)
    with torch.device("meta"):
        model = target_class(target_class.Config(), tokenizer)
    vocabulary = 2 * (32_000 - len(tokenizer)) * 4096
    assert sum(p.numel() for p in model.parameters()) + vocabulary == entry(name).parameters


def test_list_and_show_name_size_licence_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = asked(capsys, "list", "--kind", "decoder")
    assert code == 0
    assert len(found["models"]) == 16
    row = next(row for row in found["models"] if row["name"] == "vicuna-68m")
    assert row["parameters"] == 68_030_208
    assert (row["licence"], row["source"]) == ("Apache-2.0", "hub double7/vicuna-68m")
    code, shown = asked(capsys, "show", "eventgpt")
    assert shown["parameters"] == 7_079_684_096
    assert models(["show", "eventgpt"]) == 0
    assert "14.2 GB in bfloat16" in capsys.readouterr().out
    assert models(["show", "eventgbt"]) == 2
    assert "no model is called 'eventgbt'" in capsys.readouterr().err
    assert models(["list"]) == 0
    assert "tinyllama-1.1b" in capsys.readouterr().out


def test_listing_imports_no_torch() -> None:
    script = (
        "import sys\nfrom egotriad.models.cli import models\nmodels(['list'])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_of_this_package_is_checked_without_reading_its_weights(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "read_tensors", lambda *_: pytest.fail("weights were read"))
    code, found = asked(capsys, "check", str(target))
    assert code == 0
    assert found["fits"]
    assert found["has_room"]
    assert (found["kind"], found["name"]) == ("target", "tiny")
    assert found["needed_bytes"] == 4 * found["parameters"]


def test_what_does_not_fit_is_listed_and_fails(
    target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(target / "model.safetensors")
    del weights["feature_adaptor.bias"]
    weights["surplus"] = torch.zeros(1)
    weights["feature_adaptor.weight"] = torch.zeros(3, 3)
    weights["decoder.model.embed_tokens.weight"] = torch.zeros(999, 32)
    save_file(weights, target / "model.safetensors")
    code, found = asked(capsys, "check", str(target))
    assert code == 1
    assert found["missing"] == ["feature_adaptor.bias"]
    assert found["unexpected"] == ["surplus"]
    assert [line.partition(" ")[0] for line in found["misshapen"]] == [
        "decoder.model.embed_tokens.weight",
        "feature_adaptor.weight",
    ]
    assert models(["check", str(target)]) == 1
    out = capsys.readouterr().out
    assert "missing: feature_adaptor.bias" in out
    assert "does not fit" in out


def test_a_decoder_that_lies_elsewhere_is_not_missing(
    target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(target / "model.safetensors")
    own = {key: like for key, like in weights.items() if not key.startswith("decoder.")}
    assert 0 < len(own) < len(weights)
    save_file(own, target / "model.safetensors")
    code, found = asked(capsys, "check", str(target))
    assert code == 1
    assert set(found["missing"]) == weights.keys() - own.keys()
    record = json.loads((target / "config.json").read_text())
    record["base_decoder"] = {"name": "a/b", "revision": None, "sha256": "0", "licence": None}
    (target / "config.json").write_text(json.dumps(record))
    code, found = asked(capsys, "check", str(target))
    assert code == 0
    assert found["warnings"] == ["the decoder's weights are not here but in a/b"]


def test_another_tokenizer_and_too_little_memory_are_said(
    target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = train_tokenizer(["USER: what? ASSISTANT:", "words"], vocab_size=290)
    (target / "tokenizer.json").write_text(tokenizer_json(other))
    monkeypatch.setattr(checking, "free_bytes", lambda device: 10)
    assert models(["check", str(target)]) in (1, 3)
    out = capsys.readouterr().out
    assert "not the one this model was saved with" in out
    assert "too little memory: choose another --device, or --precision 4bit" in out


def test_an_encoders_file_is_checked_under_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder_class = ENCODERS.load("primus")
    weights = encoder_class(encoder_class.Config()).state_dict()
    file = tmp_path / "primus.pt"
    torch.save({"state_dict": {f"imu_encoder.{k}": v for k, v in weights.items()}}, file)
    code, found = asked(capsys, "check", str(file), "--as", "primus")
    assert code == 0
    assert found["parameters"] == 1_376_204
    torch.save({"state_dict": {}}, file)
    assert models(["check", str(file), "--as", "primus"]) == 1
    assert "missing: imu_encoder." in capsys.readouterr().err
    assert models(["check", str(file), "--as", "conv"]) == 2
    assert "no published file" in capsys.readouterr().err
    assert models(["check", str(file), "--as", "primus", "--precision", "4bit"]) == 2
    assert models(["check", str(tmp_path)]) == 1
    assert "as its authors publish it" in capsys.readouterr().err
