import numpy as np
import pytest
import torch

from egotriad.alignment.offline import Forced, ForcedSums, expected_rounds, forced, tau_iid


def test_a_text_is_compared_position_by_position() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    q = torch.tensor([[0.2, 0.6, 0.2], [0.1, 0.8, 0.1]])
    found = forced([0, 1], p.log(), q.log())
    assert found.match == (False, True)
    assert found.overlap == pytest.approx((0.2 + 0.3 + 0.2, 1.0))
    kl = 0.5 * np.log(0.5 / 0.2) + 0.3 * np.log(0.3 / 0.6)
    assert found.kl_pq == pytest.approx((kl, 0.0), abs=1e-6)
    assert found.kl_qp[0] == pytest.approx(0.2 * np.log(0.2 / 0.5) + 0.6 * np.log(2.0), abs=1e-6)


def test_ids_only_the_target_has_never_overlap() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25]])
    found = forced([2], p.log(), torch.tensor([[0.5, 0.5]]).log())
    assert found.match == (False,)
    assert found.overlap == pytest.approx((0.75,))


def test_expected_rounds_are_run_lengths_for_certain_matches() -> None:
    assert expected_rounds([1, 1, 0, 1], 5) == 2 + 1 + 0 + 1
    assert expected_rounds([1, 1, 1, 1], 2) == 2 + 2 + 2 + 1
    assert expected_rounds([0.5, 0.5], 5) == 0.5 + 0.25 + 0.5


def test_the_iid_formula_is_reached_by_independent_matches() -> None:
    rng = np.random.default_rng(0)
    for alpha, gamma in ((0.5, 3), (0.8, 5), (0.9, 8)):
        chances = (rng.random(200_000) < alpha).astype(float).tolist()
        found = 1 + expected_rounds(chances, gamma) / len(chances)
        assert found == pytest.approx(tau_iid(alpha, gamma), rel=0.01)
    assert tau_iid(1.0, 5) == 6.0
    assert tau_iid(0.0, 5) == 1.0


def test_sums_add_up() -> None:
    one = Forced((True, False), (0.5, 0.25), (1.0, 2.0), (3.0, 4.0))
    both = ForcedSums.of_text(one, 3) + ForcedSums.of_text(one, 3)
    assert (both.positions, both.matches, both.overlap) == (4, 2, 1.5)
    assert (both.kl_pq, both.kl_qp) == (6.0, 14.0)
    assert both.accepted_greedy == 2.0
    assert both.accepted_sampled == pytest.approx(2 * (0.5 + 0.125 + 0.25))


def test_masked_ids_are_left_out_of_divergences_and_never_overlap() -> None:
    never = -torch.inf
    p = torch.tensor([[0.5, 0.25, 0.25]]).log()
    q = torch.tensor([[0.5, 0.5, 0.0]]).log()
    found = forced([0], p, q)
    assert found.overlap == pytest.approx((0.75,))
    assert found.kl_pq == pytest.approx((0.25 * np.log(0.25 / 0.5),))
    assert found.kl_qp == pytest.approx((0.5 * np.log(0.5 / 0.25),))
    both = forced([0], torch.tensor([[0.0, 0.0, never]]), torch.tensor([[0.0, 1.0, never]]))
    assert np.isfinite(both.kl_pq + both.kl_qp).all()
    assert both.kl_pq[0] > 0


def test_rounding_never_makes_an_overlap_larger_than_one() -> None:
    rows = torch.randn(2000, 400, generator=torch.Generator().manual_seed(0))
    assert max(forced([0] * 2000, rows, rows).overlap) == 1.0
