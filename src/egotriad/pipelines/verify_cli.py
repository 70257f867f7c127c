"""Command line `verify-shards`: is a build what it says, and if not, mend it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App
from rich.console import Console

from egotriad.manifests.cli import finish, run_app
from egotriad.manifests.errors import EgotriadError
from egotriad.manifests.progress import Meter
from egotriad.manifests.verify import VerifyReport, verify
from egotriad.pipelines.engine import default_workers
from egotriad.pipelines.repair import RepairReport
from egotriad.pipelines.repair import repair as repair_build

__all__ = ["verify_shards"]

EXIT_FAULTS = 1
SHOWN = 20
"""Findings of one kind in one file that are printed one by one."""


def verify_shards(tokens: Sequence[str] | None = None) -> int:
    """`verify-shards FOLDER`: every byte, row and statement of a build."""
    return run_app(_verify_app, tokens)


def _verify_app(words: list[str]) -> App:
    app = App(name="verify-shards", version_flags=[])
    app.default(_verify)
    return app


def _verify(
    shards: Path,
    /,
    *,
    light: bool = False,
    repair: bool = False,
    sources: tuple[Path, ...] = (),
    raw: Path | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Check shards: files, hashes, schema, rows, order, splits, and that nothing private is told.

    Exits with 0 when nothing was found, 1 otherwise.

    Args:
        shards: folder of a build.
        light: leave the events undecoded; their files are still hashed.
        repair: make missing and damaged files again, bit for bit, from the build's parts or, where
            these are lost or damaged, from the sources; then verify again.
        sources: for --repair, folders that hold the source files (this folder is always looked in).
        raw: for --repair, folder of the raw files; SHARDS.raw when not given.
        workers: for --repair, processes; all cores when not given.
        json: print the result as one line of JSON.
    """
    report = _verified(shards, light)
    mended: RepairReport | None = None
    trouble: str | None = None
    if repair and report.findings:
        try:
            mended = repair_build(
                shards, report, sources=sources, raw=raw, workers=workers or default_workers()
            )
            report = _verified(shards, light)
        except EgotriadError as exc:
            trouble = str(exc)
    return finish(
        report.as_dict()
        | {"repair": None if mended is None else dataclasses.asdict(mended), "error": trouble},
        as_json=json,
        show=lambda console: _show(console, report, mended, trouble),
        code=0 if report.ok else EXIT_FAULTS,
    )


def _verified(shards: Path, light: bool) -> VerifyReport:
    with Meter() as meter:
        return verify(shards, deep=not light, progress=meter)


def _show(
    console: Console, report: VerifyReport, mended: RepairReport | None, trouble: str | None
) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if mended is not None:
        for verb, names in dataclasses.asdict(mended).items():
            for name in names:
                say(f"{verb} {name}")
    seen: Counter[tuple[str, str]] = Counter()
    for finding in report.findings:
        seen[finding.file, finding.what] += 1
        if seen[finding.file, finding.what] <= SHOWN:
            say(str(finding))
    for (file, what), count in seen.items():
        if count > SHOWN:
            say(f"{file}: {count - SHOWN} more findings of kind {what}")
    if trouble is not None:
        say(f"not repaired: {trouble}")
    decoded = f"{report.events:,} events" if report.deep else "events not decoded"
    say(
        f"{report.folder}: {len(report.findings)} findings in {report.files} files "
        f"({report.bytes / 1e6:,.1f} MB, {report.windows} windows, {decoded})"
    )
    if report.damaged and mended is None and trouble is None:
        say("--repair makes damaged files again from the build's parts or its sources")
