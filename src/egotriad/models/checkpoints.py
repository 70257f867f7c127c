"""Weights of others: their headers, their tensors, and exactly which of them a module needs.

```
file.pt .pth .bin .ckpt     a dict of tensors, or {"state_dict": such a dict, ...} (Lightning)
file.safetensors
folder                      model.safetensors or pytorch_model.bin, whole or in shards with an index
```
Pickles are read with `weights_only=True`: nothing in them is executed. Headers are read without the
weights, so that a file of many gigabytes that does not fit is refused at once.
"""

import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from egotriad.manifests.errors import CheckpointError
from egotriad.models.room import require_room

__all__ = ["KeyMap", "TensorHeader", "check_fits", "fill", "read_headers", "read_tensors"]

NAMES = ("model.safetensors", "pytorch_model.bin")
SHOWN = 20
"""Keys of one kind that an error lists; the rest is counted."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Shape and type of a stored tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def fills(self, weight: Tensor) -> bool:
        """Whether it can take a weight's place, in whatever precision."""
        return self.shape == tuple(weight.shape) and self.dtype.is_floating_point


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMap:
    """Which keys of the authors' files belong to a module, and what the module calls them.

    Attributes:
        take: (start of a key in the file, start of it in the module); the first that fits counts.
        ignore: starts of keys that the file may have besides; looked at before `take`.
        others: whether it may have any other keys too (other modalities, a language model).
    """

    take: tuple[tuple[str, str], ...]
    ignore: tuple[str, ...] = ()
    others: bool = False

    def names(self, keys: Iterable[str]) -> tuple[dict[str, str], list[str]]:
        """The module's name of every key it should have -> the key; and keys nothing explains."""
        ours: dict[str, str] = {}
        unexplained: list[str] = []
        for key in keys:
            if key.startswith(self.ignore):
                continue
            start = next((pair for pair in self.take if key.startswith(pair[0])), None)
            if start:
                ours[start[1] + key.removeprefix(start[0])] = key
            elif not self.others:
                unexplained.append(key)
        return ours, unexplained

    def theirs(self, name: str) -> str:
        """What the file would call one of the module's weights."""
        start = next((pair for pair in self.take if name.startswith(pair[1])), ("", ""))
        return start[0] + name.removeprefix(start[1])


def fill(module: nn.Module, path: Path, keys: KeyMap) -> None:
    """Puts the weights of a file into a module (which may be on the meta device).

    Every weight keeps the module's type: half precision files fill float32 modules.

    Args:
        module: its state dict says what is needed.
        path: file or folder (see the module's docstring).
        keys: what is what.

    Raises:
        CheckpointError: one error that lists every missing, unexpected and misshapen key; there is
            too little memory for the weights; or the file cannot be read.
    """
    ours = check_fits(module, path, keys)
    need = sum(like.numel() * like.dtype.itemsize for like in module.state_dict().values())
    require_room(path, type(module).__name__, need)
    tensors = read_tensors(path, ours.values())
    state = {
        name: tensors.pop(ours[name]).to(like.dtype) for name, like in module.state_dict().items()
    }
    module.load_state_dict(state, assign=True)


def check_fits(module: nn.Module, path: Path, keys: KeyMap) -> dict[str, str]:
    """The file's key of every weight of the module, from headers alone: nothing large is read.

    Raises:
        CheckpointError: as `fill`.
    """
    headers = read_headers(path)
    ours, unexplained = keys.names(headers)
    needed = module.state_dict()
    problems = _listed("missing", [keys.theirs(name) for name in needed.keys() - ours.keys()])
    extra = [ours[name] for name in ours.keys() - needed.keys()]
    problems += _listed("unexpected", [*extra, *unexplained])
    problems += _listed(
        "of another shape or type",
        [
            f"{key} ({list(headers[key].shape)} {headers[key].dtype}, need "
            f"{list(needed[name].shape)} floating)"
            for name, key in ours.items()
            if name in needed and not headers[key].fills(needed[name])
        ],
    )
    if not ours:
        problems.append(f"none of them is there; the file has {', '.join(sorted(headers)[:3])} ...")
    if problems:
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__} ({len(headers)} tensors there, "
            f"{len(needed)} needed): {'; '.join(problems)}"
        )
    return ours


def _listed(what: str, keys: list[str]) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return [f"{what}: {', '.join(sorted(keys)[:SHOWN])}{more}"]


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """Key, shape and type of every tensor, without reading the tensors (zip and safetensors).

    Raises:
        CheckpointError: nothing there, or nothing that can be read.
    """
    headers: dict[str, TensorHeader] = {}
    for file in _files(path):
        if file.suffix == ".safetensors":
            with _safetensors(file) as stored:
                for key in stored.keys():  # noqa: SIM118 - no dict
                    part = stored.get_slice(key)
                    headers[key] = TensorHeader(tuple(part.get_shape()), _dtype(part.get_dtype()))
        else:
            for key, tensor in _unpickled(file, headers_only=True).items():
                headers[key] = TensorHeader(tuple(tensor.shape), tensor.dtype)
    return headers


def read_tensors(path: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of these keys, on the CPU, in memory of their own.

    Raises:
        CheckpointError: nothing there, nothing that can be read, or keys are missing.
    """
    wanted = set(keys)
    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        if file.suffix == ".safetensors":
            with _safetensors(file) as stored:
                tensors |= {key: stored.get_tensor(key) for key in wanted & set(stored.keys())}
        else:
            found = _unpickled(file, headers_only=False)
            tensors |= {key: found[key].clone() for key in wanted & found.keys()}
    if wanted - tensors.keys():
        missing = "; ".join(_listed("missing", sorted(wanted - tensors.keys())))
        raise CheckpointError(f"{path}: {missing}")
    return tensors


def _files(path: Path) -> list[Path]:
    """The files with weights behind a path."""
    if path.is_file():
        return [path]
    for name in NAMES:
        if (path / name).is_file():
            return [path / name]
        index = path / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise CheckpointError(
        f"{path}: no such file, and no folder with {' or '.join(NAMES)} (or the index of its "
        "shards); give the checkpoint as its authors publish it"
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / Path(name).name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{index}: not the index of a sharded checkpoint ({exc!r})") from exc
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{index}: shards are missing: {', '.join(missing)}")
    return files


def _safetensors(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt", device="cpu")
    except SafetensorError as exc:
        raise CheckpointError(f"{file}: damaged or no safetensors file ({exc})") from exc


def _dtype(name: str) -> torch.dtype:
    """The type of a safetensors type name."""
    return {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }.get(name, torch.uint8)


def _unpickled(file: Path, *, headers_only: bool) -> Mapping[str, Tensor]:
    """The tensors of a pickled checkpoint, mapped and not read where the format allows it."""
    try:
        loaded = torch.load(
            file,
            map_location="meta" if headers_only else "cpu",
            weights_only=True,
            mmap=zipfile.is_zipfile(file),  # what torch wrote before 1.6 is no zip
        )
    except pickle.UnpicklingError as exc:
        raise CheckpointError(
            f"{file}: holds Python objects besides tensors, or is no checkpoint "
            f"({str(exc).splitlines()[0]}); if you trust its source, convert it once: torch.save("
            f"torch.load(FILE, weights_only=False, map_location='cpu')['state_dict'], 'weights.pt')"
        ) from exc
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as exc:
        raise CheckpointError(f"{file}: damaged or no checkpoint ({exc})") from exc
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{file}: holds a {type(loaded).__name__}, need a dict of tensors")
    return {key: value for key, value in loaded.items() if isinstance(value, Tensor)}
