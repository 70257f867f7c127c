"""The figures: curves with logarithmic or linear axes and a legend, as SVG files on white."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realism_numbers import Curve, Found, Measured
from realism_streams import REAL, STEADY

from egotriad.converters.event_stats import INTERVAL_EDGES_US
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

GREYS = ("#111111", "#6b7280", "#b45309", "#a855f7")
COLOURS = ("#1d4ed8", "#dc2626", "#15803d", "#0891b2")
WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 920, 210, 48, 300, 26, 38


WALK, SMALL = "GoPro walk 640x480", "GoPro walk 320x240"
ROOM = "simulated walk 346x260"
NONE, SLOTS = "clean, no upsampling", "clean, v2e slots, no upsampling"
Keys = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Line:
    """One curve: name, colour, float64 x and y (n,); dashed for what is made without upsampling."""

    name: str
    colour: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Label and range of an axis."""

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values lie, 0 at the low end and 1 at the high one."""
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            values = np.log10(np.maximum(values, self.low * 1e-9))
        else:
            low, high = self.low, self.high
        return (values - low) / (high - low)

    def ticks(self) -> list[float]:
        """Powers of ten, or round numbers, within the range."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**k for k in range(first, last + 1)]
        ticks = axis_ticks(self.low, self.high, 6)
        return [tick for tick in ticks if self.low <= tick <= self.high + 1e-12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One set of axes."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


def write_figure(path: Path, description: str, panels: Sequence[Panel]) -> None:
    """Panels under each other."""
    height = PANEL * len(panels)
    parts = [rect_element(0, 0, WIDTH, height, "#fff")]
    for k, panel in enumerate(panels):
        parts += _panel(panel, PANEL * k)
    text = svg_element(WIDTH, height, description, parts)
    path.write_text(text.replace("var(--ink, #333)", "#333").replace("var(--rule, #ddd)", "#ddd"))


def _panel(panel: Panel, top: float) -> list[str]:
    wide, high = WIDTH - LEFT - RIGHT, PANEL - TOP - BOTTOM
    above, below = top + TOP, top + TOP + high
    parts = [text_element(LEFT, above - 9, panel.title)]
    for tick in panel.y.ticks():
        y = below - high * float(panel.y.place(np.array(tick)))
        parts.append(line_element(LEFT, y, LEFT + wide, y, RULE))
        parts.append(text_element(LEFT - 6, y + 4, _label(tick, panel.y), "end"))
    for tick in panel.x.ticks():
        x = LEFT + wide * float(panel.x.place(np.array(tick)))
        parts.append(line_element(x, above, x, below, RULE))
        parts.append(text_element(x, below + 14, _label(tick, panel.x), "middle"))
    parts.append(text_element(LEFT + wide / 2, below + 29, panel.x.label, "middle"))
    parts.append(line_element(LEFT, below, LEFT + wide, below, INK))
    for k, line in enumerate(panel.lines):
        parts.append(_curve(panel, line, wide, above, high))
        x, y = LEFT + wide + 12, above + 6 + 16 * k
        parts.append(_stroke(f"M{x} {y}h18", line))
        parts.append(text_element(x + 24, y + 4, line.name))
    return parts


def _curve(panel: Panel, line: Line, wide: float, above: float, high: float) -> str:
    inside = (line.x >= panel.x.low) & (line.x <= panel.x.high)
    index, values = thinned(panel.y.place(line.y[inside]), round(wide))
    x = LEFT + wide * panel.x.place(line.x[inside])[np.minimum(index, inside.sum() - 1)]
    return _stroke(path_data(x, above + high * (1 - np.clip(values, 0, 1))), line)


def _stroke(data: str, line: Line) -> str:
    dashes = ' stroke-dasharray="4 3"' if line.dashed else ""
    return f'<path d="{data}" fill="none" stroke="{line.colour}" stroke-width="1.5"{dashes}/>'


def _label(tick: float, axis: Axis) -> str:
    if axis.log and not 0.001 <= tick <= 1000:
        return f"1e{round(math.log10(tick))}"
    return plain_number(tick)


def draw(found: Found, folder: Path) -> None:
    """All figures."""
    folder.mkdir(parents=True, exist_ok=True)
    _draw_intervals(found, folder / "intervals.svg")
    _draw_rhythm(found, folder / "rhythm.svg")
    _draw_spread(found, folder / "spread.svg")


def _draw_intervals(found: Found, path: Path) -> None:
    wide = _intervals(
        "share of the times between events of a pixel that are shorter; 640x480",
        [("DSEC", REAL), ("Prophesee", REAL), ("EventGPT sample", REAL)],
        [(WALK, "clean"), (WALK, NONE), (WALK, SLOTS), (WALK, "noisy")],
        found,
    )
    small = _intervals(
        "the same; 320x240 and 346x260",
        [("DVXplorer", REAL), (STEADY, REAL)],
        [(SMALL, "clean"), (ROOM, "clean"), (ROOM, SLOTS), (ROOM, "v2e-defaults")],
        found,
    )
    write_figure(path, "distribution of the times between events of a pixel", [wide, small])


def _draw_rhythm(found: Found, path: Path) -> None:
    arms = [("DVXplorer", REAL)], [(WALK, "clean"), (WALK, NONE), (WALK, SLOTS)]
    rhythm = Panel(
        title="rhythm: vector strength of the event times at each rate",
        x=Axis(label="rate, Hz", low=0, high=250),
        y=Axis(label="", low=0, high=1),
        lines=_lines(*arms, found, lambda item: item.spectrum),
    )
    rate = Panel(
        title="event rate over time, relative to its mean, bins of 2 ms",
        x=Axis(label="time, s", low=0, high=0.55),
        y=Axis(label="", low=0, high=5),
        lines=_lines(*arms, found, lambda item: item.rate),
    )
    write_figure(path, "rhythm of event times, and event rate over time", [rhythm, rate])


def _draw_spread(found: Found, path: Path) -> None:
    real = [(name, REAL) for name in ("DSEC", "DVXplorer", "Prophesee", "EventGPT sample")]
    ours = [(WALK, "clean"), (WALK, "noisy"), (ROOM, "clean"), (ROOM, "noisy")]
    spread = Panel(
        title="share of the events that the busiest pixels send, in 45 ms",
        x=Axis(label="share of the pixels", low=1e-4, high=1, log=True),
        y=Axis(label="", low=0, high=1),
        lines=_lines(real, ours, found, lambda item: item.spread),
    )
    write_figure(path, "how events spread over pixels", [spread])


def _intervals(title: str, real: Keys, ours: Keys, found: Found) -> Panel:
    def below(item: Measured) -> Curve:
        counts = item.stats.intervals.sum(axis=0)
        return INTERVAL_EDGES_US[1:] / 1e3, np.cumsum(counts) / counts.sum()

    return Panel(
        title=title,
        x=Axis(label="time, ms", low=0.01, high=45, log=True),
        y=Axis(label="", low=0, high=1),
        lines=_lines(real, ours, found, below),
    )


def _lines(real: Keys, ours: Keys, found: Found, curve: Callable[[Measured], Curve]) -> list[Line]:
    """Real streams in grey and brown, ours in colours."""
    coloured = [*zip(real, GREYS, strict=False), *zip(ours, COLOURS, strict=False)]
    lines = []
    for (stream, arm), colour in coloured:
        x, y = curve(found[stream, arm])
        name = stream if arm == REAL else f"{stream.rsplit(' ', 1)[0]}: {arm}"
        lines.append(Line(name=name, colour=colour, x=x, y=y, dashed="no upsampling" in arm))
    return lines
