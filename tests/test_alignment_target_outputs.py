"""The target's own texts, their file, and how good they are."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.target_outputs import (
    TargetOutput,
    generate_outputs,
    read_target_outputs,
    write_target_outputs,
)
from egotriad.alignment.target_quality import label_of, target_quality
from egotriad.manifests import Clip, Narration
from egotriad.manifests.errors import CheckpointError, EvaluationError
from egotriad.models.decoder import DecoderConfig
from egotriad.models.seeding import torch_stream
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import answer_text, train_tokenizer

META = {
    "shards_sha256": "aa",
    "target_sha256": "bb",
    "tokenizer_sha256": "cc",
    "max_new_tokens": 4,
    "rejected": {},
}


@pytest.fixture
def target() -> tuple[TinyTarget, PreTrainedTokenizerFast]:
    tokenizer = train_tokenizer(["C walks.", "USER: What is the wearer doing? ASSISTANT:"])
    config = TinyTargetConfig(
        decoder=DecoderConfig(hidden_size=16, intermediate_size=16, heads=2), tower_widths=(4, 8, 8)
    )
    with torch_stream(0, "target"):
        model = TinyTarget(config, tokenizer)
        with torch.no_grad():
            model.decoder.get_input_embeddings().weight.mul_(20)
    return model.eval(), tokenizer


def output(clip: Clip, text: str, span_index: int = 1) -> TargetOutput:
    return TargetOutput(
        window_id=clip.window_id,
        span_index=span_index,
        recording=clip.recording,
        wearer=clip.wearer,
        split=clip.split,
        output_ids=(5,) * len(text.split()) + (2,),
        text=text,
        finish_reason="eos",
    )


def test_every_span_of_every_clip_gets_the_targets_greedy_text(
    target: tuple[TinyTarget, PreTrainedTokenizerFast], toy_clips: Callable[[int], list[Clip]]
) -> None:
    model, tokenizer = target
    clips = toy_clips(5)
    rows = list(generate_outputs(clips, model, tokenizer, max_new_tokens=4, batch=4))
    assert [(row.window_id, row.span_index) for row in rows] == [
        (clip.window_id, index) for clip in clips for index in range(3)
    ]
    for clip in clips:
        inputs = torch.stack([model.prepare(clip, span) for span in clip.event_spans])
        expected = model.greedy(inputs, 4)
        found = [row for row in rows if row.window_id == clip.window_id]
        assert [list(row.output_ids) for row in found] == expected
        assert [row.text for row in found] == [answer_text(tokenizer, ids) for ids in expected]
        assert {row.finish_reason for row in found} == {"length"}
        assert {(row.recording, row.wearer, row.split) for row in found} == {
            (clip.recording, clip.wearer, clip.split)
        }


def test_a_text_that_ends_by_itself_says_so(
    target: tuple[TinyTarget, PreTrainedTokenizerFast], toy_clips: Callable[[int], list[Clip]]
) -> None:
    model, tokenizer = target
    clips = toy_clips(1)
    model.eos_id = next(generate_outputs(clips, model, tokenizer)).output_ids[0]
    row = next(generate_outputs(clips, model, tokenizer))
    assert row.finish_reason == "eos"
    assert len(row.output_ids) == 1


def test_clips_the_target_cannot_see_are_counted_and_skipped(
    target: tuple[TinyTarget, PreTrainedTokenizerFast], toy_clips: Callable[[int], list[Clip]]
) -> None:
    clips = toy_clips(2)
    rejected: Counter[str] = Counter()
    blind = [replace(clips[0], events=None), clips[1]]
    rows = list(generate_outputs(blind, *target, max_new_tokens=1, rejected=rejected))
    assert {row.window_id for row in rows} == {clips[1].window_id}
    assert rejected == {"no-events": 1}


def test_rows_and_meta_survive_the_file_byte_for_byte(
    tmp_path: Path, toy_clips: Callable[[int], list[Clip]]
) -> None:
    clip = toy_clips(1)[0]
    rows = (output(clip, "C wäscht ab."), replace(output(clip, ""), wearer=None))
    for name in ("a.parquet", "b.parquet"):
        write_target_outputs(tmp_path / name, rows, META)
    read = read_target_outputs(tmp_path / "a.parquet")
    assert read.rows == rows
    assert tuple(read) == rows
    assert len(read) == 2
    assert read.meta == META
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_outputs_of_other_shards_or_another_target_are_refused(tmp_path: Path) -> None:
    write_target_outputs(tmp_path / "o.parquet", (), META)
    outputs = read_target_outputs(tmp_path / "o.parquet")
    outputs.check_belongs_to(shards_sha256="aa", target_sha256="bb", tokenizer_sha256="cc")
    with pytest.raises(EvaluationError, match=r"other shards \(sha256 aa, need xx\)"):
        outputs.check_belongs_to(shards_sha256="xx")
    with pytest.raises(CheckpointError, match=r"other target \(sha256 bb, need xx\)"):
        outputs.check_belongs_to(target_sha256="xx")


def test_a_file_that_holds_no_target_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_target_outputs(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_target_outputs(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(EvaluationError, match="is no target output file"):
        read_target_outputs(tmp_path / "other.parquet")


def labelled(clip: Clip, text: str, label: str, split: str) -> Clip:
    narrations = (
        Narration(t_us=0, text="C waits.", annotation_id="wait:1"),
        Narration(t_us=1_500_000, text=text, annotation_id=f"{label}:7"),
    )
    return replace(clip, narration=text, narrations=narrations, split=split)


def test_accuracy_is_the_share_of_texts_that_name_the_clips_label(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = toy_clips(9)
    training = [
        labelled(clips[0], "C walks.", "walk", "train"),
        labelled(clips[1], "C turns left quickly.", "left", "train"),
        labelled(clips[2], "C turns left.", "left", "train"),
        labelled(clips[3], "C turns left.", "walk", "train"),  # one strange narration
        labelled(clips[8], "C turns left.", "left", "train"),
    ]
    judged = [
        labelled(clips[4], "C strolls.", "walk", "test"),
        labelled(clips[5], "C goes.", "walk", "test"),
        labelled(clips[6], "C turns.", "left", "test"),
        labelled(clips[7], "C turns.", "left", "test"),
    ]
    outputs = [
        output(judged[0], "C walks."),  # known as it is
        output(judged[1], "c walks slowly."),  # known without its last word
        output(judged[2], "C turns left."),  # the commonest meaning counts
        output(judged[3], "C flies away."),  # unknown
        output(judged[3], "C turns left.", span_index=0),  # not the evaluation span
        output(training[0], "C walks."),  # not the split
    ]
    quality = target_quality(outputs, [*training, *judged], split="test")
    assert quality.accuracy == 0.75
    assert quality.confusion == {"left": {"": 1, "left": 1}, "walk": {"walk": 2}}
    assert (quality.clips, quality.distinct_texts) == (4, 4)
    assert quality.mean_tokens == (3 + 4 + 4 + 4) / 4
    assert quality.ended == 1.0


def test_without_labels_there_is_no_accuracy(toy_clips: Callable[[int], list[Clip]]) -> None:
    clips = toy_clips(24)
    assert label_of(clips[0]) is None
    outputs = [output(clip, clip.narration) for clip in clips]
    quality = target_quality(outputs, clips, split="test")
    assert quality.accuracy is None
    assert quality.confusion == {}
    assert quality.distinct_texts == 4
