"""Weights of this package's own folders: written whole or in shards, read a gigabyte at a time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from egotriad.manifests.errors import CheckpointError
from egotriad.models.checkpoints import TensorHeader, read_headers, read_tensors

__all__ = ["SHARD_BYTES", "fill_exactly", "float_bytes", "weight_files", "write_weights"]

SHARD_BYTES = 5 * 10**9
"""Largest file; more weights go into several with an index, as transformers writes them."""
PIECE_BYTES = 1 << 30


def write_weights(
    folder: Path,
    weights: Mapping[str, Tensor],
    *,
    stem: str = "model",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes `STEM.safetensors`, or its shards and `STEM.safetensors.index.json`.

    Args:
        folder: where to.
        weights: by name; no two of them share memory.
        stem: start of the files' names.
        shard_bytes: largest file.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    pattern = stem + "{suffix}.safetensors"
    plan = split_torch_state_dict_into_shards(
        dict(weights), filename_pattern=pattern, max_shard_size=shard_bytes
    )
    for file, names in plan.filename_to_tensors.items():
        part = {name: weights[name].contiguous() for name in names}
        path = folder / file
        path.touch()
        usual = path.stat().st_mode
        save_file(part, path, metadata={"format": "pt"})
        path.chmod(usual)  # safetensors makes files that nobody else can read
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / f"{stem}.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def weight_files(folder: Path) -> list[str]:
    """Names of the files of `model` weights that lie in a folder, sorted; an index included."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = "model.safetensors.index.json"
    if not (folder / index).is_file():
        return []
    return sorted([*(path.name for path in folder.glob("model-*-of-*.safetensors")), index])


def float_bytes(path: Path) -> int:
    """What the weights of a file or folder take in float32; nothing but headers is read.

    Raises:
        CheckpointError: when they are damaged.
    """
    return 4 * sum(torch.Size(header.shape).numel() for header in read_headers(path).values())


def fill_exactly(path: Path, needed: Mapping[str, Tensor], what: str) -> None:
    """Copies the weights of a file or folder into tensors, one piece after the other.

    Args:
        path: a safetensors file, or a folder with `model` weights.
        needed: the tensors to fill, by name; the files must have exactly these.
        what: is filled, for messages.

    Raises:
        CheckpointError: when the files are damaged; or naming every weight that is missing,
            unexpected or of another shape. Nothing was changed by then.
    """
    found = read_headers(path)
    problems = [f"missing {name}" for name in sorted(needed.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - needed.keys())]
    problems += [
        f"{name} is {list(found[name].shape)}, need {list(needed[name].shape)}"
        for name in sorted(needed.keys() & found.keys())
        if found[name].shape != tuple(needed[name].shape)
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit {what}: {'; '.join(problems)}")
    with torch.no_grad():
        for names in _pieces(found):
            for name, tensor in read_tensors(path, names).items():
                needed[name].copy_(tensor)


def _pieces(headers: Mapping[str, TensorHeader]) -> Iterator[list[str]]:
    """Names in groups of about a gigabyte."""
    names: list[str] = []
    size = 0
    for name, header in headers.items():
        names.append(name)
        size += torch.Size(header.shape).numel() * header.dtype.itemsize
        if size >= PIECE_BYTES:
            yield names
            names, size = [], 0
    if names:
        yield names
