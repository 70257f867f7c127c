"""`inspect-shards`: one page that shows what shards hold, for the eye."""

import html
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from egotriad.converters.event_frames import MAX_EXTENT_US, eventgpt_frames
from egotriad.converters.figures import imu_svg, page, png_data_uri
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import write_text
from egotriad.manifests.rows import union_us
from egotriad.manifests.shards import read_manifest, read_shards

__all__ = ["write_inspection"]

FRAME_SPAN_US = 50_000


@dataclass(slots=True)
class _Totals:
    """Sums over all clips, gathered in one pass."""

    clips: int = 0
    events: int = 0
    on: int = 0
    observed_s: float = 0.0
    hours: float = 0.0
    narrated: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    recordings: set[str] = field(default_factory=set)
    wearers: set[str] = field(default_factory=set)
    gravity: list[float] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        self.clips += 1
        self.hours += clip.duration_us / 3.6e9
        self.splits[clip.split] += 1
        self.recordings.add(clip.recording)
        self.wearers.add(clip.wearer or clip.recording)
        self.narrated += clip.narration is not None
        if clip.events is not None:
            self.events += len(clip.events)
            self.on += int(clip.events.p.sum())
            self.observed_s += union_us(clip.event_spans) / 1e6
        if clip.imu is not None and clip.imu.valid.any():
            accel = clip.imu.data[:3, clip.imu.valid].astype(np.float64)
            self.gravity.append(float(np.linalg.norm(accel, axis=0).mean()))


def write_inspection(shards: Path, out: Path, *, clips: int, split: str | None) -> dict[str, Any]:
    """Writes the page and returns the numbers on it.

    Args:
        shards: folder of a build.
        out: the HTML file.
        clips: how many clips to draw, evenly spread.
        split: only this split; None = all.

    Raises:
        ShardError: when the folder holds no complete build.
        UsageError: when no clip is asked for.
    """
    if clips < 1:
        raise UsageError(f"--clips: got {clips}, need at least 1")
    rows = sum(
        line["rows"]
        for line in read_manifest(shards)
        if line["config"] == "windows" and split in (None, line["split"])
    )
    drawn = set(np.linspace(0, max(rows - 1, 0), min(clips, max(rows, 1))).astype(int).tolist())
    totals = _Totals()
    sections: list[str] = []
    for index, clip in enumerate(read_shards(shards, split=split)):
        totals.add(clip)
        if index in drawn:
            sections.append(_section(clip))
    if not totals.clips:
        raise ShardError(f"{shards.name}: holds no clips")
    body = _summary(totals) + _rejections(shards) + "".join(sections)
    write_text(out, page(f"Shards: {shards.name}", body))
    return {
        "clips": totals.clips,
        "events": totals.events,
        "hours": round(totals.hours, 6),
        "recordings": len(totals.recordings),
        "wearers": len(totals.wearers),
    }


def _summary(totals: _Totals) -> str:
    facts = [
        ("clips", f"{totals.clips} ({totals.hours:.3f} h)"),
        ("splits", ", ".join(f"{name} {count}" for name, count in sorted(totals.splits.items()))),
        ("recordings, wearers", f"{len(totals.recordings)}, {len(totals.wearers)}"),
        ("with a narration", str(totals.narrated)),
        ("events", f"{totals.events:,}"),
    ]
    if totals.observed_s:
        facts.append(("events per second of span", f"{totals.events / totals.observed_s:,.0f}"))
    if totals.events:
        facts.append(("share of ON events", f"{totals.on / totals.events:.3f}"))
    if totals.gravity:
        low, mid, high = np.percentile(totals.gravity, [5, 50, 95])
        text = f"{mid:.2f} m/s² (5th to 95th percentile over clips: {low:.2f} to {high:.2f})"
        facts.append(("mean norm of the acceleration", text))
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in facts)
    return f"<table>{rows}</table>"


def _rejections(shards: Path) -> str:
    file = shards / "rejected.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    if not lines:
        return ""
    shown = "".join(f"<li><code>{html.escape(line)}</code></li>" for line in lines[:20])
    summary = f"<summary>{len(lines)} windows were rejected</summary>"
    return f"<details>{summary}<ul>{shown}</ul></details>"


def _section(clip: Clip) -> str:
    parts = [f"<h2>{html.escape(clip.narration or 'no narration')}</h2>"]
    parts.append(
        f"<p class='soft'><code>{html.escape(clip.window_id)}</code> · {clip.split} · "
        f"wearer {html.escape(clip.wearer or 'unknown')} · clock {clip.align.status}</p>"
    )
    if clip.imu is not None:
        parts.append(f"<figure>{imu_svg(clip.imu, marks=_marks(clip))}</figure>")
    if clip.events is not None:
        parts.append(_frames(clip))
    if len(clip.narrations) > 1:
        items = "".join(
            f"<li>{n.t_us / 1e6:.2f} s: {html.escape(n.text)}</li>" for n in clip.narrations
        )
        parts.append(f"<ul>{items}</ul>")
    return "".join(parts)


def _marks(clip: Clip) -> tuple[Span, ...]:
    """Spans worth shading: not the whole window."""
    return tuple(span for span in clip.event_spans if span.duration_us < clip.duration_us)


def _frames(clip: Clip) -> str:
    """Five event frames: of the middle span, or of its middle 50 ms when it is too long."""
    assert clip.events is not None
    span = clip.event_spans[len(clip.event_spans) // 2]
    if span.duration_us > MAX_EXTENT_US:
        span = Span(span.centre_us - FRAME_SPAN_US // 2, FRAME_SPAN_US)
    images = "".join(
        f"<img class='pixels' alt='' style='min-width:30%' src='{png_data_uri(frame)}'>"
        for frame in eventgpt_frames(clip.events, span)
    )
    return (
        f"<figure><div class='row'>{images}</div><figcaption>{span.duration_us / 1000:g} ms from "
        f"{span.start_us / 1e6:.3f} s, five frames of equal event count; {len(clip.events):,} "
        "events in the clip</figcaption></figure>"
    )
