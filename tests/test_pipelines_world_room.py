import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from egotriad.pipelines.world_room import (
    HEAD_FROM_CAMERA,
    TEXELS,
    Room,
    focal_px,
    make_room,
    render,
)
from egotriad.pipelines.world_script import generator

SIZE_WH = (128, 96)
ROOM_M = (10.0, 8.0, 4.0)


def dark_room(*boxes: list[float]) -> Room:
    """Black shell; furniture of grey 100."""
    return Room(
        size_m=ROOM_M,
        textures=np.zeros((6, TEXELS, TEXELS), np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 6),
        greys=np.full(len(boxes), 100.0, np.float32),
    )


def lamp_on_far_wall(y_m: float, z_m: float) -> Room:
    """A room with one soft spot on the wall x = 10 m."""
    rows, columns = np.mgrid[:TEXELS, :TEXELS] / (TEXELS - 1.0)
    distance = ((rows * ROOM_M[1] - y_m) ** 2 + (columns * ROOM_M[2] - z_m) ** 2) ** 0.5
    room = dark_room()
    room.textures[1] = np.rint(255 * np.exp(-0.5 * (distance / 0.15) ** 2)).astype(np.uint8)
    return room


def picture(
    room: Room, position: tuple[float, float, float], rotation: Rotation
) -> NDArray[np.uint8]:
    return render(room, np.array([position]), rotation.as_matrix()[None], SIZE_WH)[0]


def centroid(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Column and row of the centre of brightness, in pixels from the top left corner."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()


def pinhole(point: list[float], position: list[float], rotation: Rotation) -> NDArray[np.float64]:
    x, y, z = HEAD_FROM_CAMERA.T @ rotation.inv().apply(np.subtract(point, position))
    return np.array([64 + focal_px(128) * x / z, 48 + focal_px(128) * y / z])


def test_a_far_point_lies_where_the_pinhole_model_puts_it_under_rotation() -> None:
    lamp, eye = [10.0, 4.5, 2.2], (3.0, 4.0, 1.6)
    room = lamp_on_far_wall(*lamp[1:])
    seen = []
    for angles in ([0, 0, 0], [20, 0, 0], [-15, 10, 0], [5, -12, 25]):
        rotation = Rotation.from_euler("ZYX", angles, degrees=True)
        seen.append(centroid(picture(room, eye, rotation)))
        np.testing.assert_allclose(seen[-1], pinhole(lamp, list(eye), rotation), atol=0.15)
    assert np.ptp(seen, axis=0).min() > 10


def test_turning_left_moves_the_picture_right_and_looking_up_moves_it_down() -> None:
    room, eye = lamp_on_far_wall(4.0, 2.0), (3.0, 4.0, 2.0)
    ahead = centroid(picture(room, eye, Rotation.identity()))
    left = centroid(picture(room, eye, Rotation.from_euler("Z", 10, degrees=True)))
    up = centroid(picture(room, eye, Rotation.from_euler("Y", -10, degrees=True)))
    shift = focal_px(128) * np.tan(np.radians(10))
    np.testing.assert_allclose(left - ahead, [shift, 0], atol=0.2)
    np.testing.assert_allclose(up - ahead, [0, shift], atol=0.2)


def left_edge(room: Room, y_m: float) -> float:
    """Column, with fraction, at which furniture begins in the middle row."""
    row = picture(room, (2.0, y_m, 1.0), Rotation.identity())[48].astype(float)
    return float(np.argmax(row > 0))


def test_near_things_move_more_than_far_ones_when_the_camera_steps_aside() -> None:
    near = dark_room([4.0, 3.0, 0.0, 4.5, 4.0, 2.0])  # its front is 2 m away
    far = dark_room([8.0, 3.0, 0.0, 8.5, 4.0, 2.0])  # 6 m away
    step_m = 0.5
    moved = [left_edge(room, 3.2 + step_m) - left_edge(room, 3.2) for room in (near, far)]
    np.testing.assert_allclose(
        moved, [focal_px(128) * step_m / 2, focal_px(128) * step_m / 6], atol=1.0
    )


def test_furniture_hides_what_is_behind_it_and_has_shaded_faces() -> None:
    room = dark_room([6.0, 3.5, 0.0, 7.0, 4.5, 2.0], [8.0, 3.0, 0.0, 9.0, 5.0, 2.0])
    room.greys[1] = 180.0
    image = picture(room, (3.0, 3.2, 1.8), Rotation.identity())
    assert set(np.unique(image)) <= {0, 65, 80, 100, 117, 144, 180}
    assert image[52, 50] == 80  # front of the nearer box
    assert 144 in image  # the farther one looks over it


def test_a_rotated_picture_is_the_homography_of_the_first() -> None:
    room = make_room(generator(0, "room"))
    eye, turn = (4.0, 3.5, 1.6), Rotation.from_euler("ZYX", [8, 5, 6], degrees=True)
    before, after = picture(room, eye, Rotation.identity()), picture(room, eye, turn)
    f = focal_px(128)
    camera = np.array([[f, 0, 63.5], [0, f, 47.5], [0, 0, 1]])
    relative = HEAD_FROM_CAMERA.T @ turn.as_matrix().T @ HEAD_FROM_CAMERA
    warped = cv2.warpPerspective(
        before, camera @ relative @ np.linalg.inv(camera), SIZE_WH, borderValue=255
    )
    inner = (slice(25, 71), slice(30, 98))
    difference = np.abs(warped[inner].astype(int) - after[inner])
    assert np.median(difference) <= 2
    assert np.median(np.abs(before[inner].astype(int) - after[inner])) > 8


def test_textures_have_the_stated_mean_and_contrast() -> None:
    for seed in range(5):
        textures = make_room(generator(seed, "room")).textures
        assert textures.shape == (6, 256, 256)
        np.testing.assert_allclose(textures.mean(axis=(1, 2)), 120.0, atol=1.5)
        np.testing.assert_allclose(textures.std(axis=(1, 2)), np.hypot(18, 25), rtol=0.25)


def test_rooms_have_the_stated_size_and_furniture_at_the_walls() -> None:
    for seed in range(20):
        room = make_room(generator(seed, "room"))
        length, width, height = room.size_m
        assert 8 <= length <= 11
        assert 7 <= width <= 10
        assert height == 4
        low, high = room.boxes[:, :3], room.boxes[:, 3:]
        assert len(low) == 5
        assert (low >= 0).all()
        assert (high <= np.float32(room.size_m)).all()
        at_wall = (low[:, :2] == 0) | np.isclose(high[:, :2], room.size_m[:2])
        assert at_wall.any(axis=1).all()
