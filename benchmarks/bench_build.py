"""What a whole build costs: beside decoding alone, beside v2e, with two workers, over hours.

    OMP_NUM_THREADS=1 python benchmarks/bench_build.py cost CLIP.mp4 --v2e CHECKOUT
    OMP_NUM_THREADS=1 python benchmarks/bench_build.py workers CLIP.mp4
    OMP_NUM_THREADS=1 python benchmarks/bench_build.py scaling CLIP.mp4
    OMP_NUM_THREADS=1 python benchmarks/bench_build.py memory CLIP.mp4 --minutes 120

`cost`: CPU time of `build-shards gopro` (full event spans, 346x260, IMU, clocks compared, previews,
packing, hashes) over that of decoding the clip and bringing it to the sensor's size; with `--v2e`,
v2e's own program on the same clip and ours, each as a process from its start to its end.
`workers`: several copies of the clip with one worker and with two. `scaling`: what two processes
reach that know nothing of each other, once each has built or decoded the clip. `memory`: the clip's
video over and over as one long recording; resident memory of the builder while it goes.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from harness import compare, environment, table, write_json
from v2e_program import program_cpu_s, v2e_command

from egotriad.converters.video import probe, read_frames
from egotriad.manifests import Alignment, ImuTrack, Recording, SensorStream
from egotriad.pipelines.build import BuildReport, build
from egotriad.pipelines.dataset_gopro import DATASET, GoProOptions
from egotriad.pipelines.engine import EngineConfig
from egotriad.pipelines.engine_task import single_threaded
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import read_part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.run_config import RunConfig

SIZE_WH = (346, 260)
SAMPLE_S = 1.0


def main() -> None:
    """Runs one benchmark, prints it, writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("cost", "workers", "scaling", "memory"))
    parser.add_argument("video", type=Path, help="a GoPro clip")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each arm")
    parser.add_argument("--v2e", type=Path, help="checkout of SensorsINI/v2e, for its program")
    parser.add_argument("--v2e-packages", type=Path, help="folder of packages for v2e alone")
    parser.add_argument("--copies", type=int, default=6, help="recordings for the workers")
    parser.add_argument("--minutes", type=float, default=20.0, help="length of the long recording")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    single_threaded()
    with tempfile.TemporaryDirectory(prefix="bench-build-") as scratch:
        if options.what == "cost":
            cost(options, Path(scratch))
        elif options.what == "workers":
            workers(options, Path(scratch))
        elif options.what == "scaling":
            scaling(options)
        else:
            memory(options, Path(scratch))


def build_clips(
    videos: list[Path], out: Path, engine: EngineConfig | None = None, **changes: Any
) -> BuildReport:
    """Builds GoPro recordings into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    options = GoProOptions(input=tuple(videos))
    config = dataclasses.replace(BuildConfig(), **changes)
    return build(DATASET, options, config, raw=out, out=out, engine=engine)


def decode(video: Path) -> int:
    """Decodes a video at the sensor's size; returns its frames."""
    return sum(len(chunk.t_us) for chunk in read_frames(video, size_wh=SIZE_WH))


def cost(options: argparse.Namespace, scratch: Path) -> None:
    """CPU of a build beside that of decoding, and of v2e."""
    out = scratch / "out"
    report = build_clips([options.video], out)
    parts = [read_part(marker) for marker in (out / "parts").glob("*.done.json")]
    arms: dict[str, Callable[[], object]] = {
        "decode, resize": lambda: decode(options.video),
        "build": lambda: build_clips([options.video], scratch / "whole"),
        "  no sync": lambda: build_clips([options.video], scratch / "unsynced", sync="off"),
        "  packing": lambda: pack(
            [part for part in parts if part is not None],
            out / "parts",
            scratch / "packed",
            BuildConfig(),
            title="bench",
        ),
    }
    frames = decode(options.video)
    comparison = compare(
        f"{options.video.name}: {frames} frames, {report.events:,} events in {report.clips} clips",
        arms,
        peer="decode, resize",
        rounds=options.rounds,
        work={"event": report.events},
    )
    print(table([comparison]))
    least = {arm: min(seconds) for arm, seconds in comparison.seconds.items()}
    print(f"build / (decode, resize): {least['build'] / least['decode, resize']:.2f}")
    if options.v2e:
        programs(options, scratch)
    if options.json:
        write_json(options.json, [comparison], environment(("numpy", "numba", "pyarrow", "av")))


