"""Projectors: feature vectors of an encoder to the width of a language model.

```
kind          (B, K, d) -> (B, K, D)
none          as it is: d must be D
linear        Linear(d, D)
mlp2x_gelu    Linear(d, D), GELU, Linear(D, D)
sensorllm     Linear(d, 2048), GELU, Linear(2048, 3072), GELU, Linear(3072, D)
```
`linear` and `mlp2x_gelu` have LLaVA's names (haotian-liu/LLaVA `multimodal_projector/builder.py`),
so its descendants' projectors load, LLaSA's among them. `sensorllm` is SensorLLM's `ts_proj`
(cruiseresearchgroup/SensorLLM); no weights of it are published.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.checkpoints import KeyMap, TensorHeader, fill, read_headers
from egotriad.models.settings import require_one_of

__all__ = ["ProjectorKind", "build_projector", "load_projector"]

ProjectorKind = Literal["mlp2x_gelu", "linear", "sensorllm", "none"]
SENSORLLM_WIDTHS = (2048, 3072)
PREFIXES = ("model.mm_projector.", "mm_projector.")


def build_projector(kind: ProjectorKind, width: int, hidden_size: int) -> nn.Module:
    """A fresh projector from `width` to `hidden_size`.

    Raises:
        UsageError: an unknown kind, or none between different widths.
    """
    require_one_of("projector", kind, ProjectorKind)
    if kind == "none":
        if width != hidden_size:
            raise UsageError(
                f"projector none: features are {width} wide, the decoder {hidden_size}; need equal "
                "widths, or choose mlp2x_gelu"
            )
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, hidden_size)
    inner = SENSORLLM_WIDTHS if kind == "sensorllm" else (hidden_size,)
    widths = (width, *inner, hidden_size)
    layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
    for one, other in pairwise(widths[1:]):
        layers += [nn.GELU(), nn.Linear(one, other)]
    return nn.Sequential(*layers)


def load_projector(path: Path) -> nn.Module:
    """The projector of a LLaVA-like checkpoint, float32, on the CPU.

    Args:
        path: `mm_projector.bin`, or a whole checkpoint's folder or file; its keys start with
            `model.mm_projector.` or `mm_projector.`, everything else is left alone.

    Raises:
        CheckpointError: there is none, or it is of another kind; every key that does not fit is
            listed.
    """
    headers = read_headers(path)
    prefix = next((p for p in PREFIXES if any(key.startswith(p) for key in headers)), None)
    if prefix is None:
        raise CheckpointError(
            f"{path}: none of its {len(headers)} tensors is a projector's, need keys that start "
            f"with {' or '.join(PREFIXES)}"
        )
    with torch.device("meta"):
        projector = _like(
            {
                key.removeprefix(prefix): header
                for key, header in headers.items()
                if key.startswith(prefix)
            }
        )
    fill(projector, path, KeyMap(take=((prefix, ""),), others=True))
    return projector


def _like(headers: dict[str, TensorHeader]) -> nn.Module:
    """A projector of the kind and size that a checkpoint's keys show."""
    first = headers.get("weight") or headers.get("0.weight")
    if first is None or len(first.shape) != 2:
        shown = ", ".join(f"{key} {list(header.shape)}" for key, header in sorted(headers.items()))
        raise CheckpointError(f"projector: got {shown}; need weight (linear) or 0.weight (MLP)")
    hidden_size, width = first.shape
    return build_projector("linear" if "weight" in headers else "mlp2x_gelu", width, hidden_size)
