"""Speed and accuracy of IMU resampling beside SciPy's and, where installed, torchaudio's.

    OMP_NUM_THREADS=1 python benchmarks/bench_imu.py --hours 1

Every arm gets the same samples: two sensors on one clock of 197.45 Hz with whole microseconds, as a
GoPro MAX has. The peer brings them onto an even grid with numpy.interp and changes the rate with
scipy.signal.resample_poly; torchaudio's arm does it imu2clip's way (rows taken for uniform at 197
Hz). What that costs in accuracy is printed beside the times: the error of a sine at 0.40 and 0.45
of the target's rate, and how far one just above its Nyquist frequency is put down.
"""

import argparse
import importlib
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from harness import Comparison, compare, environment, table, write_json
from numpy.typing import NDArray
from scipy.signal import resample_poly

from egotriad.converters.imu import Mode, resample
from egotriad.manifests import ImuTrack, SensorStream

SOURCE_HZ = 197.45
TARGETS_HZ = (200, 50, 20)
CHECK_S = 120
Arm = Callable[[ImuTrack, int, int], NDArray[np.floating]]


def main() -> None:
    """Runs all targets, prints the table, writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=1.0, help="length of the recording")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each arm")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    noise = np.random.default_rng(0)
    seconds = round(options.hours * 3600)
    track = recording(seconds, lambda t_s: noise.standard_normal(t_s.shape))
    comparisons = []
    for target_hz in TARGETS_HZ:
        comparisons.append(run_target(track, seconds, target_hz, options.rounds))
        print(table(comparisons[-1:]), flush=True)
    where = environment(("numpy", "scipy", "numba", "torchaudio"))
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        write_json(options.json, comparisons, where)


def recording(
    seconds: float, signal: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> ImuTrack:
    """Both sensors' three axes with the same signal."""
    t_us = np.rint(np.arange(int(seconds * SOURCE_HZ)) * 1e6 / SOURCE_HZ).astype(np.int64)
    stream = SensorStream(t_us, np.stack([signal(t_us / 1e6)] * 3))
    return ImuTrack(accel=stream, gyro=stream, rate_hz=SOURCE_HZ, notes={})


def sine(frequency_hz: float, t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A sine of amplitude 1."""
    return np.sin(2 * np.pi * frequency_hz * t_s)


def run_target(track: ImuTrack, seconds: int, target_hz: int, rounds: int) -> Comparison:
    """Times all arms to one rate, with their errors as facts."""
    chosen = {
        name: arm for name, arm in arms().items() if not (name == "block_mean" and target_hz > 150)
    }
    facts: dict[str, float | str] = {
        "extra memory MB": extra_memory(track, seconds, target_hz) / 1e6
    }
    for name, arm in chosen.items():
        facts[name] = accuracy(arm, target_hz)
    return compare(
        f"{seconds / 3600:g} h, {SOURCE_HZ} -> {target_hz} Hz",
        {name: partial(arm, track, seconds, target_hz) for name, arm in chosen.items()},
        peer="scipy",
        rounds=rounds,
        work={"sample": seconds * target_hz},
        facts=facts,
    )


def arms() -> dict[str, Arm]:
    """Every arm: (track, seconds, target_hz) -> (6, seconds * target_hz)."""

    def ours(mode: Mode) -> Arm:
        return lambda track, seconds, target_hz: (
            resample(
                track, t_start_us=0, duration_us=seconds * 1_000_000, rate_hz=target_hz, mode=mode
            ).data
        )

    found: dict[str, Arm] = {
        mode: ours(mode) for mode in ("bandlimited", "linear", "block_mean", "torchaudio")
    }
    found["torchaudio mode"] = found.pop("torchaudio")
    found["scipy"] = scipy_arm
    try:
        torch, audio = importlib.import_module("torch"), importlib.import_module("torchaudio")
    except ImportError:
        return found

    def torchaudio_arm(track: ImuTrack, seconds: int, target_hz: int) -> NDArray[np.floating]:
        rows = torch.from_numpy(np.concatenate([track.accel.values, track.gyro.values]))
        return audio.functional.resample(rows, int(SOURCE_HZ), target_hz).numpy()

    return found | {"torchaudio": torchaudio_arm}


def scipy_arm(track: ImuTrack, seconds: int, target_hz: int) -> NDArray[np.floating]:
    """Onto an even grid of the source's nominal rate by straight lines, then polyphase."""
    even_hz = 200
    grid_us = np.arange(seconds * even_hz) * (1e6 / even_hz)
    rows = np.concatenate([track.accel.values, track.gyro.values])
    even = np.stack([np.interp(grid_us, track.accel.t_us, row) for row in rows])
    ratio = Fraction(target_hz, even_hz)
    return resample_poly(even, ratio.numerator, ratio.denominator, axis=1)


def accuracy(arm: Arm, target_hz: int) -> str:
    """Largest error of two sines, and of one above Nyquist what is left, away from the ends."""
    inside = slice(CHECK_S * target_hz // 4, 3 * CHECK_S * target_hz // 4)
    t_s = np.arange(CHECK_S * target_hz) / target_hz
    words = []
    for share in (0.40, 0.45):
        wave = partial(sine, share * target_hz)
        got = arm(recording(CHECK_S + 1, wave), CHECK_S, target_hz)[0]
        length = min(len(got), len(t_s))
        error = np.abs(got[:length] - wave(t_s[:length]))[inside]
        words.append(f"{share:.2f}: {error.max():.1e}")
    if 0.52 * target_hz < 0.45 * SOURCE_HZ:
        above = recording(CHECK_S + 1, partial(sine, 0.52 * target_hz))
        left = np.abs(arm(above, CHECK_S, target_hz)[0][inside]).max()
        words.append(f"0.52: {20 * np.log10(left):.0f} dB")
    return "; ".join(words)


def extra_memory(track: ImuTrack, seconds: int, target_hz: int) -> float:
    """Bytes that `bandlimited` takes at its peak beyond its result."""
    resample(track, t_start_us=0, duration_us=1_000_000, rate_hz=target_hz)  # compiles
    tracemalloc.start()
    imu = resample(track, t_start_us=0, duration_us=seconds * 1_000_000, rate_hz=target_hz)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak - imu.data.nbytes)


if __name__ == "__main__":
    main()
