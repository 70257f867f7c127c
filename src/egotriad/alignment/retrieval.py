"""A captioner that only remembers: the text of the training clip whose sensor looked most alike.

`windows (N, ...) -> encoder -> mean over its vectors -> unit rows (N, D); query (D,) -> texts`

IMU2CLIP captions in this way (Moon et al., IMU2CLIP, EMNLP Findings 2023, section 4: nearest text
in the space that its encoder shares with CLIP's text tower). Rows may be such text embeddings, or,
with any encoder, the embeddings of the training clips' own sensors. As a proposer it drafts the
retrieved text: what a draft must beat that claims to write rather than to remember.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egotriad.alignment.proposers import Proposal
from egotriad.manifests.errors import EvaluationError, UsageError

__all__ = ["RetrievalIndex", "RetrievalProposer", "sensor_embeddings"]

BATCH = 64


@torch.inference_mode()
def sensor_embeddings(encoder: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """(N, D) float32 unit rows of prepared windows (N, ...): mean features of an encoder.

    Args:
        encoder: gives (B, K, D), as every IMU encoder does; a draft's `condition` does too.
        inputs: what its contract's `prepare` gave, stacked.

    Raises:
        EvaluationError: when features are not finite.
    """
    parts = torch.split(inputs, BATCH)  # type: ignore[no-untyped-call]
    rows = torch.cat([encoder(some).float().mean(dim=1) for some in parts])
    return _unit(rows, "the sensor embeddings")


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalIndex:
    """Texts and the embeddings by which they are found.

    Attributes:
        rows: (N, D) float32 embeddings, of any length; only their direction counts.
        texts: N id lists as the target generated them, end of sequence included.
    """

    rows: Tensor
    texts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or len(self.rows) != len(self.texts):
            raise UsageError(
                f"retrieval: got embeddings {list(self.rows.shape)} for {len(self.texts)} texts, "
                "need one row (N, D) per text"
            )
        if not len(self.texts):
            raise EvaluationError(
                "the retrieval control has no training text: got 0; run cache-targets on shards "
                "that hold a training split"
            )
        object.__setattr__(self, "rows", _unit(self.rows, "the index"))

    def nearest(self, query: Tensor, *, count: int = 1) -> list[list[int]]:
        """The texts of the `count` rows with the largest cosine to a query (D,), nearest first.

        Equal cosines go to the earlier row; fewer texts come back when there are no more.

        Raises:
            UsageError: a query of another width, or count below 1.
        """
        if query.shape != self.rows.shape[1:] or count < 1:
            raise UsageError(
                f"retrieval: got a query {list(query.shape)} for {count} texts, need "
                f"{list(self.rows.shape[1:])} and 1 or more"
            )
        cosines = self.rows @ _unit(query[None].float().to(self.rows.device), "the query")[0]
        order = torch.sort(cosines, descending=True, stable=True).indices[:count]
        return [list(self.texts[i]) for i in order.tolist()]


class RetrievalProposer:
    """Drafts retrieved texts: goes on behind the place that the text so far has reached in them.

    That place is the last occurrence of the longest ending of the text, up to `longest` ids; of
    equally long endings the nearest text's counts. At the beginning it is the beginning. Nothing is
    proposed when the last id stands in none of the texts.

    Args:
        texts: what `RetrievalIndex.nearest` gave.
        eos_id: proposals stop after it.
        longest: ids of the longest ending looked for.

    Raises:
        UsageError: no text, or longest below 1.
    """

    def __init__(self, texts: Sequence[Sequence[int]], eos_id: int, *, longest: int = 8) -> None:
        if not texts or longest < 1:
            raise UsageError(
                f"retrieval: got {len(texts)} texts and endings of {longest} ids, need 1 or more"
            )
        self._texts = [list(text) for text in texts]
        self._eos_id = eos_id
        self._longest = longest

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """Up to `gamma` ids that followed, fewer at the end of the retrieved text."""
        text, start = next(self._places(emitted), ([], 0))
        found = text[start : start + gamma]
        if self._eos_id in found:
            found = found[: found.index(self._eos_id) + 1]
        return Proposal(found)

    def matches(self, ids: Sequence[int]) -> list[bool]:
        """Teacher-forced: for every id of a text, whether it is the one proposed there."""
        return [self.propose(list(ids[:i]), 1).ids == [ids[i]] for i in range(len(ids))]

    def _places(self, emitted: list[int]) -> Iterator[tuple[list[int], int]]:
        """Texts and places at which `emitted` could go on, the best first."""
        if not emitted:
            yield self._texts[0], 0
        for size in range(min(self._longest, len(emitted)), 0, -1):
            ending = emitted[-size:]
            for text in self._texts:
                for end in range(len(text) - 1, size - 1, -1):
                    if text[end - size : end] == ending:
                        yield text, end


def _unit(rows: Tensor, what: str) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    rows = rows.detach().float()
    if not bool(torch.isfinite(rows).all()):
        raise EvaluationError(f"retrieval: {what} hold NaN or infinity; check the encoder's input")
    return torch.nn.functional.normalize(rows, dim=-1)
