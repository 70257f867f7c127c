"""Command line `rebuild`: a build made again from its record, bit for bit."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from egotriad.manifests.cli import finish, run_app
from egotriad.pipelines.engine import default_workers
from egotriad.pipelines.rebuild import rebuild

__all__ = ["rebuild_shards"]


def rebuild_shards(tokens: Sequence[str] | None = None) -> int:
    """`rebuild --from-manifest FOLDER --out NEW`: the same bytes from the same sources."""
    return run_app(_app, tokens)


def _app(words: list[str]) -> App:
    app = App(name="rebuild", version_flags=[])
    app.default(_rebuild)
    return app


def _rebuild(
    *,
    from_manifest: Path,
    out: Path,
    raw: Path | None = None,
    sources: tuple[Path, ...] = (),
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Build again what a build's record describes, and make sure that the bytes are the same.

    Args:
        from_manifest: folder with provenance.json, manifest.jsonl and SHA256SUMS of the build.
        out: folder of the new build; running again resumes.
        raw: folder of the raw files; FOLDER.raw when not given.
        sources: folders that hold the source files (this folder is always looked in).
        workers: processes; all cores when not given.
        json: print the result as one line of JSON.
    """
    report = rebuild(
        from_manifest, out, raw=raw, sources=sources, workers=workers or default_workers()
    )
    text = (
        f"{report.windows} windows in {report.files} files in {report.out}, the recorded bytes; "
        f"{len(report.rebuilt)} recordings read again"
    )
    return finish(
        dataclasses.asdict(report) | {"out": str(out)},
        as_json=json,
        show=lambda console: console.print(text, highlight=False, markup=False),
    )
