"""The signal of a pixel against closed forms: lin-log, low pass, centre-surround, high pass."""

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from egotriad.converters.dvs import DvsConfig, DvsEmulator, emulate
from egotriad.converters.dvs_signal import SCIDVS_TAU_S, tables, time_constant_us
from egotriad.manifests import Events


def drifting_luma(n: int, size_wh: tuple[int, int], pixels_per_frame: float) -> np.ndarray:
    """Waves of several directions and lengths, moving right; float64 (n, H, W), 20 to 235."""
    y, x = np.mgrid[: size_wh[1], : size_wh[0]]
    x = x - pixels_per_frame * np.arange(n)[:, None, None]
    rng = np.random.default_rng(5)
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(-1, 1, (6, 3)) * [0.6, 0.6, 9]]
    return 127.5 + 107.5 * np.mean(waves, axis=0) / np.abs(np.mean(waves, axis=0)).max()


def walked(config: DvsConfig, frames: np.ndarray, t_us: np.ndarray) -> tuple[np.ndarray, Events]:
    """The signal after every frame, (n, H, W), and the events."""
    emulator = DvsEmulator(config, frames.shape[:0:-1])
    signals, events = [], []
    for k in range(len(frames)):
        events.append(emulator.feed(frames[k : k + 1], t_us[k : k + 1]))
        engine: Any = emulator._engine
        start = engine._start
        signals.append((start.state.log + start.state.lag).reshape(frames.shape[1:]).copy())
    names = ("t_us", "x", "y", "p")
    joined = {name: np.concatenate([getattr(e, name) for e in events]) for name in names}
    return np.array(signals, np.float64), Events(**joined, size_wh=events[0].size_wh)


def test_the_lin_log_curve_is_linear_up_to_20_and_logarithmic_above() -> None:
    log = tables().log_of_level[:256].astype(np.float64)
    level = np.arange(256)
    np.testing.assert_allclose(log[:21], level[:21] * np.log(20) / 20, atol=3e-7)
    np.testing.assert_allclose(log[20:], np.log(level[20:]), atol=3e-7)
    assert (np.diff(log) > 0).all()


def test_the_low_pass_of_white_has_the_cutoff_asked_for_and_that_of_black_7_percent() -> None:
    cutoff_hz = 1e6 / (2 * np.pi * time_constant_us(30.0))
    assert cutoff_hz[255] == pytest.approx(30.0)
    assert cutoff_hz[0] == pytest.approx(30.0 * 20 / 275)


