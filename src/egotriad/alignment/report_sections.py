"""Sections of the HTML report: the arms and their numbers, and what the target says."""

import html
import math
from collections import Counter

from egotriad.alignment.arms import (
    DRAFT,
    NGRAM,
    ORACLE,
    PROMPT_LOOKUP,
    RETRIEVAL,
    SHUFFLED,
    TEXT_ONLY,
    ZEROED,
)
from egotriad.alignment.evaluate import Evaluation
from egotriad.alignment.report_parts import curves_svg, table
from egotriad.converters.figures import bars_svg

__all__ = ["COLUMNS", "LABELS", "acceptance_section", "arm_rows", "target_section"]

LABELS = {
    DRAFT: "IMU draft",
    TEXT_ONLY: "text-only draft",
    NGRAM: "n-gram table",
    PROMPT_LOOKUP: "prompt lookup",
    RETRIEVAL: "retrieved text",
    ZEROED: "IMU zeroed",
    SHUFFLED: "IMU shuffled",
    ORACLE: "oracle (target)",
}
COLUMNS = (
    "proposer",
    "tau",
    "the IMU draft's gain",
    "accepted / drafted",
    "alpha",
    "teacher-forced",
    "rounds per clip",
)
EXPLANATION = (
    "tau: tokens per target pass, the target's own included (plain decoding: 1.00), so it equals "
    "emitted tokens per round; an accepted final end of sequence is not counted as accepted. "
    "alpha: share of compared positions that match. Teacher-forced: share of the target's tokens "
    "that the proposer guesses when given all before. Brackets: 95 % bootstrap intervals over "
    "recordings; gains are paired. Tau depends on the length of the texts: compare proposers "
    "within this table, not tables of different targets."
)


def arm_rows(evaluation: Evaluation) -> list[list[str]]:
    """A row of cells per arm, for `COLUMNS`."""
    summary = evaluation.summary
    rows = []
    for name, arm in summary.arms.items():
        gain = summary.tau_gains.get(name)
        rows.append(
            [
                LABELS[name],
                str(arm.tau),
                f"{gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]" if gain else "",
                _share(arm.metrics.accepted_over_drafted),
                _share(arm.metrics.alpha_conditional),
                _share(arm.metrics.alpha_teacher_forced),
                f"{arm.metrics.rounds_per_clip:.2f}",
            ]
        )
    return rows


def acceptance_section(evaluation: Evaluation) -> str:
    """Every arm: the table, bars, curves, histograms, estimates, kinds of clips."""
    arms = evaluation.summary.arms
    taus = [arm.tau for arm in arms.values()]
    curves = {LABELS[name]: arm.metrics.per_position_conditional for name, arm in arms.items()}
    positions = [str(i + 1) for i in range(max(map(len, curves.values())))]
    return "\n".join(
        [
            "<h2>Acceptance</h2>",
            table(COLUMNS, arm_rows(evaluation)),
            f'<p class="soft">{html.escape(EXPLANATION)}</p>',
            bars_svg(
                [LABELS[name] for name in arms],
                [tau.value for tau in taus],
                [tau.low for tau in taus],
                [tau.high for tau in taus],
            ),
            "<h3>Match by drafted position, given that all before it matched</h3>",
            curves_svg(curves),
            table(
                ["proposer", *positions],
                [[name, *map(_share, values)] for name, values in curves.items()],
            ),
            "<h3>Accepted tokens per round, share of rounds</h3>",
            _histograms(evaluation),
            _offline(evaluation),
            _groups(evaluation),
        ]
    )


def _offline(evaluation: Evaluation) -> str:
    """What one pass over the target's texts predicts, beside what the loop measured."""
    rows = [
        [
            LABELS[name],
            f"{arm.offline.alpha_argmax:.1%}",
            f"{arm.offline.alpha_overlap:.1%}",
            f"{arm.offline.kl_pq:.2f}",
            f"{arm.offline.tau_pred_iid:.2f}",
            f"{arm.offline.tau_pred_runs:.2f}",
            f"{arm.metrics.tau_incl_bonus:.2f}",
        ]
        for name, arm in evaluation.summary.arms.items()
        if arm.offline
    ]
    if not rows:
        return ""
    header = ["proposer", "argmax", "overlap", "KL", "tau, i.i.d.", "tau, runs", "tau, measured"]
    return (
        "<h3>Teacher-forced estimates</h3>"
        f"{table(header, rows)}"
        '<p class="soft">One pass over the target\'s own texts: share of positions where the '
        "draft's argmax is the target's token; overlap of the two distributions (temperature 1); "
        "divergence of the draft from the target in nats; tokens per round these predict.</p>"
    )


def _groups(evaluation: Evaluation) -> str:
    """The draft by kind of clip."""
    parts = []
    for fact, groups in evaluation.summary.groups.items():
        rows = [
            [
                label,
                str(group.clips),
                str(group.recordings),
                f"{group.tau_incl_bonus:.2f}",
                _share(group.alpha_conditional),
            ]
            for label, group in groups.items()
        ]
        header = [fact.replace("_per_s", " / s"), "clips", "recordings", "tau", "alpha"]
        parts.append(table(header, rows))
    if not parts:
        return ""
    return f"<details><summary>The IMU draft by kind of clip</summary>{''.join(parts)}</details>"


def _histograms(evaluation: Evaluation) -> str:
    figures = []
    for name in (DRAFT, TEXT_ONLY, NGRAM):
        if name in evaluation.summary.arms:
            counts = evaluation.summary.arms[name].metrics.histogram
            no_interval = [math.nan] * len(counts)
            figure = bars_svg(
                [str(k) for k in range(len(counts))],
                [round(count / sum(counts), 3) for count in counts],
                no_interval,
                no_interval,
                width=300,
            )
            figures.append(f"<div><p>{LABELS[name]}</p>{figure}</div>")
    return f'<div class="row">{"".join(figures)}</div>'


def target_section(evaluation: Evaluation) -> str:
    """What the target says: the numbers without which no tau can be judged."""
    summary, clips = evaluation.summary, evaluation.clips
    quality = evaluation.quality
    accuracy = (
        ""
        if quality is None or quality.accuracy is None
        else (f" It names the true activity in {quality.accuracy:.0%} of the clips.")
    )
    counts = Counter(clip.target_text for clip in clips)
    rows = []
    for text, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]:
        truths = Counter(c.narration or "" for c in clips if c.target_text == text)
        truth = min(truths, key=lambda narration: (-truths[narration], narration))
        rows.append([text, truth, str(count), str(truths[truth])])
    return "\n".join(
        [
            "<h2>The target</h2>",
            f"<p>{summary.distinct_texts} different texts about {len(clips)} clips, "
            f"{summary.mean_tokens:.1f} tokens on average.{accuracy}</p>",
            table(
                ["most frequent texts", "commonest narration behind", "clips", "of these"],
                rows,
                text_columns=2,
            ),
            _confusion(evaluation),
        ]
    )


def _confusion(evaluation: Evaluation) -> str:
    quality = evaluation.quality
    if quality is None or not quality.confusion:
        return ""
    named = sorted({name for row in quality.confusion.values() for name in row})
    rows = [
        [label.replace("_", " "), *(str(row.get(name, "") or "") for name in named)]
        for label, row in quality.confusion.items()
    ]
    header = [name.replace("_", " ") or "unknown" for name in named]
    return (
        "<details><summary>What is named (columns) for which activity (rows)</summary>"
        f"{table(['', *header], rows)}</details>"
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
