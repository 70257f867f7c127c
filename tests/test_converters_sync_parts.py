"""The parts of synchronisation one by one: gyroscope, search, mounting, figure."""

from xml.etree import ElementTree

import numpy as np
import pytest

from egotriad.converters.figures import page
from egotriad.converters.line_figure import Curve, curves_svg
from egotriad.converters.sync_gyro import clock_segments, cut
from egotriad.converters.sync_mount import find_mount
from egotriad.converters.sync_scan import Bins, Scan, bins_of, find_peak, scan
from egotriad.converters.video_rotation import CameraRotation
from egotriad.manifests import SensorStream

S = 1_000_000


def stream(t_s: np.ndarray, omega: np.ndarray) -> SensorStream:
    return SensorStream(np.rint(t_s * 1e6).astype(np.int64), np.ascontiguousarray(omega.T))


def ramp(t_s: np.ndarray) -> np.ndarray:
    """Rates that grow by 1, -2 and 0 rad/s in a second."""
    return t_s[:, None] * [1.0, -2.0, 0.0]


def test_the_mean_of_a_steadily_growing_rate_is_exact_between_samples() -> None:
    t = np.arange(0, 10, 0.02)
    (piece,) = clock_segments(stream(t, ramp(t)), shortest_us=1)
    start = np.array([1.003, 4.0171]) * S
    mean, known = piece.mean_rate(start, start + 33_000)
    assert known.all()
    assert mean == pytest.approx(ramp((start + 16_500) / S), abs=1e-9)
    assert piece.rate_change(start, start + 33_000) == pytest.approx(
        np.tile([1.0, -2.0, 0.0], (2, 1)), abs=1e-9
    )


def test_nothing_is_known_before_after_and_across_a_long_gap() -> None:
    t = np.concatenate([np.arange(0, 2, 0.01), np.arange(2.2, 4, 0.01)])
    (piece,) = clock_segments(stream(t, ramp(t)), shortest_us=1)
    start = np.array([-0.1, 1.0, 1.95, 2.05, 2.1, 2.21, 3.98]) * S
    _, known = piece.mean_rate(start, start + 0.1 * S)
    assert known.tolist() == [False, True, False, False, False, True, False]


def test_clock_segments_are_cut_at_back_steps_and_numbered() -> None:
    t = np.concatenate([np.arange(0, 5, 0.1), np.arange(4, 4.5, 0.1), np.arange(3, 9, 0.1)])
    track = stream(t, ramp(t))
    assert [run.stop - run.start for run in cut(track)] == [50, 5, 60]
    pieces = clock_segments(track, shortest_us=2 * S)
    assert [piece.number for piece in pieces] == [0, 2]
    assert (pieces[1].start_us, pieces[1].end_us) == pytest.approx((3.0 * S, 8.9 * S))


def test_samples_with_a_missing_axis_are_left_out() -> None:
    t = np.arange(0, 5, 0.1)
    omega = ramp(t)
    omega[10, 1] = np.nan
    (piece,) = clock_segments(stream(t, omega), shortest_us=1)
    assert len(piece.t_us) == 49
    assert np.isfinite(piece.angle).all()


def rotation(start_us: np.ndarray, end_us: np.ndarray, omega: np.ndarray) -> CameraRotation:
    count = len(start_us)
    return CameraRotation(
        start_us=start_us,
        end_us=end_us,
        omega=omega,
        sigma=np.full(count, 0.01),
        corners=np.full(count, 50),
        agreement=np.ones(count),
        brightness=np.full(count, 100.0),
        event_rate_hz=np.linalg.norm(omega, axis=1),
        size_wh=(160, 120),
        focal_px=80.0,
        focal_known=False,
    )


def test_bins_join_pairs_that_follow_each_other_and_break_where_they_do_not() -> None:
    start = np.array([0, 50, 100, 150, 200, 500, 550]) * 1000
    omega = np.arange(21.0).reshape(7, 3)
    bins = bins_of(rotation(start, start + 50_000, omega), np.ones(7, bool))
    assert bins.start_us.tolist() == [0, 100_000, 200_000, 500_000]
    assert bins.end_us.tolist() == [100_000, 200_000, 250_000, 600_000]
    assert bins.omega[:, 0] == pytest.approx([1.5, 7.5, 12.0, 16.5])


