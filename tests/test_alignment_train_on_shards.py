"""Target, its texts and drafts from a build on disk, each bound to what it was made from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from egotriad.alignment.draft_shape import DraftShape
from egotriad.alignment.target_outputs import TargetOutput, cache_targets, read_target_outputs
from egotriad.alignment.train_cli import train_draft as train_draft_command
from egotriad.alignment.train_draft import DraftTraining, train_draft, train_draft_on_shards
from egotriad.alignment.train_target import TargetTraining, train_target_on_shards
from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, EvaluationError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import shards_sha256
from egotriad.models.folder import check_same_tokenizer, folder_sha256, load_model
from egotriad.models.tokenizer import train_tokenizer

TARGET = TargetTraining(tower_steps=2, decoder_steps=2)
DRAFT = DraftTraining(steps=2)


def test_every_artefact_names_what_it_was_made_from(
    tmp_path: Path,
    toy_clips: Callable[..., list[Clip]],
    write_build: Callable[[Sequence[Clip], Path], Path],
) -> None:
    shards = write_build(toy_clips(24), tmp_path / "shards")
    target, texts, draft = tmp_path / "target", tmp_path / "texts.parquet", tmp_path / "draft"
    train_target_on_shards(shards, target, TARGET)
    outputs = cache_targets(shards, target, texts, max_new_tokens=5)
    train_draft_on_shards(shards, target, texts, draft, DRAFT)

    assert len(outputs) == 24 * 3
    assert {row.split for row in outputs} == {"train", "test"}
    assert read_target_outputs(texts) == outputs
    assert outputs.meta["target_sha256"] == folder_sha256(target)

    _, tokenizer, meta = load_model(target)
    model, draft_tokenizer, draft_meta = load_model(draft)
    check_same_tokenizer(tokenizer, draft_tokenizer)
    assert (model.kind, model.name) == ("draft", "imu")
    seen = ["rec0", "rec1", "rec2", "rec3"]
    assert meta["trained_on"]["recordings"] == draft_meta["trained_on"]["recordings"] == seen
    assert meta["trained_on"]["shards_sha256"] == shards_sha256(shards)
    assert draft_meta["trained_on"]["shards_sha256"] == shards_sha256(shards)
    assert draft_meta["trained_on"]["target_sha256"] == folder_sha256(target)
    assert draft_meta["trained_on"]["target_outputs_sha256"] == sha256_file(texts)


def test_texts_of_another_target_or_build_train_no_draft(
    tmp_path: Path,
    toy_clips: Callable[..., list[Clip]],
    write_build: Callable[[Sequence[Clip], Path], Path],
) -> None:
    shards = write_build(toy_clips(8), tmp_path / "shards")
    others = write_build(toy_clips(24), tmp_path / "others")
    target, other, texts = tmp_path / "target", tmp_path / "other", tmp_path / "texts.parquet"
    train_target_on_shards(shards, target, TARGET)
    train_target_on_shards(shards, other, TargetTraining(tower_steps=2, decoder_steps=3))
    cache_targets(shards, target, texts, max_new_tokens=5)
    with pytest.raises(EvaluationError, match="made with other shards"):
        train_draft_on_shards(others, target, texts, tmp_path / "draft", DRAFT)
    with pytest.raises(CheckpointError, match="made with other target"):
        train_draft_on_shards(shards, other, texts, tmp_path / "draft", DRAFT)
    assert not (tmp_path / "draft").exists()


def test_the_command_line_says_what_a_draft_is_made_of(
    tmp_path: Path,
    toy_clips: Callable[..., list[Clip]],
    shared: Callable[[str], Path],
    write_build: Callable[[Sequence[Clip], Path], Path],
) -> None:
    weights = shared("real/limu_bert_weights") / "pretrain_base_hhar_20_120.pt"
    shards = write_build(toy_clips(24), tmp_path / "shards")
    target, texts, draft = tmp_path / "target", tmp_path / "texts.parquet", tmp_path / "draft"
    train_target_on_shards(shards, target, TARGET)
    cache_targets(shards, target, texts, max_new_tokens=5)
    words = ["--shards", str(shards), "--target", str(target), "--outputs", str(texts)]
    words += ["--out", str(draft), "--steps", "2", "--hidden-size", "32", "--layers", "2"]
    parts = ["--pooler", "mean", "--pooler-factor", "6", "--projector", "linear"]
    assert train_draft_command([*words, *parts]) == 0
    model, _, _ = load_model(draft)
    twin, _, _ = load_model(draft / "text-only")
    assert model.config.pooler.kind == "mean"  # type: ignore[attr-defined]
    assert model.config.decoder == twin.config.decoder
    assert twin.config.tokens == model.tokens == 2  # type: ignore[attr-defined]
    published = ["--encoder", "limu_bert", "--encoder-weights", str(weights)]
    published += ["--encoder-option", "samples=60", "--no-twin"]
    assert train_draft_command([*words, *published]) == 0
    model, _, meta = load_model(draft)
    assert model.config.encoder == "limu_bert"  # type: ignore[attr-defined]
    assert meta["encoder_weights"]["sha256"] == sha256_file(weights)
    assert train_draft_command([*words, "--encoder-option", "sample=60"]) == 2


def test_a_published_encoder_keeps_its_weights_through_training(
    tmp_path: Path, toy_clips: Callable[..., list[Clip]], shared: Callable[[str], Path]
) -> None:
    weights = shared("real/limu_bert_weights") / "pretrain_base_hhar_20_120.pt"
    shape = DraftShape(encoder="limu_bert", encoder_weights=weights, encoder_option=("samples=60",))
    encoder = shape.loaded_encoder()
    assert encoder is not None
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tokenizer = train_tokenizer(["C walks.", "USER: What is the wearer doing? ASSISTANT:"])
    clips = [clip for clip in toy_clips(24) if clip.split == "train"]
    rows = [
        TargetOutput(
            window_id=clip.window_id,
            span_index=index,
            recording=clip.recording,
            wearer=clip.wearer,
            split=clip.split,
            output_ids=(5, 6, 2),
            text="",
            finish_reason="eos",
        )
        for clip in clips
        for index in range(len(clip.event_spans))
    ]
    config = DraftTraining(steps=2, learning_rate=0.1)
    trained = train_draft(
        clips, rows, tokenizer, config, model_config=shape.imu(), encoder=encoder
    ).model
    for name, value in trained.encoder.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(value, before[name])
