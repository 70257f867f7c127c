"""Targets, drafts and decoders that others have trained, read from the folders they published.

`folder -> config.json, tokenizer, headers -> model on the meta device, fit -> room? -> filled`

A class that can be read this way has `options`, the names of what a user may set, and
`published(folder, values, options)`, which says what the folder's settings and files are; where its
files lay weights out otherwise, `converted(name, tensor)` too. Nothing large is read before
everything fits.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import DRAFTS, TARGETS, PluginKind
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.decoders import LLAMA_IDS
from egotriad.models.draft_onellm import ONELLM_FILE
from egotriad.models.fit import Fit, Source, fit
from egotriad.models.llama_tokenizer import folder_tokenizer, require_llama
from egotriad.models.placement import Placement, place
from egotriad.models.systems import PANDAGPT
from egotriad.models.tokenizer import tokenizer_sha256
from egotriad.models.versions import versions

__all__ = [
    "MODEL_TYPES",
    "Published",
    "load_published",
    "missing_tower",
    "open_published",
    "read_config",
    "recognise",
]

MODEL_TYPES: dict[str, tuple[PluginKind, str]] = {
    "EventChat_llama": (TARGETS, "eventgpt"),
    "video_llava": (TARGETS, "video_llava"),
    "llama": (TARGETS, "llama"),
    "llava_llama": (DRAFTS, "llasa"),
    "onellm": (DRAFTS, "onellm"),
}
"""`model_type` of a published config.json -> what reads it; OneLLM has no such file."""
PANDAGPT_FILE = "pytorch_model.pt"
TOWERS = {
    "eventgpt": (
        "visual_tower",
        "its tower is not in this folder: pass CLIP's own folder as visual_tower",
    ),
    "llasa": (
        "vision_tower",
        "its tower is not in this folder, and the release reads it from a file that is not "
        "published; a LIMU-BERT of others can stand for it: pass its file as substitute_encoder "
        "and allow_substitute_encoder, which the record will say",
    ),
}
"""Part of the keys of a tower that a folder may lack, and what can be done."""


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
    values = recognise(folder)
    model_type = values.get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type {model_type!r}, need "
            f"{' or '.join(MODEL_TYPES)} (as published), or a folder that egotriad has written"
        )
    plugins, name = MODEL_TYPES[model_type]
    model_class: Any = plugins.load(name)
    ids = folder_tokenizer(folder if tokenizer is None else tokenizer)
    unknown = sorted(set(options) - set(model_class.options))
    if unknown:
        raise UsageError(
            f"{plugins.noun} {name}: unknown options {unknown}, "
            f"need some of {', '.join(model_class.options)}"
        )
    config, sources = model_class.published(folder, values, options)
    model = _on_meta(model_class, config, ids)
    found = fit(model, sources)
    if len(ids) + found.extra_rows >= LLAMA_IDS:
        require_llama(ids, folder if tokenizer is None else tokenizer)
    return Published(model=model, tokenizer=ids, sources=sources, fit=found, values=values)


def load_published(
    folder: Path,
    *,
    kind: str = "target",
    placement: Placement | None = None,
    tokenizer: Path | None = None,
    **options: Any,
) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """A target or draft in eval mode on its device, its tokenizer, and where it comes from.

    Args:
        folder: as for `open_published`.
        kind: target | draft, what it must be.
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
    if model.kind != kind:
        raise CheckpointError(f"{folder}: holds the {model.kind} {model.name}, need a {kind}")
    hint = missing_tower(opened)
    what = f"{model.kind} {model.name}{f' ({hint})' if hint else ''}"
    opened.fit.require(what, folder)
    place(model, opened.fit, placement, convert=getattr(model, "converted", None))
    meta = {
        "published": {
            "model_type": opened.values["model_type"],
            "precision": placement.precision,
            "options": {name: _recorded(value) for name, value in options.items()},
            "masked_ids": opened.fit.extra_rows,
            "tokenizer_sha256": tokenizer_sha256(opened.tokenizer),
        },
        "versions": versions(),
    }
    model.meta = meta
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


def recognise(folder: Path) -> dict[str, Any]:
    """A folder's `config.json`; for OneLLM, which has none, its `model_type` alone.

    Raises:
        CheckpointError: when it is missing or no JSON object, or the folder is PandaGPT's.
    """
    if (folder / ONELLM_FILE).is_file():
        return {"model_type": "onellm"}
    if (folder / PANDAGPT_FILE).is_file() and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: {PANDAGPT_FILE} is PandaGPT's. {PANDAGPT}: train that system instead"
        )
    return read_config(folder)


def _on_meta(
    model_class: type[ConditionedLM], config: ConditionedConfig, ids: PreTrainedTokenizerFast
) -> ConditionedLM:
    with torch.device("meta"):
        return model_class(config, ids)


def missing_tower(opened: Published) -> str:
    """What else can be given when a whole tower is all that is missing; else nothing."""
    part, hint = TOWERS.get(opened.model.name, ("", ""))
    missing = opened.fit.missing
    return hint if missing and all(part in key for key in missing) else ""


def _recorded(value: Any) -> Any:
    """An option as a record says it: of a file its name and content, never where it lies."""
    if not isinstance(value, Path):
        return value
    return {"name": value.name} | ({"sha256": sha256_file(value)} if value.is_file() else {})
