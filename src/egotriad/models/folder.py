"""Model folders: settings, weights, tokenizer and model card, whole or absent.

```
config.json                schema_version, kind, name, config (every value), tokenizer_sha256, meta,
                           base_decoder, adapter
model.safetensors          the weights, tied ones once; in shards with an index above 5 GB
tokenizer.json             LLaMA-like tokenizer
README.md                  model card
adapter_config.json        where the decoder has an adapter that is not folded in,
adapter_model.safetensors  in PEFT's format
decoder                    link to the published decoder, where that came from a local path
```

`base_decoder` names the published decoder, with the SHA-256 of its files, whose weights this model
has; they are not in the folder then. It is null where the folder holds all weights. `adapter` is
the adapter's size, null where there is none.

`meta` says how the model came about: training settings, seed, versions, and under `trained_on` the
wearers, recordings and shards it has seen, so that an evaluation can refuse to judge it on them.

Version 1 had neither card, adapter, shards nor base_decoder; it is still read.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, EgotriadError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import DRAFTS, TARGETS, PluginKind
from egotriad.models.adapters import (
    ADAPTER_FILES,
    adapter_of,
    fold_adapter,
    read_adapter,
    write_adapter,
)
from egotriad.models.card import CardFacts, model_card
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder_config import BaseDecoder
from egotriad.models.decoder_files import DecoderFiles, open_decoder
from egotriad.models.placement import Placement
from egotriad.models.room import require_room
from egotriad.models.settings import settings_from_json, settings_to_json
from egotriad.models.tokenizer import (
    check_same_tokenizer,
    load_tokenizer,
    tokenizer_json,
    tokenizer_sha256,
)
from egotriad.models.versions import versions
from egotriad.models.weights import fill_exactly, float_bytes, weight_files, write_weights

__all__ = [
    "CARD",
    "check_same_tokenizer",
    "folder_sha256",
    "load_model",
    "model_files",
    "save_model",
    "versions",
]

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
READ_VERSIONS = (1, SCHEMA_VERSION)
CARD = "README.md"
LINK = "decoder"
KINDS: dict[str, PluginKind] = {"target": TARGETS, "draft": DRAFTS}
DECODER = "decoder."
"""Start of the decoder's weights' names."""


def save_model(
    folder: Path,
    model: ConditionedLM,
    tokenizer: PreTrainedTokenizerFast,
    meta: dict[str, Any],
    *,
    whole: bool = False,
    card: CardFacts | None = None,
) -> None:
    """Writes a model folder; an older model there is replaced only when the new one is whole.

    Args:
        folder: where to; its parent is made.
        model: what to save; with `whole` an adapter of it is folded in for good.
        tokenizer: the one it was made with.
        meta: JSON values on how the model came about; `versions` is added.
        whole: also the weights of the published decoder beneath it.
        card: what only the user knows, for the model card; what `meta` says when None.

    Raises:
        UsageError: when `folder` holds something that is not a model.
    """
    if folder.exists() and not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and holds no model; choose another folder")
    if whole:
        fold_adapter(model.decoder)
        model.base = None
    adapter = adapter_of(model.decoder)
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": model.kind,
        "name": model.name,
        "config": settings_to_json(model.config),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "base_decoder": None if model.base is None else model.base.to_json(),
        "adapter": None if adapter is None else settings_to_json(adapter),
        "meta": {**meta, **(card.meta() if card else {}), "versions": versions()},
    }
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        _write_weights(model, temporary)
        (temporary / "tokenizer.json").write_text(tokenizer_json(tokenizer), encoding="utf-8")
        write_record(temporary, record)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes config.json and the model card that follows from it."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    (folder / CARD).write_text(model_card(record), encoding="utf-8")


def load_model(
    folder: Path, *, merge: bool = True
) -> tuple[ConditionedLM, PreTrainedTokenizerFast, dict[str, Any]]:
    """The model (in eval mode, float32, on the CPU), its tokenizer and its meta.

    Args:
        folder: of `save_model`.
        merge: fold an adapter into the decoder, so that a step costs what it costs without; False
            keeps the two apart.

    Raises:
        CheckpointError: when a file is missing or damaged, the tokenizer or the published decoder
            is not the one the model was saved with, weights are missing, unexpected or of another
            shape, or there is too little memory for them.
        DownloadError: when the published decoder is neither here nor can be brought.
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
    require_room(folder, f"{record['kind']} {record['name']}", float_bytes(folder))
    base = _open_base(folder, record)
    parts = {} if base is None else {"decoder": base[1].load(Placement(precision="float32"))}
    with torch.random.fork_rng(devices=[]):
        model: ConditionedLM = model_class(config, tokenizer, **parts)
    if base is not None:
        model.base = base[0]
    fill_exactly(folder, _own_weights(model), f"{model.kind} {model.name}")
    if record["adapter"] is not None:
        with torch.random.fork_rng(devices=[]):
            read_adapter(model.decoder, folder)
        if merge:
            fold_adapter(model.decoder)
            model.base = None
    model.meta = record["meta"]
    return model.eval(), tokenizer, record["meta"]


