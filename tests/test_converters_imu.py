from collections.abc import Callable

import numpy as np
import pytest

from egotriad.converters.imu import resample, view
from egotriad.manifests import Imu, ImuTrack, SensorStream
from egotriad.manifests.errors import ClipRejected, UsageError

Signal = Callable[[np.ndarray], np.ndarray]


def stream(signal: Signal, t_us: np.ndarray) -> SensorStream:
    return SensorStream(t_us, np.stack([signal(t_us / 1e6)] * 3).astype(np.float64))


def track(signal: Signal, rate_hz: float, seconds: float, gyro_hz: float | None = None) -> ImuTrack:
    accel, gyro = (
        stream(signal, np.rint(np.arange(int(seconds * hz) + 1) * 1e6 / hz).astype(np.int64))
        for hz in (rate_hz, gyro_hz or rate_hz)
    )
    return ImuTrack(accel=accel, gyro=gyro, rate_hz=rate_hz, notes={})


def with_times(track: ImuTrack, t_us: np.ndarray) -> ImuTrack:
    moved = SensorStream(t_us, track.accel.values)
    return ImuTrack(accel=moved, gyro=moved, rate_hz=track.rate_hz, notes={})


def sine(frequency_hz: float) -> Signal:
    return lambda t_s: np.sin(2 * np.pi * frequency_hz * t_s + 0.3)


def gain_and_phase(data: np.ndarray, frequency_hz: float, t_s: np.ndarray) -> tuple[float, float]:
    angle = 2 * np.pi * frequency_hz * t_s + 0.3
    a, b = np.linalg.lstsq(np.stack([np.sin(angle), np.cos(angle)], 1), data, rcond=None)[0]
    return float(np.hypot(a, b)), float(np.arctan2(b, a))


@pytest.mark.parametrize(
    ("source_hz", "target_hz"), [(197.45, 200.0), (197.45, 50.0), (400.0, 200.0), (50.0, 200.0)]
)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.3, 0.4])
def test_a_sine_up_to_0p4_of_the_lower_rate_keeps_amplitude_and_phase(
    source_hz: float, target_hz: float, share: float
):
    frequency_hz = share * min(source_hz, target_hz)
    imu = resample(
        track(sine(frequency_hz), source_hz, 12),
        t_start_us=2_000_000,
        duration_us=8_000_000,
        rate_hz=target_hz,
    )
    t_s = 2 + np.arange(round(8 * target_hz)) / target_hz
    for row in imu.data:
        gain, phase = gain_and_phase(row, frequency_hz, t_s)
        assert gain == pytest.approx(1, abs=5e-4)
        assert phase == pytest.approx(0, abs=5e-4)
    assert np.abs(imu.data[0] - sine(frequency_hz)(t_s)).max() < 1e-3


@pytest.mark.parametrize(("source_hz", "target_hz"), [(197.45, 50.0), (200.0, 20.0), (400.0, 200)])
@pytest.mark.parametrize("share", [0.51, 0.6, 0.75, 1.0])
def test_a_sine_above_the_new_nyquist_is_gone(source_hz: float, target_hz: float, share: float):
    frequency_hz = share * target_hz
    imu = resample(
        track(sine(frequency_hz), source_hz, 12),
        t_start_us=3_000_000,
        duration_us=6_000_000,
        rate_hz=target_hz,
    )
    assert 20 * np.log10(np.abs(imu.data).max() + 1e-12) < -70


@pytest.mark.parametrize("target_hz", [20.0, 100.0, 200.0, 333.3])
def test_constants_stay_exact_up_to_both_ends_whatever_the_spacing(target_hz: float):
    rng = np.random.default_rng(0)
    t_us = np.cumsum(rng.integers(3_000, 7_000, 2000))
    t_us -= t_us[0]
    constant = stream(lambda t_s: np.full_like(t_s, 9.81), t_us)
    imu = resample(
        ImuTrack(accel=constant, gyro=constant, rate_hz=200.0, notes={}),
        t_start_us=0,
        duration_us=9_000_000,
        rate_hz=target_hz,
    )
    assert imu.valid.all()
    assert np.array_equal(imu.data, np.full_like(imu.data, 9.81))


def test_a_ramp_is_kept_up_to_the_first_and_last_sample():
    imu = resample(
        track(lambda t_s: 3 * t_s - 1, 200.0, 2), t_start_us=0, duration_us=2_000_000, rate_hz=50.0
    )
    ramp = 3 * np.arange(100) / 50 - 1
    assert np.abs(imu.data - ramp).max() < 1e-4


def test_197p45_hz_does_not_drift_over_an_hour():
    imu = resample(
        track(sine(3.0), 197.45, 3600), t_start_us=0, duration_us=3_600_000_000, rate_hz=200.0
    )
    assert imu.data.shape == (6, 720_000)
    t_s = np.arange(719_990) / 200
    assert np.abs(imu.data[0, :719_990] - sine(3.0)(t_s)).max() < 1e-3


