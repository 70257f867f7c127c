"""Size and speed of our shards against other ways to store the same windows, in one run.

    OMP_NUM_THREADS=1 python benchmarks/bench_shards.py [--shards BUILD]
                                                        [--events FILE ... --size 640x480]
                                                        [--json FILE] [--rounds 3]

Without arguments the payload is simulated: a camera over a moving 1/f texture, once with every
event at its own threshold crossing (the builder's default) and once in v2e's time slots. With
--shards it is the windows of a build, with --events those of event files, whole or cut to 5 s. What
every format gives back is compared with what was written. CPU time of one thread in a warm page
cache; the files stay open between reads.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from harness import Comparison, compare, environment, table, write_json
from numpy.typing import NDArray
from shard_formats import FORMATS, Format

from egotriad.converters.dvs import emulate
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.event_files import open_events
from egotriad.manifests import Alignment, Clip, Events, Imu, Narration, Origin, Span
from egotriad.manifests.clip import window_id
from egotriad.manifests.events import concatenate
from egotriad.manifests.shards import ShardReader

PEER = "recipe"
SIZE_WH = (346, 260)
WINDOW_US = 5_000_000
SIMULATED_WINDOWS, FRAME_RATE_HZ, SIMULATED_S = 3, 50, 1.0
LIGHT_WINDOWS = 256


def main() -> None:
    """Measures every payload, prints tables, and writes the JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=Path, help="a build whose windows are stored")
    parser.add_argument("--events", type=Path, nargs="*", default=[], help="event files")
    parser.add_argument("--size", help="of their sensor where they do not say it, as 640x480")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each arm")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    comparisons: list[Comparison] = []
    for name, clips in payloads(options.shards, options.events, options.size):
        found = measured(name, clips, options.rounds)
        comparisons += found
        print(table(found), flush=True)
        print(summary(found), flush=True)
    packages = ("numpy", "pyarrow", "h5py", "hdf5plugin")
    where = environment(packages)
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if options.json:
        write_json(options.json, comparisons, where)


def payloads(
    shards: Path | None, files: Sequence[Path], size: str | None
) -> Iterator[tuple[str, list[Clip]]]:
    """(name, windows) of everything that is asked for."""
    if shards is not None:
        whole = [clip for clip in ShardReader(shards) if clip.events is not None]
        yield shards.name, [replace(clip, split="train") for clip in whole]
    if files:
        windows = [window for file in files for window in windows_of(file, size)]
        yield "event files", [clip_of(k, events) for k, events in enumerate(windows)]
    if shards is None and not files:
        for timing in ("crossing", "slots"):
            made = [moving_texture(seed, timing) for seed in range(SIMULATED_WINDOWS)]
            yield f"simulated, {timing}", [clip_of(k, events) for k, events in enumerate(made)]


def windows_of(path: Path, size: str | None) -> Iterator[Events]:
    """The events of a file in windows of 5 s."""
    width, height = map(int, (size or "0x0").split("x"))
    file = open_events(path, size_wh=(width, height) if size else None)
    events = concatenate(list(file), file.size_wh)
    events = events.shifted(-int(events.t_us[0])).canonical()
    for start in range(0, int(events.t_us[-1]) + 1, WINDOW_US):
        window = events.between(start, start + WINDOW_US)
        if len(window):
            yield window.shifted(-start)


def moving_texture(seed: int, timing: str) -> Events:
    """What an event camera sees of a texture that drifts and sways, about a million events."""
    rng = np.random.default_rng(seed)
    width, height = SIZE_WH
    side = 1024
    fx, fy = np.meshgrid(np.fft.rfftfreq(side), np.fft.fftfreq(side))
    radius = np.maximum(np.hypot(fx, fy), 1 / side)
    spectrum = np.exp(2j * np.pi * rng.random(radius.shape)) / radius
    image = np.fft.irfft2(spectrum, (side, side))
    image = np.clip(118 + 30 * image / image.std(), 2, 255).astype(np.uint8)
    count = round(FRAME_RATE_HZ * SIMULATED_S)
    times = np.arange(count) / FRAME_RATE_HZ
    frames = np.empty((count, height, width), np.uint8)
    for k, t in enumerate(times):
        x = int(200 + 40 * t + 5 * np.sin(2 * np.pi * 1.8 * t)) % (side - width)
        y = int(200 + 10 * t + 3 * np.cos(2 * np.pi * 1.8 * t)) % (side - height)
        frames[k] = image[y : y + height, x : x + width]
    config = DvsConfig.preset("clean", timing=timing)
    return emulate(frames, times, config, seed=seed).canonical()


def clip_of(index: int, events: Events) -> Clip:
    """A window around events, with an IMU like a walking person's."""
    rng = np.random.default_rng((7, index))
    t = np.arange(1000) / 200.0
    motion = np.sin(2 * np.pi * rng.uniform(0.5, 3.0, (6, 1)) * t + rng.uniform(0, 6, (6, 1)))
    imu = (motion + 0.05 * rng.standard_normal((6, 1000))).astype(np.float32)
    text = f"C walks past door {index % 97}"
    start = index * WINDOW_US
    return Clip(
        window_id=window_id("bench", "rec", start, WINDOW_US),
        source="bench",
        recording="rec",
        wearer="w",
        t_start_us=start,
        duration_us=WINDOW_US,
        imu=Imu(data=imu, rate_hz=200.0, valid=np.ones(1000, bool)),
        events=events,
        event_spans=(Span(0, WINDOW_US),),
        narration=text,
        narrations=(Narration(t_us=2_500_000, text=text),),
        split="train",
        align=Alignment(status="hardware"),
        origin=Origin(
            source_version="1",
            license_id="own",
            imu_kind="synthetic",
            text_source="label",
            split_group="bench/w",
            split_origin="official",
            sim_id="0" * 16,
        ),
    )


