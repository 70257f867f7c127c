"""Training of the tiny target."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from egotriad.alignment.train_target import TargetTraining, bag_of_words, train_target
from egotriad.alignment.training import Trained
from egotriad.manifests import Clip
from egotriad.manifests.errors import EvaluationError, UsageError
from egotriad.models.decoder import DecoderConfig
from egotriad.models.target_tiny import TinyTargetConfig
from egotriad.models.tokenizer import answer_text

SMALL = TinyTargetConfig(
    decoder=DecoderConfig(hidden_size=32, intermediate_size=64, layers=2, heads=2),
    tower_widths=(8, 16, 24),
)
QUICK = TargetTraining(
    tower_steps=60,
    tower_batch=16,
    tower_learning_rate=1e-2,
    decoder_steps=100,
    decoder_batch=16,
    decoder_learning_rate=6e-3,
)


def of_split(clips: list[Clip], split: str) -> list[Clip]:
    return [clip for clip in clips if clip.split == split]


def train(clips: list[Clip], config: TargetTraining = QUICK, **options: object) -> Trained:
    return train_target(clips, config, model_config=SMALL, **options)


def test_a_target_learns_to_narrate_recordings_it_has_not_seen(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = toy_clips(48)
    losses: dict[str, list[float]] = {"tower": [], "decoder": []}
    trained = train(
        of_split(clips, "train"),
        progress=lambda stage, step, steps, loss: losses[stage].append(loss),
    )
    for stage, steps in (("tower", 60), ("decoder", 100)):
        assert len(losses[stage]) == steps
        assert sum(losses[stage][-10:]) < 0.5 * sum(losses[stage][:10])
    held_out = of_split(clips, "test")
    inputs = torch.stack([trained.model.prepare(clip, clip.event_spans[1]) for clip in held_out])
    said = [answer_text(trained.tokenizer, ids) for ids in trained.model.greedy(inputs, 16)]
    right = [text == clip.narration for text, clip in zip(said, held_out, strict=True)]
    assert sum(right) >= 0.9 * len(right)
    assert len(set(said)) == 4


def test_training_is_determined_by_its_seed(toy_clips: Callable[[int], list[Clip]]) -> None:
    clips = of_split(toy_clips(8), "train")
    quick = replace(QUICK, tower_steps=3, decoder_steps=3)
    one, two = train(clips, quick), train(iter(clips), quick)
    other = train(clips, replace(quick, seed=1))
    weights = [trained.model.stored_weights() for trained in (one, two, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["feature_adaptor.bias"], weights[2]["feature_adaptor.bias"])
    assert one.meta == two.meta


def test_the_tower_is_frozen_while_the_decoder_learns(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = of_split(toy_clips(8), "train")
    short, long = (
        train(clips, replace(QUICK, tower_steps=3, decoder_steps=steps)).model.stored_weights()
        for steps in (0, 5)
    )
    for name in short:
        assert torch.equal(short[name], long[name]) == name.startswith("visual_tower.")


def test_meta_says_what_was_seen_and_what_was_left_out(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = of_split(toy_clips(8), "train")
    damaged = [
        replace(clips[0], narration=None),
        replace(clips[1], events=None),
        replace(clips[2], event_spans=()),
    ]
    meta = train([*damaged, *clips[3:]], replace(QUICK, tower_steps=1, decoder_steps=1)).meta
    assert meta["trained_on"] == {
        "wearers": ["w0", "w1"],
        "recordings": ["rec0", "rec1"],
        "licences": ["own"],
        "clips": 5,
        "rejected": {"no-events": 2, "no-narration": 1},
    }
    assert meta["training"]["tower_steps"] == 1
    assert set(meta["losses"]) == {"tower", "decoder"}


def test_held_out_clips_are_refused(toy_clips: Callable[[int], list[Clip]]) -> None:
    with pytest.raises(EvaluationError, match="is of the test split; a target trains on the train"):
        train(of_split(toy_clips(24), "test"))


def test_nothing_to_learn_from_is_an_error_that_says_why(
    toy_clips: Callable[[int], list[Clip]],
) -> None:
    clips = [replace(clip, narration=None) for clip in toy_clips(3)]
    with pytest.raises(EvaluationError, match=r"can train a target \(3 x no-narration\)"):
        train(clips)
    with pytest.raises(EvaluationError, match=r"\(there are none\)"):
        train([])


def test_settings_that_cannot_train_are_refused(toy_clips: Callable[[int], list[Clip]]) -> None:
    with pytest.raises(UsageError, match="tower_batch: got 0, need 2 or more"):
        TargetTraining(tower_batch=0)
    with pytest.raises(EvaluationError, match=r"decoder: loss is (nan|inf) at step \d+; lower its"):
        train(toy_clips(8), replace(QUICK, tower_steps=0, decoder_learning_rate=1e30))


def test_only_words_that_tell_clips_apart_are_predicted() -> None:
    words = bag_of_words(["C walks.", "C walks slowly.", "C sits, slowly!"])
    assert words.tolist() == [[0, 0, 1], [0, 1, 1], [1, 1, 0]]  # sits, slowly, walks; never "c"
    with pytest.raises(EvaluationError, match="share all their words"):
        bag_of_words(["C walks."] * 3)
