"""Every encoder's contract: what it takes from a clip, what it gives, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from egotriad.converters.imu_presets import preset
from egotriad.manifests import Clip, Imu
from egotriad.manifests.errors import ClipRejected, UsageError
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.contract import EncoderContract, check_units
from egotriad.models.seeding import torch_stream

SMALL: dict[str, dict[str, Any]] = {
    "onellm": {"width": 64, "heads": 4, "clip_layers": 2, "expert_layers": 1, "hidden": 96}
}
"""Settings for those whose published size is too large to try out."""

EXTRAS = {"chronos": "chronos"}
"""Packages that some encoders need."""

VIEWS = {
    # name: rate in Hz, shape of a window, tokens per second, how the rate is changed, scaling
    "chronos": (100.0, (6, 200), 7.0, "bandlimited", "z-score"),
    "conv": (50.0, (6, 150), 10 / 3, "bandlimited", "none"),
    "imagebind": (400.0, (6, 2000), 0.2, "bandlimited", "none"),
    "imu2clip": (200.0, (6, 1000), 0.2, "torchaudio", "none"),
    "limu_bert": (20.0, (120, 6), 20.0, "block_mean", "accel / 9.8"),
    "limu_bert_x": (20.0, (20, 6), 20.0, "block_mean", "accel / 9.8"),
    "onellm": (200.0, (6, 400), 16.0, "torchaudio", "none"),
    "primus": (50.0, (6, 250), 0.2, "torchaudio", "none"),
}
ALL = pytest.mark.parametrize("name", ENCODERS.names())


def build(name: str, **settings: Any) -> Any:
    """The encoder with random weights, small where its real size is too large."""
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    encoder_class: Any = ENCODERS.load(name)
    with torch_stream(0, name):
        return encoder_class(encoder_class.Config(**SMALL.get(name, {}), **settings)).eval()


def trainable(name: str) -> Any:
    return build(name) if name == "conv" else build(name, trainable=True)


def batch(contract: EncoderContract, size: int) -> torch.Tensor:
    return torch.randn(size, *contract.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip(toy_clips: Callable[..., list[Clip]]) -> Clip:
    """7 s at 200 Hz: still, then walking."""
    rng = np.random.default_rng(0)
    data = 0.05 * rng.standard_normal((6, 1400))
    data[2] += 9.81 + 2 * np.sin(2 * np.pi * 1.8 * np.arange(1400) / 200)
    imu = Imu(data=data.astype(np.float32), rate_hz=200.0, valid=np.ones(1400, bool))
    return replace(toy_clips(1)[0], imu=imu, duration_us=7_000_000)


def with_imu(clip: Clip, **changes: Any) -> Clip:
    assert clip.imu is not None
    return replace(clip, imu=replace(clip.imu, **changes))


def test_every_encoder_is_listed_here_with_its_published_view() -> None:
    assert set(VIEWS) == set(ENCODERS.names())


@ALL
def test_one_clip_goes_through_every_encoder_by_its_contract(name: str, clip: Clip) -> None:
    encoder = build(name)
    contract = encoder.contract
    rate_hz, shape, tokens_per_s, mode, scaling = VIEWS[name]
    assert (contract.rate_hz, contract.shape) == (rate_hz, shape)
    assert (contract.preset.mode, contract.preset.scaling) == (mode, scaling)
    assert contract.tokens_per_s == pytest.approx(tokens_per_s)
    window = contract.prepare(clip)
    assert window.dtype == torch.float32
    with torch.inference_mode():
        features = encoder(window[None])
    assert features.shape == (1, contract.tokens, encoder.width)
    assert features.isfinite().all()


@ALL
def test_an_encoder_treats_every_window_alone_and_always_alike(name: str) -> None:
    encoder = build(name)
    inputs = batch(encoder.contract, 2)
    with torch.inference_mode():
        together = encoder(inputs)
        torch.testing.assert_close(together[1:2], encoder(inputs[1:2]), atol=2e-5, rtol=1e-4)
        assert torch.equal(together, encoder(inputs))
        if name != "imu2clip":  # its max-pooling may miss one sample
            changed = inputs.clone()
            changed.narrow(encoder.contract.time_axis, 0, 4).add_(1)
            assert not torch.allclose(together, encoder(changed))


@ALL
def test_every_weight_of_a_trainable_encoder_gets_a_gradient(name: str) -> None:
    encoder = trainable(name).train()
    inputs = batch(encoder.contract, 2)
    encoder.fit_normalisation(inputs)
    with torch_stream(0, "gradient"):
        features = encoder(inputs)
        (features * torch.randn_like(features)).sum().backward()
    blind = {n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    unused = {
        "primus": {"ssl_head.weight", "ssl_head.bias"},
        # Softmax does not feel what is added to every key.
        "imagebind": {n for n, _ in encoder.named_parameters() if n.endswith("attn.bias_k")},
    }
    assert blind <= unused.get(name, set())


@ALL
def test_a_frozen_encoder_learns_nothing_and_draws_nothing(name: str) -> None:
    if name == "conv":
        pytest.skip("made here, always trained")
    encoder = build(name).train()
    assert not any(p.requires_grad for p in encoder.parameters())
    inputs = batch(encoder.contract, 2)
    assert torch.equal(encoder(inputs), encoder(inputs))  # no dropout either
    with pytest.raises(UsageError, match="frozen, but no weights were loaded"):
        encoder.fit_normalisation(inputs)
    encoder.pretrained = True
    encoder.fit_normalisation(inputs)


@ALL
def test_a_window_of_another_shape_is_refused_with_what_may_have_happened(name: str) -> None:
    encoder = build(name)
    contract = encoder.contract
    need = rf"{contract.preset.name}: got a batch of shape .* need \(B, {contract.shape[0]}, "
    with pytest.raises(UsageError, match=need + ".*time and channels look swapped"):
        encoder(batch(contract, 2).transpose(1, 2))
    with pytest.raises(UsageError, match=need + ".*rows ax ay az gx gy gz"):
        encoder(batch(contract, 2)[0])
    with pytest.raises(UsageError, match=need):
        encoder(batch(contract, 2).narrow(3 - contract.time_axis, 0, 3))


@pytest.mark.parametrize(
    ("name", "fits", "fails", "hint"),
    [
        ("limu_bert", (1, 60, 120), (121, 300), "T must be 1 to 120; these are 50 Hz if"),
        ("limu_bert_x", (20,), (21, 120), "T must be 1 to 20; these are 120 Hz if"),
        ("primus", (123, 250, 1000), (122, 50), "T must be 123 or more; these are 10 Hz if"),
        ("imu2clip", (978, 1000, 1004), (977, 1005, 250), "T must be 978 to 1004; these are 50 Hz"),
        ("imagebind", (2000,), (1999, 2008, 1000), "T must be 2000; these are 200 Hz if"),
        ("onellm", (400,), (399, 401, 1000), "T must be 400; these are 500 Hz if"),
    ],
)
def test_the_hard_limits_of_the_window_are_those_published(
    name: str, fits: tuple[int, ...], fails: tuple[int, ...], hint: str
) -> None:
    encoder = build(name)
    axis = encoder.contract.time_axis

    def of_length(samples: int) -> torch.Tensor:
        shape = (1, samples, 6) if axis == 1 else (1, 6, samples)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        for samples in fits:
            assert encoder(of_length(samples)).shape[2] == encoder.width
        for samples in fails:
            with pytest.raises(UsageError, match="T must be"):
                encoder(of_length(samples))
    with pytest.raises(UsageError, match=hint):
        encoder(of_length(fails[-1]))


@ALL
def test_the_wrong_clip_is_rejected_with_its_reason(name: str, clip: Clip) -> None:
    assert clip.imu is not None
    contract = build(name).contract
    need = f"{contract.window_us * 1e-6:g} s"

    def rejected(wrong: Clip, match: str) -> str:
        with pytest.raises(ClipRejected, match=match) as error:
            contract.prepare(wrong)
        assert str(error.value).startswith(f"{wrong.window_id}: ")
        return error.value.reason

    assert rejected(replace(clip, imu=None), f"no IMU, need {need}") == "no-imu"
    short = with_imu(clip, data=clip.imu.data[:, :150], valid=clip.imu.valid[:150])
    assert rejected(short, rf"{contract.preset.name} needs {need}") == "imu-short"
    holes = clip.imu.valid.copy()
    holes[700] = False
    assert rejected(with_imu(clip, valid=holes), "masked") == "imu-gap"
    broken = clip.imu.data.copy()
    broken[1, 700:720] = np.nan
    assert rejected(with_imu(clip, data=broken), "NaN or infinite though marked") == "imu-nan"


@pytest.mark.parametrize("rate_hz", [197.45, 10.0])
def test_a_rate_the_authors_code_cannot_take_is_named(rate_hz: float, clip: Clip) -> None:
    name = "primus" if rate_hz > 100 else "limu_bert"
    with pytest.raises(UsageError, match=f"{rate_hz:g}"):
        build(name).contract.prepare(with_imu(clip, rate_hz=rate_hz))


def imu_of(clip: Clip, accel: float, gyro: float, *, swapped: bool = False) -> Imu:
    assert clip.imu is not None
    data = clip.imu.data * np.repeat([accel, gyro], 3)[:, None]
    data = np.roll(data, 3, axis=0) if swapped else data
    return replace(clip.imu, data=data.astype(np.float32))


@pytest.mark.parametrize(
    ("accel", "gyro", "swapped", "message"),
    [
        (1 / 9.80665, 1.0, False, r"median norm is 1\.\d*, need about 9\.81 .* looks like g;"),
        (1e3 / 9.80665, 1.0, False, "looks like mg;"),
        (0.01, 1.0, False, "gravity was removed"),
        (1.0, 1.0, True, "rows may be swapped"),
        (1.0, 500.0, False, r"gyroscope's median norm .* looks like deg/s"),
    ],
)
def test_wrong_units_and_swapped_rows_are_named(
    accel: float, gyro: float, swapped: bool, message: str, clip: Clip
) -> None:
    imu = imu_of(clip, accel, gyro, swapped=swapped)
    contract = build("conv").contract
    with pytest.raises(ClipRejected, match=message) as error:
        contract.prepare(replace(clip, imu=imu))
    assert error.value.reason == "imu-units"


def test_plausible_units_pass_and_so_does_the_control_without_a_sensor(clip: Clip) -> None:
    check_units(imu_of(clip, 0.6, 1.0))
    check_units(imu_of(clip, 2.9, 30.0))
    check_units(imu_of(clip, 0.0, 0.0))
    with pytest.raises(ClipRejected):
        check_units(imu_of(clip, 0.0, 1.0))


def test_masked_samples_do_not_count_for_units(clip: Clip) -> None:
    assert clip.imu is not None
    data = clip.imu.data.copy()
    data[:, 800:] = np.nan
    check_units(replace(clip.imu, data=data, valid=np.arange(1400) < 800))


def test_a_window_may_start_where_it_is_asked_to(clip: Clip) -> None:
    assert clip.imu is not None
    ramp = clip.imu.data.copy()
    ramp[3] = np.arange(1400) / 1400
    contract = build("onellm").contract
    start = contract.prepare(with_imu(clip, data=ramp), start_us=1_000_000)[3, 0]
    assert start == pytest.approx(200 / 1400)


def test_the_presets_of_published_encoders_are_taken_as_they_are() -> None:
    for name in ("limu_bert", "limu_bert_x", "primus", "imu2clip", "imagebind", "onellm"):
        assert build(name).contract.preset == preset(name.replace("_", "-"))


@pytest.mark.parametrize(
    ("name", "settings", "tokens", "width"),
    [
        ("limu_bert", {"samples": 60}, 60, 72),
        ("primus", {"tokens": "sequence"}, 32, 512),
        ("primus", {"tokens": "conv"}, 32, 32),
        ("imu2clip", {"tokens": "conv"}, 32, 32),
        ("imagebind", {"tokens": "patches"}, 250, 512),
        ("chronos", {"channels": "separate"}, 84, 256),
    ],
)
def test_other_kinds_of_features_have_the_stated_number_and_width(
    name: str, settings: dict[str, Any], tokens: int, width: int
) -> None:
    encoder = build(name, **settings)
    assert (encoder.contract.tokens, encoder.width) == (tokens, width)
    with torch.inference_mode():
        assert encoder(batch(encoder.contract, 2)).shape == (2, tokens, width)


def test_limu_bert_has_no_positions_beyond_six_seconds() -> None:
    with pytest.raises(UsageError, match="samples: got 121"):
        build("limu_bert", samples=121)