def programs(options: argparse.Namespace, scratch: Path) -> None:
    """CPU of v2e's program and of ours as processes of their own, from start to end."""
    ours = [str(Path(sys.executable).with_name("build-shards")), "gopro"]
    alone = os.environ | {"PYTHONPATH": str(options.v2e_packages or "")}
    for preset in ("clean", "noisy"):
        words = ["--input", str(options.video), "--engine", "serial"]
        words += ["--preset", preset, "--fit", "stretch"]  # as v2e does
        arms = {
            "v2e.py": (v2e_command(options.v2e, options.video, scratch / "v2e", preset), alone),
            "build-shards": ([*ours, *words, "--out", str(scratch / "ours")], dict(os.environ)),
        }
        times: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(options.rounds):
            for arm, (command, environ) in arms.items():
                shutil.rmtree(scratch / "ours", ignore_errors=True)
                times[arm].append(program_cpu_s(command, environ))
        theirs_s, ours_s = (min(values) for values in times.values())
        said = f"v2e.py {theirs_s:.2f} s, build-shards {ours_s:.2f} s"
        print(f"programs, {preset}: {said}; v2e / ours: {theirs_s / ours_s:.1f}")
    command = v2e_command(options.v2e, options.video, scratch / "v2e", "clean")
    print(f"v2e.py --help: {program_cpu_s([*command, '--help'], alone):.2f} s")


def workers(options: argparse.Namespace, scratch: Path) -> None:
    """Wall clock and CPU of one worker and of two on several recordings of one length."""
    videos = []
    for number in range(options.copies):
        videos.append(scratch / f"clip-{number}.mp4")
        shutil.copy(options.video, videos[-1])
    seconds: dict[int, list[float]] = {1: [], 2: []}
    cpu_s: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for count in seconds:
            engine = EngineConfig(engine="processes", workers=count)
            started, before = time.monotonic(), os.times()
            build_parts_only(videos, scratch / "out", engine)
            after = os.times()
            seconds[count].append(time.monotonic() - started)
            cpu_s[count].append(sum(after[:4]) - sum(before[:4]))
            print(f"{count} workers: {seconds[count][-1]:.2f} s, CPU {cpu_s[count][-1]:.2f} s")
    best, least = ({n: min(values) for n, values in x.items()} for x in (seconds, cpu_s))
    print(f"two workers are {best[1] / best[2]:.2f}x one, with {least[2] / least[1]:.2f}x its CPU")
    if options.json:
        text = json.dumps({"wall_s": seconds, "cpu_s": cpu_s})
        options.json.write_text(text + "\n", encoding="utf-8")


def scaling(options: argparse.Namespace) -> None:
    """How many times as fast two independent processes are as one."""
    context = multiprocessing.get_context("spawn")
    for task in (decode_s, serial_s):
        seconds = {}
        for count in (1, 2):
            with context.Pool(count) as pool:
                work = [(options.video, options.copies)] * count
                seconds[count] = max(pool.starmap(task, work, chunksize=1))
        print(f"{task.__name__}: two processes are {2 * seconds[1] / seconds[2]:.2f}x one")


def decode_s(video: Path, copies: int) -> float:
    """Seconds of decoding and resizing a clip so many times."""
    for chunk in read_frames(video, size_wh=SIZE_WH, fit="crop"):
        del chunk  # loads the libraries
    started = time.monotonic()
    for _ in range(copies):
        for chunk in read_frames(video, size_wh=SIZE_WH, fit="crop"):
            del chunk
    return time.monotonic() - started


