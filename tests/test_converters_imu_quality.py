import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from egotriad.converters.allan import allan_deviation, noise_terms
from egotriad.converters.imu import resample
from egotriad.converters.imu_quality import FLAGS, judge, judge_window
from egotriad.converters.imu_report import report_imu
from egotriad.converters.imu_units import GRAVITY, check_units, measure_units, oriented
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.files import canonical_json

RATE_HZ = 100.0


def worn(seconds: float = 60.0, seed: int = 0) -> ImuTrack:
    """A sensor that turns about slowly under gravity, with a little noise; rests for 15 s first."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    moving = np.clip((t_s - 15) / 2, 0, 1)
    omega = moving * np.stack([0.8 * np.sin(2 * np.pi * f * t_s + f) for f in (0.13, 0.21, 0.3)])
    attitude, rotation = [], Rotation.identity()
    for step in omega.T / RATE_HZ:
        attitude.append(rotation.inv().apply([0.0, 0.0, GRAVITY]))
        rotation = rotation * Rotation.from_rotvec(step)
    accel = np.array(attitude).T + 0.02 * rng.standard_normal((3, len(t_s)))
    gyro = omega + 0.002 * rng.standard_normal(omega.shape)
    return as_track(accel, gyro)


def as_track(accel: np.ndarray, gyro: np.ndarray, **notes: str) -> ImuTrack:
    t_us = np.rint(np.arange(accel.shape[1]) * 1e6 / RATE_HZ).astype(np.int64)
    return ImuTrack(
        accel=SensorStream(t_us, accel),
        gyro=SensorStream(t_us, gyro),
        rate_hz=RATE_HZ,
        notes=notes,
    )


@pytest.fixture(scope="module")
def good() -> ImuTrack:
    return worn()


def with_accel(track: ImuTrack, accel: np.ndarray) -> ImuTrack:
    return as_track(accel, track.gyro.values, **track.notes)


def with_gyro(track: ImuTrack, gyro: np.ndarray) -> ImuTrack:
    return as_track(track.accel.values, gyro, **track.notes)


def test_axes_are_a_signed_permutation():
    stored = np.array([[1.0], [2.0], [3.0]])
    assert oriented(stored, "XYZ").ravel().tolist() == [1, 2, 3]
    assert oriented(stored, "XzY").ravel().tolist() == [1, 3, -2]
    for axes in ("XYY", "XY", "ABC", ""):
        with pytest.raises(UsageError, match="need one order of X, Y, Z"):
            oriented(stored, axes)


def test_right_units_are_confirmed_by_gravity_twice(good: ImuTrack):
    evidence = measure_units(good)
    assert evidence.resting_norm == pytest.approx(GRAVITY, rel=1e-3)
    assert evidence.gravity_gain == pytest.approx(1.0, abs=0.05)
    assert evidence.gravity_correlation > 0.95
    check_units(evidence, accel_unit="m/s^2", gyro_unit="rad/s")
    assert judge(good).flags == ()


@pytest.mark.parametrize(
    ("declared", "factor", "true"),
    [("m/s^2", 1 / GRAVITY, "g"), ("g", GRAVITY, "m/s^2"), ("mg", 1e-3, "g"), ("g", 1e3, "mg")],
)
def test_an_accelerometer_in_another_unit_is_refused(
    good: ImuTrack, declared: str, factor: float, true: str
):
    wrong = measure_units(with_accel(good, good.accel.values * factor))
    with pytest.raises(
        RecordingError, match=rf"declared {re.escape(declared)}.*declare {re.escape(true)}"
    ):
        check_units(wrong, accel_unit=declared, gyro_unit="rad/s")
    check_units(wrong, accel_unit="unknown", gyro_unit="rad/s")


@pytest.mark.parametrize(("declared", "factor"), [("rad/s", 180 / np.pi), ("deg/s", np.pi / 180)])
def test_a_gyroscope_in_another_unit_is_refused(good: ImuTrack, declared: str, factor: float):
    wrong = measure_units(with_gyro(good, good.gyro.values * factor))
    with pytest.raises(RecordingError, match=rf"gyroscope: declared {declared}"):
        check_units(wrong, accel_unit="m/s^2", gyro_unit=declared)
    check_units(wrong, accel_unit="m/s^2", gyro_unit="unknown")


def test_a_gyroscope_faster_than_any_is_refused_without_gravitys_help(good: ImuTrack):
    spinning = with_gyro(good, np.full_like(good.gyro.values, 60.0))
    with pytest.raises(RecordingError, match="60 rad/s, need at most 45"):
        check_units(measure_units(spinning), accel_unit="unknown", gyro_unit="rad/s")


def test_a_sensor_that_never_rests_and_is_pushed_about_is_not_judged():
    rng = np.random.default_rng(1)
    t_s = np.arange(6000) / RATE_HZ
    pushed = 12 * np.sin(2 * np.pi * 1.1 * t_s + np.array([[0], [1], [2]]))
    swing = as_track(pushed + np.array([[0], [0], [GRAVITY]]), 5 * rng.standard_normal((3, 6000)))
    evidence = measure_units(swing)
    assert evidence.resting_norm is None
    assert evidence.gravity_gain is None
    check_units(evidence, accel_unit="m/s^2", gyro_unit="rad/s")


FAULTY = {
    "accel-identical-axes": lambda a, g: (a[[0, 1, 1]], g),
    "gyro-identical-axes": lambda a, g: (a, g[[0, 1, 0]]),
    "accel-dead-axis": lambda a, g: (a * [[1], [1], [0]], g),
    "gyro-dead-axis": lambda a, g: (a, g * [[1], [0], [1]]),
    "gravity-missing": lambda a, g: (
        a - np.array([np.convolve(r, np.ones(9) / 9, "same") for r in a]),
        g,
    ),
    "gravity-implausible": lambda a, g: (1.3 * a, g),
    "axes-disagree": lambda a, g: (a, -g),
}


@pytest.mark.parametrize("flag", FAULTY)
def test_every_fault_of_a_recording_has_its_flag(good: ImuTrack, flag: str):
    quality = judge(as_track(*FAULTY[flag](good.accel.values, good.gyro.values)))
    assert flag in quality.flags
    assert set(quality.flags) <= FLAGS.keys()


def window_of(track: ImuTrack, start_s: float, rate_hz: float = RATE_HZ):
    span = {"t_start_us": round(start_s * 1e6), "duration_us": 5_000_000}
    imu = resample(track, rate_hz=rate_hz, **span)
    return judge_window(judge(track), imu, **span)


def test_a_good_window_scores_one_and_has_no_flags(good: ImuTrack):
    window = window_of(good, 20)
    assert window.score == 1.0
    assert window.flags == ()


def test_clipping_is_found_where_it_is(good: ImuTrack):
    accel = good.accel.values.copy()
    accel[0, 2000:2100] += 60 * np.sin(np.linspace(0, np.pi, 100))
    clipped = with_accel(good, np.clip(accel, -39.2, 39.2))
    at_end = int((clipped.accel.values[0] == 39.2).sum())
    window = window_of(clipped, 20)
    assert window.flags == ("accel-clipped",)
    assert window.clip_fraction == pytest.approx(at_end / 500)
    assert window.score == pytest.approx(1 - at_end / 500)
    assert window_of(clipped, 30).flags == ()


def test_a_peak_that_is_no_plateau_and_a_plateau_inside_the_range_are_no_clipping(good: ImuTrack):
    accel, gyro = good.accel.values.copy(), good.gyro.values.copy()
    accel[0, 2050] = 80.0
    gyro[1, 2200:2300] = 2.0  # of a sensor that reaches 4.36 rad/s at least
    assert window_of(as_track(accel, gyro), 20).flags == ()


def test_a_frozen_sensor_is_stuck_and_one_that_repeats_shortly_is_not(good: ImuTrack):
    gyro = good.gyro.values.copy()
    gyro[:, 2100:2200] = gyro[:, 2100:2101]
    gyro[:, 3100:3130] = gyro[:, 3100:3101]
    stuck = with_gyro(good, gyro)
    window = window_of(stuck, 20)
    assert window.flags == ("gyro-stuck",)
    assert window.stuck_fraction == pytest.approx(0.2)
    assert window_of(stuck, 30).flags == ()


@pytest.mark.parametrize("sensor", ["accel", "gyro"])
def test_an_impossible_value_ends_the_windows_it_reaches_and_no_others(good: ImuTrack, sensor: str):
    values = {"accel": good.accel.values.copy(), "gyro": good.gyro.values.copy()}
    values[sensor][1, 2530] = 1e9
    spiked = as_track(values["accel"], values["gyro"])
    for start_s, reached in ((20, True), (25, True), (30, False), (15, False)):
        window = window_of(spiked, start_s)
        assert window.flags == ((f"{sensor}-impossible",) if reached else ())
        assert window.score == (0.0 if reached else 1.0)


def test_zeros_for_missing_samples_are_seen(good: ImuTrack):
    accel = good.accel.values.copy()
    accel[:, 2200:2203] = 0.0
    assert window_of(with_accel(good, accel), 20).flags == ("accel-zero",)


def test_gaps_and_bridged_losses_are_told_apart(good: ImuTrack):
    keep = np.ones(len(good.accel), bool)
    keep[2100:2150] = False
    keep[3000:3500:10] = False

    def lossy(stream: SensorStream) -> SensorStream:
        return SensorStream(stream.t_us[keep], stream.values[:, keep])

    track = replace(good, accel=lossy(good.accel), gyro=lossy(good.gyro))
    gap, bridged = window_of(track, 20), window_of(track, 30)
    assert gap.flags == ("imu-gap",)
    assert gap.gap_fraction == pytest.approx(0.1, abs=0.003)
    assert gap.score == pytest.approx(0.9, abs=0.003)
    assert bridged.flags == ("dropouts",)
    assert bridged.bridged_fraction == pytest.approx(0.1, abs=0.005)


def test_a_slow_sensor_on_a_fast_grid_is_marked(good: ImuTrack):
    assert window_of(good, 20, rate_hz=200.0).flags == ("upsampled",)


def test_doubts_halve_and_faults_end_the_score(good: ImuTrack):
    doubtful = with_accel(good, 1.3 * good.accel.values)
    assert window_of(doubtful, 20).score == 0.5
    unknown = as_track(good.accel.values, good.gyro.values, imu_accel_unit="unknown")
    assert window_of(unknown, 20).flags == ("unit-unknown",)
    assert window_of(unknown, 20).score == 0.5
    dead = with_gyro(good, good.gyro.values * [[1], [0], [1]])
    assert window_of(dead, 20).score == 0.0


@pytest.mark.parametrize("samples", [0, 1, 2, 10])
def test_tracks_of_hardly_any_samples_are_judged_without_error(samples: int):
    tiny = as_track(np.ones((3, samples)), np.full((3, samples), np.nan))
    quality = judge(tiny)
    assert set(quality.flags) <= FLAGS.keys()
    report_imu(tiny, quality=quality)


def test_allan_deviation_of_white_noise_falls_with_the_root_of_time():
    rate_hz, density = 200.0, 1.7e-3
    white = density * np.sqrt(rate_hz) * np.random.default_rng(0).standard_normal(400_000)
    tau_s, deviation = allan_deviation(white + 0.3, rate_hz)
    early = tau_s < 10
    assert np.allclose(deviation[early] * np.sqrt(tau_s[early]), density, rtol=0.05)


def test_allan_deviation_of_a_ramp_is_its_slope():
    tau_s, deviation = allan_deviation(0.4 * np.arange(10_000) / 100, 100.0)
    assert np.allclose(deviation, 0.4 * tau_s / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("white", "walk"), [(1e-3, 0.0), (0.0, 1e-3), (1e-3, 3e-4), (1.7e-4, 2e-5)]
)
def test_known_noise_is_found_again(seed: int, white: float, walk: float):
    rng, rate_hz, count = np.random.default_rng(seed), 200.0, 400_000
    values = white * np.sqrt(rate_hz) * rng.standard_normal(count)
    values += walk / np.sqrt(rate_hz) * np.cumsum(rng.standard_normal(count))
    terms = noise_terms(values, rate_hz)
    assert terms.random_walk == pytest.approx(white, rel=0.02, abs=0.01 * walk)
    assert terms.rate_random_walk == pytest.approx(walk, rel=0.25, abs=0.01 * white)
    assert terms.bias_instability < max(white, walk)


def test_a_constant_has_no_noise_and_too_few_values_are_refused():
    assert noise_terms(np.full(100, 2.0), 100.0).random_walk == 0.0
    with pytest.raises(UsageError, match="got 8 values, need at least 9"):
        noise_terms(np.zeros(8), 100.0)


def test_the_report_has_bias_and_noise_of_the_rest_and_clocks(good: ImuTrack):
    biased = with_gyro(good, good.gyro.values + np.array([[0.01], [-0.02], [0.0]]))
    report = report_imu(biased, quality=judge(biased, nominal_hz=101.0))
    assert report.rest.start_us == 0
    assert report.rest.seconds == 15
    assert report.rest.gyro_bias == pytest.approx((0.01, -0.02, 0.0), abs=3e-4)
    assert report.rest.accel_excess == pytest.approx(0.0, abs=3e-3)
    for terms in report.rest.gyro:
        assert terms.random_walk == pytest.approx(0.002 / np.sqrt(RATE_HZ), rel=0.1)
    assert report.gyro_clock.ppm == pytest.approx((100 / 101 - 1) * 1e6)
    assert report.as_dict()["rest"]["accel"][2]["random_walk"] > 0


def test_a_sensor_that_never_rests_has_no_noise_estimate(good: ImuTrack):
    rng = np.random.default_rng(3)
    shaken = with_gyro(good, good.gyro.values + rng.standard_normal(good.gyro.values.shape))
    assert report_imu(shaken).rest is None


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 3000),
    st.sampled_from([100, 10_000, 100_000]),
    st.sampled_from(["steady", "wild", "one stamp"]),
    st.sampled_from(["constant", "noise", "few"]),
    st.sampled_from([0.0, 9.81, 1e9, 1e300, np.nan, np.inf]),
)
def test_whatever_the_samples_are_they_are_judged_and_reported_in_json(
    count: int, step_us: int, stamps: str, kind: str, odd: float
):
    rng = np.random.default_rng(count)
    step = {"steady": step_us, "wild": rng.integers(-step_us, 3 * step_us, count), "one stamp": 0}
    t_us = np.cumsum(np.broadcast_to(step[stamps], count)).astype(np.int64)
    values = np.full((3, count), odd) if kind == "constant" else rng.standard_normal((3, count))
    if kind == "few":
        values[1, ::50] = odd
    stream = SensorStream(t_us, values)
    track = ImuTrack(accel=stream, gyro=stream, rate_hz=1e6 / step_us, notes={})
    quality = judge(track)
    canonical_json(report_imu(track, quality=quality).as_dict())
    imu = resample(track, t_start_us=0, duration_us=1_000_000, rate_hz=50.0)
    window = judge_window(quality, imu, t_start_us=0, duration_us=1_000_000)
    assert 0 <= window.score <= 1
    assert set(window.flags) <= FLAGS.keys()
