"""Drafts that begin with a published decoder: chosen, checked, trained, saved, measured."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.cli import benchmark_stages, evaluate_acceptance
from egotriad.alignment.draft_shape import DraftShape
from egotriad.alignment.start_decoder import DecoderChoice
from egotriad.alignment.target_outputs import TargetOutput, cache_targets
from egotriad.alignment.train_cli import train_draft as train_draft_command
from egotriad.alignment.train_draft import DraftTraining, train_draft
from egotriad.alignment.train_target import TargetTraining, train_target_on_shards
from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, TokenizerMismatch, UsageError
from egotriad.models import room
from egotriad.models.adapters import AdapterConfig, adapter_of
from egotriad.models.decoder import DecoderConfig, build_decoder
from egotriad.models.decoder_files import DecoderFiles
from egotriad.models.draft_imu import ImuDraftConfig
from egotriad.models.draft_text import TextDraftConfig
from egotriad.models.folder import load_model
from egotriad.models.seeding import torch_stream
from egotriad.models.systems import system_config
from egotriad.models.tokenizer import load_tokenizer, tokenizer_json, train_tokenizer

SHAPE = DecoderConfig(
    hidden_size=48, intermediate_size=96, layers=2, heads=4, kv_heads=4, tie_embeddings=False
)
TEXTS = ["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"]


def write_llama(
    folder: Path, tokenizer: PreTrainedTokenizerFast, shape: DecoderConfig = SHAPE
) -> Path:
    """Hub `JackFram/llama-160m`'s shape made small, with the mistakes of its config."""
    folder.mkdir()
    with torch_stream(0, "llama"):
        decoder = build_decoder(shape, len(tokenizer))
    save_file(dict(decoder.state_dict()), folder / "model.safetensors")
    values = json.loads(decoder.config.to_json_string()) | {"bos_token_id": 0, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text(tokenizer_json(tokenizer))
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS)


