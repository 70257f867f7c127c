"""Model folders: `config.json`, `model.safetensors` and `tokenizer.json`, whole or absent.

```
config.json        schema_version, kind, name, config (every value), tokenizer_sha256, meta
model.safetensors  the weights, tied ones once
tokenizer.json     LLaMA-like tokenizer
```

`meta` says how the model came about: training settings, seed, versions, and under `trained_on` the
wearers, recordings and shards it has seen, so that an evaluation can refuse to judge it on them.
"""

import hashlib
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import egotriad
from egotriad.manifests.errors import CheckpointError, EgotriadError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import DRAFTS, TARGETS, PluginKind
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.settings import settings_from_json, settings_to_json
from egotriad.models.tokenizer import (
    check_same_tokenizer,
    load_tokenizer,
    tokenizer_json,
    tokenizer_sha256,
)

__all__ = [
    "check_same_tokenizer",
    "folder_sha256",
    "load_model",
    "save_model",
    "versions",
]

SCHEMA_VERSION = 1
FILES = ("config.json", "model.safetensors", "tokenizer.json")
KINDS: dict[str, PluginKind] = {"target": TARGETS, "draft": DRAFTS}


def versions() -> dict[str, str]:
    """Versions of what a trained model depends on."""
    return {
        "egotriad": egotriad.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def save_model(
    folder: Path, model: ConditionedLM, tokenizer: PreTrainedTokenizerFast, meta: dict[str, Any]
) -> None:
    """Writes a model folder; an older model there is replaced only when the new one is whole.

    Args:
        folder: where to; its parent is made.
        model: what to save.
        tokenizer: the one it was made with.
        meta: JSON values on how the model came about; `versions` is added.

    Raises:
        UsageError: when `folder` holds something that is not a model.
    """
    if folder.exists() and not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and holds no model; choose another folder")
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": model.kind,
        "name": model.name,
        "config": settings_to_json(model.config),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "meta": {**meta, "versions": versions()},
    }
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        weights = {name: tensor.contiguous() for name, tensor in model.stored_weights().items()}
        save_file(weights, temporary / "model.safetensors")
        (temporary / "tokenizer.json").write_text(tokenizer_json(tokenizer), encoding="utf-8")
        text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (temporary / "config.json").write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_model(folder: Path) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """The model (in eval mode), its tokenizer and its meta.

    Raises:
        CheckpointError: when a file is missing or damaged, the tokenizer is not the one the model
            was saved with, or weights are missing, unexpected or of another shape.
    """
    record = read_record(folder)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if tokenizer_sha256(tokenizer) != record["tokenizer_sha256"]:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'} is not the tokenizer this model was saved with "
            f"(sha256 {tokenizer_sha256(tokenizer)}, need {record['tokenizer_sha256']})"
        )
    try:
        model_class: Any = KINDS[record["kind"]].load(record["name"])
        config = settings_from_json(model_class.Config, record["config"])
    except EgotriadError as exc:
        raise CheckpointError(f"{folder / 'config.json'}: {exc}") from exc
    with torch.random.fork_rng(devices=[]):
        model: ConditionedLM = model_class(config, tokenizer)
    load_weights(model, folder / "model.safetensors")
    return model.eval(), tokenizer, record["meta"]


def read_record(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder, checked for what every version 1 record has."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder}: not a model folder, {', '.join(missing)} missing")
    path = folder / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, kind = record["schema_version"], record["kind"]
        absent = {"name", "config", "tokenizer_sha256", "meta"} - set(record)
    except (ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path}: not a model's config.json ({exc!r})") from exc
    if version != SCHEMA_VERSION or kind not in KINDS or absent:
        raise CheckpointError(
            f"{path}: schema_version {version}, kind {kind!r}, missing {sorted(absent)}; "
            f"need schema_version {SCHEMA_VERSION}, kind {' or '.join(KINDS)}, nothing missing"
        )
    return record


def load_weights(model: ConditionedLM, path: Path) -> None:
    """Fills a model from a safetensors file that has exactly its weights."""
    try:
        found: dict[str, Tensor] = load_file(path)
    except SafetensorError as exc:
        raise CheckpointError(f"{path}: damaged or no safetensors file ({exc})") from exc
    needed = model.stored_weights()
    problems = [f"missing {name}" for name in sorted(needed.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - needed.keys())]
    problems += [
        f"{name} is {list(found[name].shape)}, need {list(needed[name].shape)}"
        for name in sorted(needed.keys() & found.keys())
        if found[name].shape != needed[name].shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit {model.kind} {model.name}: {'; '.join(problems)}"
        )
    model.load_state_dict(found, strict=False)  # a tied output embedding is filled by its twin


def folder_sha256(folder: Path) -> str:
    """One SHA-256 for a whole model folder (of its three files' SHA-256)."""
    read_record(folder)
    sums = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in FILES)
    return hashlib.sha256(sums.encode()).hexdigest()
