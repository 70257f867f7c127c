"""Acceptance reports side by side, and whether they may be compared at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from egotriad.manifests.errors import EvaluationError, UsageError

__all__ = ["compare", "comparison_table", "read_report"]

SCHEMA_VERSION = 2
SAME = (
    ("shards", ("sources", "shards_sha256")),
    ("target", ("sources", "target_sha256")),
    ("tokenizer", ("sources", "tokenizer_sha256")),
    ("prompt", ("models", "target", "prompt")),
    ("split", ("data", "split")),
    ("clips", ("data", "evaluated")),
    ("gamma", ("config", "gamma")),
    ("schedule", ("config", "schedule")),
    ("temperature", ("config", "temperature")),
    ("longest text", ("config", "max_new_tokens")),
)
"""What two reports must share before their numbers mean the same."""


def read_report(path: Path) -> dict[str, Any]:
    """A report.json, or that of a folder.

    Raises:
        EvaluationError: when it is missing, damaged, or of another version.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        version = report["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EvaluationError(f"{file}: not an acceptance report ({exc})") from exc
    if version != SCHEMA_VERSION:
        raise EvaluationError(
            f"{file}: report of schema {version}, need {SCHEMA_VERSION}; evaluate again"
        )
    return dict(report)


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """The drafts of several reports, and in what the reports differ besides.

    Raises:
        UsageError: fewer than two reports.
        EvaluationError: when one cannot be read.
    """
    if len(paths) < 2:
        raise UsageError(f"compare-reports: got {len(paths)} reports, need two or more")
    reports = [read_report(path) for path in paths]
    differ = {}
    for name, keys in SAME:
        values = [_value(report, keys) for report in reports]
        if any(value != values[0] for value in values):
            differ[name] = values
    return {
        "reports": [
            {
                "path": str(path),
                "draft": _value(report, ("models", "draft", "name")),
                "verdict": report["verdict"],
                "cautions": report["cautions"],
                **_numbers(report),
            }
            for path, report in zip(paths, reports, strict=True)
        ],
        "differ": differ,
    }


def comparison_table(found: Mapping[str, Any]) -> Table:
    """One column per report; what makes them incomparable stands below."""
    reports = found["reports"]
    notes = "\n".join(
        f"Not the same {name}: {' / '.join(map(str, values))}."
        for name, values in found["differ"].items()
    )
    grid = Table(title="Reports", caption=Text(notes) if notes else None, caption_justify="left")
    grid.add_column("")
    for report in reports:
        grid.add_column(report["path"], justify="right", overflow="fold")
    for key in dict.fromkeys(key for report in reports for key in report):  # arms may differ
        if key not in ("path", "cautions"):
            grid.add_row(key.replace("_", " "), *(_text(report.get(key)) for report in reports))
    grid.add_row("cautions", *(str(len(report["cautions"])) for report in reports))
    return grid


def _numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    draft, cost = report["arms"]["draft"], report["cost"]
    gains = {f"gain_over_{name}": gain["value"] for name, gain in report["tau_gains"].items()}
    return {
        "clips": report["data"]["evaluated"],
        "tau": draft["tau_incl_bonus"],
        "tau_ci95": draft["ci95"]["tau_incl_bonus"],
        "alpha": draft["alpha_conditional"],
        "alpha_teacher_forced": draft["alpha_teacher_forced"],
        **gains,
        "c": cost["c"],
        "v": cost["v"],
        "speedup_predicted": cost["speedup_predicted"],
        "speedup_measured_decode": cost["speedup_measured_decode"],
        "speedup_measured_e2e": cost["speedup_measured_e2e"],
    }


def _value(report: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = report
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return f"[{', '.join(_text(v) for v in value)}]"
    return str(value)
