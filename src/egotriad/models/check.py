"""Whether a folder or file is a model that can be loaded, from its headers and small files alone.

`path -> what it claims to be -> headers, tokenizer, memory -> Checked`
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from egotriad.manifests.errors import CheckpointError, EgotriadError, UsageError
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.checkpoints import KeyMap, check_fits
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoders import config_mistakes
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.fit import Fit, Source, fit
from egotriad.models.folder import DECODER, KINDS, read_record
from egotriad.models.placement import Placement, Precision, free_bytes, needed_bytes
from egotriad.models.published import missing_tower, open_published, recognise
from egotriad.models.settings import settings_from_json
from egotriad.models.tokenizer import load_tokenizer, tokenizer_sha256

__all__ = ["Checked", "check_encoder", "check_model"]

EVERYTHING = KeyMap(take=(("", ""),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found.

    Attributes:
        kind, name: what it is.
        parameters: weights that would be loaded.
        missing, unexpected, misshapen: keys that do not fit.
        masked_ids: rows beyond the vocabulary, which are left out.
        warnings: what is wrong and would be corrected or has to be known.
        needed_bytes, free_bytes: memory for the weights, and what is free (None: not known).
        tokenizer_sha256: of its tokenizer as it would be used; None of an encoder.
    """

    kind: str
    name: str
    parameters: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    masked_ids: int = 0
    warnings: tuple[str, ...] = ()
    needed_bytes: int
    free_bytes: int | None
    tokenizer_sha256: str | None = None

    @property
    def fits(self) -> bool:
        """Whether every weight is there and nothing else."""
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def has_room(self) -> bool:
        """Whether its weights fit the free memory, as far as that is known."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes


def check_model(
    folder: Path,
    *,
    device: str = "cpu",
    precision: Precision | None = None,
    tokenizer: Path | None = None,
    visual_tower: Path | None = None,
) -> Checked:
    """A model of this package, or a target, draft or decoder as its authors publish it.

    Args:
        folder: to look at.
        device: where it would go.
        precision: of its weights there; bfloat16 (float32 of this package's own) when not given.
        tokenizer: LLaMA's, for published folders without one.
        visual_tower: CLIP's own folder, for an EventGPT without its tower.

    Raises:
        CheckpointError: when it cannot be told what it is, or a file is damaged.
        UsageError: when options do not belong to what it is.
    """
    values = recognise(folder)
    if "schema_version" in values:
        if tokenizer is not None or visual_tower is not None:
            raise UsageError(f"{folder}: has its own tokenizer and tower; leave those options out")
        return _own(folder, Placement(device=device, precision=precision or "float32"))
    options: dict[str, Any] = {} if visual_tower is None else {"visual_tower": visual_tower}
    opened = open_published(folder, tokenizer=tokenizer, **options)
    text = values.get("text_config") or values
    hint = missing_tower(opened)
    return _checked(
        opened.model,
        opened.fit,
        Placement(device=device, precision=precision or "bfloat16"),
        sha256=tokenizer_sha256(opened.tokenizer),
        warnings=(*config_mistakes(text), *([hint] if hint else [])),
    )


def check_encoder(path: Path, name: str) -> Checked:
    """A file as the authors of an encoder publish it.

    Raises:
        CheckpointError: listing every key that does not fit.
        UsageError: when the encoder takes no published file.
    """
    encoder_class: Any = ENCODERS.load(name)
    if not issubclass(encoder_class, PublishedEncoder) or not hasattr(encoder_class, "keys"):
        raise UsageError(
            f"encoder {name}: has no published file with fixed keys; it is trained with a draft or "
            "reads its shape from its folder when loaded"
        )
    with torch.device("meta"):
        encoder = encoder_class(encoder_class.Config())
    check_fits(encoder, path, encoder_class.keys)
    parameters = sum(p.numel() for p in encoder.parameters())
    return Checked(
        kind="encoder",
        name=name,
        parameters=parameters,
        needed_bytes=4 * parameters,
        free_bytes=free_bytes("cpu"),
    )


def _own(folder: Path, placement: Placement) -> Checked:
    record = read_record(folder)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    sha256 = tokenizer_sha256(tokenizer)
    warnings = []
    if sha256 != record["tokenizer_sha256"]:
        warnings.append("tokenizer.json is not the one this model was saved with")
    try:
        model_class: Any = KINDS[record["kind"]].load(record["name"])
        config = settings_from_json(model_class.Config, record["config"])
    except EgotriadError as exc:
        raise CheckpointError(f"{folder / 'config.json'}: {exc}") from exc
    with torch.device("meta"):
        model: ConditionedLM = model_class(config, tokenizer)
    found = fit(model, [Source(folder, EVERYTHING)], more_rows=False)
    if base := record["base_decoder"]:
        warnings.append(f"the decoder's weights are not here but in {base['name']}")
        found = replace(found, missing=tuple(k for k in found.missing if not k.startswith(DECODER)))
    return _checked(model, found, placement, sha256=sha256, warnings=tuple(warnings))


def _checked(
    model: ConditionedLM,
    found: Fit,
    placement: Placement,
    *,
    sha256: str,
    warnings: tuple[str, ...],
) -> Checked:
    return Checked(
        kind=model.kind,
        name=model.name,
        parameters=sum(like.numel() for like in model.stored_weights().values()),
        missing=found.missing,
        unexpected=found.unexpected,
        misshapen=found.misshapen,
        masked_ids=found.extra_rows,
        warnings=warnings,
        needed_bytes=needed_bytes(model, placement),
        free_bytes=free_bytes(placement.device),
        tokenizer_sha256=sha256,
    )
