"""Verification: which drafted ids stand, and what the target says after them.

Greedy: drafted ids stand while they equal the target's argmax; the argmax follows.

Sampled (Leviathan, Kalman, Matias 2023, arXiv 2211.17192, algorithm 1; Chen et al. 2023, arXiv
2302.01318): an id x drawn from q stands with probability min(1, p(x) / q(x)); after the first that
does not, the target's id is drawn from the normalised positive part of p - q, after none from p.
p and q are what would really be drawn from: after temperature, top-k and top-p of their own side.
An id that was not drawn but chosen (a greedy draft, an n-gram table) has q = 1 at that id: it
stands with probability p(x), else the id is drawn from p without x. The text has the target's own
distribution either way.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from egotriad.alignment.sampling import draw

__all__ = ["accept_probability", "common_prefix", "own_distribution", "residual", "verify_sampled"]


def accept_probability(p: Tensor, q: Tensor) -> Tensor:
    """With what probability drafted ids stand: min(1, p / q) of their probabilities."""
    return (p / q).clamp(max=1)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """(..., V), what is drawn from after a rejection: the positive part of p - q, normalised.

    Where it is empty (p = q: only rounding can reject there) it is p.
    """
    left = (p - q).clamp_min(0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, p)


def own_distribution(
    p: Tensor, q: Tensor, matched: Sequence[int], drafted: Sequence[int]
) -> Tensor:
    """(B, V), what the target's own id of each round is drawn from.

    Args:
        p: (B, n + 1, V) of the target.
        q: (B, n, V) of the draft.
        matched: how many ids stand, in each round.
        drafted: how many were drafted.
    """
    rows = torch.arange(len(p), device=p.device)
    at = torch.tensor(list(matched), device=p.device)
    rejected = at < torch.tensor(list(drafted), device=p.device)
    after = p[rows, at]
    if not rejected.any():
        return after
    left = residual(after, q[rows, at.clamp(max=q.shape[1] - 1)])
    return torch.where(rejected[:, None], left, after)


def verify_sampled(
    drafted: Sequence[Sequence[int]],
    p: Tensor,
    q: Tensor | None,
    accept: Sequence[Sequence[float]],
    own: Sequence[Sequence[float]],
) -> tuple[list[int], list[int]]:
    """How many drafted ids stand in each of B rounds, and the target's own id after them.

    Args:
        drafted: up to n ids in each round.
        p: (B, n + 1, V), what the target draws from at each drafted position and after the last.
        q: (B, n, V'), what the ids were drawn from, V' <= V; None when they were chosen.
        accept: at least as many numbers in (0, 1) as ids, in each round.
        own: one number more than that.

    Returns:
        matched (B,), ids (B,).
    """
    counts = [len(ids) for ids in drafted]
    longest = max(counts, default=0)
    padded = [[*ids, *[0] * (longest - len(ids))] for ids in drafted]
    ids = torch.tensor(padded, dtype=torch.long, device=p.device).reshape(len(counts), longest, 1)
    if q is None:
        q = torch.zeros_like(p[:, :longest]).scatter_(-1, ids, 1.0)
    elif q.shape[-1] < p.shape[-1]:
        # Ids that only the target has: the draft never draws them.
        q = torch.nn.functional.pad(q, (0, p.shape[-1] - q.shape[-1]))
    chances = accept_probability(p[:, :longest].gather(-1, ids), q[:, :longest].gather(-1, ids))
    stands = [
        [u < chance for u, chance in zip(us, row[:n], strict=False)]
        for us, row, n in zip(accept, chances[..., 0].tolist(), counts, strict=True)
    ]
    matched = [next((i for i, ok in enumerate(row) if not ok), len(row)) for row in stands]
    numbers = [us[m] for us, m in zip(own, matched, strict=True)]
    chosen = draw(
        own_distribution(p, q, matched, counts),
        torch.tensor(numbers, dtype=torch.float64, device=p.device),
    )
    return matched, chosen.tolist()


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of leading elements that a and b share."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
