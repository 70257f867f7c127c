import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egotriad.converters.imu_merge import estimate_offset, merge
from egotriad.manifests import SensorStream
from egotriad.manifests.errors import RecordingError

GRAVITY = 9.81


def at(rate_hz: float, seconds: float, start_s: float = 0.0) -> np.ndarray:
    return np.rint((start_s + np.arange(int(seconds * rate_hz)) / rate_hz) * 1e6).astype(np.int64)


def turning(t_s: np.ndarray) -> np.ndarray:
    """Angular velocity about x and y, rad/s (2, N)."""
    return np.stack([0.9 * np.sin(1.1 * t_s), 0.7 * np.sin(0.83 * t_s + 1)])


@pytest.fixture(scope="module")
def one_clock() -> tuple[SensorStream, SensorStream]:
    """Gravity at 100 Hz and angular velocity at 203.7 Hz, two minutes."""
    seconds, fine_hz = 120.0, 200
    fine_s = np.arange(int((seconds + 2) * fine_hz)) / fine_hz - 1
    steps = np.zeros((len(fine_s), 3))
    steps[:, :2] = turning(fine_s).T / fine_hz
    rotation, gravity = Rotation.identity(), np.empty((len(fine_s), 3))
    for k, step in enumerate(Rotation.from_rotvec(steps)):
        gravity[k] = rotation.inv().apply([0, 0, GRAVITY])
        rotation = rotation * step
    accel_us, gyro_us = at(100.0, seconds), at(203.7, seconds)
    noise = np.random.default_rng(0)
    accel = np.stack([np.interp(accel_us / 1e6, fine_s, row) for row in gravity.T])
    gyro = np.concatenate([turning(gyro_us / 1e6), np.zeros((1, len(gyro_us)))])
    return (
        SensorStream(accel_us, accel + 0.05 * noise.standard_normal(accel.shape)),
        SensorStream(gyro_us, gyro + 0.01 * noise.standard_normal(gyro.shape)),
    )


def test_the_gyroscope_gets_a_value_at_every_stamp_of_the_accelerometer(one_clock: tuple):
    accel, gyro = one_clock
    clean = SensorStream(gyro.t_us, np.concatenate([turning(gyro.t_us / 1e6), gyro.values[2:]]))
    track = merge(accel, clean)
    assert np.array_equal(track.accel.t_us, track.gyro.t_us)
    assert np.abs(track.gyro.values[:2] - turning(track.accel.t_us / 1e6)).max() < 1e-4
    assert track.rate_hz == pytest.approx(100.0, rel=1e-6)
    assert track.notes["imu_gyro_offset"] == "0 us, one clock assumed"


def test_samples_without_a_partner_are_left_out_and_counted(one_clock: tuple):
    accel, gyro = one_clock
    kept = (gyro.t_us > 10_000_000) & ((gyro.t_us < 50_000_000) | (gyro.t_us > 50_500_000))
    track = merge(accel, SensorStream(gyro.t_us[kept], gyro.values[:, kept]))
    assert track.accel.t_us[0] >= 10_000_000
    assert not ((track.accel.t_us > 50_010_000) & (track.accel.t_us < 50_490_000)).any()
    assert "left out" in track.notes["imu_merged"]
    assert len(accel) - len(track.accel) == int(track.notes["imu_merged"].split(", ")[1].split()[0])


def test_back_steps_of_the_accelerometer_stay(one_clock: tuple):
    accel, gyro = one_clock
    t_us = accel.t_us.copy()
    t_us[5000:] -= 3_000_000
    track = merge(SensorStream(t_us, accel.values), gyro)
    assert (np.diff(track.accel.t_us) < 0).sum() == 1


@pytest.mark.parametrize("offset_us", [-730_000, -40_000, 0, 137_000, 900_000])
def test_a_constant_offset_between_the_clocks_is_found_when_asked_for(
    one_clock: tuple, offset_us: int
):
    accel, gyro = one_clock
    gyro = SensorStream(gyro.t_us + offset_us, gyro.values)
    found = estimate_offset(accel, gyro)
    assert found.offset_us == pytest.approx(-offset_us, abs=10_000)
    assert found.score > 0.9
    track = merge(accel, gyro, align_clocks=True)
    assert track.notes["imu_gyro_offset"].startswith(f"{found.offset_us} us, estimated")


def test_an_offset_that_cannot_be_told_is_refused(one_clock: tuple):
    accel, gyro = one_clock
    noise = SensorStream(gyro.t_us, np.random.default_rng(1).standard_normal(gyro.values.shape))
    with pytest.raises(RecordingError, match="cannot tell"):
        estimate_offset(accel, noise)
    with pytest.raises(RecordingError, match="cannot tell"):
        estimate_offset(accel, SensorStream(gyro.t_us + 3_000_000, gyro.values))
    with pytest.raises(RecordingError, match="need 20 s in common"):
        estimate_offset(accel, SensorStream(gyro.t_us + 10**9, gyro.values))


def test_a_stray_stamp_does_not_make_the_search_endless(one_clock: tuple):
    accel, gyro = one_clock
    t_us = gyro.t_us.copy()
    t_us[500] = 10**15
    assert abs(estimate_offset(accel, SensorStream(t_us, gyro.values)).offset_us) < 10_000


def test_sensors_without_common_time_are_not_merged(one_clock: tuple):
    accel, gyro = one_clock
    with pytest.raises(RecordingError, match="no time in common"):
        merge(accel, SensorStream(gyro.t_us + 10**9, gyro.values))
    nothing = SensorStream(np.empty(0, np.int64), np.empty((3, 0)))
    with pytest.raises(RecordingError, match="no time in common"):
        merge(accel, nothing)