def serial_s(video: Path, copies: int) -> float:
    """Seconds of building so many copies of a clip in this process, which has built one."""
    here = EngineConfig(engine="serial")
    with tempfile.TemporaryDirectory() as scratch:
        videos = [Path(scratch) / f"clip-{number}.mp4" for number in range(copies)]
        for copy in videos:
            shutil.copy(video, copy)
        build_parts_only(videos[:1], Path(scratch) / "out", here)
        started = time.monotonic()
        build_parts_only(videos, Path(scratch) / "out", here)
        return time.monotonic() - started


def build_parts_only(videos: list[Path], out: Path, engine: EngineConfig) -> None:
    """Builds recordings and packs nothing."""
    shutil.rmtree(out, ignore_errors=True)
    options = GoProOptions(input=tuple(videos))
    run = RunConfig(partition="0/1")
    build(DATASET, options, BuildConfig(), raw=out, out=out, engine=engine, run=run)


class LongFilm:
    """A dataset of one long recording: a video, and an IMU that nobody wore."""

    name = "long"
    licence_id = "own"

    def __init__(self, video: Path) -> None:
        self._video = video

    def download(self, raw: Path, options: Any) -> None:
        """Nothing to bring."""

    def recordings(self, raw: Path, options: Any) -> list[Recording]:
        """The one recording."""
        duration_us = probe(self._video).duration_us
        return [
            Recording(
                source=self.name,
                source_version="1",
                recording_id="long",
                wearer=None,
                video_path=self._video,
                read_imu=lambda: noise_imu(duration_us),
                narrations=(),
                duration_us=duration_us,
                license_id="own",
                imu_kind="synthetic",
                text_source="none",
                align=Alignment(status="assumed"),
                files=(self._video,),
            )
        ]


def noise_imu(duration_us: int) -> ImuTrack:
    """White noise and gravity at 200 Hz."""
    t_us = np.arange(0, duration_us, 5000, dtype=np.int64)
    rng = np.random.default_rng(0)
    accel = rng.normal([[0.0], [0.0], [9.81]], 0.1, (3, len(t_us)))
    gyro = rng.normal(0.0, 0.1, (3, len(t_us)))
    return ImuTrack(
        accel=SensorStream(t_us, accel), gyro=SensorStream(t_us, gyro), rate_hz=200.0, notes={}
    )


def loop_video(video: Path, path: Path, minutes: float) -> None:
    """Writes a video's packets over and over, until the time is filled; nothing is re-encoded."""
    with av.open(str(path), "w") as target:
        stream, shift = None, 0
        while stream is None or shift * stream.time_base < minutes * 60:
            with av.open(str(video)) as source:
                theirs = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream_from_template(theirs)
                    stream.time_base = theirs.time_base
                for packet in source.demux(theirs):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    target.mux(packet)
                shift += round(Fraction(theirs.duration))


def memory(options: argparse.Namespace, scratch: Path) -> None:
    """Resident memory of this process while it builds one long recording."""
    film = scratch / "long.mp4"
    loop_video(options.video, film, options.minutes)
    samples: list[tuple[float, float]] = []
    over = threading.Event()
    started = time.monotonic()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append((time.monotonic() - started, pages * resource.getpagesize() / 1e6))

    watcher = threading.Thread(target=sample)
    watcher.start()
    dataset: Any = LongFilm(film)
    cpu_s = time.process_time()
    try:
        report = build(dataset, {}, BuildConfig(), raw=scratch, out=scratch / "out")
    finally:
        over.set()
        watcher.join()
    cpu_s = time.process_time() - cpu_s
    print(f"{report.hours:.3f} h, {report.events:,} events, {cpu_s:.0f} s of CPU")
    for tenth in range(10):
        chosen = samples[len(samples) * tenth // 10 : len(samples) * (tenth + 1) // 10]
        print(f"  tenth {tenth}: at most {max(mb for _, mb in chosen):.0f} MB")
    print(f"peak {max(mb for _, mb in samples):.0f} MB")
    if options.json:
        facts = {"hours": report.hours, "events": report.events, "cpu_s": cpu_s}
        options.json.write_text(json.dumps(facts | {"rss_mb": samples}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
