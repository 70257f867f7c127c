"""Drafting several continuations at once: a tree of ids, verified in one target pass. Greedy only.

`emitted -> draft: level by level, the likeliest nodes -> ids, parents -> target: one pass with
every node seeing its ancestors -> the path that is the target's own`

The draft keeps the nodes with the largest product of probabilities (EAGLE-2, Li et al. 2024, arXiv
2406.16858, section 4: expand the best `width` of each level, keep the best `nodes` of all). The
text is the target's greedy text as with a chain; a tree only finds it sooner, for a dearer pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from egotriad.alignment.rules import common_prefix
from egotriad.alignment.speculate import Round, Speculation, finish_round
from egotriad.manifests.errors import UsageError

__all__ = ["Tree", "TreeDraft", "TreeShape", "TreeState", "speculate_tree"]

ROOT = -1


@dataclass(frozen=True, slots=True)
class TreeShape:
    """How large a tree may grow.

    Attributes:
        depth: ids on the longest path.
        width: nodes that are expanded on each level, and children that each of them gets.
        nodes: how many are verified, the likeliest of all.
    """

    depth: int
    width: int
    nodes: int

    def __post_init__(self) -> None:
        if min(self.depth, self.width, self.nodes) < 1:
            raise UsageError(
                f"tree: got depth {self.depth}, width {self.width}, nodes {self.nodes}; need >= 1"
            )


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes in an order in which parents come first; those of one parent, likeliest first.

    Attributes:
        ids: (n,).
        parents: (n,) index of each node's parent, -1 for the children of the text so far.
    """

    ids: list[int]
    parents: list[int]

    def children(self) -> dict[int, list[int]]:
        """Parent -> its children's indices."""
        found: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents):
            found.setdefault(parent, []).append(node)
        return found


