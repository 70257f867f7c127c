"""Noise of the event emulator against closed forms: rates, intervals, polarities, spread."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from egotriad.converters.dvs import DvsConfig, DvsEmulator, emulate
from egotriad.converters.dvs_noise import threshold_map
from egotriad.converters.dvs_signal import relative_noise
from egotriad.manifests import Events

SIZE = 64
PIXELS = SIZE * SIZE


def still(
    config: DvsConfig, duration_s: float, *, fps: float = 25, level: int = 0, **options: Any
) -> Events:
    """Events of a square sensor that looks at one level."""
    n = round(duration_s * fps) + 1
    frames = np.broadcast_to(np.uint8(level), (n, SIZE, SIZE))
    return emulate(frames, np.arange(n) / fps, config, **options)


def per_pixel(events: Events) -> np.ndarray:
    return np.bincount(events.y.astype(int) * SIZE + events.x, minlength=PIXELS)


def gaps_us(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Times between successive events of a pixel, and when they began."""
    pixel = events.y.astype(int) * SIZE + events.x
    order = np.argsort(pixel, kind="stable")
    same = np.diff(pixel[order]) == 0
    t_us = events.t_us[order]
    return np.diff(t_us)[same], t_us[:-1][same]


# ---------------------------------------------------------------- shot noise


@pytest.mark.parametrize(("level", "share"), [(0, 1.0), (85, 0.75), (255, 0.25)])
@pytest.mark.parametrize("fps", [5, 500])
def test_shot_noise_has_the_stated_rate(level: int, share: float, fps: float) -> None:
    events = still(DvsConfig(shot_noise_rate_hz=20.0), 2.0, fps=fps, level=level)
    expected = 20.0 * share * 2.0 * PIXELS
    assert len(events) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert events.p.sum() == pytest.approx(expected / 2, abs=4 * np.sqrt(expected / 4))


def test_shot_noise_is_a_poisson_process_in_every_pixel() -> None:
    duration_s = 8.0
    events = still(DvsConfig(shot_noise_rate_hz=5.0), duration_s)
    counts = per_pixel(events)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / PIXELS))
    quarters = np.histogram(events.t_us, 40, (0, 8e6))[0]
    assert stats.chisquare(quarters).pvalue > 1e-3
    # Cut off at the end; those that begin early are exponential as far as they can be seen.
    gaps, begin_us = gaps_us(events)
    early = gaps[(begin_us < 4e6) & (gaps < 4e6)]
    fits = stats.kstest(early / 4e6, stats.truncexpon(b=20, scale=1 / 20).cdf)
    assert fits.pvalue > 1e-3


def test_shot_noise_is_even_over_the_frame_interval_and_over_the_sensor() -> None:
    events = still(DvsConfig(shot_noise_rate_hz=20.0), 2.0)
    phases = np.bincount((events.t_us - 1) % 40_000 * 20 // 40_000, minlength=20)
    assert stats.chisquare(phases).pvalue > 1e-3
    assert stats.chisquare(np.bincount(events.x)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(events.y)).pvalue > 1e-3


def test_with_mismatch_the_array_keeps_its_mean_and_low_thresholds_have_more() -> None:
    config = DvsConfig(shot_noise_rate_hz=20.0, sigma_thres=0.05)
    events = still(config, 3.0)
    expected = 20.0 * 3.0 * PIXELS
    assert len(events) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    pos, neg = (
        threshold_map(0.2, 0.05, PIXELS, seed=0, recording="", polarity=polarity)
        for polarity in ("ON", "OFF")
    )
    weight = 1 / pos + 1 / neg
    expected_each = expected * weight / weight.sum()
    distance = (per_pixel(events) - expected_each) / np.sqrt(expected_each)
    assert distance.std() == pytest.approx(1.0, abs=0.05)


def test_the_polarity_of_lower_threshold_has_more_shot_noise() -> None:
    events = still(DvsConfig(shot_noise_rate_hz=20.0, pos_thres=0.1, neg_thres=0.3), 2.0)
    assert events.p.mean() == pytest.approx(0.75, abs=0.01)


def test_a_noise_event_makes_the_pixel_forget_what_it_had_gathered() -> None:
    # A slow ramp of three thresholds a second under noise far faster: only noise is left.
    times_s = np.arange(26) / 25
    ramp = np.repeat(0.6 * times_s, PIXELS).reshape(26, SIZE, SIZE).astype(np.float32)
    quiet = emulate(ramp, times_s, DvsConfig(hdr=True))
    noisy = emulate(ramp, times_s, DvsConfig(hdr=True, shot_noise_rate_hz=400.0))
    assert quiet.p.mean() == 1.0
    assert noisy.p.mean() == pytest.approx(0.5, abs=0.01)


# ---------------------------------------------------------------- leak


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("rate_hz", "fps"), [(2.0, 25), (60.0, 25), (10.0, 400)])
def test_leak_has_the_rate_and_the_interval_spread_asked_for(
    jitter: float, rate_hz: float, fps: float
) -> None:
    duration_s = round(20 / rate_hz * fps) / fps
    config = DvsConfig(leak_rate_hz=rate_hz, leak_jitter_fraction=jitter)
    events = still(config, duration_s, fps=fps, level=100)
    expected = rate_hz * duration_s * PIXELS
    spread = np.sqrt(max(jitter**2 * 20, 1 / 6) * PIXELS)  # of the number of renewals
    assert len(events) == pytest.approx(expected, abs=4 * spread)
    assert events.p.all()
    gaps, begin_us = gaps_us(events)
    gaps = gaps[begin_us < 0.25e6 * duration_s]  # of later ones, the long are cut off
    assert gaps.mean() == pytest.approx(1e6 / rate_hz, rel=0.015)
    assert gaps.std() / gaps.mean() == pytest.approx(jitter, abs=0.015)