def test_a_window_equals_the_same_stretch_of_the_whole():
    noisy = track(lambda t_s: np.random.default_rng(1).standard_normal(len(t_s)), 197.45, 60)
    whole = resample(noisy, t_start_us=0, duration_us=60_000_000, rate_hz=200.0)
    window = resample(noisy, t_start_us=20_000_000, duration_us=5_000_000, rate_hz=200.0)
    assert np.abs(window.data - whole.data[:, 4000:5000]).max() < 1e-6


def test_accelerometer_and_gyroscope_of_different_rates_meet_in_time():
    imu = resample(
        track(sine(5.0), 200.0, 10, gyro_hz=3200.0),
        t_start_us=1_000_000,
        duration_us=5_000_000,
        rate_hz=200.0,
    )
    assert np.abs(imu.data[:3] - imu.data[3:]).max() < 1e-3


def test_a_gap_is_masked_and_only_the_gap():
    full = track(sine(3.0), 200.0, 10)
    kept = (full.accel.t_us <= 4_000_000) | (full.accel.t_us >= 4_500_000)
    holed = SensorStream(full.accel.t_us[kept], full.accel.values[:, kept])
    imu = resample(
        ImuTrack(accel=holed, gyro=full.gyro, rate_hz=200.0, notes={}),
        t_start_us=0,
        duration_us=10_000_000,
        rate_hz=200.0,
    )
    t_us = np.arange(2000) * 5000
    masked = (t_us > 4_000_000) & (t_us < 4_500_000)
    assert np.array_equal(imu.valid, ~masked)
    assert np.isnan(imu.data[:, masked]).all()
    # Beside the gap the filter leans on reflected samples: close, not exact.
    error = np.abs(imu.data[:, ~masked] - sine(3.0)(t_us[~masked] / 1e6))
    assert error.max() < 2e-3


def test_a_hole_below_the_limit_is_bridged_by_a_straight_line():
    full = track(lambda t_s: 2 * t_s, 200.0, 4)
    kept = (full.accel.t_us <= 2_000_000) | (full.accel.t_us >= 2_040_000)
    holed = SensorStream(full.accel.t_us[kept], full.accel.values[:, kept])
    imu = resample(
        ImuTrack(accel=holed, gyro=holed, rate_hz=200.0, notes={}),
        t_start_us=1_000_000,
        duration_us=2_000_000,
        rate_hz=200.0,
    )
    assert imu.valid.all()
    assert np.abs(imu.data - 2 * (1 + np.arange(400) / 200)).max() < 1e-4


def test_nothing_is_invented_before_the_first_and_after_the_last_sample():
    imu = resample(
        track(sine(1.0), 200.0, 1), t_start_us=-500_000, duration_us=2_000_000, rate_hz=100.0
    )
    assert np.flatnonzero(imu.valid).tolist() == list(range(50, 151))


def test_a_window_without_any_sample_is_all_invalid():
    imu = resample(
        track(sine(1.0), 200.0, 1), t_start_us=60_000_000, duration_us=1_000_000, rate_hz=100.0
    )
    assert not imu.valid.any()
    assert np.isnan(imu.data).all()


def test_a_nan_sample_is_missing_and_bridged():
    clean = track(lambda t_s: np.full_like(t_s, 2.0), 200.0, 2)
    values = clean.accel.values.copy()
    values[1, 100] = np.nan
    imu = resample(
        ImuTrack(
            accel=SensorStream(clean.accel.t_us, values), gyro=clean.gyro, rate_hz=200.0, notes={}
        ),
        t_start_us=0,
        duration_us=2_000_000,
        rate_hz=200.0,
    )
    assert imu.valid.all()
    assert np.abs(imu.data - 2).max() < 1e-6


def test_repeated_stamps_share_their_time():
    clean = track(lambda t_s: t_s, 200.0, 2)
    t_us = np.insert(clean.accel.t_us, 200, clean.accel.t_us[200])
    repeated = stream(lambda t_s: t_s, t_us)
    imu = resample(
        ImuTrack(accel=repeated, gyro=repeated, rate_hz=200.0, notes={}),
        t_start_us=0,
        duration_us=2_000_000,
        rate_hz=200.0,
    )
    assert np.abs(imu.data - np.arange(400) / 200).max() < 1e-3


def test_two_pieces_that_claim_the_same_two_seconds_are_both_disbelieved():
    clean = track(sine(1.0), 200.0, 20)
    t_us = clean.accel.t_us.copy()
    t_us[2000:] -= 2_000_000  # at 10 s the clock steps back to 8 s
    imu = resample(with_times(clean, t_us), t_start_us=0, duration_us=18_000_000, rate_hz=200.0)
    wrong = np.flatnonzero(~imu.valid) / 200
    assert wrong.min() == pytest.approx(8.0)
    assert wrong.max() == pytest.approx(9.995)
    assert (~imu.valid).sum() == 400


