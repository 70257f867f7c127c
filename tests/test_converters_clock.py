import numpy as np
import pytest

from egotriad.converters.clock import count_faults, fit_rate, longest_segment, segments
from egotriad.manifests.errors import RecordingError


def stamps(rate_hz: float, count: int, start_us: int = 0) -> np.ndarray:
    return np.rint(start_us + np.arange(count) * 1e6 / rate_hz).astype(np.int64)


def test_the_rate_of_an_hour_is_found_to_a_part_per_billion():
    fit = fit_rate(stamps(197.45, 710_820, start_us=1_700_000_000_000_000))
    assert fit.rate_hz == pytest.approx(197.45, rel=1e-9)
    assert fit.start_us == pytest.approx(1_700_000_000_000_000, abs=1)
    assert fit.residual_us < 1
    assert fit.outliers == 0


def test_jitter_is_averaged_out_and_reported_as_residual():
    jitter = np.random.default_rng(0).uniform(-1000, 1000, 20_000)
    fit = fit_rate((stamps(200.0, 20_000) + jitter).astype(np.int64))
    assert fit.rate_hz == pytest.approx(200.0, rel=1e-6)
    assert 950 < fit.residual_us < 1050


def test_wild_stamps_do_not_move_the_line():
    t_us = stamps(200.0, 1000)
    wild = np.random.default_rng(1).choice(1000, 150, replace=False)
    t_us[wild] += 700_000
    fit = fit_rate(t_us)
    assert fit.rate_hz == pytest.approx(200.0, rel=1e-6)
    assert fit.start_us == pytest.approx(0, abs=1)
    assert fit.outliers == 150


def test_stamps_of_every_200th_sample_give_the_rate_of_all():
    index = np.array([0, 198, 396, 593, 791], np.int64)
    t_us = np.rint(80_562 + index * 1e6 / 197.45).astype(np.int64)
    fit = fit_rate(t_us, index=index)
    assert fit.rate_hz == pytest.approx(197.45, abs=1e-3)
    assert np.array_equal(fit.times_us(index), t_us)


@pytest.mark.parametrize("t_us", [[], [5], [7, 7, 7], [9, 5, 1]])
def test_stamps_without_a_rate_are_refused(t_us: list[int]):
    with pytest.raises(RecordingError, match=r"time stamps"):
        fit_rate(np.array(t_us, np.int64))


def test_runs_are_cut_at_back_steps_and_gaps_and_keep_duplicates():
    t_us = np.array([0, 5, 5, 10, 8, 13, 100, 105], np.int64)
    assert segments(t_us, longest_gap_us=50) == [slice(0, 4), slice(4, 6), slice(6, 8)]
    assert longest_segment(t_us, longest_gap_us=50) == slice(0, 4)
    faults = count_faults(t_us, longest_gap_us=50)
    assert (faults.back_steps, faults.duplicates, faults.gaps) == (1, 1, 1)


def test_a_gap_of_exactly_the_limit_is_no_cut():
    assert segments(np.array([0, 50, 101], np.int64), longest_gap_us=50) == [
        slice(0, 2),
        slice(2, 3),
    ]


def test_no_stamps_have_no_runs():
    assert segments(np.empty(0, np.int64), longest_gap_us=50) == []
    assert longest_segment(np.empty(0, np.int64), longest_gap_us=50) == slice(0, 0)
