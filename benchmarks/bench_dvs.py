"""Speed of the event emulator, beside v2e's own when a checkout of it is given.

    OMP_NUM_THREADS=1 python benchmarks/bench_dvs.py --v2e PATH_TO_CHECKOUT --video CLIP.mp4

Without imperfections `slots` must give v2e's events exactly, or the benchmark stops. With a preset
the noise is each emulator's own; their numbers of events stand in the table. evlib's ESIM and
eventify-dvs are timed where they can be imported; they do other things (no noise, other
thresholds' meaning, all events of a frame at one time), so look at their events as well.
"""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import cv2
import numpy as np
from harness import Comparison, compare, environment, table, write_json
from numpy.typing import NDArray

from egotriad.converters.dvs import PRESETS, DvsConfig, emulate
from egotriad.converters.video import read_frames
from egotriad.manifests import Events

SIZES = ("346x260", "640x480")
FIELDS = ("luma", "t_us")
Clip = tuple[NDArray[np.uint8], NDArray[np.float64]]
# Modules that v2e imports for windows and file formats and the emulator itself never calls.
UNUSED_BY_V2E = (
    "dv_processing",
    "easygui",
    "engineering_notation",
    "screeninfo",
    "tkinter",
)


def main() -> None:
    """Runs all cases, prints the table, writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--v2e", type=Path, help="folder that holds v2e's `v2ecore` package")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each arm")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="width x height")
    parser.add_argument("--video", type=Path, nargs="*", default=[], help="real clips, any format")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    v2e = load_v2e(options.v2e) if options.v2e else None
    comparisons = []
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        size_wh = width, height
        real = ((path.stem, decoded(path, options.frames, size_wh)) for path in options.video)
        for name, clip in itertools.chain(clips(options.frames, size_wh), real):
            for preset in options.presets:
                title = f"{preset}: {name} {size}"
                comparison = run_case(title, clip, preset, v2e, options.rounds)
                comparisons.append(comparison)
                print(table([comparison]), flush=True)
    where = environment(("numpy", "numba", "torch", "evlib", "eventify-dvs"))
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        write_json(options.json, comparisons, where)


def run_case(name: str, clip: Clip, preset: str, v2e: Any, rounds: int) -> Comparison:
    """Times all arms on one clip, after checking that slots equal v2e where nothing is drawn."""
    frames, times_s = clip
    config = DvsConfig.preset(preset)
    slots = dataclasses.replace(config, timing="slots")
    if preset == "ideal":
        slots = dataclasses.replace(slots, compat="v2e")
    arms: dict[str, Callable[[], object]] = {
        "crossing": lambda: emulate(frames, times_s, config),
        "slots": lambda: emulate(frames, times_s, slots),
    }
    if v2e:
        arms["v2e"] = lambda: run_v2e(v2e, frames, times_s, config)
    events = emulate(frames, times_s, slots)
    pixels = frames[1:].size
    facts: dict[str, float | str] = {"events/pixel/frame": len(events) / pixels}
    if v2e:
        theirs = run_v2e(v2e, frames, times_s, config)
        facts["v2e's"] = sum(map(len, theirs)) / pixels
        if preset == "ideal":
            check_equal(name, events, theirs, times_s)
            facts["slots"] = "equal to v2e"
    if preset == "ideal":
        for peer, (run, count) in peers(frames, times_s).items():
            arms[peer] = run
            facts[f"{peer}'s"] = count / pixels
    work = {"pixel": frames[1:].size, "event": len(events)}
    peer = "v2e" if v2e else "slots"
    return compare(name, arms, peer=peer, rounds=rounds, work=work, facts=facts)


def clips(n: int, size_wh: tuple[int, int]) -> Iterator[tuple[str, Clip]]:
    """Named clips: from video as v2e wants it (300 Hz) to head motion at a camera's own 25 Hz."""
    at_300_hz, at_25_hz = np.arange(n) / 300, np.arange(n) / 25
    slow = drifting_texture(n, size_wh, pixels_per_frame=0.5)
    yield "drifting texture, 300 Hz", (slow, at_300_hz)
    yield "fast texture, 25 Hz", (drifting_texture(n, size_wh, pixels_per_frame=6.0), at_25_hz)
    yield "moving edge, 300 Hz", (moving_edge(n, size_wh), at_300_hz)
    yield "static texture, 300 Hz", (np.repeat(slow[:1], n, axis=0), at_300_hz)


