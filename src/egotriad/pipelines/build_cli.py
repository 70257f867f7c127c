"""What `build-shards` does once its words are understood: build, or say what a build would be."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from egotriad.manifests.cli import EXIT_FAILED, EXIT_INCOMPLETE, finish
from egotriad.manifests.progress import Meter
from egotriad.manifests.verify import VerifyReport, verify
from egotriad.pipelines.build import BuildReport, build
from egotriad.pipelines.cost import measure_cost, typical_cost
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.engine import EngineConfig, default_workers
from egotriad.pipelines.estimate import estimate, estimate_lines
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.run_config import RunConfig
from egotriad.pipelines.signals import Signals
from egotriad.pipelines.stock import take_stock

__all__ = ["BuildTask", "dry_run_build", "run_build"]

SHOWN = 20
"""Failures and findings that are printed one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTask:
    """What a command line of `build-shards` asks for; see `build.build`."""

    dataset: Dataset
    options: Any
    config: BuildConfig
    engine: EngineConfig
    run: RunConfig
    raw: Path
    out: Path
    limit: int | None


def run_build(task: BuildTask, *, max_reject_rate: float, as_json: bool) -> int:
    """Builds, verifies if asked to, prints what came of it; returns the exit code."""
    with Signals() as signals:
        report = build(
            task.dataset,
            task.options,
            task.config,
            raw=task.raw,
            out=task.out,
            limit=task.limit,
            engine=task.engine,
            run=task.run,
            signals=signals,
        )
    verified: VerifyReport | None = None
    if task.run.verify:
        with Meter() as meter:
            verified = verify(task.out, progress=meter)
    incomplete = report.failed or report.missing or report.reject_rate > max_reject_rate
    code = EXIT_INCOMPLETE if incomplete else 0
    if verified is not None and not verified.ok:
        code = EXIT_FAILED
    values = dataclasses.asdict(report) | {"out": str(report.out)}
    if verified is not None:
        values["verified"] = verified.as_dict()
    return finish(
        values, as_json=as_json, show=lambda console: _show(console, report, verified), code=code
    )


def dry_run_build(
    task: BuildTask, *, measure_s: float | None, hours: float | None, as_json: bool
) -> int:
    """Prints what a build would come to; returns the exit code."""
    stock = take_stock(task.dataset, task.options, task.config, raw=task.raw, limit=task.limit)
    if measure_s is None:
        cost = typical_cost(task.config)
    else:
        cost = measure_cost(stock, task.config, seconds=measure_s)
    found = estimate(
        stock,
        cost,
        out=task.out,
        workers=task.engine.workers or default_workers(),
        share=task.run.share,
        hours=hours,
    )
    return finish(
        found.as_dict(),
        as_json=as_json,
        show=lambda console: _say(console, estimate_lines(found)),
        code=EXIT_INCOMPLETE if found.unreadable else 0,
    )


def _show(console: Console, report: BuildReport, verified: VerifyReport | None) -> None:
    again = f", {report.reused} recordings were built before" if report.reused else ""
    lines = [
        f"{report.clips} clips ({report.hours:.3f} h, {report.events:,} events) of "
        f"{report.recordings} recordings in {report.out}{again}"
    ]
    if not report.packed:
        lines.append("not packed: run without --partition when all shares are built")
    for reason, count in report.rejected.items():
        lines.append(f"rejected {count} windows: {reason} (see rejected.jsonl)")
    lines += [f"failed: {message}" for message in list(report.failed.values())[:SHOWN]]
    if len(report.failed) > SHOWN:
        lines.append(f"... and {len(report.failed) - SHOWN} more, see quarantine/")
    if report.missing:
        lines.append(f"missing: {report.missing} recordings are not built yet")
    if verified is not None:
        lines.append(f"verified: {len(verified.findings)} findings in {verified.files} files")
        lines += [str(finding) for finding in verified.findings[:SHOWN]]
    _say(console, lines)


def _say(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
