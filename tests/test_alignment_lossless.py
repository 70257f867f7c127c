"""The text has the target's own distribution: exact one-step law, chi-square, and known mistakes.

Bigram tables over 8 ids stand for the models, so that the joint distribution of a text is exact.
The mistakes below are easily made; the tests must catch each of them.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from egotriad.alignment import rules
from egotriad.alignment.acceptance import Counts, metrics
from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.sampling import GREEDY, Draws, Sampling
from egotriad.alignment.speculate import Round, Speculation, speculate
from egotriad.alignment.speculate_batch import DraftBatch, speculate_batch

V, LENGTH, GAMMA, NEVER = 8, 3, 2, -7
RAW = Sampling(temperature=1.0)
TEXTS = 20_000
Luck = list[Draws]
Mutation = Callable[[pytest.MonkeyPatch], None]


class Table:
    """A bigram model: logits after an id, and those of the first one."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits  # (V + 1, V), the last row for the start
        self.prefix_logits = logits[-1]
        self.length = 0

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        self.length += len(ids)
        return self._logits[ids]

    def rollback(self, n: int) -> None:
        assert 0 <= n <= self.length
        self.length -= n


class TableBatch:
    """Many of the same bigram model."""

    def __init__(self, logits: Tensor, rows: int) -> None:
        self._logits = logits
        self.prefix_logits = logits[-1].expand(rows, -1)
        self.lengths = [0] * rows

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        most = max(map(len, ids))
        self.lengths = [n + len(row) for n, row in zip(self.lengths, ids, strict=True)]
        return self._logits[torch.tensor([[*row, *[0] * (most - len(row))] for row in ids])]

    def rollback(self, counts: Sequence[int]) -> None:
        assert all(0 <= n <= have for n, have in zip(counts, self.lengths, strict=True))
        self.lengths = [have - n for n, have in zip(counts, self.lengths, strict=True)]


def tables(seed: int, *, sharpened: bool = False) -> tuple[Tensor, Tensor]:
    """Target and draft, float64 logits; the draft's law is half the target's, or a sharper one."""
    rng = np.random.default_rng(seed)
    p = torch.tensor(rng.normal(size=(V + 1, V)) * 1.5)
    if sharpened:
        return p, 2.0 * p
    other = torch.tensor(rng.normal(size=(V + 1, V)) * 1.5)
    return p, (0.5 * p.softmax(-1) + 0.5 * other.softmax(-1)).log()


def batch(target: Tensor, draft: Tensor, seed: int, texts: int = TEXTS) -> list[Speculation]:
    return run(target, draft, RAW, RAW, luck(seed)[:texts])


def run(
    target: Tensor, draft: Tensor, target_sampling: Sampling, draft_sampling: Sampling, draws: Luck
) -> list[Speculation]:
    texts = len(draws)
    return speculate_batch(
        TableBatch(target, texts),
        DraftBatch(TableBatch(draft, texts), NEVER, sampling=draft_sampling, draws=draws),
        gamma=GAMMA,
        max_new_tokens=LENGTH,
        eos_id=NEVER,
        sampling=target_sampling,
        draws=draws,
    )


@cache
def luck(seed: int) -> Luck:
    return [Draws(seed, str(i), LENGTH) for i in range(TEXTS)]


def joint(target: Tensor) -> np.ndarray:
    p = target.softmax(-1).numpy()
    return np.einsum("a,ab,bc->abc", p[-1], p[:-1], p[:-1]).ravel()


def chi_square(done: Sequence[Speculation], target: Tensor) -> float:
    """P value of the texts' counts; bins with an expectation below 5 are pooled."""
    ids = np.array([s.ids for s in done])
    observed = np.bincount(ids @ [V * V, V, 1], minlength=V**LENGTH)
    expected = joint(target) * len(done)
    small = expected < 5
    assert not observed[expected == 0].any()
    if small.any() and expected[small].sum() > 0:
        observed = np.append(observed[~small], observed[small].sum())
        expected = np.append(expected[~small], expected[small].sum())
    else:
        observed, expected = observed[~small], expected[~small]
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), len(expected) - 1))