def drifting_texture(
    n: int, size_wh: tuple[int, int], *, pixels_per_frame: float
) -> NDArray[np.uint8]:
    """Blurred noise over the whole range of levels, moving to the left; uint8 (n, H, W)."""
    width, height = size_wh
    extent = (height, width + int(n * pixels_per_frame) + 2)
    noise = np.random.default_rng(0).random(extent, dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    texture = 10 + 235 * (smooth - smooth.min()) / np.ptp(smooth)
    shifts = (np.array([[1, 0, -k * pixels_per_frame], [0, 1.0, 0]]) for k in range(n))
    return np.stack([cv2.warpAffine(texture, s, size_wh) for s in shifts]).astype(np.uint8)


def moving_edge(n: int, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A slanted, blurred edge from dark to bright that crosses the frame; uint8 (n, H, W)."""
    y, x = np.mgrid[: size_wh[1], : size_wh[0]]
    position = np.linspace(0, size_wh[0], n)[:, None, None]
    return (20 + 210 / (1 + np.exp((x + 0.3 * y - position) / 1.5))).astype(np.uint8)


def load_v2e(folder: Path) -> Any:
    """v2e's emulator class, imported from a checkout without its windows and file formats."""
    sys.path.insert(0, str(folder))
    for name in UNUSED_BY_V2E:
        sys.modules[name] = MagicMock()
    import torch

    torch.set_num_threads(1)
    logging.getLogger("v2ecore").setLevel(logging.ERROR)  # it writes a line per silent frame
    return importlib.import_module("v2ecore.emulator").EventEmulator


def decoded(path: Path, n: int, size_wh: tuple[int, int]) -> Clip:
    """The first n frames of a video and their times."""
    chunks = itertools.islice(read_frames(path, size_wh=size_wh), -(-n // 32))
    parts = list(chunks)
    luma, t_us = (np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS)
    return luma[:n], t_us[:n] / 1e6


def peers(
    frames: NDArray[np.uint8], times_s: NDArray[np.float64]
) -> dict[str, tuple[Callable[[], object], int]]:
    """Other simulators that can be imported: how to run them, and their number of events."""
    found: dict[str, tuple[Callable[[], object], int]] = {}
    with contextlib.suppress(ImportError):
        from evlib.simulation import ESIMConfig, ESIMSimulator

        def run_evlib() -> int:
            esim = ESIMSimulator(
                ESIMConfig(
                    positive_threshold=0.2,
                    negative_threshold=0.2,
                    refractory_period_ms=0.0,
                    device="cpu",
                    dtype="float32",
                )
            )
            pairs = zip(frames, times_s, strict=True)
            return sum(len(esim.process_frame(frame, time_s)[0]) for frame, time_s in pairs)

        found["evlib"] = (run_evlib, run_evlib())
    with contextlib.suppress(ImportError):
        from eventify.dvs import frame_to_event_tuples

        def run_eventify() -> int:
            t_us = np.rint(times_s * 1e6).astype(int).tolist()
            return sum(
                len(frame_to_event_tuples(*pair, *times, c_thresh=0.2))
                for pair, times in zip(
                    itertools.pairwise(frames), itertools.pairwise(t_us), strict=True
                )
            )

        found["eventify"] = (run_eventify, run_eventify())
    return found


def run_v2e(
    emulator_class: Any,
    frames: NDArray[np.uint8],
    times_s: NDArray[np.float64],
    config: DvsConfig,
) -> list[NDArray[np.float32]]:
    """v2e's events (N, 4) of every frame: t in seconds, x, y, +1 or -1."""
    emulator = emulator_class(
        pos_thres=config.pos_thres,
        neg_thres=config.neg_thres,
        sigma_thres=config.sigma_thres,
        cutoff_hz=config.cutoff_hz,
        leak_rate_hz=config.leak_rate_hz,
        leak_jitter_fraction=config.leak_jitter_fraction,
        noise_rate_cov_decades=config.noise_rate_cov_decades,
        shot_noise_rate_hz=config.shot_noise_rate_hz,
        refractory_period_s=config.refractory_period_s,
        seed=1,
        device="cpu",
    )
    events = [emulator.generate_events(frame, t) for frame, t in zip(frames, times_s, strict=True)]
    return [np.zeros((0, 4), np.float32) if part is None else part for part in events]


def check_equal(
    name: str, ours: Events, theirs: list[NDArray[np.float32]], times_s: NDArray[np.float64]
) -> None:
    """Stops unless both are the same multiset of (frame, x, y, p) at the same times."""
    joined = np.concatenate(theirs).astype(np.float64)
    their_frame = np.repeat(np.arange(len(theirs)), [len(part) for part in theirs])
    our_frame = np.searchsorted(np.floor(times_s * 1e6 + 0.5), ours.t_us)
    v2e_rows = sorted_rows(their_frame, joined[:, 2], joined[:, 1], joined[:, 3] > 0, joined[:, 0])
    our_rows = sorted_rows(our_frame, ours.y, ours.x, ours.p, ours.t_us / 1e6)
    if not np.array_equal(v2e_rows[:, :4], our_rows[:, :4]):
        raise SystemExit(f"{name}: {len(ours)} events, v2e has {len(joined)}: not the same")
    v2e_s = v2e_rows[:, 4]
    late = np.abs(our_rows[:, 4] - v2e_s) > np.maximum(1e-6, 1.2e-7 * v2e_s)
    if late.any():
        raise SystemExit(f"{name}: {late.sum()} of {len(ours)} event times differ from v2e's")


def sorted_rows(*columns: NDArray[Any]) -> NDArray[np.float64]:
    """The columns side by side, rows in lexicographic order; float64 (N, number of columns)."""
    rows = np.stack(columns, axis=1).astype(np.float64)
    return rows[np.lexsort(rows.T[::-1])]


if __name__ == "__main__":
    main()
