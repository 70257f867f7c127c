"""Frames between the frames of a video, so that little moves from one to the next.

The emulator takes log intensity between two frames as linear. That holds while things move by about
a pixel; a texture that moves further passes over a pixel unseen, and its events are missing or
late. The rule is v2e's (Hu, Liu, Delbruck, CVPRW 2021; SensorsINI/v2e, `v2ecore/slomo.py`): as many
steps as the motion has pixels. We differ: the number is chosen for every interval instead of for a
batch; frames are rendered at the times they are given, not half a step later; the frames of the
video stay as they are, at their own times.

An interval is left as it is where interpolation would invent: longer than `longest_gap_s`, or with
less than `LEAST_MATCHED` of its motion found: a scene cut, a flash, a repetitive texture, motion
too wide for the flow. The emulator then does with it what it does without upsampling.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.interpolate_flow import MIN_SIDE, Motion, MotionEstimator, warp
from egotriad.converters.superslomo import SuperSlomo
from egotriad.converters.video import FrameChunk
from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import sha256_file

__all__ = ["LEAST_MATCHED", "MAX_FACTOR", "UpsampleConfig", "UpsampleTally", "Upsampler"]

MAX_FACTOR = 256
"""Most steps an interval may be cut into, whatever the configuration."""

LEAST_MATCHED = 0.65
"""Share of pixels whose motion must be found (`interpolate_flow.Motion.matched`). Measured: .8 and
more on continuous video, also in head turns of 180 degrees/s at 30 Hz; .6 and less on equal
stripes, where flow makes events worse than none; .3 and less across cuts."""

METHODS = ("none", "linear", "flow", "superslomo")

Render: TypeAlias = Callable[
    [NDArray[np.uint8], NDArray[np.uint8], Motion, NDArray[np.float64]], NDArray[np.uint8]
]
"""Frames (k, H, W) between two frames, given their motion and k fractions of the interval."""

Wanted: TypeAlias = Callable[[int, int], bool]
"""Whether an interval, from a time to another in microseconds, is to be cut into steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsampleConfig:
    """How frames are put between frames.

    Attributes:
        method: `none`; `linear`, a mixture of both frames (next to no effect on events: the
            emulator interpolates so itself); `flow`, along optical flow; `superslomo`, a network.
        factor: steps each interval is cut into, or `auto`: as many as it takes to move no more than
            `step_px` in one.
        step_px: motion allowed in a step with `auto`, pixels (v2e: 1).
        max_factor: most steps with `auto`.
        longest_gap_s: intervals longer than this are left as they are, seconds.
        checkpoint: SuperSloMo39.ckpt or another of its kind, with `superslomo`.
        device: where the network runs; it gives slightly different frames on another.
    """

    method: Literal["none", "linear", "flow", "superslomo"] = "flow"
    factor: int | Literal["auto"] = "auto"
    step_px: float = 1.0
    max_factor: int = 32
    longest_gap_s: float = 0.1
    checkpoint: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method: got {self.method!r}, need one of {', '.join(METHODS)}")
        if self.factor != "auto":
            _check_steps("factor", self.factor, "or 'auto'")
        _check_steps("max_factor", self.max_factor)
        if not 0.1 <= self.step_px <= 100:
            raise UsageError(f"step_px: got {self.step_px}, need 0.1 to 100 pixels")
        if not 0 < self.longest_gap_s <= 10:
            raise UsageError(f"longest_gap_s: got {self.longest_gap_s}, need up to 10 seconds")
        if (self.checkpoint is None) == (self.method == "superslomo"):
            raise UsageError(
                f"checkpoint: got {self.checkpoint} with method {self.method!r}; 'superslomo' "
                "needs the file SuperSloMo39.ckpt (v2e's README says where it is), other methods "
                "take none"
            )
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise UsageError(f"checkpoint: {self.checkpoint}: no such file")
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"device: got {self.device!r}, need 'cpu' or 'cuda'")

    def identity(self) -> dict[str, Any]:
        """What decides the frames, fit for JSON: the checkpoint is named by its SHA-256."""
        if self.method == "none":
            return {"method": "none"}
        facts: dict[str, Any] = {
            "method": self.method,
            "factor": self.factor,
            "longest_gap_s": self.longest_gap_s,
        }
        if self.factor == "auto":
            facts |= {"step_px": self.step_px, "max_factor": self.max_factor}
        if self.checkpoint is not None:
            facts |= {"checkpoint_sha256": sha256_file(self.checkpoint), "device": self.device}
        return facts


