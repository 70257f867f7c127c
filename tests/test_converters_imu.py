import time
import tracemalloc
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters.imu import Mode, Resampler, resample, view
from egotriad.converters.imu_modes import block_mean
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
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.45])
def test_a_sine_up_to_0p45_of_the_rate_keeps_amplitude_and_phase(
    source_hz: float, target_hz: float, share: float
):
    # A source of 50 Hz holds nothing above 25 Hz.
    frequency_hz = share * (target_hz if source_hz > 0.95 * target_hz else source_hz)
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
@pytest.mark.parametrize("share", [0.5, 0.51, 0.6, 0.75, 1.0])
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


def test_a_sample_delivered_twice_counts_once():
    clean = track(lambda t_s: t_s, 200.0, 2)
    t_us = np.insert(clean.accel.t_us, 200, clean.accel.t_us[200])
    repeated = stream(lambda t_s: t_s, t_us)
    imu = resample(
        ImuTrack(accel=repeated, gyro=repeated, rate_hz=200.0, notes={}),
        t_start_us=0,
        duration_us=2_000_000,
        rate_hz=200.0,
    )
    assert np.abs(imu.data - np.arange(400) / 200).max() < 1e-6


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
    assert np.abs(out[0] - expected).max() < 0.5  # the ends know only one side


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


def test_windows_of_one_resampler_are_those_of_separate_calls():
    noisy = track(lambda t_s: np.random.default_rng(2).standard_normal(len(t_s)), 197.45, 30)
    resampler = Resampler(noisy, rate_hz=50.0)
    for start_us in (0, 7_000_000, 28_000_000):
        window = resampler.window(start_us, 4_000_000)
        alone = resample(noisy, t_start_us=start_us, duration_us=4_000_000, rate_hz=50.0)
        assert window.same_as(alone)


def test_one_clock_for_both_sensors_gives_what_two_clocks_give():
    both = track(sine(3.0), 200.0, 10)
    values = np.delete(both.gyro.values, 500, axis=1)
    apart = ImuTrack(
        accel=both.accel,
        gyro=SensorStream(np.delete(both.gyro.t_us, 500), values),
        rate_hz=200.0,
        notes={},
    )
    window = {"t_start_us": 6_000_000, "duration_us": 2_000_000, "rate_hz": 100.0}
    assert np.array_equal(resample(both, **window).data, resample(apart, **window).data)


def test_a_stray_stamp_costs_no_more_than_its_neighbourhood():
    clean = track(sine(1.0), 200.0, 20)
    t_us = clean.accel.t_us.copy()
    t_us[1000] = 10**15
    imu = resample(with_times(clean, t_us), t_start_us=0, duration_us=20_000_000, rate_hz=200.0)
    assert np.flatnonzero(~imu.valid).tolist() == [1000]


@pytest.mark.parametrize("mode", ["bandlimited", "linear", "block_mean", "torchaudio"])
def test_every_mode_masks_gaps_and_ends_and_keeps_constants(mode: Mode):
    full = track(lambda t_s: np.full_like(t_s, 2.5), 200.0, 10)
    kept = (full.accel.t_us <= 4_000_000) | (full.accel.t_us >= 5_000_000)
    holed = SensorStream(full.accel.t_us[kept], full.accel.values[:, kept])
    imu = resample(
        ImuTrack(accel=holed, gyro=holed, rate_hz=200.0, notes={}),
        t_start_us=-1_000_000,
        duration_us=12_000_000,
        rate_hz=100.0,
        mode=mode,
    )
    t_us = np.arange(1200) * 10_000 - 1_000_000
    outside = (t_us < 0) | (t_us > 10_000_000) | ((t_us > 4_000_000) & (t_us < 5_000_000))
    assert not imu.valid[outside].any()
    inside = ~outside & (t_us != 4_000_000) & (t_us != 10_000_000)  # no whole block of means there
    assert imu.valid[inside].all()
    # torchaudio takes what lies beyond an end for zeros.
    middle = (t_us > 1_000_000) & (t_us < 3_000_000)
    assert np.abs(imu.data[:, middle] - 2.5).max() < (0.02 if mode == "torchaudio" else 1e-6)


def test_linear_lies_on_the_lines_between_samples():
    rng = np.random.default_rng(3)
    t_us = np.cumsum(rng.integers(2_000, 8_000, 500))
    noisy = stream(lambda t_s: rng.standard_normal(len(t_s)), t_us)
    imu = resample(
        ImuTrack(accel=noisy, gyro=noisy, rate_hz=200.0, notes={}),
        t_start_us=500_000,
        duration_us=1_000_000,
        rate_hz=123.0,
        mode="linear",
    )
    expected = np.interp(500_000 + np.arange(123) * 1e6 / 123, t_us, noisy.values[0])
    assert np.abs(imu.data[0] - expected).max() < 1e-6