@pytest.mark.parametrize("jitter", [0.0, 0.1, 1.0])
def test_leak_begins_in_full_flow_and_not_in_step(jitter: float) -> None:
    events = still(DvsConfig(leak_rate_hz=10.0, leak_jitter_fraction=jitter), 0.2, level=100)
    # Within two mean intervals, every tenth of one has its share of first events.
    counts = np.histogram(events.t_us, 20, (0, 200_000))[0]
    expected = PIXELS * 10.0 * 0.01
    np.testing.assert_allclose(counts, expected, atol=4.5 * np.sqrt(expected))


def test_leak_rates_spread_over_the_pixels_by_the_decades_asked_for() -> None:
    config = DvsConfig(leak_rate_hz=20.0, noise_rate_cov_decades=0.2, sigma_thres=0.05)
    rates_hz = per_pixel(still(config, 10.0, level=100)) / 10.0
    decades = np.log10(rates_hz / 20.0)
    assert decades.std() == pytest.approx(0.2, rel=0.05)
    assert np.median(decades) == pytest.approx(0.0, abs=0.02)


def test_leak_is_a_straight_fall_on_top_of_the_signal() -> None:
    # Leak of 1.0 and signal of 0.6 a second: one ON event every 0.2 / 1.6 s.
    times_s = np.arange(51) / 25
    ramp = np.repeat(0.6 * times_s, 16).reshape(51, 4, 4).astype(np.float32)
    gaps, _ = gaps_us(emulate(ramp, times_s, DvsConfig(leak_rate_hz=5.0, hdr=True)))
    np.testing.assert_allclose(gaps, 125_000, atol=2)