@dataclass(slots=True, kw_only=True)
class UpsampleTally:
    """What was done so far, counted in intervals between two frames of the video.

    Attributes:
        intervals: all of them.
        added: frames put between frames.
        gaps: left as they are because they are too long.
        unmatched: left as they are because their motion was not found.
        capped: moved more than `step_px` a step, at `max_factor` steps.
        shortened: cut into fewer steps, because they hold fewer microseconds.
        unwanted: left as they are because nobody asked for more.
    """

    intervals: int = 0
    added: int = 0
    gaps: int = 0
    unmatched: int = 0
    capped: int = 0
    shortened: int = 0
    unwanted: int = 0

    def __str__(self) -> str:
        parts = [f"{self.added} frames added to {self.intervals} intervals"]
        for count, words in (
            (self.gaps, "too long and left as they are"),
            (self.unmatched, "without matching motion (cuts) and left as they are"),
            (self.capped, "at the limit of steps"),
            (self.shortened, "too short for all steps"),
            (self.unwanted, "away from what was asked for and left as they are"),
        ):
            if count:
                parts.append(f"{count} {words}")
        return "; ".join(parts)


class Upsampler:
    """Upsampling as a stream: feed frames in pieces of any length, get them with more in between.

    However a video is cut into pieces, the frames of all pieces together are the same: an interval
    depends on its two frames alone. What is held is one frame, and one interval while it is made.
    One object per recording.

    Args:
        config: what to do.
        size_wh: width and height of the frames, pixels; at least 16 each way unless the method is
            `none`.

    Attributes:
        tally: what was done with the intervals handed out so far.

    Raises:
        UsageError: a size too small, or a device that is not there.
        CheckpointError: a checkpoint that is not SuperSloMo's.
        MissingDependency: `superslomo` without torch.
    """

    def __init__(self, config: UpsampleConfig, size_wh: tuple[int, int]) -> None:
        least = 1 if config.method == "none" else MIN_SIDE
        if min(size_wh) < least:
            raise UsageError(
                f"size_wh: got {size_wh[0]}x{size_wh[1]}, need {least} pixels or more each way for "
                f"upsampling by {config.method!r}"
            )
        self.config = config
        self.size_wh = size_wh
        self.tally = UpsampleTally()
        self._estimate = MotionEstimator()
        self._render = _renderer(config)
        self._last: tuple[NDArray[np.uint8], int] | None = None

    def feed(
        self,
        frames: NDArray[np.uint8],
        t_us: NDArray[np.int64],
        wanted: Wanted | None = None,
    ) -> Iterator[FrameChunk]:
        """The same frames with others in between, up to and including the last of these.

        Args:
            frames: uint8 (n, H, W) luma; n may be zero.
            t_us: int64 (n,), microseconds, strictly increasing, also from one call to the next.
            wanted: which intervals to cut into steps; all of them when not given.

        Returns:
            Chunks of strictly increasing times, one per interval (the frames between, then the one
            at its end) or run of unwanted intervals, made as they are asked for. The video's own
            frames keep their pixels and times; the others are spread evenly between the true times,
            to the nearest microsecond, and show the moment of that microsecond.

        Raises:
            UsageError: when shapes, dtypes or times are not as above.
        """
        self._check(frames, t_us)
        if not len(frames):
            return iter(())
        before = self._last
        self._last = frames[-1].copy(), int(t_us[-1])
        if self.config.method == "none":
            self.tally.intervals += len(frames) - (before is None)
            return iter([FrameChunk(frames, t_us)])
        return self._chunks(frames, t_us, before, wanted)

    def _chunks(
        self,
        frames: NDArray[np.uint8],
        t_us: NDArray[np.int64],
        before: tuple[NDArray[np.uint8], int] | None,
        wanted: Wanted | None,
    ) -> Iterator[FrameChunk]:
        start = 0  # of the frames that have not been handed out
        for k, (frame, time_us) in enumerate(zip(frames, t_us.tolist(), strict=True)):
            if before is not None and (wanted is None or wanted(before[1], time_us)):
                if start < k:
                    yield FrameChunk(frames[start:k], t_us[start:k])
                yield self._interval(before, (frame, time_us))
                start = k + 1
            elif before is not None:
                self.tally.intervals += 1
                self.tally.unwanted += 1
            before = frame, time_us
        if start < len(frames):
            yield FrameChunk(frames[start:], t_us[start:])

    def _interval(
        self, first: tuple[NDArray[np.uint8], int], second: tuple[NDArray[np.uint8], int]
    ) -> FrameChunk:
        """The frames after the first one, up to the second."""
        length_us = second[1] - first[1]
        self.tally.intervals += 1
        motion = self._motion(first[0], second[0], length_us)
        if motion is None:
            return FrameChunk(second[0][None], np.array([second[1]], np.int64))
        factor = self._factor(motion, length_us)
        self.tally.added += factor - 1
        k = np.arange(1, factor, dtype=np.int64)
        offsets_us = (2 * k * length_us + factor) // (2 * factor)  # to the nearest
        between = self._render(first[0], second[0], motion, offsets_us / length_us)
        return FrameChunk(
            np.concatenate([between, second[0][None]]),
            np.append(first[1] + offsets_us, np.int64(second[1])),
        )

    def _motion(
        self, first: NDArray[np.uint8], second: NDArray[np.uint8], length_us: int
    ) -> Motion | None:
        """Motion of an interval, None where the interval is to be left as it is."""
        if length_us > self.config.longest_gap_s * 1e6:
            self.tally.gaps += 1
            return None
        motion = self._estimate(first, second)
        if motion.matched < LEAST_MATCHED:
            self.tally.unmatched += 1
            return None
        return motion

    def _factor(self, motion: Motion, length_us: int) -> int:
        """Steps an interval is cut into, at most one a microsecond."""
        if self.config.factor == "auto":
            factor = max(1, int(np.ceil(motion.extent_px / self.config.step_px)))
            if factor > self.config.max_factor:
                factor = self.config.max_factor
                self.tally.capped += 1
        else:
            factor = self.config.factor
        if factor > length_us:
            self.tally.shortened += 1
        return min(factor, length_us)

    def _check(self, frames: NDArray[np.uint8], t_us: NDArray[np.int64]) -> None:
        """Refuses unusable input before any state changes."""
        width, height = self.size_wh
        if frames.dtype != np.uint8 or frames.shape[1:] != (height, width):
            raise UsageError(
                f"frames: got {frames.dtype} {frames.shape}, need uint8 (n, {height}, {width})"
            )
        if t_us.dtype != np.int64 or t_us.shape != frames.shape[:1]:
            raise UsageError(
                f"t_us: got {t_us.dtype} {t_us.shape} for {len(frames)} frames, need int64 "
                f"({len(frames)},) microseconds"
            )
        times = t_us if self._last is None else np.append(np.int64(self._last[1]), t_us)
        wrong = times[1:] <= times[:-1]
        if wrong.any():
            k = int(wrong.argmax())
            raise UsageError(
                f"frame times: {times[k]} us is followed by {times[k + 1]} us, need rising times; "
                "drop repeated frames, and start a new upsampler where the clock jumps back"
            )


def _check_steps(name: str, steps: int, otherwise: str = "") -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= MAX_FACTOR:
        raise UsageError(f"{name}: got {steps!r}, need 2 to {MAX_FACTOR} {otherwise}".rstrip())


def _renderer(config: UpsampleConfig) -> Render:
    if config.checkpoint is None:
        return warp if config.method == "flow" else _mix
    network = SuperSlomo(config.checkpoint, device=config.device)
    return lambda first, second, motion, fractions: network.between(first, second, fractions)


def _mix(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    motion: Motion,
    fractions: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Each frame weighted by nearness in time; in luma, rounded."""
    late = fractions.astype(np.float32)[:, None, None]
    mixed: NDArray[np.float32] = np.rint(first * (1 - late) + second * late)
    return mixed.astype(np.uint8)
