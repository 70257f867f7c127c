from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.alignment.acceptance import Counts, metrics, walk
from egotriad.alignment.sampling import Sampling
from egotriad.alignment.schedules import Heuristic
from egotriad.alignment.speculate import (
    DraftProposer,
    Proposal,
    Speculation,
    plain,
    plain_greedy,
    speculate,
    verify_greedy,
)
from egotriad.manifests.errors import UsageError
from egotriad.models.state import DecoderState

EOS, NEVER, VOCABULARY = 2, -7, 64


@cache
def decoder(seed: int, noise: float = 0.0, vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    """A random 2-layer LLaMA of width 32; with noise, a draft that agrees with it in part."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    # Wide weights: texts that do not loop on one id.
                    weight.copy_(0.3 * torch.randn_like(weight))
            torch.manual_seed(seed + 1000)
            for weight in model.parameters():
                weight += noise * 0.3 * torch.randn_like(weight)
    return model


def state(seed: int, prefix: int, noise: float = 0.0, sequence: int = 0) -> DecoderState:
    """A decoder on a random prefix whose last four positions do not depend on its length."""
    rng = np.random.default_rng(sequence)
    tail = rng.standard_normal((1, 4, 32))
    head = np.random.default_rng((sequence, prefix)).standard_normal((1, prefix - 4, 32))
    embeddings = torch.tensor(np.concatenate([head, tail], axis=1), dtype=torch.float32)
    return DecoderState(decoder(seed, noise), embeddings)


class Script:
    """A target that says one text whatever it is fed, for closed forms."""

    def __init__(self, text: Sequence[int]) -> None:
        self._rows = torch.nn.functional.one_hot(torch.tensor([*text, 0]), VOCABULARY).float()
        self.prefix_logits: Tensor = self._rows[0]
        self.length = 0

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        self.length += len(ids)
        rows = torch.arange(self.length - len(ids) + 1, self.length + 1)
        return self._rows[rows.clamp(max=len(self._rows) - 1)]

    def rollback(self, n: int) -> None:
        assert 0 <= n <= self.length
        self.length -= n


class Calibrated:
    """Proposes the scripted id where `agrees` says so and a wrong one elsewhere."""

    def __init__(self, text: Sequence[int], agrees: Sequence[bool], eos_id: int) -> None:
        self._text, self._agrees, self._eos_id = text, agrees, eos_id

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        start, drafted = len(emitted), []
        for true, agree in zip(self._text[start:], self._agrees[start:], strict=True):
            if len(drafted) == gamma or drafted[-1:] == [self._eos_id]:
                break
            drafted.append(true if agree else (true + 1) % VOCABULARY)
        return Proposal(drafted)


def run(
    target: DecoderState, draft: DecoderState, *, gamma: int, limit: int, eos_id: int
) -> Speculation:
    return speculate(
        target, DraftProposer(draft, eos_id), gamma=gamma, max_new_tokens=limit, eos_id=eos_id
    )


def check_rounds(done: Speculation) -> None:
    """What holds for every round, whatever happened."""
    assert [i for r in done.rounds for i in r.emitted] == done.ids
    for r in done.rounds:
        assert r.drafted[: len(r.emitted) - 1] == r.emitted[:-1]
        assert len(r.emitted) in (r.matched, r.matched + 1)
        assert r.count.accepted == len(r.emitted) - 1


@pytest.mark.parametrize("gamma", range(1, 9))
def test_text_equals_plain_greedy_whatever_the_draft(gamma: int) -> None:
    for prefix, noise in ((9, 0.02), (9, 0.1), (5, 0.05)):
        target = state(1, 9)
        plain = plain_greedy(target, max_new_tokens=24, eos_id=NEVER)
        done = run(target, state(1, prefix, noise), gamma=gamma, limit=24, eos_id=NEVER)
        assert done.ids == plain
        assert len(plain) == 24
        check_rounds(done)


def test_the_drafts_of_these_tests_agree_in_part() -> None:
    def alpha(prefix: int, noise: float) -> float:
        done = run(state(1, 9), state(1, prefix, noise), gamma=3, limit=30, eos_id=NEVER)
        value = metrics(Counts.of_clip([r.count for r in done.rounds], 3)).alpha_conditional
        assert value is not None
        return value

    assert 1 > alpha(9, 0.02) > alpha(9, 0.1) > 0
    assert 1 > alpha(5, 0.05) > 0


@pytest.mark.parametrize("gamma", range(1, 9))
def test_text_is_cut_at_every_possible_end_of_sequence(gamma: int) -> None:
    target = state(1, 9)
    text = plain_greedy(target, max_new_tokens=10, eos_id=NEVER)
    for eos_id in text:
        done = run(target, state(1, 9, 0.05), gamma=gamma, limit=16, eos_id=eos_id)
        assert done.ids == text[: text.index(eos_id) + 1]
        check_rounds(done)


@pytest.mark.parametrize("gamma", range(1, 9))
@pytest.mark.parametrize("length", range(1, 12))
def test_an_end_of_sequence_comes_as_accepted_bonus_or_correction(gamma: int, length: int) -> None:
    text = [*range(10, 9 + length), EOS]
    last = {}
    for agrees in (True, False):
        proposer = Calibrated(text, [True] * (length - 1) + [agrees], EOS)
        done = speculate(Script(text), proposer, gamma=gamma, max_new_tokens=32, eos_id=EOS)
        assert done.ids == text
        check_rounds(done)
        last[agrees] = done.rounds[-1]
    before = (length - 1) % (gamma + 1)  # ids that the last round emits before the end of sequence
    bonus = before == gamma
    assert last[True].matched == (gamma if bonus else before + 1)
    assert last[True].count.accepted == last[False].count.accepted == before
    assert last[False].matched == before
    assert len(last[False].drafted) == (gamma if bonus else before + 1)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7])
def test_gamma_beyond_the_remaining_length_changes_nothing(limit: int) -> None:
    target = state(1, 9)
    plain = plain_greedy(target, max_new_tokens=limit, eos_id=NEVER)
    done = run(target, state(1, 9), gamma=8, limit=limit, eos_id=NEVER)
    assert done.ids == plain
    assert sum(len(r.drafted) for r in done.rounds) <= limit - 1
    assert len(done.rounds) == 1


def test_the_target_drafting_for_itself_is_always_accepted() -> None:
    for sequence in range(4):
        target = state(1, 9, sequence=sequence)
        eos_id = plain_greedy(target, max_new_tokens=20, eos_id=NEVER)[17]
        done = run(target, state(1, 9, sequence=sequence), gamma=5, limit=20, eos_id=eos_id)
        assert all(r.matched == len(r.drafted) for r in done.rounds)
        assert len(done.rounds) == -(-len(done.ids) // 6)


def test_proposals_equal_a_fresh_pass_without_cache_after_every_kind_of_round() -> None:
    gamma, seen = 3, set()
    for sequence in range(6):
        target = state(1, 9, sequence=sequence)
        proposer = DraftProposer(state(1, 6, 0.05, sequence), NEVER)
        emitted: list[int] = []
        done = speculate(target, proposer, gamma=gamma, max_new_tokens=30, eos_id=NEVER)
        for r in done.rounds:
            fresh = plain_greedy_from(state(1, 6, 0.05, sequence), emitted, len(r.drafted))
            assert list(r.drafted) == fresh
            emitted += r.emitted
            seen.add(r.matched)
    assert seen == {0, 1, 2, 3}


def plain_greedy_from(fresh: DecoderState, emitted: list[int], n: int) -> list[int]:
    """The draft's next n ids, every one from a whole recomputation."""
    out: list[int] = []
    for _ in range(n):
        fresh.rollback(fresh.length)
        ids = emitted + out
        logits = fresh.feed(ids)[-1] if ids else fresh.prefix_logits
        out.append(int(logits.argmax()))
    return out


def test_a_proposer_asked_about_another_text_forgets_what_it_held() -> None:
    proposer = DraftProposer(state(1, 6), NEVER)
    proposer.propose([10, 11, 12, 13], 4)
    for emitted in ([20, 21, 22, 23, 24], [20, 21, 30, 31], [20, 21], []):
        assert proposer.propose(emitted, 3).ids == plain_greedy_from(state(1, 6), emitted, 3)


def test_after_full_acceptance_two_ids_are_fed_and_otherwise_one() -> None:
    class Spy(Script):
        def __init__(self, text: Sequence[int]) -> None:
            super().__init__(text)
            self.fed: list[int] = []

        def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
            self.fed.append(len(ids))
            return super().feed(ids)

    text = list(range(10, 30))
    spy = Spy(text)
    proposer = DraftProposer(spy, EOS)
    assert proposer.propose([], 3).ids == text[:3]
    assert proposer.propose(text[:4], 3).ids == text[4:7]  # all three accepted, and the bonus
    assert proposer.propose([*text[:5], 60], 3).ids == text[6:9]  # one accepted, then a correction
    assert proposer.propose([*text[:5], 60, 61], 1).ids == text[7:8]  # rejected at once
    assert spy.fed == [1, 1, 2, 1, 1, 1, 1, 1, 1]


def test_a_wider_draft_never_proposes_ids_the_target_lacks() -> None:
    text = [5, 50, 6]
    assert DraftProposer(Script(text), EOS).propose([], 3).ids == text
    narrow = DraftProposer(Script(text), EOS, vocabulary=40)
    assert all(i < 40 for i in narrow.propose([], 3).ids)
    assert narrow.matches(text) == [True, False, True]


def test_proposals_stop_at_the_drafts_own_end_of_sequence() -> None:
    assert DraftProposer(Script([5, EOS, 7, 8]), EOS).propose([], 4).ids == [5, EOS]
    assert DraftProposer(Script([5, 6]), EOS).propose([], 0).ids == []


def test_walking_the_teacher_forced_matches_gives_the_loops_rounds() -> None:
    for gamma in (1, 2, 5, 8):
        for sequence in range(6):
            target = state(1, 9, sequence=sequence)
            long = plain_greedy(target, max_new_tokens=20, eos_id=NEVER)
            for eos_id in (NEVER, long[7], long[12]):
                proposer = DraftProposer(state(1, 6, 0.05, sequence), eos_id)
                done = speculate(target, proposer, gamma=gamma, max_new_tokens=20, eos_id=eos_id)
                walked = walk(proposer.matches(done.ids), gamma, max_new_tokens=20)
                online = [r.count for r in done.rounds]
                assert [(r.matched, r.emitted) for r in walked] == [
                    (r.matched, r.emitted) for r in online
                ]
                for offline, true in zip(walked, online, strict=True):
                    assert offline.drafted >= true.drafted
                    assert offline.drafted == true.drafted or true.matched < true.drafted


@pytest.mark.parametrize("ends", [True, False])
def test_walk_equals_the_loop_on_scripted_texts(ends: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        gamma, length = int(rng.integers(1, 8)), int(rng.integers(1, 14))
        limit = length + int(rng.integers(0, 4)) if ends else length
        text = rng.integers(10, 60, length).tolist()
        if ends:
            text[-1] = EOS
        agrees = (rng.random(length) < 0.7).tolist()
        done = speculate(
            Script(text),
            Calibrated(text, agrees, EOS),
            gamma=gamma,
            max_new_tokens=limit,
            eos_id=EOS,
        )
        assert done.ids == text
        walked = walk(agrees, gamma, max_new_tokens=limit)
        assert [(r.matched, r.emitted) for r in walked] == [
            (r.count.matched, r.count.emitted) for r in done.rounds
        ]


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 5), (0.7, 3), (0.9, 8)])
def test_a_calibrated_draft_is_measured_within_three_sigma(alpha: float, gamma: int) -> None:
    rng = np.random.default_rng(2)
    total = None
    for _ in range(40):
        text = rng.integers(10, 60, 64).tolist()
        agrees = (rng.random(64) < alpha).tolist()
        done = speculate(
            Script(text),
            Calibrated(text, agrees, EOS),
            gamma=gamma,
            max_new_tokens=64,
            eos_id=EOS,
        )
        counts = Counts.of_clip([r.count for r in done.rounds], gamma, agrees)
        total = counts if total is None else total + counts
    assert total is not None
    m = metrics(total)
    sigma = (alpha * (1 - alpha) / total.compared) ** 0.5
    assert m.alpha_conditional == pytest.approx(alpha, abs=3 * sigma)
    assert m.alpha_teacher_forced == pytest.approx(alpha, abs=3 * sigma)
    formula = (1 - alpha ** (gamma + 1)) / (1 - alpha)
    # The last round of every text is cut short: always below the formula, by 6 % at most.
    assert 0.93 * formula < m.tau_incl_bonus < 1.03 * formula