def measured(name: str, clips: Sequence[Clip], rounds: int) -> list[Comparison]:
    """All cases of one payload."""
    count = sum(len(clip.events) for clip in clips if clip.events is not None)
    with tempfile.TemporaryDirectory() as root:
        homes = {arm: Path(root) / arm for arm in FORMATS}
        for arm, kind in FORMATS.items():
            homes[arm].mkdir()
            kind.write(homes[arm], clips)
            check(kind, homes[arm], clips)
        sizes: dict[str, float | str] = {
            f"{arm} B/event": folder_bytes(home) / count for arm, home in homes.items()
        }
        work = {"event": count}
        cases = [
            compare(
                f"{name}: write",
                {arm: writing(kind, Path(root), clips) for arm, kind in FORMATS.items()},
                peer=PEER,
                rounds=rounds,
                work=work,
                facts=sizes,
            ),
            compare(
                f"{name}: read",
                {arm: reading(kind, homes[arm], len(clips)) for arm, kind in FORMATS.items()},
                peer=PEER,
                rounds=rounds,
                work=work,
            ),
            compare(
                f"{name}: one window at random",
                {arm: picking(kind, homes[arm], len(clips)) for arm, kind in FORMATS.items()},
                peer=PEER,
                rounds=2 * rounds,
            ),
        ]
        cases.append(light(name, clips, Path(root), rounds))
        print(f"{name}: two threads, wall time: {threads(homes, len(clips))}")
    return cases


def light(name: str, clips: Sequence[Clip], root: Path, rounds: int) -> Comparison:
    """IMU and text alone, of so many windows that opening does not count."""
    size_wh = clips[0].events.size_wh if clips[0].events else SIZE_WH
    many = [clip_of(k, Events.empty(size_wh)) for k in range(LIGHT_WINDOWS)]
    arms: dict[str, Callable[[], object]] = {}
    for arm in ("egotriad", "recipe", "parquet defaults", "hdf5 dsec blosc", "webdataset npz"):
        home = root / f"light {arm}"
        home.mkdir()
        FORMATS[arm].write(home, many)
        arms[arm] = counting(FORMATS[arm], home)
    work = {"window": LIGHT_WINDOWS}
    return compare(f"{name}: IMU + text", arms, peer=PEER, rounds=rounds, work=work)


def counting(kind: Format, folder: Path) -> Callable[[], object]:
    """A call that reads the IMU and text of all windows."""
    return lambda: sum(1 for _ in kind.light(folder))


def check(kind: Format, folder: Path, clips: Sequence[Clip]) -> None:
    """Whether everything comes back as it was."""
    for index, clip in enumerate(clips):
        if clip.events is None or not kind.events(folder, index).same_as(clip.events):
            raise ValueError(f"{type(kind).__name__}: window {index} came back different")
    for clip, (name, _, imu) in zip(clips, kind.light(folder), strict=True):
        data: NDArray[np.float32] = clip.imu.data if clip.imu else np.empty((6, 0), np.float32)
        if name != clip.window_id or not np.array_equal(imu, data, equal_nan=True):
            raise ValueError(f"{type(kind).__name__}: {clip.window_id} came back different")


def writing(kind: Format, root: Path, clips: Sequence[Clip]) -> Callable[[], object]:
    """A call that writes all windows into a new folder."""

    def write() -> None:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            kind.write(Path(folder), clips)

    return write


def reading(kind: Format, folder: Path, count: int) -> Callable[[], object]:
    """A call that decodes all windows."""
    return lambda: [len(kind.events(folder, index)) for index in range(count)]


def picking(kind: Format, folder: Path, count: int) -> Callable[[], object]:
    """A call that decodes one window, another each time."""
    rng = np.random.default_rng(0)
    return lambda: kind.events(folder, int(rng.integers(count)))


def threads(homes: Mapping[str, Path], count: int) -> str:
    """Wall time of reading everything with one thread over that with two, our reader."""

    def read(workers: int) -> float:
        readers = [ShardReader(homes["egotriad"]) for _ in range(workers)]
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            shares = [range(k, count, workers) for k in range(workers)]
            list(pool.map(lambda r, s: [r.events(i) for i in s], readers, shares))
        return time.perf_counter() - start

    ratios = [read(1) / read(2) for _ in range(5)]
    return f"{statistics.median(ratios):.2f} x as fast as one ({os.cpu_count()} cores)"


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def summary(cases: Sequence[Comparison]) -> str:
    """One Markdown table: a format a row."""
    write, read, one, windows = cases
    sizes = {arm: float(write.facts[f"{arm} B/event"]) for arm in FORMATS}
    least: dict[str, Any] = {
        case.case: {row["arm"]: row["min_ms"] for row in case.rows()} for case in cases
    }
    lines = [
        "| format | bytes/event | x hdf5 | write | x recipe | read | x recipe | random | light |",
        "|---" * 9 + "|",
    ]
    for arm in FORMATS:
        columns = [arm, f"{sizes[arm]:.3f}", f"{sizes[arm] / sizes['hdf5 dsec blosc']:.2f}"]
        for case in (write, read):
            taken = least[case.case]
            columns.append(f"{case.work['event'] / taken[arm] / 1e3:.1f}")
            columns.append(f"{taken[PEER] / taken[arm]:.2f}")
        columns.append(f"{least[one.case][arm]:.1f} ms")
        taken = least[windows.case].get(arm)
        columns.append(f"{LIGHT_WINDOWS / taken * 1e3:,.0f}" if taken else "")
        lines.append(f"| {' | '.join(columns)} |")
    return (
        "\n".join(lines) + "\n(write, read: million events/s; random: one window; light: windows/s)"
    )


if __name__ == "__main__":
    main()
