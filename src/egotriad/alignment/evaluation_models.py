"""The models of an evaluation, loaded, checked against each other and brought to one vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from egotriad.alignment.arms import Narrator
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.model_options import DraftOptions, TargetOptions
from egotriad.alignment.shared_models import on_shared_ids
from egotriad.alignment.target_outputs import TargetOutputs
from egotriad.alignment.vocabulary import SharedVocabulary, share_vocabulary, vocabulary_of
from egotriad.manifests.errors import UsageError, located
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.engines import EngineName, Engines
from egotriad.models.loading import is_own, load_draft, load_target, model_sha256
from egotriad.models.placement import Placement
from egotriad.models.target_cached import CachedTarget
from egotriad.models.tokenizer import tokenizer_sha256

__all__ = ["EvaluationModels", "load_models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationModels:
    """What is evaluated.

    Attributes:
        target, draft, text_draft: all with the target's ids.
        encoder: the draft as loaded, for what it finds similar.
        tokenizer: the target's.
        prompt: ids of the target's prompt.
        metas: by role, for the report.
        recorded: whether recorded texts stand for the target.
    """

    target: Narrator
    draft: Narrator
    text_draft: Narrator | None
    encoder: ConditionedLM
    tokenizer: PreTrainedTokenizerFast
    prompt: tuple[int, ...]
    metas: Mapping[str, Mapping[str, Any]]
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The target: a model, or its recorded texts.

    Attributes:
        rows: width of its logits.
        meta: for the report.
    """

    model: ConditionedLM | CachedTarget
    tokenizer: PreTrainedTokenizerFast
    rows: int
    prompt: tuple[int, ...]
    meta: dict[str, Any]


def load_models(
    target_folder: Path | None,
    draft_folder: Path,
    text_draft_folder: Path | None,
    outputs: TargetOutputs,
    config: EvaluationConfig,
    *,
    target_options: TargetOptions | None = None,
    draft_options: DraftOptions | None = None,
    engine: EngineName = "auto",
    placement: Placement | None = None,
) -> EvaluationModels:
    """Loads target and drafts; arguments and errors are those of `evaluate_on_shards`."""
    folders = {"draft": draft_folder}
    if text_draft_folder is not None:
        folders["text_draft"] = text_draft_folder
    target_options = target_options or TargetOptions()
    said = {"draft": (draft_options or DraftOptions()).values()}
    drafts = {
        role: load_draft(path, placement=None if is_own(path) else placement, **said.get(role, {}))
        for role, path in folders.items()
    }
    encoder, own_tokenizer, _ = drafts["draft"]
    subject = (
        _recorded(outputs, own_tokenizer, config, target_options)
        if target_folder is None
        else _loaded(target_folder, outputs, config, target_options, engine, placement)
    )
    device = placement.device if placement else subject.model.device
    ids = vocabulary_of(subject.tokenizer, subject.rows)
    found: dict[str, tuple[Narrator, SharedVocabulary]] = {}
    metas = {"target": subject.meta}
    for role, (model, tokenizer, meta) in drafts.items():
        with located(role):
            own = vocabulary_of(tokenizer, model.decoder.config.vocab_size)
            shared = share_vocabulary(own, ids)
        model.engines = Engines(engine)
        found[role] = model.to(device), shared
        metas[role] = {
            "name": model.name,
            "sha256": model_sha256(folders[role]),
            "tokenizer_sha256": tokenizer_sha256(tokenizer),
            "vocabulary": shared.record(),
            "engine": model.engines.of(model.decoder),
            **meta,
        }
    target, fitted = on_shared_ids(subject.model, found)
    return EvaluationModels(
        target=target,
        draft=fitted["draft"],
        text_draft=fitted.get("text_draft"),
        encoder=encoder,
        tokenizer=subject.tokenizer,
        prompt=subject.prompt,
        metas=metas,
        recorded=target_folder is None,
    )


def _loaded(
    folder: Path,
    outputs: TargetOutputs,
    config: EvaluationConfig,
    options: TargetOptions,
    engine: EngineName,
    placement: Placement | None,
) -> Subject:
    """A target that runs, and whose texts the outputs are."""
    target, tokenizer, meta = load_target(folder, placement=placement, **options.values())
    template = target.config.template
    if options.question is not None or "prompt" in outputs.meta:
        outputs.check_belongs_to(prompt=template)
    outputs.check_as_long_as(config.max_new_tokens)
    target.engines = Engines(engine)
    return Subject(
        model=target,
        tokenizer=tokenizer,
        rows=target.decoder.config.vocab_size,
        prompt=(*target.prompt.before, *target.prompt.after),
        meta={
            "name": target.name,
            "sha256": model_sha256(folder),
            "tokenizer_sha256": tokenizer_sha256(tokenizer),
            "prompt": template,
            "engine": target.engines.of(target.decoder),
            **meta,
        },
    )


def _recorded(
    outputs: TargetOutputs,
    tokenizer: PreTrainedTokenizerFast,
    config: EvaluationConfig,
    options: TargetOptions,
) -> Subject:
    """Recorded texts in the place of the target; its vocabulary is the draft's or nobody's."""
    if options != TargetOptions():
        raise UsageError(
            "--question, --target-option, --target-tokenizer: are for a target that runs; recorded "
            f"texts answer the prompt {outputs.meta.get('prompt')!r}"
        )
    target = CachedTarget(outputs, tokenizer, max_new_tokens=config.max_new_tokens)
    return Subject(
        model=target,
        tokenizer=tokenizer,
        rows=len(tokenizer),
        prompt=target.prompt,
        meta={
            "name": target.name,
            "sha256": outputs.meta["target_sha256"],
            "tokenizer_sha256": outputs.meta["tokenizer_sha256"],
            **{key: outputs.meta[key] for key in ("prompt", "precision") if key in outputs.meta},
            "max_new_tokens": outputs.meta["max_new_tokens"],
        },
    )
