"""Distils drafts: they learn the target's own greedy text, span by span (sequence-level KD).

Training on the target's text instead of the narrations is what makes a draft worth having: it is
the target that will judge it (Kim & Rush 2016, sequence-level knowledge distillation). The
text-only twin is trained by the same function with the same budget.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.loader_memory import pad_ids, shuffled_batches
from egotriad.alignment.start_decoder import DecoderChoice, StartDecoder
from egotriad.alignment.target_outputs import TargetOutput, read_target_outputs
from egotriad.alignment.training import (
    Progress,
    Trained,
    final_loss,
    optimise,
    require_at_least,
    training_clips,
)
from egotriad.manifests import Clip
from egotriad.manifests.errors import ClipRejected, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import DRAFTS
from egotriad.manifests.shards import read_shards, shards_sha256
from egotriad.models.card import CardFacts
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.encoder import ImuEncoder
from egotriad.models.folder import save_model
from egotriad.models.loading import model_sha256, target_tokenizer
from egotriad.models.memory import (
    TrainingBatch,
    activation_bytes,
    decoder_parameters,
    require_room_to_train,
)
from egotriad.models.placement import Placement
from egotriad.models.seeding import numpy_generator, torch_stream
from egotriad.models.tokenizer import tokenizer_sha256

__all__ = ["DraftTraining", "train_draft", "train_draft_on_shards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftTraining:
    """How a draft is distilled.

    Attributes:
        seed: of weights, batches and jitter.
        steps, batch: of the only stage.
        learning_rate: of its first step; when not given 2e-3, but 5e-4 for an adapter and 1e-4 for
            the whole of a published decoder.
        jitter: standard deviations of augmentation (of the IMU: one constant offset per window and
            channel); 0.15 is 5 % of three.
        device: cpu, cuda or cuda:N.
    """

    seed: int = 0
    steps: int = 400
    batch: int = 32
    learning_rate: float | None = None
    jitter: float = 0.15
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_at_least(self, steps=0, batch=1, jitter=0)
        Placement(device=self.device)  # says what is wrong with it


FRESH_RATE = 2e-3
START_RATES = {"full": 1e-4, "lora": 5e-4, "frozen": FRESH_RATE}
"""Learning rates by what is trained of a published decoder: its own weights bear less."""


@dataclass(slots=True)
class DraftExamples:
    """One row per event span: the draft's prepared input and the target's ids."""

    inputs: list[Tensor] = field(default_factory=list)
    ids: list[tuple[int, ...]] = field(default_factory=list)


def train_draft(
    clips: Iterable[Clip],
    outputs: Iterable[TargetOutput],
    tokenizer: PreTrainedTokenizerFast,
    config: DraftTraining | None = None,
    *,
    draft: str = "imu",
    model_config: ConditionedConfig | None = None,
    encoder: ImuEncoder | None = None,
    start: StartDecoder | None = None,
    progress: Progress | None = None,
) -> Trained:
    """A draft that guesses what the target says about the clips.

    Args:
        clips: of the train split, read once; events are not looked at. Clips that the draft cannot
            see, or that have no target text, are left out and counted in the meta.
        outputs: the target's texts on these clips' spans.
        tokenizer: the target's.
        config: how to train.
        draft: name of the draft plug-in.
        model_config: its `Config`; the default one when None.
        encoder: of the `imu` draft, filled from a checkpoint (`ENCODER.load`) and of the kind that
            `model_config` says; a fresh one when None.
        start: the published decoder to begin with, whose shape takes the place of
            `model_config.decoder`; a fresh one when None.
        progress: told after every step.

    Raises:
        EvaluationError: on clips of another split, or when none is usable.
        UsageError: an encoder of another kind, more positions than the decoder has, or less memory
            than training takes.
        UnknownPlugin: when there is no such draft.
    """
    config = config or DraftTraining()
    if config.learning_rate is None:
        rate = FRESH_RATE if start is None else START_RATES[start.training]
        config = replace(config, learning_rate=rate)
    model_class: Any = DRAFTS.load(draft)
    model_config = model_config or model_class.Config()
    parts: dict[str, Any] = {} if encoder is None else {"encoder": encoder}
    if start is not None:
        if "decoder" not in inspect.signature(model_class).parameters:
            raise UsageError(f"--decoder: draft {draft} makes its own decoder; leave it out")
        model_config = replace(model_config, decoder=start.config)
        parts["decoder"] = start.decoder
    else:
        fresh = decoder_parameters(model_config.decoder, len(tokenizer))
        require_room_to_train(fresh, fresh, device=config.device)
    with torch_stream(config.seed, f"draft {draft}"):
        model: ConditionedLM = model_class(model_config, tokenizer, **parts)
        if start is not None:
            start.prepare(model)
        texts = {(row.window_id, row.span_index): row.output_ids for row in outputs}
        examples = DraftExamples()
        seen = training_clips(
            clips, lambda clip: collect(model, clip, texts, examples), what=f"the {draft} draft"
        )
        losses = distil(model.to(config.device), examples, config, progress)
    meta = {
        "training": asdict(config),
        "trained_on": seen.meta(),
        "losses": {"distillation": final_loss(losses)},
        **({} if start is None else start.meta()),
    }
    return Trained(model.cpu().eval(), tokenizer, meta)


def train_draft_on_shards(
    shards: Path | str,
    target_folder: Path,
    target_outputs: Path,
    out: Path,
    config: DraftTraining | None = None,
    *,
    draft: str = "imu",
    model_config: ConditionedConfig | None = None,
    encoder: ImuEncoder | None = None,
    decoder: DecoderChoice | None = None,
    whole: bool = False,
    card: CardFacts | None = None,
    tokenizer_file: Path | None = None,
    meta: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Distils a draft on the train split of a build and saves its folder.

    Args:
        shards: folder, URL or Hub id of the build.
        target_folder: whose texts they are.
        target_outputs: the texts (cache-targets).
        out: folder of the draft.
        config: how to train.
        draft: name of the draft plug-in.
        model_config: see `train_draft`.
        encoder: see `train_draft`.
        decoder: the published decoder to begin with.
        whole: save also the weights of a published decoder that were not trained, an adapter
            folded in; without it the folder names the decoder.
        card: what only the user knows, for the model card.
        tokenizer_file: LLaMA's, where a published target's folder has none.
        meta: what else the model's record is to hold.
        progress: told after every step.

    Raises:
        EvaluationError, CheckpointError: when the target outputs belong to other shards, or to
            another target.
        CheckpointError, TokenizerMismatch, DownloadError, UsageError: see `DecoderChoice.load`.
    """
    config = config or DraftTraining()
    tokenizer = target_tokenizer(target_folder, tokenizer_file)
    outputs = read_target_outputs(target_outputs)
    belongs_to = {
        "shards_sha256": shards_sha256(shards),
        "target_sha256": model_sha256(target_folder),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }
    outputs.check_belongs_to(**belongs_to)
    trained = train_draft(
        read_shards(shards, split="train", events=False),
        outputs,
        tokenizer,
        config,
        draft=draft,
        model_config=model_config,
        encoder=encoder,
        start=None if decoder is None else decoder.load(tokenizer, device=config.device),
        progress=progress,
    )
    trained.meta.update(meta or {})
    trained.meta["trained_on"] |= belongs_to | {
        "target_outputs_sha256": sha256_file(target_outputs)
    }
    save_model(out, trained.model, tokenizer, trained.meta, whole=whole, card=card)
    return trained


