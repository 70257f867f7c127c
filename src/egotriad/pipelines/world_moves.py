"""The movements of every activity: what a head does in a walk, a nod, a turn, on stairs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from egotriad.pipelines.world_path import Move, Sway

__all__ = [
    "MOVEMENTS",
    "SEAT_DROP_M",
    "SEGMENT_S",
    "STEPS",
    "STEP_RISE_M",
    "Movements",
    "Take",
]

SEGMENT_S = 3.0
"""Length of an activity that has no length of its own."""

SEAT_DROP_M = 0.45
STEP_RISE_M, STEP_LENGTH_M, STEPS = 0.17, 0.28, 3

Movements = list[Move | Sway]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """What an activity's movements depend on.

    Attributes:
        rng: draws the amounts.
        rate: factor on speeds (tempo and wearer together).
        size: factor on amplitudes (wearer).
        heading: yaw in rad when it begins.
        free_m: way until the wall in that direction.
    """

    rng: np.random.Generator
    rate: float
    size: float
    heading: float
    free_m: float

    def forward(self, distance_m: float, duration_s: float, ramp: float = 0.5) -> Movements:
        """A way straight ahead."""
        return [
            Move("x", distance_m * np.cos(self.heading), 0.0, duration_s, ramp),
            Move("y", distance_m * np.sin(self.heading), 0.0, duration_s, ramp),
        ]

    def sideways(self, amplitude_m: float, rate_hz: float, duration_s: float) -> Movements:
        """An oscillation to the left and right."""
        return [
            Sway("x", -amplitude_m * np.sin(self.heading), rate_hz, 0.0, 0.0, duration_s),
            Sway("y", amplitude_m * np.cos(self.heading), rate_hz, 0.0, 0.0, duration_s),
        ]


def _walk(take: Take) -> tuple[Movements, float]:
    speed, step_hz, ramp_s = 1.1 * take.rate, 1.75 * take.rate**0.75, 0.6
    lasts = float(np.clip(take.free_m / speed + ramp_s, 3 * ramp_s, 2.6))
    bob_m = 0.024 * take.size
    return [
        *take.forward(speed * (lasts - ramp_s), lasts, ramp_s / lasts),
        *take.sideways(0.018 * take.size, step_hz / 2, lasts),
        Sway("z", bob_m, step_hz, 0.8, 0.0, lasts),
        Sway("z", 0.1 * bob_m, 2 * step_hz, 0.3, 0.0, lasts),
        Sway("pitch", np.radians(0.9 * take.size), step_hz, 2.0, 0.0, lasts),
        Sway("roll", np.radians(1.1 * take.size), step_hz / 2, 0.5, 0.0, lasts),
    ], lasts


def _turn(take: Take, side: float) -> tuple[Movements, float]:
    lasts = 2.2 / take.rate
    lean = -side * np.radians(2.5)
    return [
        Move("yaw", side * np.radians(take.rng.uniform(70.0, 130.0)), 0.0, lasts),
        Move("roll", lean, 0.0, lasts / 2),
        Move("roll", -lean, lasts / 2, lasts / 2),
        Sway("z", 0.008 * take.size, 1.6 * take.rate**0.5, 0.0, 0.0, lasts),
    ], lasts


def _look(take: Take, side: float) -> tuple[Movements, float]:
    lasts = 1.1 / take.rate
    return [Move("pitch", side * np.radians(take.rng.uniform(28.0, 40.0)), 0.0, lasts)], lasts


def _look_around(take: Take) -> tuple[Movements, float]:
    lasts = 2.4 / take.rate
    angle = take.rng.choice((-1.0, 1.0)) * np.radians(take.rng.uniform(28.0, 40.0)) * take.size
    return [
        Move("yaw", angle, 0.0, 0.27 * lasts),
        Move("yaw", -2 * angle, 0.27 * lasts, 0.46 * lasts),
        Move("yaw", angle, 0.73 * lasts, 0.27 * lasts),
    ], lasts


def _change_seat(take: Take, up: float) -> tuple[Movements, float]:
    lasts = 1.2 / take.rate
    lean = np.radians(-2.5)  # little, or its picture drowns that of the fall
    return [
        Move("z", up * SEAT_DROP_M, 0.0, lasts),
        Move("pitch", lean, 0.0, lasts / 2),
        Move("pitch", -lean, lasts / 2, lasts / 2),
        *take.forward(up * 0.10, lasts),
    ], lasts


def _stairs(take: Take, up: float) -> tuple[Movements, float]:
    step_hz = 1.35 * take.rate
    lasts = STEPS / step_hz
    treads = [Move("z", up * STEP_RISE_M, k / step_hz, 1 / step_hz) for k in range(STEPS)]
    shock_m = 0.002 if up > 0 else 0.006  # going down one drops onto each step
    return [
        *treads,
        *take.forward(min(STEPS * STEP_LENGTH_M, take.free_m), lasts, 0.2),
        *take.sideways(0.02 * take.size, step_hz / 2, lasts),
        Sway("z", shock_m * take.size, 3 * step_hz, 0.0, 0.0, lasts),
        Sway("roll", np.radians(1.6 * take.size), step_hz / 2, 0.5, 0.0, lasts),
    ], lasts


def _rock(take: Take, channel: str, angle_deg: float) -> tuple[Movements, float]:
    # Faster repetitions are smaller, as with real heads.
    angle = np.radians(angle_deg) * take.size / take.rate**0.5
    return [Sway(channel, angle, 2.0 * take.rate, 0.0, 0.0, SEGMENT_S)], SEGMENT_S


def _wash(take: Take) -> tuple[Movements, float]:
    rub_hz = 2.4 * take.rate
    return [
        *take.sideways(0.02 * take.size / take.rate, rub_hz, SEGMENT_S),
        Sway("roll", np.radians(2.5 * take.size), rub_hz, 0.6, 0.0, SEGMENT_S),
    ], SEGMENT_S


def _stir(take: Take) -> tuple[Movements, float]:
    radius, rate_hz = 0.02 * take.size / take.rate**0.5, 1.1 * take.rate
    angle = np.radians(1.2) * take.size / take.rate**0.5
    return [
        Sway("x", radius, rate_hz, 0.0, 0.0, SEGMENT_S),
        Sway("y", radius, rate_hz, np.pi / 2, 0.0, SEGMENT_S),
        # The gaze follows the spoon: 2 cm alone are less than a pixel across the room.
        Sway("yaw", angle, rate_hz, np.pi / 2, 0.0, SEGMENT_S),
        Sway("pitch", angle, rate_hz, 0.0, 0.0, SEGMENT_S),
    ], SEGMENT_S


def _bend(take: Take) -> tuple[Movements, float]:
    lasts = 1.3 / take.rate
    return [
        Move("pitch", np.radians(-48.0) * take.size, 0.0, lasts),
        Move("z", -0.35 * take.size, 0.0, lasts),
        *take.forward(0.22 * take.size, lasts),
    ], lasts


def _stand_still(take: Take) -> tuple[Movements, float]:
    return [], SEGMENT_S


MOVEMENTS: dict[str, Callable[[Take], tuple[Movements, float]]] = {
    "walk": _walk,
    "turn_left": lambda take: _turn(take, 1.0),
    "turn_right": lambda take: _turn(take, -1.0),
    "look_up": lambda take: _look(take, 1.0),
    "look_down": lambda take: _look(take, -1.0),
    "look_around": _look_around,
    "sit_down": lambda take: _change_seat(take, -1.0),
    "stand_up": lambda take: _change_seat(take, 1.0),
    "climb": lambda take: _stairs(take, 1.0),
    "descend": lambda take: _stairs(take, -1.0),
    "nod": lambda take: _rock(take, "pitch", 12.0),
    "shake": lambda take: _rock(take, "yaw", 16.0),
    "wash": _wash,
    "stir": _stir,
    "bend": _bend,
    "stand_still": _stand_still,
}
"""Activity -> its movements, from time 0, and how long they take in seconds."""