@pytest.mark.parametrize("seed", range(3))
def test_sampled_texts_have_the_targets_joint_distribution(seed: int) -> None:
    target, draft = tables(seed)
    done = batch(target, draft, seed)
    assert chi_square(done, target) > 1e-3
    # The test is worth something only where drafts are accepted and rejected.
    m = metrics(sum_counts(done))
    assert m.alpha_conditional is not None
    assert 0.5 < m.alpha_conditional < 0.9


def test_the_loop_for_one_sequence_gives_the_batchs_texts_and_rounds() -> None:
    target, draft = tables(5)
    together = batch(target, draft, 5, texts=300)
    for i, expected in enumerate(together):
        draws = Draws(5, str(i), LENGTH)
        alone = speculate(
            Table(target),
            DraftProposer(Table(draft), NEVER, sampling=RAW, draws=draws),
            gamma=GAMMA,
            max_new_tokens=LENGTH,
            eos_id=NEVER,
            sampling=RAW,
            draws=draws,
        )
        assert alone == expected


def test_chosen_drafts_leave_a_sampled_target_its_distribution() -> None:
    target, draft = tables(1)
    done = run(target, draft, RAW, GREEDY, luck(1)[:8000])
    assert chi_square(done, target) > 1e-3


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7),
        Sampling(temperature=1.3, top_k=3),
        Sampling(temperature=1.0, top_p=0.8),
    ],
)
def test_warped_on_both_sides_the_text_has_the_warped_targets_distribution(
    sampling: Sampling,
) -> None:
    target, draft = tables(2)
    done = run(target, draft, sampling, sampling, luck(2)[:8000])
    assert chi_square(done, sampling.probabilities(target).log()) > 1e-3


def one_step_law(p: Tensor, q: Tensor) -> Tensor:
    """(N, V): what one drafted position emits, from the rule's own parts: no sampling."""
    accepted = q * rules.accept_probability(p, q)
    return accepted + (1 - accepted.sum(-1, keepdim=True)) * rules.residual(p, q)


def pairs(kind: str, n: int = 2000) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    p = torch.tensor(rng.dirichlet(np.full(V, 0.5), n)) + 1e-9
    other = torch.tensor(rng.dirichlet(np.full(V, 0.5), n)) + 1e-9
    q = {"other": other, "mixed": (p + other) / 2, "equal": p, "sharper": p**3}[kind]
    return p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)


@pytest.mark.parametrize("kind", ["other", "mixed", "equal", "sharper"])
def test_the_one_step_law_is_the_targets_to_twelve_digits(kind: str) -> None:
    p, q = pairs(kind)
    assert float((one_step_law(p, q) - p).abs().max()) < 1e-12


def inverted_ratio(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "accept_probability", lambda p, q: (q / p).clamp(max=1))


def resampled_from_p(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "residual", lambda p, q: p)


def lenient_to_the_argmax(patch: pytest.MonkeyPatch) -> None:
    def lenient(p: Tensor, q: Tensor) -> Tensor:
        ratio = (p / q).clamp(max=1)
        return torch.where(p == p.amax(-1, keepdim=True), 1.0, ratio)

    patch.setattr(rules, "accept_probability", lenient)


def bonus_of_the_draft(patch: pytest.MonkeyPatch) -> None:
    true = rules.own_distribution

    def wrong(p: Tensor, q: Tensor, matched: Any, drafted: Any) -> Tensor:
        rows = true(p, q, matched, drafted)
        for b, (m, n) in enumerate(zip(matched, drafted, strict=True)):
            if m == n and n:
                rows[b] = q[b, n - 1]
        return rows

    patch.setattr(rules, "own_distribution", wrong)


def residual_one_too_late(patch: pytest.MonkeyPatch) -> None:
    def wrong(p: Tensor, q: Tensor, matched: Any, drafted: Any) -> Tensor:
        rows = []
        for b, (m, n) in enumerate(zip(matched, drafted, strict=True)):
            at = min(m + 1, n - 1)
            rows.append(rules.residual(p[b, at], q[b, at]) if m < n else p[b, m])
        return torch.stack(rows)

    patch.setattr(rules, "own_distribution", wrong)


