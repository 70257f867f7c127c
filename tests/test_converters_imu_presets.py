"""Presets: shapes, rates and scales of each encoder; which samples; LIMU-BERT's own windows."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters.imu_modes import sinc_hann
from egotriad.converters.imu_presets import PRESETS, ImuPreset, limu_bert_windows, preset
from egotriad.manifests import Clip, Imu
from egotriad.manifests.errors import ClipRejected, UsageError

ALL = pytest.mark.parametrize("each", PRESETS.values(), ids=PRESETS)


def imu_of(row: np.ndarray, rate_hz: float) -> Imu:
    """Six rows that differ: the signal, shifted by its row's number."""
    data = np.stack([row + k for k in range(6)]).astype(np.float32)
    return Imu(data=data, rate_hz=rate_hz, valid=np.ones(len(row), bool))


def sine_imu(frequency_hz: float, rate_hz: float, seconds: float) -> Imu:
    t_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return imu_of(np.sin(2 * np.pi * frequency_hz * t_s), rate_hz)


def rows(each: ImuPreset, array: np.ndarray) -> np.ndarray:
    """(6, T) in SI units again, for presets that keep the scale."""
    window = array.T if each.layout == "(T, 6)" else array
    scale = np.repeat([9.8 if each.scaling == "accel / 9.8" else 1.0, 1.0], 3)
    return window * scale[:, None]


@pytest.mark.parametrize(
    ("name", "shape", "window_us"),
    [
        ("limu-bert", (120, 6), 6_000_000),
        ("limu-bert-x", (20, 6), 1_000_000),
        ("primus", (6, 250), 5_000_000),
        ("imu2clip", (6, 1000), 5_000_000),
        ("imagebind", (6, 2000), 5_000_000),
        ("onellm", (6, 400), 2_000_000),
        ("chronos", (6, 200), 2_000_000),
    ],
)
@pytest.mark.parametrize("rate_hz", [200.0, 1000.0])
def test_every_preset_has_its_published_shape_at_any_clip_rate(
    name: str, shape: tuple[int, int], window_us: int, rate_hz: float
) -> None:
    array = preset(name)(sine_imu(1.0, rate_hz, 7.0))
    assert preset(name).window_us == window_us
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert np.isfinite(array).all()


@ALL
def test_a_clip_at_the_presets_own_rate_is_only_cut_and_scaled(each: ImuPreset) -> None:
    rng = np.random.default_rng(1)
    imu = imu_of(rng.standard_normal(each.samples + 10), each.rate_hz)
    middle = imu.data[:, 5 : 5 + each.samples].astype(np.float64)
    if each.scaling == "z-score":
        middle = (middle - middle.mean(axis=1, keepdims=True)) / middle.std(axis=1, keepdims=True)
        np.testing.assert_allclose(each(imu), middle, atol=1e-5)
    else:
        np.testing.assert_allclose(rows(each, each(imu)), middle, rtol=2e-7)


@ALL
def test_accelerations_come_before_rates_and_each_row_keeps_its_place(each: ImuPreset) -> None:
    imu = imu_of(np.zeros(8 * 200), 200.0)
    slow = replace(each, mode="bandlimited", scaling="none")
    window = rows(slow, slow(imu))
    np.testing.assert_allclose(window, np.arange(6)[:, None] * np.ones(each.samples), atol=1e-6)


