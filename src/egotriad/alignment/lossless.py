"""Is the loop lossless on this very pair? Greedy by comparison, sampled by chi-square.

The two models are restricted to a handful of ids, over which the target's joint distribution of
the first ids can be written down exactly; texts are then sampled through the ordinary loop and
counted. Nothing of the models is assumed but that they are deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from egotriad.alignment.proposers import DraftProposer, SequenceState
from egotriad.alignment.sampling import Draws, Sampling
from egotriad.alignment.speculate import speculate
from egotriad.manifests.errors import UsageError

__all__ = ["UNLIKELY", "ChiSquare", "Restricted", "sampled_texts_fit"]

IDS, LENGTH, GAMMA, TEXTS = 6, 2, 2, 4000
LEAST_EXPECTED = 5.0
UNLIKELY = 1e-3
"""A right loop gives a smaller p once in a thousand checks."""
RAW = Sampling(temperature=1.0)


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Texts counted against what they should be.

    Attributes:
        p: probability of counts as far off as these when the loop is right.
        n: texts sampled.
        degrees: degrees of freedom.
        accepted: share of drafted ids that stood; at 0 or 1 the test says little.
    """

    p: float
    n: int
    degrees: int
    accepted: float


class Restricted:
    """A state that knows only some ids, renumbered from 0."""

    def __init__(self, state: SequenceState, ids: Sequence[int]) -> None:
        self._state, self._ids = state, list(ids)
        self.prefix_logits = state.prefix_logits[self._ids]

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""
        return self._state.length

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids: (n, len(ids known))."""
        return self._state.feed([self._ids[i] for i in ids], keep=keep)[:, self._ids]

    def rollback(self, n: int) -> None:
        """Forgets the last n ids."""
        self._state.rollback(n)


def sampled_texts_fit(
    target: SequenceState,
    draft: SequenceState,
    *,
    seed: int = 0,
    texts: int = TEXTS,
    avoid: Sequence[int] = (),
) -> ChiSquare:
    """Samples short texts with the draft and compares their counts with the target's own law.

    Args:
        target: on some clip; rolled back first.
        draft: on the same clip.
        seed: of the sampling.
        texts: how many.
        avoid: ids to leave out (the end of a sequence).

    Raises:
        UsageError: when the models share too few ids.
    """
    target.rollback(target.length)
    draft.rollback(draft.length)
    ids = _likely(target.prefix_logits, draft.prefix_logits, avoid)
    few = Restricted(target, ids), Restricted(draft, ids)
    expected = _law(few[0]) * texts
    counts = np.zeros(IDS**LENGTH)
    drafted = matched = 0
    for number in range(texts):
        draws = Draws(seed, f"lossless {number}", LENGTH)
        done = speculate(
            few[0],
            DraftProposer(few[1], -1, sampling=RAW, draws=draws),
            gamma=GAMMA,
            max_new_tokens=LENGTH,
            eos_id=-1,
            sampling=RAW,
            draws=draws,
        )
        counts[np.ravel_multi_index(tuple(done.ids), (IDS,) * LENGTH)] += 1
        drafted += sum(len(r.drafted) for r in done.rounds)
        matched += sum(r.matched for r in done.rounds)
    rare = expected < LEAST_EXPECTED
    observed, wanted = counts[~rare], expected[~rare]
    if expected[rare].sum() > 0:
        observed = np.append(observed, counts[rare].sum())
        wanted = np.append(wanted, expected[rare].sum())
    degrees = max(len(wanted) - 1, 1)
    p = float(chi2.sf(((observed - wanted) ** 2 / wanted).sum(), degrees))
    return ChiSquare(p=p, n=texts, degrees=degrees, accepted=matched / drafted)


def _likely(target: Tensor, draft: Tensor, avoid: Sequence[int]) -> list[int]:
    """The ids that both models find likeliest together."""
    shared = min(len(target), len(draft))
    score = target[:shared].softmax(-1).sqrt() * draft[:shared].softmax(-1).sqrt()
    score[[i for i in avoid if 0 <= i < shared]] = -1.0
    if shared - len(avoid) < IDS:
        raise UsageError(f"lossless check: the models share {shared} ids, need {IDS} or more")
    return [int(i) for i in score.topk(IDS).indices.tolist()]


def _law(target: Restricted) -> NDArray[np.float64]:
    """The probability of every text, in the order of their ids."""
    law = np.zeros((IDS,) * LENGTH)
    first = target.prefix_logits.double().softmax(-1)
    for text in product(range(IDS), repeat=LENGTH - 1):
        chance = float(first[text[0]])
        target.rollback(target.length)
        rows = target.feed(list(text)).double().softmax(-1)
        for k, following in enumerate(text[1:]):
            chance *= float(rows[k, following])
        law[text] = chance * rows[-1].cpu().numpy()
    target.rollback(target.length)
    return law.ravel()
