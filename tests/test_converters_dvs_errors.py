"""What the event emulator refuses, and that it says what it got and what it needs."""

from typing import Any

import numpy as np
import pytest

from egotriad.converters.dvs import Backend, DvsConfig, DvsEmulator, emulate
from egotriad.manifests.errors import UsageError

V2E = DvsConfig(timing="slots", compat="v2e")
ZERO_OR_MORE = (
    "sigma_thres",
    "cutoff_hz",
    "leak_rate_hz",
    "leak_jitter_fraction",
    "noise_rate_cov_decades",
    "shot_noise_rate_hz",
    "refractory_period_s",
    "cs_tau_p_ms",
)


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", ["pos_thres", "neg_thres"])
@pytest.mark.parametrize("value", [0.0, -0.2, float("nan"), float("inf")])
def test_thresholds_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"{name}: got .*need 0\.001 or more"):
        DvsConfig(**{name: value})
    with pytest.raises(UsageError, match=rf"{name}_map: got .*need 0\.001 or more"):
        DvsEmulator(DvsConfig(), (1, 1), **{f"{name}_map": np.float32([[value]])})


@pytest.mark.parametrize("name", ZERO_OR_MORE)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_other_parameters_must_be_finite_and_not_negative(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name}: got {value}, need a finite number, zero or"):
        DvsConfig(**{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_surround_has_a_length(value: float) -> None:
    with pytest.raises(UsageError, match=f"cs_lambda_pixels: got {value}, need more than zero"):
        DvsConfig(cs_lambda_pixels=value)


def test_settings_that_contradict_each_other_are_named() -> None:
    with pytest.raises(UsageError, match="timing: got 'frame', need crossing or slots"):
        DvsConfig(timing="frame")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="compat: got 'V2E', need none or v2e"):
        DvsConfig(compat="V2E")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="compat: got 'v2e' with timing 'crossing', need timing"):
        DvsConfig(compat="v2e")
    with pytest.raises(UsageError, match=r"cutoff_hz 0\.0 and shot_noise_rate_hz 5\.0, need both"):
        DvsConfig(photoreceptor_noise=True, shot_noise_rate_hz=5.0)
    with pytest.raises(UsageError, match=r"leak_jitter_fraction: got 1\.5, need 0 to 1"):
        DvsConfig(leak_jitter_fraction=1.5)


def test_presets_are_listed_when_there_is_none_of_a_name() -> None:
    with pytest.raises(UsageError, match=r"'loud'.*ideal.*clean.*noisy.*v2e-defaults"):
        DvsConfig.preset("loud")


def test_a_sensor_has_a_size_and_a_known_back_end() -> None:
    for size_wh in ((0, 4), (4, 40_000)):
        with pytest.raises(UsageError, match=rf"size_wh: got \({size_wh[0]}, {size_wh[1]}\), need"):
            DvsEmulator(DvsConfig(), size_wh)
    backend: Any = "tpu"
    with pytest.raises(UsageError, match="backend: got 'tpu', need cpu, gpu, v2ecore"):
        DvsEmulator(DvsConfig(), (4, 3), backend=backend)
    assert Backend.__args__ == ("cpu", "gpu", "v2ecore")  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["pos_thres_map", "neg_thres_map", "leak_rate_map"])
def test_maps_have_the_shape_of_the_sensor(name: str) -> None:
    for wrong in (np.ones((4, 3), np.float32), np.ones(12, np.float32)):
        with pytest.raises(UsageError, match=rf"{name}: got .*{wrong.shape[0]}.*need .*\(3, 4\)"):
            DvsEmulator(DvsConfig(), (4, 3), **{name: wrong})


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_leak_rate_factors_are_factors(value: float) -> None:
    with pytest.raises(UsageError, match="leak_rate_map: got values that are no factors, need"):
        DvsEmulator(DvsConfig(), (1, 1), leak_rate_map=np.float32([[value]]))


# ---------------------------------------------------------------- frames and times


