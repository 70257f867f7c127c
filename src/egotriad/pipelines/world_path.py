"""A head's path with six degrees of freedom: superposed movements, a spline, exact derivatives.

World axes: x, y along the room, z up, metres. Head axes: x forward, y left, z up, origin at the
neck, about which the head turns. A path has six channels: x y z of the neck and yaw (left is
positive), pitch (up), roll (to the right), all angles in rad; R = Rz(yaw) Ry(-pitch) Rx(roll) takes
head axes to world axes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

__all__ = ["CHANNELS", "HeadPath", "Motion", "Move", "Sway", "sample_channels"]

CHANNELS = ("x", "y", "z", "yaw", "pitch", "roll")

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Move:
    """A lasting change of one channel, with smooth start and stop.

    Attributes:
        channel: name of the channel.
        delta: total change, m or rad.
        start_s, duration_s: when.
        ramp: share of the duration spent speeding up, and again slowing down, at most 0.5; between
            the ramps the speed is constant.
    """

    channel: str
    delta: float
    start_s: float
    duration_s: float
    ramp: float = 0.5

    def __call__(self, t_s: Array) -> Array:
        """Contribution to the channel at times (n,)."""
        u = np.clip((t_s - self.start_s) / self.duration_s, 0.0, 1.0)
        late = u > 0.5
        side = np.where(late, 1.0 - u, u)  # the second half mirrors the first
        way = np.where(side < self.ramp, 0.0, side - self.ramp)
        way = way + self.ramp * _speed_up(np.minimum(side / self.ramp, 1.0))
        way = way / (1.0 - self.ramp)
        return self.delta * np.where(late, 1.0 - way, way)


def _speed_up(u: Array) -> Array:
    """Way made at u in [0, 1] while the speed follows 10 u^3 - 15 u^4 + 6 u^5 (minimum jerk)."""
    return u**4 * (2.5 + u * (u - 3.0))


@dataclass(frozen=True, slots=True)
class Sway:
    """An oscillation of one channel that swells in and dies out smoothly.

    Attributes:
        channel: name of the channel.
        amplitude: m or rad.
        rate_hz, phase: of the sine; the phase, in rad, is that at `start_s`.
        start_s, duration_s: when.
        ramp_s: time to swell, and to die out.
    """

    channel: str
    amplitude: float
    rate_hz: float
    phase: float
    start_s: float
    duration_s: float
    ramp_s: float = 0.5

    def __call__(self, t_s: Array) -> Array:
        """Contribution to the channel at times (n,)."""
        since = t_s - self.start_s
        inside = np.minimum(since, self.duration_s - since)
        u = np.clip(inside / self.ramp_s, 0.0, 1.0)
        envelope = u**3 * (10.0 + u * (6.0 * u - 15.0))
        return self.amplitude * envelope * np.sin(2 * np.pi * self.rate_hz * since + self.phase)


def sample_channels(start: Array, movements: Iterable[Move | Sway], times_s: Array) -> Array:
    """All six channels, (6, n), of a head that begins at `start` (6,) and makes `movements`."""
    channels = np.repeat(start[:, None], len(times_s), axis=1)
    for movement in movements:
        channels[CHANNELS.index(movement.channel)] += movement(times_s)
    return channels


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Motion:
    """How a point fixed to the head moves, at n times.

    Attributes:
        position: (n, 3) m, world axes.
        acceleration: (n, 3) m/s^2, world axes, without gravity.
        rotation: (n, 3, 3), takes head axes to world axes.
        angular_velocity: (n, 3) rad/s, head axes.
    """

    position: Array
    acceleration: Array
    rotation: Array
    angular_velocity: Array


class HeadPath:
    """A quintic spline through samples of the six channels.

    Args:
        times_s: (n,) increasing.
        channels: (6, n).
    """

    def __init__(self, times_s: Array, channels: Array) -> None:
        self._value = make_interp_spline(times_s, channels.T, k=5)
        self._rate = self._value.derivative(1)
        self._change = self._value.derivative(2)
        self.start_s, self.end_s = float(times_s[0]), float(times_s[-1])

    def pose(self, t_s: Array, point: Array) -> tuple[Array, Array]:
        """Position (n, 3) of a point given in head axes (3,), and head rotation (n, 3, 3)."""
        value = self._value(t_s)
        rotation = _rotation(*value[:, 3:].T)
        return value[:, :3] + rotation @ point, rotation

    def motion(self, t_s: Array, point: Array) -> Motion:
        """Exact motion of a point given in head axes (3,) at times (n,) inside the path.

        The derivatives are the spline's own; a = a_neck + R (alpha x l + omega x (omega x l)).
        """
        value, rate, change = self._value(t_s), self._rate(t_s), self._change(t_s)
        rotation = _rotation(*value[:, 3:].T)
        omega, alpha = _angular(value[:, 3:], rate[:, 3:], change[:, 3:])
        of_rotation = np.cross(alpha, point) + np.cross(omega, np.cross(omega, point))
        return Motion(
            position=value[:, :3] + rotation @ point,
            acceleration=change[:, :3] + np.einsum("nij,nj->ni", rotation, of_rotation),
            rotation=rotation,
            angular_velocity=omega,
        )


def _rotation(yaw: Array, pitch: Array, roll: Array) -> Array:
    """R = Rz(yaw) Ry(-pitch) Rx(roll), (n, 3, 3)."""
    cz, sz, cy, sy, cx, sx = (f(angle) for angle in (yaw, -pitch, roll) for f in (np.cos, np.sin))
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _angular(angles: Array, rates: Array, changes: Array) -> tuple[Array, Array]:
    """Angular velocity and acceleration (n, 3) in head axes, from yaw pitch roll (n, 3).

    The textbook relations of yaw (psi), pitch (theta = -pitch) and roll (phi), and their time
    derivative.
    """
    flip = np.array([1.0, -1.0, 1.0])
    _, theta, phi = (angles * flip).T
    d_psi, d_theta, d_phi = (rates * flip).T
    dd_psi, dd_theta, dd_phi = (changes * flip).T
    st, ct, sp, cp = np.sin(theta), np.cos(theta), np.sin(phi), np.cos(phi)
    omega = [
        d_phi - d_psi * st,
        d_theta * cp + d_psi * ct * sp,
        -d_theta * sp + d_psi * ct * cp,
    ]
    alpha = [
        dd_phi - dd_psi * st - d_psi * d_theta * ct,
        dd_theta * cp + dd_psi * ct * sp + d_phi * omega[2] - d_psi * d_theta * st * sp,
        -dd_theta * sp + dd_psi * ct * cp - d_phi * omega[1] - d_psi * d_theta * st * cp,
    ]
    return np.stack(omega, axis=1), np.stack(alpha, axis=1)
