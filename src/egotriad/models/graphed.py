"""The lean forward with shapes that never change, so that a CUDA graph can replay it.

A small decoder's step on a GPU lasts as long as the host needs to start its kernels, a hundred of
them; a graph starts all with one call. What differs from step to step (ids, position) lies in
tensors that the graph reads; attention covers the whole buffer, and a mask hides what is not there
yet. One object serves one sequence at a time and is used again for the next.

Blocks can moreover be compiled (`torch.compile`), one after the other rather than the decoder as a
whole, as all are alike: norms, rotations and activations then join the kernels beside them.

Without CUDA the same functions run without graphs: slower than `LeanLlama`, and equal to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import FunctionType

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.models.lean import Layer, LeanLlama, rms, rotate

__all__ = ["GraphedLlama"]

WARM_UPS = 3  # runs before a capture, which must find every kernel loaded and memory taken
GROWTH = 256
"""Positions by which a buffer that was too small grows; the steps are made anew then."""
ALIGNED = 64
"""Buffers hold a multiple of this: attention kernels take masks of aligned rows as they are."""


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
        capacity: positions of prefix and text together; more are made room for, at the price of
            new graphs.
        most: largest number of ids in one step that is worth a graph; longer ones run without.
        compiled: whether blocks are compiled; the first step of each length waits for that.
    """

    def __init__(
        self, decoder: LlamaForCausalLM, capacity: int, *, most: int = 9, compiled: bool = False
    ) -> None:
        super().__init__(decoder, capacity)
        self._most, self._compiled = most, compiled
        self._at = torch.zeros(1, dtype=torch.long, device=self._embed.device)

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self._buffers.shape[3]

    def feed(self, ids: list[int], keep: int) -> Tensor:
        """Appends ids: (keep, V) logits of the last of them."""
        n = len(ids)
        if n > self._most:
            return self.forward(self.embed(ids), keep)
        self._reserve(self.length + n)
        step = self._steps.get(n) or self._steps.setdefault(n, self._new_step(n))
        step.ids.copy_(torch.tensor(ids))
        self._at.fill_(self.length)
        step.run()
        self.length += n
        return step.logits[-keep:].clone()

    def _reserve(self, positions: int) -> None:
        held = self._buffers.shape[3]
        if positions <= held:
            return
        positions += GROWTH if held else 0
        super()._reserve(-(-positions // ALIGNED) * ALIGNED)
        # Graphs hold the place of the buffer they were made with.
        self._steps: dict[int, Step] = {}
        self._slots = torch.arange(self.capacity, device=self._buffers.device)

    def _new_step(self, n: int) -> Step:
        device = self._embed.device
        ids = torch.zeros(n, dtype=torch.long, device=device)
        logits = torch.empty((n, self._head.shape[0]), dtype=self._embed.dtype, device=device)

        def run() -> None:
            logits.copy_(self._static(ids))

        if device.type != "cuda":
            return Step(ids, run, logits)
        # What warming up writes lies behind the text, where nothing is read before it is written.
        self._at.fill_(self.length)
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
        # Added to scores, row by row for each head that shares keys; the same for all layers.
        mask = torch.where(self._slots <= positions[:, None], 0.0, -torch.inf).to(x.dtype)
        mask = mask.repeat(self._groups, 1)  # (groups n, S)
        run = _block
        if self._compiled:
            heads, inner = self._layers[0].k.shape[0], self._layers[0].gate.shape[0]
            run = _compiled_block(len(ids), x.shape[1], heads, inner, x.dtype)
        for index, layer in enumerate(self._layers):
            held = self._buffers[0, index], self._buffers[1, index]
            x = run(x, layer, *held, cos, sin, positions, mask, self._epsilon)
        return F.linear(rms(x, self._norm, self._epsilon), self._head)


def _block(
    x: Tensor,
    layer: Layer,
    keys: Tensor,
    values: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    mask: Tensor,
    epsilon: float,
) -> Tensor:
    """(n, D): one block on n ids; keys and values (heads, S, d) are filled at their positions."""
    n, (kv_heads, _, size) = len(x), keys.shape
    h = rms(x, layer.norm, epsilon)
    q, k, v = (F.linear(h, w).view(n, -1, size) for w in (layer.q, layer.k, layer.v))
    keys.index_copy_(1, positions, rotate(k, cos, sin).transpose(0, 1))
    values.index_copy_(1, positions, v.transpose(0, 1))
    # Heads that share keys are rows of one head: no kernel for grouped queries takes a mask.
    groups = q.shape[1] // kv_heads
    rows = rotate(q, cos, sin).transpose(0, 1).reshape(1, kv_heads, groups * n, size)
    out = F.scaled_dot_product_attention(rows, keys[None], values[None], attn_mask=mask)
    x = x + F.linear(out.view(-1, n, size).transpose(0, 1).reshape(n, -1), layer.o)
    h = rms(x, layer.mlp_norm, epsilon)
    return x + F.linear(F.silu(F.linear(h, layer.gate)) * F.linear(h, layer.up), layer.down)


@cache
def _compiled_block(n: int, *shape: object) -> Callable[..., Tensor]:
    """`_block`, compiled for n ids of decoders with blocks of some shape.

    Each has a code object of its own: torch gives up on one that it has compiled eight times.
    """
    code = _block.__code__.replace(co_name=f"block_of_{n}")
    own = FunctionType(code, _block.__globals__)
    compiled: Callable[..., Tensor] = torch.compile(own, dynamic=False, fullgraph=True)
    return compiled
