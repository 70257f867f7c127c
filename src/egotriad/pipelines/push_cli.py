"""Command line `push-shards`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from egotriad.manifests.cli import finish, run_app
from egotriad.pipelines.push import PushReport, push
from egotriad.pipelines.push_plan import PushConfig

__all__ = ["push_shards"]


def push_shards(tokens: Sequence[str] | None = None) -> int:
    """`push-shards FOLDER NAMESPACE/NAME`: shards to the Hugging Face Hub."""
    return run_app(_push_app, tokens)


def _push_app(words: list[str]) -> App:
    app = App(name="push-shards", version_flags=[])
    app.default(_push)
    return app


def _push(
    shards: Path,
    repo_id: str,
    /,
    *,
    version: str = "1.0.0",
    branch: str | None = None,
    public: Annotated[bool, Parameter(negative=())] = False,
    i_have_the_right_to_redistribute: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    json: bool = False,
) -> int:
    """Push a build to a dataset repository on the Hugging Face Hub; running again goes on.

    The repository is private and asks for access. The build is verified first, and what lies on
    the Hub afterwards is compared with it file by file before it is tagged.

    Args:
        shards: folder of a build.
        repo_id: NAMESPACE/NAME of the repository; it is made if it is not there.
        version: of the dataset; tags the revision (v1.0.0). A tag never moves.
        branch: push to this branch instead of main.
        public: make the repository public after everything is there.
        i_have_the_right_to_redistribute: with --public: a licence id of the shards; once for each.
        dry_run: check the build, say what would be sent, and call nobody.
        json: print the result as one line of JSON.
    """
    config = PushConfig(
        repo_id=repo_id,
        version=version,
        branch=branch,
        public=public,
        i_have_the_right_to_redistribute=i_have_the_right_to_redistribute,
    )
    report = push(shards, config, dry_run=dry_run)
    return finish(
        dataclasses.asdict(report),
        as_json=json,
        show=lambda console: _show(console, report),
    )


def _show(console: Console, report: PushReport) -> None:
    access = ("public" if report.public else "private") + (
        ", access on request" if report.gate == "manual" else ", open to all"
    )
    console.print(
        f"{report.repo_id} {report.tag}: {report.files} files, {report.bytes / 1e9:.3f} GB, "
        f"{access}\nlicences: {', '.join(report.licences)}",
        highlight=False,
        soft_wrap=True,
    )
    if report.commit is None:
        console.print("dry run: nothing was sent", highlight=False)
    else:
        console.print(
            f"{report.sent} files sent; all sizes and hashes read back equal "
            f"(commit {report.commit[:12]})",
            highlight=False,
        )
