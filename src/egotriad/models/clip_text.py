"""CLIP's text tower: sentences in the space that IMU2CLIP and PRIMUS bring IMU to.

`texts -> ids (N, L) -> transformer, at the end of text -> projection -> unit rows (N, D)`

For `openai/clip-vit-base-patch32` (D = 512) as its hub has it, or any CLIP folder of transformers.
The image tower in the file is left alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from egotriad.manifests.errors import CheckpointError
from egotriad.models.checkpoints import KeyMap, fill

__all__ = ["text_embeddings"]

KEYS = KeyMap(
    take=(("text_model.", "text_model."), ("text_projection.", "text_projection.")),
    ignore=("text_model.embeddings.position_ids",),  # old versions stored what is counted
    others=True,
)
BATCH = 64


@torch.inference_mode()
def text_embeddings(folder: Path, texts: Sequence[str]) -> Tensor:
    """(N, D) float32 unit rows of texts, in their order; longer ones than CLIP reads are cut.

    Args:
        folder: CLIP's own: config.json, tokenizer.json, weights.
        texts: N of them.

    Raises:
        CheckpointError: when the folder is no CLIP's, or lacks weights of the text tower.
    """
    config, tokenizer = _config(folder), _tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        tower = CLIPTextModelWithProjection(config).eval()
    fill(tower, folder, KEYS)
    tokenizer.enable_truncation(config.max_position_embeddings)
    rows = []
    for start in range(0, len(texts), BATCH):
        encoded = tokenizer.encode_batch(list(texts[start : start + BATCH]))
        longest = max(len(one.ids) for one in encoded)
        # What stands behind the end of text is not seen from there: attention is causal.
        ids = [one.ids + [one.ids[-1]] * (longest - len(one.ids)) for one in encoded]
        rows.append(tower(input_ids=torch.tensor(ids)).text_embeds)
    found = torch.cat(rows) if rows else torch.empty(0, config.projection_dim)
    return torch.nn.functional.normalize(found.float(), dim=-1)


def _config(folder: Path) -> CLIPTextConfig:
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        text = {"projection_dim": values.get("projection_dim", 512)}
        return CLIPTextConfig.from_dict(text | values.get("text_config", values))
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc}); need CLIP's own folder") from exc


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as exc:  # tokenizers raises bare Exception for every cause
        raise CheckpointError(f"{path}: not a tokenizer.json ({exc}); need CLIP's own") from exc
