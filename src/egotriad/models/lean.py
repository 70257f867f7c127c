"""A LLaMA's forward pass for decoding, without what a general library has to carry along.

`embeddings (1, n, D) -> L x [RMS norm, attention over a fixed buffer, RMS norm, SwiGLU] -> (n, V)`

The weights are those of the `LlamaForCausalLM`, shared, not copied, and the operations are the same
in the same order: only module calls, mask building and growing caches are gone. On small models
those take most of the time of a step. Keys and values lie in buffers that are allocated once and
grow seldom; forgetting ids only moves a mark.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

__all__ = ["LeanLlama", "runs_lean"]

GROWTH = 64
"""Positions by which the buffers are longer than asked for."""


def runs_lean(decoder: LlamaForCausalLM) -> bool:
    """Whether `LeanLlama` can stand for it.

    It must be a LLaMA as published: plain linear layers without bias (no adapters, no quantised
    weights), SiLU, and rotary positions that do not change with the length of the text.
    """
    config = decoder.config
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        type(decoder).__name__ in ("LlamaForCausalLM", "PrefixedLlama")
        and config.hidden_act == "silu"
        and rope in ("default", "linear", "llama3")
        and all(
            type(module) is nn.Linear and module.bias is None
            for name, module in decoder.named_modules()
            if name.rpartition(".")[2].endswith(("_proj", "lm_head"))
        )
    )


class Layer(NamedTuple):
    """The weights of one block."""

    norm: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


class LeanLlama:
    """The decoder of one sequence with its keys and values.

    Args:
        decoder: one that `runs_lean`, in eval mode.
        capacity: positions to make room for at first.

    Attributes:
        length: positions held.
    """

    def __init__(self, decoder: LlamaForCausalLM, capacity: int) -> None:
        config, model = decoder.config, decoder.model
        self._layers = [
            Layer(
                norm=block.input_layernorm.weight,
                q=block.self_attn.q_proj.weight,
                k=block.self_attn.k_proj.weight,
                v=block.self_attn.v_proj.weight,
                o=block.self_attn.o_proj.weight,
                mlp_norm=block.post_attention_layernorm.weight,
                gate=block.mlp.gate_proj.weight,
                up=block.mlp.up_proj.weight,
                down=block.mlp.down_proj.weight,
            )
            for block in model.layers
        ]
        self._embed, self._norm = model.embed_tokens.weight, model.norm.weight
        self._head, self._epsilon = decoder.lm_head.weight, config.rms_norm_eps
        self._rotary = model.rotary_emb
        self._size = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        self._groups = config.num_attention_heads // config.num_key_value_heads
        self._buffers = self._embed.new_empty(
            (2, len(self._layers), config.num_key_value_heads, 0, self._size)
        )
        self.length = 0
        self._reserve(capacity)

    def serves(self, decoder: LlamaForCausalLM) -> bool:
        """Whether its weights are this decoder's, and its buffers like them still."""
        weight, buffers = decoder.model.embed_tokens.weight, self._buffers
        like = weight.device == buffers.device and weight.dtype == buffers.dtype
        return weight is self._embed and like

    def embed(self, ids: list[int]) -> Tensor:
        """(1, n, D) embeddings of ids."""
        return F.embedding(torch.tensor([ids], device=self._embed.device), self._embed)

    def feed(self, ids: list[int], keep: int) -> Tensor:
        """Appends ids: (keep, V) logits of the last of them."""
        return self.forward(self.embed(ids), keep)

    def forward(self, embeddings: Tensor, keep: int) -> Tensor:
        """Appends n positions: (keep, V) logits of the last of them.

        Args:
            embeddings: (1, n, D).
            keep: how many of the last positions' logits are wanted.
        """
        n = embeddings.shape[1]
        past, total = self.length, self.length + n
        self._reserve(total)
        mask = None
        if 1 < n < total:  # every position sees what lies before it
            mask = torch.ones((n, total), dtype=torch.bool, device=embeddings.device).tril(past)
        return self._layers_on(
            embeddings[0], self._cos[past:total], self._sin[past:total], mask, keep
        )

    def forward_tree(self, embeddings: Tensor, depths: list[int], seen: Tensor) -> Tensor:
        """Appends n nodes of a tree: (n, V) logits.

        Args:
            embeddings: (1, n, D).
            depths: position of each node behind the text so far (0 for its children).
            seen: bool (n, S + n), which slots each node attends to; S slots are held already.
        """
        n = embeddings.shape[1]
        self._reserve(self.length + n)
        at = torch.tensor(depths, device=embeddings.device)
        return self._layers_on(embeddings[0], self._cos[at], self._sin[at], seen, n)

    def keep_slots(self, start: int, slots: list[int]) -> None:
        """Of the slots from `start` on keeps these, moved together, in ascending order."""
        if slots and slots != list(range(start, start + len(slots))):
            at = torch.tensor(slots, device=self._buffers.device)
            moved = self._buffers[:, :, :, at]
            self._buffers[:, :, :, start : start + len(slots)] = moved
        self.length = start + len(slots)

    def _layers_on(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, keep: int
    ) -> Tensor:
        total = self.length + len(x)
        for index, layer in enumerate(self._layers):
            x = x + self._attend(index, layer, rms(x, layer.norm, self._epsilon), cos, sin, mask)
            h = rms(x, layer.mlp_norm, self._epsilon)
            x = x + F.linear(F.silu(F.linear(h, layer.gate)) * F.linear(h, layer.up), layer.down)
        self.length = total
        return F.linear(rms(x[-keep:], self._norm, self._epsilon), self._head)

    def _attend(
        self, index: int, layer: Layer, h: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None
    ) -> Tensor:
        n = len(h)
        past, total = self.length, self.length + n
        q, k, v = (F.linear(h, w).view(n, -1, self._size) for w in (layer.q, layer.k, layer.v))
        keys, values = self._buffers[0, index], self._buffers[1, index]  # (heads, S, d)
        keys[:, past:total] = rotate(k, cos, sin).transpose(0, 1)
        values[:, past:total] = v.transpose(0, 1)
        out = F.scaled_dot_product_attention(
            rotate(q, cos, sin).transpose(0, 1)[None],
            keys[None, :, :total],
            values[None, :, :total],
            attn_mask=mask,
            is_causal=mask is None and n > 1,
            enable_gqa=self._groups > 1,
        )
        return F.linear(out[0].transpose(0, 1).reshape(n, -1), layer.o)

    def _reserve(self, positions: int) -> None:
        held = self._buffers.shape[3]
        if positions <= held:
            return
        longer = list(self._buffers.shape)
        longer[3] = positions + GROWTH
        # Zeros: a slot that a mask hides must still hold a number.
        grown = self._buffers.new_zeros(longer)
        grown[:, :, :, : self.length] = self._buffers[:, :, :, : self.length]
        self._buffers = grown
        at = torch.arange(longer[3], device=grown.device)[None]
        cos, sin = self._rotary(grown, at)  # (1, S, d) each
        self._cos, self._sin = cos[0][:, None], sin[0][:, None]  # (S, 1, d): over all heads


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(n, heads, d) with each head turned by its position."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def rms(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm, in float32 at least."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)
