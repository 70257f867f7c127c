"""From rounds per clip to the numbers of a report: arms, intervals, differences, a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from egotriad.alignment.acceptance import AcceptanceMetrics, Counts, metrics
from egotriad.alignment.arms import DRAFT, NGRAM, ORACLE, TEXT_ONLY, ClipResult
from egotriad.alignment.bootstrap import Interval, difference_interval, ratio_interval, resample

__all__ = ["ArmResult", "Summary", "summarise", "verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm over all clips; intervals over recordings, None where nothing was counted."""

    metrics: AcceptanceMetrics
    tau: Interval
    accepted_over_drafted: Interval | None
    alpha_conditional: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Every arm, and how much more the draft emits per target pass than each control.

    Attributes:
        recordings: number of recordings the intervals are over.
        arms: by name.
        tau_gains: control -> tau(draft) - tau(control), paired over recordings.
        equal, checked: token-identical texts among all texts of all arms.
        oracle_complete: whether the target accepted every id it drafted for itself.
        distinct_texts, mean_tokens: of the target's texts.
    """

    recordings: int
    arms: Mapping[str, ArmResult]
    tau_gains: Mapping[str, Interval]
    checked: int
    equal: int
    oracle_complete: bool
    distinct_texts: int
    mean_tokens: float


def summarise(
    clips: Sequence[ClipResult], *, gamma: int, draws: int = 2000, seed: int = 0
) -> Summary:
    """The numbers of an evaluation.

    Args:
        clips: results with the same arms each, among them `draft` and `oracle`.
        gamma: drafted ids per round.
        draws: resamples of the recordings.
        seed: of the resampling.

    Raises:
        EvaluationError: when the clips are of fewer than two recordings.
    """
    recordings = sorted({clip.recording for clip in clips})
    weights = resample(len(recordings), draws=draws, seed=seed)
    counts = {name: _by_recording(clips, name, recordings, gamma) for name in clips[0].arms}
    arms = {}
    for name, parts in counts.items():
        total = metrics(reduce(add, parts))
        rounds = [p.rounds for p in parts]
        arms[name] = ArmResult(
            metrics=total,
            tau=ratio_interval([p.emitted for p in parts], rounds, weights),
            accepted_over_drafted=None
            if total.accepted_over_drafted is None
            else ratio_interval([p.accepted for p in parts], [p.drafted for p in parts], weights),
            alpha_conditional=None
            if total.alpha_conditional is None
            else ratio_interval([p.matched for p in parts], [p.compared for p in parts], weights),
        )
    taus = {name: ([p.emitted for p in c], [p.rounds for p in c]) for name, c in counts.items()}
    runs = [run for clip in clips for run in clip.arms.values()]
    oracle = [r for clip in clips for r in clip.arms[ORACLE].rounds]
    return Summary(
        recordings=len(recordings),
        arms=arms,
        tau_gains={
            name: difference_interval(taus[DRAFT], taus[name], weights)
            for name in arms
            if name not in (DRAFT, ORACLE)
        },
        checked=len(runs),
        equal=sum(run.divergence is None for run in runs),
        oracle_complete=all(r.matched == len(r.drafted) for r in oracle),
        distinct_texts=len({clip.target_ids for clip in clips}),
        mean_tokens=sum(len(clip.target_ids) for clip in clips) / len(clips),
    )


def verdict(summary: Summary) -> str:
    """In one sentence: does the sensor help, by the paired interval over recordings?

    The control that decides is the text-only draft: a draft with a zeroed or shuffled IMU trusts
    a wrong signal and scores below it, which would flatter. Without one the n-gram table stands
    in, and the sentence does not claim the gain for the IMU.
    """
    paired = TEXT_ONLY in summary.tau_gains
    gain = summary.tau_gains[TEXT_ONLY if paired else NGRAM]
    control = "the text-only draft" if paired else "the n-gram table"
    interval = f"[{gain.low:.2f}, {gain.high:.2f}]"
    if gain.low <= 0 <= gain.high:
        return (
            f"No evidence that the sensor is used: {gain.value:+.2f} tokens per target pass "
            f"against {control} {interval}."
        )
    if gain.high < 0:
        return (
            f"The draft does worse than {control}: {gain.value:+.2f} tokens per target pass "
            f"{interval}."
        )
    if paired:
        return f"The IMU adds {gain.value:.2f} tokens per target pass over {control} {interval}."
    return (
        f"The draft adds {gain.value:.2f} tokens per target pass over {control} {interval}; "
        "how much of it is the IMU's only a text-only draft can tell."
    )


def _by_recording(
    clips: Sequence[ClipResult], arm: str, recordings: Sequence[str], gamma: int
) -> list[Counts]:
    """Counts of one arm, one entry per recording in the given order."""
    sums: dict[str, Counts] = {}
    for clip in clips:
        run = clip.arms[arm]
        counts = Counts.of_clip([r.count for r in run.rounds], gamma, run.forced)
        sums[clip.recording] = sums[clip.recording] + counts if clip.recording in sums else counts
    return [sums[name] for name in recordings]
