"""Frames between frames, and the events they give, against a simulated world shown at a high rate.

    OMP_NUM_THREADS=1 python benchmarks/bench_upsampling.py [--video FILE] [--checkpoint FILE]

The world is rendered at 960 Hz; its events are the truth. Every nth frame is given to each method,
and what it makes of them is compared with what it was not given: the frame in the middle of each
interval, and the events. `true frames` is a method that guesses every frame right.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from harness import environment
from numpy.typing import NDArray
from upsampling_scenes import SCENES, SIZE_WH, TRUE_RATE_HZ, Frames, Times, shoot, stage

from egotriad.converters.dvs import DvsConfig, DvsEmulator
from egotriad.converters.interpolate import UpsampleConfig, Upsampler
from egotriad.converters.interpolate_flow import MotionEstimator, warp
from egotriad.converters.video import read_frames
from egotriad.manifests import Events
from egotriad.pipelines.world_motion import CAMERA_POINT
from egotriad.pipelines.world_room import render


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one method made of one scene.

    Attributes:
        scene: which.
        method: which.
        steps: mean number of steps an interval was cut into.
        psnr_db: of the frame in the middle of each interval.
        gradient_error: mean absolute error of its gradient, grey levels a pixel.
        count_ratio: events, relative to the truth.
        on_share: share of ON events, less that of the truth.
        correlation: of event counts by pixel, polarity and interval.
        matched: share of events that are the k-th of their pixel, polarity and interval in both.
        late_us: median absolute time error of those, microseconds.
        cpu_ms: CPU time per frame added.
    """

    scene: str
    method: str
    steps: float
    psnr_db: float
    gradient_error: float
    count_ratio: float
    on_share: float
    correlation: float
    matched: float
    late_us: float
    cpu_ms: float

    def markdown(self) -> str:
        """A row of the table."""
        return (
            f"| {self.scene} | {self.method} | {self.steps:.1f} | {self.psnr_db:.1f} "
            f"| {self.gradient_error:.2f} | {self.count_ratio:.3f} | {self.on_share:+.3f} "
            f"| {self.correlation:.3f} | {self.matched:.3f} | {self.late_us:.0f} "
            f"| {self.cpu_ms:.1f} |"
        )


HEADER = (
    "| scene | method | steps | middle frame, dB | gradient error | events / true | ON share "
    "| correlation | matched | time error, us | CPU ms / frame |\n" + "|---" * 11 + "|"
)


def main() -> None:
    """Measures everything asked for and prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each scene")
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--rates", nargs="+", type=int, default=[30, 60], help="Hz, of the video")
    parser.add_argument("--shutter", type=float, default=0.0, help="open for this share of 1/rate")
    parser.add_argument("--checkpoint", type=Path, help="SuperSloMo39.ckpt")
    parser.add_argument("--video", type=Path, help="leave out every other frame of this video")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    print(HEADER)
    for name in options.scenes:
        frames, t_us = shoot(name, options.seconds)
        for rate_hz in options.rates:
            for row in compare_methods(f"{name} {rate_hz} Hz", frames, t_us, rate_hz, options):
                rows.append(row)
                print(row.markdown(), flush=True)
    print(cost_table())
    if options.video:
        print(left_out(options.video))
    where = environment(("numpy", "numba", "opencv-python", "torch"))
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        report = {"environment": where, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def compare_methods(
    scene: str, frames: Frames, t_us: Times, rate_hz: int, options: argparse.Namespace
) -> Iterator[Row]:
    """One row per method."""
    step = TRUE_RATE_HZ // rate_hz
    seen = exposed(frames, round(step * options.shutter))
    truth = events_of(frames, t_us)
    middles = np.arange(step // 2, len(frames) - step // 2, step)
    for method, config in methods(options.checkpoint).items():
        start = time.process_time()
        if config is None:
            made, made_us = seen[:: step // 8], t_us[:: step // 8]
        else:
            made, made_us = upsampled(seen[::step], t_us[::step], config)
        cpu_s = time.process_time() - start
        halves = seen[middles] if config is None else middle_frames(seen[::step], config)
        found = compare_events(truth, events_of(made, made_us), t_us[::step])
        intervals = len(middles)
        added = len(made) - intervals - 1
        yield Row(
            scene=scene,
            method=method,
            steps=(len(made) - 1) / intervals,
            psnr_db=psnr_db(halves, frames[middles]),
            gradient_error=gradient_error(halves, frames[middles]),
            cpu_ms=1e3 * cpu_s / added if added and config else 0.0,
            **found,
        )


def methods(checkpoint: Path | None) -> dict[str, UpsampleConfig | None]:
    """What is compared; None gives the true frames."""
    chosen: dict[str, UpsampleConfig | None] = {
        "none": UpsampleConfig(method="none"),
        "linear, 8 steps": UpsampleConfig(method="linear", factor=8),
        "flow, 2 steps": UpsampleConfig(factor=2),
        "flow, 4 steps": UpsampleConfig(factor=4),
        "flow, 8 steps": UpsampleConfig(factor=8),
        "flow, 2 px a step": UpsampleConfig(step_px=2.0),
        "flow, 1 px a step": UpsampleConfig(),
        "true frames, 8 steps": None,
    }
    if checkpoint:
        chosen["superslomo, 8 steps"] = UpsampleConfig(
            method="superslomo", factor=8, checkpoint=checkpoint
        )
    return chosen


def exposed(frames: Frames, open_frames: int) -> Frames:
    """What a shutter that is open for so many frames around each one lets through."""
    if open_frames < 2:
        return frames
    reach = open_frames // 2
    return np.stack(
        [
            np.rint(frames[max(0, k - reach) : k + reach + 1].mean(axis=0)).astype(np.uint8)
            for k in range(len(frames))
        ]
    )


def upsampled(frames: Frames, t_us: Times, config: UpsampleConfig) -> tuple[Frames, Times]:
    """All frames and times of a clip."""
    chunks = list(Upsampler(config, frames.shape[:0:-1]).feed(frames, t_us))
    return (
        np.concatenate([chunk.luma for chunk in chunks]),
        np.concatenate([chunk.t_us for chunk in chunks]),
    )


def middle_frames(frames: Frames, config: UpsampleConfig) -> Frames:
    """Each interval's frame at one half; where nothing is put there, what is shown till then."""
    if config.method == "none":
        return frames[:-1]
    t_us = np.arange(len(frames), dtype=np.int64) * 1000
    made, made_us = upsampled(frames, t_us, replace(config, factor=2))
    return made[np.searchsorted(made_us, t_us[:-1] + 500, side="right") - 1]


