"""Trains the tiny target on event frames and narrations alone (no labels, no IMU).

Stage 1: the tower learns to see, by predicting which words the narration holds.
Stage 2: the tower is frozen, as EventGPT freezes CLIP; projector and decoder learn to narrate.
Training both at once leaves the tower blind within such a budget.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egotriad.alignment.loader_memory import FrameStore, pad_ids, shuffled_batches
from egotriad.alignment.training import (
    Progress,
    Seen,
    Trained,
    final_loss,
    optimise,
    require_at_least,
    training_clips,
)
from egotriad.manifests import Clip
from egotriad.manifests.errors import ClipRejected, EvaluationError
from egotriad.manifests.shards import read_shards, shards_sha256
from egotriad.models.folder import save_model
from egotriad.models.seeding import numpy_generator, torch_stream
from egotriad.models.target_tiny import TinyTarget, TinyTargetConfig, event_frames
from egotriad.models.tokenizer import answer_ids, train_tokenizer

__all__ = ["TargetTraining", "train_target", "train_target_on_shards"]

WORD_SHARE = (0.01, 0.95)  # words rarer or commoner than this teach the tower nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTraining:
    """How the tiny target is trained.

    Attributes:
        seed: of weights, batches and dropout.
        vocab_size: of the tokenizer, at most.
        tower_steps, tower_batch, tower_learning_rate: stage 1.
        tower_frames: frames drawn at random per span and step in stage 1.
        decoder_steps, decoder_batch, decoder_learning_rate: stage 2.
    """

    seed: int = 0
    vocab_size: int = 512
    tower_steps: int = 400
    tower_batch: int = 48
    tower_frames: int = 2
    tower_learning_rate: float = 3e-3
    decoder_steps: int = 350
    decoder_batch: int = 32
    decoder_learning_rate: float = 1.5e-3

    def __post_init__(self) -> None:
        require_at_least(self, tower_steps=0, tower_batch=2, tower_frames=1)
        require_at_least(self, decoder_steps=0, decoder_batch=1)


@dataclass(slots=True)
class TargetExamples:
    """One row per event span: its frames and its clip's narration."""

    frames: FrameStore = field(default_factory=FrameStore)
    texts: list[str] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)


def train_target(
    clips: Iterable[Clip],
    config: TargetTraining | None = None,
    *,
    model_config: TinyTargetConfig | None = None,
    progress: Progress | None = None,
) -> Trained:
    """A tiny target that narrates what the clips' events show.

    Args:
        clips: of the train split, with narration, events and event spans; read once. Clips that
            lack one are left out and counted in the meta.
        config: how to train.
        model_config: what to train.
        progress: told after every step.

    Raises:
        EvaluationError: on clips of another split, when none is usable, or when all narrations
            use the same words.
    """
    config = config or TargetTraining()
    model_config = model_config or TinyTargetConfig()
    examples = collect_examples(clips, model_config.frames)
    tokenizer = train_tokenizer(
        [*examples.texts, model_config.template.replace(TinyTarget.placeholder, " ")],
        vocab_size=config.vocab_size,
    )
    with torch_stream(config.seed, "target"):
        model = TinyTarget(model_config, tokenizer)
        tower_losses = train_tower(model, examples, config, progress)
        features = tower_features(model, examples.frames)
        ids = [answer_ids(tokenizer, text) for text in examples.texts]
        losses = train_decoder(model, features, ids, config, progress)
    meta = {
        "training": asdict(config),
        "trained_on": examples.seen.meta(),
        "losses": {"tower": final_loss(tower_losses), "decoder": final_loss(losses)},
    }
    return Trained(model.eval(), tokenizer, meta)


