"""Pieces of the HTML report: coloured token streams, curves per position, tables."""

import html
from collections.abc import Mapping, Sequence

from egotriad.alignment.speculate import Round
from egotriad.converters.svg import rect_element, svg_element, text_element

__all__ = ["STYLE", "curves_svg", "legend", "stacked_svg", "table", "token_stream"]

STYLE = """<style>
.tokens{font:14px/2 ui-monospace,monospace;margin:0 0 .4rem;white-space:pre-wrap}
.tokens>span{padding:.1em .12em;border-radius:3px}
.tokens .round{white-space:nowrap;border-left:2px solid var(--rule);margin-right:.35em;
padding-left:.25em;border-radius:0}
.tokens .round>span{padding:.1em .12em;border-radius:3px}
.ok{background:rgba(34,160,84,.25)}
.no{background:rgba(214,64,48,.22);text-decoration:line-through}
.cut{opacity:.45;text-decoration:line-through}
.own{background:rgba(64,120,220,.28)}
.verdict{font-size:1.25rem;line-height:1.4;padding:.8rem 1rem;background:var(--panel);
border-left:4px solid var(--bar);border-radius:4px}
.caution{border-left:4px solid var(--mark);padding:.15rem 0 .15rem .8rem}
.stream{display:flex;gap:.8rem;align-items:baseline}
.stream>span{flex:0 0 7rem;color:var(--soft)}
td.num{white-space:nowrap}td:first-child{min-width:7.5rem}th.num{white-space:normal}
</style>"""

_COLOURS = (
    "#2f9e5b",
    "#c2410c",
    "#1d6fd8",
    "#8b5cf6",
    "#0891b2",
    "#6b7280",
    "#be185d",
    "#ca8a04",
)


def token_stream(rounds: Sequence[Round], pieces: Mapping[int, str]) -> str:
    """A text as it came about, round by round, as an HTML paragraph.

    Accepted draft ids, the first rejected one struck through, what was drafted behind it faded,
    and last the target's own id (the correction, or the bonus after full acceptance).
    """
    return f'<p class="tokens">{"".join(_round(r, pieces) for r in rounds)}</p>'


def legend() -> str:
    """What the colours of `token_stream` mean."""
    return (
        '<p class="tokens"><span class="ok">accepted</span> <span class="no">rejected</span> '
        '<span class="cut">drafted behind it</span> '
        '<span class="own">the target\'s own: correction or bonus</span></p>'
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """An HTML table of plain strings (escaped here); columns after the first few hold numbers."""
    styles = [""] * text_columns + [' class="num"'] * (len(header) - text_columns)

    def line(tag: str, row: Sequence[str]) -> str:
        cells = (
            f"<{tag}{style}>{html.escape(cell)}</{tag}>"
            for style, cell in zip(styles, row, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    return "\n".join(
        ["<table>", line("th", header), *(line("td", row) for row in rows), "</table>"]
    )


def curves_svg(
    curves: Mapping[str, Sequence[float | None]], *, width: int = 640, height: int = 240
) -> str:
    """Shares between 0 and 1 by drafted position, one line per name, as an SVG element.

    Args:
        curves: name -> value at positions 1, 2, ...; None where nothing was compared.
        width: in CSS pixels.
        height: in CSS pixels.
    """
    left, right, top, bottom = 40, 150, 10, 34
    longest = max(map(len, curves.values()), default=1)
    across = (width - left - right) / max(longest - 1, 1)
    down = height - top - bottom
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + (1 - tick) * down
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="var(--rule,#ddd)"/>{_text(left - 6, y + 4, f"{tick:g}", "end")}'
        )
    for position in range(longest):
        x = left + position * across
        parts.append(_text(x, height - bottom + 16, str(position + 1), "middle"))
    parts.append(_text(left + (longest - 1) * across / 2, height - 2, "drafted position", "middle"))
    # Every second line is dashed and drawn on top, so that two equal ones both show.
    for k, (name, values) in sorted(enumerate(curves.items()), key=lambda item: item[0] % 2):
        colour = _COLOURS[k % len(_COLOURS)]
        points = [
            (left + i * across, top + (1 - value) * down)
            for i, value in enumerate(values)
            if value is not None
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="7 4"' if k % 2 else ""
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        y = top + 10 + 18 * k
        parts.append(
            f'<rect x="{width - right + 14}" y="{y}" width="14" height="4" fill="{colour}"/>'
        )
        parts.append(_text(width - right + 34, y + 6, name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="acceptance by drafted position" '
        f'font-family="system-ui, sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def stacked_svg(bars: Mapping[str, Mapping[str, float]], *, unit: str, width: int = 720) -> str:
    """Horizontal bars of parts that add up, all on one scale, as an SVG element.

    Parts that are wide enough carry their number; every bar ends with its sum.

    Args:
        bars: name -> part -> length, the parts in one order everywhere.
        unit: of the lengths.
        width: in CSS pixels.
    """
    left, right, step, top = 110, 90, 34, 26
    names = list(next(iter(bars.values()), {}))
    longest = max((sum(parts.values()) for parts in bars.values()), default=0.0) or 1.0
    scale = (width - left - right) / longest
    found = []
    for k, name in enumerate(names):
        x = float(left + 110 * k)
        found.append(rect_element(x, 4, 12, 12, _COLOURS[k]))
        found.append(text_element(x + 17, 14, name))
    for row, (label, parts) in enumerate(bars.items()):
        y, x = float(top + step * row), float(left)
        found.append(text_element(left - 8, y + 18, label, "end"))
        for k, value in enumerate(parts.values()):
            length = value * scale
            found.append(rect_element(x, y, length, 24, _COLOURS[k], opacity=0.75))
            if length > 40:
                found.append(text_element(x + length / 2, y + 16, f"{value:.3g}", "middle"))
            x += length
        found.append(text_element(x + 8, y + 16, f"{sum(parts.values()):.3g} {unit}"))
    return svg_element(width, top + step * len(bars), "stages as stacked bars", found)


def _round(done: Round, pieces: Mapping[int, str]) -> str:
    """One round; a matched end of sequence is the last emitted id, and no own id follows it."""
    own = done.emitted[done.matched :]
    spans = [_token("ok", i, pieces) for i in done.drafted[: done.matched]]
    spans += [_token("no", i, pieces) for i in done.drafted[done.matched : done.matched + 1]]
    spans += [_token("cut", i, pieces) for i in done.drafted[done.matched + 1 :]]
    spans += [_token("own", i, pieces) for i in own]
    return f'<span class="round">{"".join(spans)}</span>'


def _token(style: str, token: int, pieces: Mapping[int, str]) -> str:
    text = pieces.get(token, f"<{token}>").replace("▁", " ")
    return f'<span class="{style}">{html.escape(text)}</span>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--ink,#333)">'
        f"{html.escape(text)}</text>"
    )
