"""Named systems: the published sizes, their parts, and drafts of the same parts at a small size."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from egotriad.manifests import Clip
from egotriad.manifests.errors import UnknownPlugin, UsageError
from egotriad.manifests.plugins import DRAFTS
from egotriad.models.cli import models
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import DECODERS
from egotriad.models.encoder_limu_bert import LimuBert
from egotriad.models.llama_tokenizer import folder_tokenizer
from egotriad.models.seeding import torch_stream
from egotriad.models.systems import SYSTEMS, system, system_config
from egotriad.models.tokenizer import train_tokenizer

SMALL = DecoderConfig(hidden_size=32, intermediate_size=48, layers=2, heads=2, max_positions=2048)
TRAINED = [name for name, parts in SYSTEMS.items() if not parts.published]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"])


def needs_library(name: str) -> None:
    if SYSTEMS[name].encoder == "chronos":
        pytest.importorskip("chronos")


def on_meta(name: str, tokenizer: PreTrainedTokenizerFast) -> ConditionedLM:
    needs_library(name)
    with torch.device("meta"):
        draft: ConditionedLM = DRAFTS.load(system(name).draft)(system_config(name), tokenizer)
    return draft


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_has_exactly_the_weights_the_catalogue_says(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    draft = on_meta(name, tokenizer)
    missing_ids = 2 * (32_000 - len(tokenizer)) * draft.config.decoder.hidden_size
    assert sum(p.numel() for p in draft.parameters()) + missing_ids == SYSTEMS[name].parameters


@pytest.mark.parametrize(
    ("name", "encoder", "projector", "tokens"),
    [
        ("llasa-7b", 51_552, 17_080_320, 120),
        ("llasa-13b", 51_552, 26_593_280, 120),
        ("limu-bert-llama", 51_552, 646_656, 15),
        ("limu-bert-x-llama", 44_352, 646_656, 20),
        ("primus-llama", 1_376_204, 984_576, 1),
        ("imu2clip-llama", 850_892, 984_576, 1),
        ("imagebind-llama", 19_600_384, 787_200, 1),
        ("chronos-llama", 3_453_312, 1_771_008, 14),
        ("sensorllm", 306_234_880, 20_980_736, 1206),
        ("onellm-7b", 620_615_683, 0, 32),
    ],
)
def test_its_parts_have_the_published_sizes(
    name: str, encoder: int, projector: int, tokens: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    draft = on_meta(name, tokenizer)
    assert sum(p.numel() for p in draft.encoder.parameters()) == encoder
    assert sum(p.numel() for p in draft.projector.parameters()) == projector
    assert draft.tokens == tokens


@pytest.mark.parametrize(
    ("hidden_size", "weights"), [(4096, 20_980_736), (3072, 17_833_984), (2048, 14_687_232)]
)
def test_sensorllms_projector_has_the_published_sizes(
    hidden_size: int, weights: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    pytest.importorskip("chronos")
    shape = replace(SMALL, hidden_size=hidden_size)
    with torch.device("meta"):
        draft = DRAFTS.load("imu")(system_config("sensorllm", decoder=shape), tokenizer)
    assert sum(p.numel() for p in draft.projector.parameters()) == weights


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "sensorllm"])
def test_a_small_one_decodes_alike_with_and_without_a_cache(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    needs_library(name)
    with torch_stream(0, name):
        draft = DRAFTS.load("imu")(system_config(name, decoder=SMALL), tokenizer).eval()
    shape = draft.encoder.contract.shape
    window = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    ids = [259, 7, 260, 12, 261]
    with torch.no_grad():
        full = draft.teacher_forced(draft.prefix(window), torch.tensor([ids]))[0]
    state = draft.state(window)
    cached = torch.cat([state.prefix_logits[None], state.feed(ids[:-1])])
    torch.testing.assert_close(cached, full, atol=1e-5, rtol=0)
    for forgotten in (1, 3):
        state.rollback(forgotten)
        again = state.feed(ids[-1 - forgotten : -1])
        torch.testing.assert_close(again, full[-forgotten:], atol=1e-5, rtol=0)


def test_systems_differ_in_what_they_say_only(
    tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[[int], list[Clip]]
) -> None:
    config = system_config("limu-bert-x-llama", decoder=SMALL, train_encoder=True)
    assert config.encoder_settings == {"trainable": True}
    assert config.template == DRAFTS.load("imu").Config().template
    draft = DRAFTS.load("imu")(config, tokenizer)
    clip = toy_clips(1)[0]
    assert draft.prepare(clip, clip.event_spans[1]).shape == (20, 6)
    assert system_config("llasa-13b").decoder == DECODERS["vicuna-13b"].config
    assert system_config("llasa-7b") == DRAFTS.load("llasa").Config()
    assert system_config("onellm-7b") == DRAFTS.load("onellm").Config()


def test_a_system_takes_published_weights_and_llamas_own_vocabulary(
    shared: Callable[[str], Path],
) -> None:
    weights = shared("real/limu_bert_weights/pretrain_base_hhar_20_120.pt")
    llama = folder_tokenizer(shared("real/llama2_tokenizer"))
    config = system_config("limu-bert-llama", decoder=SMALL)
    encoder = LimuBert.load(weights)
    with torch_stream(0, "real"):
        draft = DRAFTS.load("imu")(config, llama, encoder)
    assert torch.equal(
        draft.encoder.transformer.proj.weight,
        torch.load(weights, map_location="cpu")["transformer.proj.weight"],
    )
    draft.fit(torch.zeros(2, 120, 6))  # frozen with weights: allowed
    assert draft.decoder.config.vocab_size == 32_000
    with pytest.raises(UsageError, match="frozen, but no weights were loaded"):
        DRAFTS.load("imu")(config, llama).fit(torch.zeros(2, 120, 6))


def test_unknown_systems_and_pandagpt_are_told_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UnknownPlugin, match="no system is called 'lasa'; known: llasa-7b"):
        system_config("lasa")
    with pytest.raises(UsageError, match="no entry point for IMU"):
        system("PandaGPT-7B")
    assert models(["show", "pandagpt"]) == 2
    assert "imagebind-llama has its layout" in capsys.readouterr().err


def test_systems_are_listed_with_size_licence_and_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert models(["list", "--kind", "draft", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert set(SYSTEMS) < set(found)
    assert found["onellm-7b"]["parameters"] == 7_359_031_299
    assert found["llasa-7b"]["source"] == "hub BASH-Lab/LLaSA-7B"
    assert "counted with the decoder vicuna-68m" in found["primus-llama"]["needs"]
    assert "train-draft" not in found["llasa-7b"]["needs"]
    assert models(["show", "llasa-7b"]) == 0
    assert "13.5 GB in bfloat16" in capsys.readouterr().out