def collect(
    model: ConditionedLM,
    clip: Clip,
    texts: Mapping[tuple[str, int], tuple[int, ...]],
    examples: DraftExamples,
) -> None:
    """Adds every span of a clip, or none of them."""
    keys = [(clip.window_id, index) for index in range(len(clip.event_spans))]
    if not keys or any(key not in texts for key in keys):
        raise ClipRejected("no-target-text", f"{clip.window_id}: no text of the target's")
    inputs = [model.prepare(clip, span) for span in clip.event_spans]
    examples.inputs += inputs
    examples.ids += [texts[key] for key in keys]


def distil(
    model: ConditionedLM,
    examples: DraftExamples,
    config: DraftTraining,
    progress: Progress | None,
) -> list[float]:
    """Cross-entropy on the target's ids, teacher-forced."""
    inputs = torch.stack(examples.inputs)
    model.fit(inputs)
    _require_room(model, inputs, examples.ids, config)
    batches = shuffled_batches(
        len(inputs), config.batch, numpy_generator(config.seed, "draft batches")
    )

    def step_loss() -> Tensor:
        rows = next(batches)
        ids, mask = (part.to(config.device) for part in pad_ids([examples.ids[i] for i in rows]))
        seen = inputs[torch.from_numpy(rows)].to(config.device)
        return model.loss(model.jittered(seen, config.jitter), ids, mask)

    model.train()
    return optimise(
        [weight for weight in model.parameters() if weight.requires_grad],
        step_loss,
        stage="draft",
        steps=config.steps,
        learning_rate=config.learning_rate or FRESH_RATE,
        progress=progress,
    )


def _require_room(
    model: ConditionedLM,
    inputs: Tensor,
    ids: Sequence[tuple[int, ...]],
    config: DraftTraining,
) -> None:
    """Nothing when the longest row has positions in the decoder, and a whole batch memory.

    Raises:
        UsageError: saying what there is, and what to lower.
    """
    with torch.no_grad():
        prefix = model.eval().prefix(inputs[:1].to(config.device)).shape[1]
    text = max(len(row) for row in ids)
    shape = model.config.decoder
    if prefix + text > shape.max_positions:
        raise UsageError(
            f"the decoder has {shape.max_positions} positions, a prompt of {prefix} and the "
            f"longest text of {text} ids need {prefix + text}; take a --pooler, shorter target "
            "texts (cache-targets --max-new-tokens) or another decoder"
        )
    batch = TrainingBatch(rows=min(config.batch, len(ids)), positions=prefix + text, text=text)
    weights = list(model.parameters())
    held = sum(weight.numel() * weight.itemsize for weight in weights)
    require_room_to_train(
        sum(weight.numel() for weight in weights),
        sum(weight.numel() for weight in weights if weight.requires_grad),
        held=held,
        activations=activation_bytes(shape, model.decoder.config.vocab_size, batch),
        device=config.device,
    )
