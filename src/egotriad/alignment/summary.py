"""From rounds per clip to the numbers of a report: arms, intervals, differences, a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from egotriad.alignment.acceptance import AcceptanceMetrics, Counts, metrics
from egotriad.alignment.arms import DRAFT, NGRAM, ORACLE, TEXT_ONLY, ClipResult
from egotriad.alignment.bootstrap import Interval, difference_interval, ratio_interval, resample
from egotriad.alignment.groups import grouped
from egotriad.alignment.offline import ForcedSums, tau_iid
from egotriad.alignment.speculate import Round

__all__ = ["ArmResult", "GroupResult", "Offline", "Summary", "summarise", "verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """What one pass over the target's texts predicts.

    Attributes:
        alpha_argmax: share of positions where the draft's argmax is the target's id.
        alpha_overlap: mean overlap of the distributions at temperature 1.
        kl_pq, kl_qp: mean divergences in nats (p the target's, q the draft's).
        tau_pred_iid: tokens per round if positions stood alike and alone with that alpha.
        tau_pred_runs: tokens per round from every possible start.
    """

    alpha_argmax: float
    alpha_overlap: float
    kl_pq: float
    kl_qp: float
    tau_pred_iid: float
    tau_pred_runs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """The draft on one group of clips."""

    clips: int
    recordings: int
    tau_incl_bonus: float
    alpha_conditional: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm over all clips; intervals over recordings, None where nothing was counted."""

    metrics: AcceptanceMetrics
    tau: Interval
    accepted_over_drafted: Interval | None
    alpha_conditional: Interval | None
    offline: Offline | None


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
        groups: fact -> label -> the draft on those clips.
    """

    recordings: int
    arms: Mapping[str, ArmResult]
    tau_gains: Mapping[str, Interval]
    checked: int
    equal: int
    oracle_complete: bool
    distinct_texts: int
    mean_tokens: float
    groups: Mapping[str, Mapping[str, GroupResult]]


def summarise(
    clips: Sequence[ClipResult],
    *,
    gamma: int,
    greedy: bool = True,
    draws: int = 2000,
    seed: int = 0,
) -> Summary:
    """The numbers of an evaluation.

    Args:
        clips: results with the same arms each, among them `draft` and `oracle`.
        gamma: the most ids drafted in a round.
        greedy: whether the target chose greedily: only then texts have to be equal.
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
            offline=_offline(clips, name, gamma, greedy=greedy),
        )
    taus = {name: ([p.emitted for p in c], [p.rounds for p in c]) for name, c in counts.items()}
    runs = [run for clip in clips for run in clip.arms.values()] if greedy else []
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
        oracle_complete=_complete(oracle, greedy=greedy),
        distinct_texts=len({clip.target_ids for clip in clips}),
        mean_tokens=sum(len(clip.target_ids) for clip in clips) / len(clips),
        groups={
            fact: {label: _group(members, gamma) for label, members in labels.items()}
            for fact, labels in grouped(clips, lambda clip: clip.facts).items()
        },
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


def _complete(rounds: Sequence[Round], *, greedy: bool) -> bool:
    """Whether the target accepts its own drafts.

    Sampling compares two passes' probabilities, whose last digits differ: one id in a thousand
    may fall to that.
    """
    if greedy:
        return all(r.matched == len(r.drafted) for r in rounds)
    failed = sum(r.matched < len(r.drafted) for r in rounds)
    return failed <= sum(r.matched for r in rounds) / 1000


def _group(clips: Sequence[ClipResult], gamma: int) -> GroupResult:
    counts = Counts.of_clip([r.count for c in clips for r in c.arms[DRAFT].rounds], gamma)
    found = metrics(counts)
    return GroupResult(
        clips=len(clips),
        recordings=len({clip.recording for clip in clips}),
        tau_incl_bonus=found.tau_incl_bonus,
        alpha_conditional=found.alpha_conditional,
    )


def _offline(clips: Sequence[ClipResult], arm: str, gamma: int, *, greedy: bool) -> Offline | None:
    found = [run.offline for clip in clips if (run := clip.arms[arm]).offline is not None]
    if not found:
        return None
    total = reduce(add, (ForcedSums.of_text(one, gamma) for one in found if one is not None))
    n = total.positions
    alpha = (total.matches if greedy else total.overlap) / n
    accepted = total.accepted_greedy if greedy else total.accepted_sampled
    return Offline(
        alpha_argmax=total.matches / n,
        alpha_overlap=total.overlap / n,
        kl_pq=total.kl_pq / n,
        kl_qp=total.kl_qp / n,
        tau_pred_iid=tau_iid(alpha, gamma),
        tau_pred_runs=1 + accepted / n,
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
