"""Command line `merge-shards`: several builds into one."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App
from rich.console import Console

from egotriad.manifests.cli import finish, run_app
from egotriad.manifests.progress import Meter
from egotriad.manifests.verify import verify
from egotriad.pipelines.merge import MergeReport, merge

__all__ = ["merge_shards"]

EXIT_FAULTS = 1


def merge_shards(tokens: Sequence[str] | None = None) -> int:
    """`merge-shards A B ... --out C`: several builds into one."""
    return run_app(_app, tokens)


def _app(words: list[str]) -> App:
    app = App(name="merge-shards", version_flags=[])
    app.default(_merge)
    return app


def _merge(*builds: Path, out: Path, json: bool = False) -> int:
    """Join builds, of one dataset or of several, and verify the result.

    Refused: a wearer, recording or split group in two splits; a window in two builds with different
    contents (with the same, it is kept once); another event simulator, IMU rate, sensor or schema
    version. Every row keeps its licence; push-shards goes by the strictest.

    Args:
        builds: folders of builds, in any order.
        out: folder of the merged build; running again resumes.
        json: print the result as one line of JSON.
    """
    with Meter() as meter:
        report = merge(builds, out, progress=meter)
        checked = verify(out, progress=meter)
    return finish(
        dataclasses.asdict(report)
        | {"out": str(out), "findings": [str(finding) for finding in checked.findings]},
        as_json=json,
        show=lambda console: _show(console, report, [str(f) for f in checked.findings]),
        code=0 if checked.ok else EXIT_FAULTS,
    )


def _show(console: Console, report: MergeReport, findings: Sequence[str]) -> None:
    repeated = f", {report.repeated} of them in several" if report.repeated else ""
    console.print(
        f"{report.windows} windows of {report.builds} builds{repeated} in {report.out}: "
        f"{report.copied} files copied, {report.rewritten} written again; "
        f"licences: {', '.join(report.licences)}",
        highlight=False,
        markup=False,
    )
    for finding in findings:
        console.print(finding, highlight=False, markup=False)
