"""Figures: well-formed, self-contained, and drawing what the data say."""

import base64
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from egotriad.converters.figures import bars_svg, imu_svg, page, png_data_uri
from egotriad.manifests import Imu, Span
from egotriad.manifests.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"


def sine_imu(n: int = 400, gap: slice = slice(0, 0)) -> Imu:
    t = np.arange(n) / 100.0
    data = np.stack([np.sin(t + k) for k in range(6)]).astype(np.float32)
    valid = np.ones(n, bool)
    valid[gap] = False
    data[:, ~valid] = np.nan
    return Imu(data=data, rate_hz=100.0, valid=valid)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def paths(svg: str) -> list[str]:
    return [element.get("d", "") for element in ElementTree.fromstring(svg).iter(f"{SVG}path")]


def numbers(path: str) -> np.ndarray:
    return np.array([float(word) for word in re.findall(r"-?[\d.]+", path)])


def test_imu_has_six_traces_with_units_a_legend_and_seconds() -> None:
    svg = imu_svg(sine_imu())
    assert len(paths(svg)) == 6
    words = texts(svg)
    for expected in ("acceleration, m/s²", "angular rate, rad/s", "time, s", "x", "y", "z", "4"):
        assert expected in words


def test_a_gap_breaks_every_trace_in_two() -> None:
    assert all(path.count("M") == 1 for path in paths(imu_svg(sine_imu())))
    assert all(path.count("M") == 2 for path in paths(imu_svg(sine_imu(gap=slice(100, 150)))))


def test_a_lone_sample_between_gaps_is_still_visible() -> None:
    imu = sine_imu(gap=slice(100, 102))
    imu.valid[98:101], imu.valid[99] = False, True
    assert all("h0.5" in path for path in paths(imu_svg(imu)))


def test_thinning_a_long_signal_keeps_its_peaks() -> None:
    imu = sine_imu(50_000)
    imu.data[0, 31_415] = 9.0
    short = np.sort(numbers(paths(imu_svg(imu))[0])[1::2])
    assert len(short) <= 4 * 720
    assert short[1] - short[0] > 20  # pixels between the spike and the sine below it


def test_marks_are_shaded_where_they_lie() -> None:
    root = ElementTree.fromstring(imu_svg(sine_imu(), width=464, marks=[Span(1_000_000, 500_000)]))
    (rect,) = root.iter(f"{SVG}rect")
    assert float(rect.get("x", "")) == pytest.approx(52 + 100)  # 400 px of plot hold 4 s
    assert float(rect.get("width", "")) == pytest.approx(50)


def test_an_imu_without_valid_samples_says_so() -> None:
    svg = imu_svg(sine_imu(gap=slice(0, 400)))
    assert not paths(svg)
    assert texts(svg).count("no valid samples") == 2


def test_bars_are_as_long_as_their_values_and_carry_whiskers() -> None:
    root = ElementTree.fromstring(bars_svg(["a", "<b>"], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5]))
    short, long = (float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect"))
    assert long == pytest.approx(2 * short, abs=0.2)
    whiskers = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "1.5"]
    assert len(whiskers) == 6
    first = whiskers[0]
    assert float(first.get("x2", "")) - float(first.get("x1", "")) == pytest.approx(short, abs=0.2)
    assert "<b>" in [element.text for element in root.iter(f"{SVG}text")]


def test_negative_values_grow_to_the_left_of_zero() -> None:
    root = ElementTree.fromstring(bars_svg(["a", "b"], [-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]))
    left, right = root.iter(f"{SVG}rect")
    edge = float(left.get("x", "")) + float(left.get("width", ""))
    assert edge == pytest.approx(float(right.get("x", "")), abs=0.2)


def test_what_was_not_measured_has_no_bar() -> None:
    nan = float("nan")
    svg = bars_svg(["a"], [nan], [nan], [nan])
    assert "<rect" not in svg
    assert "not measured" in texts(svg)


def test_bars_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="2 labels, 1 values"):
        bars_svg(["a", "b"], [1.0], [1.0], [1.0])


def test_a_png_address_holds_the_same_pixels() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    head, data = png_data_uri(rgb).split(",")
    assert head == "data:image/png;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), rgb)
    with pytest.raises(UsageError, match="float64"):
        png_data_uri(rgb.astype(float))


def test_a_page_is_whole_escapes_its_title_and_needs_no_network() -> None:
    text = page("Drafts & <targets>", "<p>body</p>")
    assert text.startswith("<!doctype html>")
    assert text.count("Drafts &amp; &lt;targets&gt;") == 2
    assert "<p>body</p>" in text
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"https?:|src=|@import|url\(", text)
