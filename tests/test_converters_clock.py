import numpy as np
import pytest

from egotriad.converters.clock import (
    REPORTED_SEGMENTS,
    clock_report,
    count_faults,
    fit_rate,
    longest_segment,
    segments,
    separate_repeats,
    usual_step_us,
)
from egotriad.manifests import SensorStream
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


def numbered(t_us: np.ndarray | list[int]) -> SensorStream:
    """Samples whose values are their numbers."""
    return SensorStream(
        np.array(t_us, np.int64), np.tile(np.arange(len(t_us), dtype=np.float64), (3, 1))
    )


def test_a_sample_delivered_twice_is_dropped_and_its_neighbours_stay():
    stream = numbered([0, 5, 5, 10, 15])
    stream.values[:, 2] = stream.values[:, 1]
    separate, resent, spread = separate_repeats(stream)
    assert separate.t_us.tolist() == [0, 5, 10, 15]
    assert separate.values[0].tolist() == [0, 1, 3, 4]
    assert (resent, spread) == (1, 0)


def test_other_samples_under_one_stamp_are_spread_up_to_the_next():
    separate, resent, spread = separate_repeats(numbered([0, 0, 1000, 1000, 1000, 1000, 2000]))
    assert separate.t_us.tolist() == [0, 500, 1000, 1250, 1500, 1750, 2000]
    assert (resent, spread) == (0, 4)


def test_spreading_stops_at_one_usual_step_before_gaps_back_steps_and_the_end():
    separate, _, _ = separate_repeats(numbered([0, 10, 20, 20, 500, 510, 510, 400, 410, 420, 420]))
    assert separate.t_us.tolist() == [0, 10, 20, 25, 500, 510, 515, 400, 410, 420, 425]


def test_a_stream_without_repeats_comes_back_as_it_is():
    stream = numbered([0, 5, 3])
    assert separate_repeats(stream) == (stream, 0, 0)


def test_nothing_but_one_stamp_cannot_be_spread():
    separate, resent, spread = separate_repeats(numbered([7, 7, 7]))
    assert separate.t_us.tolist() == [7, 7, 7]
    assert (resent, spread) == (0, 2)
    assert usual_step_us(separate.t_us) == 0


def test_a_report_has_rate_ppm_and_residual_of_every_segment():
    first = stamps(197.45, 4000)
    second = stamps(197.65, 2000, start_us=int(first[-1]) - 500_000)
    third = stamps(197.45, 100, start_us=int(second[-1]) + 300_000)
    report = clock_report(numbered(np.concatenate([first, second, third])), nominal_hz=200.0)
    assert (report.back_steps, report.gaps, report.segment_count) == (1, 1, 3)
    assert [segment.samples for segment in report.segments] == [4000, 2000, 100]
    assert report.rate_hz == pytest.approx(197.45, rel=1e-8)
    assert report.ppm == pytest.approx((197.45 / 200 - 1) * 1e6, abs=0.01)
    assert report.segments[1].ppm == pytest.approx((197.65 / 200 - 1) * 1e6, abs=0.05)
    assert all(segment.residual_us < 1 for segment in report.segments)
    assert "3 segments, 1 back-steps, 1 gaps" in str(report)
    assert report.as_dict()["segments"][2]["start_us"] == third[0]


def test_lost_samples_do_not_bend_the_rate():
    t_us = np.delete(stamps(200.0, 10_000), [5, 6, 7, 4000, 9000, 9001])
    report = clock_report(numbered(t_us))
    assert report.rate_hz == pytest.approx(200.0, rel=1e-9)
    assert report.segments[0].lost == 6
    assert report.ppm is None


def test_stamps_that_come_in_bursts_are_numbered_in_order():
    bursts = (np.arange(500)[:, None] * 40_000 + np.arange(8) * 20).ravel()
    report = clock_report(numbered(bursts))
    assert report.rate_hz == pytest.approx(200.0, rel=1e-3)
    assert report.segments[0].lost == 0


def test_samples_of_a_coarse_clock_count_and_resent_ones_do_not():
    coarse = clock_report(numbered(stamps(1600.0, 16_000) // 1000 * 1000))
    assert coarse.rate_hz == pytest.approx(1600.0, rel=1e-5)
    stream = numbered(np.insert(stamps(200.0, 1000), 300, stamps(200.0, 1000)[300]))
    stream.values[:, 301] = stream.values[:, 300]
    resent = clock_report(stream)
    assert resent.rate_hz == pytest.approx(200.0, rel=1e-9)
    assert (resent.resent, resent.spread) == (1, 0)


@pytest.mark.parametrize("t_us", [[], [5], [7, 7, 7], [9, 5, 1]])
def test_a_clock_without_a_rate_says_so(t_us: list[int]):
    report = clock_report(numbered(t_us), nominal_hz=100.0)
    assert report.rate_hz is report.ppm is report.residual_us is None
    assert str(report) == f"{len(t_us)} samples, no rate"


def test_a_clock_that_steps_back_all_the_time_is_reported_in_bounds():
    report = clock_report(numbered(np.tile([0, 5000], 50_000)))
    assert report.segment_count == 50_000
    assert len(report.segments) == REPORTED_SEGMENTS
