"""How a build came to be: `provenance.json`, free of hosts, users and paths."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import egotriad
from egotriad.manifests.schema import SCHEMA_VERSION

__all__ = ["BUILDER", "PRIVATE", "environment", "options_record", "source_revision"]

PRIVATE = "private"
"""Key of a field's metadata that keeps it out of records."""

BUILDER = f"egotriad {egotriad.__version__}"

LIBRARIES = ("numpy", "scipy", "numba", "pyarrow", "av", "opencv-python", "pandas")


def environment(libraries: Sequence[str] = LIBRARIES) -> dict[str, str | None]:
    """Versions of Python and of the libraries that shape the output (None = not installed)."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def source_revision() -> dict[str, Any] | None:
    """Commit and dirty flag when the package runs from a git checkout, else None."""
    folder = Path(egotriad.__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def options_record(options: Any) -> dict[str, Any]:
    """A dataset's options as JSON values; paths are reduced to their last name.

    Left out is what fields mark as `PRIVATE`: it says nothing about the data, and may name a user.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return value.name
        if is_dataclass(value) and not isinstance(value, type):
            kept = (item for item in fields(value) if not item.metadata.get(PRIVATE))
            return {item.name: plain(getattr(value, item.name)) for item in kept}
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        return value

    record = plain(options)
    return record if isinstance(record, dict) else {"value": record}


def config_record(config: Any) -> dict[str, Any]:
    """A configuration dataclass as JSON values, with its hash and the schema version."""
    return {
        "values": options_record(config),
        "hash": config.hash,
        "schema_version": SCHEMA_VERSION,
    }
