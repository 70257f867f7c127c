"""Rooms and their pictures: ray-cast perspective of a textured box with furniture along its walls.

World axes as in `world_path`. Camera axes x right, y down, z forward (OpenCV's); the camera looks
along the head's x. A pinhole without distortion, global shutter, principal point in the middle of
the picture, 90 degrees between its left and its right edge.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled

__all__ = ["HEAD_FROM_CAMERA", "Room", "focal_px", "make_room", "render"]

HEAD_FROM_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Takes camera axes to head axes (x forward, y left, z up)."""

TEXELS = 256
TEXTURE_MEAN = 120.0
TEXTURE_NOISE = ((18.0, 0.10), (25.0, 0.35))
"""Contrast in grey levels and standard deviation of the Gaussian in m, of each layer of noise."""

WALLS = 6
"""Faces of the shell come first, then three per box."""

FURNITURE = 5
SHADES = (0.80, 0.65, 1.0)
"""Brightness of furniture faces that are perpendicular to x, y, z."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Room:
    """A box-shaped room.

    Attributes:
        size_m: length (x), width (y), height (z).
        textures: uint8 (6, 256, 256), of the faces x = 0, x = length, y = 0, y = width, floor,
            ceiling; rows and columns run along the face's two axes in the order x, y, z, the first
            texel at 0 and the last at the far end.
        boxes: float32 (n, 6), furniture as least x y z and greatest x y z in m.
        greys: float32 (n,), its grey level.
    """

    size_m: tuple[float, float, float]
    textures: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    greys: NDArray[np.float32]


def focal_px(width: int) -> float:
    """Focal length of a picture this wide: half the width, for 90 degrees."""
    return width / 2


def make_room(rng: np.random.Generator) -> Room:
    """A room of 8-11 x 7-10 x 4 m, noise on every face, five plain boxes along the walls.

    Dense noise instead of pictures on bare walls, so that every pose sees contrast: a slow movement
    before a bare wall makes no events at all.
    """
    size = (rng.uniform(8.0, 11.0), rng.uniform(7.0, 10.0), 4.0)
    extents = [[size[b] for b in range(3) if b != axis] for axis in (0, 0, 1, 1, 2, 2)]
    boxes = np.array([_furniture(rng, size) for _ in range(FURNITURE)], np.float32)
    return Room(
        size_m=size,
        textures=np.stack([_noise_texture(rng, rows, columns) for rows, columns in extents]),
        boxes=boxes,
        greys=rng.uniform(60.0, 180.0, FURNITURE).astype(np.float32),
    )


def _furniture(rng: np.random.Generator, size: tuple[float, float, float]) -> list[float]:
    """A box with its back to a wall, as least and greatest x y z."""
    axis, far = int(rng.integers(2)), bool(rng.integers(2))
    length, depth, height = rng.uniform(0.8, 2.2), rng.uniform(0.4, 0.8), rng.uniform(0.7, 2.2)
    start = rng.uniform(0.0, size[1 - axis] - length)
    low, high = np.zeros(3), np.array([0.0, 0.0, height])
    low[axis] = size[axis] - depth if far else 0.0
    high[axis] = low[axis] + depth
    low[1 - axis], high[1 - axis] = start, start + length
    return [*low, *high]


def _noise_texture(rng: np.random.Generator, rows_m: float, columns_m: float) -> NDArray[np.uint8]:
    texture = np.full((TEXELS, TEXELS), TEXTURE_MEAN, np.float32)
    for contrast, sigma_m in TEXTURE_NOISE:
        noise = rng.standard_normal((TEXELS, TEXELS), np.float32)
        smooth = cv2.GaussianBlur(
            noise, (0, 0), sigmaX=sigma_m * TEXELS / columns_m, sigmaY=sigma_m * TEXELS / rows_m
        )
        texture += contrast * (smooth - smooth.mean()) / smooth.std()
    return np.clip(np.rint(texture), 0, 255).astype(np.uint8)


def render(
    room: Room,
    positions: NDArray[np.float64],
    rotations: NDArray[np.float64],
    size_wh: tuple[int, int],
) -> NDArray[np.uint8]:
    """What the camera sees.

    Args:
        room: what there is to see.
        positions: (n, 3) of the camera in m, inside the room and outside its furniture.
        rotations: (n, 3, 3), take head axes to world axes.
        size_wh: of the picture, in pixels.

    Returns:
        Grey levels, uint8 (n, H, W).
    """
    frames = np.empty((len(positions), size_wh[1], size_wh[0]), np.uint8)
    _cast(
        frames,
        np.asarray(room.size_m, np.float32),
        room.textures,
        room.boxes,
        room.greys,
        positions.astype(np.float32),
        (rotations @ HEAD_FROM_CAMERA).astype(np.float32),
        np.float32(focal_px(size_wh[0])),
    )
    return frames


@compiled
def _cast(
    frames: NDArray[np.uint8],
    size: NDArray[np.float32],
    textures: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    greys: NDArray[np.float32],
    positions: NDArray[np.float32],
    rotations: NDArray[np.float32],
    focal: np.float32,
) -> None:
    """One ray through the centre of every pixel of every frame (n, H, W).

    Along a row the ray's direction is `first + column * step`.
    """
    n, height, width = frames.shape
    way, face = np.empty(width, np.float32), np.empty(width, np.int32)
    left, top = np.float32(0.5 - width / 2), np.float32(0.5 - height / 2)
    for k in range(n):
        origin, rotation = positions[k], rotations[k]
        step = rotation[:, 0] / focal
        for row in range(height):
            v = top + np.float32(row)
            first = (rotation[:, 0] * left + rotation[:, 1] * v) / focal + rotation[:, 2]
            _to_walls(way, face, size, origin, first, step)
            for box in range(boxes.shape[0]):
                _to_box(way, face, boxes[box], WALLS + 3 * box, origin, first, step)
            for column in range(width):
                if face[column] >= WALLS:
                    box, axis = divmod(face[column] - WALLS, 3)
                    grey = greys[box] * np.float32(SHADES[axis])
                else:
                    c, t = np.float32(column), way[column]
                    x = (origin[0] + t * (first[0] + c * step[0])) / size[0]
                    y = (origin[1] + t * (first[1] + c * step[1])) / size[1]
                    z = (origin[2] + t * (first[2] + c * step[2])) / size[2]
                    axis = face[column] >> 1
                    a, b = (y if axis == 0 else x), (y if axis == 2 else z)
                    grey = _bilinear(textures[face[column]], a, b)
                frames[k, row, column] = np.uint8(grey + np.float32(0.5))


@compiled
def _to_walls(
    way: NDArray[np.float32],
    face: NDArray[np.int32],
    size: NDArray[np.float32],
    origin: NDArray[np.float32],
    first: NDArray[np.float32],
    step: NDArray[np.float32],
) -> None:
    """Way along each ray of a row to the room's shell, and which of its six faces that is.

    Free of branches, so that it compiles to vector code; the same holds for `_to_box`. A direction
    of zero gives an infinite way, which compares as it should.
    """
    ox, oy, oz = origin
    ax, ay, az = size[0] - ox, size[1] - oy, size[2] - oz
    for column in range(way.size):
        ix, iy, iz = _inverse(first, step, column)
        tx, ty, tz = max(ax * ix, -ox * ix), max(ay * iy, -oy * iy), max(az * iz, -oz * iz)
        t = min(tx, min(ty, tz))
        way[column] = t
        face[column] = int(ix > 0) if t == tx else 2 + int(iy > 0) if t == ty else 4 + int(iz > 0)


@compiled
def _to_box(
    way: NDArray[np.float32],
    face: NDArray[np.int32],
    box: NDArray[np.float32],
    first_face: int,
    origin: NDArray[np.float32],
    first: NDArray[np.float32],
    step: NDArray[np.float32],
) -> None:
    """Shortens `way` where a ray of the row meets a box sooner, and sets the face it meets.

    The slab test: a ray is inside a box while it is between all three pairs of planes.
    """
    x0, y0, z0 = box[0] - origin[0], box[1] - origin[1], box[2] - origin[2]
    x1, y1, z1 = box[3] - origin[0], box[4] - origin[1], box[5] - origin[2]
    for column in range(way.size):
        ix, iy, iz = _inverse(first, step, column)
        enter_x, leave_x = min(x0 * ix, x1 * ix), max(x0 * ix, x1 * ix)
        enter_y, leave_y = min(y0 * iy, y1 * iy), max(y0 * iy, y1 * iy)
        enter_z, leave_z = min(z0 * iz, z1 * iz), max(z0 * iz, z1 * iz)
        enter = max(enter_x, max(enter_y, enter_z))
        leave = min(leave_x, min(leave_y, leave_z))
        axis = 0 if enter == enter_x else 1 if enter == enter_y else 2
        hit = (enter > 0) & (enter < leave) & (enter < way[column])
        way[column] = enter if hit else way[column]
        face[column] = first_face + axis if hit else face[column]


@compiled
def _inverse(
    first: NDArray[np.float32], step: NDArray[np.float32], column: int
) -> tuple[np.float32, np.float32, np.float32]:
    """One over the direction of a row's ray, by axis."""
    one, c = np.float32(1.0), np.float32(column)
    return (
        one / (first[0] + c * step[0]),
        one / (first[1] + c * step[1]),
        one / (first[2] + c * step[2]),
    )


@compiled
def _bilinear(texture: NDArray[np.uint8], a: np.float32, b: np.float32) -> np.float32:
    """Texture between its texels, at a, b in [0, 1] along rows and columns."""
    last = np.float32(TEXELS - 1)
    r = min(max(a * last, np.float32(0.0)), last)
    c = min(max(b * last, np.float32(0.0)), last)
    i, j = min(int(r), TEXELS - 2), min(int(c), TEXELS - 2)
    fr, fc = r - np.float32(i), c - np.float32(j)
    t00, t01 = np.float32(texture[i, j]), np.float32(texture[i, j + 1])
    t10, t11 = np.float32(texture[i + 1, j]), np.float32(texture[i + 1, j + 1])
    upper, lower = t00 + fc * (t01 - t00), t10 + fc * (t11 - t10)
    return upper + fr * (lower - upper)
