import math

import numpy as np
import pytest

from egotriad.converters.imu_modes import block_mean, sinc_hann
from egotriad.manifests.errors import UsageError

RATES = [(198, 200), (201, 200), (400, 200), (50, 200), (1000, 200), (200, 20), (197, 200)]


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal((6, samples))


def written_out(values: np.ndarray, source_hz: int, rate_hz: int) -> np.ndarray:
    """y[j] = sum_n x[n] h(n / source - j / rate), sample by sample, as torchaudio documents it."""
    base = 0.99 * min(source_hz, rate_hz)
    count = math.ceil(values.shape[1] * rate_hz / source_hz)
    distance = np.arange(values.shape[1]) / source_hz - np.arange(count)[:, None] / rate_hz
    lobes = np.clip(distance * base, -6, 6)
    weights = np.sinc(lobes) * np.cos(np.pi * lobes / 12) ** 2 * base / source_hz
    return values @ weights.T


@pytest.mark.parametrize(("source_hz", "rate_hz"), RATES)
@pytest.mark.parametrize("samples", [1, 3, 333])
def test_sinc_hann_is_the_sum_written_out(source_hz: int, rate_hz: int, samples: int):
    values = noise(samples)
    given = sinc_hann(values, source_hz=source_hz, rate_hz=rate_hz)
    assert given.shape[1] == math.ceil(samples * rate_hz / source_hz)
    assert np.abs(given - written_out(values, source_hz, rate_hz)).max() < 1e-12


def test_sinc_hann_equals_numbers_that_torchaudios_own_steps_give():
    # Padding, kernel and strided convolution of torchaudio.functional.resample in float64.
    values = np.array([[0.0, 1, 0, 0, 2, -1, 3, 0.5]])
    expected = {
        198: [0.0034317, 1.0002339, 0.0229785, -0.0584398, 2.0338678, -0.973857, 2.8011771],
        400: [0.26409984, 0.42191742, 0.55492077, 1.37821031],
    }
    for source_hz, numbers in expected.items():
        given = sinc_hann(values, source_hz=source_hz, rate_hz=200)
        assert np.abs(given[0, : len(numbers)] - numbers).max() < 1e-7


@pytest.mark.parametrize(("source_hz", "rate_hz"), RATES)
def test_sinc_hann_equals_torchaudio_where_it_is_installed(source_hz: int, rate_hz: int):
    functional = pytest.importorskip("torchaudio.functional")
    torch = pytest.importorskip("torch")
    values = noise(1000)
    theirs = functional.resample(torch.from_numpy(values), source_hz, rate_hz).numpy()
    assert np.abs(sinc_hann(values, source_hz=source_hz, rate_hz=rate_hz) - theirs).max() < 1e-5


@pytest.mark.parametrize(("source_hz", "rate_hz"), RATES)
def test_a_stretch_of_sinc_hann_is_the_same_stretch_of_all(source_hz: int, rate_hz: int):
    values = noise(500)
    whole = sinc_hann(values, source_hz=source_hz, rate_hz=rate_hz)
    part = sinc_hann(values, source_hz=source_hz, rate_hz=rate_hz, start=7, count=20)
    assert np.array_equal(part, whole[:, 7:27])
    assert sinc_hann(values, source_hz=source_hz, rate_hz=rate_hz, count=0).shape == (6, 0)


def down_sample(data: np.ndarray, length: float) -> np.ndarray:
    """LIMU-BERT's rule, restated: a running remainder decides which blocks are one longer."""
    window, start, remainder, means = int(length), 0, 0.0, []
    if length == window:
        return np.array(
            [data[k : k + window].mean(0) for k in range(0, len(data) - window, window)]
        )
    while start + window + 1 < len(data):
        remainder += length - window
        longer = remainder >= 1
        remainder -= longer
        means.append(data[start : start + window + longer].mean(0))
        start += window + longer
    return np.array(means)


@pytest.mark.parametrize(
    ("source_hz", "rate_hz"), [(50, 20), (100, 20), (200, 20), (197.45, 20), (25, 20), (20, 20)]
)
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 5, 6, 7, 1000])
def test_block_means_are_limu_berts(source_hz: float, rate_hz: float, samples: int):
    values = noise(samples)
    expected = down_sample(values.T, source_hz / rate_hz)
    given = block_mean(values, source_hz=source_hz, rate_hz=rate_hz)
    assert given.shape == (6, len(expected))
    assert not len(expected) or np.abs(given.T - expected).max() < 1e-12


@pytest.mark.parametrize(("source_hz", "rate_hz"), [(20, 50), (0, 20), (50, 0), (50, math.nan)])
def test_rates_that_block_means_cannot_give_are_refused(source_hz: float, rate_hz: float):
    with pytest.raises(UsageError, match="need above 0 and at most"):
        block_mean(noise(10), source_hz=source_hz, rate_hz=rate_hz)


def test_rates_that_are_no_whole_numbers_are_refused():
    with pytest.raises(UsageError, match="need whole numbers"):
        sinc_hann(noise(10), source_hz=198.6, rate_hz=200)
