"""Event camera emulator: frames of a video in, the events a DVS pixel array would have sent out.

The pixel is that of v2e (Hu, Liu, Delbruck, "v2e: From Video Frames to Realistic DVS Events", CVPRW
2021; SensorsINI/v2e, commit cac6384, `v2ecore/emulator.py`): each pixel memorises a log intensity
and sends one event per contrast threshold by which the present one differs from it. Luma is
linear-logarithmic: linear up to 20 of 255, natural log above.

Times are where we differ by default. v2e puts the events of all pixels on one grid of slots per
frame interval, as many as the busiest pixel has events, and a pixel's k-th event into slot k
(`timing="slots"`); simulated streams then pulse with the frame rate. `timing="crossing"` gives each
event the moment at which its own pixel's log intensity, interpolated linearly between the two
frames, crosses the threshold (as ESIM: Rebecq et al., CoRL 2018). Both give the same events per
pixel and frame.
"""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.dvs_kernels import (
    LOOKUP_PER_LOG,
    MAX_INTERVAL_US,
    MAX_SIDE,
    Bounds,
    Hits,
    Pixels,
    Tables,
    place,
    scan_levels,
    scan_logs,
    start_bounds,
)
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError
from egotriad.manifests.events import concatenate
from egotriad.manifests.files import short_hash

__all__ = ["MIN_THRESHOLD_LOG", "DvsConfig", "DvsEmulator", "emulate", "sim_id"]

MIN_THRESHOLD_LOG = 0.001
"""Smallest contrast threshold; black to white is then 5541 events of one pixel."""

