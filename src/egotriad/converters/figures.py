"""Small pieces of self-contained HTML reports: SVG traces and bars, PNG data URIs, a page.

Colours are CSS variables that `page` defines for light and dark, each with a fall-back, so that a
figure also stands alone.
"""

import base64
import html
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.svg import (
    INK,
    RULE,
    axis_ticks,
    line_element,
    path_data,
    plain_number,
    rect_element,
    svg_element,
    text_element,
    thinned,
)
from egotriad.manifests import Imu, Span
from egotriad.manifests.errors import UsageError

__all__ = ["bars_svg", "imu_svg", "page", "png_bytes", "png_data_uri"]

_AXES = {"x": "var(--x, #c2410c)", "y": "var(--y, #15803d)", "z": "var(--z, #1d4ed8)"}
_BAR, _MARK = "var(--bar, #5b8def)", "var(--mark, #f59e0b)"

# Margins around and between the panels of a trace figure, in CSS pixels.
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 52, 12, 24, 36, 32
_BAR_STEP, _BAR_TOP = 28, 6


def imu_svg(imu: Imu, *, width: int = 720, height: int = 320, marks: Sequence[Span] = ()) -> str:
    """Accelerometer and gyroscope of one clip over time, as an SVG element.

    Two panels share the time axis (seconds from the window's start). Stretches without valid
    samples stay blank. A signal with more than two samples per pixel is drawn as the lowest and
    highest sample of each pixel column, so that no peak is lost.

    Args:
        imu: the clip's IMU.
        width: in CSS pixels.
        height: in CSS pixels.
        marks: stretches of the window to shade, e.g. its event spans.
    """
    plot_width = width - _LEFT - _RIGHT
    panel_height = (height - _TOP - _GAP - _BOTTOM) / 2
    second_panel = _TOP + panel_height + _GAP
    duration_s = max(imu.data.shape[1], 1) / imu.rate_hz

    def x_of(seconds: float) -> float:
        return _LEFT + min(max(seconds / duration_s, 0.0), 1.0) * plot_width

    parts = []
    for mark in marks:
        start, end = x_of(mark.start_us / 1e6), x_of(mark.end_us / 1e6)
        parts.append(
            rect_element(start, _TOP, end - start, height - _TOP - _BOTTOM, _MARK, opacity=0.18)
        )
    for tick in axis_ticks(0.0, duration_s, 10):
        if tick <= duration_s:
            parts.append(line_element(x_of(tick), _TOP, x_of(tick), height - _BOTTOM, RULE))
            parts.append(
                text_element(x_of(tick), height - _BOTTOM + 15, plain_number(tick), "middle")
            )
    parts.append(text_element(_LEFT + plot_width / 2, height - 5, "time, s", "middle"))
    data = np.where(imu.valid, imu.data.astype(np.float64), np.nan)
    parts += _panel(data[:3], "acceleration, m/s²", _TOP, plot_width, panel_height)
    parts += _panel(data[3:], "angular rate, rad/s", second_panel, plot_width, panel_height)
    for k, (name, colour) in enumerate(_AXES.items()):
        x = width - _RIGHT - 34 * (3 - k)
        parts.append(line_element(x, _TOP - 12, x + 14, _TOP - 12, colour, stroke=2))
        parts.append(text_element(x + 18, _TOP - 8, name))
    return svg_element(width, height, "accelerometer and gyroscope over time", parts)