def test_unusable_frames_are_named_and_leave_the_stream_as_it_was() -> None:
    stream = DvsEmulator(DvsConfig(), (4, 3))
    t_us = np.arange(2)
    for frames, message in (
        (np.zeros((2, 3, 4)), r"got float64 \(2, 3, 4\), need uint8 \(n, 3, 4\)"),
        (np.zeros((2, 3, 4), np.float32), r"got float32 \(2, 3, 4\), need uint8 \(n, 3, 4\)"),
        (np.zeros((2, 4, 3), np.uint8), r"got uint8 \(2, 4, 3\), need uint8 \(n, 3, 4\)"),
        (np.zeros((3, 4), np.uint8), r"got uint8 \(3, 4\), need uint8 \(n, 3, 4\)"),
        (np.zeros((3, 3, 4), np.uint8), r"frame times: got \(2,\) for 3 frames"),
    ):
        with pytest.raises(UsageError, match=message):
            stream.feed(frames, t_us)
    with pytest.raises(UsageError, match="t_us: got float64, need int64"):
        stream.feed(np.zeros((2, 3, 4), np.uint8), t_us.astype(float))
    with pytest.raises(UsageError, match="times_s: got int64, need float64"):
        emulate(np.zeros((2, 3, 4), np.uint8), t_us, DvsConfig())
    with pytest.raises(UsageError, match=r"frames: got shape \(3, 4\), need \(T, H, W\)"):
        emulate(np.zeros((3, 4), np.uint8), np.arange(3.0), DvsConfig())
    assert len(stream.feed(np.zeros((2, 3, 4), np.uint8), t_us)) == 0


@pytest.mark.parametrize("config", [DvsConfig(), DvsConfig.preset("noisy"), V2E])
def test_the_size_may_not_change_within_a_stream(config: DvsConfig) -> None:
    stream = DvsEmulator(config, (4, 3))
    stream.feed(np.zeros((2, 3, 4), np.uint8), np.array([0, 10]))
    with pytest.raises(UsageError, match=r"frames: got uint8 \(1, 6, 8\), need uint8 \(n, 3, 4\)"):
        stream.feed(np.zeros((1, 6, 8), np.uint8), np.array([20]))
    assert len(stream.feed(np.full((1, 3, 4), 255, np.uint8), np.array([20]))) > 0


def test_log_frames_must_be_declared_and_be_float32() -> None:
    frames = np.zeros((2, 1, 1))
    for wrong in (frames, frames.astype(np.uint8)):
        with pytest.raises(UsageError, match=r"need float32 \(n, 1, 1\) of natural-log intensity"):
            emulate(wrong, np.arange(2.0), DvsConfig(hdr=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 255.0])
def test_log_frames_must_be_finite_logs(bad: float) -> None:
    frames = np.zeros((3, 1, 2), np.float32)
    frames[1, 0, 1] = bad
    with pytest.raises(UsageError, match="frame 1 of 3 holds NaN or values beyond ±50"):
        emulate(frames, np.arange(3.0), DvsConfig(hdr=True))


def test_times_must_increase_within_and_between_calls() -> None:
    stream = DvsEmulator(DvsConfig(), (1, 1))
    frames = np.zeros((2, 1, 1), np.uint8)
    with pytest.raises(UsageError, match="5 us is followed by 5 us, need steps of 1 to"):
        stream.feed(frames, np.array([5, 5]))
    stream.feed(frames, np.array([5, 6]))
    with pytest.raises(UsageError, match="6 us is followed by 4 us"):
        stream.feed(frames, np.array([4, 9]))
    with pytest.raises(UsageError, match=r"6 us is followed by 6 us.*drop repeated frames"):
        stream.feed(frames[:1], np.array([6]))
    with pytest.raises(UsageError, match="6 us is followed by 3600000006 us"):
        stream.feed(frames[:1], np.array([3_600_000_006]))
    assert len(stream.feed(frames, np.array([7, 8]))) == 0


def test_seconds_must_be_finite_and_a_microsecond_apart() -> None:
    frames = np.zeros((2, 1, 1), np.uint8)
    for times_s in ([0.0, np.nan], [0.0, np.inf]):
        with pytest.raises(UsageError, match="need finite times"):
            emulate(frames, np.array(times_s), DvsConfig())
    with pytest.raises(UsageError, match="1000000 us is followed by 1000000 us"):
        emulate(frames, np.array([1.0, 1.0000003]), DvsConfig())


def test_v2es_clock_begins_at_zero() -> None:
    frames = np.zeros((2, 1, 1), np.uint8)
    with pytest.raises(UsageError, match=r"begin at -1000000 us, need 0 to .*shift the clock"):
        emulate(frames, np.array([-1.0, 0.0]), V2E)
    assert len(emulate(frames, np.array([-1.0, 0.0]), DvsConfig())) == 0