Frames: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Frames (n, H, W): 8-bit luma, or natural-log intensity."""

MAX_ABS_LOG = 50.0
"""Largest magnitude of log input; beyond it the frames were not natural logs."""

_BLOCK_PIXELS = 1 << 21  # work on this many at once: what is kept between the two passes is small
_LINEAR_UP_TO = 20  # of 255: v2ecore/emulator_utils.py, lin_log


@dataclass(frozen=True, slots=True, kw_only=True)
class DvsConfig:
    """Parameters of the pixel model.

    Attributes:
        pos_thres: contrast threshold of ON events, natural log units (v2e: 0.2).
        neg_thres: contrast threshold of OFF events, natural log units (v2e: 0.2).
        timing: when events happen: at their own threshold `crossing`, or on v2e's `slots`.
        compat: `v2e` repeats v2e where it is known to be off; needs `timing="slots"`. In the
            noise-free model that is one thing: the interval of the second frame begins at time 0
            instead of at the first frame.
        hdr: frames are float32 natural-log intensity (white 255 = ln 255) instead of 8-bit luma.
    """

    pos_thres: float = 0.2
    neg_thres: float = 0.2
    timing: Literal["crossing", "slots"] = "crossing"
    compat: Literal["none", "v2e"] = "none"
    hdr: bool = False

    def __post_init__(self) -> None:
        for name in ("pos_thres", "neg_thres"):
            _check_thresholds(name, np.asarray(getattr(self, name), np.float64))
        for name, known in (("timing", ("crossing", "slots")), ("compat", ("none", "v2e"))):
            if getattr(self, name) not in known:
                raise UsageError(f"{name}: got {getattr(self, name)!r}, need {' or '.join(known)}")
        if self.compat == "v2e" and self.timing != "slots":
            raise UsageError(
                f"compat: got 'v2e' with timing {self.timing!r}, need timing 'slots', the only one "
                "that v2e has"
            )


def sim_id(config: DvsConfig) -> str:
    """16 hex digits that name the parameters; equal for equal parameters, on any machine."""
    return short_hash({"simulator": "dvs", **asdict(config)})


def emulate(
    frames: Frames,
    times_s: NDArray[np.float64],
    config: DvsConfig,
    *,
    pos_thres_map: NDArray[np.float32] | None = None,
    neg_thres_map: NDArray[np.float32] | None = None,
) -> Events:
    """Events of a whole clip.

    Args:
        frames: (T, H, W) uint8 luma, row 0 = top; with `config.hdr` float32 natural-log intensity.
        times_s: float64 (T,), seconds, increasing by at least a microsecond.
        config: parameters.
        pos_thres_map: float32 (H, W), thresholds per pixel instead of `config.pos_thres`.
        neg_thres_map: float32 (H, W), thresholds per pixel instead of `config.neg_thres`.

    Returns:
        Events in canonical order, their times in int64 microseconds on the clock of `times_s`,
        rounded to the nearest and kept inside their frame interval. The first frame only sets the
        memorised values.

    Raises:
        UsageError: when shapes, dtypes, times or thresholds are not as above.
    """
    if frames.ndim != 3:
        raise UsageError(f"frames: got shape {frames.shape}, need (T, H, W)")
    if times_s.dtype != np.float64:
        raise UsageError(f"times_s: got {times_s.dtype}, need float64 seconds")
    height, width = frames.shape[1:]
    emulator = DvsEmulator(
        config,
        (width, height),
        pos_thres_map=pos_thres_map,
        neg_thres_map=neg_thres_map,
    )
    return emulator._feed(frames, times_s * 1e6)


class DvsEmulator:
    """The emulator as a stream: feed frames in pieces of any length, get their events.

    However a video is cut into pieces, the events of all pieces together are the same. One object
    per recording.

    Args:
        config: parameters.
        size_wh: width and height of the frames, pixels.
        pos_thres_map: float32 (H, W), thresholds per pixel instead of `config.pos_thres`.
        neg_thres_map: float32 (H, W), thresholds per pixel instead of `config.neg_thres`.

    Raises:
        UsageError: when the size or a map is unusable.
    """

    def __init__(
        self,
        config: DvsConfig,
        size_wh: tuple[int, int],
        *,
        pos_thres_map: NDArray[np.float32] | None = None,
        neg_thres_map: NDArray[np.float32] | None = None,
    ) -> None:
        if not all(1 <= side <= MAX_SIDE for side in size_wh):
            raise UsageError(f"size_wh: got {size_wh}, need 1 to {MAX_SIDE} pixels each way")
        self.config = config
        self.size_wh = size_wh
        shape = size_wh[::-1]
        self._pixels = Pixels(
            base=np.empty(shape, np.float64 if config.hdr else np.float32),
            pos=_thresholds("pos_thres", config.pos_thres, pos_thres_map, shape, config.hdr),
            neg=_thresholds("neg_thres", config.neg_thres, neg_thres_map, shape, config.hdr),
        )
        self._bounds = Bounds(low=np.empty(shape, np.uint8), high=np.empty(shape, np.uint8))
        self._tables = _tables()
        self._hits = Hits(*(np.empty(0, dtype) for dtype in "iiff"))
        self._previous: NDArray[Any] | None = None
        self._previous_us = 0.0
        self._interval_start_us = 0.0

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
        block = max(1, _BLOCK_PIXELS // (self.size_wh[0] * self.size_wh[1]))
        parts = [
            self._advance(np.ascontiguousarray(frames[k : k + block]), times_us[k : k + block])
            for k in range(0, len(frames), block)
        ]
        return parts[0] if len(parts) == 1 else concatenate(parts, self.size_wh)

    def _advance(self, frames: NDArray[Any], times_us: NDArray[np.float64]) -> Events:
        previous, new = self._previous, slice(0, None)
        if previous is None:
            self._start(frames[0], float(times_us[0]))
            previous, new = frames[0], slice(1, None)
        self._hits, ends = self._scan(frames[new], previous)
        intervals_us = np.concatenate([[self._interval_start_us], times_us[new]])
        t_us, x, y, p = place(self._hits, ends, intervals_us, self.config.timing == "slots")
        self._previous = frames[-1].copy()
        self._previous_us = float(times_us[-1])
        if len(ends):
            self._interval_start_us = self._previous_us
        return Events(t_us=t_us, x=x, y=y, p=p, size_wh=self.size_wh)

    def _start(self, frame: NDArray[Any], t_us: float) -> None:
        # v2e leaves its previous time at zero after the first frame.
        self._interval_start_us = 0.0 if self.config.compat == "v2e" else t_us
        if self.config.hdr:
            self._pixels.base[:] = frame
        else:
            self._pixels.base[:] = self._tables.log_of_level[frame]
            start_bounds(self._pixels, self._bounds, self._tables)

    def _scan(self, frames: NDArray[Any], previous: NDArray[Any]) -> tuple[Hits, NDArray[np.int64]]:
        if self.config.hdr:
            return scan_logs(frames, previous, self._pixels, self._hits)
        return scan_levels(frames, previous, self._pixels, self._bounds, self._tables, self._hits)

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
        first = self._previous is None
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


def _check_thresholds(name: str, values: NDArray[np.floating]) -> None:
    if not (np.isfinite(values) & (values >= MIN_THRESHOLD_LOG)).all():
        raise UsageError(
            f"{name}: got values from {values.min():g} to {values.max():g}, need "
            f"{MIN_THRESHOLD_LOG} or more (natural log units)"
        )


def _thresholds(
    name: str,
    nominal: float,
    per_pixel: NDArray[np.float32] | None,
    shape: tuple[int, ...],
    hdr: bool,
) -> NDArray[np.float64]:
    """Thresholds of every pixel, in the precision of the state; a map always passes by float32."""
    if per_pixel is None:
        return np.full(shape, nominal, np.float64 if hdr else np.float32)
    if per_pixel.shape != shape:
        raise UsageError(f"{name}_map: got shape {per_pixel.shape}, need {shape} (H, W)")
    _check_thresholds(f"{name}_map", per_pixel)
    return per_pixel.astype(np.float32).astype(np.float64 if hdr else np.float32)


@cache
def _tables() -> Tables:
    """The lin-log curve of 8-bit luma: v2ecore/emulator_utils.py, lin_log (rounded to 1e-8)."""
    level = np.arange(256, dtype=np.float64)
    slope = np.log(_LINEAR_UP_TO) / _LINEAR_UP_TO
    log = np.where(level <= _LINEAR_UP_TO, level * slope, np.log(np.maximum(level, 1.0)))
    log_of_level = (np.round(log * 1e8) / 1e8).astype(np.float32)
    grid = np.arange(int(log_of_level[-1] * LOOKUP_PER_LOG) + 2) / LOOKUP_PER_LOG
    level_of_log = np.searchsorted(log_of_level, grid, side="right") - 1
    log_of_level = np.append(log_of_level, np.float32(np.inf))
    return Tables(log_of_level=log_of_level, level_of_log=level_of_log.astype(np.uint8))
