"""A build made again from its record and its sources, bit for bit, in another folder."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import open_sealed, seal, sha256_file, write_text
from egotriad.manifests.verify_files import MANIFEST, SUMS, take_inventory
from egotriad.pipelines.build import shards_title
from egotriad.pipelines.pack import pack
from egotriad.pipelines.repair import changed_versions, recorded_config, recorded_provenance
from egotriad.pipelines.repair_parts import PartStore

__all__ = ["RebuildReport", "rebuild"]

SHOWN = 5
"""Differing files that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What was made again.

    Attributes:
        out: the new folder.
        files: data files, each with the recorded bytes; windows: what they hold.
        rebuilt: recordings that were read from their sources now, and not by an earlier run.
    """

    out: Path
    files: int
    windows: int
    rebuilt: tuple[str, ...]


def rebuild(
    folder: Path,
    out: Path,
    *,
    raw: Path | None = None,
    sources: Sequence[Path] = (),
    workers: int = 1,
) -> RebuildReport:
    """Builds again what a folder's provenance.json describes; run again, it goes on.

    Of the folder only that file, `manifest.jsonl`, `SHA256SUMS` and, where there were failures,
    `quarantine/` are read: the shards may be gone.

    Args:
        folder: of the build, or of a copy of its record.
        out: folder of the new build.
        raw: folder of the dataset's raw files; FOLDER.raw when not given.
        sources: folders that hold the user's source files, under the names they had.
        workers: processes.

    Raises:
        UsageError: when `out` holds another build.
        ShardError: when a source is not what it was, naming it; when the versions of now make
            other bytes, naming the files; when the record is missing or of a merge.
        RecordingError: when a source cannot be read.
    """
    provenance = recorded_provenance(folder)
    _check_out(folder, out, provenance)
    raw = raw or folder.with_name(f"{folder.name}.raw")
    places = (*sources, raw, Path())
    config = recorded_config(provenance, places)
    store = PartStore(
        folder=out / "parts",
        provenance=provenance,
        config=config,
        raw=raw,
        places=places,
        workers=workers,
    )
    parts = store.fetch(frozenset())
    if (folder / "quarantine").is_dir():
        shutil.copytree(folder / "quarantine", out / "quarantine", dirs_exist_ok=True)

    def record(sums_sha256: str) -> None:
        if sums_sha256 != provenance["sha256sums"]:
            raise ShardError(_difference(folder, out, provenance))
        for place in (out / "parts", out):
            write_text(place / "provenance.json", seal(provenance))

    title = shards_title(provenance["source"]["dataset"])
    lines = pack(parts, out / "parts", out, config, title=title, record=record)
    return RebuildReport(
        out=out,
        files=len(lines),
        windows=sum(line["rows"] for line in lines if line["config"] == "windows"),
        rebuilt=tuple(sorted(set(store.rebuilt))),
    )


def _check_out(folder: Path, out: Path, provenance: dict[str, Any]) -> None:
    if out.resolve() == folder.resolve():
        raise UsageError(f"{out}: is the build itself; verify-shards --repair mends it in place")
    try:
        same = open_sealed(out / "provenance.json") == provenance
    except ShardError:
        same = not (out / MANIFEST).exists() and not (out / "provenance.json").exists()
    if not same:
        raise UsageError(f"{out}: holds another build; name another folder with --out")


def _difference(folder: Path, out: Path, provenance: dict[str, Any]) -> str:
    """Which of the files just made are not those of the record, and what may explain it."""
    inventory = take_inventory(folder)
    recorded = inventory.sums or {
        path: line.get("sha256", "") for path, line in (inventory.lines or {}).items()
    }
    made = {
        path.relative_to(out).as_posix(): sha256_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] != "parts"
    }
    names = [name for name, need in recorded.items() if made.get(name) != need and name != MANIFEST]
    if names == ["README.md"] and provenance["counts"].get("quarantined"):
        return (
            f"{folder.name}: README.md counts the recordings that failed by their errors, and only "
            "quarantine/ tells these; copy that folder beside the record and run again"
        )
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return (
        f"{folder.name}: {shown or SUMS} came out different from the record, from the same "
        f"sources: {changed_versions(provenance)}; rebuild with those versions"
    )
