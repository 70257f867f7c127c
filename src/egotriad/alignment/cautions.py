"""What a reader must know before quoting the numbers of an evaluation."""

from egotriad.alignment.arms import DRAFT, TEXT_ONLY
from egotriad.alignment.cost import predicted_speedup
from egotriad.alignment.evaluate import Evaluation

__all__ = ["cautions"]

FEW_RECORDINGS = 10
CLIPS_PER_TEXT = 10


def cautions(evaluation: Evaluation) -> tuple[str, ...]:
    """Sentences on everything that weakens the result, the gravest first; often none."""
    return (*_broken(evaluation), *_weak(evaluation))


def _broken(evaluation: Evaluation) -> list[str]:
    """Reasons for which the numbers do not mean what their names say."""
    summary = evaluation.summary
    found = [f"Not held out: {sentence}." for sentence in evaluation.overlaps]
    if not summary.oracle_complete:
        found.append(
            "The target rejected ids it drafted for itself: a cache is wrong or numbers are "
            "unstable; every acceptance here may be too low."
        )
    if summary.equal < summary.checked:
        found.append(
            f"{summary.checked - summary.equal} of {summary.checked} texts differ from plain "
            "greedy decoding; the report lists where, and how close the decision was."
        )
    if evaluation.failures:
        found.append(
            f"{len(evaluation.failures)} of {evaluation.requested} clips could not be evaluated "
            "and are left out of every arm; the report lists why."
        )
    return found


def _weak(evaluation: Evaluation) -> list[str]:
    """Reasons for which true numbers say little."""
    summary, clips = evaluation.summary, len(evaluation.clips)
    found = []
    if summary.distinct_texts * CLIPS_PER_TEXT <= clips:
        found.append(
            f"The target says only {summary.distinct_texts} different texts about {clips} clips: "
            "a target that hardly looks flatters every draft, sensor or not."
        )
    if summary.recordings < FEW_RECORDINGS:
        found.append(f"Intervals over only {summary.recordings} recordings are rough.")
    if TEXT_ONLY not in summary.arms:
        found.append("Without a text-only draft nothing shows what the IMU itself contributes.")
    draft = evaluation.models.get("draft", {}).get("trained_on", {})
    target_sha256 = evaluation.sources.get("target_sha256")
    if target_sha256 and draft.get("target_sha256", target_sha256) != target_sha256:
        found.append("The draft was distilled from another target than the one it is judged by.")
    tau = summary.arms[DRAFT].metrics.tau_incl_bonus
    speedup = predicted_speedup(tau, evaluation.config.gamma, evaluation.costs)
    if speedup <= 1:
        found.append(
            f"No gain in speed: {tau:.2f} tokens per pass, a draft step at "
            f"{evaluation.costs.c:.2f} and a verification at {evaluation.costs.v:.2f} of a target "
            f"step predict {speedup:.2f} times plain decoding on this processor."
        )
    return found
