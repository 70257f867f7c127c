"""Acceptance without a loop: one pass of each model over the target's text (teacher-forced).

`text (n,), target rows (n, V), draft rows (n, V') -> per position: argmax match, overlap, KL`

Prefixes are those the loop meets, so each position's number is exact; only their weights differ:
rounds start after rejections, so the loop meets harder positions first. `tau_pred_runs` uses the
positions in their order, `tau_pred_iid` only their mean (Leviathan et al. 2023, eq. 1, which takes
positions as independent and alike); both ignore that texts end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Forced", "ForcedSums", "expected_rounds", "forced", "tau_iid"]


@dataclass(frozen=True, slots=True)
class Forced:
    """What each position of one text says.

    Attributes:
        match: (n,) whether the draft's argmax is the text's id.
        overlap: (n,) sum over ids of min(p, q): how often an id drawn from q stands (beta).
        kl_pq, kl_qp: (n,) divergences in nats, draft from target and target from draft.
    """

    match: tuple[bool, ...]
    overlap: tuple[float, ...]
    kl_pq: tuple[float, ...]
    kl_qp: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedSums:
    """Sums over the positions of any number of texts; add two to merge them.

    Attributes:
        positions: number of positions.
        matches, overlap, kl_pq, kl_qp: sums over them.
        accepted_greedy, accepted_sampled: sums over all positions of the ids that a round which
            starts there would accept.
    """

    positions: int = 0
    matches: int = 0
    overlap: float = 0.0
    kl_pq: float = 0.0
    kl_qp: float = 0.0
    accepted_greedy: float = 0.0
    accepted_sampled: float = 0.0

    @staticmethod
    def of_text(found: Forced, gamma: int) -> "ForcedSums":
        """The sums of one text, for rounds of gamma drafted ids."""
        return ForcedSums(
            positions=len(found.match),
            matches=sum(found.match),
            overlap=sum(found.overlap),
            kl_pq=sum(found.kl_pq),
            kl_qp=sum(found.kl_qp),
            accepted_greedy=expected_rounds([float(m) for m in found.match], gamma),
            accepted_sampled=expected_rounds(found.overlap, gamma),
        )

    def __add__(self, other: "ForcedSums") -> "ForcedSums":
        return ForcedSums(
            positions=self.positions + other.positions,
            matches=self.matches + other.matches,
            overlap=self.overlap + other.overlap,
            kl_pq=self.kl_pq + other.kl_pq,
            kl_qp=self.kl_qp + other.kl_qp,
            accepted_greedy=self.accepted_greedy + other.accepted_greedy,
            accepted_sampled=self.accepted_sampled + other.accepted_sampled,
        )


def forced(ids: Sequence[int], target: Tensor, draft: Tensor) -> Forced:
    """Compares two models on one text, at temperature 1.

    Args:
        ids: (n,) the target's text.
        target: (n, V) its logits at each position.
        draft: (n, V') those of the draft, V' <= V; ids that only the target has count as q = 0
            (and are left out of the divergences, which they would make infinite).
    """
    width = min(target.shape[-1], draft.shape[-1])
    p, q = (rows.float().log_softmax(-1)[:, :width] for rows in (target, draft[:, :width]))
    text = torch.tensor(list(ids), device=draft.device)
    return Forced(
        match=tuple((draft.argmax(-1) == text).tolist()),
        overlap=tuple(torch.minimum(p, q).exp().sum(-1).clamp(max=1).tolist()),  # rounding
        kl_pq=tuple(_divergence(p, q)),
        kl_qp=tuple(_divergence(q, p)),
    )


def expected_rounds(chances: Sequence[float], gamma: int) -> float:
    """Sum over all starts of the expected number of ids accepted from there, at most gamma.

    Args:
        chances: with what probability the id at each position stands.
        gamma: drafted ids per round.
    """
    total = 0.0
    for start in range(len(chances)):
        standing = 1.0
        for chance in chances[start : start + gamma]:
            standing *= chance
            total += standing
    return total


def tau_iid(alpha: float, gamma: int) -> float:
    """Tokens per round if every position stood alike and alone: (1 - a^(g + 1)) / (1 - a)."""
    return gamma + 1.0 if alpha >= 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


def _divergence(a: Tensor, b: Tensor) -> list[float]:
    """KL(a || b) of rows of log probabilities (n, V), over ids that both models know."""
    each = F.kl_div(b, a, log_target=True, reduction="none")
    rows = torch.where(a.isfinite() & b.isfinite(), each, 0.0).sum(-1)
    return [float(value) for value in rows.tolist()]
