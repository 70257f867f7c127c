"""Pieces of SVG: elements, axis ticks, and paths through many points; colours are `figures`'."""

import html
import math

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "INK",
    "RULE",
    "axis_ticks",
    "line_element",
    "path_data",
    "plain_number",
    "rect_element",
    "svg_element",
    "text_element",
    "thinned",
]

INK, RULE = "var(--ink, #333)", "var(--rule, #ddd)"


def thinned(row: NDArray[np.float64], columns: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Indices and values to draw: all of them, or lowest and highest per column in time order."""
    size = -(-len(row) // max(columns, 1))
    if size <= 2:
        return np.arange(len(row)), row
    padded = np.full(-(-len(row) // size) * size, np.nan)
    padded[: len(row)] = row
    cells = padded.reshape(-1, size)
    lowest = np.where(np.isnan(cells), np.inf, cells).argmin(axis=1)
    highest = np.where(np.isnan(cells), -np.inf, cells).argmax(axis=1)
    picks = np.sort(np.stack([lowest, highest], axis=1), axis=1)
    index = (picks + size * np.arange(len(cells))[:, None]).ravel()
    return index, padded[index]


def path_data(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """SVG path through the points; each run of finite ones is a piece, a lone one a dot."""
    finite = np.isfinite(y)
    starts = np.flatnonzero(finite & ~np.r_[False, finite[:-1]])
    ends = np.flatnonzero(finite & ~np.r_[finite[1:], False]) + 1
    pieces = []
    for start, end in zip(starts, ends, strict=True):
        points = [f"{a:.1f} {b:.1f}" for a, b in zip(x[start:end], y[start:end], strict=True)]
        pieces.append(f"M{'L'.join(points)}" if len(points) > 1 else f"M{points[0]}h0.5")
    return "".join(pieces)


def axis_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers (1, 2, 5 times a power of ten) that enclose the range."""
    if not high > low:
        low, high = min(low, 0.0), max(high, low + 1.0)
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def plain_number(value: float, *, digits: int = 6) -> str:
    """A number for people, with a true minus sign."""
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def svg_element(width: float, height: float, description: str, parts: list[str]) -> str:
    """A figure of that size in CSS pixels; the description is for screen readers."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{description}" '
        f'font-family="system-ui, sans-serif" font-size="11" '
        f'style="max-width:100%;height:auto">{"".join(parts)}</svg>'
    )


def line_element(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, stroke: float = 1
) -> str:
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{stroke:g}"/>'
    )


def rect_element(
    x: float, y: float, width: float, height: float, colour: str, *, opacity: float = 1
) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{colour}" fill-opacity="{opacity:g}"/>'
    )


def text_element(x: float, y: float, text: str, anchor: str = "start") -> str:
    """Words, escaped here; `anchor` is start, middle or end."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">'
        f"{html.escape(text)}</text>"
    )
