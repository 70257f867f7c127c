"""Models whose logits have been brought to one vocabulary, where their widths or tails differ.

`model, rows (..., V) -> (..., V') -> the same model, asked in the other's ids`

Equal vocabularies need none of this: the models are then used as they are.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from egotriad.alignment.arms import Narrator
from egotriad.alignment.speculate_batch import BatchState
from egotriad.alignment.tree import TreeState
from egotriad.alignment.vocabulary import SharedVocabulary
from egotriad.manifests import Clip, Span

__all__ = ["SharedModel", "on_shared_ids"]

Rows = Callable[[Tensor], Tensor]


def on_shared_ids(
    target: Narrator, drafts: Mapping[str, tuple[Narrator, SharedVocabulary]]
) -> tuple[Narrator, dict[str, Narrator]]:
    """The target without ids that a draft cannot follow, and drafts in the target's width.

    Plain and speculative decoding lose the same ids, so the one stays the measure of the other.

    Args:
        target: as loaded.
        drafts: by role, each with what it shares with the target.
    """
    fitted: dict[str, Narrator] = {}
    for role, (model, shared) in drafts.items():
        fitted[role] = model if shared.equal else SharedModel(model, shared.draft_logits)
        if shared.target_only:
            target = SharedModel(target, shared.target_logits)
    return target, fitted


class SharedModel:
    """A model whose rows of logits are brought to another vocabulary.

    Args:
        model: as loaded.
        rows: (..., V) -> (..., V').

    Attributes:
        eos_id: the model's, which is also the other's.
    """

    def __init__(self, model: Narrator, rows: Rows) -> None:
        self._model, self._rows = model, rows
        self.eos_id = model.eos_id

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._model.device

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """The model's inputs for one clip."""
        return self._model.prepare(clip, span)

    def state(self, inputs: Tensor) -> "SharedState":
        """The model's decoder on one clip's prefix."""
        return SharedState(self._model.state(inputs), self._rows)

    def states(self, inputs: list[Tensor]) -> "SharedStates":
        """The model's decoder on the prefixes of several clips."""
        return SharedStates(self._model.states(inputs), self._rows)


class SharedState:
    """A state on one sequence, its logits brought to another vocabulary.

    Attributes:
        prefix_logits: (V',) of the first generated id.
    """

    def __init__(self, state: TreeState, rows: Rows) -> None:
        self._state, self._rows = state, rows
        self.prefix_logits: Tensor = rows(state.prefix_logits)

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""
        return self._state.length

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids: (n, V'), or only the last `keep` rows."""
        return self._rows(self._state.feed(ids, keep=keep))

    def feed_tree(self, ids: list[int], parents: list[int]) -> Tensor:
        """Appends nodes of a tree: (n, V')."""
        return self._rows(self._state.feed_tree(ids, parents))

    def keep_nodes(self, nodes: list[int]) -> None:
        """Of the nodes fed since the last chain, keeps a path."""
        self._state.keep_nodes(nodes)

    def rollback(self, n: int) -> None:
        """Forgets the last n ids."""
        self._state.rollback(n)


class SharedStates:
    """A state on several sequences, its logits brought to another vocabulary.

    Attributes:
        prefix_logits: (B, V') of the first generated ids.
    """

    def __init__(self, state: BatchState, rows: Rows) -> None:
        self._state, self._rows = state, rows
        self.prefix_logits: Tensor = rows(state.prefix_logits)

    @property
    def lengths(self) -> list[int]:
        """Generated ids that each row holds."""
        return self._state.lengths

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Appends ids to each row: (B, n, V')."""
        return self._rows(self._state.feed(ids))

    def rollback(self, counts: Sequence[int]) -> None:
        """Forgets the last ids of each row."""
        self._state.rollback(counts)
