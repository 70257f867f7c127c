"""The lean forward with shapes that never change, so that a CUDA graph can replay it.

A small decoder's step on a GPU lasts as long as the host needs to start its kernels, a hundred of
them; a graph starts all with one call. What differs from step to step (ids, position) lies in
tensors that the graph reads; attention covers the whole buffer, and a mask hides what is not there
yet. One object serves one sequence at a time and is used again for the next.

Without CUDA the same functions run without graphs: slower than `LeanLlama`, and equal to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.manifests.errors import UsageError
from egotriad.models.lean import Layer, LeanLlama

__all__ = ["GraphedLlama"]

WARM_UPS = 3  # runs before a capture, which must find every kernel loaded and memory taken


@dataclass(frozen=True, slots=True)
class Step:
    """Feeding n ids: inputs to fill, what to run, and where the result is."""

    ids: Tensor  # (n,)
    run: Callable[[], None]
    logits: Tensor  # (n, V)


class GraphedLlama(LeanLlama):
    """A decoder of one sequence with a buffer of fixed size.

    Args:
        decoder: one that `runs_lean`, in eval mode.
        capacity: positions of prefix and text together.
        most: largest number of ids in one step that is worth a graph; longer ones run without.
    """

    def __init__(self, decoder: LlamaForCausalLM, capacity: int, *, most: int = 9) -> None:
        super().__init__(decoder, capacity)
        self.capacity = self._buffers.shape[3]
        self._most = most
        self._at = torch.zeros(1, dtype=torch.long, device=self._embed.device)
        self._slots = torch.arange(self.capacity, device=self._embed.device)
        self._steps: dict[int, Step] = {}

    def feed(self, ids: list[int], keep: int) -> Tensor:
        """Appends ids: (keep, V) logits of the last of them.

        Raises:
            UsageError: when the buffer is full.
        """
        n = len(ids)
        if n > self._most:
            return self.forward(self.embed(ids), keep)
        if self.length + n > self.capacity:
            self._reserve(self.length + n)
        step = self._steps.get(n) or self._steps.setdefault(n, self._new_step(n))
        step.ids.copy_(torch.tensor(ids))
        self._at.fill_(self.length)
        step.run()
        self.length += n
        return step.logits[-keep:].clone()

    def _reserve(self, positions: int) -> None:
        """Makes room the first time; a graph cannot follow a buffer that moves."""
        if self._buffers.shape[3] and positions > self._buffers.shape[3]:
            raise UsageError(
                f"a graph's buffer holds {self._buffers.shape[3]} positions, need {positions}; "
                "make it with a larger capacity"
            )
        super()._reserve(positions)

    def _new_step(self, n: int) -> Step:
        device = self._embed.device
        ids = torch.zeros(n, dtype=torch.long, device=device)
        logits = torch.empty((n, self._head.shape[0]), dtype=self._embed.dtype, device=device)

        def run() -> None:
            logits.copy_(self._static(ids))

        if device.type != "cuda":
            return Step(ids, run, logits)
        # What warming up writes lies behind the text, where nothing is read before it is written.
        self._at.fill_(min(self.length, self.capacity - n))
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return Step(ids, graph.replay, logits)

    def _static(self, ids: Tensor) -> Tensor:
        """(n, V): as `forward`, with the position in a tensor."""
        x = F.embedding(ids, self._embed)
        positions = self._at + self._slots[: len(ids)]
        cos, sin = self._cos.index_select(0, positions), self._sin.index_select(0, positions)
        mask = self._slots <= positions[:, None]  # (n, S)
        for index, layer in enumerate(self._layers):
            h = self._rms(x, layer.norm)
            x = x + self._attend_static(index, layer, h, cos, sin, positions, mask)
            h = self._rms(x, layer.mlp_norm)
            x = x + F.linear(F.silu(F.linear(h, layer.gate)) * F.linear(h, layer.up), layer.down)
        return F.linear(self._rms(x, self._norm), self._head)

    def _attend_static(
        self,
        index: int,
        layer: Layer,
        h: Tensor,
        cos: Tensor,
        sin: Tensor,
        positions: Tensor,
        mask: Tensor,
    ) -> Tensor:
        n = len(h)
        q, k, v = (F.linear(h, w).view(n, -1, self._size) for w in (layer.q, layer.k, layer.v))
        keys, values = self._buffers[0, index], self._buffers[1, index]
        keys.index_copy_(1, positions, self._rotate(k, cos, sin).transpose(0, 1))
        values.index_copy_(1, positions, v.transpose(0, 1))
        out = F.scaled_dot_product_attention(
            self._rotate(q, cos, sin).transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=mask,
            enable_gqa=self._groups > 1,
        )
        return F.linear(out[0].transpose(0, 1).reshape(n, -1), layer.o)