@pytest.fixture
def llama(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    return write_llama(tmp_path / "llama", tokenizer)


def outputs_of(clips: list[Clip]) -> list[TargetOutput]:
    return [
        TargetOutput(
            window_id=clip.window_id,
            span_index=index,
            recording=clip.recording,
            wearer=clip.wearer,
            split=clip.split,
            output_ids=(5, 6, 7, 2),
            text="",
            finish_reason="eos",
        )
        for clip in clips
        for index in range(len(clip.event_spans))
    ]


@pytest.mark.parametrize("training", ["full", "lora", "frozen"])
def test_training_changes_of_the_decoder_what_was_chosen(
    training: str,
    llama: Path,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[..., list[Clip]],
) -> None:
    published = load_file(llama / "model.safetensors")
    start = DecoderChoice(
        name=str(llama), training=training, adapter=AdapterConfig(rank=4, alpha=8.0)
    ).load(tokenizer)
    clips = [clip for clip in toy_clips(8) if clip.split == "train"]
    config = DraftTraining(steps=3, learning_rate=0.05)
    trained = train_draft(clips, outputs_of(clips), tokenizer, config, start=start)
    model = trained.model
    assert model.config.decoder.hidden_size == 48
    assert trained.meta["decoder"]["training"] == training
    assert trained.meta["decoder"]["sha256"] == start.base.sha256
    assert "bos_token_id is 0" in trained.meta["decoder"]["mistakes"][0]
    names = [name.replace("base_layer.", "") for name in model.decoder.state_dict()]
    found = dict(zip(names, model.decoder.state_dict().values(), strict=True))
    same = {name: torch.equal(found[name], weight) for name, weight in published.items()}
    assert set(same.values()) == {training != "full"}
    adapter = AdapterConfig(rank=4, alpha=8.0) if training == "lora" else None
    assert adapter_of(model.decoder) == adapter
    assert (model.base is None) == (training == "full")
    if training == "lora":
        grown = [bool(weight.any()) for name, weight in found.items() if ".lora_B." in name]
        assert all(grown)
    before = trained.meta["losses"]["distillation"]
    again = train_draft(
        clips,
        outputs_of(clips),
        tokenizer,
        config,
        start=DecoderChoice(
            name=str(llama), training=training, adapter=AdapterConfig(rank=4, alpha=8.0)
        ).load(tokenizer),
    )
    assert again.meta["losses"]["distillation"] == before


@pytest.mark.parametrize(("training", "rate"), [("full", 1e-4), ("lora", 5e-4), ("frozen", 2e-3)])
def test_published_weights_are_trained_more_gently_unless_a_rate_is_given(
    training: str,
    rate: float,
    llama: Path,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[..., list[Clip]],
) -> None:
    clips = [clip for clip in toy_clips(8) if clip.split == "train"]

    def recorded(config: DraftTraining) -> float:
        start = DecoderChoice(name=str(llama), training=training).load(tokenizer)
        trained = train_draft(clips, outputs_of(clips), tokenizer, config, start=start)
        return float(trained.meta["training"]["learning_rate"])

    assert recorded(DraftTraining(steps=1)) == rate
    assert recorded(DraftTraining(steps=1, learning_rate=0.01)) == 0.01
    fresh = train_draft(clips, outputs_of(clips), tokenizer, DraftTraining(steps=1))
    assert fresh.meta["training"]["learning_rate"] == 2e-3


def test_another_vocabulary_is_refused_with_its_ids_before_any_weight_is_read(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecoderFiles, "load", lambda *_: pytest.fail("weights were read"))
    other = train_tokenizer(["Quite another text, of other words."], vocab_size=len(tokenizer))
    folder = write_llama(tmp_path / "other", other)
    with pytest.raises(
        TokenizerMismatch, match=r"decoder .*other: \d+ of .* mean different pieces"
    ):
        DecoderChoice(name=str(folder)).load(tokenizer)


def test_mistral_like_ids_do_not_pass_for_llamas(
    tmp_path: Path, shared: Callable[[str], Path]
) -> None:
    target = load_tokenizer(shared("real/llama2_tokenizer") / "tokenizer.json")
    narrow = replace(SHAPE, hidden_size=8, intermediate_size=8, layers=1)
    folder = write_llama(tmp_path / "swapped", target, narrow)
    DecoderChoice(name=str(folder)).load(target)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    walk, stand = '"▁walk": 6686', '"▁stand": 2317'
    assert walk in text
    assert stand in text
    swapped = text.replace(walk, '"▁walk": 2317').replace(stand, '"▁stand": 6686')
    (folder / "tokenizer.json").write_text(swapped, encoding="utf-8")
    with pytest.raises(TokenizerMismatch, match="32000 ids, pieces sha256"):
        DecoderChoice(name=str(folder)).load(target)


def test_config_mistakes_are_corrected_loudly(
    llama: Path, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        start = DecoderChoice(name=str(llama)).load(tokenizer)
    assert caplog.text.count("bos_token_id is 0, LLaMA's is 1; 1 is used") == 1
    assert start.decoder.config.bos_token_id == 1
    assert len(start.mistakes) == 2


def test_weights_of_a_name_must_be_what_it_names(
    llama: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(
        CheckpointError, match=r"not JackFram/llama-160m: hidden_size 48 \(need 768"
    ):
        DecoderChoice(name="llama-160m", weights=llama).load(tokenizer)
    with pytest.raises(UsageError, match="is a path already"):
        DecoderChoice(name=str(llama), weights=llama).load(tokenizer)
    named = DecoderChoice(name="me/mine", weights=llama).load(tokenizer)
    assert (named.base.name, named.base.revision) == ("me/mine", None)


def test_training_that_does_not_fit_is_refused_before_any_weight_is_read(
    llama: Path,
    tokenizer: PreTrainedTokenizerFast,
    toy_clips: Callable[..., list[Clip]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = [clip for clip in toy_clips(8) if clip.split == "train"]
    parameters = sum(weight.numel() for weight in load_file(llama / "model.safetensors").values())
    monkeypatch.setattr(room, "free_bytes", lambda device: 8 * parameters)
    frozen = DecoderChoice(name=str(llama), training="frozen").load(tokenizer)
    with pytest.raises(UsageError, match=r"GB of activations\), .* are free on cpu; lower --batch"):
        train_draft(clips, outputs_of(clips), tokenizer, DraftTraining(batch=64), start=frozen)
    monkeypatch.setattr(DecoderFiles, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(UsageError, match=r"GB of gradients .*--train-decoder lora or frozen"):
        DecoderChoice(name=str(llama)).load(tokenizer)
    with pytest.raises(UsageError, match="training takes about"):
        train_draft(
            clips,
            outputs_of(clips),
            tokenizer,
            model_config=ImuDraftConfig(decoder=DecoderConfig(hidden_size=960, layers=8)),
        )


def test_texts_longer_than_the_decoders_positions_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[..., list[Clip]]
) -> None:
    short = replace(SHAPE, max_positions=20)
    start = DecoderChoice(name=str(write_llama(tmp_path / "short", tokenizer, short)))
    clips = [clip for clip in toy_clips(8) if clip.split == "train"]
    with pytest.raises(UsageError, match="the decoder has 20 positions, a prompt of"):
        train_draft(clips, outputs_of(clips), tokenizer, start=start.load(tokenizer))


@pytest.mark.gpu
def test_training_on_a_gpu_follows_that_on_the_cpu(
    llama: Path, tokenizer: PreTrainedTokenizerFast, toy_clips: Callable[..., list[Clip]]
) -> None:
    clips = [clip for clip in toy_clips(8) if clip.split == "train"]
    losses = []
    for device in ("cpu", "cuda"):
        config = DraftTraining(steps=5, jitter=0, device=device)
        start = DecoderChoice(name=str(llama), training="full").load(tokenizer, device=device)
        trained = train_draft(
            clips,
            outputs_of(clips),
            tokenizer,
            config,
            draft="text",
            model_config=TextDraftConfig(),
            start=start,
        )
        losses.append(trained.meta["losses"]["distillation"])
        assert trained.model.device.type == "cpu"
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train_decoder": "lora"}, "random without --decoder"),
        ({"decoder_weights": Path("x")}, "say with --decoder"),
        ({"decoder": "llama-160m", "layers": 2}, "--decoder has its own: leave --layers out"),
        ({"system": "primus-llama", "heads": 8}, "--system has its own: leave --heads out"),
        ({"system": "primus-llama", "pooler": "mean"}, "leave --pooler out"),
        ({"system": "llasa-7b"}, "is not trained here"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    flags: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        DraftShape(**flags)


def test_a_system_is_its_parts_and_begins_with_its_decoder(tmp_path: Path) -> None:
    shape = DraftShape(system="limu-bert-llama", train_decoder="lora", lora_rank=8)
    assert shape.imu() == system_config("limu-bert-llama")
    assert shape.decoder_choice() == DecoderChoice(
        name="vicuna-68m", training="lora", adapter=AdapterConfig(rank=8)
    )
    other = DraftShape(system="limu-bert-llama", decoder="llama-160m", decoder_weights=tmp_path)
    assert other.decoder_choice() == DecoderChoice(name="llama-160m", weights=tmp_path)
    assert DraftShape().decoder_choice() is None


@pytest.fixture
def world(
    tmp_path: Path,
    toy_clips: Callable[..., list[Clip]],
    write_build: Callable[[Sequence[Clip], Path], Path],
) -> dict[str, Path]:
    """Shards, a target, its texts, and a decoder of its vocabulary."""
    shards = write_build(toy_clips(24), tmp_path / "shards")
    target, texts = tmp_path / "target", tmp_path / "texts.parquet"
    train_target_on_shards(shards, target, TargetTraining(tower_steps=2, decoder_steps=2))
    cache_targets(shards, target, texts, max_new_tokens=5)
    decoder = write_llama(tmp_path / "llama-160m-small", load_tokenizer(target / "tokenizer.json"))
    return {"shards": shards, "target": target, "outputs": texts, "decoder": decoder}


def test_limu_bert_before_an_adapted_decoder_is_trained_saved_evaluated_and_timed(
    world: dict[str, Path],
    tmp_path: Path,
    shared: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("egotriad.alignment.stage_checks.MISSED_S", 1.0)  # on a busy machine
    weights = shared("real/limu_bert_weights") / "pretrain_base_hhar_20_120.pt"
    draft = tmp_path / "draft"
    sources = [word for role in ("shards", "target") for word in (f"--{role}", str(world[role]))]
    texts = ["--outputs", str(world["outputs"])]
    parts = ["--encoder", "limu_bert", "--encoder-weights", str(weights)]
    parts += ["--encoder-option", "samples=60", "--pooler", "mean", "--pooler-factor", "6"]
    parts += ["--decoder", str(world["decoder"]), "--train-decoder", "lora", "--lora-rank", "4"]
    words = [*sources, *texts, *parts, "--steps", "2", "--licence", "mit", "--out", str(draft)]
    assert train_draft_command(words) == 0

    model, _, meta = load_model(draft, merge=False)
    twin, _, _ = load_model(draft / "text-only", merge=False)
    assert adapter_of(model.decoder) == adapter_of(twin.decoder) == AdapterConfig(rank=4)
    assert model.config.decoder == twin.config.decoder == SHAPE
    assert model.base == twin.base
    assert meta["encoder_weights"]["licence"] == "MIT"
    assert meta["decoder"]["name"] == "llama-160m-small"
    card = (draft / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in card
    assert "encoder: pretrain_base_hhar_20_120.pt: MIT" in card
    sizes = {path.name: path.stat().st_size for path in draft.glob("*.safetensors")}
    decoder_size = (world["decoder"] / "model.safetensors").stat().st_size
    assert sizes["adapter_model.safetensors"] < decoder_size / 2

    capsys.readouterr()
    report = tmp_path / "report"
    judged = [*sources, *texts, "--draft", str(draft), "--out", str(report), "--json"]
    assert evaluate_acceptance([*judged, "--max-new-tokens", "5"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["models"]["draft"]["decoder"]["training"] == "lora"
    timed = [*sources, "--draft", str(draft), "--out", str(tmp_path / "stages"), "--clips", "2"]
    assert benchmark_stages(timed) == 0


def test_merged_the_draft_no_longer_needs_the_decoder(
    world: dict[str, Path], tmp_path: Path
) -> None:
    draft = tmp_path / "draft"
    words = [
        word for role in ("shards", "target", "outputs") for word in (f"--{role}", str(world[role]))
    ]
    words += ["--decoder", str(world["decoder"]), "--train-decoder", "lora", "--merge", "--no-twin"]
    assert train_draft_command([*words, "--steps", "2", "--out", str(draft)]) == 0
    world["decoder"].rename(tmp_path / "elsewhere")
    model, _, meta = load_model(draft)
    assert model.base is None
    assert meta["decoder"]["training"] == "lora"
    assert not (draft / "adapter_config.json").exists()
