"""CLIP's pixels and tower: as transformers makes them, without torchvision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.clip_tower import (
    ClipTowerConfig,
    build_tower,
    clip_pixels,
    read_tower_config,
    tower_config,
)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (71, 40), (30, 33), (336, 336), (90, 51)])
@pytest.mark.parametrize("size", [28, 60])
def test_pixels_equal_those_of_clips_own_processor(height: int, width: int, size: int) -> None:
    rng = np.random.default_rng(height)
    images = [rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(2)]
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    expected = processor(images, return_tensors="pt")["pixel_values"]
    found = clip_pixels(images, size)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=0)


def test_images_of_other_sizes_give_one_batch() -> None:
    images = [np.full((20, 40, 3), 255, np.uint8), np.zeros((33, 31, 3), np.uint8)]
    pixels = clip_pixels(images, 14)
    assert pixels.shape == (2, 3, 14, 14)
    assert pixels[0, 0, 0, 0] == pytest.approx((1 - 0.48145466) / 0.26862954)
    assert pixels[1, 2, 5, 5] == pytest.approx(-0.40821073 / 0.27577711)


def test_vit_l_14_at_336_px_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        tower = build_tower(ClipTowerConfig())
    assert sum(p.numel() for p in tower.parameters()) == 303_507_456
    assert ClipTowerConfig().tokens == 577
    assert ClipTowerConfig(image_size=224).tokens == 257


def test_a_towers_config_is_read_from_clips_folder(tmp_path: Path) -> None:
    text = '{"model_type": "clip", "vision_config": {"hidden_size": 32, "num_attention_heads": 2}}'
    (tmp_path / "config.json").write_text(text)
    found = read_tower_config(tmp_path)
    assert (found.hidden_size, found.heads, found.layers) == (32, 2, 24)
    with pytest.raises(CheckpointError, match="no whole number of patches"):
        tower_config({"image_size": 100}, tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tower_config(tmp_path / "absent")
    with pytest.raises(UsageError, match="patches of 14 px"):
        ClipTowerConfig(image_size=30)