def read_record(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder, checked for what every record has."""
    weights = [] if weight_files(folder) else ["model.safetensors"]
    small = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing := sorted([*small, *weights]):
        raise CheckpointError(f"{folder}: not a model folder, {', '.join(missing)} missing")
    path = folder / "config.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, kind = record["schema_version"], record["kind"]
        absent = {"name", "config", "tokenizer_sha256", "meta"} - set(record)
    except (ValueError, KeyError, TypeError) as exc:
        raise CheckpointError(f"{path}: not a model's config.json ({exc!r})") from exc
    if version not in READ_VERSIONS or kind not in KINDS or absent:
        raise CheckpointError(
            f"{path}: schema_version {version}, kind {kind!r}, missing {sorted(absent)}; "
            f"need schema_version {' or '.join(map(str, READ_VERSIONS))}, kind "
            f"{' or '.join(KINDS)}, nothing missing"
        )
    return {"base_decoder": None, "adapter": None} | record


def model_files(folder: Path) -> list[str]:
    """Names of the files that decide what a model says, sorted.

    Raises:
        CheckpointError: when the folder holds no model.
    """
    adapter = [] if read_record(folder)["adapter"] is None else ADAPTER_FILES
    return sorted(["config.json", "tokenizer.json", *weight_files(folder), *adapter])


def folder_sha256(folder: Path) -> str:
    """One SHA-256 for a whole model folder (of its files' SHA-256; the card is not counted)."""
    sums = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in model_files(folder))
    return hashlib.sha256(sums.encode()).hexdigest()


def _own_weights(model: ConditionedLM) -> dict[str, torch.Tensor]:
    """What the folder holds: all weights, or all but those of the published decoder."""
    weights = model.stored_weights()
    if model.base is None:
        return weights
    return {name: weight for name, weight in weights.items() if not name.startswith(DECODER)}


def _write_weights(model: ConditionedLM, folder: Path) -> None:
    write_weights(folder, _own_weights(model))
    if model.base is None:
        return
    if adapter_of(model.decoder) is not None:
        write_adapter(model.decoder, folder, model.base)
    if model.base.path is not None and model.base.revision is None:
        try:
            (folder / LINK).symlink_to(model.base.path.resolve())
        except OSError as exc:
            log.warning("no link to decoder %s can be made (%s)", model.base.name, exc)


def _open_base(folder: Path, record: dict[str, Any]) -> tuple[BaseDecoder, DecoderFiles] | None:
    """The published decoder that a record names, found and proven to be the one."""
    values = record["base_decoder"]
    if values is None:
        return None
    link = folder / LINK
    if not link.exists() and "/" not in values["name"]:
        raise CheckpointError(
            f"{folder}: was trained on decoder {values['name']!r} (sha256 {values['sha256']}) of a "
            f"local folder, and {LINK} does not lead to it; link it there: ln -sfn FOLDER {link}"
        )
    files = open_decoder(link if link.exists() else values["name"], revision=values["revision"])
    found = files.base()
    if found.sha256 != values["sha256"]:
        raise CheckpointError(
            f"{files.path}: is not the decoder {values['name']} that {folder} was trained on "
            f"(sha256 {found.sha256}, need {values['sha256']})"
        )
    base = BaseDecoder(**values, path=files.path.resolve() if link.exists() else files.path)
    return base, files