def train_target_on_shards(
    shards: Path | str,
    out: Path,
    config: TargetTraining | None = None,
    *,
    model_config: TinyTargetConfig | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains a tiny target on the train split of a build and saves its folder."""
    clips = read_shards(shards, split="train")
    trained = train_target(clips, config, model_config=model_config, progress=progress)
    trained.meta["trained_on"]["shards_sha256"] = shards_sha256(shards)
    save_model(out, trained.model, trained.tokenizer, trained.meta)
    return trained


def collect_examples(clips: Iterable[Clip], frames: int) -> TargetExamples:
    """Renders every span of every usable clip."""
    examples = TargetExamples()

    def collect(clip: Clip) -> None:
        if clip.narration is None:
            raise ClipRejected("no-narration", f"{clip.window_id}: no narration to learn from")
        if not clip.event_spans:
            raise ClipRejected("no-events", f"{clip.window_id}: no event spans")
        for rendered in [event_frames(clip, span, frames) for span in clip.event_spans]:
            examples.frames.add(rendered)
            examples.texts.append(clip.narration)

    examples.seen = training_clips(clips, collect, what="a target")
    return examples


def train_tower(
    model: TinyTarget, examples: TargetExamples, config: TargetTraining, progress: Progress | None
) -> list[float]:
    """Stage 1: mean-pooled tower features predict the narration's bag of words."""
    words = bag_of_words(examples.texts)
    head = nn.Linear(model.config.tower_widths[-1], words.shape[1])
    rng = numpy_generator(config.seed, "tower batches")
    batches = shuffled_batches(len(words), config.tower_batch, rng)
    picked = min(config.tower_frames, model.config.frames)

    def step_loss() -> Tensor:
        rows = next(batches)
        shuffled = rng.permuted(np.tile(np.arange(model.config.frames), (len(rows), 1)), axis=1)
        features = model.features(examples.frames.batch(rows, shuffled[:, :picked]))
        return F.binary_cross_entropy_with_logits(head(features.mean(dim=(1, 2))), words[rows])

    model.visual_tower.train()
    return optimise(
        [*model.visual_tower.parameters(), *head.parameters()],
        step_loss,
        stage="tower",
        steps=config.tower_steps,
        learning_rate=config.tower_learning_rate,
        progress=progress,
    )


def bag_of_words(texts: Sequence[str]) -> Tensor:
    """float32 (N, W): which telling words each text holds, words in alphabetical order."""
    bags = [set(re.findall(r"\w+", text.lower())) for text in texts]
    counts = Counter(word for bag in bags for word in bag)
    low, high = (share * len(texts) for share in WORD_SHARE)
    words = sorted(word for word, count in counts.items() if low <= count <= high)
    if not words:
        raise EvaluationError(
            f"{len(texts)} narrations share all their words; a target needs texts that differ"
        )
    return torch.tensor([[float(word in bag) for word in words] for bag in bags])


@torch.no_grad()
def tower_features(model: TinyTarget, frames: FrameStore, *, batch: int = 16) -> Tensor:
    """float16 (N, F, P, C): the frozen tower's features of all rows."""
    model.visual_tower.eval()
    rows = np.arange(len(frames))
    parts = np.array_split(rows, -(-len(rows) // batch))
    return torch.cat([model.features(frames.batch(part)).half() for part in parts])


def train_decoder(
    model: TinyTarget,
    features: Tensor,
    ids: Sequence[Sequence[int]],
    config: TargetTraining,
    progress: Progress | None,
) -> list[float]:
    """Stage 2: projector, adaptor and decoder narrate from the frozen tower's features."""
    model.train()
    model.visual_tower.eval().requires_grad_(False)
    rng = numpy_generator(config.seed, "decoder batches")
    batches = shuffled_batches(len(ids), config.decoder_batch, rng)

    def step_loss() -> Tensor:
        rows = next(batches)
        padded, mask = pad_ids([ids[row] for row in rows])
        prefix = model.wrap(model.aggregate(features[torch.from_numpy(rows)].float()))
        return model.prefix_loss(prefix, padded, mask)

    return optimise(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        step_loss,
        stage="decoder",
        steps=config.decoder_steps,
        learning_rate=config.decoder_learning_rate,
        progress=progress,
    )
