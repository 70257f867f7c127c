import numpy as np
import pytest

from egotriad.alignment.acceptance import Counts, RoundCount, metrics, walk
from egotriad.manifests.errors import EvaluationError

# gamma 3; the last round drafted two ids, both matched, the second being the end of sequence.
ROUNDS = [
    RoundCount(drafted=3, matched=3, emitted=4),
    RoundCount(drafted=3, matched=0, emitted=1),
    RoundCount(drafted=3, matched=1, emitted=2),
    RoundCount(drafted=2, matched=2, emitted=2),
]


def test_metrics_of_four_rounds_equal_the_numbers_counted_by_hand() -> None:
    m = metrics(Counts.of_clip(ROUNDS, 3, [True, False, True, True]))
    assert (m.clips, m.rounds, m.drafted, m.accepted, m.emitted) == (1, 4, 11, 5, 9)
    assert m.histogram == (1, 2, 0, 1)
    assert m.accepted_over_drafted == 5 / 11
    assert m.per_position_unconditional == (3 / 4, 1 / 4, 1 / 4)
    assert m.per_position_conditional == (3 / 4, 2 / 3, 1 / 1)
    assert m.alpha_conditional == 6 / 8
    assert m.alpha_teacher_forced == 3 / 4
    assert m.tau_incl_bonus == 1 + 5 / 4
    assert m.tau_eos_counted == 1 + 6 / 4
    assert m.emitted_per_round == 9 / 4
    assert m.rounds_per_clip == 4


def test_tau_is_one_plus_the_unconditional_positions() -> None:
    m = metrics(Counts.of_clip(ROUNDS, 3))
    assert m.tau_incl_bonus == 1 + sum(m.per_position_unconditional)


def test_merged_counts_equal_the_counts_of_all_rounds() -> None:
    merged = Counts.of_clip(ROUNDS[:2], 3, [True]) + Counts.of_clip(ROUNDS[2:], 3, [False])
    whole = Counts.of_clip(ROUNDS, 3, [True, False])
    assert metrics(merged).rounds_per_clip == 2
    assert metrics(merged).per_position_conditional == metrics(whole).per_position_conditional
    assert merged.histogram == whole.histogram
    assert merged.forced_matches == 1


def test_counts_of_different_gamma_do_not_merge() -> None:
    with pytest.raises(EvaluationError, match="gamma 3 and 2"):
        Counts.of_clip(ROUNDS, 3) + Counts.of_clip(ROUNDS, 2)


def test_what_was_never_counted_is_none_and_no_rounds_are_an_error() -> None:
    m = metrics(Counts.of_clip([RoundCount(0, 0, 1)], 2))
    assert m.accepted_over_drafted is None
    assert m.alpha_conditional is None
    assert m.alpha_teacher_forced is None
    assert m.per_position_conditional == (None, None)
    assert m.tau_incl_bonus == 1.0
    with pytest.raises(EvaluationError, match="0 rounds"):
        metrics(Counts.of_clip([], 2))


@pytest.mark.parametrize(
    ("length", "rounds", "tau"), [(6, 1, 6.0), (7, 2, 3.5), (9, 2, 4.5), (12, 2, 6.0)]
)
def test_a_perfect_draft_of_gamma_5_scores_length_over_rounds(
    length: int, rounds: int, tau: float
) -> None:
    counted = walk([True] * length, 5, max_new_tokens=32)
    assert len(counted) == rounds
    assert metrics(Counts.of_clip(counted, 5)).tau_incl_bonus == tau


def test_a_hopeless_draft_emits_one_id_a_round() -> None:
    counted = walk([False] * 7, 5, max_new_tokens=32)
    assert [r.emitted for r in counted] == [1] * 7
    assert metrics(Counts.of_clip(counted, 5)).alpha_conditional == 0.0


def test_no_more_is_drafted_than_can_still_be_emitted() -> None:
    counted = walk([True] * 8, 5, max_new_tokens=8)
    assert counted == (RoundCount(5, 5, 6), RoundCount(1, 1, 2))
    assert walk([True], 5, max_new_tokens=1) == (RoundCount(0, 0, 1),)


def test_a_text_longer_than_its_limit_is_refused() -> None:
    with pytest.raises(EvaluationError, match="text of 9 ids"):
        walk([True] * 9, 5, max_new_tokens=8)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 5), (0.7, 3), (0.9, 8)])
def test_independent_matches_give_the_geometric_formula(alpha: float, gamma: int) -> None:
    rng = np.random.default_rng(5)
    n = 200_000
    m = metrics(
        Counts.of_clip(walk((rng.random(n) < alpha).tolist(), gamma, max_new_tokens=n), gamma)
    )
    tau = (1 - alpha ** (gamma + 1)) / (1 - alpha)
    assert m.tau_incl_bonus == pytest.approx(tau, rel=0.01)
    assert m.alpha_conditional == pytest.approx(alpha, abs=0.005)
    for i, share in enumerate(m.per_position_unconditional, start=1):
        assert share == pytest.approx(alpha**i, abs=0.01)
