"""How a token is chosen from logits, and the random numbers that choose it.

`logits (..., V) -> temperature -> top-k -> top-p -> probabilities (..., V) -> id`

Random numbers are a function of (seed, sequence, purpose, position in the text), never of when
they are drawn: one position is decided by the same three numbers whatever the draft, the number of
drafted ids or the batch. Arms compared with each other therefore share their luck.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egotriad.converters.counter_rng import key_of, uniforms
from egotriad.manifests.errors import UsageError

__all__ = ["GREEDY", "Draws", "Sampling", "draw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What happens to logits before an id is drawn; in this order, as transformers does it.

    Attributes:
        temperature: 0 takes the argmax (greedy), 1 leaves the logits as they are.
        top_k: only the k best ids, and those that tie with the last of them; 0 keeps all.
        top_p: only the best ids whose probabilities first add up to more than this; 1 keeps all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature: got {self.temperature}, need 0 (greedy) or more")
        if self.top_k < 0:
            raise UsageError(f"top-k: got {self.top_k}, need 0 (all ids) or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p: got {self.top_p}, need 0 < top-p <= 1")
        if self.greedy and (self.top_k or self.top_p < 1):
            raise UsageError("top-k and top-p need --temperature above 0: greedy takes the best id")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def probabilities(self, logits: Tensor) -> Tensor:
        """What ids are drawn from: (..., V), summing to 1; float32, or float64 of float64 logits.

        Raises:
            UsageError: when greedy, which draws nothing.
        """
        if self.greedy:
            raise UsageError("greedy decoding draws from no distribution; set a temperature")
        scores = logits if logits.dtype == torch.float64 else logits.float()
        scores = scores / self.temperature
        if 0 < self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k).values[..., -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self.top_p < 1:
            ordered, order = scores.sort(dim=-1)
            dropped = ordered.softmax(-1).cumsum(-1) <= 1 - self.top_p
            dropped[..., -1] = False
            scores = scores.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
        return scores.softmax(-1)


GREEDY = Sampling()


class Draws:
    """The random numbers of one text, one of each purpose for every position.

    Args:
        seed: of the run.
        sequence: which text: a window's id, say.
        length: number of positions.

    Attributes:
        draft: (length,) what the draft draws its id at a position with.
        accept: (length,) what an id drafted there is accepted with.
        own: (length,) what the target draws its own id there with.
    """

    def __init__(self, seed: int, sequence: str, length: int) -> None:
        def numbers(purpose: str) -> NDArray[np.float64]:
            return uniforms(key_of(seed, sequence, purpose), length)

        self.draft = numbers("draft")
        self.accept = numbers("accept")
        self.own = numbers("own")


def draw(probabilities: Tensor, u: Tensor) -> Tensor:
    """The ids at which the cumulative distributions pass u.

    Args:
        probabilities: (..., V); need not sum to 1.
        u: (...) float64 in (0, 1).

    Returns:
        (...) int64. An id of probability 0 is never drawn.
    """
    # In float32 the rounding of 32,000 sums would move the last ids' shares by percents.
    cumulative = probabilities.double().cumsum(-1)
    wanted = (u * cumulative[..., -1])[..., None]
    found = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
    return found.clamp_(max=probabilities.shape[-1] - 1)