def greedy_draft_with_soft_rows(patch: pytest.MonkeyPatch) -> None:
    def choose(self: DraftBatch, logits: Tensor, *_: Any) -> tuple[list[int], Tensor]:
        return logits.argmax(-1).tolist(), RAW.probabilities(logits)

    patch.setattr(DraftBatch, "_choose", choose)


@pytest.mark.parametrize(
    ("mutation", "texts"),
    [
        (inverted_ratio, 2000),
        (resampled_from_p, 8000),
        (bonus_of_the_draft, 8000),
        (residual_one_too_late, 8000),
        (greedy_draft_with_soft_rows, 2000),
    ],
)
def test_a_wrong_rule_is_caught_by_chi_square(
    mutation: Mutation, texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, draft = tables(0)
    assert chi_square(batch(target, draft, 0, texts), target) > 1e-3
    mutation(monkeypatch)
    assert chi_square(batch(target, draft, 0, texts), target) < 1e-6


@pytest.mark.parametrize("mutation", [inverted_ratio, resampled_from_p, lenient_to_the_argmax])
def test_a_wrong_rule_is_caught_by_the_one_step_law(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    p, q = pairs("sharper")
    law = one_step_law(p, q)
    wrong = (law - p).abs().amax(-1) > 1e-6
    assert float(wrong.double().mean()) > 0.5


def test_leniency_to_the_argmax_is_caught_by_chi_square_with_a_sharp_draft(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, draft = tables(0, sharpened=True)
    assert chi_square(batch(target, draft, 0), target) > 1e-3

    def lenient(p: Tensor, q: Tensor) -> Tensor:
        # Gathered values only: the largest share of the drafted positions stands for the argmax.
        return torch.where(p > 0.4, 1.0, (p / q).clamp(max=1))

    monkeypatch.setattr(rules, "accept_probability", lenient)
    assert chi_square(batch(target, draft, 0), target) < 1e-6


def test_a_dropped_bonus_leaves_the_law_and_lowers_tau(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lossless, and slower: only the number of tokens per pass tells."""
    from egotriad.alignment import speculate_batch as module

    target, draft = tables(0)
    honest = metrics(sum_counts(batch(target, draft, 0, 8000)))

    def without_bonus(drafted: Sequence[int], matched: int, own: int, eos_id: int) -> Round:
        kept = [*drafted[:matched]] if matched == len(drafted) and drafted else None
        emitted = tuple(kept) if kept else (*drafted[:matched], own)
        return Round(tuple(drafted), matched, emitted)

    monkeypatch.setattr(module, "finish_round", without_bonus)
    done = batch(target, draft, 0, 8000)
    assert chi_square(done, target) > 1e-3
    per_pass = sum(len(s.ids) for s in done) / sum(len(s.rounds) for s in done)
    assert per_pass < honest.tau_incl_bonus - 0.2


def sum_counts(done: Sequence[Speculation]) -> Counts:
    total = Counts.of_clip([r.count for s in done for r in s.rounds], GAMMA)
    assert total.rounds
    return total


def test_the_expected_acceptance_is_the_overlap_of_the_distributions() -> None:
    """Leviathan et al., theorem 3.5: beta is the sum of min(p, q)."""
    p, q = pairs("mixed")
    accepted = (q * rules.accept_probability(p, q)).sum(-1)
    torch.testing.assert_close(accepted, torch.minimum(p, q).sum(-1), atol=1e-12, rtol=0)


def test_equal_distributions_are_always_accepted_and_an_empty_residual_falls_back_to_p() -> None:
    p = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    assert torch.equal(rules.accept_probability(p[:1], p[:1]), torch.ones(1, 2).double())
    assert torch.equal(rules.residual(p, p), p)


def test_ids_only_the_target_has_come_from_the_target_alone() -> None:
    target, draft = tables(3)
    narrow = draft[:, : V - 2].clone()  # the draft has never heard of the last two ids
    done = run(target, narrow, RAW, RAW, luck(1)[:8000])
    assert chi_square(done, target) > 1e-3
    assert max(max(s.ids) for s in done) == V - 1
