"""Scenes of the simulated world at a frame rate that no camera has, to upsample towards."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.pipelines.world_motion import CAMERA_POINT
from egotriad.pipelines.world_path import HeadPath, Move, Sway, sample_channels
from egotriad.pipelines.world_room import Room, make_room, render

TRUE_RATE_HZ = 960
SIZE_WH = (346, 260)
Frames = NDArray[np.uint8]
Times = NDArray[np.int64]

SCENES = {
    "slow turn": "10 degrees/s",
    "walk": "1.3 m/s, bobbing",
    "turn": "60 degrees/s",
    "fast turn": "180 degrees/s",
    "shake": "2 Hz, up to 190 degrees/s",
    "pillars": "sideways at 1.5 m/s behind pillars",
    "stripes": "60 degrees/s before equal stripes",
}


def shoot(name: str, seconds: float) -> tuple[Frames, Times]:
    """A scene at the true rate: frames (n, H, W), each pixel the mean of four rays, and times."""
    room, path = stage(name)
    times_s = np.arange(round(seconds * TRUE_RATE_HZ) + 1) / TRUE_RATE_HZ
    positions, rotations = path.pose(times_s, CAMERA_POINT)
    double = (2 * SIZE_WH[0], 2 * SIZE_WH[1])
    frames = np.empty((len(times_s), SIZE_WH[1], SIZE_WH[0]), np.uint8)
    for k in range(len(frames)):
        fine = render(room, positions[k : k + 1], rotations[k : k + 1], double)[0]
        cv2.resize(fine, SIZE_WH, dst=frames[k], interpolation=cv2.INTER_AREA)
    return frames, np.rint(times_s * 1e6).astype(np.int64)


def stage(name: str) -> tuple[Room, HeadPath]:
    """Room and path of a scene."""
    room = make_room(np.random.default_rng(1))
    start = np.array([4.0, 4.0, 1.5, 0.3, 0.0, 0.0])
    bob = [
        Sway("z", 0.03, 1.9, 0.0, -1, 4),
        Sway("pitch", 0.02, 1.9, 0.7, -1, 4),
        Sway("yaw", 0.02, 0.95, 0.3, -1, 4),
    ]
    moves: list[Move | Sway]
    turns = {"slow turn": 10, "turn": 60, "fast turn": 180, "stripes": 60}
    if name in turns:
        # Ramps of a tenth: nine tenths of the average speed's time at full speed.
        moves = [Move("yaw", np.radians(turns[name]) * 2.5 * 0.9, -0.5, 2.5, 0.1), *bob]
    elif name == "walk":
        moves = [Move("x", 2.8, -0.5, 2.5, 0.1), Move("y", 0.9, -0.5, 2.5, 0.1), *bob]
    elif name == "shake":
        moves = [Sway("yaw", np.radians(15), 2.0, 0.0, -1, 4)]
    else:
        start[:4] = 4.2, 3.0, 1.5, 0.0
        moves = [Move("y", 3.4, -0.5, 2.5, 0.1)]
        pillars = [[6, 3 + 0.9 * k, 0, 6.15, 3.2 + 0.9 * k, 3] for k in range(5)]
        greys = np.array([60, 170, 90, 180, 75], np.float32)
        room = replace(room, boxes=np.array(pillars, np.float32), greys=greys)
    if name == "stripes":
        stripes = np.where(np.arange(256) // 4 % 2, 170, 70).astype(np.uint8)
        room = replace(room, textures=np.broadcast_to(stripes, room.textures.shape).copy())
    times_s = np.arange(-72, 240) / 120
    return room, HeadPath(times_s, sample_channels(start, moves, times_s))
