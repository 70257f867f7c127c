"""The three ways to run the event emulator on the CPU, behind one small interface.

`LevelsEngine` for pixels without imperfections in time, `WalkEngine` for the whole model,
`V2eEngine` for the whole model as v2e computes it.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.counter_rng import gamma_quantiles, key_of, uniforms
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_levels import new_levels, scan_levels
from egotriad.converters.dvs_noise import Maps, ShotNoise, no_shot_noise, shot_noise
from egotriad.converters.dvs_place import Columns, no_hits, place
from egotriad.converters.dvs_signal import Signal, low_pass_tables, tables
from egotriad.converters.dvs_v2e import V2e
from egotriad.converters.dvs_walk import LEAK_FACTORS, Drive, Walk, WalkFrames, scan_walk

__all__ = ["Engine", "LevelsEngine", "Start", "V2eEngine", "WalkEngine", "shaped", "start_walk"]

_NO_LOGS = np.empty((0, 0), np.float32)
_NO_TABLES = np.empty((0, 256), np.float32)


class Engine(Protocol):
    """Turns frames into events; made from the first frame of a recording."""

    def advance(
        self,
        frames: NDArray[Any],
        times_us: NDArray[np.float64],
        number: int,
    ) -> Columns:
        """Events of `frames` (n, H, W), whose intervals have the n + 1 borders `times_us`.

        `number` is the index in the recording of the first of these frames.
        """


class LevelsEngine:
    """8-bit frames, contrast thresholds, nothing else."""

    def __init__(self, config: DvsConfig, frame: NDArray[np.uint8], maps: Maps) -> None:
        self._slots = config.timing == "slots"
        self._before = frame.ravel().copy()
        self._state = new_levels(self._before, maps.pos, maps.neg, tables())
        self._hits = no_hits()

    def advance(self, frames: NDArray[Any], times_us: NDArray[np.float64], number: int) -> Columns:
        """See `Engine`."""
        flat = np.ascontiguousarray(frames).reshape(len(frames), -1)
        width = frames.shape[2]
        self._hits, ends = scan_levels(flat, self._before, width, self._state, tables(), self._hits)
        self._before = flat[-1].copy()
        return Columns(*place(self._hits, ends, times_us, self._slots, True))


class Start(NamedTuple):
    """What a walk begins with.

    Attributes:
        signal: the seldom used stages of the pixel; None without them.
        state: of the pixels.
        drive: constants.
        noise: shot noise.
    """

    signal: Signal | None
    state: Walk
    drive: Drive
    noise: ShotNoise


def start_walk(
    config: DvsConfig, frame: NDArray[Any], maps: Maps, *, seed: int, recording: str
) -> Start:
    """A walk that has memorised `frame`, (H, W).

    Noise and leak are as if the recording had gone on before: see `_noisy_start`, `_leaky_start`.
    """
    log, signal = frame if config.hdr else tables().log_of_level[frame], None
    mean_leak = (config.leak_rate_hz * 1e-6 * maps.leak_rate * maps.pos).astype(np.float32)
    difference, leak = np.zeros(frame.size, np.float32), mean_leak.copy()
    shot = no_shot_noise(frame.size)
    if config.shapes_signal:
        signal = Signal(config, log, seed=seed, recording=recording)
        log = signal.value
    if config.leak_rate_hz:
        key = key_of(seed, recording, "leak phase")
        difference, leak = _leaky_start(config.leak_jitter_fraction, mean_leak, maps.pos, key)
    if signal is not None and signal.noise is not None:
        key = key_of(seed, recording, "photoreceptor noise phase")
        difference = _noisy_start(signal.noise.ravel(), maps, key)
    elif config.shot_noise_rate_hz:
        rate_hz = config.shot_noise_rate_hz
        shot = shot_noise(rate_hz, maps.pos, maps.neg, seed=seed, recording=recording)
    state = Walk(
        log=log.ravel().copy(),
        lag=np.zeros(frame.size, np.float32),
        difference=difference,
        wake_us=np.zeros(frame.size),
        pos=maps.pos,
        neg=maps.neg,
        leak=leak,
        mean_leak=mean_leak,
    )
    factors = 1 / gamma_quantiles(config.leak_jitter_fraction, LEAK_FACTORS)
    drive = Drive(
        refractory_us=config.refractory_period_s * 1e6,
        leak_factors=factors.astype(np.float32),
        leak_key=key_of(seed, recording, "leak"),
        log_of_level=tables().log_of_level,
    )
    return Start(signal, state, drive, shot)


def _leaky_start(
    jitter: float, mean_leak: NDArray[np.float32], pos: NDArray[np.float32], key: np.uint64
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Differences on their way to the next leak event, and the leaks that take them there.

    Every pixel is at a random place in an interval. The longer an interval the likelier it is to
    be met: its length is gamma distributed with a shape larger by one than that of all intervals.
    """
    phase, which = uniforms(key, 2 * pos.size).reshape(2, -1)
    variance = jitter**2
    met = gamma_quantiles(np.sqrt(variance / (1 + variance)), LEAK_FACTORS) * (1 + variance)
    leak = mean_leak / met[(which * met.size).astype(int)]
    return (phase * pos).astype(np.float32), leak.astype(np.float32)


