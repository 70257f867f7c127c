"""The two kinds of transformer block on OneLLM's IMU path, under the names of its checkpoint."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ClipTrunk", "Router", "expert", "fresh"]

RMS_EPSILON = 1e-5


def fresh(*shape: int) -> nn.Parameter:
    """Learnt vectors before any training."""
    return nn.Parameter(0.02 * torch.randn(shape))


class ClipMlp(nn.Module):
    """Two linear layers around CLIP's quick GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.c_fc(x)
        return self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class ClipBlock(nn.Module):
    """Pre-norm block of CLIP's vision transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = ClipMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ClipTrunk(nn.Module):
    """CLIP's vision transformer behind its image stem: all tokens come out, normalised.

    (openai/CLIP `clip/model.py`, `VisionTransformer`, without `conv1`, positions and `proj`.)
    """

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.class_embedding = fresh(width)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.Sequential(*(ClipBlock(width, heads) for _ in range(layers)))}
        )
        self.ln_post = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """(B, 1 + N, width) of tokens (B, N, width) and positions (1 + N, width)."""
        first = self.class_embedding.expand(len(tokens), 1, -1)
        x = self.ln_pre(torch.cat([first, tokens], dim=1) + positions)
        return self.ln_post(self.transformer["resblocks"](x))


class LlamaAttention(nn.Module):
    """Every token sees every token: no mask, no rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, width, bias=False)
        self.wv = nn.Linear(width, width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = [
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.wq, self.wk, self.wv)
        ]
        return self.wo(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class SwiGlu(nn.Module):
    """LLaMA's feed-forward: w2(silu(w1 x) * w3 x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class LlamaBlock(nn.Module):
    """LLaMA's pre-norm block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = LlamaAttention(width, heads)
        self.feed_forward = SwiGlu(width, hidden)
        self.attention_norm = nn.RMSNorm(width, eps=RMS_EPSILON)
        self.ffn_norm = nn.RMSNorm(width, eps=RMS_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


def expert(width: int, heads: int, hidden: int, layers: int) -> nn.Sequential:
    """One of the resamplers that the router weighs."""
    return nn.Sequential(*(LlamaBlock(width, heads, hidden) for _ in range(layers)))


class Router(nn.Module):
    """How much of each expert every token takes: sigmoids, normalised over the experts."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, experts)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, experts) shares of tokens (B, N, width)."""
        weights = torch.sigmoid(self.fc2(F.gelu(self.fc1(x))))
        return weights / weights.sum(dim=-1, keepdim=True)
