"""The stage benchmark for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from egotriad.alignment.stages import STAGES

__all__ = ["stage_table"]

NAMES = {"target": "target", "draft": "draft", "speculative": "target + draft"}


def stage_table(report: Mapping[str, Any]) -> Table:
    """Medians in milliseconds per stage and arm, shares of the whole, rates below."""
    arms = report["arms"]
    clock = report["config"]["clock"]
    random = report["weights"] == "random"
    clips = report["data"]["ok"]
    alpha = report["config"]["assumed_alpha"]
    meaning = "Texts and acceptance mean nothing." if alpha is None else f"Assumed alpha: {alpha}."
    title = f"Stages, median ms of {clips} clips, {clock} time"
    grid = Table(
        title=f"{title} (RANDOM WEIGHTS)" if random else title,
        caption=meaning if random else None,
    )
    grid.add_column("stage")
    for name in arms:
        grid.add_column(NAMES[name], justify="right")
        grid.add_column("share", justify="right")
    for stage in STAGES:
        cells = [arms[name]["stages"][stage] for name in arms]
        grid.add_row(stage, *(text for c in cells for text in (_ms(c["p50"]), f"{c['share']:.0%}")))
    rows = [
        ("first token", "ttft"),
        ("per next token", "tpot"),
        ("per round", "inter_burst"),
        ("end to end", "e2e"),
    ]
    for label, key in rows:
        values = [arms[name][key] for name in arms]
        if any(values):
            grid.add_row(label, *(t for v in values for t in (_ms(v["p50"]) if v else "", "")))
    for label, key in (("decode tokens/s", "decode_tok_s"), ("prefill tokens/s", "prefill_tok_s")):
        values = [arms[name][key] for name in arms]
        grid.add_row(label, *(t for v in values for t in (f"{v:,.0f}" if v else "", "")))
    ratios = [f"{arms[name]['staged_over_e2e']:.3f}" for name in arms]
    grid.add_row("staged / whole", *(t for ratio in ratios for t in (ratio, "")))
    return grid


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"
