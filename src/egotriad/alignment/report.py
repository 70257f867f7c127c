"""An evaluation for people: a self-contained HTML page, and a table for the terminal."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from egotriad.alignment.arms import DRAFT, TEXT_ONLY, ClipResult, evaluation_span
from egotriad.alignment.bootstrap import Interval
from egotriad.alignment.cautions import cautions, drafted_per_round, expected_speedup
from egotriad.alignment.evaluate import Evaluation
from egotriad.alignment.report_files import report_json
from egotriad.alignment.report_parts import STYLE, legend, token_stream
from egotriad.alignment.report_sections import (
    COLUMNS,
    LABELS,
    acceptance_section,
    arm_rows,
    target_section,
)
from egotriad.alignment.report_stages import stages_html
from egotriad.converters.event_frames import eventgpt_frames
from egotriad.converters.figures import imu_svg, page, png_data_uri
from egotriad.manifests import Clip
from egotriad.manifests.files import write_text

__all__ = ["acceptance_table", "choose_examples", "write_html"]

EXAMPLES = 12


def acceptance_table(evaluation: Evaluation) -> Table:
    """Arms and their numbers for a terminal; the cautions are its caption."""
    notes = "\n".join(cautions(evaluation))
    caption = Text(notes) if notes else None
    grid = Table(title="Acceptance", caption=caption, caption_justify="left")
    for k, column in enumerate(COLUMNS):
        grid.add_column(column, justify="left" if k == 0 else "right")
    for row in arm_rows(evaluation):
        grid.add_row(*row)
    return grid


def write_html(
    evaluation: Evaluation,
    clips: Iterable[Clip],
    out: Path,
    *,
    stages: Mapping[str, Any] | None = None,
) -> None:
    """Writes the page; it needs no other file and no network.

    Args:
        evaluation: what was measured.
        clips: at least the evaluated ones, read once; a few become illustrated examples.
        out: the HTML file.
        stages: what benchmark-stages reports of these models; None leaves the stages out.
    """
    body = [
        STYLE,
        f'<p class="verdict">{html.escape(evaluation.verdict)}</p>',
        *(f'<p class="caution">{html.escape(line)}</p>' for line in cautions(evaluation)),
        _what_was_measured(evaluation),
        acceptance_section(evaluation),
        target_section(evaluation),
        stages_html(stages) if stages else "",
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


def _what_was_measured(evaluation: Evaluation) -> str:
    summary, config = evaluation.summary, evaluation.config
    if evaluation.recorded:
        chosen = "The target's texts are recorded ones, replayed."
    elif config.sampling.greedy:
        chosen = (
            f"{summary.equal} of {summary.checked} texts are token-identical to plain greedy "
            "decoding."
        )
    else:
        chosen = "Sampled texts have the target's distribution; they are not compared one by one."
    decoding = (
        "greedy decoding"
        if config.sampling.greedy
        else f"sampling at temperature {config.temperature:g}, top-k {config.top_k or 'off'}, "
        f"top-p {config.top_p:g}"
    )
    return (
        f"<p>{len(evaluation.clips)} clips of {summary.recordings} recordings "
        f"({html.escape(config.split)} split), {decoding}, "
        f"{drafted_per_round(evaluation):.1f} drafted tokens a round, texts up to "
        f"{config.max_new_tokens} tokens. {chosen}{_cost(evaluation)}</p>"
    )


def _cost(evaluation: Evaluation) -> str:
    """What steps cost, what that predicts, and what was measured."""
    costs, speed = evaluation.costs, evaluation.speed
    if costs is None:
        return ""
    measured = (
        f" Measured on {speed.clips} clips: decoding {_times(speed.decode_value, speed.decode)}, "
        f"end to end {_times(speed.end_to_end_value, speed.end_to_end)} times as fast as without "
        f"it; {speed.slower_share:.0%} of the clips were slower."
        if speed
        else ""
    )
    return (
        f" A draft step costs {costs.c:.2f} and a verification {costs.v:.2f} of a target step, "
        f"which with this tau predicts decoding {expected_speedup(evaluation, costs):.2f} times "
        f"as fast, prefixes not counted.{measured}"
    )


def _times(value: float, interval: Interval | None) -> str:
    return str(interval) if interval else f"{value:.2f}"


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