def step_response(interval_us: int) -> tuple[Events, np.ndarray]:
    """Events of a step from 50 to 200 through a low pass, and when they are due."""
    t_us = np.concatenate([[0, 1], 1 + np.arange(1, 150_000 // interval_us) * interval_us])
    frames = np.full((len(t_us), 1, 1), 200, np.uint8)
    frames[0] = 50
    events = DvsEmulator(DvsConfig(cutoff_hz=10.0), (1, 1)).feed(frames, t_us)
    contrast = np.log(200 / 50)
    tau_us = 1e6 / (2 * np.pi * 10.0) * 275 / 220
    return events, 1 - tau_us * np.log1p(-0.2 * np.arange(1, 7) / contrast)


def test_a_step_through_the_low_pass_is_an_exponential() -> None:
    tau_us = 1e6 / (2 * np.pi * 10.0) * 275 / 220
    errors_us = []
    for interval_us in (8_000, 4_000, 2_000, 1_000, 100):
        events, due_us = step_response(interval_us)
        assert len(events) == 6
        assert events.p.all()
        errors_us.append(np.abs(events.t_us - due_us).max())
        # A chord lies off an exponential by at most (interval / tau)^2 / 8 of its slope times tau.
        bound_us = interval_us**2 / (8 * tau_us) * np.exp(interval_us / tau_us)
        assert errors_us[-1] <= bound_us + 1.0
    assert errors_us[0] > 3 * errors_us[1] > 9 * errors_us[2] > 20 * errors_us[3]
    assert errors_us[-1] <= 1.0


def test_far_above_the_frame_rate_the_low_pass_is_still_that_of_its_differential_equation() -> None:
    rng = np.random.default_rng(2)
    t_us = 1_000_000 + 40_000 * np.arange(12)
    frames = rng.integers(0, 256, (12, 1, 9)).astype(np.uint8)
    config = DvsConfig(cutoff_hz=300.0)
    signal, _ = walked(config, frames, t_us)
    log = tables().log_of_level[frames].astype(np.float64)
    tau_us = time_constant_us(300.0)
    expected = log[0].copy()
    for k in range(1, 12):
        slope, tau = (log[k] - log[k - 1]) / 40_000, tau_us[frames[k]]

        def fall(
            t: float,
            y: np.ndarray,
            start: np.ndarray = log[k - 1],
            slope: np.ndarray = slope,
            tau: np.ndarray = tau,
        ) -> np.ndarray:
            return ((start + slope * t).ravel() - y) / tau.ravel()

        solution = solve_ivp(fall, (0, 40_000), expected.ravel(), rtol=1e-9, method="LSODA")
        expected = solution.y[:, -1].reshape(1, 9)
        np.testing.assert_allclose(signal[k], expected, atol=2e-6)
    assert np.abs(signal[-1] - log[-1]).max() > 0.01  # it does lag


def test_a_sinusoid_leaves_the_low_pass_with_its_amplitude_and_phase() -> None:
    # So small that all frames round to level 100: one time constant.
    amplitude, rate_hz, cutoff_hz = 0.0045, 8.0, 20.0
    t_us = np.arange(3000) * 500
    phase = 2 * np.pi * rate_hz * t_us / 1e6
    frames = (np.log(100) + amplitude * np.sin(phase)).astype(np.float32)[:, None, None]
    config = DvsConfig(cutoff_hz=cutoff_hz, hdr=True, pos_thres=0.001, neg_thres=0.001)
    signal, events = walked(config, frames, t_us)
    product = 2 * np.pi * rate_hz * time_constant_us(cutoff_hz)[100] / 1e6
    gain, delay = 1 / np.sqrt(1 + product**2), np.arctan(product)
    expected = np.log(100) + amplitude * gain * np.sin(phase - delay)
    np.testing.assert_allclose(signal[600:, 0, 0], expected[600:], atol=3e-6)
    # From one event to the next of the same sign, one threshold; the signal's own curve between.
    late = events.t_us > 300_000
    up_us = events.t_us[late][1:][events.p[late][1:] & events.p[late][:-1]]
    from_peak = amplitude * gain * np.sin(2 * np.pi * rate_hz * up_us / 1e6 - delay)
    levels = np.mod(from_peak, 0.001)
    assert np.ptp(np.mod(levels - levels[0] + 0.0005, 0.001)) < 1e-4


# ---------------------------------------------------------------- centre-surround


def test_a_uniform_field_has_no_contrast_for_a_centre_surround_pixel() -> None:
    levels = np.uint8([100, 30, 220, 90, 90])
    frames = np.broadcast_to(levels[:, None, None], (5, 12, 16))
    config = DvsConfig(cs_lambda_pixels=2.0)
    assert len(emulate(frames, np.arange(5) / 10, config)) == 0
    assert len(emulate(frames, np.arange(5) / 10, DvsConfig())) > 1000


def test_the_surround_attenuates_a_grating_as_the_closed_form_says() -> None:
    length_px, lam = 64, 3.0
    for k in (1, 5, 20, 63):
        # A wave that reflecting borders leave as it is; its eigenvalue under the Laplacian.
        wave = np.cos(np.pi * k * (np.arange(length_px) + 0.5) / length_px)
        eigenvalue = 2 - 2 * np.cos(np.pi * k / length_px)
        frame = np.broadcast_to(4 + 0.5 * wave, (6, length_px)).astype(np.float32)
        frames = np.stack([frame, frame])
        config = DvsConfig(cs_lambda_pixels=lam, hdr=True)
        signal, _ = walked(config, frames, np.array([0, 1000]))
        attenuated = 0.5 * wave * (1 - 1 / (1 + lam**2 * eigenvalue))
        np.testing.assert_allclose(signal[1, 3], attenuated, atol=1e-6)


def test_the_surround_follows_a_flash_with_its_time_constant() -> None:
    # Of a uniform field only the time constant of the photoreceptor is seen: contrast, then none.
    t_us = np.concatenate([[0, 1], 1 + 1000 * np.arange(1, 30)])
    frames = np.full((len(t_us), 5, 7), np.log(200), np.float32)
    frames[0] = np.log(100)
    signal, _ = walked(DvsConfig(cs_lambda_pixels=2.0, cs_tau_p_ms=5.0, hdr=True), frames, t_us)
    due = np.log(2) * np.exp(-(t_us[1:] - 1) / 5000)
    np.testing.assert_allclose(signal[1:], due[:, None, None] * np.ones((5, 7)), atol=2e-4)


def test_at_fine_steps_the_centre_surround_pixel_agrees_with_v2es() -> None:
    frames = np.log(drifting_luma(300, (24, 18), 0.02)).astype(np.float32)
    t_us = np.arange(300) * 100
    pixel = {"cs_lambda_pixels": 2.0, "cs_tau_p_ms": 5.0, "hdr": True, "timing": "slots"}
    ours, events = walked(DvsConfig(**pixel), frames, t_us)
    v2e = DvsEmulator(DvsConfig(compat="v2e", **pixel), (24, 18))
    v2e.feed(frames, t_us)
    model = v2e._engine._model  # type: ignore[union-attr]
    theirs = model.filtered - model.surround
    # v2e takes the later frame for the whole step, and begins with a surround equal to the centre.
    np.testing.assert_allclose(ours[-1], theirs, atol=3e-3)
    assert np.ptp(theirs) > 0.5
    assert len(events) > 300


def test_the_high_pass_pixel_adapts_to_a_step_as_the_closed_form_says() -> None:
    t_us = np.concatenate([[0, 1], 1 + 500 * np.arange(1, 120)])
    frames = np.full((len(t_us), 3, 4), np.log(200), np.float32)
    frames[0] = np.log(50)
    config = DvsConfig(scidvs=True, hdr=True)
    emulator = DvsEmulator(config, (4, 3))
    signals = []
    for k in range(len(t_us)):
        emulator.feed(frames[k : k + 1], t_us[k : k + 1])
        signals.append(emulator._engine._start.signal.value.copy())  # type: ignore[union-attr]
    tau_us = emulator._engine._start.signal._tau_us  # type: ignore[union-attr]
    assert np.median(tau_us) == pytest.approx(SCIDVS_TAU_S * 1e6, rel=0.6)
    elapsed = (t_us[1:] - 1)[:, None, None] / tau_us
    # dv/dt = -sinh(0.7 v) / tau: tanh(0.35 v) falls exponentially. The signal is twice v.
    half = np.tanh(0.35 * np.log(4)) * np.exp(-0.7 * elapsed)
    np.testing.assert_allclose(signals[1:], 2 / 0.35 * np.arctanh(half), atol=2e-3)
    assert np.abs(signals[0]).max() == 0


def test_the_high_pass_pixel_follows_a_ramp_alike_at_any_frame_rate() -> None:
    finals = []
    for n in (2, 5, 200):
        frames = np.linspace(3, 5, n, dtype=np.float32)[:, None, None]
        emulator = DvsEmulator(DvsConfig(scidvs=True, hdr=True), (1, 1))
        emulator.feed(frames, np.linspace(0, 40_000, n).astype(np.int64))
        finals.append(emulator._engine._start.signal.value.item())  # type: ignore[union-attr]
    np.testing.assert_allclose(finals, finals[-1], atol=2e-4)
    tau_us = emulator._engine._start.signal._tau_us.item()  # type: ignore[union-attr]
    steady = 2 / 0.7 * np.arcsinh(2 / 40_000 * tau_us)
    assert 0.8 * steady < finals[-1] <= steady * 1.0001


def test_the_high_pass_pixel_has_no_burst_at_the_start() -> None:
    frames = np.repeat(drifting_luma(1, (16, 12), 0.0).astype(np.uint8), 6, axis=0)
    assert len(emulate(frames, np.arange(6) / 100, DvsConfig(scidvs=True))) == 0
    v2e = DvsConfig(scidvs=True, timing="slots", compat="v2e")
    assert len(emulate(frames, np.arange(6) / 100, v2e)) > 16 * 12 * 5
