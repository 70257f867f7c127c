"""Event camera emulator: frames of a video in, the events a DVS pixel array would have sent out.

The pixel is that of v2e (Hu, Liu, Delbruck, "v2e: From Video Frames to Realistic DVS Events", CVPRW
2021; SensorsINI/v2e, commit cac6384, `v2ecore/emulator.py`): each pixel memorises a log intensity
and sends one event per contrast threshold by which the present one differs from it. Luma is
linear-logarithmic: linear up to 20 of 255, natural log above.

Where v2e is known to be off we differ by default:

- Times. v2e puts the events of all pixels on one grid of slots per frame interval, as many as the
  busiest pixel has events, and a pixel's k-th event into slot k (`timing="slots"`); simulated
  streams then pulse with the frame rate. `timing="crossing"` gives each event the moment at which
  its own pixel's signal, a straight line between the two frames, crosses the threshold (as ESIM:
  Rebecq et al., CoRL 2018).
- Low pass. Exact over the interval, for any frame rate, instead of one clamped Euler step.
- Refractory period. Always on, counted from the pixel's own last event, and the reference follows
  the signal in the dead time.
- Noise. Shot noise at the rate asked for; leak events whose intervals have the spread asked for
  (v2e's jitter averages out over frames); photoreceptor noise that does not depend on the frame
  rate. Every draw is a function of seed, recording, frame and pixel: see `counter_rng`.

`timing="slots", compat="v2e"` gives v2e's own events.
"""

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.dvs_config import (
    MIN_THRESHOLD_LOG,
    PRESETS,
    DvsConfig,
    check_thresholds,
    sim_id,
)
from egotriad.converters.dvs_engines import Engine, LevelsEngine, V2eEngine, WalkEngine
from egotriad.converters.dvs_noise import Maps, log_normal_map, threshold_map
from egotriad.converters.dvs_place import MAX_INTERVAL_US, MAX_SIDE
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError
from egotriad.manifests.events import concatenate

__all__ = [
    "MIN_THRESHOLD_LOG",
    "PRESETS",
    "DvsConfig",
    "DvsEmulator",
    "emulate",
    "sim_id",
]

