"""Model folders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.manifests.plugins import DRAFTS, TARGETS
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.folder import folder_sha256, load_model, save_model
from egotriad.models.seeding import torch_stream
from egotriad.models.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"])
META = {"trained_on": {"wearers": ["w1"], "recordings": ["r1"]}, "training": {"seed": 3}}


def small_model(plugins: object, name: str, *, tie: bool = True) -> ConditionedLM:
    model_class = plugins.load(name)
    decoder = DecoderConfig(hidden_size=16, intermediate_size=16, heads=2, tie_embeddings=tie)
    with torch_stream(0, name):
        return model_class(replace(model_class.small(), decoder=decoder), TOKENIZER).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "draft"
    save_model(folder, small_model(DRAFTS, "imu"), TOKENIZER, META)
    return folder


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize(
    ("plugins", "name"),
    [
        (plugins, name)
        for plugins in (TARGETS, DRAFTS)
        for name in plugins.names()
        if issubclass(plugins.load(name), ConditionedLM)
    ],
)
def test_a_loaded_model_gives_bit_identical_logits(
    plugins: object, name: str, tie: bool, tmp_path: Path, toy_clips: Callable[[int], list[Clip]]
) -> None:
    model = small_model(plugins, name, tie=tie)
    clip = toy_clips(1)[0]
    inputs = model.prepare(clip, clip.event_spans[1])[None]
    model.fit(inputs)
    save_model(tmp_path / "m", model, TOKENIZER, META)
    before = torch.random.get_rng_state()
    loaded, tokenizer, meta = load_model(tmp_path / "m")
    assert torch.equal(before, torch.random.get_rng_state())
    ids = torch.tensor([[259, 260, 2]])
    with torch.no_grad():
        expected = model.teacher_forced(model.prefix(inputs), ids)
        found = loaded.teacher_forced(loaded.prefix(inputs), ids)
    assert torch.equal(found, expected)
    assert loaded.config == model.config
    assert not loaded.training
    assert tokenizer.encode("C walks") == TOKENIZER.encode("C walks")
    assert meta["trained_on"] == META["trained_on"]
    assert set(meta["versions"]) == {"egotriad", "python", "torch", "transformers"}


def test_whoever_may_read_the_settings_may_read_the_weights(saved: Path) -> None:
    modes = {(saved / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1
    assert not list(saved.glob("*.mode"))


def test_equal_models_make_equal_folders_and_another_one_another_hash(
    saved: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "again", small_model(DRAFTS, "imu"), TOKENIZER, META)
    assert folder_sha256(tmp_path / "again") == folder_sha256(saved)
    save_model(tmp_path / "again", small_model(DRAFTS, "imu"), TOKENIZER, {})
    assert folder_sha256(tmp_path / "again") != folder_sha256(saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "models"]


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(UsageError, match="holds no model"):
        save_model(tmp_path, small_model(DRAFTS, "text"), TOKENIZER, {})
    assert (tmp_path / "precious.txt").exists()


def test_a_failed_save_leaves_the_older_model_whole(saved: Path) -> None:
    before = folder_sha256(saved)
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_model(saved, small_model(DRAFTS, "imu"), TOKENIZER, {"loss": float("nan")})
    assert folder_sha256(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["draft"]


def test_missing_unexpected_and_misshapen_weights_are_all_named(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    weights["stranger"] = weights.pop("projector.0.bias")
    weights["projector.2.bias"] = torch.zeros(7)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_model(saved)
    for part in (
        "does not fit draft imu",
        "missing projector.0.bias",
        "unexpected stranger",
        "projector.2.bias is [7], need [16]",
    ):
        assert part in str(error.value)


def test_a_damaged_weight_file_is_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_model(saved)


def test_a_folder_without_its_files_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json, model\.safetensors, tokenizer\.json"):
        load_model(tmp_path / "nowhere")
    (saved / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json missing"):
        folder_sha256(saved)


def test_a_swapped_tokenizer_is_noticed(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tokenizer = train_tokenizer(["C sits.", "USER: What is the wearer doing? ASSISTANT:"])
    save_model(other, DRAFTS.load("text")(DRAFTS.load("text").Config(), tokenizer), tokenizer, {})
    (saved / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match="not the tokenizer this model was saved with"):
        load_model(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 3}, "schema_version 3, .*need schema_version 1 or 2"),
        ({"kind": "oracle"}, "kind 'oracle'"),
        ({"name": "imuu"}, "no draft is called 'imuu'"),
        ({"config": {"template": "x"}}, "missing fields"),
    ],
)
def test_a_config_of_something_else_is_refused(
    saved: Path, changes: dict[str, object], message: str
) -> None:
    edit_config(saved, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_a_config_that_is_no_record_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("[1, 2")
    with pytest.raises(CheckpointError, match=r"not a model's config\.json"):
        load_model(saved)
