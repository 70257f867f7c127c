"""Chronos encoders give what the library's own pipelines give, from the same folders."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from egotriad.manifests.errors import CheckpointError, MissingDependency, UsageError
from egotriad.models.chronos_families import T5Family
from egotriad.models.encoder_chronos import BOLT_TINY, Chronos, ChronosConfig
from egotriad.models.seeding import torch_stream

chronos = pytest.importorskip("chronos")

SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
PATCHED = {
    "context_length": 512,
    "input_patch_size": 16,
    "input_patch_stride": 16,
    "quantiles": [0.1, 0.5, 0.9],
    "use_reg_token": True,
}


def t5() -> Any:
    settings = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "n_tokens": 512,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "context_length": 512,
        "prediction_length": 64,
        "num_samples": 20,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    config = T5Config(**SIZES, vocab_size=512, chronos_config=settings)
    return T5ForConditionalGeneration(config)


def bolt() -> Any:
    config = T5Config(
        **SIZES,
        chronos_config={**PATCHED, "prediction_length": 64},
        chronos_pipeline_class="ChronosBoltPipeline",
    )
    return chronos.chronos_bolt.ChronosBoltModelForForecasting(config)


def two() -> Any:
    config = chronos.chronos2.Chronos2CoreConfig(
        **SIZES,
        chronos_config={
            **PATCHED,
            "output_patch_size": 16,
            "use_arcsinh": True,
            "max_output_patches": 4,
        },
        chronos_pipeline_class="Chronos2Pipeline",
        architectures=["Chronos2Model"],
    )
    return chronos.Chronos2Model(config)


FAMILIES = pytest.mark.parametrize(
    ("make", "per_channel"), [(t5, 201), (bolt, 14), (two, 15)], ids=["t5", "bolt", "chronos-2"]
)


def saved(make: Callable[[], Any], folder: Path) -> Path:
    with torch_stream(0, "chronos"):
        make().save_pretrained(folder)
    return folder


def windows(count: int) -> torch.Tensor:
    return torch.randn(count, 6, 200, generator=torch.Generator().manual_seed(0))


@FAMILIES
def test_features_are_those_of_the_librarys_pipeline(
    make: Callable[[], Any], per_channel: int, tmp_path: Path
) -> None:
    folder = saved(make, tmp_path / "checkpoint")
    pipeline = chronos.BaseChronosPipeline.from_pretrained(folder, dtype=torch.float32)
    inputs = windows(2)
    if make is two:
        expected = torch.stack(pipeline.embed(inputs)[0])
    else:
        expected = pipeline.embed(inputs.flatten(0, 1))[0].unflatten(0, (2, 6))
    assert expected.shape == (2, 6, per_channel, 32)
    separate = Chronos.load(folder, ChronosConfig(channels="separate"))
    torch.testing.assert_close(separate(inputs).unflatten(1, (6, -1)), expected)
    assert separate.contract.tokens == 6 * per_channel
    joined = Chronos.load(folder)
    assert (joined.contract.tokens, joined.width) == (per_channel, 192)
    torch.testing.assert_close(joined(inputs), expected.transpose(1, 2).flatten(2))
    assert joined.contract.longest == 512


@FAMILIES
def test_a_saved_config_builds_the_same_encoder_without_the_checkpoint(
    make: Callable[[], Any], per_channel: int, tmp_path: Path
) -> None:
    loaded = Chronos.load(saved(make, tmp_path / "checkpoint"))
    architecture = json.loads(json.dumps(dict(loaded.config.architecture)))
    assert not any(key.startswith("_") for key in architecture)
    again = Chronos(ChronosConfig(architecture=architecture)).eval()
    again.load_state_dict(loaded.state_dict())
    inputs = windows(1)
    assert torch.equal(again(inputs), loaded(inputs))
    assert len({t.data_ptr() for t in loaded.state_dict().values()}) == len(loaded.state_dict())


@FAMILIES
def test_missing_and_unexpected_keys_of_a_folder_are_listed(
    make: Callable[[], Any], per_channel: int, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(make, tmp_path / "checkpoint")
    state = load_file(folder / "model.safetensors")
    removed = next(key for key in sorted(state) if key.startswith("encoder.block.1."))
    state["encoder.block.2.extra"] = state.pop(removed)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        Chronos.load(folder)
    assert f"missing: {removed};" in str(error.value)
    assert "unexpected: encoder.block.2.extra" in str(error.value)


def test_the_trainable_t5_reads_ids_and_the_others_pass_gradients_to_the_input() -> None:
    assert Chronos(ChronosConfig(trainable=True)).train().model.training
    assert not Chronos(ChronosConfig()).train().model.training
    inputs = windows(1).requires_grad_()
    Chronos(ChronosConfig(trainable=True)).eval()(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.any()


def test_sizes_are_those_of_the_public_checkpoints() -> None:
    bolt_tiny = chronos.chronos_bolt.ChronosBoltModelForForecasting(T5Config(**BOLT_TINY))
    assert sum(p.numel() for p in bolt_tiny.parameters()) == pytest.approx(8.65e6, abs=5e3)
    large = {
        "chronos_config": t5().config.chronos_config | {"n_tokens": 4096},
        "d_model": 1024,
        "d_kv": 64,
        "d_ff": 4096,
        "num_layers": 24,
        "num_heads": 16,
        "vocab_size": 4096,
    }
    with torch.device("meta"):
        encoder = T5Family(large)
    assert sum(p.numel() for p in encoder.parameters()) == 306_234_880


def test_what_is_no_chronos_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: not the config\.json of a Chronos"):
        Chronos.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="no chronos_config in it"):
        Chronos.load(tmp_path)
    with pytest.raises(UsageError, match=r"architecture of a FuturePipeline"):
        Chronos(ChronosConfig(architecture={"chronos_pipeline_class": "FuturePipeline"}))
    short = {**BOLT_TINY, "chronos_config": {**BOLT_TINY["chronos_config"], "context_length": 64}}
    with pytest.raises(UsageError, match="reads 64 samples, need 200"):
        Chronos(ChronosConfig(architecture=short))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importer = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "chronos":
            raise ImportError(name)
        return importer(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependency, match=r"pip install 'egotriad\[chronos\]'"):
        Chronos(ChronosConfig())
