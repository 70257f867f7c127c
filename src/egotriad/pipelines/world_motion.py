"""From a script to a head's path: activities one after the other, and the way between them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from egotriad.pipelines.world_activities import ACTIVITIES, TEMPOS
from egotriad.pipelines.world_moves import (
    MOVEMENTS,
    SEAT_DROP_M,
    SEGMENT_S,
    STEP_RISE_M,
    STEPS,
    Movements,
    Take,
)
from egotriad.pipelines.world_path import CHANNELS, Array, HeadPath, Move, Sway, sample_channels
from egotriad.pipelines.world_script import Beat, Script, Wearer, after

__all__ = ["CAMERA_POINT", "Choreography", "Segment", "choreograph"]

CAMERA_POINT = np.array([0.09, 0.0, 0.11])
"""Where the camera sits, in head axes from the neck, m."""

PATH_RATE_HZ = 120.0
LEAD_S = 1.5
MARGIN_S = 0.5
"""Seconds the path goes on before and after the recording, for the IMU's first and last samples."""

WALL_MARGIN_M = 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One activity in time.

    `start_s .. end_s` is the activity, `motion_start_s .. motion_end_s` its movement, which lies in
    the middle of it; between segments the wearer turns to what comes next.
    """

    beat: Beat
    start_s: float
    end_s: float
    motion_start_s: float
    motion_end_s: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Choreography:
    """A recording's path, which covers 0 .. duration_s and half a second around, and its parts."""

    path: HeadPath
    segments: tuple[Segment, ...]
    duration_s: float


def choreograph(
    script: Script, wearer: Wearer, room_size_m: tuple[float, float], rng: np.random.Generator
) -> Choreography:
    """Lays a script out in time and space.

    Each activity lasts 3 s, or as long as its movement takes; 0.6-1.2 s between two of them
    (more for wide turns) bring head and body to where the next begins. Postural sway never stops.

    Args:
        script: what happens.
        wearer: who does it.
        room_size_m: length and width of the room; the wearer keeps 1.4 m off the walls.
        rng: draws everything left open.
    """
    state = np.zeros(6)
    state[:2] = rng.uniform(0.35, 0.65, 2) * room_size_m
    state[2] = _upright_z(wearer, script.sitting, script.level)
    state[3] = rng.uniform(-np.pi, np.pi)
    start = state
    movements: Movements = []
    segments: list[Segment] = []
    sitting, level, now = script.sitting, script.level, LEAD_S
    for beat in script.beats:
        upright_z = _upright_z(wearer, sitting, level)
        turning, free_m = _reorient(beat, state, upright_z, room_size_m, rng)
        movements += _shift(turning, now)
        state = _moved(state, turning)
        now += turning[0].duration_s
        take = Take(
            rng=rng,
            rate=TEMPOS[beat.tempo].factor * wearer.speed,
            size=wearer.amplitude,
            heading=float(state[3]),
            free_m=free_m,
        )
        moves, lasts = MOVEMENTS[beat.activity](take)
        segments.append(_segment(beat, now, lasts))
        movements += _shift(moves, segments[-1].motion_start_s)
        state = _moved(state, moves)
        sitting, level = after(beat.activity, sitting, level)
        now = segments[-1].end_s
    duration = now + LEAD_S
    movements += _postural_sway(rng, duration)
    first, last = (round(t * PATH_RATE_HZ) for t in (-MARGIN_S, duration + 2 * MARGIN_S))
    times = np.arange(first, last) / PATH_RATE_HZ
    path = HeadPath(times, sample_channels(start, movements, times))
    return Choreography(path=path, segments=tuple(segments), duration_s=duration)


def _segment(beat: Beat, start_s: float, lasts_s: float) -> Segment:
    wait = max(SEGMENT_S - lasts_s, 0.0) / 2
    return Segment(
        beat=beat,
        start_s=start_s,
        end_s=start_s + lasts_s + 2 * wait,
        motion_start_s=start_s + wait,
        motion_end_s=start_s + wait + lasts_s,
    )


def _upright_z(wearer: Wearer, sitting: bool, level: int) -> float:
    """Height of the neck, sitting or standing upright."""
    standing = wearer.eye_height_m - CAMERA_POINT[2] + level * STEPS * STEP_RISE_M
    return float(standing - SEAT_DROP_M * sitting)


def _shift(movements: Iterable[Move | Sway], by_s: float) -> Movements:
    return [replace(movement, start_s=movement.start_s + by_s) for movement in movements]


def _moved(state: Array, movements: Iterable[Move | Sway]) -> Array:
    """Where moves lead from `state`; sways lead nowhere."""
    state = state.copy()
    for movement in movements:
        if isinstance(movement, Move):
            state[CHANNELS.index(movement.channel)] += movement.delta
    return state


def _reorient(
    beat: Beat,
    state: Array,
    upright_z: float,
    room_size_m: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[list[Move], float]:
    """Moves, all from time 0 and equally long, to a free direction, upright, with the gaze needed.

    Returns:
        The moves, and the free way in that direction in m.
    """
    travels = beat.activity == "walk" or ACTIVITIES[beat.activity].level_change
    turn, free_m = _free_turn(state, 3.0 if travels else 1.0, room_size_m, rng)
    duration = max(rng.uniform(0.6, 1.2), abs(turn) / np.radians(120.0))
    gaze = np.radians(ACTIVITIES[beat.activity].gaze_deg)
    return [
        Move("yaw", turn, 0.0, duration),
        Move("pitch", gaze - state[4], 0.0, duration),
        Move("roll", -state[5], 0.0, duration),
        Move("z", upright_z - state[2], 0.0, duration),
    ], free_m


def _free_turn(
    state: Array, need_m: float, room_size_m: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float]:
    """Least turn (rad) that has `need_m` of free way before it, else that to the longest way."""
    ways = []
    aside = rng.normal(0.0, 25.0)
    for step_deg in (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180):
        turn = np.radians(aside + step_deg)
        free_m = _free_way(state, state[3] + turn, room_size_m)
        if free_m >= need_m:
            return float(turn), free_m
        ways.append((free_m, float(turn)))
    free_m, turn = max(ways)
    return turn, free_m


def _free_way(state: Array, heading: float, room_size_m: tuple[float, float]) -> float:
    way = np.inf
    for place, side, size in zip(
        state[:2], (np.cos(heading), np.sin(heading)), room_size_m, strict=True
    ):
        if abs(side) > 1e-9:
            limit = size - WALL_MARGIN_M if side > 0 else WALL_MARGIN_M
            way = min(way, (limit - place) / side)
    return max(float(way), 0.0)


def _postural_sway(rng: np.random.Generator, duration_s: float) -> Movements:
    """The unrest of a body that stands still: a few millimetres, a few tenths of a degree."""
    return [
        Sway(
            channel,
            amplitude=rng.uniform(0.5, 1.5) * (0.0015 if channel in ("x", "y", "z") else 0.0025),
            rate_hz=rng.uniform(0.15, 1.2),
            phase=rng.uniform(0, 2 * np.pi),
            start_s=-2 * MARGIN_S,
            duration_s=duration_s + 4 * MARGIN_S,
        )
        for channel in CHANNELS
        for _ in range(3)
    ]
