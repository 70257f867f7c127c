"""What a reader must know before quoting the numbers of an evaluation."""

from collections.abc import Collection

from egotriad.alignment.arms import DRAFT, NGRAM, PROMPT_LOOKUP, RETRIEVAL, TEXT_ONLY
from egotriad.alignment.cost import StepCosts, predicted_speedup
from egotriad.alignment.evaluate import Evaluation
from egotriad.alignment.lossless import UNLIKELY

__all__ = ["cautions", "drafted_per_round", "expected_speedup"]

FEW_RECORDINGS = 10
CLIPS_PER_TEXT = 10


def cautions(evaluation: Evaluation) -> tuple[str, ...]:
    """Sentences on everything that weakens the result, the gravest first; often none."""
    return (*_broken(evaluation), *_weak(evaluation))


def drafted_per_round(evaluation: Evaluation) -> float:
    """Steps of the draft in a round: drafted ids of a chain, levels of a tree."""
    if evaluation.config.tree:
        return float(evaluation.config.gamma)
    found = evaluation.summary.arms[DRAFT].metrics
    return found.drafted / found.rounds


def expected_speedup(
    evaluation: Evaluation, costs: StepCosts, windows: Collection[str] | None = None
) -> float:
    """What the draft's rounds and the costs of steps predict, for all clips or some of them."""
    texts = (
        [r.count for r in clip.arms[DRAFT].rounds]
        for clip in evaluation.clips
        if windows is None or clip.window_id in windows
    )
    levels = evaluation.config.gamma if evaluation.config.tree else None
    return predicted_speedup(texts, costs, levels=levels)


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
    if evaluation.chi_square and evaluation.chi_square.p < UNLIKELY:
        found.append(
            "Sampled texts do not have the target's distribution: chi-square p "
            f"{evaluation.chi_square.p:.1g} over {evaluation.chi_square.n} texts."
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
    if evaluation.recorded:
        found.append(
            "Measured on recorded texts: times, probabilities and sampling are not available."
        )
    if summary.distinct_texts * CLIPS_PER_TEXT <= clips:
        found.append(
            f"The target says only {summary.distinct_texts} different texts about {clips} clips: "
            "a target that hardly looks flatters every draft, sensor or not."
        )
    if summary.recordings < FEW_RECORDINGS:
        found.append(f"Intervals over only {summary.recordings} recordings are rough.")
    if TEXT_ONLY not in summary.arms:
        found.append("Without a text-only draft nothing shows what the IMU itself contributes.")
    found += _looked_up(evaluation)
    found += _substituted(evaluation)
    draft = evaluation.models.get("draft", {}).get("trained_on", {})
    target_sha256 = evaluation.sources.get("target_sha256")
    if target_sha256 and draft.get("target_sha256", target_sha256) != target_sha256:
        found.append("The draft was distilled from another target than the one it is judged by.")
    return [*found, *_slow(evaluation)]


def _substituted(evaluation: Evaluation) -> list[str]:
    """Whether a published draft looks through another encoder than its own."""
    published = evaluation.models.get("draft", {}).get("published", {})
    encoder = published.get("options", {}).get("substitute_encoder")
    if encoder is None:
        return []
    return [
        f"The draft's encoder is a substitute ({encoder['name']}): its projector was trained "
        "behind another, which is not published, so texts are worse than the released system's."
    ]


def _looked_up(evaluation: Evaluation) -> list[str]:
    """What needs no model and is not beaten (without a twin the verdict tells of the table)."""
    gains = evaluation.summary.tau_gains
    names = {NGRAM: "the n-gram table", PROMPT_LOOKUP: "prompt lookup", RETRIEVAL: "retrieved text"}
    return [
        f"The draft is not better than {names[name]}: {gains[name].value:+.2f} tokens per target "
        f"pass [{gains[name].low:.2f}, {gains[name].high:.2f}]."
        for name in names
        if name in gains and gains[name].low <= 0 and (name != NGRAM or TEXT_ONLY in gains)
    ]


def _slow(evaluation: Evaluation) -> list[str]:
    """Whether the draft pays, measured where it was, else predicted."""
    drafted = evaluation.summary.arms[DRAFT].metrics
    costs, speed = evaluation.costs, evaluation.speed
    if costs is None:
        return []
    tau, expected = drafted.tau_incl_bonus, expected_speedup(evaluation, costs)
    speedup = speed.decode_value if speed else expected
    if speedup > 1:
        return []
    measured = f"decoding takes {1 / speedup:.2f} times as long as without it; " if speed else ""
    return [
        f"No gain in speed: {measured}{tau:.2f} tokens per pass, a draft step at {costs.c:.2f} and "
        f"a verification at {costs.v:.2f} of a target step predict {expected:.2f} times plain "
        "decoding on this device."
    ]