def test_block_means_by_time_are_those_by_number_where_samples_are_uniform():
    noisy = track(lambda t_s: np.random.default_rng(4).standard_normal(len(t_s)), 50.0, 20)
    imu = resample(noisy, t_start_us=0, duration_us=19_000_000, rate_hz=20.0, mode="block_mean")
    by_number = block_mean(noisy.accel.values, source_hz=50.0, rate_hz=20.0)
    assert np.abs(imu.data[:3] - by_number[:, :380]).max() < 1e-6


def test_lost_samples_do_not_shift_block_means():
    ramp = track(lambda t_s: t_s, 50.0, 20)
    lossy = SensorStream(
        np.delete(ramp.accel.t_us, [400, 401]), np.delete(ramp.accel.values, [400, 401], axis=1)
    )
    imu = resample(
        ImuTrack(accel=lossy, gyro=lossy, rate_hz=50.0, notes={}),
        t_start_us=0,
        duration_us=19_000_000,
        rate_hz=10.0,
        longest_gap_us=100_000,
        mode="block_mean",
    )
    assert imu.valid.all()
    assert np.abs(imu.data - (np.arange(190) / 10 + 0.04)).max() < 1e-6


def test_torchaudio_mode_keeps_the_drift_of_a_truncated_rate():
    imu = resample(
        track(lambda t_s: t_s, 198.6, 600),
        t_start_us=500_000_000,
        duration_us=1_000_000,
        rate_hz=200.0,
        mode="torchaudio",
    )
    # int(198.6) = 198: what is called second 500 is second 500 * 198 / 198.6.
    assert imu.data[0, 0] == pytest.approx(500 * 198 / 198.6, abs=0.2)
    drift = imu.data[0, 100] - 500.5
    assert -1.6 < drift < -1.4


@pytest.mark.parametrize(
    ("mode", "rate_hz", "message"),
    [
        ("block_mean", 300.0, "only goes down"),
        ("torchaudio", 197.45, "need a whole number"),
        ("cubic", 100.0, "need one of bandlimited, linear"),
        ("linear", float("nan"), "need above 0"),
    ],
)
def test_what_a_mode_cannot_do_is_a_usage_error(mode: str, rate_hz: float, message: str):
    with pytest.raises(UsageError, match=message):
        Resampler(track(sine(1.0), 200.0, 2), rate_hz=rate_hz, mode=mode)


def test_an_hour_needs_little_more_memory_than_its_result():
    long = track(sine(1.0), 200.0, 1800)
    resample(long, t_start_us=0, duration_us=1_000_000, rate_hz=200.0)  # compiles
    tracemalloc.start()
    imu = resample(long, t_start_us=0, duration_us=1_800_000_000, rate_hz=200.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - imu.data.nbytes < 16e6


hostile_streams = st.integers(0, 300).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-(10**7), 10**7), min_size=n, max_size=n),
        st.sampled_from([1, 100, 5_000, 100_000, 10**9]),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 1e9, 1e300, np.nan, np.inf]),
    )
)


@settings(max_examples=60, deadline=None)
@given(hostile_streams, st.sampled_from([10.0, 200.0, 10_000.0]), st.sampled_from(get_args(Mode)))
def test_whatever_the_stamps_are_there_is_a_window_or_a_usage_error(
    parts: tuple[list[int], int, bool, float], rate_hz: float, mode: Mode
):
    steps, scale, rising, odd = parts
    steps_us = np.array(steps, np.int64) % scale if rising else np.array(steps, np.int64)
    values = np.random.default_rng(0).standard_normal((3, len(steps)))
    values[1, ::7] = odd
    wild = SensorStream(np.cumsum(steps_us), values)
    every = ImuTrack(accel=wild, gyro=wild, rate_hz=rate_hz, notes={})
    try:
        resampler = Resampler(every, rate_hz=rate_hz, mode=mode)
    except UsageError:
        assert mode == "block_mean"
        return
    imu = resampler.window(0, 1_000_000)
    assert imu.data.shape == (6, round(rate_hz))
    assert np.isfinite(imu.data[:, imu.valid]).all()


@pytest.mark.parametrize("steps_us", [(5000, -5000), (1, 50_000), (0, 0)])
def test_the_worst_clocks_take_seconds_at_most(steps_us: tuple[int, int]):
    t_us = np.cumsum(np.tile(np.array(steps_us, np.int64), 25_000))
    values = np.random.default_rng(0).standard_normal((3, len(t_us)))
    wild = ImuTrack(
        accel=SensorStream(t_us, values), gyro=SensorStream(t_us, values), rate_hz=200.0, notes={}
    )
    start_s = time.process_time()
    resample(wild, t_start_us=0, duration_us=60_000_000, rate_hz=200.0)
    assert time.process_time() - start_s < 5
