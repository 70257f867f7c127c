"""The event emulator on a CUDA device: sections of `gpu_suite.py`."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from gpu_section import Options, Row, now, synchronise
from numpy.typing import NDArray

from egotriad.converters.dvs import DvsConfig, DvsEmulator
from egotriad.converters.dvs_gpu import GpuBatch
from egotriad.converters.dvs_gpu_place import BatchEvents

PRESETS = ("ideal", "noisy", "v2e-defaults")
SIZES_WH = ((346, 260), (640, 480), (1280, 720))
CLIPS = (1, 8, 64)
RATE_HZ = 300
MOST_PIXELS = 1 << 31  # of all frames of all clips in one call
CHECKED_FRAMES = 8
EVENT_BYTES = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of the emulator: C clips of n + 1 frames on the device, (C, n + 1, H, W)."""

    preset: str
    size_wh: tuple[int, int]
    half_pixels: int
    frames: torch.Tensor

    def __str__(self) -> str:
        clips, intervals = len(self.frames), self.frames.shape[1] - 1
        width, height = self.size_wh
        speed = "" if self.half_pixels == 1 else f" {self.half_pixels / 2:.0f} px/frame"
        return f"{self.preset} {width}x{height}{speed}, {clips} x {intervals} frames"

    def batch(self, device: str) -> GpuBatch:
        """A new batch that has memorised the first frames."""
        config = DvsConfig.preset(self.preset)
        names = [f"clip {clip}" for clip in range(len(self.frames))]
        maps = [DvsEmulator(config, self.size_wh, recording=name).maps for name in names]
        first, seeds = self.frames[:, 0].cpu().numpy(), [0] * len(names)
        return GpuBatch(config, first, maps, seeds=seeds, recordings=names, device=device)

    def borders_us(self, first: int, frames: int) -> NDArray[np.float64]:
        """Borders of so many intervals from the `first` on, for each clip."""
        times_us = np.floor(np.arange(first, first + frames + 1) * (1e6 / RATE_HZ))
        return np.repeat(times_us[None], len(self.frames), axis=0)


class Playback:
    """Clips played forward, backward, forward, ...: no jump where they begin again.

    Args:
        case: the clips.
        batch: gets their frames.
        played: intervals it has seen already.
    """

    def __init__(self, case: Case, batch: GpuBatch, played: int) -> None:
        self.intervals = case.frames.shape[1] - 1
        self._case, self._batch, self._played, self._turn = case, batch, played, 0
        self._ways = case.frames[:, 1:].contiguous(), case.frames[:, :-1].flip(1)

    def frames(self) -> torch.Tensor:
        """Those of the next call."""
        return self._ways[self._turn % 2]

    def __call__(self, frames: NDArray[np.uint8] | torch.Tensor) -> BatchEvents:
        """Events of the next call, whose `frames` are on the device or not."""
        borders_us = self._case.borders_us(self._played, self.intervals)
        found = self._batch.advance(frames, borders_us, 1 + self._played)
        self._played, self._turn = self._played + self.intervals, self._turn + 1
        return found


def emulator(options: Options) -> Iterator[Row]:
    """The event emulator: equal to the CPU, and how fast."""
    copy_gb_s = copy_bandwidth(options)
    yield Row(
        text=f"copy {copy_gb_s:.0f} GB/s, bytes read and written. GB/s of the bytes that kernels "
        "move; least: the same with levels read and events written alone\n"
        f"{'case':<52}{'equal':>6}{'ev/px':>7}{'Mevents/s':>11}{'frames/s':>10}{'GB/s':>7}"
        f"{'of copy':>8}{'least':>7}{'to host':>9}{'CPU Mev/s':>10}{'ratio':>8}",
        record={"copy_gb_s": copy_gb_s},
    )
    for case in cases(options):
        if time.perf_counter() > options.until:
            yield Row(text=f"{case!s:<52} left out: the time is up", record={"left_out": str(case)})
            continue
        record = measure(case, options, copy_gb_s)
        text = (
            f"{record['case']:<52}{record['equal']!s:>6}{record['events_per_pixel']:>7.3f}"
            f"{record['mevents_s']:>11.1f}{record['frames_s']:>10.0f}{record['gb_s']:>7.0f}"
            f"{record['of_copy']:>8.3f}{record['least_of_copy']:>7.3f}"
            f"{record['to_host_mevents_s']:>9.0f}{record['cpu_mevents_s']:>10.1f}"
            f"{record['mevents_s'] / record['cpu_mevents_s']:>8.1f}"
        )
        yield Row(text=text, record=record, passed=record["equal"])