def test_verification_accepts_up_to_the_first_mismatch_and_adds_the_targets_own_id() -> None:
    full = verify_greedy([5, 6], [5, 6, 7], EOS)
    assert (full.matched, full.emitted, full.count.accepted) == (2, (5, 6, 7), 2)
    part = verify_greedy([5, 9, 7], [5, 6, 7, 8], EOS)
    assert (part.matched, part.emitted, part.count.accepted) == (1, (5, 6), 1)
    nothing = verify_greedy([], [6], EOS)
    assert (nothing.matched, nothing.emitted, nothing.count.compared) == (0, (6,), 0)


def test_a_matched_end_of_sequence_is_emitted_but_not_counted_as_accepted() -> None:
    done = verify_greedy([5, EOS], [5, EOS, 7], EOS)
    assert (done.matched, done.emitted, done.count.accepted) == (2, (5, EOS), 1)


def test_a_used_target_is_rolled_back_first() -> None:
    target = state(1, 9)
    first = plain_greedy(target, max_new_tokens=12, eos_id=NEVER)
    again = run(target, state(1, 9), gamma=4, limit=12, eos_id=NEVER).ids
    assert first == again == plain_greedy(target, max_new_tokens=12, eos_id=NEVER)


def test_gamma_and_length_below_one_are_refused() -> None:
    for gamma, limit in ((0, 5), (3, 0)):
        with pytest.raises(UsageError, match=">= 1"):
            run(state(1, 9), state(1, 9), gamma=gamma, limit=limit, eos_id=EOS)


