"""What happens in a simulated recording and how it is narrated: wearers, scripts, texts."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.pipelines.world_activities import (
    ACTIVITIES,
    OBJECT_PRIOR,
    PHRASE_PRIOR,
    TEMPO_PRIOR,
    TEMPOS,
)

__all__ = ["Beat", "Script", "Wearer", "generator", "make_wearer", "narrate", "write_scripts"]

TOP_LEVEL = 2
"""Stairs join the levels 0 .. TOP_LEVEL."""

FIRST_SITTING = 0.15
"""Share of recordings that begin seated, so that people stand up as often as they sit down."""

CONCENTRATION = 6.0
"""Of the Dirichlet distribution of a wearer's wording around the common one."""


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random generator of its own for every purpose, wearer and recording of a world."""
    word = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng((seed, word, *numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wearer:
    """How one person moves, speaks and wears the camera.

    Attributes:
        speed: factor on the speed of everything.
        amplitude: factor on the size of movements.
        eye_height_m: of the camera over the floor, standing upright.
        mount_rotvec: (3,) rotation vector in rad that takes IMU axes to head axes.
        accel_bias, gyro_bias: (3,) constant part of the bias, m/s^2 and rad/s, IMU axes.
        phrase_shares: activity -> shares of its phrases; object_shares of its objects.
        tempo_shares: tempo -> shares of its words.
    """

    speed: float
    amplitude: float
    eye_height_m: float
    mount_rotvec: NDArray[np.float64]
    accel_bias: NDArray[np.float64]
    gyro_bias: NDArray[np.float64]
    phrase_shares: dict[str, NDArray[np.float64]]
    object_shares: dict[str, NDArray[np.float64]]
    tempo_shares: dict[str, NDArray[np.float64]]


def make_wearer(rng: np.random.Generator) -> Wearer:
    """A wearer drawn at random.

    The mount's tilt has a standard deviation of 4 degrees an axis; biases of 0.05 m/s^2 and
    0.01 rad/s are usual for uncalibrated consumer parts.
    """

    def shares(prior: tuple[float, ...]) -> NDArray[np.float64]:
        return rng.dirichlet(CONCENTRATION * np.array(prior))

    return Wearer(
        speed=rng.uniform(0.88, 1.14),
        amplitude=rng.uniform(0.85, 1.20),
        eye_height_m=rng.uniform(1.50, 1.75),
        mount_rotvec=np.radians(4.0) * rng.standard_normal(3),
        accel_bias=0.05 * rng.standard_normal(3),
        gyro_bias=0.01 * rng.standard_normal(3),
        phrase_shares={key: shares(PHRASE_PRIOR) for key in ACTIVITIES},
        object_shares={key: shares(OBJECT_PRIOR) for key, a in ACTIVITIES.items() if a.objects},
        tempo_shares={key: shares(TEMPO_PRIOR) for key, t in TEMPOS.items() if t.words},
    )


@dataclass(frozen=True, slots=True)
class Beat:
    """One entry of a script: an activity and the tempo it is done in (keys)."""

    activity: str
    tempo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a recording shows, and the state it begins in."""

    sitting: bool
    level: int
    beats: tuple[Beat, ...]


def write_scripts(rng: np.random.Generator, *, recordings: int, beats: int) -> list[Script]:
    """The scripts of all recordings of one wearer.

    Each next activity is drawn among those possible in the present state (sitting or standing,
    level of the stairs) that are least used, themselves and the best they lead to together: a
    wearer does not stay seated while what can be done only standing waits. Use is counted over all
    the wearer's recordings.
    """
    used = Counter(dict.fromkeys(ACTIVITIES, 0))
    scripts = []
    for _ in range(recordings):
        sitting = first_sitting = bool(rng.random() < FIRST_SITTING)
        level = first_level = int(rng.integers(TOP_LEVEL + 1))
        lines: list[Beat] = []
        for _ in range(beats):
            key = _least_used(rng, used, sitting, level)
            used[key] += 1
            lines.append(Beat(key, _tempo(rng, key)))
            sitting, level = after(key, sitting, level)
        scripts.append(Script(sitting=first_sitting, level=first_level, beats=tuple(lines)))
    return scripts


def possible(sitting: bool, level: int) -> list[str]:
    """Activities that can be done in this state."""
    return [
        key
        for key, activity in ACTIVITIES.items()
        if (activity.sitting if sitting else activity.standing)
        and 0 <= level + activity.level_change <= TOP_LEVEL
    ]


def after(activity: str, sitting: bool, level: int) -> tuple[bool, int]:
    """State (sitting, level) an activity leaves behind."""
    sitting = {"sit_down": True, "stand_up": False}.get(activity, sitting)
    return sitting, level + ACTIVITIES[activity].level_change


def _least_used(rng: np.random.Generator, used: Counter[str], sitting: bool, level: int) -> str:
    def use(key: str) -> int:
        return used[key] + min(used[later] for later in possible(*after(key, sitting, level)))

    uses = {key: use(key) for key in possible(sitting, level)}
    least = min(uses.values())
    return str(rng.choice([key for key, value in uses.items() if value == least]))


def _tempo(rng: np.random.Generator, activity: str) -> str:
    return str(rng.choice(list(TEMPOS))) if ACTIVITIES[activity].paced else "normal"


def narrate(rng: np.random.Generator, wearer: Wearer, beat: Beat) -> str:
    """A narration in the form Ego4D has, such as `#C C washes the plate slowly.`."""
    activity, words = ACTIVITIES[beat.activity], TEMPOS[beat.tempo].words
    phrase = activity.phrases[_draw(rng, wearer.phrase_shares[beat.activity])]
    if activity.objects:
        thing = activity.objects[_draw(rng, wearer.object_shares[beat.activity])]
        phrase = phrase.format(thing)
    if words:
        phrase += " " + words[_draw(rng, wearer.tempo_shares[beat.tempo])]
    return f"#C C {phrase}."


def _draw(rng: np.random.Generator, shares: NDArray[np.float64]) -> int:
    return int(rng.choice(len(shares), p=shares))
