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
    random = " (RANDOM WEIGHTS)" if report["weights"] == "random" else ""
    clips = report["data"]["ok"]
    grid = Table(title=f"Stages, median ms of {clips} clips, {clock} time{random}")
    grid.add_column("stage")
    for name in arms:
        grid.add_column(NAMES[name], justify="right")
        grid.add_column("share", justify="right")
    for stage in STAGES:
        cells = [arms[name]["stages"][stage] for name in arms]
        grid.add_row(stage, *(text for c in cells for text in (_ms(c["p50"]), f"{c['share']:.0%}")))
    rows = [
        ("first token", "ttft"),
        ("per further token", "tpot"),
        ("per round", "inter_burst"),
        ("end to end", "e2e"),
    ]
    for label, key in rows:
        values = [arms[name][key] for name in arms]
        if any(values):
            grid.add_row(label, *(t for v in values for t in (_ms(v["p50"]) if v else "", "")))
    for label, key in (("tokens / s, decode", "decode_tok_s"), ("prefill", "prefill_tok_s")):
        values = [arms[name][key] for name in arms]
        grid.add_row(label, *(t for v in values for t in (f"{v:,.0f}" if v else "", "")))
    ratios = [f"{arms[name]['staged_over_e2e']:.3f}" for name in arms]
    grid.add_row("staged / in one go", *(t for ratio in ratios for t in (ratio, "")))
    return grid


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"
