"""How well IMU and video are synchronised: simulated recordings with known clocks, as a table.

    OMP_NUM_THREADS=1 python benchmarks/sync_table.py --cache DIR --out docs/results/sync.md

Every recording is rendered to a video file, decoded, and goes through what `egotriad sync` calls.
Rendered videos stay in the cache; results of a run that was broken off are lost, videos are not.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import environment
from sync_world import IMPOSSIBLE, Made, Take, draw_take, make_take

from egotriad.converters.sync import synchronise
from egotriad.converters.sync_gyro import cut
from egotriad.converters.sync_report import SyncReport, correct
from egotriad.converters.video_blocks import read_small_frames
from egotriad.converters.video_rotation import SMALL_WIDTH, camera_rotation
from egotriad.pipelines import engine

IDENTIFIABLE_PPM = 5.0
PACKAGES = ("numpy", "scipy", "opencv-python", "av")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one recording; errors are None where nothing was claimed."""

    take: Take
    report: SyncReport
    median_ms: float | None
    worst_ms: float | None
    inside: tuple[bool, ...]
    kept: float
    drift_error_ppm: float | None
    mount_deg: float | None
    video_s: float
    sync_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A recording and where its video is kept."""

    take: Take
    cache: Path


def main() -> None:
    """Runs everything and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, required=True, help="folder for rendered videos")
    parser.add_argument("--out", type=Path, help="page to write; printed where not given")
    parser.add_argument("--count", type=int, default=100, help="recordings that can be aligned")
    parser.add_argument("--each", type=int, default=8, help="of every kind that cannot")
    parser.add_argument("--seed", type=int, default=1000, help="of the first recording")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    takes = [draw_take("possible", options.seed + k) for k in range(options.count)]
    for number, kind in enumerate(IMPOSSIBLE):
        first = options.seed + options.count + number * options.each
        takes += [draw_take(kind, first + k) for k in range(options.each)]
    results: list[Result] = []
    jobs = [Job(take=take, cache=options.cache) for take in takes]
    for _, result in engine.run(measure, jobs, workers=options.workers):
        if isinstance(result, Exception):
            raise result
        results.append(result)
        print(line(result), flush=True)
    results.sort(key=lambda result: result.take.seed)
    text = page(results, options)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


def measure(job: Job) -> Result:
    """Makes one recording and synchronises it."""
    made = make_take(job.take, job.cache)
    start = time.process_time()
    rotation = camera_rotation(read_small_frames(made.video, width=SMALL_WIDTH))
    middle = time.process_time()
    report = synchronise(rotation, made.track)
    end = time.process_time()
    claimed = report.verdict in ("ok", "corrected")
    error_s = errors(made, report) if claimed else None
    drift = None
    if claimed and report.drift_ppm is not None:
        # stamp = true (1 + d) + ..., so that true - stamp falls by d / (1 + d) along the stamp.
        drift = report.drift_ppm + job.take.drift_ppm / (1 + job.take.drift_ppm * 1e-6)
    return Result(
        take=job.take,
        report=report,
        median_ms=None if error_s is None else float(np.median(np.abs(error_s))) * 1e3,
        worst_ms=None if error_s is None else float(np.abs(error_s).max()) * 1e3,
        inside=inside(made, report) if claimed else (),
        kept=0.0 if error_s is None else len(error_s) / len(made.true_s),
        drift_error_ppm=drift,
        mount_deg=mount_error_deg(made, report) if claimed else None,
        video_s=middle - start,
        sync_s=end - middle,
    )


def errors(made: Made, report: SyncReport) -> np.ndarray:
    """Corrected stamp less true time of every sample that is left, s."""
    runs = cut(made.track.gyro, at_gaps=report.cut_at_gaps)
    numbers = [segment.number for segment in report.segments]
    kept = runs if report.verdict == "ok" else [runs[number] for number in numbers]
    true_s = np.concatenate([made.true_s[run] for run in kept])
    return np.asarray(correct(made.track, report).gyro.t_us / 1e6 - true_s)


def inside(made: Made, report: SyncReport) -> tuple[bool, ...]:
    """Whether the interval of each segment's offset holds the truth."""
    runs = cut(made.track.gyro, at_gaps=report.cut_at_gaps)
    holds = []
    for segment in report.segments:
        stamp_us = made.track.gyro.t_us[runs[segment.number]]
        true_us = made.true_s[runs[segment.number]] * 1e6
        truth = np.interp(segment.middle_us, stamp_us, true_us - stamp_us)
        holds.append(bool(abs(truth - segment.offset_us) <= segment.interval_us))
    return tuple(holds)


def mount_error_deg(made: Made, report: SyncReport) -> float | None:
    """Angle between the true and the estimated mounting."""
    if report.camera_from_imu is None:
        return None
    between = np.array(report.camera_from_imu).T @ made.camera_from_imu
    return float(np.degrees(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1))))


def line(result: Result) -> str:
    """One recording for the log."""
    take = result.take
    return (
        f"{take.seed} {take.kind}: {result.report.verdict} "
        f"worst {result.worst_ms or 0:.2f} ms, drift {result.drift_error_ppm or 0:+.2f} "
        f"+-{result.report.drift_interval_ppm or 0:.2f} ppm, kept {result.kept:.2f}, "
        f"{result.video_s:.1f} + {result.sync_s:.1f} s; {result.report.reasons[0]}"
    )


