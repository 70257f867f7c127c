"""One causal decoder on one sequence: its own prefix, then ids shared with other models.

`prefix embeddings (1, P, D) | ids (n,) -> logits (n, V)`. Draft and target each hold a
`DecoderState` with a prefix of their own (IMU tokens here, event tokens there); what they share is
the stream of generated ids, fed and rolled back independently.
"""

from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

from egotriad.manifests.errors import UsageError
from egotriad.models.lean import LeanLlama, runs_lean

__all__ = ["DecoderState", "wide"]


class Engine(Protocol):
    """What runs the decoder and keeps its cache."""

    @property
    def cached(self) -> int:
        """Positions that the cache holds."""

    def start(self, prefix: Tensor) -> Tensor:
        """(1, V) logits after the prefix (1, P, D)."""

    def feed(self, ids: list[int], keep: int) -> Tensor:
        """(keep, V) logits after the last of some more ids."""

    def crop(self, n: int) -> None:
        """Forgets the last n > 0 ids."""


class LibraryEngine:
    """The model as transformers runs it: any weights, adapters, devices."""

    def __init__(self, decoder: LlamaForCausalLM) -> None:
        self._decoder = decoder
        self._cache = DynamicCache(config=decoder.config)

    @property
    def cached(self) -> int:
        """Positions that the cache holds."""
        return self._cache.get_seq_length()

    def start(self, prefix: Tensor) -> Tensor:
        """(1, V) logits after the prefix (1, P, D)."""
        return self._run(1, inputs_embeds=prefix)

    def feed(self, ids: list[int], keep: int) -> Tensor:
        """(keep, V) logits after the last of some more ids."""
        return self._run(keep, input_ids=torch.tensor([ids], device=self._decoder.device))

    def crop(self, n: int) -> None:
        """Forgets the last n > 0 ids.

        transformers 5 takes only a negative count, and 4.57 emptied the cache on 0.
        """
        self._cache.crop(-n)

    def _run(self, keep: int, **inputs: Tensor) -> Tensor:
        out = self._decoder(
            **inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=keep
        )
        return out.logits[0]


class LeanEngine:
    """The same operations without the library around them."""

    def __init__(self, lean: LeanLlama) -> None:
        self._lean = lean

    @property
    def cached(self) -> int:
        """Positions that the cache holds."""
        return self._lean.length

    def start(self, prefix: Tensor) -> Tensor:
        """(1, V) logits after the prefix (1, P, D)."""
        self._lean.length = 0
        return self._lean.forward(prefix, 1)

    def feed(self, ids: list[int], keep: int) -> Tensor:
        """(keep, V) logits after the last of some more ids."""
        return self._lean.feed(ids, keep)

    def crop(self, n: int) -> None:
        """Forgets the last n > 0 ids."""
        self._lean.length -= n

    def feed_tree(self, ids: list[int], depths: list[int], seen: Tensor) -> Tensor:
        """(n, V) logits after nodes of a tree; see `LeanLlama.forward_tree`."""
        return self._lean.forward_tree(self._lean.embed(ids), depths, seen)

    def keep(self, start: int, slots: list[int]) -> None:
        """Of the positions from `start` on keeps these."""
        self._lean.keep_slots(start, slots)


class DecoderState:
    """Prefix and generated ids of one sequence in a KV cache (batch size 1).

    Args:
        decoder: a `LlamaForCausalLM` in eval mode.
        prefix: (1, P, D) embeddings of everything before the first generated id; run at once.
        lean: whether `egotriad.models.lean` runs it; where it can when not given.
        runner: a `GraphedLlama` of this decoder that no other state uses any more; it takes over
            the work, and its memory.

    Attributes:
        prefix_logits: (V,) float32 (float64 of a float64 model), logits of the first generated id.
        length: number of generated ids in the cache.
    """

    def __init__(
        self,
        decoder: LlamaForCausalLM,
        prefix: Tensor,
        *,
        lean: bool | None = None,
        runner: LeanLlama | None = None,
    ) -> None:
        self.prefix_length = prefix.shape[1]
        self.length = 0
        self._parents: list[int] = []  # of the nodes of a tree that hang on the text
        if runner is None and (runs_lean(decoder) if lean is None else lean):
            runner = LeanLlama(decoder, self.prefix_length)
        if runner is not None:
            self._engine: Engine = LeanEngine(runner)
        else:
            self._engine = LibraryEngine(decoder)
        with torch.inference_mode():
            self.prefix_logits: Tensor = wide(self._engine.start(prefix))[0]

    @property
    def cached(self) -> int:
        """Positions in the cache itself, prefix included; nodes of a tree count."""
        return self._engine.cached

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids and returns (n, V): row i holds the logits after ids[i].

        Args:
            ids: one or more.
            keep: only the last so many rows; all when not given.
        """
        with torch.inference_mode():
            rows = self._engine.feed(ids, keep or len(ids))
        self.length += len(ids)
        return wide(rows)

    def feed_tree(self, ids: list[int], parents: list[int]) -> Tensor:
        """Appends nodes of a tree and returns (n, V): row i holds the logits after node i.

        A node sees the text and its ancestors. Until `keep_nodes` only further nodes can be fed.

        Args:
            ids: one or more.
            parents: index of each node's parent among all nodes of this tree, which comes before
                it; -1 for one that follows the text.

        Raises:
            UsageError: when transformers runs the decoder, which has no such pass.
        """
        if not isinstance(self._engine, LeanEngine):
            raise UsageError(
                "a tree of drafts needs a plain LLaMA decoder (no adapters); draft a chain"
            )
        first, text = len(self._parents), self.prefix_length + self.length
        self._parents += parents
        device = self.prefix_logits.device
        seen = torch.zeros((len(ids), text + len(self._parents)), dtype=torch.bool, device=device)
        seen[:, :text] = True
        depths = []
        for row, node in enumerate(range(first, len(self._parents))):
            path = self._path(node)
            seen[row, [text + ancestor for ancestor in path]] = True
            depths.append(text + len(path) - 1)
        with torch.inference_mode():
            return wide(self._engine.feed_tree(ids, depths, seen))

    def keep_nodes(self, nodes: list[int]) -> None:
        """Makes a path of the tree part of the text and forgets the other nodes."""
        if self._parents and isinstance(self._engine, LeanEngine):
            text = self.prefix_length + self.length
            with torch.inference_mode():
                self._engine.keep(text, [text + node for node in nodes])
            self.length += len(nodes)
        self._parents = []

    def _path(self, node: int) -> list[int]:
        """The node and its ancestors."""
        path = []
        while node >= 0:
            path.append(node)
            node = self._parents[node]
        return path

    def rollback(self, n: int) -> None:
        """Forgets the last n generated ids."""
        if not 0 <= n <= self.length:
            raise ValueError(f"cannot roll back {n} ids, the cache holds {self.length}")
        if n:
            self._engine.crop(n)
            self.length -= n


def wide(logits: Tensor) -> Tensor:
    """At least float32, which probabilities and comparisons are made in."""
    return logits if logits.dtype == torch.float64 else logits.float()