def test_an_unsure_draft_stops_early_and_the_text_stays_the_same() -> None:
    plain = plain_greedy(state(1, 9), max_new_tokens=24, eos_id=NEVER)
    drafted = {}
    for confidence in (0.0, 0.2, 0.6):
        proposer = DraftProposer(state(1, 9, 0.05), NEVER, confidence=confidence)
        done = speculate(state(1, 9), proposer, gamma=6, max_new_tokens=24, eos_id=NEVER)
        assert done.ids == plain
        drafted[confidence] = sum(len(r.drafted) for r in done.rounds)
        for r in done.rounds[:-1]:
            assert 1 <= len(r.drafted) <= 6
    assert drafted[0.0] > drafted[0.2] > drafted[0.6]
    with pytest.raises(UsageError, match="confidence"):
        DraftProposer(state(1, 9), NEVER, confidence=1.0)


def test_a_schedule_hears_of_every_round() -> None:
    schedule = Heuristic(start=2, most=6)
    proposer = DraftProposer(state(1, 9), NEVER)
    done = speculate(state(1, 9), proposer, gamma=schedule, max_new_tokens=30, eos_id=NEVER)
    assert [len(r.drafted) for r in done.rounds] == [2, 4, 6, 6, 6, 0]  # and an own id each
    assert done.ids == plain_greedy(state(1, 9), max_new_tokens=30, eos_id=NEVER)


def test_sampling_without_numbers_is_refused() -> None:
    warm = Sampling(temperature=1.0)
    with pytest.raises(UsageError, match="pass draws"):
        plain(state(1, 9), max_new_tokens=4, eos_id=EOS, sampling=warm)
    with pytest.raises(UsageError, match="draws"):
        DraftProposer(state(1, 9), EOS, sampling=warm)
