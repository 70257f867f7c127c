"""What every training here shares: one optimiser loop, and a record of what was seen."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from egotriad.manifests import Clip
from egotriad.manifests.errors import ClipRejected, EvaluationError, UsageError
from egotriad.models.conditioned import ConditionedLM

__all__ = [
    "Progress",
    "Seen",
    "Trained",
    "final_loss",
    "optimise",
    "require_at_least",
    "training_clips",
]

Progress = Callable[[str, int, int, float], None]
"""Called after every step with (stage, steps done, steps in all, loss)."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained model (in eval mode), its tokenizer, and how it came about (JSON values)."""

    model: ConditionedLM
    tokenizer: PreTrainedTokenizerFast
    meta: dict[str, Any]


@dataclass(slots=True)
class Seen:
    """Whom and what a training has looked at, and what it had to leave out."""

    wearers: set[str] = field(default_factory=set)
    recordings: set[str] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)
    clips: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, clip: Clip) -> None:
        """One more clip is trained on."""
        self.clips += 1
        self.recordings.add(clip.recording)
        self.licences.add(clip.origin.license_id)
        if clip.wearer is not None:
            self.wearers.add(clip.wearer)

    def require_some(self, what: str) -> None:
        """Raises EvaluationError when no clip was usable."""
        if not self.clips:
            reasons = ", ".join(f"{n} x {reason}" for reason, n in self.rejected.items())
            raise EvaluationError(
                f"no clip of the train split can train {what} ({reasons or 'there are none'})"
            )

    def meta(self) -> dict[str, Any]:
        """As JSON values, sorted."""
        return {
            "wearers": sorted(self.wearers),
            "recordings": sorted(self.recordings),
            "licences": sorted(self.licences),
            "clips": self.clips,
            "rejected": dict(sorted(self.rejected.items())),
        }


def training_clips(clips: Iterable[Clip], collect: Callable[[Clip], None], *, what: str) -> Seen:
    """Shows each clip to `collect` and records it; clips that `collect` rejects are counted.

    Raises:
        EvaluationError: when a clip is not of the train split, or none was usable.
    """
    seen = Seen()
    for clip in clips:
        if clip.split != "train":
            raise EvaluationError(
                f"{clip.window_id}: is of the {clip.split} split; {what} trains on the train "
                "split only, or its acceptance would mean nothing"
            )
        try:
            collect(clip)
        except ClipRejected as exc:
            seen.rejected[exc.reason] += 1
        else:
            seen.add(clip)
    seen.require_some(what)
    return seen


def optimise(
    parameters: Iterable[nn.Parameter],
    step_loss: Callable[[], Tensor],
    *,
    stage: str,
    steps: int,
    learning_rate: float,
    progress: Progress | None = None,
) -> list[float]:
    """AdamW with a cosine learning rate from `learning_rate` to 0; returns every step's loss.

    Args:
        parameters: what is trained.
        step_loss: the loss of the next batch.
        stage: name of this training, for `progress`.
        steps: number of updates.
        learning_rate: of the first step.
        progress: told after every step.

    Raises:
        EvaluationError: when the loss is no longer finite.
    """
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
    losses: list[float] = []
    for step in range(steps):
        loss = step_loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise EvaluationError(
                f"{stage}: loss is {losses[-1]} at step {step + 1}; lower its learning rate "
                f"(now {learning_rate:g})"
            )
        if progress:
            progress(stage, step + 1, steps, losses[-1])
    return losses


def final_loss(losses: Sequence[float], *, steps: int = 20) -> float | None:
    """Mean loss of the last steps, None when there were none."""
    tail = losses[-steps:]
    return sum(tail) / len(tail) if tail else None


def require_at_least(settings: Any, **least: float) -> None:
    """Nothing when every named field of a config is at least its bound.

    Raises:
        UsageError: naming the first that is not.
    """
    for name, bound in least.items():
        if not getattr(settings, name) >= bound:
            raise UsageError(f"{name}: got {getattr(settings, name)}, need {bound} or more")
