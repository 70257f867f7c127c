"""An evaluation for people: a self-contained HTML page, and a table for the terminal."""

import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from egotriad.alignment.arms import (
    DRAFT,
    NGRAM,
    ORACLE,
    SHUFFLED,
    TEXT_ONLY,
    ZEROED,
    ClipResult,
    evaluation_span,
)
from egotriad.alignment.bootstrap import Interval
from egotriad.alignment.cautions import cautions
from egotriad.alignment.evaluate import Evaluation
from egotriad.alignment.report_files import report_json
from egotriad.alignment.report_parts import STYLE, curves_svg, legend, table, token_stream
from egotriad.converters.event_frames import eventgpt_frames
from egotriad.converters.figures import bars_svg, imu_svg, page, png_data_uri
from egotriad.manifests import Clip
from egotriad.manifests.files import write_text

__all__ = ["acceptance_table", "choose_examples", "write_html"]

EXAMPLES = 12
LABELS = {
    DRAFT: "IMU draft",
    TEXT_ONLY: "text-only draft",
    NGRAM: "n-gram table",
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


def acceptance_table(evaluation: Evaluation) -> Table:
    """Arms and their numbers for a terminal; the cautions are its caption."""
    notes = "\n".join(cautions(evaluation))
    caption = Text(notes) if notes else None
    grid = Table(title="Acceptance", caption=caption, caption_justify="left")
    for k, column in enumerate(COLUMNS):
        grid.add_column(column, justify="left" if k == 0 else "right")
    for row in _rows(evaluation):
        grid.add_row(*row)
    return grid


def write_html(evaluation: Evaluation, clips: Iterable[Clip], out: Path) -> None:
    """Writes the page; it needs no other file and no network.

    Args:
        evaluation: what was measured.
        clips: at least the evaluated ones, read once; a few become illustrated examples.
        out: the HTML file.
    """
    body = [
        STYLE,
        f'<p class="verdict">{html.escape(evaluation.verdict)}</p>',
        *(f'<p class="caution">{html.escape(line)}</p>' for line in cautions(evaluation)),
        _what_was_measured(evaluation),
        _acceptance(evaluation),
        _target(evaluation),
        "<h2>Examples</h2>",
        "<p>Chosen by position in the shards, spread over the recordings, whatever the result. "
        "Bars separate rounds; every round is one pass of the target.</p>",
        legend(),
        *_examples(evaluation, clips),
        _details(evaluation),
    ]
    write_text(out, page("Acceptance of an IMU draft", "\n".join(body)))


def choose_examples(results: Sequence[ClipResult], count: int = EXAMPLES) -> list[ClipResult]:
    """Up to `count` results, evenly spread over the recordings, blind to how they turned out.

    The n-th of the chosen recordings gives its n-th clip, so that different moments are shown.
    """
    groups: dict[str, list[ClipResult]] = {}
    for result in results:
        groups.setdefault(result.recording, []).append(result)
    names = sorted(groups)
    wanted = min(count, len(results))
    chosen: dict[str, ClipResult] = {}
    for n in range(wanted):
        group = groups[names[n * len(names) // wanted]]
        rest = [result for result in group if result.window_id not in chosen]
        if rest:
            pick = rest[n % len(rest)]
            chosen[pick.window_id] = pick
    return list(chosen.values())


def _rows(evaluation: Evaluation) -> list[list[str]]:
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


def _what_was_measured(evaluation: Evaluation) -> str:
    summary, config = evaluation.summary, evaluation.config
    costs, speed = report_json(evaluation)["cost"], evaluation.speed
    chosen = (
        f"{summary.equal} of {summary.checked} texts are token-identical to plain greedy decoding."
        if config.sampling.greedy
        else "Sampled texts have the target's distribution; they are not compared one by one."
    )
    decoding = (
        "greedy decoding"
        if config.sampling.greedy
        else f"sampling at temperature {config.temperature:g}, top-k {config.top_k or 'off'}, "
        f"top-p {config.top_p:g}"
    )
    measured = (
        f" Measured on {speed.clips} clips: decoding {_times(speed.decode_value, speed.decode)}, "
        f"end to end {_times(speed.end_to_end_value, speed.end_to_end)} times as fast as without "
        f"it; {speed.slower_share:.0%} of the clips were slower."
        if speed
        else ""
    )
    return (
        f"<p>{len(evaluation.clips)} clips of {summary.recordings} recordings "
        f"({html.escape(config.split)} split), {decoding}, {costs['drafted_per_round']:.1f} "
        f"drafted tokens a round, texts up to {config.max_new_tokens} tokens. {chosen} "
        f"A draft step costs {costs['c']:.2f} and a verification {costs['v']:.2f} of a "
        f"target step, which with this tau predicts decoding "
        f"{costs['speedup_predicted']:.2f} times as fast, prefixes not counted.{measured}</p>"
    )


def _times(value: float, interval: Interval | None) -> str:
    return str(interval) if interval else f"{value:.2f}"


def _acceptance(evaluation: Evaluation) -> str:
    arms = evaluation.summary.arms
    taus = [arm.tau for arm in arms.values()]
    curves = {LABELS[name]: arm.metrics.per_position_conditional for name, arm in arms.items()}
    positions = [str(i + 1) for i in range(max(map(len, curves.values())))]
    return "\n".join(
        [
            "<h2>Acceptance</h2>",
            table(COLUMNS, _rows(evaluation)),
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
                [count / sum(counts) for count in counts],
                no_interval,
                no_interval,
                width=300,
            )
            figures.append(f"<div><p>{LABELS[name]}</p>{figure}</div>")
    return f'<div class="row">{"".join(figures)}</div>'


def _target(evaluation: Evaluation) -> str:
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
        [label, *(str(row.get(name, "") or "") for name in named)]
        for label, row in quality.confusion.items()
    ]
    return (
        "<details><summary>What is named (columns) for which activity (rows)</summary>"
        f"{table(['', *(name or 'unknown' for name in named)], rows)}</details>"
    )


def _examples(evaluation: Evaluation, clips: Iterable[Clip]) -> list[str]:
    wanted = {result.window_id: result for result in choose_examples(evaluation.clips)}
    return [
        _example(evaluation, wanted[clip.window_id], clip)
        for clip in clips
        if clip.window_id in wanted
    ]


def _example(evaluation: Evaluation, result: ClipResult, clip: Clip) -> str:
    span = evaluation_span(clip)
    frames = [] if clip.events is None else list(eventgpt_frames(clip.events, span))
    images = "".join(
        f'<img class="pixels" alt="event frame {k} of {len(frames)}" src="{png_data_uri(frame)}">'
        for k, frame in enumerate(frames, start=1)
    )
    streams = "".join(
        f'<div class="stream"><span>{LABELS[name]}</span>'
        f"{token_stream(result.arms[name].rounds, evaluation.tokens)}</div>"
        for name in (DRAFT, TEXT_ONLY)
        if name in result.arms
    )
    return "\n".join(
        [
            f"<h3>{html.escape(clip.window_id)}</h3>",
            f"<p>Narration: “{html.escape(clip.narration or '')}” · target: "
            f"“{html.escape(result.target_text)}”</p>",
            streams,
            f'<div class="row">{images}</div>',
            imu_svg(clip.imu, height=260, marks=[span]) if clip.imu else "",
        ]
    )


def _details(evaluation: Evaluation) -> str:
    """Everything else, as it is in report.json."""
    report = report_json(evaluation)
    keys = ("config", "environment", "sources", "data", "lossless", "cost", "by_group", "models")
    text = json.dumps({key: report[key] for key in keys}, indent=2, ensure_ascii=False)
    return (
        "<h2>Details</h2>\n<details><summary>settings, data, models</summary>"
        f"<pre>{html.escape(text)}</pre></details>"
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