class TreeState(Protocol):
    """A decoder that can be fed a tree, as `egotriad.models.state.DecoderState` is."""

    prefix_logits: Tensor

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids: (n, V)."""

    def feed_tree(self, ids: list[int], parents: list[int]) -> Tensor:
        """Appends nodes that see the text and their ancestors: (n, V)."""

    def keep_nodes(self, nodes: list[int]) -> None:
        """Of the nodes fed since the last chain, keeps a path, as if it had been a chain."""

    def rollback(self, n: int) -> None:
        """Forgets the last n ids."""


class TreeDraft:
    """A draft model that proposes trees.

    Args:
        state: on its own prefix.
        eos_id: nothing grows below it.
        vocabulary: number of ids the target knows.
    """

    def __init__(self, state: TreeState, eos_id: int, *, vocabulary: int | None = None) -> None:
        self._state, self._eos_id, self._vocabulary = state, eos_id, vocabulary
        self._fed: list[int] = []

    def propose_tree(self, emitted: list[int], shape: TreeShape) -> Tree:
        """The likeliest continuations of `emitted`."""
        logits = self._after(emitted)[None]
        ids: list[int] = []
        parents: list[int] = []
        scores: list[float] = []
        fed: list[int] = []  # nodes in the cache, in its order
        grown, base = [ROOT], [0.0]
        for level in range(shape.depth):
            new = self._grow(logits, grown, base, shape.width)
            first = len(ids)
            ids += [i for _, i, _ in new]
            parents += [parent for parent, _, _ in new]
            scores += [score for _, _, score in new]
            level_nodes = sorted(range(first, len(ids)), key=lambda node: -scores[node])
            grown = [n for n in level_nodes[: shape.width] if ids[n] != self._eos_id]
            if level + 1 == shape.depth or not grown:
                break
            base = [scores[node] for node in grown]
            place = {node: slot for slot, node in enumerate(fed)}
            logits = self._state.feed_tree(
                [ids[node] for node in grown], [place.get(parents[node], ROOT) for node in grown]
            )
            fed += grown
        self._state.keep_nodes([])
        return _best(ids, parents, scores, shape.nodes)

    def _grow(
        self, logits: Tensor, grown: Sequence[int], base: Sequence[float], width: int
    ) -> list[tuple[int, int, float]]:
        """(parent, id, log probability of the path) of the children of some nodes."""
        rows = logits[:, : self._vocabulary].log_softmax(-1)
        best = rows.topk(min(width, rows.shape[-1]))
        return [
            (parent, int(i), start + value)
            for parent, start, values, ids in zip(
                grown, base, best.values.tolist(), best.indices.tolist(), strict=True
            )
            for value, i in zip(values, ids, strict=True)
        ]

    def _after(self, emitted: list[int]) -> Tensor:
        kept = min(common_prefix(self._fed, emitted), max(len(emitted) - 1, 0))
        self._state.rollback(len(self._fed) - kept)
        self._fed = list(emitted)
        if not emitted:
            return self._state.prefix_logits
        return self._state.feed(emitted[kept:], keep=1)[-1]


def speculate_tree(
    target: TreeState, draft: TreeDraft, shape: TreeShape, *, max_new_tokens: int, eos_id: int
) -> Speculation:
    """The target's greedy text, verified a tree at a time.

    A round's `drafted` is the accepted path and, below it, the draft's likeliest continuation.

    Args:
        target: rolled back to its prefix first.
        draft: asked once per round.
        shape: of the trees.
        max_new_tokens: the text ends here if no end of sequence came before.
        eos_id: the text ends after it.

    Raises:
        UsageError: max_new_tokens below 1.
    """
    if max_new_tokens < 1:
        raise UsageError(f"got max_new_tokens {max_new_tokens}, need >= 1")
    target.rollback(target.length)
    ids: list[int] = []
    rounds: list[Round] = []
    while len(ids) < max_new_tokens and ids[-1:] != [eos_id]:
        room = max_new_tokens - len(ids) - 1
        tree = Tree([], [])
        if room:
            depth = min(shape.depth, room)
            tree = draft.propose_tree(ids, TreeShape(depth, shape.width, shape.nodes))
        first, choices = _choices(target, ids, tree)
        path, own = _walk(tree, first, choices)
        done = finish_round(_shown(tree, path), len(path), own, eos_id)
        # What was emitted but the last id stays; the last one of the text before was a node too.
        kept = path[: len(done.emitted) - 1]
        target.keep_nodes([0, *(node + 1 for node in kept)] if ids else kept)
        rounds.append(done)
        ids += done.emitted
    return Speculation(ids=ids, rounds=tuple(rounds))


def _choices(target: TreeState, ids: list[int], tree: Tree) -> tuple[int, list[int]]:
    """The target's argmax after the text, and after each node: one pass.

    The text's last id, which the target does not hold yet, is the node above all others.
    """
    if not ids:
        first = int(target.prefix_logits.argmax())
        if not tree.ids:
            return first, []
        return first, target.feed_tree(tree.ids, tree.parents).argmax(-1).tolist()
    parents = [ROOT, *(parent - ROOT for parent in tree.parents)]
    first, *choices = target.feed_tree([ids[-1], *tree.ids], parents).argmax(-1).tolist()
    return first, choices


def _walk(tree: Tree, first: int, choices: Sequence[int]) -> tuple[list[int], int]:
    """The nodes that are the target's own path, and its id after them."""
    children = tree.children()
    path: list[int] = []
    node, wanted = ROOT, first
    while True:
        match = [n for n in children.get(node, ()) if tree.ids[n] == wanted]
        if not match:
            return path, wanted
        node = match[0]
        path.append(node)
        wanted = choices[node]


def _shown(tree: Tree, path: Sequence[int]) -> list[int]:
    children = tree.children()
    shown, node = list(path), path[-1] if path else ROOT
    while node in children:
        node = children[node][0]
        shown.append(node)
    return [tree.ids[n] for n in shown]


def _best(ids: Sequence[int], parents: Sequence[int], scores: Sequence[float], nodes: int) -> Tree:
    """The likeliest nodes; a parent is likelier than its children, so none loses its own."""
    order = sorted(range(len(ids)), key=lambda node: (-scores[node], node))[:nodes]
    place = {node: index for index, node in enumerate(order)} | {ROOT: ROOT}
    return Tree([ids[node] for node in order], [place[parents[node]] for node in order])
