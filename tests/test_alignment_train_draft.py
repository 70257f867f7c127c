"""Distillation of drafts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from egotriad.alignment.loader_memory import pad_ids
from egotriad.alignment.target_outputs import TargetOutput
from egotriad.alignment.train_draft import DraftTraining, train_draft
from egotriad.alignment.training import Trained
from egotriad.manifests import Clip
from egotriad.manifests.errors import EvaluationError, UnknownPlugin
from egotriad.manifests.plugins import DRAFTS
from egotriad.models.decoder import DecoderConfig
from egotriad.models.tokenizer import answer_ids, train_tokenizer

TOKENIZER = train_tokenizer(
    [
        *("C walks forward.", "C turns left quickly.", "C sits down slowly.", "C stirs the pot."),
        "USER: What is the wearer doing? ASSISTANT:",
    ]
)
DECODER = DecoderConfig(hidden_size=32, intermediate_size=64, heads=2)
QUICK = DraftTraining(steps=100, batch=16, learning_rate=8e-3)


def outputs_of(clips: list[Clip]) -> list[TargetOutput]:
    """What a perfect target would say: the narration, on every span."""
    return [
        TargetOutput(
            window_id=clip.window_id,
            span_index=index,
            recording=clip.recording,
            wearer=clip.wearer,
            split=clip.split,
            output_ids=tuple(answer_ids(TOKENIZER, clip.narration)),
            text=clip.narration,
            finish_reason="eos",
        )
        for clip in clips
        for index in range(len(clip.event_spans))
    ]


def distil(clips: list[Clip], draft: str, config: DraftTraining = QUICK) -> Trained:
    model_config = replace(DRAFTS.load(draft).Config(), decoder=DECODER)
    return train_draft(
        clips, outputs_of(clips), TOKENIZER, config, draft=draft, model_config=model_config
    )


def next_token_matches(trained: Trained, clips: list[Clip]) -> float:
    """Share of right next-token guesses on the clips' texts, teacher-forced."""
    ids, mask = pad_ids([answer_ids(TOKENIZER, clip.narration) for clip in clips])
    inputs = torch.stack([trained.model.prepare(clip, clip.event_spans[1]) for clip in clips])
    with torch.no_grad():
        guesses = trained.model.teacher_forced(trained.model.prefix(inputs), ids).argmax(-1)
    return (guesses == ids)[mask].float().mean().item()


def test_an_imu_draft_guesses_held_out_texts_better_than_a_text_only_one(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = toy_clips(48)
    training = [clip for clip in clips if clip.split == "train"]
    held_out = [clip for clip in clips if clip.split == "test"]
    imu, text = (distil(training, draft) for draft in ("imu", "text"))
    assert next_token_matches(imu, held_out) > 0.95
    # Without the sensor the verb is a guess among four, and so is what follows it in part.
    assert next_token_matches(text, held_out) < 0.9


@pytest.mark.parametrize("draft", DRAFTS.names())
def test_distillation_lowers_the_loss_and_is_determined_by_its_seed(
    draft: str, toy_clips: Callable[[int], list[Clip]]
) -> None:
    clips = toy_clips(16)
    config = replace(QUICK, steps=12)
    shape: dict[str, Any] = {"draft": draft, "model_config": DRAFTS.load(draft).small()}
    losses: list[float] = []
    one = train_draft(
        clips,
        outputs_of(clips),
        TOKENIZER,
        config,
        progress=lambda stage, step, steps, loss: losses.append(loss),
        **shape,
    )
    assert losses[-1] < 0.7 * losses[0]
    assert not one.model.training
    two = train_draft(iter(clips), outputs_of(clips), TOKENIZER, config, **shape)
    other = train_draft(clips, outputs_of(clips), TOKENIZER, replace(config, seed=1), **shape)
    weights = [trained.model.stored_weights() for trained in (one, two, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    norm = "decoder.model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(weights[0][norm], weights[2][norm])


def test_events_are_not_needed_to_distil(toy_clips: Callable[[int], list[Clip]]) -> None:
    clips = toy_clips(8)
    blind = [replace(clip, events=None) for clip in clips]
    config = replace(QUICK, steps=2)
    one, two = (distil(some, "imu", config).model.stored_weights() for some in (clips, blind))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_clips_without_imu_or_target_text_are_left_out_and_counted(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = toy_clips(8)
    some = [replace(clips[0], imu=None), *clips[1:]]
    trained = train_draft(
        some, outputs_of(clips)[:-1], TOKENIZER, replace(QUICK, steps=1), draft="imu"
    )
    assert trained.meta["trained_on"] == {
        "wearers": ["w0", "w1"],
        "recordings": ["rec0", "rec1"],
        "licences": ["own"],
        "clips": 6,
        "rejected": {"no-imu": 1, "no-target-text": 1},
    }


def test_held_out_clips_and_unknown_drafts_are_refused(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    held_out = [clip for clip in toy_clips(24) if clip.split == "test"]
    with pytest.raises(EvaluationError, match="the imu draft trains on the train split only"):
        distil(held_out, "imu")
    with pytest.raises(EvaluationError, match=r"train the text draft \(4 x no-target-text\)"):
        train_draft(toy_clips(4), [], TOKENIZER, QUICK, draft="text")
    with pytest.raises(UnknownPlugin, match="did you mean imu"):
        train_draft(toy_clips(4), [], TOKENIZER, QUICK, draft="imi")
