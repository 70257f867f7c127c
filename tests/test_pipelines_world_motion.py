import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egotriad.pipelines.world_activities import ACTIVITIES
from egotriad.pipelines.world_motion import CAMERA_POINT, Choreography, choreograph
from egotriad.pipelines.world_moves import MOVEMENTS
from egotriad.pipelines.world_path import HeadPath, Move, Sway, sample_channels
from egotriad.pipelines.world_script import (
    Beat,
    Script,
    Wearer,
    generator,
    make_wearer,
    write_scripts,
)
from egotriad.pipelines.world_sensors import GRAVITY, IMU_POINT, RATE_HZ, ideal_imu

ROOM_M = (9.0, 8.0)


def wearer_of(seed: int) -> Wearer:
    return make_wearer(generator(seed, "wearer"))


def act(*beats: tuple[str, str], sitting: bool = False, level: int = 1) -> Choreography:
    script = Script(sitting=sitting, level=level, beats=tuple(Beat(*beat) for beat in beats))
    return choreograph(script, wearer_of(0), ROOM_M, generator(0, "motion"))


@pytest.fixture(scope="module")
def minute() -> Choreography:
    script = write_scripts(generator(3, "script"), recordings=1, beats=12)[0]
    return choreograph(script, wearer_of(3), ROOM_M, generator(3, "motion"))


def test_a_move_begins_and_ends_at_rest_and_keeps_its_speed_between_the_ramps() -> None:
    move = Move("x", 3.0, start_s=1.0, duration_s=2.0, ramp=0.25)
    t = np.arange(0.0, 4.0, 1e-4)
    way, speed = move(t), np.gradient(move(t), t)
    assert way[0] == 0.0
    assert way[-1] == 3.0
    middle = (t > 1.55) & (t < 2.45)
    np.testing.assert_allclose(speed[middle], 3.0 / (2.0 * 0.75), rtol=1e-6)
    assert np.abs(np.gradient(speed, t)).max() < 1.9 * 2.0 / 0.5  # minimum-jerk ramps, no jolts


def test_a_sway_dies_out_at_both_ends() -> None:
    sway = Sway("z", 0.02, rate_hz=2.0, phase=0.5, start_s=1.0, duration_s=3.0)
    t = np.array([0.9, 1.0, 4.0, 4.1])
    np.testing.assert_array_equal(sway(t), 0.0)
    assert np.abs(sway(np.linspace(2, 3, 1000))).max() == pytest.approx(0.02, rel=1e-4)


def test_a_resting_accelerometer_feels_9_81_upwards() -> None:
    times = np.arange(0, 10, 1 / 120)
    start = np.array([4.0, 3.0, 1.5, 0.7, 0.2, -0.1])
    path = HeadPath(times, sample_channels(start, [], times))
    accel, gyro = ideal_imu(path, wearer_of(1), np.arange(0.5, 9.5, 1 / RATE_HZ))
    np.testing.assert_allclose(np.linalg.norm(accel, axis=1), GRAVITY, atol=1e-8)
    np.testing.assert_allclose(gyro, 0.0, atol=1e-9)


def test_standing_still_leaves_only_small_accelerations() -> None:
    scene = act(("stand_still", "normal"))
    segment = scene.segments[0]
    times = np.arange(segment.start_s + 0.2, segment.end_s - 0.2, 1 / RATE_HZ)
    accel, _ = ideal_imu(scene.path, wearer_of(0), times)
    assert np.abs(np.linalg.norm(accel, axis=1) - GRAVITY).max() < 0.5


def test_the_gyro_integrates_to_the_rotation_of_the_path(minute: Choreography) -> None:
    step = 1 / 2000
    times = 2.0 + step * np.arange(30 * 2000)
    wearer = wearer_of(3)
    _, gyro = ideal_imu(minute.path, wearer, times + step / 2)
    turned = Rotation.identity()
    for piece in gyro:
        turned = turned * Rotation.from_rotvec(piece * step)
    mount = Rotation.from_rotvec(wearer.mount_rotvec)
    _, rotations = minute.path.pose(np.array([2.0, 32.0]), IMU_POINT)
    before, after = Rotation.from_matrix(rotations[0]), Rotation.from_matrix(rotations[1])
    error = (before * mount * turned).inv() * after * mount
    assert np.degrees(error.magnitude()) < 0.01


def test_the_accelerometer_is_the_second_derivative_of_position_plus_gravity(
    minute: Choreography,
) -> None:
    times, step = np.arange(1.0, minute.duration_s - 1, 0.0137), 1e-3
    before, here, later = (
        minute.path.pose(times + shift, IMU_POINT)[0] for shift in (-step, 0.0, step)
    )
    wearer = wearer_of(3)
    accel, _ = ideal_imu(minute.path, wearer, times)
    rotation = minute.path.pose(times, IMU_POINT)[1]
    mount = Rotation.from_rotvec(wearer.mount_rotvec).as_matrix()
    world = np.einsum("nij,jk,nk->ni", rotation, mount, accel) - [0.0, 0.0, GRAVITY]
    np.testing.assert_allclose(world, (before - 2 * here + later) / step**2, atol=0.02)
    assert np.abs(world).max() > 3.0