def page(results: Sequence[Result], options: argparse.Namespace) -> str:
    """The results as a Markdown page."""
    possible = [result for result in results if result.take.kind == "possible"]
    impossible = [result for result in results if result.take.kind != "possible"]
    false = [r for r in impossible if r.report.verdict in ("ok", "corrected")]
    where = ", ".join(f"{name} {value}" for name, value in environment(PACKAGES).items())
    hours = sum(result.take.duration_s for result in results) / 3600
    cpu = sum(result.video_s + result.sync_s for result in results)
    command = (
        f"python benchmarks/sync_table.py --cache DIR --count {options.count} "
        f"--each {options.each} --seed {options.seed}"
    )
    return (
        "\n\n".join(
            [
                "# Synchronisation of simulated recordings",
                f"Written by `{command}`. {len(results)} recordings, {hours:.1f} hours, none left "
                f"out; to decode and synchronise them took {cpu / 60:.0f} minutes of one core "
                f"({where}).",
                HOW,
                "## Recordings that can be aligned",
                table(GROUPS, possible),
                NOTES,
                f"## Recordings that cannot: {len(false)} false claims in {len(impossible)}",
                verdicts(impossible),
                SECOND_NOTES,
            ]
        )
        + "\n"
    )


def table(groups: Sequence[tuple[str, Callable[[Take], bool]]], results: Sequence[Result]) -> str:
    """One row per group of recordings."""
    rows = [
        "| recordings | n | claimed | offset error, ms: median | 95th percentile | largest | "
        "inside 95 % interval | IMU kept | drift known to 5 ppm | drift error, ppm: median | "
        "95th percentile | largest | mounting error, degrees |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, belongs in groups:
        group = [result for result in results if belongs(result.take)]
        done = [result for result in group if result.worst_ms is not None]
        if not done:
            continue
        worst = [result.worst_ms or 0.0 for result in done]
        drift = [
            abs(result.drift_error_ppm)
            for result in done
            if result.drift_error_ppm is not None
            and (result.report.drift_interval_ppm or 0.0) <= IDENTIFIABLE_PPM
        ]
        mount = [result.mount_deg for result in done if result.mount_deg is not None]
        rows.append(
            f"| {name} | {len(group)} | {len(done)} | {np.median(worst):.2f} | "
            f"{np.percentile(worst, 95):.2f} | {max(worst):.2f} | "
            f"{np.mean([held for result in done for held in result.inside]):.0%} | "
            f"{np.mean([result.kept for result in done]):.1%} | {len(drift)} | "
            f"{np.median(drift):.2f} | {np.percentile(drift, 95):.2f} | {max(drift):.2f} | "
            f"{np.median(mount):.2f} |"
        )
    return "\n".join(rows)


def verdicts(results: Sequence[Result]) -> str:
    """How often each verdict was given, by kind of recording."""
    words = ("ok", "corrected", "suspect", "cannot tell")
    rows = [f"| recordings | n | {' | '.join(words)} |", "|---|---|---|---|---|---|"]
    for kind in IMPOSSIBLE:
        given = Counter(r.report.verdict for r in results if r.take.kind == kind)
        counts = " | ".join(str(given[word]) for word in words)
        rows.append(f"| {kind} | {given.total()} | {counts} |")
    return "\n".join(rows)


GROUPS: tuple[tuple[str, Callable[[Take], bool]], ...] = (
    ("all", lambda take: True),
    ("no back-step", lambda take: take.back_steps == 0),
    ("1 back-step", lambda take: take.back_steps == 1),
    ("2 back-steps", lambda take: take.back_steps == 2),
    ("15 frames/s", lambda take: take.frame_rate_hz == 15),
    ("30 frames/s", lambda take: take.frame_rate_hz == 30),
    ("exposure 0.9 of the frame interval", lambda take: take.shutter == 0.9),
    ("light below 0.3 and noise above 2", lambda take: take.light < 0.3 and take.noise_levels > 2),
    ("IMU at 50 Hz", lambda take: take.imu_rate_hz == 50),
    ("IMU at 400 Hz", lambda take: take.imu_rate_hz == 400),
)

HOW = """Each recording is 3 to 5 minutes of a head that walks, turns, nods, sits down ... through
a simulated room (`pipelines/world_*`), rendered at 96x72 to 160x120 and 15 to 30 frames a second,
blurred by an exposure of 0, 0.5 or 0.9 of the frame interval, dimmed to 0.15 to 1 of its
brightness, with noise of 0.5 to 4 grey levels, and encoded as H.264 at crf 12 to 28. Its IMU
samples at 50, 100, 197.45, 200 or 400 Hz, mounted anyhow, with noise and bias; its clock is off by
up to 2 s and drifts by up to 200 ppm, and the record has up to 4 gaps of 0.1 to 1 s and up to 2
back-steps of 0.1 to 0.5 s. Nothing about camera, mounting or clock is given to the
synchronisation."""

NOTES = """- Offset error: distance of a corrected time stamp from the true time, the largest of all
  the samples of a recording; median and percentile are over recordings.
- An offset within the tolerance of 10 ms is found and left alone (`ok`), so that up to 10 ms may
  remain; no other error comes close to it.
- Inside the interval: clock segments whose true offset lies in the 95 % interval of the estimate.
- IMU kept: share of samples that lie in measured clock segments; the others' time cannot be known
  and `correct` leaves them out.
- Drift known to 5 ppm: recordings whose own 95 % interval of the drift is 5 ppm or less; the errors
  beside are theirs. Short clock segments and poor pictures do not tell the drift, and say so.
- Mounting error: angle between the true and the estimated rotation from IMU to camera."""

SECOND_NOTES = """- Nobody moves: camera and IMU at rest. Camera stands still: the IMU moves, the
  picture does not.
- Stabilised: the picture keeps its orientation and only translates. Slow turns left: rotations are
  averaged over about a second, as a stabiliser that looks ahead does.
- IMU of another recording: another head in another room, moving in the same ways."""


if __name__ == "__main__":
    main()
