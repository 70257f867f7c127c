"""Curves over a common axis, as one SVG element."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.svg import (
    INK,
    RULE,
    axis_ticks,
    line_element,
    path_data,
    plain_number,
    svg_element,
    text_element,
    thinned,
)

__all__ = ["COLOURS", "Curve", "curves_svg"]

COLOURS = ("var(--z, #1d4ed8)", "var(--x, #c2410c)", "var(--y, #15803d)")

# Margins in CSS pixels; the legend stands in the top one.
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 24, 36


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Curve:
    """One curve: its name, and float64 x and y (n,); it breaks where y is not finite."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def curves_svg(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    x_range: tuple[float, float],
    marks: Sequence[float] = (),
    width: int = 900,
    height: int = 200,
) -> str:
    """Draws at most three curves, in the order of `COLOURS`.

    Args:
        curves: their x rise.
        title: what is drawn, with its unit.
        x_label: of the common axis, with its unit.
        x_range: ends of that axis.
        marks: places on it to mark by a vertical line.
        width: in CSS pixels.
        height: in CSS pixels.
    """
    wide, high = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    low, top = _extent(curves, x_range)
    ticks = axis_ticks(low, top, 4)

    def x_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return _LEFT + wide * (x - x_range[0]) / max(x_range[1] - x_range[0], 1e-9)

    def y_of(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return _TOP + high * (1 - (y - ticks[0]) / (ticks[-1] - ticks[0]))

    parts = [text_element(_LEFT, _TOP - 8, title)]
    for tick, y in zip(ticks, y_of(np.array(ticks)), strict=True):
        parts.append(line_element(_LEFT, y, _LEFT + wide, y, RULE))
        parts.append(text_element(_LEFT - 6, y + 4, plain_number(tick), "end"))
    for tick in axis_ticks(*x_range, 10):
        if x_range[0] <= tick <= x_range[1]:
            x = float(x_of(np.array(tick)))
            parts.append(text_element(x, height - _BOTTOM + 15, plain_number(tick), "middle"))
    parts.append(text_element(_LEFT + wide / 2, height - 5, x_label, "middle"))
    for mark in marks:
        x = float(x_of(np.array(mark)))
        parts.append(line_element(x, _TOP, x, _TOP + high, INK, stroke=0.7))
    for curve, colour in zip(curves, COLOURS, strict=False):
        inside = (curve.x >= x_range[0]) & (curve.x <= x_range[1])
        at, values = thinned(curve.y[inside], wide)
        data = path_data(x_of(curve.x[inside][np.minimum(at, inside.sum() - 1)]), y_of(values))
        if data:
            parts.append(f'<path d="{data}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
    return svg_element(width, height, title, [*parts, *_legend(curves, width)])


def _extent(curves: Sequence[Curve], x_range: tuple[float, float]) -> tuple[float, float]:
    """Least and greatest finite value inside the range; 0 and 1 where there is none."""
    shown = [
        curve.y[np.isfinite(curve.y) & (curve.x >= x_range[0]) & (curve.x <= x_range[1])]
        for curve in curves
    ]
    values = np.concatenate([*shown, np.empty(0)])
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def _legend(curves: Sequence[Curve], width: int) -> list[str]:
    parts, x = [], float(width - _RIGHT)
    for curve, colour in reversed(list(zip(curves, COLOURS, strict=False))):
        x -= 7.0 * len(curve.name)
        parts.append(text_element(x, _TOP - 8, curve.name))
        parts.append(line_element(x - 20, _TOP - 12, x - 5, _TOP - 12, colour, stroke=2))
        x -= 34
    return parts