def profile(options: Options) -> Iterator[Row]:
    """Where the time goes: kernels of one call each of two presets."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if options.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    of_kernel = "self_device_time_total" if options.device == "cuda" else "self_cpu_time_total"
    for case in cases(options, presets=("ideal", "noisy"), sizes_wh=SIZES_WH[:1], clips=(8,)):
        play = Playback(case, case.batch(options.device), 0)
        for _ in range(2):  # compiles, and takes memory
            play(play.frames())
        with torch.profiler.profile(activities=activities) as trace:
            play(play.frames())
            synchronise(options)
        taken = sorted(trace.key_averages(), key=lambda each: -getattr(each, of_kernel))[:14]
        us = {each.key: (getattr(each, of_kernel), each.count) for each in taken}
        lines = [f"{name[:60]:<60}{time_us:>12.0f} us{n:>8}x" for name, (time_us, n) in us.items()]
        yield Row(text="\n".join([str(case), *lines]), record={"case": str(case), "us": us})


def cases(
    options: Options,
    *,
    presets: tuple[str, ...] = PRESETS,
    sizes_wh: tuple[tuple[int, int], ...] = SIZES_WH,
    clips: tuple[int, ...] = CLIPS,
) -> Iterator[Case]:
    """Clips of a moving texture, each shifted against the other; a fast one for the middle case."""
    if options.small:
        sizes_wh, clips = ((37, 23),), (1, 3)
    wanted = [(size_wh, number, 1) for size_wh in sizes_wh for number in clips]
    middle = (sizes_wh[len(sizes_wh) // 2], clips[len(clips) // 2], 12)
    for size_wh, number, half_pixels in [*wanted, middle]:
        most, pixels = 7 if options.small else 257, number * size_wh[0] * size_wh[1]
        n = min(most, max(17, MOST_PIXELS // pixels))
        texture = moving_texture(n, size_wh, half_pixels, options.device)
        shifts = [37 * clip % size_wh[0] for clip in range(number)]
        frames = torch.stack([texture.roll(shift, dims=2) for shift in shifts])
        for preset in presets:
            yield Case(preset=preset, size_wh=size_wh, half_pixels=half_pixels, frames=frames)


def moving_texture(n: int, size_wh: tuple[int, int], half_pixels: int, device: str) -> torch.Tensor:
    """Blurred noise that moves so many half pixels a frame over all levels, uint8 (n, H, W)."""
    width, height = size_wh
    noise = np.random.default_rng(0).random((height, width + n * half_pixels), dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    levels = torch.from_numpy(10 + 235 * (smooth - smooth.min()) / np.ptp(smooth)).to(device)
    phases = levels, (levels + levels.roll(-1, dims=1)) / 2
    shifts = [k * half_pixels for k in range(n)]
    return torch.stack([phases[s % 2][:, s // 2 : s // 2 + width].byte() for s in shifts])


def measure(case: Case, options: Options, copy_gb_s: float) -> dict[str, Any]:
    """One row of the emulator's table."""
    batch = case.batch(options.device)
    checked = min(CHECKED_FRAMES, case.frames.shape[1] - 1)
    equal, cpu_events_s = against_cpu(case, batch, checked)
    play = Playback(case, batch, checked)
    for _ in range(2):  # compiles, and takes memory
        play(play.frames())
    events, seconds = [], []
    for _ in range(options.rounds):
        start = now(options)
        events.append(len(play(play.frames()).t_us))
        seconds.append(now(options) - start)
    host, start = play.frames().cpu().numpy(), now(options)
    columns = [column.cpu().numpy() for column in play(host)]
    to_host_s = now(options) - start
    each, taken_s = statistics.median(events), statistics.median(seconds)
    pixels = case.frames[:, 1:].numel()
    gb_s = bytes_moved(pixels, each, case.preset) / taken_s / 1e9
    return {
        "case": str(case),
        "equal": equal,
        "events": events,
        "seconds": seconds,
        "events_per_pixel": each / pixels,
        "mevents_s": each / taken_s / 1e6,
        "frames_s": play.intervals * len(case.frames) / taken_s,
        "gb_s": gb_s,
        "of_copy": gb_s / copy_gb_s,
        "least_of_copy": (pixels + EVENT_BYTES * each) / taken_s / 1e9 / copy_gb_s,
        "to_host_mevents_s": len(columns[0]) / to_host_s / 1e6,
        "cpu_mevents_s": cpu_events_s / 1e6,
    }


def against_cpu(case: Case, batch: GpuBatch, n: int) -> tuple[bool, float]:
    """Whether n intervals of the first and the last clip give the CPU's events; its speed."""
    borders_us = case.borders_us(0, n)
    found = batch.advance(case.frames[:, 1 : n + 1], borders_us, 1)
    ends, equal = [0, *found.ends.tolist()], True
    cpu_events, cpu_s = 0, 0.0
    for clip in sorted({0, len(case.frames) - 1}):
        frames, t_us = case.frames[clip, : n + 1].cpu().numpy(), borders_us[clip].astype(np.int64)
        for timed in (False, True):  # the first compiles
            config = DvsConfig.preset(case.preset)
            emulator = DvsEmulator(config, case.size_wh, recording=f"clip {clip}")
            emulator.feed(frames[:1], t_us[:1])
            start = time.process_time()
            expected = emulator.feed(frames[1:], t_us[1:])
            cpu_s += (time.process_time() - start) * timed
        cpu_events += len(expected)
        here = slice(ends[clip], ends[clip + 1])
        for ours, name in zip(found[:4], ("t_us", "x", "y", "p"), strict=True):
            equal &= np.array_equal(ours[here].cpu().numpy(), getattr(expected, name))
    return equal, cpu_events / max(cpu_s, 1e-9)


def bytes_moved(pixels: int, events: float, preset: str) -> float:
    """What the kernels read and write in device memory, at a hit for each event.

    A level per pixel; a hit is written once and read twice; a key is written and read; then the
    columns of the event.
    """
    hit = 12 if preset == "ideal" else 20
    return pixels + events * (3 * hit + 2 * 8 + EVENT_BYTES)


def copy_bandwidth(options: Options) -> float:
    """Of a large copy within the device, GB/s, bytes read and bytes written."""
    size = 1 << (20 if options.small else 31)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=options.device)
    target, seconds = torch.empty_like(source), []
    for _ in range(8):
        start = now(options)
        target.copy_(source)
        seconds.append(now(options) - start)
    return 2 * size / statistics.median(seconds) / 1e9
