"""Distils drafts: they learn the target's own greedy text, span by span (sequence-level KD).

Training on the target's text instead of the narrations is what makes a draft worth having: it is
the target that will judge it (Kim & Rush 2016, sequence-level knowledge distillation). The
text-only twin is trained by the same function with the same budget.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.loader_memory import pad_ids, shuffled_batches
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
from egotriad.manifests.errors import ClipRejected
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import DRAFTS
from egotriad.manifests.shards import read_shards, shards_sha256
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.encoder import ImuEncoder
from egotriad.models.folder import save_model
from egotriad.models.loading import target_sha256, target_tokenizer
from egotriad.models.seeding import numpy_generator, torch_stream
from egotriad.models.tokenizer import tokenizer_sha256

__all__ = ["DraftTraining", "train_draft", "train_draft_on_shards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftTraining:
    """How a draft is distilled.

    Attributes:
        seed: of weights, batches and jitter.
        steps, batch, learning_rate: of the only stage.
        jitter: standard deviations of augmentation (of the IMU: one constant offset per window and
            channel); 0.15 is 5 % of three.
    """

    seed: int = 0
    steps: int = 400
    batch: int = 32
    learning_rate: float = 2e-3
    jitter: float = 0.15

    def __post_init__(self) -> None:
        require_at_least(self, steps=0, batch=1, jitter=0)


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
        progress: told after every step.

    Raises:
        EvaluationError: on clips of another split, or when none is usable.
        UsageError: an encoder of another kind.
        UnknownPlugin: when there is no such draft.
    """
    config = config or DraftTraining()
    model_class: Any = DRAFTS.load(draft)
    with torch_stream(config.seed, f"draft {draft}"):
        parts = {} if encoder is None else {"encoder": encoder}
        model: ConditionedLM = model_class(model_config or model_class.Config(), tokenizer, **parts)
        texts = {(row.window_id, row.span_index): row.output_ids for row in outputs}
        examples = DraftExamples()
        seen = training_clips(
            clips, lambda clip: collect(model, clip, texts, examples), what=f"the {draft} draft"
        )
        losses = distil(model, examples, config, progress)
    meta = {
        "training": asdict(config),
        "trained_on": seen.meta(),
        "losses": {"distillation": final_loss(losses)},
    }
    return Trained(model.eval(), tokenizer, meta)


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
        meta: what else the model's record is to hold.
        progress: told after every step.

    Raises:
        EvaluationError, CheckpointError: when the target outputs belong to other shards, or to
            another target.
    """
    tokenizer = target_tokenizer(target_folder)
    outputs = read_target_outputs(target_outputs)
    belongs_to = {
        "shards_sha256": shards_sha256(shards),
        "target_sha256": target_sha256(target_folder),
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
        progress=progress,
    )
    trained.meta.update(meta or {})
    trained.meta["trained_on"] |= belongs_to | {
        "target_outputs_sha256": sha256_file(target_outputs)
    }
    save_model(out, trained.model, tokenizer, trained.meta)
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
    batches = shuffled_batches(
        len(inputs), config.batch, numpy_generator(config.seed, "draft batches")
    )

    def step_loss() -> Tensor:
        rows = next(batches)
        ids, mask = pad_ids([examples.ids[row] for row in rows])
        return model.loss(model.jittered(inputs[torch.from_numpy(rows)], config.jitter), ids, mask)

    model.train()
    return optimise(
        model.parameters(),
        step_loss,
        stage="draft",
        steps=config.steps,
        learning_rate=config.learning_rate,
        progress=progress,
    )
