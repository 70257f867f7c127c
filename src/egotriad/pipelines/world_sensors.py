"""The IMU on a wearer's head: exact inertial quantities of the path, noise, and a clock of its own.

IMU axes are the head's (x forward, y left, z up) turned by the wearer's mount; the sensor sits a
few centimetres beside the camera.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from egotriad.manifests.errors import UsageError
from egotriad.pipelines.world_motion import CAMERA_POINT
from egotriad.pipelines.world_path import Array, HeadPath
from egotriad.pipelines.world_script import Wearer

__all__ = [
    "GRAVITY",
    "IMU_POINT",
    "RATE_HZ",
    "Clock",
    "ClockFaults",
    "draw_biases",
    "draw_clock",
    "draw_noise",
    "ideal_imu",
]

GRAVITY = 9.81
RATE_HZ = 197.45
"""As measured on a GoPro MAX, which names its rate 200 Hz."""

IMU_POINT = CAMERA_POINT + np.array([-0.03, 0.06, -0.02])
"""Where the IMU sits, in head axes from the neck, m."""

# Typical of a good consumer MEMS part: the values of the ADIS16448 in the EuRoC MAV data set
# (Burri et al., IJRR 2016, imu0/sensor.yaml).
ACCEL_NOISE = 2.0e-3  # m/s^2/sqrt(Hz)
ACCEL_WALK = 3.0e-3  # m/s^3/sqrt(Hz)
GYRO_NOISE = 1.6968e-4  # rad/s/sqrt(Hz)
GYRO_WALK = 1.9393e-5  # rad/s^2/sqrt(Hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFaults:
    """What may be wrong with the IMU's time stamps; the default is nothing.

    Attributes:
        offset_s: added to every stamp.
        drift_ppm: the stamps run too fast by so many parts per million.
        gaps: number of stretches of 0.2-0.8 s without samples.
        back_steps: how often the stamps jump back by 0.1-0.5 s, and stay behind.
    """

    offset_s: float = 0.0
    drift_ppm: float = 0.0
    gaps: int = 0
    back_steps: int = 0

    def __post_init__(self) -> None:
        if not abs(self.offset_s) <= 60 or not abs(self.drift_ppm) <= 100_000:
            raise UsageError(
                f"IMU clock: got offset {self.offset_s} s and drift {self.drift_ppm} ppm, need at "
                "most 60 s and 100000 ppm either way"
            )
        if not (0 <= self.gaps <= 20 and 0 <= self.back_steps <= 20):
            raise UsageError(
                f"IMU clock: got {self.gaps} gaps and {self.back_steps} back-steps, need 0 to 20"
            )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Clock:
    """True times and time stamps of a recording's IMU samples.

    Attributes:
        true_s: (n,) when each sample was taken.
        stamp_s: (n,) what is written beside it.
        gaps_s: (g, 2) true start and end of each gap.
        back_steps_s: (b, 2) true time of each back-step, and by how much the stamps fall.
    """

    true_s: Array
    stamp_s: Array
    gaps_s: Array
    back_steps_s: Array


def draw_clock(duration_s: float, faults: ClockFaults, rng: np.random.Generator) -> Clock:
    """Samples at 197.45 Hz from just before 0 to just after `duration_s`, with stamps.

    stamp = true * (1 + drift) + offset - all back-steps so far.
    """
    first = -rng.random() / RATE_HZ
    true = first + np.arange(np.ceil((duration_s - first) * RATE_HZ) + 1) / RATE_HZ
    starts = np.sort(rng.uniform(0.1, 0.9, faults.gaps)) * duration_s
    gaps = np.stack([starts, starts + rng.uniform(0.2, 0.8, faults.gaps)], axis=1)
    moments = np.sort(rng.uniform(0.1, 0.9, faults.back_steps)) * duration_s
    back_steps = np.stack([moments, rng.uniform(0.1, 0.5, faults.back_steps)], axis=1)
    for start, end in gaps:
        true = true[(true < start) | (true >= end)]
    stamp = true * (1 + faults.drift_ppm * 1e-6) + faults.offset_s
    for moment, step in back_steps:
        stamp = stamp - step * (true >= moment)
    return Clock(true_s=true, stamp_s=stamp, gaps_s=gaps, back_steps_s=back_steps)


def ideal_imu(path: HeadPath, wearer: Wearer, times_s: Array) -> tuple[Array, Array]:
    """Noise-free accelerometer (n, 3) in m/s^2 and gyroscope (n, 3) in rad/s, IMU axes.

    The accelerometer feels R^T (a + g): at rest, 9.81 m/s^2 upwards.
    """
    motion = path.motion(times_s, IMU_POINT)
    felt = motion.acceleration + np.array([0.0, 0.0, GRAVITY])
    mount = Rotation.from_rotvec(wearer.mount_rotvec).as_matrix()
    accel = np.einsum("nji,nj->ni", motion.rotation, felt) @ mount
    return accel, motion.angular_velocity @ mount


def draw_biases(wearer: Wearer, samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Bias of accelerometer and gyroscope, (n, 3) each: the wearer's constant and a random walk.

    A walk of density s changes by s / sqrt(rate) a sample (standard deviation).
    """
    accel, gyro = (
        bias + np.cumsum(walk / np.sqrt(RATE_HZ) * rng.standard_normal((samples, 3)), axis=0)
        for bias, walk in ((wearer.accel_bias, ACCEL_WALK), (wearer.gyro_bias, GYRO_WALK))
    )
    return accel, gyro


def draw_noise(samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """White noise of accelerometer and gyroscope, (n, 3) each.

    A noise of density s has the standard deviation s * sqrt(rate) in discrete samples.
    """
    accel, gyro = (
        density * np.sqrt(RATE_HZ) * rng.standard_normal((samples, 3))
        for density in (ACCEL_NOISE, GYRO_NOISE)
    )
    return accel, gyro
