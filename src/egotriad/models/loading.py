"""Any model's folder, written by this package or published by others, behind one function."""

import hashlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.folder import folder_sha256, load_model
from egotriad.models.placement import Placement
from egotriad.models.published import load_published, open_published, recognise
from egotriad.models.tokenizer import load_tokenizer

__all__ = ["is_own", "load_draft", "load_target", "model_sha256", "target_tokenizer"]

PARTS = ("config.json", "tokenizer.json", "tokenizer.model", "*.safetensors", "*.bin", "*.pth")
"""Files of a published folder that decide what its model says."""


def load_target(
    folder: Path,
    *,
    placement: Placement | None = None,
    tokenizer: Path | None = None,
    **options: Any,
) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """A target in eval mode, its tokenizer and its meta.

    Args:
        folder: of `train-target`, or as the authors of a target publish it.
        placement: device and precision; not given, the CPU in bfloat16 (float32 for this
            package's own).
        tokenizer: LLaMA's, for published folders without one.
        options: what a published target takes (`question`, ...).

    Raises:
        CheckpointError: when it is no target, does not fit, or there is too little memory.
        UsageError: when options do not belong to what it is.
    """
    return _load("target", folder, placement, tokenizer, options)


def load_draft(
    folder: Path,
    *,
    placement: Placement | None = None,
    tokenizer: Path | None = None,
    **options: Any,
) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """A draft in eval mode, its tokenizer and its meta.

    Args:
        folder: of `train-draft`, or LLaSA or OneLLM-7B as their authors publish them.
        placement: as for `load_target`.
        tokenizer: as for `load_target`.
        options: what a published draft takes (`question`, `prompt`, `reference_compat`, ...).

    Raises:
        CheckpointError: when it is no draft, does not fit, or there is too little memory.
        UsageError: when options do not belong to what it is.
    """
    return _load("draft", folder, placement, tokenizer, options)


def _load(
    kind: str,
    folder: Path,
    placement: Placement | None,
    tokenizer: Path | None,
    options: dict[str, Any],
) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    if not is_own(folder):
        return load_published(
            folder, kind=kind, placement=placement, tokenizer=tokenizer, **options
        )
    if tokenizer is not None or options:
        given = sorted([*options, *(["tokenizer"] if tokenizer else [])])
        raise UsageError(f"{folder}: written by train-{kind}, takes no {', '.join(given)}")
    placement = placement or Placement(precision="float32")
    if placement.precision == "4bit":
        raise UsageError(f"{folder}: written by train-{kind} and small; 4bit is for published 7B")
    model, own, meta = load_model(folder)
    if model.kind != kind:
        raise CheckpointError(f"{folder}: holds a {model.kind}, need a {kind}")
    return model.to(placement.device, placement.dtype), own, meta


def model_sha256(folder: Path) -> str:
    """One SHA-256 for a whole target's or draft's folder.

    Reads every weight of a published one: some seconds for 14 GB.

    Raises:
        CheckpointError: when the folder holds no model.
    """
    if is_own(folder):
        return folder_sha256(folder)
    files = sorted({file for pattern in PARTS for file in folder.glob(pattern)})
    sums = "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(sums.encode()).hexdigest()


def target_tokenizer(folder: Path, tokenizer: Path | None = None) -> PreTrainedTokenizerFast:
    """A target's tokenizer without its weights: all that training a draft needs of it.

    Args:
        folder: as for `load_target`.
        tokenizer: as for `load_target`.

    Raises:
        CheckpointError: when the folder holds no model, or its tokenizer is damaged.
        TokenizerMismatch: when weights of LLaMA's vocabulary come with another tokenizer.
    """
    if is_own(folder):
        return load_tokenizer(folder / "tokenizer.json")
    return open_published(folder, tokenizer=tokenizer).tokenizer


def is_own(folder: Path) -> bool:
    """Whether this package wrote the model in a folder.

    Raises:
        CheckpointError: when the folder holds no model.
    """
    return "schema_version" in recognise(folder)