@ALL
def test_a_slow_sine_keeps_its_amplitude_and_phase(each: ImuPreset) -> None:
    imu = sine_imu(1.0, 200.0, each.window_us / 1e6 + 2)
    unscaled = replace(each, scaling="none")
    window = rows(unscaled, unscaled(imu, start_us=1_000_000))
    t_s = 1 + np.arange(each.samples) / each.rate_hz
    gain = 1.0
    if each.mode == "block_mean":  # mean of n samples: half a block late, and a little lower
        n = 200.0 / each.rate_hz
        t_s = t_s + (n - 1) / 2 / 200.0
        gain = np.sin(np.pi * n / 200) / (n * np.sin(np.pi / 200))
    inside = slice(each.samples // 10, -each.samples // 10)  # torchaudio's edges sink to zero
    expected = gain * np.sin(2 * np.pi * t_s)
    np.testing.assert_allclose(window[0, inside], expected[inside], atol=2e-3)


@pytest.mark.parametrize("name", ["imu2clip", "primus", "onellm"])
@pytest.mark.parametrize("rate_hz", [400, 1000, 60])
def test_torchaudio_presets_see_the_windows_samples_and_zeros_around_them(
    name: str, rate_hz: int
) -> None:
    each = preset(name)
    rng = np.random.default_rng(rate_hz)
    imu = imu_of(rng.standard_normal(7 * rate_hz), float(rate_hz))
    first, count = rate_hz, round(each.window_us * 1e-6 * rate_hz)
    alone = imu.data[:, first : first + count].astype(np.float64)
    expected = sinc_hann(alone, source_hz=rate_hz, rate_hz=int(each.rate_hz))
    assert expected.shape == (6, each.samples)
    np.testing.assert_allclose(each(imu, start_us=1_000_000), expected, atol=1e-6)


def test_limu_bert_averages_ten_samples_of_a_200_hz_clip() -> None:
    rng = np.random.default_rng(3)
    imu = imu_of(rng.standard_normal(1200), 200.0)
    expected = imu.data.astype(np.float64).reshape(6, 120, 10).mean(axis=2)
    np.testing.assert_allclose(rows(PRESETS["limu-bert"], PRESETS["limu-bert"](imu)), expected)


def test_a_longer_clip_gives_its_middle_unless_told_where() -> None:
    ramp = imu_of(np.arange(1400), 200.0)
    onellm = PRESETS["onellm"]
    assert onellm(ramp)[0, [0, -1]].tolist() == [500, 899]
    assert onellm(ramp, start_us=0)[0, [0, -1]].tolist() == [0, 399]
    assert onellm(ramp, start_us=5_000_000)[0, [0, -1]].tolist() == [1000, 1399]
    assert onellm(ramp, start_us=1_004_999)[0, 0] == 200  # counting starts at the sample before
    odd = imu_of(np.arange(405), 200.0)
    assert onellm(odd)[0, 0] == 2


def test_rates_whose_period_is_no_whole_microsecond_lose_no_sample() -> None:
    each = PRESETS["limu-bert-x"]
    ramp = imu_of(np.arange(300), 60.0)
    for k in range(120):
        start_us = round(k * 1e6 / 60)
        assert rows(each, each(ramp, start_us=start_us))[0, 0] == pytest.approx(k + 1, rel=1e-6)


@ALL
def test_a_clip_that_just_fits_is_taken_whole(each: ImuPreset) -> None:
    for rate_hz in (200.0, 50.0):
        count = round(each.window_us * 1e-6 * rate_hz)
        assert each(imu_of(np.zeros(count), rate_hz)).size == 6 * each.samples
        with pytest.raises(
            ClipRejected, match=f"{each.name} needs {each.window_us / 1e6:g} s"
        ) as e:
            each(imu_of(np.zeros(count - 1), rate_hz))
        assert e.value.reason == "imu-short"


@ALL
def test_masked_samples_inside_reject_the_window_and_beside_it_do_not(each: ImuPreset) -> None:
    imu = imu_of(np.ones(20 * 200), 200.0)
    imu.valid[2000:2004] = False
    imu.data[:, 2000:2004] = np.nan
    with pytest.raises(ClipRejected, match=r"4 of \d+ IMU samples") as caught:
        each(imu)
    assert caught.value.reason == "imu-gap"
    assert np.isfinite(each(imu, start_us=10_020_000)).all()
    assert np.isfinite(each(imu, start_us=9_995_000 - each.window_us)).all()
    for start_us in (-5_000, 20_050_000 - each.window_us):
        with pytest.raises(ClipRejected) as caught:
            each(imu, start_us=start_us)
        assert caught.value.reason == "imu-gap"


def test_a_clip_is_named_when_it_is_rejected(toy_clips: Callable[..., list[Clip]]) -> None:
    clip = toy_clips(1)[0]
    assert clip.imu is not None
    np.testing.assert_array_equal(PRESETS["onellm"](clip), PRESETS["onellm"](clip.imu))
    with pytest.raises(
        ClipRejected, match=r"^toy/rec0/0+-003200000: has 3\.200 s.*--window-seconds 6"
    ):
        PRESETS["limu-bert"](clip)
    with pytest.raises(
        ClipRejected, match=r"^toy/rec0/.*: has no IMU, imu2clip needs 5 s"
    ) as caught:
        PRESETS["imu2clip"](replace(clip, imu=None))
    assert caught.value.reason == "no-imu"


def test_chronos_standardises_each_channel_and_a_constant_one_becomes_zero() -> None:
    imu = sine_imu(2.0, 100.0, 2.0)
    imu.data[2] = 9.81
    imu.data[0] *= 100
    window = PRESETS["chronos"](imu)
    np.testing.assert_allclose(window.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(window.std(axis=1), [1, 1, 0, 1, 1, 1], atol=1e-5)
    np.testing.assert_array_equal(window[2], 0)


def test_rates_that_a_recipe_cannot_take_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="10"):
        PRESETS["limu-bert"](sine_imu(1.0, 10.0, 8.0))
    with pytest.raises(UsageError, match=r"197\.45.*whole"):
        PRESETS["primus"](sine_imu(1.0, 197.45, 8.0))
    with pytest.raises(UsageError, match="got 'clip', need one of limu-bert, limu-bert-x, primus"):
        preset("clip")


def windows_by_their_loop(values: np.ndarray, source_hz: float) -> np.ndarray:
    """LIMU-BERT's script restated, a block at a time."""
    length, blocks, i, remainder = source_hz / 20, [], 0, 0.0
    whole = int(length)
    if length == whole:
        blocks = [
            values[:, i : i + whole].mean(axis=1) for i in range(0, values.shape[1] - whole, whole)
        ]
    else:
        while i + whole + 1 < values.shape[1]:
            remainder += length - whole
            size = whole + (remainder >= 1)
            remainder -= remainder >= 1
            blocks.append(values[:, i : i + size].mean(axis=1))
            i += size
    count = len(blocks) // 120 if len(blocks) > 120 else 0
    return np.array(blocks[: count * 120]).reshape(count, 120, 6)


@settings(max_examples=40, deadline=None)
@given(
    source_hz=st.sampled_from([20.0, 50.0, 64.0, 100.0, 200.0]),
    seconds=st.floats(0, 20),
    extra=st.integers(-3, 3),
)
def test_limu_bert_windows_equal_their_script(source_hz: float, seconds: float, extra: int) -> None:
    count = max(int(seconds * source_hz) + extra, 0)
    values = np.random.default_rng(count).standard_normal((6, count))
    windows = limu_bert_windows(values, source_hz=source_hz)
    assert windows.dtype == np.float32
    expected = windows_by_their_loop(values, source_hz)
    assert windows.shape == expected.shape
    np.testing.assert_allclose(windows, expected, atol=1e-6)


@pytest.mark.parametrize("end", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize(("source_hz", "window"), [(50.0, 300), (200.0, 1200)])
def test_limu_bert_windows_end_where_their_script_ends(
    source_hz: float, window: int, end: int
) -> None:
    for windows in (1, 2):
        values = np.random.default_rng(end + 1).standard_normal((6, windows * window + end))
        assert len(limu_bert_windows(values, source_hz=source_hz)) == len(
            windows_by_their_loop(values, source_hz)
        )


def hapt_stretches(shared: Callable[[str], object]):
    """(values (6, N) in SI units, activity, user) of each labelled stretch, files by name."""
    raw = shared("real/hapt_phone/RawData")
    labels = np.loadtxt(raw / "labels.txt", dtype=np.int64)
    for path in sorted(raw.glob("acc_*.txt")):
        experiment, user = int(path.stem[7:9]), int(path.stem[-2:])
        accel = np.loadtxt(path) * 9.80665
        gyro = np.loadtxt(path.with_name("gyro" + path.name[3:]))
        values = np.concatenate([accel, gyro], axis=1).T
        mine = labels[(labels[:, 0] == experiment) & (labels[:, 1] == user)]
        for _, _, activity, first, last in mine:
            yield values[:, first:last], activity, user


def test_hapt_recordings_give_limu_berts_golden_windows(shared: Callable[[str], object]) -> None:
    golden = np.load(shared("real/hapt_phone/limu_bert_windows_20hz_120.npz"))
    windows, activities, users = [], [], []
    for values, activity, user in hapt_stretches(shared):
        if activity <= 6:
            cut = limu_bert_windows(values, source_hz=50.0)
            windows.append(cut)
            activities += [activity] * len(cut)
            users += [user] * len(cut)
    # To within the last bit of float32: theirs adds the samples of a block in another order.
    np.testing.assert_array_equal(np.concatenate(windows), golden["data"])
    np.testing.assert_array_equal(activities, golden["activity_id"])
    np.testing.assert_array_equal(users, golden["user_id"])
    assert len(golden["data"]) == 171


def test_the_limu_bert_preset_gives_the_golden_windows_out_of_50_hz_clips(
    shared: Callable[[str], object],
) -> None:
    golden = np.load(shared("real/hapt_phone/limu_bert_windows_20hz_120.npz"))["data"]
    inputs = np.load(shared("real/limu_bert_weights/golden_uci_first4.npz"))["input_ms2_rads"]
    scale = np.repeat([9.8, 1.0], 3)
    found = []
    for values, activity, _ in hapt_stretches(shared):
        imu = Imu(
            data=values.astype(np.float32), rate_hz=50.0, valid=np.ones(values.shape[1], bool)
        )
        for k in range(len(limu_bert_windows(values, source_hz=50.0)) if activity <= 6 else 0):
            found.append(PRESETS["limu-bert"](imu, start_us=k * 6_000_000))
    np.testing.assert_allclose(np.stack(found), golden / scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.stack(found[:4]) * scale, inputs, rtol=1e-5, atol=1e-6)