def test_angular_velocity_is_the_derivative_of_rotation(minute: Choreography) -> None:
    times, step = np.arange(1.0, minute.duration_s - 1, 0.0137), 1e-5
    omega = minute.path.motion(times, IMU_POINT).angular_velocity
    before = Rotation.from_matrix(minute.path.pose(times - step, IMU_POINT)[1])
    later = Rotation.from_matrix(minute.path.pose(times + step, IMU_POINT)[1])
    np.testing.assert_allclose(omega, (before.inv() * later).as_rotvec() / (2 * step), atol=1e-4)


def test_every_activity_has_movements_of_its_own() -> None:
    assert list(MOVEMENTS) == list(ACTIVITIES)


@pytest.mark.parametrize(
    ("activity", "axis", "sign"),
    [("turn_left", 2, 1), ("turn_right", 2, -1), ("look_up", 1, -1), ("look_down", 1, 1)],
)
def test_the_gyro_shows_the_direction_of_turns_and_looks(
    activity: str, axis: int, sign: int
) -> None:
    scene = act((activity, "normal"))
    segment = scene.segments[0]
    times = np.arange(segment.motion_start_s, segment.motion_end_s, 0.005)
    omega = scene.path.motion(times, CAMERA_POINT).angular_velocity
    angle = np.degrees(sign * omega[:, axis].mean() * (times[-1] - times[0]))
    assert (60 if axis == 2 else 25) < angle < (135 if axis == 2 else 42)


@pytest.mark.parametrize(
    ("activity", "sitting", "rise_m"),
    [
        ("sit_down", False, -0.45),
        ("stand_up", True, 0.45),
        ("climb", False, 0.51),
        ("descend", False, -0.51),
        ("stand_still", False, 0.0),
    ],
)
def test_seats_and_stairs_change_the_height(activity: str, sitting: bool, rise_m: float) -> None:
    scene = act((activity, "slow"), sitting=sitting)
    segment = scene.segments[0]
    ends = np.array([segment.motion_start_s, segment.motion_end_s])
    height = scene.path.pose(ends, np.zeros(3))[0][:, 2]
    assert height[1] - height[0] == pytest.approx(rise_m, abs=0.02)


@pytest.mark.parametrize(("activity", "axis", "rate_hz"), [("nod", 1, 2.0), ("shake", 2, 2.0)])
@pytest.mark.parametrize(("tempo", "factor"), [("slow", 1 / 1.6), ("normal", 1.0), ("quick", 1.6)])
def test_tempo_scales_the_rate_of_repetitions(
    activity: str, axis: int, rate_hz: float, tempo: str, factor: float
) -> None:
    scene = act((activity, tempo))
    segment = scene.segments[0]
    times = np.arange(segment.motion_start_s, segment.motion_end_s, 0.005)
    signal = scene.path.motion(times, CAMERA_POINT).angular_velocity[:, axis]
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 8192))
    peak_hz = np.fft.rfftfreq(8192, 0.005)[spectrum.argmax()]
    assert peak_hz == pytest.approx(rate_hz * factor * wearer_of(0).speed, rel=0.03)


def test_a_quick_turn_is_faster_than_a_slow_one() -> None:
    lasts = {}
    for tempo in ("slow", "normal", "quick"):
        segment = act(("turn_left", tempo)).segments[0]
        lasts[tempo] = segment.motion_end_s - segment.motion_start_s
    assert lasts["slow"] / lasts["normal"] == pytest.approx(1.6)
    assert lasts["normal"] / lasts["quick"] == pytest.approx(1.6)


def test_wearers_stay_off_the_walls_and_the_ceiling() -> None:
    for number in range(20):
        wearer = wearer_of(number)
        script = write_scripts(generator(number, "script"), recordings=1, beats=12)[0]
        scene = choreograph(script, wearer, (8.0, 7.0), generator(number, "motion"))
        times = np.arange(0, scene.duration_s, 0.05)
        position = scene.path.pose(times, CAMERA_POINT)[0]
        assert position.min() > 0.81  # furniture is at most 0.8 m deep
        assert (position.max(axis=0) < [7.19, 6.19, 3.5]).all()


def test_walking_moves_the_head_forward(minute: Choreography) -> None:
    scene = act(("walk", "normal"))
    segment = scene.segments[0]
    ends = np.array([segment.motion_start_s, segment.motion_end_s])
    position, rotation = scene.path.pose(ends, np.zeros(3))
    way = position[1] - position[0]
    assert np.hypot(*way[:2]) > 1.5
    assert way[:2] @ rotation[0][:2, 0] > 0.95 * np.hypot(*way[:2])


def test_the_path_covers_the_time_around_the_recording(minute: Choreography) -> None:
    assert minute.path.start_s <= -0.5
    assert minute.path.end_s >= minute.duration_s + 0.5
