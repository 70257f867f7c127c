"""Simulated events beside real ones: rate, polarity, intervals, spread over pixels, rhythm, noise.

    OMP_NUM_THREADS=1 python benchmarks/realism.py SHARED [--figures docs/figures] [--json FILE]

SHARED holds the recordings (`real/dsec_events`, ...). All streams are cut into spans of 45 ms,
which every recording has at least one of. Of recordings only statistics are kept.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from harness import environment
from numpy.typing import NDArray
from realism_figures import draw
from realism_numbers import HEADER, brief, measured, row
from realism_streams import (
    WARM_US,
    Stream,
    Video,
    clip,
    emulated,
    recordings,
    still_videos,
    upsampled,
    videos,
)

from egotriad.converters.dvs import PRESETS, DvsConfig
from egotriad.converters.event_grids import count_image
from egotriad.converters.event_noise import hot_pixels, quiet_rate_hz
from egotriad.manifests import Span

EXTRA = {
    "ideal, OFF threshold 0.325": DvsConfig(neg_thres=0.325),
    "clean, 0.1 Hz noise": DvsConfig.preset("clean", shot_noise_rate_hz=0.1),
}


def main() -> None:
    """Measures everything and prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shared", type=Path, help="folder that holds `real/`")
    parser.add_argument("--figures", type=Path, help="folder for the figures")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    real = list(recordings(options.shared))
    found = {(stream.name, stream.arm): measured(stream) for stream in real}
    print(HEADER)
    rows = []
    for item in found.values():
        rows.append(row(item, found))
        print(rows[-1].markdown())
    for stream in simulated(options.shared):
        key = stream.name, stream.arm
        found[key] = measured(stream)
        rows.append(row(found[key], found))
        print(rows[-1].markdown(), flush=True)
    print(noise_table(real, options.shared))
    print(readout_table(real))
    print(key_frame_line(options.shared))
    where = environment(("numpy", "numba", "opencv-python"))
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.figures:
        draw(found, options.figures)
    if options.json:
        report = {"environment": where, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def simulated(shared: Path) -> Iterator[Stream]:
    """All arms of all videos."""
    for video in videos(shared):
        if video.rate_hz > 100:
            yield from presets(video, video.rate_hz, "")
            continue
        fluid = upsampled(video)
        yield from presets(fluid, video.rate_hz, "")
        for arm, config in EXTRA.items():
            yield emulated(fluid, arm, config, video.rate_hz)
        yield from presets(video, video.rate_hz, ", no upsampling")


def presets(video: Video, frame_rate_hz: float, suffix: str) -> Iterator[Stream]:
    """Every preset, with crossing times and as v2e does it."""
    for name in PRESETS:
        yield emulated(video, name + suffix, DvsConfig.preset(name), frame_rate_hz)
        slots = DvsConfig.preset(name, timing="slots", compat="v2e")
        yield emulated(video, f"{name}, v2e slots{suffix}", slots, frame_rate_hz)


def noise_table(real: list[Stream], shared: Path) -> str:
    """What pixels send where nothing moves."""
    lines = ["", "| stream | arm | quiet, events/pixel/s | hot pixels | events of hot pixels |"]
    lines.append("|---|---|---:|---:|---:|")
    lines += [noise_row(stream) for stream in real]
    for video in still_videos(shared):
        for preset in PRESETS:
            config = DvsConfig.preset(preset)
            lines.append(noise_row(emulated(video, preset, config, video.rate_hz)))
        for arm, config in EXTRA.items():
            lines.append(noise_row(emulated(video, arm, config, video.rate_hz)))
    return "\n".join(lines)


def noise_row(stream: Stream) -> str:
    """Quiet rate, share of pixels that are hot, share of events that these send."""
    quiet, hot, loud = [], [], []
    for events in stream.parts:
        last_us = int(events.t_us[-1]) if len(events) else 2 * WARM_US
        span = Span(stream.from_us, last_us + 1 - stream.from_us)
        counts = count_image(events, span).sum(axis=0, dtype=np.int32)
        found = hot_pixels(counts)
        quiet.append(quiet_rate_hz(events, span))
        hot.append(found.mean())
        loud.append(counts[found].sum() / max(int(counts.sum()), 1))
    numbers = [float(np.mean(values)) for values in (quiet, hot, loud)]
    return f"| {stream.name} | {stream.arm} | " + " | ".join(map(brief, numbers)) + " |"


def readout_table(real: list[Stream]) -> str:
    """The rhythm of the cameras themselves, and events that share a microsecond."""
    lines = ["", "| recording | strongest rhythm, Hz | strength | events per distinct time | "]
    lines[1] += "pairs of one time in one row | in one column |"
    lines.append("|---" + "|---:" * 5 + "|")
    for stream in real:
        events = stream.parts[0]
        counts = np.bincount(events.t_us // 10, minlength=1 << 17)
        strength = np.abs(np.fft.rfft(counts)) / len(events)
        rates_hz = np.fft.rfftfreq(len(counts), 1e-5)
        strength[(rates_hz < 1_000) | (rates_hz > 10_000)] = 0
        best = int(strength.argmax())
        together = pairs(events.t_us)
        numbers = [
            float(rates_hz[best]),
            float(strength[best]),
            len(events) / len(np.unique(events.t_us)),
            *(pairs(events.t_us << 16 | place) / together for place in (events.y, events.x)),
        ]
        lines.append(f"| {stream.name} | " + " | ".join(map(brief, numbers)) + " |")
    return "\n".join(lines)


def pairs(keys: NDArray[np.int64]) -> int:
    """Pairs of equal ones."""
    counts = np.unique(keys, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def key_frame_line(shared: Path) -> str:
    """How many more events the intervals before key frames of the GoPro have."""
    video = clip("", shared / "real/gopro_max_walk/max-heromode.mp4", (320, 240), 0, 9)
    (events,) = emulated(video, "", DvsConfig(), video.rate_hz).parts
    counts = np.histogram(events.t_us, video.t_us)[0]
    phases = [
        counts[k::10] / np.convolve(counts, np.ones(11) / 11, "same")[k::10] for k in range(10)
    ]
    means = np.array([phase[1:-1].mean() for phase in phases])
    excess = means.max() / np.median(means) - 1
    return f"\nevery tenth frame interval of the GoPro video has {excess:.1%} more events"


if __name__ == "__main__":
    main()
