"""The five stages of target, draft and pair as stacked bars, from a `stages.json`."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egotriad.alignment.report_parts import stacked_svg
from egotriad.alignment.stage_table import NAMES
from egotriad.alignment.stages import STAGES
from egotriad.manifests.errors import EvaluationError

__all__ = ["read_stages", "stages_html"]


def read_stages(path: Path, shards_sha256: str) -> dict[str, Any]:
    """The report of benchmark-stages on the same shards.

    Args:
        path: `stages.json`, or the folder that holds it.
        shards_sha256: of the shards that are evaluated.

    Raises:
        EvaluationError: when it is missing, no such report, or of other shards.
    """
    file = path / "stages.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        found = report["sources"]["shards_sha256"]
        stages_html(report)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise EvaluationError(
            f"{file}: not a report of benchmark-stages ({exc!r}); give its stages.json"
        ) from exc
    if found != shards_sha256:
        raise EvaluationError(
            f"{file}: measured on other shards (sha256 {found}, need {shards_sha256}); run "
            "benchmark-stages on these"
        )
    return dict(report)


def stages_html(report: Mapping[str, Any]) -> str:
    """A section of the page: median milliseconds of each stage, one bar per arm."""
    bars = {
        NAMES[name]: {stage: arm["stages"][stage]["p50"] * 1e3 for stage in STAGES}
        for name, arm in report["arms"].items()
    }
    weights = " of random weights" if report["weights"] == "random" else ""
    models = ", ".join(
        f"{role} {report['models'][role]['name']} "
        f"({report['models'][role]['parameters'] / 1e6:,.3g} M weights)"
        for role in ("target", "draft")
        if role in report["models"]
    )
    said = (
        f"Median milliseconds{weights} over {report['data']['ok']} clips, "
        f"{report['config']['clock']} time, as benchmark-stages measured them: {models}."
    )
    return f"<h2>Stages</h2><p>{html.escape(said)}</p>{stacked_svg(bars, unit='ms')}"
