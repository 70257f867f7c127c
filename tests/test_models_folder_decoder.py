"""Model folders that name a published decoder, hold weights in shards, or are of version 1."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.manifests.errors import CheckpointError, DownloadError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.models import folder as folders
from egotriad.models import room
from egotriad.models.adapters import AdapterConfig, adapter_of, attach_adapter
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.decoder_files import open_decoder
from egotriad.models.draft_imu import ImuDraft, ImuDraftConfig
from egotriad.models.draft_text import TextDraft
from egotriad.models.folder import folder_sha256, load_model, save_model
from egotriad.models.placement import Placement
from egotriad.models.seeding import torch_stream
from egotriad.models.tokenizer import tokenizer_json, train_tokenizer
from egotriad.models.weights import weight_files, write_weights

TOKENIZER = train_tokenizer(["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"])
SHAPE = DecoderConfig(hidden_size=32, intermediate_size=48, layers=2, heads=4, tie_embeddings=False)
IDS = torch.tensor([[259, 260, 2]] * 2)
FLOAT32 = Placement(precision="float32")


def write_llama(folder: Path, seed: int = 0) -> Path:
    """A decoder as its authors would publish it."""
    folder.mkdir(parents=True)
    with torch_stream(seed, "llama"):
        decoder = build_decoder(SHAPE, len(TOKENIZER))
    save_file(dict(decoder.state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(decoder.config.to_json_string())
    (folder / "tokenizer.json").write_text(tokenizer_json(TOKENIZER))
    return folder


def draft_on(name: str | Path, *, adapter: bool = True) -> ImuDraft:
    """An IMU draft on a published decoder, adapted or frozen."""
    files = open_decoder(name)
    with torch_stream(1, "draft"):
        model = ImuDraft(
            ImuDraftConfig(decoder=files.config), TOKENIZER, decoder=files.load(FLOAT32)
        )
        model.base = files.base()
        if adapter:
            attach_adapter(model.decoder, AdapterConfig(rank=2, alpha=4.0))
            for weight_name, weight in model.decoder.named_parameters():
                if ".lora_B." in weight_name:
                    torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


@torch.no_grad()
def logits(model: ConditionedLM) -> Tensor:
    inputs = torch.arange(2 * 6 * 150.0).reshape(2, 6, 150).sin()
    return model.teacher_forced(model.prefix(inputs), IDS)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "llama-tiny")


def test_an_adapted_draft_is_saved_without_the_decoder_and_loaded_the_same(
    llama: Path, tmp_path: Path
) -> None:
    model = draft_on(llama)
    model.save_pretrained(tmp_path / "draft", meta={"seed": 3})
    folder = tmp_path / "draft"
    assert not any(name.startswith("decoder.") for name in load_file(folder / "model.safetensors"))
    record = json.loads((folder / "config.json").read_text())
    assert record["base_decoder"] == model.base.to_json()
    assert record["base_decoder"]["name"] == "llama-tiny"
    assert record["adapter"] == {"rank": 2, "alpha": 4.0}
    assert str(tmp_path) not in (folder / "config.json").read_text()
    merged = ImuDraft.from_pretrained(folder)
    apart = ImuDraft.from_pretrained(folder, merge=False)
    assert torch.equal(logits(apart), logits(model))
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=0)
    assert (adapter_of(merged.decoder), merged.base) == (None, None)
    assert (adapter_of(apart.decoder), apart.base) == (AdapterConfig(rank=2, alpha=4.0), model.base)
    assert merged.meta["seed"] == 3
    state, full = merged.state(torch.zeros(1, 6, 150)), apart.state(torch.zeros(1, 6, 150))
    torch.testing.assert_close(state.feed([259, 260]), full.feed([259, 260]), atol=1e-5, rtol=0)


def test_saved_whole_it_needs_no_decoder_beside_it(llama: Path, tmp_path: Path) -> None:
    model = draft_on(llama)
    expected = logits(model)
    model.save_pretrained(tmp_path / "draft", whole=True)
    for file in llama.iterdir():
        file.unlink()
    loaded, _, _ = load_model(tmp_path / "draft")
    torch.testing.assert_close(logits(loaded), expected, atol=1e-5, rtol=0)
    assert not (tmp_path / "draft" / "decoder").exists()


def test_what_was_loaded_apart_can_be_saved_again(llama: Path, tmp_path: Path) -> None:
    model = draft_on(llama)
    model.save_pretrained(tmp_path / "one")
    ImuDraft.from_pretrained(tmp_path / "one", merge=False).save_pretrained(tmp_path / "two")
    assert folder_sha256(tmp_path / "one") == folder_sha256(tmp_path / "two")
    assert torch.equal(logits(load_model(tmp_path / "two", merge=False)[0]), logits(model))


def test_a_frozen_decoder_is_named_and_not_copied(llama: Path, tmp_path: Path) -> None:
    model = draft_on(llama, adapter=False)
    save_model(tmp_path / "draft", model, TOKENIZER, {})
    loaded, _, _ = load_model(tmp_path / "draft")
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.base == model.base
    assert not (tmp_path / "draft" / "adapter_model.safetensors").exists()


def test_a_decoder_that_is_gone_or_another_one_is_named(llama: Path, tmp_path: Path) -> None:
    draft_on(llama).save_pretrained(tmp_path / "draft")
    link = tmp_path / "draft" / "decoder"
    link.unlink()
    with pytest.raises(CheckpointError, match=r"decoder 'llama-tiny' \(sha256 .*ln -sfn FOLDER"):
        load_model(tmp_path / "draft")
    link.symlink_to(write_llama(tmp_path / "other", seed=1))
    with pytest.raises(CheckpointError, match=r"is not the decoder llama-tiny .*\(sha256"):
        load_model(tmp_path / "draft")
    link.unlink()
    link.symlink_to(llama.rename(tmp_path / "moved"))
    load_model(tmp_path / "draft")


def test_a_decoder_of_the_hub_is_found_in_its_cache_at_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = write_llama(tmp_path / "models--some--llama" / "snapshots" / "abc123")
    asked: list[tuple[str, str | None]] = []

    def snapshot(name: str, *, revision: str | None = None, **_: object) -> str:
        asked.append((name, revision))
        return str(cached)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = draft_on("some/llama")
    assert (model.base.name, model.base.revision) == ("some/llama", "abc123")
    model.save_pretrained(tmp_path / "draft")
    assert not (tmp_path / "draft" / "decoder").exists()
    torch.testing.assert_close(
        logits(load_model(tmp_path / "draft")[0]), logits(model), atol=1e-5, rtol=0
    )
    assert asked == [("some/llama", None), ("some/llama", "abc123")]

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(DownloadError, match=r"decoder 'some/llama': not here.*\(no route\)"):
        load_model(tmp_path / "draft")


def test_large_models_are_written_in_shards_with_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "write_weights", partial(write_weights, shard_bytes=20_000))
    model = TextDraft(TextDraft.Config(decoder=SHAPE), TOKENIZER).eval()
    save_model(tmp_path / "draft", model, TOKENIZER, {})
    names = weight_files(tmp_path / "draft")
    assert names[-1] == "model.safetensors.index.json"
    assert len(names) > 3
    assert not (tmp_path / "draft" / "model.safetensors").exists()
    loaded, _, _ = load_model(tmp_path / "draft")
    assert all(
        torch.equal(weight, model.stored_weights()[name])
        for name, weight in loaded.stored_weights().items()
    )
    before = folder_sha256(tmp_path / "draft")
    save_file({"x": torch.zeros(1)}, tmp_path / "draft" / names[0])
    assert folder_sha256(tmp_path / "draft") != before
    (tmp_path / "draft" / names[0]).unlink()
    with pytest.raises(CheckpointError, match="shards are missing: model-00001"):
        load_model(tmp_path / "draft")


def test_folders_of_version_1_load_and_keep_their_hash(tmp_path: Path) -> None:
    model = TextDraft(TextDraft.Config(decoder=SHAPE), TOKENIZER).eval()
    folder = tmp_path / "draft"
    save_model(folder, model, TOKENIZER, {"seed": 3})
    record = json.loads((folder / "config.json").read_text())
    old = {name: record[name] for name in record if name not in ("base_decoder", "adapter")}
    (folder / "config.json").write_text(json.dumps(old | {"schema_version": 1}))
    (folder / "README.md").unlink()
    loaded, _, meta = load_model(folder)
    assert meta["seed"] == 3
    assert torch.equal(loaded.vectors, model.vectors)  # type: ignore[attr-defined]
    files = ("config.json", "model.safetensors", "tokenizer.json")
    sums = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in files)
    assert folder_sha256(folder) == hashlib.sha256(sums.encode()).hexdigest()


def test_too_little_memory_is_said_before_anything_is_made_or_read(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft_on(llama).save_pretrained(tmp_path / "draft", whole=True)
    monkeypatch.setattr(room, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(folders, "fill_exactly", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(CheckpointError, match=r"draft imu takes .* GB in memory, 0\.0 GB are free"):
        load_model(tmp_path / "draft")


def test_a_model_of_another_class_or_nowhere_is_named(tmp_path: Path) -> None:
    TextDraft(TextDraft.Config(decoder=SHAPE), TOKENIZER).save_pretrained(tmp_path / "draft")
    with pytest.raises(CheckpointError, match="holds a TextDraft, need a ImuDraft"):
        ImuDraft.from_pretrained(tmp_path / "draft")
    assert isinstance(ConditionedLM.from_pretrained(str(tmp_path / "draft")), TextDraft)
    with pytest.raises(CheckpointError, match="no such folder, and no hub id"):
        ImuDraft.from_pretrained(tmp_path / "nowhere")


def test_a_decoder_of_another_shape_than_the_config_is_refused() -> None:
    wrong: LlamaForCausalLM = build_decoder(replace(SHAPE, layers=1), len(TOKENIZER))
    with pytest.raises(UsageError, match=r"\(32, 1, \d+\), the config says \(32, 2, \d+\)"):
        ImuDraft(ImuDraftConfig(decoder=SHAPE), TOKENIZER, decoder=wrong)


def test_an_adapter_that_a_record_names_must_be_there(llama: Path, tmp_path: Path) -> None:
    draft_on(llama).save_pretrained(tmp_path / "draft")
    (tmp_path / "draft" / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="not the settings of an adapter"):
        load_model(tmp_path / "draft")
