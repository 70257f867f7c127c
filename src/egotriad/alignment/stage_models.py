"""The models of a stage benchmark: from folders, or of true size with random weights."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from egotriad.alignment.model_options import DraftOptions, TargetOptions
from egotriad.manifests.errors import UsageError
from egotriad.manifests.plugins import DRAFTS, TARGETS, PluginKind
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoders import DECODERS
from egotriad.models.folder import check_same_tokenizer
from egotriad.models.llama_tokenizer import folder_tokenizer
from egotriad.models.loading import is_own, load_draft, load_target
from egotriad.models.placement import Placement
from egotriad.models.random_models import Wanted, random_models, stand_in_tokenizer
from egotriad.models.systems import SYSTEMS, system, system_config

__all__ = ["BenchmarkModels", "RandomWeights", "loaded_models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomWeights:
    """Models without checkpoints: true sizes, meaningless texts.

    Attributes:
        random_weights: take --target and --draft as names (`eventgpt`, `imu`, or a system such as
            `limu-bert-llama`) and make their weights up; times are real, texts and acceptance mean
            nothing.
        target_decoder: decoder of the target by its name in `egotriad models list`; the target's
            own when not given.
        draft_decoder: decoder of the draft, likewise.
    """

    random_weights: bool = False
    target_decoder: str | None = None
    draft_decoder: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not self.random_weights and getattr(self, field.name):
                raise UsageError(
                    f"--{field.name.replace('_', '-')}: only with --random-weights; of a folder "
                    "its config.json says it"
                )
        for name in (self.target_decoder, self.draft_decoder):
            if name is not None and name not in DECODERS:
                raise UsageError(f"no decoder is called {name!r}; known: {', '.join(DECODERS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkModels:
    """What is timed.

    Attributes:
        target, draft: in eval mode on one device.
        tokenizer: of both.
        weights: `trained` or `random`.
        stand_in: whether the tokenizer only has LLaMA's size.
    """

    target: ConditionedLM
    draft: ConditionedLM | None
    tokenizer: PreTrainedTokenizerFast
    weights: str = "trained"
    stand_in: bool = False


def loaded_models(
    target: Path,
    draft: Path | None,
    random: RandomWeights,
    placement: Placement | None,
    *,
    target_options: TargetOptions | None = None,
    draft_options: DraftOptions | None = None,
) -> BenchmarkModels:
    """Both models, whole.

    Args:
        target: folder of the target, or its name.
        draft: folder of the draft, or its name; None leaves it out.
        random: whether they are names.
        placement: device and precision (see `load_target`); own drafts stay in float32.
        target_options: what a published target is told; of random models the tokenizer alone, for
            prompts of true length (without one a stand-in of as many ids).
        draft_options: what a published draft is told.

    Raises:
        CheckpointError: when one cannot be loaded, or there is too little memory.
        UsageError, UnknownPlugin: when a name or a setting of random models is unknown.
    """
    target_options = target_options or TargetOptions()
    draft_options = draft_options or DraftOptions()
    if random.random_weights:
        tokenizer_file = target_options.target_tokenizer
        if (target_options, draft_options) != (
            TargetOptions(target_tokenizer=tokenizer_file),
            DraftOptions(),
        ):
            raise UsageError(
                "--random-weights: a made-up model takes no question and no options of a published "
                "one; leave them out"
            )
        return _random(target, draft, random, placement, tokenizer_file)
    model, tokenizer, _ = load_target(target, placement=placement, **target_options.values())
    if draft is None:
        return BenchmarkModels(target=model, draft=None, tokenizer=tokenizer)
    drafter, own_tokenizer, _ = load_draft(
        draft, placement=None if is_own(draft) else placement, **draft_options.values()
    )
    check_same_tokenizer(tokenizer, own_tokenizer)
    return BenchmarkModels(target=model, draft=drafter.to(model.device), tokenizer=tokenizer)


def _random(
    target: Path,
    draft: Path | None,
    random: RandomWeights,
    placement: Placement | None,
    tokenizer_file: Path | None,
) -> BenchmarkModels:
    wanted = [_wanted(TARGETS, str(target), random.target_decoder)]
    if draft is not None:
        wanted.append(_draft(str(draft), random.draft_decoder))
    tokenizer = (
        stand_in_tokenizer(config.template for _, config in wanted)
        if tokenizer_file is None
        else folder_tokenizer(tokenizer_file)
    )
    made = random_models(wanted, tokenizer, placement or Placement())
    return BenchmarkModels(
        target=made[0],
        draft=made[1] if draft is not None else None,
        tokenizer=tokenizer,
        weights="random",
        stand_in=tokenizer_file is None,
    )


def _draft(name: str, decoder: str | None) -> Wanted:
    if name not in SYSTEMS:
        return _wanted(DRAFTS, name, decoder)
    shape = None if decoder is None else DECODERS[decoder].config
    model_class: Any = DRAFTS.load(system(name).draft)
    return model_class, system_config(name, decoder=shape, train_encoder=True)


def _wanted(plugins: PluginKind, name: str, decoder: str | None) -> Wanted:
    model_class: Any = plugins.load(name)
    if not issubclass(model_class, ConditionedLM):
        raise UsageError(f"--random-weights: {plugins.noun} {name} has no weights; choose another")
    if decoder is None:
        return model_class, model_class.Config()
    return model_class, model_class.Config(decoder=DECODERS[decoder].config)