def test_leak_rates_can_be_given() -> None:
    factors = np.ones((SIZE, SIZE), np.float32)
    factors[:, : SIZE // 2] = 0
    factors[: SIZE // 2] *= 3
    events = still(DvsConfig(leak_rate_hz=10.0), 2.0, level=100, leak_rate_map=factors)
    counts = per_pixel(events).reshape(SIZE, SIZE) / 2.0
    assert counts[:, : SIZE // 2].max() == 0
    assert counts[: SIZE // 2, SIZE // 2 :].mean() == pytest.approx(30, rel=0.01)
    assert counts[SIZE // 2 :, SIZE // 2 :].mean() == pytest.approx(10, rel=0.01)


def test_the_dead_time_lengthens_leak_intervals() -> None:
    config = DvsConfig(leak_rate_hz=10.0, refractory_period_s=0.07)
    gaps, _ = gaps_us(still(config, 3.0, level=100))
    np.testing.assert_allclose(gaps, 170_000, atol=2)


# ---------------------------------------------------------------- photoreceptor noise


def photoreceptor(
    rate_hz: float, cutoff_hz: float, threshold: float = 0.2, **changes: Any
) -> DvsConfig:
    return DvsConfig(
        photoreceptor_noise=True,
        shot_noise_rate_hz=rate_hz,
        cutoff_hz=cutoff_hz,
        pos_thres=threshold,
        neg_thres=threshold,
        **changes,
    )


@pytest.mark.parametrize("rate_over_cutoff", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("frames_per_cutoff", [1, 3, 10, 30])
def test_photoreceptor_noise_delivers_the_rate_asked_for_at_any_frame_rate(
    rate_over_cutoff: float, frames_per_cutoff: float
) -> None:
    cutoff_hz = 40.0
    rate_hz, fps = rate_over_cutoff * cutoff_hz, frames_per_cutoff * cutoff_hz
    duration_s = max(12 / rate_hz, 300 / fps) / 8
    events = still(photoreceptor(rate_hz, cutoff_hz), duration_s, fps=fps, level=100)
    duration_s = round(duration_s * fps) / fps
    assert len(events) / PIXELS / duration_s == pytest.approx(rate_hz, rel=0.12)
    assert events.p.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.1, 0.4])
@pytest.mark.parametrize(("cutoff_hz", "fps"), [(100.0, 4000.0), (30.0, 300.0), (300.0, 3000.0)])
@pytest.mark.parametrize("rate_over_cutoff", [0.001, 0.01, 0.1])
def test_photoreceptor_noise_delivers_its_rate_for_any_threshold_and_cutoff(
    threshold: float, cutoff_hz: float, fps: float, rate_over_cutoff: float
) -> None:
    rate_hz = rate_over_cutoff * cutoff_hz
    duration_s = round(min(2 / rate_hz, 6000 / fps) * fps) / fps
    events = still(photoreceptor(rate_hz, cutoff_hz, threshold), duration_s, fps=fps, level=100)
    assert len(events) / PIXELS / duration_s == pytest.approx(rate_hz, rel=0.12)


def test_photoreceptor_noise_is_normal_of_its_rms_and_forgets_with_the_low_pass() -> None:
    config = photoreceptor(5.0, 30.0)
    emulator = DvsEmulator(config, (SIZE, SIZE))
    frame = np.full((1, SIZE, SIZE), 100, np.uint8)
    noise = []
    for k in range(60):
        emulator.feed(frame, np.array([2000 * k]))
        noise.append(emulator._engine._start.signal.noise.ravel().copy())  # type: ignore[union-attr]
    rms = 0.2 * relative_noise(5.0, 30.0, 2000.0)
    values = np.array(noise[1:])
    assert values.std() == pytest.approx(rms, rel=0.02)
    assert stats.kstest(values[-1] / rms, "norm").pvalue > 1e-3
    for steps in (1, 5, 20):
        correlation = (values[steps:] * values[:-steps]).mean() / rms**2
        expected = np.exp(-2 * np.pi * 30.0 * 0.002 * steps)
        assert correlation == pytest.approx(expected, abs=0.03)


def test_photoreceptor_noise_alternates_in_polarity_and_shot_noise_does_not() -> None:
    def alternation(config: DvsConfig) -> float:
        events = still(config, 4.0, fps=200, level=100)
        pixel = events.y.astype(int) * SIZE + events.x
        order = np.argsort(pixel, kind="stable")
        same = np.diff(pixel[order]) == 0
        return float((np.diff(events.p[order].astype(int)) != 0)[same].mean())

    assert alternation(photoreceptor(3.0, 20.0)) > 0.8
    assert alternation(DvsConfig(shot_noise_rate_hz=3.0)) == pytest.approx(0.5, abs=0.02)


def test_relative_noise_rises_with_the_rate_and_towards_low_frame_rates() -> None:
    rates = [relative_noise(rate, 100.0, 1000.0) for rate in (0.1, 1.0, 10.0, 30.0)]
    assert (np.diff(rates) > 0).all()
    intervals = [relative_noise(1.0, 100.0, interval) for interval in (0.0, 100.0, 1e3, 1e4, 1e5)]
    assert (np.diff(intervals) > 0).all()
    assert relative_noise(1e9, 100.0, 1e6) == 1.0