def _noisy_start(noise: NDArray[np.float32], maps: Maps, key: np.uint64) -> NDArray[np.float32]:
    """Differences when references are anywhere between half a threshold down and half one up.

    With references at the first frame's own noise, thresholds would be met less often than after
    some motion, and in an unchanging scene for ever: events move a reference by whole thresholds.
    """
    reference = uniforms(key, noise.size) * ((maps.pos + maps.neg) / 2) - maps.neg / 2
    difference = noise - reference
    difference -= np.where(difference >= maps.pos, maps.pos, 0)
    difference += np.where(-difference >= maps.neg, maps.neg, 0)
    return difference.astype(np.float32)


class WalkEngine:
    """The whole pixel model."""

    def __init__(
        self, config: DvsConfig, frame: NDArray[Any], maps: Maps, *, seed: int, recording: str
    ) -> None:
        self._config = config
        self._start = start_walk(config, frame, maps, seed=seed, recording=recording)
        self._hits = no_hits()

    def advance(self, frames: NDArray[Any], times_us: NDArray[np.float64], number: int) -> Columns:
        """See `Engine`."""
        signal, state, drive, noise = self._start
        walk_frames = shaped(self._config, signal, frames, times_us, number)
        width = frames.shape[2]
        self._hits, ends = scan_walk(walk_frames, width, state, drive, noise, self._hits)
        slots = self._config.timing == "slots"
        return Columns(*place(self._hits, ends, times_us, slots, False))


def shaped(
    config: DvsConfig,
    signal: Signal | None,
    frames: NDArray[Any],
    times_us: NDArray[np.float64],
    number: int,
) -> WalkFrames:
    """Frames (n, H, W) as the walk takes them."""
    levels, logs, intervals_us = frames, _NO_LOGS, np.diff(times_us)
    if config.hdr:
        logs, levels = frames, np.rint(np.exp(np.minimum(frames, np.log(255)))).astype(np.uint8)
    decay = follow = _NO_TABLES
    if signal is not None:
        whole = logs if config.hdr else tables().log_of_level[levels]
        steps = zip(whole, levels, intervals_us, strict=True)
        parts = [signal.advance(*step, number + k) for k, step in enumerate(steps)]
        logs = np.stack(parts) if parts else _NO_LOGS
    elif config.cutoff_hz:
        decay, follow = low_pass_tables(config.cutoff_hz, intervals_us)
    flat = np.ascontiguousarray(levels).reshape(len(frames), -1)
    if logs.size:
        logs = np.ascontiguousarray(logs).reshape(len(frames), -1)
    return WalkFrames(flat, logs, times_us, decay, follow, number)


class V2eEngine:
    """The whole pixel model as v2e computes it, with its slots."""

    def __init__(
        self,
        config: DvsConfig,
        frame: NDArray[Any],
        maps: Maps,
        start_us: float,
        *,
        seed: int,
        recording: str,
    ) -> None:
        shape = frame.shape
        self._model = V2e(
            config=config,
            pos=maps.pos.reshape(shape) if maps.pos_varies else config.pos_thres,
            neg=maps.neg.reshape(shape) if maps.neg_varies else config.neg_thres,
            leak_rates=maps.leak_rate.reshape(shape),
            tau_s=None if maps.tau_s is None else maps.tau_s.reshape(shape),
            seed=seed,
            recording=recording,
        )
        self._model.step(frame, start_us / 1e6)

    def advance(self, frames: NDArray[Any], times_us: NDArray[np.float64], number: int) -> Columns:
        """See `Engine`."""
        parts = []
        for frame, begin_us, end_us in zip(frames, times_us[:-1], times_us[1:], strict=True):
            times_s, address = self._model.step(frame, end_us / 1e6)
            first_us, last_us = np.floor(begin_us + 0.5) + 1, np.floor(end_us + 0.5)
            t_us = np.clip(np.floor(times_s * 1e6 + 0.5), first_us, last_us).astype(np.int64)
            if (np.diff(t_us) == 0).any():  # slots that became one microsecond
                order = np.lexsort([address, t_us])
                t_us, address = t_us[order], address[order]
            parts.append((t_us, address))
        t_us = np.concatenate([part[0] for part in parts] or [np.empty(0, np.int64)])
        address = np.concatenate([part[1] for part in parts] or [np.empty(0, np.int64)])
        x, y = (address >> 1) & 0x7FFF, address >> 16
        return Columns(t_us, x.astype(np.uint16), y.astype(np.uint16), (address & 1).astype(bool))
