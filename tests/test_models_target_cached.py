"""Recorded texts in the place of a target: the same rounds as with the target itself."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.alignment.target_outputs import TargetOutputs, generate_outputs
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import CheckpointError, ClipRejected, EvaluationError
from egotriad.models.decoder import DecoderConfig
from egotriad.models.seeding import torch_stream
from egotriad.models.target_cached import CachedTarget, ReplayState
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig
from egotriad.models.tokenizer import tokenizer_sha256, train_tokenizer

LONGEST = 9


@dataclass(frozen=True)
class Recorded:
    tokenizer: PreTrainedTokenizerFast
    target: TinyTarget
    outputs: TargetOutputs
    clips: list[Clip] = field(repr=False)

    def cached(self, **settings: object) -> CachedTarget:
        return CachedTarget(self.outputs, self.tokenizer, **{"max_new_tokens": LONGEST, **settings})


@pytest.fixture
def recorded(toy_clips: Callable[[int], list[Clip]]) -> Recorded:
    tokenizer = train_tokenizer(["C walks.", "USER: What is the wearer doing? ASSISTANT:"])
    small = DecoderConfig(hidden_size=32, intermediate_size=48, layers=1, heads=2)
    with torch_stream(0, "recorded"):
        target = TinyTarget(TinyTargetConfig(decoder=small), tokenizer).eval()
        with torch.no_grad():
            target.decoder.get_input_embeddings().weight.mul_(20)
    clips = toy_clips(4)
    rows = tuple(generate_outputs(clips, target, tokenizer, max_new_tokens=LONGEST))
    meta = {
        "shards_sha256": "s",
        "target_sha256": "t",
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "max_new_tokens": LONGEST,
    }
    return Recorded(tokenizer, target, TargetOutputs(rows, meta), clips)


@pytest.mark.parametrize("gamma", [1, 3, 8])
def test_rounds_against_recorded_texts_are_those_against_the_target(
    gamma: int, recorded: Recorded
) -> None:
    cached = recorded.cached(shards_sha256="s", target_sha256="t")
    for clip, other in zip(recorded.clips, recorded.clips[1:] + recorded.clips[:1], strict=True):
        span = clip.event_spans[1]
        live = recorded.target.state(recorded.target.prepare(clip, span)[None])
        replay = cached.state(cached.prepare(clip, span)[None])
        draft = recorded.target.prepare(other, other.event_spans[1])[None]
        runs = [
            speculate(
                state,
                DraftProposer(recorded.target.state(draft), cached.eos_id),
                gamma=gamma,
                max_new_tokens=LONGEST,
                eos_id=cached.eos_id,
            )
            for state in (live, replay)
        ]
        assert runs[0] == runs[1]
        assert runs[0].ids == plain_greedy(replay, max_new_tokens=LONGEST, eos_id=cached.eos_id)


def test_shorter_texts_are_the_beginnings_of_the_recorded_ones(recorded: Recorded) -> None:
    cached = recorded.cached(max_new_tokens=4)
    inputs = cached.prepare(recorded.clips[0], recorded.clips[0].event_spans[0])[None]
    assert cached.greedy(inputs, 4) == [inputs[0, :4].tolist()]


def test_nothing_is_known_behind_ids_that_were_not_said() -> None:
    state = ReplayState((5, 7, 2), vocabulary=9, eos_id=2)
    assert state.prefix_logits.argmax() == 5
    assert state.prefix_logits.softmax(-1)[5] == 1
    rows = state.feed([5, 6, 7])
    assert rows[0].argmax() == 7
    assert not rows[1:].any()  # all ids alike
    state.rollback(2)
    assert state.feed([7])[0].argmax() == 2
    assert not state.feed([2], keep=1).any()  # nothing follows an end
    assert state.length == 3
    with pytest.raises(ValueError, match="cannot roll back 4 ids"):
        state.rollback(4)


def test_a_text_that_was_cut_off_does_not_go_on(recorded: Recorded) -> None:
    state = ReplayState((5, 7), vocabulary=9, eos_id=2)
    with pytest.raises(EvaluationError, match="cut after 2 ids"):
        state.feed([5, 7])
    with pytest.raises(EvaluationError, match="cut after 9 ids, need 10"):
        recorded.cached(max_new_tokens=10)


def test_texts_made_under_other_settings_are_refused(recorded: Recorded) -> None:
    with pytest.raises(EvaluationError, match="other shards"):
        recorded.cached(shards_sha256="another")
    with pytest.raises(CheckpointError, match="other target"):
        recorded.cached(target_sha256="another")
    other = train_tokenizer(["quite another text"])
    with pytest.raises(CheckpointError, match="other tokenizer"):
        CachedTarget(recorded.outputs, other, max_new_tokens=4)


def test_spans_that_were_never_shown_are_rejected(recorded: Recorded) -> None:
    cached = recorded.cached()
    with pytest.raises(ClipRejected, match="no target output for the span at 7 us") as rejected:
        cached.prepare(recorded.clips[0], Span(7, 100))
    assert rejected.value.reason == "no-recorded-text"


def test_a_tree_is_answered_node_by_node_and_its_path_becomes_the_text() -> None:
    state = ReplayState((5, 7, 8, 2), vocabulary=9, eos_id=2)
    state.feed([5])
    rows = state.feed_tree([7, 6, 8], [-1, -1, 0])
    assert rows[0].argmax() == 8
    assert not rows[1].any()
    assert rows[2].argmax() == 2
    more = state.feed_tree([2], [2])
    assert not more.any()  # nothing follows an end
    state.keep_nodes([0, 2])
    assert state.length == 3
    assert state.feed_tree([2], [-1]).shape == (1, 9)
    state.keep_nodes([])
    assert state.length == 3


def test_several_texts_go_on_at_their_own_pace(recorded: Recorded) -> None:
    cached = recorded.cached()
    inputs = [cached.prepare(clip, clip.event_spans[0]) for clip in recorded.clips[:3]]
    together = cached.states(inputs)
    alone = [cached.state(one[None]) for one in inputs]
    assert torch.equal(together.prefix_logits, torch.stack([one.prefix_logits for one in alone]))
    fed = [one[:n].tolist() for one, n in zip(inputs, (2, 0, 4), strict=True)]
    rows = together.feed(fed)
    assert together.lengths == [2, 0, 4]
    assert rows.shape[:2] == (3, 4)
    assert torch.equal(rows[0, :2], alone[0].feed(fed[0]))
    together.rollback([1, 0, 3])
    assert together.lengths == [1, 0, 1]
    assert torch.equal(together.feed([fed[0][1:], [], []])[0, 0], rows[0, 1])
