"""An acceptance that is put in comes out again, and all passes are made for it."""

import math

import pytest
import torch
from torch import Tensor

from egotriad.alignment.calibrated import CalibratedProposer, ScriptedState, random_text
from egotriad.alignment.speculate import plain_greedy, speculate
from egotriad.manifests.errors import UsageError

IDS = 50


class Nothing:
    """A state without a model: rows of zeros, and what it was fed."""

    def __init__(self) -> None:
        self.prefix_logits = torch.zeros(IDS)
        self.held: list[int] = []
        self.feeds: list[int] = []

    @property
    def length(self) -> int:
        return len(self.held)

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        self.held += ids
        self.feeds.append(len(ids))
        return torch.zeros(keep or len(ids), IDS)

    def rollback(self, n: int) -> None:
        assert 0 <= n <= len(self.held)
        del self.held[len(self.held) - n :]


def test_a_scripted_state_says_its_text_whatever_is_rolled_back() -> None:
    text = random_text(30, IDS, seed=0)
    assert min(text) >= 3
    assert random_text(30, IDS, seed=0) == text != random_text(30, IDS, seed=1)
    inner = Nothing()
    state = ScriptedState(inner, text)
    assert plain_greedy(state, max_new_tokens=20, eos_id=-1) == text[:20]
    assert inner.feeds == [1] * 19
    state.rollback(12)
    assert state.feed([1, 2, 3], keep=2).argmax(-1).tolist() == text[9:11]
    assert state.length == 10
    assert not inner.prefix_logits.any()
    state.feed(list(range(25)))  # beyond the script nothing is forced
    assert not torch.isinf(state.feed([1])).any()


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 3), (0.8, 5), (0.9, 8)])
def test_the_acceptance_that_comes_out_is_the_one_put_in(alpha: float, gamma: int) -> None:
    text = random_text(4000 + gamma, IDS, seed=0)
    draft = Nothing()
    proposer = CalibratedProposer(draft, text, alpha, seed=1, vocabulary=IDS)
    target = Nothing()
    done = speculate(
        ScriptedState(target, text), proposer, gamma=gamma, max_new_tokens=4000, eos_id=-1
    )
    assert done.ids == text[:4000]
    matched = sum(r.matched for r in done.rounds)
    compared = matched + sum(r.matched < len(r.drafted) for r in done.rounds)
    assert abs(matched / compared - alpha) < 3 * math.sqrt(alpha * (1 - alpha) / compared)
    # One pass of the target a round; of the draft a step per drafted id, but for the first round.
    assert len(target.feeds) == len(done.rounds)
    assert len(draft.feeds) == sum(len(r.drafted) for r in done.rounds) - 1
    assert set(draft.feeds) == {1, 2}


def test_a_certain_and_a_hopeless_draft() -> None:
    for alpha, rounds in ((1.0, 5), (0.0, 20)):
        text = random_text(24, IDS, seed=0)
        proposer = CalibratedProposer(Nothing(), text, alpha, seed=1, vocabulary=IDS)
        state = ScriptedState(Nothing(), text)
        done = speculate(state, proposer, gamma=3, max_new_tokens=20, eos_id=-1)
        assert (done.ids, len(done.rounds)) == (text[:20], rounds)
    with pytest.raises(UsageError, match=r"alpha: got 1\.5, need 0 <= alpha <= 1"):
        CalibratedProposer(Nothing(), [], 1.5, seed=0, vocabulary=IDS)