def test_unusable_pairs_break_a_bin() -> None:
    start = np.arange(4) * 50_000
    usable = np.array([True, False, True, True])
    bins = bins_of(rotation(start, start + 50_000, np.ones((4, 3))), usable)
    assert bins.start_us.tolist() == [0, 100_000]
    assert not len(
        bins_of(rotation(start, start + 50_000, np.ones((4, 3))), ~usable & usable).omega
    )


def scanned(values: list[float]) -> Scan:
    return Scan(
        offset_us=100_000.0 * np.arange(len(values)),
        correlation=np.array(values),
    )


def test_a_peak_knows_its_height_its_rival_and_its_place_between_steps() -> None:
    peak = find_peak(scanned([0.1, 0.4, 0.1, 0.0, 0.5, 0.8, 0.7, 0.2]))
    assert peak is not None
    assert peak.correlation == 0.8
    assert peak.ratio == pytest.approx(2.0)
    assert peak.contrast == pytest.approx((1 - 0.16) / (1 - 0.64))
    assert 500_000 < peak.offset_us < 550_000
    assert not peak.at_edge


def test_a_peak_at_the_end_of_the_search_says_so() -> None:
    peak = find_peak(scanned([0.9, 0.8, 0.1, 0.1]))
    assert peak is not None
    assert peak.at_edge
    unknown = find_peak(scanned([0.1, np.nan, 0.9, 0.8, 0.1]))
    assert unknown is not None
    assert unknown.at_edge
    assert find_peak(scanned([np.nan, np.nan])) is None


def test_a_search_without_common_time_finds_nothing() -> None:
    t = np.arange(0, 5, 0.1)
    pieces = clock_segments(stream(t, ramp(t)), shortest_us=1)
    far = np.arange(100, 110, 0.1) * 1e6
    bins = Bins(start_us=far, end_us=far + 1e5, omega=np.ones((100, 3)), event_rate_hz=np.ones(100))
    result = scan(bins, bins.omega, pieces, lambda r: r, around_us=[0.0], search_us=2 * S)
    assert find_peak(result) is None


def random_rotation(seed: int) -> np.ndarray:
    left, _, right = np.linalg.svd(np.random.default_rng(seed).standard_normal((3, 3)))
    turned = left @ right
    return turned * np.linalg.det(turned)


@pytest.mark.parametrize("seed", range(5))
def test_rotation_and_focal_length_are_split_exactly(seed: int) -> None:
    turned, spread = random_rotation(seed), np.diag([1.0, 0.5, 0.3])
    mount = find_mount(np.diag([1.7, 1.7, 1.0]) @ turned, spread, focal_known=False)
    assert mount is not None
    assert mount.rotation == pytest.approx(turned, abs=1e-4)
    assert mount.focal_factor == pytest.approx(1.7, rel=1e-4)
    assert not mount.mirrored


def test_left_handed_axes_are_seen_and_turning_about_one_axis_is_not_enough() -> None:
    turned = random_rotation(7) @ np.diag([1.0, 1.0, -1.0])
    mount = find_mount(turned, np.eye(3), focal_known=True)
    assert mount is not None
    assert mount.mirrored
    assert mount.rotation == pytest.approx(turned, abs=1e-6)
    assert find_mount(turned, np.diag([1.0, 0.001, 0.001]), focal_known=True) is None


def test_curves_are_drawn_with_legend_marks_and_breaks() -> None:
    x = np.linspace(0, 10, 101)
    y = np.sin(x)
    y[40:50] = np.nan
    svg = curves_svg(
        [Curve(name="camera", x=x, y=y), Curve(name="gyroscope", x=x, y=np.cos(x))],
        title="speed, rad/s",
        x_label="time, s",
        x_range=(0.0, 10.0),
        marks=[5.0],
    )
    root = ElementTree.fromstring(svg)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    paths = [element.get("d", "") for element in root.iter("{http://www.w3.org/2000/svg}path")]
    assert {"camera", "gyroscope", "speed, rad/s", "time, s", "10"} <= set(words)
    assert [path.count("M") for path in paths] == [2, 1]
    assert "<svg" in page("t", svg)


def test_curves_without_values_in_range_still_make_a_figure() -> None:
    empty = Curve(name="camera", x=np.arange(3.0), y=np.full(3, np.nan))
    svg = curves_svg([empty], title="t", x_label="x", x_range=(0.0, 0.0))
    assert ElementTree.fromstring(svg) is not None
