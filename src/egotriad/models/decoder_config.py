"""Settings of a LLaMA decoder; reading them takes neither torch nor transformers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import UsageError
from egotriad.models.settings import ADDED_LATER

__all__ = ["BaseDecoder", "DecoderConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Shape of a LLaMA decoder; its vocabulary is the tokenizer's.

    Attributes:
        hidden_size, intermediate_size, layers, heads: as in LLaMA.
        max_positions: longest sequence, prefix and generated ids together.
        tie_embeddings: whether input and output embeddings are one matrix.
        kv_heads: key and value heads of grouped-query attention; None as many as heads.
        rms_norm_eps, rope_theta: as in LLaMA.
    """

    hidden_size: int = 96
    intermediate_size: int = 256
    layers: int = 1
    heads: int = 4
    max_positions: int = 512
    tie_embeddings: bool = True
    kv_heads: int | None = field(default=None, metadata=ADDED_LATER)
    rms_norm_eps: float = field(default=1e-6, metadata=ADDED_LATER)
    rope_theta: float = field(default=10_000.0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.heads):
            raise UsageError(
                f"decoder: hidden size {self.hidden_size} with {self.heads} heads; rotary "
                "positions need an even size per head"
            )
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            raise UsageError(
                f"decoder: {self.heads} heads share {self.kv_heads} key and value heads; need a "
                "divisor"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseDecoder:
    """A published decoder that a model's decoder began as.

    Attributes:
        name: hub id, or the name of the folder or file where it has none.
        revision: commit on the hub; None when it came from a folder.
        sha256: of its weight files.
        licence: of its weights as far as known; None when not.
        path: where it lies here; never written down.
    """

    name: str
    revision: str | None
    sha256: str
    licence: str | None
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def on_hub(self) -> bool:
        """Whether its name is a hub id."""
        return "/" in self.name

    def to_json(self) -> dict[str, Any]:
        """What a record says of it."""
        names = ("name", "revision", "sha256", "licence")
        return {name: getattr(self, name) for name in names}