def bars_svg(
    labels: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    width: int = 640,
) -> str:
    """Horizontal bars from zero with their intervals as whiskers, as an SVG element.

    A value that is not finite gets no bar and reads "not measured"; an interval with an end that
    is not finite gets no whisker.

    Args:
        labels: one name per bar, top to bottom.
        values: length of each bar.
        low: lower end of the interval of each value.
        high: upper end of it.
        width: in CSS pixels.

    Raises:
        UsageError: when the four sequences differ in length.
    """
    if not len(labels) == len(values) == len(low) == len(high):
        raise UsageError(
            f"bars: got {len(labels)} labels, {len(values)} values, {len(low)} low and "
            f"{len(high)} high ends; need one of each per bar"
        )
    left = min(16 + 7 * max(map(len, labels), default=0), width // 2)
    finite = [number for number in (*values, *low, *high) if math.isfinite(number)]
    ticks = axis_ticks(min([0.0, *finite]), max([0.0, *finite]), 6)
    bottom = _BAR_TOP + _BAR_STEP * len(labels)

    def x_of(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - 64)

    parts = []
    for tick in ticks:
        parts.append(line_element(x_of(tick), _BAR_TOP, x_of(tick), bottom, RULE))
        parts.append(text_element(x_of(tick), bottom + 15, plain_number(tick), "middle"))
    for k, (label, value, lo, hi) in enumerate(zip(labels, values, low, high, strict=True)):
        middle = _BAR_TOP + _BAR_STEP * (k + 0.5)
        parts.append(text_element(left - 8, middle + 4, label, "end"))
        parts += _bar(value, lo, hi, middle, x_of)
    parts.append(line_element(x_of(0.0), _BAR_TOP, x_of(0.0), bottom, INK))
    return svg_element(width, bottom + 24, "bars with intervals", parts)


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """An image as a PNG file.

    Args:
        rgb: uint8 (H, W, 3), H and W at least 1.

    Raises:
        UsageError: when the array is no such image.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise UsageError(f"image: got {rgb.dtype} {rgb.shape}, need uint8 (H, W, 3)")
    encoded: NDArray[np.uint8] = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
    return encoded.tobytes()


def png_data_uri(rgb: NDArray[np.uint8]) -> str:
    """As `png_bytes`, as a `data:image/png;base64,...` address."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(rgb)).decode("ascii")


def page(title: str, body: str) -> str:
    """A complete HTML5 document that needs nothing but itself, for light and dark screens.

    Args:
        title: plain text; escaped here, and also the page's heading.
        body: HTML, used as it is.
    """
    title = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _panel(
    rows: NDArray[np.float64], title: str, top: float, width: float, height: float
) -> list[str]:
    """One set of axes with the traces of three rows (3, T); NaN breaks a trace."""
    finite = rows[np.isfinite(rows)]
    if not finite.size:
        centre = _LEFT + width / 2
        return [
            text_element(_LEFT, top - 8, title),
            text_element(centre, top + height / 2, "no valid samples", "middle"),
        ]
    ticks = axis_ticks(float(finite.min()), float(finite.max()), 4)

    def y_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return top + height * (1 - (values - ticks[0]) / (ticks[-1] - ticks[0]))

    parts = [text_element(_LEFT, top - 8, title)]
    for tick, y in zip(ticks, y_of(np.array(ticks)), strict=True):
        parts.append(line_element(_LEFT, y, _LEFT + width, y, RULE))
        parts.append(text_element(_LEFT - 6, y + 4, plain_number(tick), "end"))
    for row, colour in zip(rows, _AXES.values(), strict=True):
        at, values = thinned(row, int(width))
        x = _LEFT + width * at / max(len(row), 1)
        path = path_data(x, y_of(values))
        if path:
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return parts


def _bar(
    value: float, low: float, high: float, middle: float, x_of: Callable[[float], float]
) -> list[str]:
    if not math.isfinite(value):
        return [text_element(x_of(0.0) + 6, middle + 4, "not measured")]
    start, end = sorted((x_of(0.0), x_of(value)))
    parts = [rect_element(start, middle - 8, end - start, 16, _BAR)]
    if math.isfinite(low) and math.isfinite(high):
        parts.append(line_element(x_of(low), middle, x_of(high), middle, INK, stroke=1.5))
        for x in (x_of(low), x_of(high)):
            parts.append(line_element(x, middle - 4, x, middle + 4, INK, stroke=1.5))
        end = max(end, x_of(high))
    return [*parts, text_element(end + 6, middle + 4, plain_number(value, digits=3))]


_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--soft:#59636e;--rule:#e2e5e9;
--panel:#f6f7f9;--bar:#6d9bea;--mark:#f59e0b;--x:#c2410c;--y:#15803d;--z:#1d4ed8}
@media(prefers-color-scheme:dark){:root{--paper:#16181c;--ink:#e4e7eb;--soft:#9aa4af;
--rule:#31363d;--panel:#1f2329;--bar:#4874c4;--mark:#fbbf24;--x:#fb923c;--y:#4ade80;--z:#60a5fa}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 1rem}
h2{font-size:1.2rem;margin:2.2rem 0 .6rem;padding-top:.8rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p,ul,ol,table,figure,pre{margin:0 0 1rem}
small,figcaption,.soft{color:var(--soft);font-size:.87rem}
table{border-collapse:collapse;display:block;overflow-x:auto;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .75rem .3rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--rule)}
th{font-weight:600;white-space:nowrap}
td.num,th.num{text-align:right}
code,pre{font:.87em/1.45 ui-monospace,monospace;background:var(--panel);border-radius:4px}
code{padding:.1em .3em}pre{padding:.75rem 1rem;overflow-x:auto}pre code{padding:0}
img,svg{max-width:100%;height:auto}
img.pixels{image-rendering:pixelated}
.row{display:flex;flex-wrap:wrap;gap:.5rem}.row>*{flex:1 1 0;min-width:120px}
details{margin:0 0 1rem}summary{cursor:pointer}
a{color:inherit}
"""
