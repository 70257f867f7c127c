"""LIMU-BERT's transformer, as both published versions share it.

`(B, T, 6) -> Linear, norm, + positions, norm -> 4 x the same block -> (B, T, 72)`

Xu et al., LIMU-BERT, SenSys 2021 (dapowan/LIMU-BERT-Public `models.py`, `config/limu_bert.json`
base_v1); LLaSA's sensor tower is this encoder. Names of the weights are the authors'.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egotriad.models.checkpoints import KeyMap

__all__ = ["KEYS", "WIDTH", "LimuBertTransformer"]

WIDTH = 72
HIDDEN = 144
HEADS = 4
PASSES = 4
EPSILON = 1e-12

KEYS = KeyMap(
    take=(("transformer.", "transformer."),),
    ignore=("fc.", "linear.", "norm.", "decoder."),  # the decoder that reconstructs masked samples
)


class Norm(nn.Module):
    """Layer normalisation with TensorFlow's names and place of epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))
        self.beta = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self.gamma, self.beta, EPSILON)


class Embedding(nn.Module):
    """Samples to vectors; one norm serves before and after the positions are added."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.lin = nn.Linear(6, WIDTH)
        self.pos_embed = nn.Embedding(positions, WIDTH)
        self.norm = Norm()

    def forward(self, samples: Tensor) -> Tensor:
        return self.norm(self.norm(self.lin(samples)) + self.pos_embed.weight[: samples.shape[1]])


class Attention(nn.Module):
    """Self-attention without an output projection (that one is the transformer's `proj`)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj_q = nn.Linear(WIDTH, WIDTH)
        self.proj_k = nn.Linear(WIDTH, WIDTH)
        self.proj_v = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = [
            project(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)  # (B, heads, T, 18)
            for project in (self.proj_q, self.proj_k, self.proj_v)
        ]
        return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """Two linear layers around the exact GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LimuBertTransformer(nn.Module):
    """Four passes through one block.

    The residual around attention comes from attention's own output, not from what went in: the
    authors assign `h = attn(h)` before they add. Weights trained so need it so.

    Args:
        positions: longest window.
    """

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.embed = Embedding(positions)
        self.attn = Attention()
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.norm1 = Norm()
        self.pwff = FeedForward()
        self.norm2 = Norm()

    def forward(self, samples: Tensor) -> Tensor:
        """(B, T, 72) features of (B, T, 6), one per sample."""
        x = self.embed(samples)
        for _ in range(PASSES):
            x = self.attn(x)
            x = self.norm1(x + self.proj(x))
            x = self.norm2(x + self.pwff(x))
        return x
