"""Command line `upgrade-shards`: a build of an earlier schema version in the present one."""

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from egotriad.manifests.cli import finish, run_app
from egotriad.manifests.progress import Meter
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.manifests.verify import verify
from egotriad.pipelines.upgrade import upgrade

__all__ = ["upgrade_shards"]

EXIT_FAULTS = 1


def upgrade_shards(tokens: Sequence[str] | None = None) -> int:
    """`upgrade-shards OLD NEW`: shards of an earlier schema version in the present one."""
    return run_app(_app, tokens)


def _app(words: list[str]) -> App:
    app = App(name="upgrade-shards", version_flags=[])
    app.default(_upgrade)
    return app


def _upgrade(old: Path, new: Path, /, *, json: bool = False) -> int:
    """Write shards again in the present schema version, and verify them.

    Args:
        old: folder of a build; it stays as it is.
        new: folder of the upgraded build.
        json: print the result as one line of JSON.
    """
    with Meter() as meter:
        version = upgrade(old, new, progress=meter)
        report = verify(new, progress=meter)
    findings = [str(finding) for finding in report.findings]
    values = {"out": str(new), "from": version, "to": SCHEMA_VERSION, "windows": report.windows}
    text = f"{report.windows} windows from schema version {version} to {SCHEMA_VERSION} in {new}"
    return finish(
        values | {"findings": findings},
        as_json=json,
        show=lambda console: console.print(
            "\n".join([text, *findings]), highlight=False, markup=False
        ),
        code=0 if report.ok else EXIT_FAULTS,
    )