Frames: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Frames (n, H, W): 8-bit luma, or natural-log intensity."""

Backend: TypeAlias = Literal["cpu", "gpu", "v2ecore"]

MAX_ABS_LOG = 50.0
"""Largest magnitude of log input; beyond it the frames were not natural logs."""

_BLOCK_PIXELS = 1 << 21  # work on this many at once: what is kept between the two passes is small


def emulate(
    frames: Frames,
    times_s: NDArray[np.float64],
    config: DvsConfig,
    *,
    seed: int = 0,
    recording: str = "",
    pos_thres_map: NDArray[np.float32] | None = None,
    neg_thres_map: NDArray[np.float32] | None = None,
    leak_rate_map: NDArray[np.float32] | None = None,
    backend: Backend = "cpu",
) -> Events:
    """Events of a whole clip.

    Args:
        frames: (T, H, W) uint8 luma, row 0 = top; with `config.hdr` float32 natural-log intensity.
        times_s: float64 (T,), seconds, increasing by at least a microsecond.
        config: parameters.
        seed: of mismatch and noise.
        recording: name of the recording; other names give other mismatch and noise.
        pos_thres_map: float32 (H, W), ON thresholds per pixel instead of drawn ones.
        neg_thres_map: float32 (H, W), OFF thresholds per pixel instead of drawn ones.
        leak_rate_map: float32 (H, W), factors on the leak rate instead of drawn ones.
        backend: `cpu`; `gpu` for a CUDA device, which gives the same events (docs/gpu.md says how
            far that has been checked); `v2ecore` for v2e itself, which the user has installed.

    Returns:
        Events in canonical order, their times in int64 microseconds on the clock of `times_s`,
        rounded to the nearest and kept inside their frame interval. The first frame only sets the
        memorised values.

    Raises:
        UsageError: when shapes, dtypes, times or thresholds are not as above.
        MissingDependency: when the back end is not installed.
    """
    if frames.ndim != 3:
        raise UsageError(f"frames: got shape {frames.shape}, need (T, H, W)")
    if times_s.dtype != np.float64:
        raise UsageError(f"times_s: got {times_s.dtype}, need float64 seconds")
    height, width = frames.shape[1:]
    emulator = DvsEmulator(
        config,
        (width, height),
        seed=seed,
        recording=recording,
        pos_thres_map=pos_thres_map,
        neg_thres_map=neg_thres_map,
        leak_rate_map=leak_rate_map,
        backend=backend,
    )
    return emulator._feed(frames, times_s * 1e6)


class DvsEmulator:
    """The emulator as a stream: feed frames in pieces of any length, get their events.

    However a video is cut into pieces, the events of all pieces together are the same. One object
    per recording. Arguments are those of `emulate`.

    Attributes:
        config: parameters.
        size_wh: width and height, pixels.
        maps: what differs from pixel to pixel.

    Raises:
        UsageError: when the size or a map is unusable.
        MissingDependency: when the back end is not installed.
    """

    def __init__(
        self,
        config: DvsConfig,
        size_wh: tuple[int, int],
        *,
        seed: int = 0,
        recording: str = "",
        pos_thres_map: NDArray[np.float32] | None = None,
        neg_thres_map: NDArray[np.float32] | None = None,
        leak_rate_map: NDArray[np.float32] | None = None,
        backend: Backend = "cpu",
    ) -> None:
        if not all(1 <= side <= MAX_SIDE for side in size_wh):
            raise UsageError(f"size_wh: got {size_wh}, need 1 to {MAX_SIDE} pixels each way")
        self.config = config
        self.size_wh = size_wh
        self._seed, self._recording = seed, recording
        self._backend = backend
        given = (pos_thres_map, neg_thres_map, leak_rate_map)
        _check_backend(backend, config, given)
        self.maps = _maps(config, size_wh, given, seed=seed, recording=recording)
        self._engine: Engine | None = None
        self._number = 0
        self._previous_us = 0.0

    def feed(self, frames: Frames, t_us: NDArray[np.int64]) -> Events:
        """Events between the frame before these and the last of these, in canonical order.

        Args:
            frames: (n, H, W) uint8 luma; with `config.hdr` float32 natural-log intensity. n may be
                zero.
            t_us: int64 (n,), microseconds, strictly increasing, also from one call to the next.

        Returns:
            Events on the clock of `t_us`; none for the first frame of all.

        Raises:
            UsageError: when shapes, dtypes or times are not as above.
        """
        if t_us.dtype != np.int64:
            raise UsageError(f"t_us: got {t_us.dtype}, need int64 microseconds")
        return self._feed(frames, t_us.astype(np.float64))

    def _feed(self, frames: NDArray[Any], times_us: NDArray[np.float64]) -> Events:
        self._check(frames, times_us)
        if self._engine is None and len(frames):
            self._engine = self._new_engine(frames[0], float(times_us[0]))
            # v2e leaves its previous time at zero after the first frame.
            self._previous_us = 0.0 if self.config.compat == "v2e" else float(times_us[0])
            frames, times_us, self._number = frames[1:], times_us[1:], 1
        # A device needs many pixels to be busy, and its engine cuts by itself.
        most = frames.size if self._backend == "gpu" else _BLOCK_PIXELS
        block = max(1, most // (self.size_wh[0] * self.size_wh[1]))
        starts = range(0, len(frames), block)
        parts = [self._advance(frames[k : k + block], times_us[k : k + block]) for k in starts]
        return parts[0] if len(parts) == 1 else concatenate(parts, self.size_wh)

    def _advance(self, frames: NDArray[Any], times_us: NDArray[np.float64]) -> Events:
        assert self._engine is not None
        borders_us = np.concatenate([[self._previous_us], times_us])
        events = self._engine.advance(frames, borders_us, self._number)
        self._number += len(frames)
        self._previous_us = float(times_us[-1])
        return Events(t_us=events.t_us, x=events.x, y=events.y, p=events.p, size_wh=self.size_wh)

    def _new_engine(self, frame: NDArray[Any], start_us: float) -> Engine:
        config, maps, seed, recording = self.config, self.maps, self._seed, self._recording
        if self._backend == "gpu":
            from egotriad.converters.dvs_gpu import new_engine

            return new_engine(config, frame, maps, seed=seed, recording=recording)
        if self._backend == "v2ecore":
            from egotriad.converters.dvs_v2ecore import V2ecoreEngine

            return V2ecoreEngine(config, frame, start_us, seed=seed, recording=recording)
        if config.moves_only:
            return LevelsEngine(config, frame, maps)
        if config.compat == "v2e":
            return V2eEngine(config, frame, maps, start_us, seed=seed, recording=recording)
        return WalkEngine(config, frame, maps, seed=seed, recording=recording)

    def _check(self, frames: NDArray[Any], times_us: NDArray[np.float64]) -> None:
        """Refuses unusable input before any state changes."""
        width, height = self.size_wh
        need = np.float32 if self.config.hdr else np.uint8
        if frames.dtype != need or frames.shape[1:] != (height, width):
            raise UsageError(
                f"frames: got {frames.dtype} {frames.shape}, need {np.dtype(need)} "
                f"(n, {height}, {width}){' of natural-log intensity' if self.config.hdr else ''}"
            )
        if times_us.shape != frames.shape[:1]:
            raise UsageError(
                f"frame times: got {times_us.shape} for {len(frames)} frames, need ({len(frames)},)"
            )
        if self.config.hdr:
            usable = (np.abs(frames) <= MAX_ABS_LOG).all(axis=(1, 2))  # False for NaN
            if not usable.all():
                raise UsageError(
                    f"frames: frame {int(usable.argmin())} of {len(frames)} holds NaN or values "
                    f"beyond ±{MAX_ABS_LOG}, need natural-log intensity; take the logarithm of "
                    "positive intensities"
                )
        if not np.isfinite(times_us).all():
            raise UsageError(f"frame times: got {times_us}, need finite times")
        self._check_steps(times_us)

    def _check_steps(self, times_us: NDArray[np.float64]) -> None:
        first = self._engine is None
        # v2e's clock starts at zero, whatever the first frame's time.
        from_zero = first and self.config.compat == "v2e" and len(times_us) > 0
        if from_zero and not 0 <= times_us[0] <= MAX_INTERVAL_US // 2:
            raise UsageError(
                f"frame times: begin at {times_us[0]:.0f} us, need 0 to {MAX_INTERVAL_US // 2} us "
                "with compat 'v2e'; shift the clock"
            )
        before = [] if first else [self._previous_us]
        rounded = np.floor(np.concatenate([before, times_us]) + 0.5)
        steps = np.diff(rounded)
        wrong = (steps < 1) | (steps > MAX_INTERVAL_US)
        if wrong.any():
            k = int(wrong.argmax())
            raise UsageError(
                f"frame times: {rounded[k]:.0f} us is followed by {rounded[k + 1]:.0f} us, need "
                f"steps of 1 to {MAX_INTERVAL_US} us; drop repeated frames, and start a new "
                "emulator where the clock jumps"
            )


def _check_backend(
    backend: str, config: DvsConfig, maps: tuple[NDArray[np.float32] | None, ...]
) -> None:
    if backend not in get_args(Backend):
        raise UsageError(f"backend: got {backend!r}, need {', '.join(get_args(Backend))}")
    if backend == "v2ecore":
        from egotriad.converters.dvs_v2ecore import check_v2ecore

        check_v2ecore(config)
        if any(values is not None for values in maps):
            raise UsageError("backend: got 'v2ecore' and a map, but v2e draws its own; use 'cpu'")


def _maps(
    config: DvsConfig,
    size_wh: tuple[int, int],
    given: tuple[NDArray[np.float32] | None, ...],
    *,
    seed: int,
    recording: str,
) -> Maps:
    pixels = size_wh[0] * size_wh[1]
    names = ("pos_thres", "neg_thres", "leak_rate")
    flat = [_flat(name, values, size_wh) for name, values in zip(names, given, strict=True)]
    for k, nominal in enumerate((config.pos_thres, config.neg_thres)):
        values = flat[k]
        if values is not None:
            check_thresholds(f"{names[k]}_map", values)
        elif config.sigma_thres:
            sigma, polarity = config.sigma_thres, ("ON", "OFF")[k]
            flat[k] = threshold_map(
                nominal, sigma, pixels, seed=seed, recording=recording, polarity=polarity
            )
    decades = config.noise_rate_cov_decades
    if flat[2] is None and config.leak_rate_hz and decades:
        flat[2] = log_normal_map(
            decades, pixels, seed=seed, recording=recording, purpose="leak rate"
        )
    elif flat[2] is not None and not (np.isfinite(flat[2]) & (flat[2] >= 0)).all():
        raise UsageError("leak_rate_map: got values that are no factors, need zero or more")
    defaults = (config.pos_thres, config.neg_thres, 1.0)
    full = [
        np.full(pixels, default, np.float32) if values is None else values
        for values, default in zip(flat, defaults, strict=True)
    ]
    pos, neg, leak_rate = full
    return Maps(
        pos=pos,
        neg=neg,
        leak_rate=leak_rate,
        pos_varies=flat[0] is not None,
        neg_varies=flat[1] is not None,
    )


def _flat(
    name: str, values: NDArray[np.float32] | None, size_wh: tuple[int, int]
) -> NDArray[np.float32] | None:
    if values is None:
        return None
    if values.shape != size_wh[::-1]:
        raise UsageError(f"{name}_map: got shape {values.shape}, need {size_wh[::-1]} (H, W)")
    return values.astype(np.float32).ravel()