def test_a_back_step_of_a_few_milliseconds_masks_nothing():
    clean = track(lambda t_s: np.ones_like(t_s), 200.0, 4)
    t_us = clean.accel.t_us.copy()
    t_us[400:] -= 12_000
    imu = resample(with_times(clean, t_us), t_start_us=0, duration_us=3_900_000, rate_hz=200.0)
    assert imu.valid.all()
    assert np.array_equal(imu.data, np.ones_like(imu.data))


def test_a_sensor_slower_than_the_gap_limit_is_not_all_gaps():
    imu = resample(
        track(sine(1.0), 10.0, 10), t_start_us=2_000_000, duration_us=5_000_000, rate_hz=50.0
    )
    assert imu.valid.all()


def test_the_number_of_samples_is_exact():
    for duration_us, rate_hz, count in ((5_000_000, 200.0, 1000), (4_500_000, 197.45, 889)):
        imu = resample(
            track(sine(1.0), 200.0, 10), t_start_us=0, duration_us=duration_us, rate_hz=rate_hz
        )
        assert imu.data.shape == (6, count)


@pytest.mark.parametrize(("duration_us", "rate_hz"), [(5_000_000, 0.0), (0, 200.0), (1000, 200.0)])
def test_a_grid_without_samples_is_a_usage_error(duration_us: int, rate_hz: float):
    with pytest.raises(UsageError, match="need"):
        resample(track(sine(1.0), 200.0, 2), t_start_us=0, duration_us=duration_us, rate_hz=rate_hz)


def clip_imu(signal: Signal, rate_hz: float = 200.0, count: int = 1000) -> Imu:
    row = signal(np.arange(count) / rate_hz)
    return Imu(
        data=np.stack([row] * 6).astype(np.float32), rate_hz=rate_hz, valid=np.ones(count, bool)
    )


def test_a_view_at_the_clips_own_rate_is_the_samples_themselves():
    imu = clip_imu(sine(90.0))
    out = view(imu, rate_hz=200.0, start_us=1_000_000, duration_us=2_000_000)
    assert np.array_equal(out, imu.data[:, 200:600])
    out[:] = 0
    assert imu.data.any()


def test_a_view_between_the_samples_is_interpolated():
    out = view(clip_imu(sine(7.0)), rate_hz=200.0, start_us=1_001_234, duration_us=2_000_000)
    expected = sine(7.0)(1.001234 + np.arange(400) / 200)
    assert np.abs(out - expected).max() < 1e-3


def test_a_view_at_a_lower_rate_keeps_low_and_drops_high_frequencies():
    mixed = clip_imu(lambda t_s: sine(4.0)(t_s) + sine(23.0)(t_s))
    out = view(mixed, rate_hz=20.0, start_us=0, duration_us=5_000_000)
    assert out.shape == (6, 100)
    assert out.dtype == np.float32
    expected = sine(4.0)(np.arange(100) / 20)
    assert np.abs(out[0, 30:70] - expected[30:70]).max() < 1e-3
    assert np.abs(out[0] - expected).max() < 0.35  # the ends know only one side


def test_a_view_of_the_whole_clip_at_a_higher_rate_reaches_its_end():
    out = view(clip_imu(lambda t_s: 2 * t_s), rate_hz=400.0, start_us=0, duration_us=5_000_000)
    assert np.abs(out - 2 * np.arange(2000) / 400).max() < 1e-3


@pytest.mark.parametrize(("start_us", "duration_us"), [(-10_000, 500_000), (4_800_000, 500_000)])
def test_a_view_outside_the_clip_is_rejected(start_us: int, duration_us: int):
    with pytest.raises(ClipRejected, match=r"the clip has 0 to 5\.000 s") as caught:
        view(clip_imu(sine(1.0)), rate_hz=50.0, start_us=start_us, duration_us=duration_us)
    assert caught.value.reason == "imu-gap"


def test_a_view_over_masked_samples_is_rejected_and_beside_them_it_is_not():
    imu = clip_imu(lambda t_s: np.ones_like(t_s))
    imu.valid[300:320] = False
    imu.data[:, 300:320] = np.nan
    for rate_hz in (200.0, 50.0):
        with pytest.raises(ClipRejected, match="20 of"):
            view(imu, rate_hz=rate_hz, start_us=1_000_000, duration_us=2_000_000)
        for start_us in (500_000, 1_600_000):
            out = view(imu, rate_hz=rate_hz, start_us=start_us, duration_us=980_000)
            assert np.abs(out - 1).max() < 1e-6
