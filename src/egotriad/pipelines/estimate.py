"""What a build would come to: windows, hours, bytes, machine hours; nothing is decoded for it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.split import SPLITS
from egotriad.pipelines.cost import Cost
from egotriad.pipelines.disk import free_bytes, size_text
from egotriad.pipelines.outline import Outline
from egotriad.pipelines.part import read_part
from egotriad.pipelines.run_config import Share
from egotriad.pipelines.stock import Stock

__all__ = ["Estimate", "Needs", "estimate", "estimate_lines"]

CROWDED = 1.5
"""Above this duplication the same seconds are stored so often that it is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What some recorded hours need.

    Attributes:
        recorded_hours: length of the recordings.
        window_hours: length of their windows.
        cpu_hours: on one core like those the cost was measured on.
        wall_hours: with the given number of workers.
        part_bytes, shard_bytes: on the disk; both lie there until the parts are deleted.
        events: in the shards.
    """

    recorded_hours: float
    window_hours: float
    cpu_hours: float
    wall_hours: float
    part_bytes: int
    shard_bytes: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build would come to.

    Attributes:
        recordings: how many can be described; unreadable: recording -> why another one cannot.
        built: of them, how many are built already.
        splits: split -> {"recordings", "windows", "hours"}.
        windows: to be cut; rejected: reason -> windows that were laid but cannot be.
        duplication: stored seconds per recorded second under any window; 1 where none overlap.
        cost: what was reckoned with.
        workers: at once.
        left: what the recordings that are not built yet need.
        asked: the same for as many hours as were asked for.
        free_bytes: on the disk of the build.
    """

    recordings: int
    unreadable: dict[str, str]
    built: int
    splits: dict[str, dict[str, float]]
    windows: int
    rejected: dict[str, int]
    duplication: float
    cost: Cost
    workers: int
    left: Needs
    asked: Needs | None
    free_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The estimate as JSON values."""
        return asdict(self)


def estimate(
    stock: Stock,
    cost: Cost,
    *,
    out: Path,
    workers: int,
    share: Share | None = None,
    hours: float | None = None,
) -> Estimate:
    """Adds up what a build would come to.

    Args:
        stock: what there is to build.
        cost: of a second.
        out: the build's folder; parts that lie there need not be built.
        workers: recordings built at once.
        share: only these recordings.
        hours: reckon for so many recorded hours too, with windows as dense as here.
    """
    chosen = [o for o in stock.outlines if not share or share.holds(o.recording.recording_id)]
    parts = out / "parts"
    left = [o for o in chosen if read_part(parts / f"{o.part_name}.done.json") is None]
    window_us = sum(outline.window_us for outline in chosen)
    recorded_us = sum(outline.recording.duration_us for outline in chosen)
    rejected: Counter[str] = Counter()
    for outline in chosen:
        rejected.update(outline.rejected)
    asked = None
    if hours is not None and recorded_us:
        asked = _needs(cost, hours * 3600, hours * 3600 * window_us / recorded_us, workers)
    return Estimate(
        recordings=len(chosen),
        unreadable={name: failure.message for name, failure in stock.unreadable.items()},
        built=len(chosen) - len(left),
        splits=_splits(chosen),
        windows=sum(outline.windows for outline in chosen),
        rejected=dict(sorted(rejected.items())),
        duplication=window_us / max(sum(outline.unique_us for outline in chosen), 1),
        cost=cost,
        workers=workers,
        left=_needs(
            cost,
            sum(outline.recording.duration_us for outline in left) / 1e6,
            sum(outline.window_us for outline in left) / 1e6,
            workers,
        ),
        asked=asked,
        free_bytes=free_bytes(out),
    )


def _needs(cost: Cost, recorded_s: float, window_s: float, workers: int) -> Needs:
    build_s, pack_s = recorded_s * cost.build_cpu_s, window_s * cost.pack_cpu_s
    return Needs(
        recorded_hours=recorded_s / 3600,
        window_hours=window_s / 3600,
        cpu_hours=(build_s + pack_s) / 3600,
        wall_hours=(build_s / workers + pack_s) / 3600,
        part_bytes=round(window_s * cost.part_bytes),
        shard_bytes=round(window_s * cost.shard_bytes),
        events=round(window_s * cost.events),
    )


def _splits(outlines: Sequence[Outline]) -> dict[str, dict[str, float]]:
    found = {}
    for split in SPLITS:
        inside = [outline for outline in outlines if outline.split == split]
        found[split] = {
            "recordings": len(inside),
            "windows": sum(outline.windows for outline in inside),
            "hours": sum(outline.window_us for outline in inside) / 3.6e9,
        }
    return found


def estimate_lines(found: Estimate) -> list[str]:
    """An estimate for people."""
    lines = [
        f"{found.recordings} recordings ({found.built} built already), {found.windows} windows, "
        f"duplication {found.duplication:.2f}x"
    ]
    if found.duplication > CROWDED:
        lines.append("  windows overlap: --windows grid stores every second once")
    for split, numbers in found.splits.items():
        lines.append(
            f"  {split:<11}{numbers['recordings']:6.0f} recordings{numbers['windows']:9.0f} windows"
            f"{numbers['hours']:10.2f} h"
        )
    lines += [f"  rejected: {count} x {reason}" for reason, count in found.rejected.items()]
    lines += [f"  unreadable: {message}" for message in found.unreadable.values()]
    lines += ["to do:", *_needs_lines(found.left, found.workers)]
    if found.asked is not None:
        lines += [f"{found.asked.recorded_hours:g} recorded hours like these:"]
        lines += _needs_lines(found.asked, found.workers)
    lines.append(f"reckoned with: {found.cost.basis}")
    need = found.left.part_bytes + found.left.shard_bytes
    verdict = "enough" if found.free_bytes > need else f"NOT ENOUGH, {size_text(need)} are needed"
    lines.append(f"free on the disk: {size_text(found.free_bytes)} ({verdict})")
    return lines


def _needs_lines(needs: Needs, workers: int) -> list[str]:
    return [
        f"  {_time(needs.recorded_hours)} recorded, {_time(needs.window_hours)} of windows, "
        f"{needs.events:,} events",
        f"  {_time(needs.cpu_hours)} of CPU, {_time(needs.wall_hours)} with {workers} workers",
        f"  {size_text(needs.shard_bytes)} of shards, and {size_text(needs.part_bytes)} of parts "
        "beside them",
    ]


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"