def psnr_db(got: Frames, true: Frames) -> float:
    """Peak signal to noise ratio of all pixels together; infinite where nothing differs."""
    error = np.mean((got.astype(np.float64) - true) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def gradient_error(got: Frames, true: Frames) -> float:
    """Mean absolute error of the differences between neighbours, both ways."""
    error = got.astype(np.float64) - true
    return float(
        np.mean([np.abs(np.diff(error, axis=1)).mean(), np.abs(np.diff(error, axis=2)).mean()])
    )


def events_of(frames: Frames, t_us: Times) -> Events:
    """Events of a clip, default model."""
    return DvsEmulator(DvsConfig(), frames.shape[:0:-1]).feed(frames, t_us)


def compare_events(true: Events, got: Events, edges_us: Times) -> dict[str, float]:
    """The fields of `Row` that tell how far the events are from the true ones."""
    cells = (len(edges_us) + 1) * true.size_wh[0] * true.size_wh[1] * 2
    true_keys, true_us, true_counts = numbered(true, edges_us, cells)
    got_keys, got_us, got_counts = numbered(got, edges_us, cells)
    _, here, there = np.intersect1d(true_keys, got_keys, return_indices=True)
    return {
        "count_ratio": len(got) / len(true),
        "on_share": float(got.p.mean() - true.p.mean()),
        "correlation": float(np.corrcoef(true_counts, got_counts)[0, 1]),
        "matched": 2 * len(here) / (len(true) + len(got)),
        "late_us": float(np.median(np.abs(true_us[here] - got_us[there]))),
    }


def numbered(
    events: Events, edges_us: Times, cells: int
) -> tuple[NDArray[np.int64], Times, NDArray[np.int64]]:
    """A key per event (cell of interval, pixel and polarity; number in it), times, cell counts."""
    width, height = events.size_wh
    interval = np.searchsorted(edges_us, events.t_us).astype(np.int64)
    cell = ((interval * height + events.y) * width + events.x) * 2 + events.p
    order = np.argsort(cell, kind="stable")  # events come in order of time
    cell = cell[order]
    index = np.arange(len(cell))
    first = np.maximum.accumulate(np.where(np.diff(cell, prepend=-1) != 0, index, 0))
    counts = np.bincount(cell, minlength=cells)
    return (index - first) * cells + cell, events.t_us[order], counts


def cost_table() -> str:
    """CPU time of the parts of `flow`, best of five."""
    lines = ["", "| size | motion, ms an interval | frame by flow, ms |", "|---|---|---|"]
    estimate = MotionEstimator()
    for size_wh in (SIZE_WH, (640, 480)):
        room, path = stage("turn")
        positions, rotations = path.pose(np.array([0.0, 1 / 30]), CAMERA_POINT)
        first, second = render(room, positions, rotations, size_wh)
        motion = estimate(first, second)
        half = np.array([0.5])
        cost = [
            best_ms(lambda: estimate(first, second)),  # noqa: B023  (called at once)
            best_ms(lambda: warp(first, second, motion, half)),  # noqa: B023
        ]
        lines.append(f"| {size_wh[0]}x{size_wh[1]} | {cost[0]:.1f} | {cost[1]:.1f} |")
    return "\n".join(lines)


def best_ms(call: Callable[[], object]) -> float:
    """Least CPU time of five calls, in milliseconds."""
    call()
    spent = []
    for _ in range(5):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return 1e3 * min(spent)


def left_out(video: Path, count: int = 120) -> str:
    """How well each method finds every other frame of a real video."""
    chunks = list(read_frames(video, size_wh=SIZE_WH, chunk_frames=count))[:1]
    frames = chunks[0].luma[: count // 2 * 2 - 1]
    kept, hidden = frames[::2], frames[1::2]
    lines = [
        "",
        f"| {video.name}, every other frame | middle frame, dB | gradient error |",
        "|---|---|---|",
    ]
    for name in ("none", "linear", "flow"):
        got = middle_frames(kept, UpsampleConfig(method=name, factor=2))  # type: ignore[arg-type]
        lines.append(f"| {name} | {psnr_db(got, hidden):.2f} | {gradient_error(got, hidden):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
