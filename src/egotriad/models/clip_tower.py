"""CLIP's vision tower, and the pixels that it looks at, without torchvision.

`images (H, W, 3) uint8 -> clip_pixels (n, 3, S, S) -> tower -> last layer (n, 1 + S^2/P^2, C)`
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from egotriad.manifests.errors import CheckpointError, MissingDependency, UsageError

__all__ = ["ClipTowerConfig", "build_tower", "clip_pixels", "read_tower_config", "tower_config"]

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)[:, None, None]
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)[:, None, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTowerConfig:
    """Shape of the tower; the defaults are ViT-L/14 at 336 px (303,507,456 weights).

    Attributes:
        hidden_size, intermediate_size, layers, heads: of the transformer.
        image_size, patch_size: in pixels; the tower gives one vector per patch and one for CLS.
        activation: of the MLPs: quick_gelu in OpenAI's weights, gelu in LanguageBind's.
    """

    hidden_size: int = 1024
    intermediate_size: int = 4096
    layers: int = 24
    heads: int = 16
    image_size: int = 336
    patch_size: int = 14
    activation: str = "quick_gelu"

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise UsageError(
                f"tower: images of {self.image_size} px are no whole number of patches of "
                f"{self.patch_size} px"
            )

    @property
    def tokens(self) -> int:
        """Vectors per image, CLS included."""
        return 1 + (self.image_size // self.patch_size) ** 2


def build_tower(config: ClipTowerConfig) -> CLIPVisionModel:
    """A tower with random weights."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act=config.activation,
        )
    )


def tower_config(values: object, where: Path) -> ClipTowerConfig:
    """The tower that a CLIP `config.json` (or its `vision_config`) describes.

    Args:
        values: the JSON object; fields it lacks are those of ViT-L/14 at 336 px.
        where: the file, for the message.

    Raises:
        CheckpointError: when it describes none.
    """
    if not isinstance(values, dict):
        raise CheckpointError(f"{where}: holds no JSON object, need CLIP's vision_config")
    plain = ClipTowerConfig()
    try:
        values = dict(values.get("vision_config", values))
        return ClipTowerConfig(
            hidden_size=int(values.get("hidden_size", plain.hidden_size)),
            intermediate_size=int(values.get("intermediate_size", plain.intermediate_size)),
            layers=int(values.get("num_hidden_layers", plain.layers)),
            heads=int(values.get("num_attention_heads", plain.heads)),
            image_size=int(values.get("image_size", plain.image_size)),
            patch_size=int(values.get("patch_size", plain.patch_size)),
            activation=str(values.get("hidden_act", plain.activation)),
        )
    except (AttributeError, TypeError, ValueError, UsageError) as exc:
        raise CheckpointError(f"{where}: not the config of a CLIP vision tower ({exc})") from exc


def read_tower_config(folder: Path) -> ClipTowerConfig:
    """The tower of a local CLIP folder.

    Raises:
        CheckpointError: when its config.json is missing or no CLIP's.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc}); need CLIP's own folder") from exc
    return tower_config(values, path)


def clip_pixels(images: Sequence[NDArray[np.uint8]], size: int) -> Tensor:
    """What CLIP's own processor makes of images: bicubic to `size`, centre square, normalised.

    The shorter edge becomes `size`, the middle of the longer one is kept: a 640 x 480 frame loses a
    quarter of its width. As `CLIPImageProcessorPil` of transformers (which `CLIPImageProcessor`
    replaces by torchvision's slightly different resize where that is installed).

    Args:
        images: uint8 (H, W, 3), RGB; sizes may differ.
        size: edge of the square, pixels.

    Returns:
        float32 (n, 3, size, size).

    Raises:
        MissingDependency: without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as exc:
        raise MissingDependency(
            "preparing images for CLIP needs Pillow: pip install 'egotriad[train]'"
        ) from exc
    squares = []
    for image in images:
        height, width = image.shape[:2]
        short = min(height, width)
        scaled = (int(size * width / short), int(size * height / short))
        resized = Image.fromarray(image).resize(scaled, Image.Resampling.BICUBIC)
        left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
        square = np.asarray(resized.crop((left, top, left + size, top + size)), np.float32)
        squares.append((square.transpose(2, 0, 1) / np.float32(255) - MEAN) / STD)
    return torch.from_numpy(np.stack(squares))
