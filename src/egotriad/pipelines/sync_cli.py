"""Command line `egotriad sync`: does an IMU's clock fit its video's?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cyclopts import App
from rich.console import Console

from egotriad.converters.sync import SEARCH_S, TOLERANCE_MS, SyncConfig
from egotriad.converters.sync_report import SyncReport
from egotriad.manifests.cli import EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.errors import EgotriadError, UsageError
from egotriad.manifests.progress import Meter
from egotriad.pipelines import engine
from egotriad.pipelines.sync_files import SyncJob, SyncOutcome, find_jobs, sync_file, write_figure

__all__ = ["sync"]


def sync(tokens: Sequence[str] | None = None) -> int:
    """`egotriad sync RECORDING...`: verdict, offset and drift of IMU against video."""
    return run_app(_sync_app, tokens)


def _sync_app(words: list[str]) -> App:
    app = App(name="sync", version_flags=[])
    app.default(_sync)
    return app


def _sync(
    *recordings: Path,
    imu: Path | None = None,
    figure: Path | None = None,
    search_seconds: float = SEARCH_S,
    tolerance_ms: float = TOLERANCE_MS,
    focal_per_width: float | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Compare the camera's rotation with the gyroscope's: are IMU and video on one clock?

    Verdicts: ok (within the tolerance), corrected (off, and known by how much), suspect (off or
    inconsistent), cannot tell (with the reason: stabilised, static, too dark, ...).

    Args:
        recordings: GoPro mp4 or Aria VRS files, other videos with --imu, or folders of them.
        imu: IMU of the video (an IMU table, Ego4D's csv, or another GoPro or Aria file), or a
            folder with one .parquet or .csv per video, of the same name.
        figure: HTML page to draw the curves into, before and after.
        search_seconds: offsets up to this are searched, to either side.
        tolerance_ms: smaller offsets are left alone, and a correction must be this certain.
        focal_per_width: focal length over picture width, where known; makes the camera's angular
            speed absolute.
        workers: processes; all cores when not given.
        json: print the result as one line of JSON.
    """
    if figure is not None and figure.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--figure: got {figure.name}, need a name that ends in .html")
    template = SyncJob(
        video=Path(),
        focal_per_width=focal_per_width,
        config=SyncConfig(search_s=search_seconds, tolerance_ms=tolerance_ms),
        figure=figure is not None,
    )
    jobs = find_jobs(recordings, imu, template)
    outcomes = _run(jobs, workers or engine.default_workers())
    failed = {job: str(o) for job, o in outcomes.items() if isinstance(o, EgotriadError)}
    done = {job: o for job, o in outcomes.items() if isinstance(o, SyncOutcome)}
    if figure is not None:
        write_figure(figure, [done[job].section for job in jobs if job in done])
    values = {
        "recordings": [
            {"recording": job.video.name, **asdict(done[job].report)} for job in jobs if job in done
        ],
        "failed": {job.video.name: failed[job] for job in jobs if job in failed},
    }
    return finish(
        values,
        as_json=json,
        show=lambda console: _show(console, jobs, done, failed, figure),
        code=EXIT_INCOMPLETE if failed else 0,
    )


def _run(jobs: list[SyncJob], workers: int) -> dict[SyncJob, SyncOutcome | Exception]:
    """Outcome of every job; an error that is no recording's fault is raised."""
    outcomes: dict[SyncJob, SyncOutcome | Exception] = {}
    with Meter() as meter:
        for job, outcome in engine.run(sync_file, jobs, workers=workers):
            if isinstance(outcome, Exception) and not isinstance(outcome, EgotriadError):
                raise outcome
            outcomes[job] = outcome
            meter("recordings compared", len(outcomes), len(jobs))
    if len(jobs) == 1 and isinstance(only := outcomes[jobs[0]], EgotriadError):
        raise only
    return outcomes


def _show(
    console: Console,
    jobs: list[SyncJob],
    done: dict[SyncJob, SyncOutcome],
    failed: dict[SyncJob, str],
    figure: Path | None,
) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    for job in jobs:
        if job in failed:
            say(f"failed: {failed[job]}")
            continue
        report = done[job].report
        say(f"{job.video.name}: {report.verdict}")
        for line in (*report.reasons, *_numbers(report)):
            say(f"  {line}")
    if figure is not None:
        say(f"curves: {figure}")


def _numbers(report: SyncReport) -> list[str]:
    """The measured values in words."""
    if not report.segments:
        return []
    lines = []
    for segment in report.segments:
        several = f"IMU {segment.start_us / 1e6:.1f} to {segment.end_us / 1e6:.1f} s: "
        lines.append(
            f"{several if report.clock_segments > 1 else ''}add {segment.offset_us / 1e3:+.2f} ms "
            f"(± {segment.interval_us / 1e3:.2f}) to IMU time"
        )
    lines.append(f"drift {report.drift_ppm or 0:+.2f} ppm (± {report.drift_interval_ppm or 0:.2f})")
    agrees: dict[bool | None, Any] = {True: "agrees", False: "disagrees", None: "is silent"}
    lines.append(
        f"correlation {report.correlation:.3f} (angular speed {report.speed_correlation:.3f}), "
        f"{report.peak_ratio:.2f} times the second best; "
        f"the event rate {agrees[report.witnesses_agree]}"
    )
    if report.mirrored_axes:
        lines.append("the gyroscope's axes are left-handed: one of them has the wrong sign")
    return lines
