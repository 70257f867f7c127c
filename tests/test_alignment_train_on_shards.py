"""Target, its texts and drafts from a build on disk, each bound to what it was made from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from egotriad.alignment.target_outputs import cache_targets, read_target_outputs
from egotriad.alignment.train_draft import DraftTraining, train_draft_on_shards
from egotriad.alignment.train_target import TargetTraining, train_target_on_shards
from egotriad.manifests import Clip
from egotriad.manifests.errors import CheckpointError, EvaluationError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import TableWriter, shards_sha256
from egotriad.models.folder import check_same_tokenizer, folder_sha256, load_model

TARGET = TargetTraining(tower_steps=2, decoder_steps=2)
DRAFT = DraftTraining(steps=2)


def write_build(clips: list[Clip], out: Path) -> Path:
    """The smallest folder that `read_shards` takes for a complete build."""
    lines = []
    for split in sorted({clip.split for clip in clips}):
        name = f"{split}-00000-of-00001.parquet"
        some = [clip for clip in clips if clip.split == split]
        for table, folder in (("windows", "data"), ("events", "events")):
            (out / folder).mkdir(parents=True, exist_ok=True)
            path = out / folder / name
            with TableWriter(path, table, builder="test 1", config_hash="c") as writer:
                if table == "windows":
                    writer.write_windows(some, [None] * len(some), list(range(len(some))))
                else:
                    for clip in some:
                        writer.write_events(clip)
        lines.append({"config": "windows", "split": split, "path": f"data/{name}"})
    (out / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (out / "SHA256SUMS").write_text(f"{sha256_file(out / 'manifest.jsonl')}  manifest.jsonl\n")
    return out


def test_every_artefact_names_what_it_was_made_from(
    tmp_path: Path, toy_clips: Callable[..., list[Clip]]
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
    tmp_path: Path, toy_clips: Callable[..., list[Clip]]
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
