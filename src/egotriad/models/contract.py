"""`EncoderContract`: what an IMU encoder takes and gives, and the checks in front of it.

`clip -> prepare -> (6, T) or (T, 6); (B, ...) -> require -> encoder -> (B, tokens, d)`
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egotriad.converters.imu_presets import ImuPreset
from egotriad.converters.imu_units import GRAVITY
from egotriad.manifests import Clip, Imu
from egotriad.manifests.errors import ClipRejected, UsageError, located

__all__ = ["EncoderContract", "check_units"]

FASTEST_GYRO = 34.9
"""rad/s: full scale of a 2,000 deg/s gyroscope; no wearer turns like that for half a clip."""
UNITS = {
    "none": "m/s^2 with gravity, rad/s",
    "accel / 9.8": "9.8 m/s^2 with gravity, rad/s",
    "z-score": "deviations of each channel over the window",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderContract:
    """The view of a clip that goes in, and the number of feature vectors that come out.

    Attributes:
        preset: the view: rate, samples, layout, scaling, and how the rate is changed.
        tokens: K, feature vectors of a window of the preset's length.
        shortest, longest: samples that the modules can work on; None = the preset's, and as
            `longest` infinity = any number. Other lengths than the preset's may give another K.
    """

    preset: ImuPreset
    tokens: int
    shortest: int | None = None
    longest: float | None = None

    @property
    def rate_hz(self) -> float:
        """Sample rate."""
        return self.preset.rate_hz

    @property
    def samples(self) -> int:
        """T, samples per window."""
        return self.preset.samples

    @property
    def window_us(self) -> int:
        """Length of the window in microseconds."""
        return self.preset.window_us

    @property
    def units(self) -> str:
        """Units of what goes in."""
        return UNITS[self.preset.scaling]

    @property
    def tokens_per_s(self) -> float:
        """Feature vectors per second of IMU."""
        return self.tokens / (self.window_us * 1e-6)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one window: (6, T) or (T, 6)."""
        return (self.samples, 6) if self.time_axis == 1 else (6, self.samples)

    @property
    def time_axis(self) -> int:
        """Axis of time in a batch: 2 of (B, 6, T), 1 of (B, T, 6)."""
        return 1 if self.preset.layout == "(T, 6)" else 2

    def prepare(self, clip: Clip, *, start_us: int | None = None) -> Tensor:
        """The encoder's input, float32 of `shape`.

        Args:
            clip: with its IMU.
            start_us: start of the window relative to the clip; None takes the clip's middle.

        Raises:
            ClipRejected: `no-imu`, `imu-short` or `imu-gap` (see `ImuPreset`); `imu-nan`, when
                samples that count as valid are not finite; `imu-units` (see `check_units`).
            UsageError: when the preset's rate cannot come from the clip's.
        """
        with located(clip.window_id):
            if clip.imu is None:
                raise ClipRejected(
                    "no-imu",
                    f"no IMU, need {self.window_us * 1e-6:g} s of it ({self.samples} samples at "
                    f"{self.rate_hz:g} Hz for {self.preset.name})",
                )
            window = self.preset(clip.imu, start_us=start_us)
            broken = int((~np.isfinite(window)).sum())
            if broken:
                raise ClipRejected(
                    "imu-nan",
                    f"{broken} of {window.size} values of the window for {self.preset.name} are "
                    "NaN or infinite though marked valid, need none; build the shards again",
                )
            check_units(clip.imu)
        return torch.from_numpy(window)

    def require(self, inputs: Tensor) -> None:
        """Nothing when a batch of windows has a shape that the encoder can take.

        Raises:
            UsageError: saying what may have happened.
        """
        shortest = self.shortest or self.samples
        longest = self.longest or self.samples
        got = tuple(inputs.shape)
        channels = 3 - self.time_axis
        if len(got) == 3 and got[channels] == 6 and shortest <= got[self.time_axis] <= longest:
            return
        if len(got) == 3 and got[self.time_axis] == 6:
            hint = f"time and channels look swapped, need {self.preset.layout}"
        elif len(got) == 3 and got[channels] == 6:
            rate_hz = got[self.time_axis] / (self.window_us * 1e-6)
            hint = (
                f"T must be {_between(shortest, longest)}; these are {rate_hz:g} Hz if they are "
                f"{self.window_us * 1e-6:g} s"
            )
        else:
            hint = "rows ax ay az gx gy gz and a batch axis"
        raise UsageError(
            f"{self.preset.name}: got a batch of shape {got}, need (B, {self.shape[0]}, "
            f"{self.shape[1]}) at {self.rate_hz:g} Hz: {hint}; the contract's prepare(clip) gives "
            "one window"
        )


def _between(shortest: int, longest: float) -> str:
    if longest == shortest:
        return str(shortest)
    return f"{shortest} or more" if longest == float("inf") else f"{shortest} to {longest}"


def check_units(imu: Imu) -> None:
    """Nothing when an IMU can be in m/s^2 with gravity and rad/s, accelerations first.

    The median norm of a worn accelerometer lies near gravity, or above it: 8.6 to 11 m/s^2 on
    waists, backs and feet, up to 28 over 5 s of exercise on a wrist. Here it may be half of gravity
    to 8 times. Readings of exactly 0 pass: no sensor gives them, they are an evaluation's control.

    Raises:
        ClipRejected: `imu-units`, naming the unit or order that it looks like.
    """
    data = imu.data[:, imu.valid & np.isfinite(imu.data).all(axis=0)]
    if not data.any():
        return
    accel, gyro = (float(np.median(np.linalg.norm(rows, axis=0))) for rows in (data[:3], data[3:]))
    if not GRAVITY / 2 < accel < GRAVITY * 8:
        raise ClipRejected(
            "imu-units",
            f"the accelerometer's median norm is {accel:.3g}, need about {GRAVITY:.3g} m/s^2 "
            f"(gravity included): {_guess(accel, gyro)}; correct it and build the shards again",
        )
    if gyro > FASTEST_GYRO:
        raise ClipRejected(
            "imu-units",
            f"the gyroscope's median norm is {gyro:.3g}, need rad/s (below {FASTEST_GYRO}): it "
            "looks like deg/s; correct it and build the shards again",
        )


def _guess(accel: float, gyro: float) -> str:
    """What accelerations of that size may be."""
    if GRAVITY / 2 < gyro < GRAVITY * 2:
        return "the gyroscope's rows look like it, so the rows may be swapped"
    for unit, gravity in (("g", 1.0), ("mg", 1e3)):
        if gravity / 2 < accel < gravity * 2:
            return f"it looks like {unit}"
    return "another unit, or gravity was removed"
