"""Targets and decoders that others have trained, read from the folders that they published.

`folder -> config.json, tokenizer, headers -> model on the meta device, fit -> room? -> filled`

A target class that can be read this way has `options`, the names of what a user may set, and
`published(folder, values, options)`, which says what the folder's settings and files are. Nothing
large is read before everything fits.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.manifests.plugins import TARGETS
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoders import LLAMA_IDS
from egotriad.models.fit import Fit, Source, fit
from egotriad.models.folder import versions
from egotriad.models.llama_tokenizer import folder_tokenizer, require_llama
from egotriad.models.placement import Placement, place
from egotriad.models.tokenizer import tokenizer_sha256

__all__ = ["MODEL_TYPES", "Published", "load_published", "open_published", "read_config"]

MODEL_TYPES = {
    "EventChat_llama": "eventgpt",
    "video_llava": "video_llava",
    "llama": "llama",
}
"""`model_type` of a published config.json -> the target that reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published folder, opened but not read.

    Attributes:
        model: on the meta device.
        tokenizer: the folder's, without ids that were added after LLaMA's own.
        sources: where its weights lie.
        fit: whether they are the model's.
        values: the folder's config.json.
    """

    model: ConditionedLM
    tokenizer: PreTrainedTokenizerFast
    sources: list[Source]
    fit: Fit
    values: dict[str, Any] = field(repr=False)


def open_published(folder: Path, *, tokenizer: Path | None = None, **options: Any) -> Published:
    """Everything about a published folder short of its weights.

    Args:
        folder: as its authors publish it (config.json, tokenizer, weights whole or in shards).
        tokenizer: LLaMA's tokenizer.json or tokenizer.model, where the folder has none.
        options: of the target's `options`, e.g. `question`.

    Raises:
        CheckpointError: when the folder is no published model known here, or a file is damaged.
        TokenizerMismatch: when the weights are of LLaMA's vocabulary and the tokenizer is not.
        UsageError: when an option is unknown.
    """
    values = read_config(folder)
    model_type = values.get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type {model_type!r}, need "
            f"{' or '.join(MODEL_TYPES)} (as published), or a folder that egotriad has written"
        )
    target_class: Any = TARGETS.load(MODEL_TYPES[model_type])
    ids = folder_tokenizer(folder if tokenizer is None else tokenizer)
    unknown = sorted(set(options) - set(target_class.options))
    if unknown:
        raise UsageError(
            f"target {target_class.name}: unknown options {unknown}, "
            f"need some of {', '.join(target_class.options)}"
        )
    config, sources = target_class.published(folder, values, options)
    model = _on_meta(target_class, config, ids)
    found = fit(model, sources)
    if len(ids) + found.extra_rows >= LLAMA_IDS:
        require_llama(ids, folder if tokenizer is None else tokenizer)
    return Published(model=model, tokenizer=ids, sources=sources, fit=found, values=values)


def load_published(
    folder: Path,
    *,
    placement: Placement | None = None,
    tokenizer: Path | None = None,
    **options: Any,
) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """A target in eval mode on its device, its tokenizer, and where it comes from.

    Args:
        folder: as for `open_published`.
        placement: device and precision; the CPU in bfloat16 when not given.
        tokenizer: as for `open_published`.
        options: as for `open_published`.

    Returns:
        The model, its tokenizer, and a meta as `egotriad.models.folder.load_model` gives it.

    Raises:
        CheckpointError: as `open_published`; with every key that is missing, unexpected or of
            another shape; or when there is too little memory. Nothing large was read by then.
    """
    placement = placement or Placement()
    opened = open_published(folder, tokenizer=tokenizer, **options)
    model = opened.model
    opened.fit.require(f"{model.kind} {model.name}{_hint(model, opened.fit)}", folder)
    place(model, opened.fit, placement)
    meta = {
        "published": {
            "model_type": opened.values["model_type"],
            "precision": placement.precision,
            "masked_ids": opened.fit.extra_rows,
            "tokenizer_sha256": tokenizer_sha256(opened.tokenizer),
        },
        "versions": versions(),
    }
    return model, opened.tokenizer, meta


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`.

    Raises:
        CheckpointError: when it is missing or no JSON object.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(
            f"{path}: cannot be read ({exc}); give the folder as its authors publish it"
        ) from exc
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}, need a JSON object")
    return values


def _on_meta(
    target_class: type[ConditionedLM], config: ConditionedConfig, ids: PreTrainedTokenizerFast
) -> ConditionedLM:
    with torch.device("meta"):
        return target_class(config, ids)


def _hint(model: ConditionedLM, found: Fit) -> str:
    """What else can be given when a whole part is missing."""
    tower = [key for key in found.missing if "visual_tower" in key]
    if model.name == "eventgpt" and tower and len(tower) == len(found.missing):
        return " (its tower is not in this folder: pass CLIP's own folder as visual_tower)"
    return ""
