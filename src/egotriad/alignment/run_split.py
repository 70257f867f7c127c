"""All arms on all clips of a split, one or several clips at a time; what fails is told apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from egotriad.alignment.arms import Bench, ClipInputs, ClipResult, evaluation_span, inputs_of
from egotriad.alignment.controls import shuffled_donors
from egotriad.alignment.cost import StepCosts, measure_steps
from egotriad.alignment.run_arms import run_clip
from egotriad.alignment.run_arms_batch import run_clips
from egotriad.manifests import Clip
from egotriad.manifests.errors import EgotriadError, EvaluationError

__all__ = ["Failure", "run_split"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that could not be evaluated, and why."""

    window_id: str
    error: str


def run_split(
    bench: Bench,
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[ClipResult, ...], tuple[Failure, ...], StepCosts | None]:
    """All arms on all clips, and the cost of a step on the first clip that works.

    Draft inputs come first: each is also the wrong IMU of another clip.

    Args:
        bench: models and settings.
        clips: one or more.
        progress: called with (clips done, clips in all).

    Returns:
        Results in the order of the clips, clips left out of every arm, and what steps cost (None
        of recorded texts).

    Raises:
        EvaluationError: when nothing is left, or all clips are of one recording.
    """
    usable, failures = _usable(bench, clips)
    recordings = [clip.recording for clip, _ in usable]
    donors = shuffled_donors(recordings, bench.config.seed) if usable else []
    results: list[ClipResult] = []
    costs: StepCosts | None = None
    waiting: list[ClipInputs] = []
    for done, ((clip, inputs), donor) in enumerate(zip(usable, donors, strict=True), start=1):
        try:
            waiting.append(inputs_of(bench, clip, inputs, usable[donor][1]))
        except EgotriadError as exc:
            failures.append(Failure(clip.window_id, str(exc)))
        if len(waiting) == bench.config.batch or done == len(usable):
            for one, found in zip(waiting, _together(bench, waiting), strict=True):
                if isinstance(found, Failure):
                    failures.append(found)
                    continue
                results.append(found)
                if costs is None and not bench.recorded:
                    costs = _costs(bench, one)
            waiting = []
        if progress:
            progress(done, len(usable))
    if not results:
        raise EvaluationError(
            f"none of {len(clips)} clips could be evaluated; the first: {failures[0].error}"
        )
    return tuple(results), tuple(failures), costs


def _usable(bench: Bench, clips: Sequence[Clip]) -> tuple[list[tuple[Clip, Tensor]], list[Failure]]:
    """Clips with their draft inputs, and those that the draft cannot use."""
    usable: list[tuple[Clip, Tensor]] = []
    failures: list[Failure] = []
    for clip in clips:
        try:
            usable.append((clip, bench.draft.prepare(clip, evaluation_span(clip))))
        except EgotriadError as exc:
            failures.append(Failure(clip.window_id, str(exc)))
    return usable, failures


def _together(bench: Bench, clips: Sequence[ClipInputs]) -> list[ClipResult | Failure]:
    """Results of some clips; what goes wrong with several is told of each alone."""
    try:
        if len(clips) > 1:
            return [*run_clips(bench, clips)]
        return [run_clip(bench, one) for one in clips]
    except EgotriadError as exc:
        if len(clips) == 1:
            return [Failure(clips[0].clip.window_id, str(exc))]
        return [found for one in clips for found in _together(bench, [one])]


def _costs(bench: Bench, inputs: ClipInputs) -> StepCosts:
    return measure_steps(
        bench.target.state(inputs.target[None]),
        bench.draft.state(inputs.draft[None]),
        token=bench.target.eos_id,
        gamma=bench.config.tree.nodes if bench.config.tree else bench.config.gamma,
    )
