"""Poolers: many feature vectors of an encoder to the few that a draft can afford.

```
kind         (B, K, d) ->       K' =
none         (B, K, d)          K
mean         (B, K', d)         ceil(K / factor), the last mean over what is left
conv         (B, K', d)         ceil(K / factor), learnt, zeros behind the end
resampler    (B, K', width)     queries
```
Every one of the K' vectors is a position that the draft's prefill has to read.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egotriad.manifests.errors import UsageError
from egotriad.models.settings import require_one_of

__all__ = ["Pooler", "PoolerConfig"]

PoolerKind = Literal["none", "mean", "conv", "resampler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerConfig:
    """Settings of a pooler; those that its kind does not use change nothing.

    Attributes:
        kind: see the module's table.
        factor: of `mean` and `conv`.
        queries, width, heads, layers: of the `resampler`.
    """

    kind: PoolerKind = "none"
    factor: int = 4
    queries: int = 16
    width: int = 256
    heads: int = 4
    layers: int = 2

    def __post_init__(self) -> None:
        require_one_of("pooler", self.kind, PoolerKind)
        for name in ("factor", "queries", "width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"pooler: {name} is {getattr(self, name)}, need 1 or more")
        if self.width % self.heads:
            raise UsageError(
                f"pooler: width {self.width} does not divide into {self.heads} heads; choose others"
            )


class Pooler(nn.Module):
    """One of the kinds.

    Args:
        config: which.
        tokens: K, feature vectors of a window.
        width: d.

    Attributes:
        tokens: K'. width: of what comes out.
    """

    def __init__(self, config: PoolerConfig, tokens: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.tokens = tokens
        self.width = width
        if config.kind in ("mean", "conv"):
            self.tokens = -(-tokens // config.factor)
        if config.kind == "conv":
            self.conv = nn.Conv1d(width, width, config.factor, stride=config.factor)
        if config.kind == "resampler":
            self.tokens, self.width = config.queries, config.width
            self.resampler = Resampler(config, tokens, width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, K', width) of (B, K, d)."""
        kind, factor = self.config.kind, self.config.factor
        if kind == "none":
            return features
        if kind == "resampler":
            return self.resampler(features)
        rows = features.transpose(1, 2)  # (B, d, K)
        if kind == "mean":
            pooled = F.avg_pool1d(rows, factor, ceil_mode=True, count_include_pad=False)
        else:
            pooled = self.conv(F.pad(rows, (0, -rows.shape[-1] % factor)))
        return pooled.transpose(1, 2)


class Resampler(nn.Module):
    """Learnt queries that read the features, layer by layer (Alayrac et al., Flamingo, 2022).

    Flamingo's perceiver: keys and values are the features and the queries themselves. We differ:
    positions are learnt for the features, whose order the attention would not see otherwise.
    """

    def __init__(self, config: PoolerConfig, tokens: int, width: int) -> None:
        super().__init__()
        self.entry = nn.Linear(width, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, config.width))
        self.queries = nn.Parameter(0.02 * torch.randn(config.queries, config.width))
        self.layers = nn.ModuleList(
            ResamplerLayer(config.width, config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor) -> Tensor:
        context = self.entry(features) + self.positions
        queries = self.queries.expand(len(features), -1, -1)
        for layer in self.layers:
            queries = layer(queries, context)
        return self.norm(queries)


class ResamplerLayer(nn.Module):
    """Pre-norm attention of the queries over features and queries, then a feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_context = nn.LayerNorm(width)
        self.norm_queries = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        asking = self.norm_queries(queries)
        seen = torch.cat([self.norm_context(context), asking], dim=1)
        queries = queries + self.attention(asking, seen, seen, need_weights=False)[0]
        return queries + self.feed_forward(queries)
