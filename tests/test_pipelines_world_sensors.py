import numpy as np
import pytest

from egotriad.manifests.errors import UsageError
from egotriad.pipelines.world_script import generator, make_wearer
from egotriad.pipelines.world_sensors import (
    ACCEL_NOISE,
    ACCEL_WALK,
    GYRO_NOISE,
    RATE_HZ,
    Clock,
    ClockFaults,
    draw_biases,
    draw_clock,
    draw_noise,
)


def clock_of(duration_s: float = 60.0, **faults: float) -> Clock:
    return draw_clock(duration_s, ClockFaults(**faults), generator(0, "clock"))


def test_samples_come_at_197_45_hz_from_before_the_video_until_after_it() -> None:
    clock = clock_of()
    np.testing.assert_allclose(np.diff(clock.true_s), 1 / RATE_HZ, rtol=1e-9)
    assert -1 / RATE_HZ < clock.true_s[0] <= 0
    assert clock.true_s[-1] >= 60.0
    assert clock.true_s[-1] < 60.02
    np.testing.assert_array_equal(clock.stamp_s, clock.true_s)


def test_offset_and_drift_move_the_stamps_only() -> None:
    clock = clock_of(offset_s=0.3, drift_ppm=200.0)
    np.testing.assert_array_equal(clock.true_s, clock_of().true_s)
    np.testing.assert_allclose(clock.stamp_s, clock.true_s * 1.0002 + 0.3, rtol=1e-12)


def test_gaps_leave_out_samples_and_are_known() -> None:
    clock = clock_of(gaps=2)
    steps = np.diff(clock.true_s)
    wide = steps > 0.1
    assert wide.sum() == 2
    lengths = np.diff(clock.gaps_s, axis=1)[:, 0]
    np.testing.assert_allclose(steps[wide], lengths, atol=2 / RATE_HZ)
    assert ((lengths >= 0.2) & (lengths <= 0.8)).all()


def test_stamps_fall_at_back_steps_and_stay_behind() -> None:
    clock = clock_of(back_steps=2)
    late = clock.true_s - clock.stamp_s
    falls = np.diff(clock.stamp_s) < 0
    assert falls.sum() == 2
    np.testing.assert_allclose(clock.true_s[1:][falls], clock.back_steps_s[:, 0], atol=1 / RATE_HZ)
    assert late[0] == 0
    assert late[-1] == pytest.approx(clock.back_steps_s[:, 1].sum())


@pytest.mark.parametrize(
    "faults", [{"gaps": -1}, {"back_steps": 21}, {"offset_s": 61.0}, {"drift_ppm": float("nan")}]
)
def test_an_impossible_clock_is_refused(faults: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"IMU clock: got .* need"):
        ClockFaults(**faults)


def test_noise_has_the_stated_densities() -> None:
    accel, gyro = draw_noise(100_000, generator(0, "noise"))
    np.testing.assert_allclose(accel.std(axis=0), ACCEL_NOISE * RATE_HZ**0.5, rtol=0.02)
    np.testing.assert_allclose(gyro.std(axis=0), GYRO_NOISE * RATE_HZ**0.5, rtol=0.02)
    lag_one = (accel[1:] * accel[:-1]).mean() / accel.var()
    assert abs(lag_one) < 0.02  # white


def test_biases_begin_at_the_wearers_and_walk_with_the_root_of_time() -> None:
    wearer, seconds = make_wearer(generator(0, "wearer")), 100
    samples = round(seconds * RATE_HZ)
    ends = []
    for number in range(60):
        accel, gyro = draw_biases(wearer, samples, generator(0, "walk", number))
        np.testing.assert_allclose(accel[0], wearer.accel_bias, atol=0.002)
        np.testing.assert_allclose(gyro[0], wearer.gyro_bias, atol=2e-5)
        ends.append(accel[-1] - wearer.accel_bias)
    assert np.std(ends) == pytest.approx(ACCEL_WALK * seconds**0.5, rel=0.2)
