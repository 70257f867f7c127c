"""Damaged files of a build, made again bit for bit: from its parts, or from the sources.

What is made is compared with the recorded hash of SHA256SUMS before anything in the build is
touched: a repair restores the bytes that were lost, or it changes nothing.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import open_sealed, seal, sha256_file, write_text
from egotriad.manifests.verify import VerifyReport
from egotriad.manifests.verify_files import MANIFEST, PROVENANCE, SUMS, take_inventory
from egotriad.pipelines.build import shards_title
from egotriad.pipelines.pack import pack
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import BUILDER, environment
from egotriad.pipelines.recorded import config_kind
from egotriad.pipelines.repair_parts import PartStore
from egotriad.pipelines.restore import restored

__all__ = [
    "RepairReport",
    "changed_versions",
    "recorded_config",
    "recorded_provenance",
    "repair",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair did.

    Attributes:
        restored: files that hold again what was written.
        rebuilt: recordings whose parts had to be built again from their sources.
        deleted: files that nobody named.
    """

    restored: tuple[str, ...] = ()
    rebuilt: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def repair(
    folder: Path,
    report: VerifyReport,
    *,
    sources: Sequence[Path] = (),
    raw: Path | None = None,
    workers: int = 1,
) -> RepairReport:
    """Restores what `verify` found missing, damaged or orphaned; faults in sound bytes stay.

    Args:
        folder: of the build.
        report: of its verification.
        sources: folders that hold the user's source files, under the names they had.
        raw: folder of the dataset's raw files; FOLDER.raw when not given.
        workers: processes for recordings that must be built again.

    Raises:
        ShardError: when that is not possible; no damaged file has been changed then.
        RecordingError: when a source cannot be read.
    """
    deleted = tuple(finding.file for finding in report.findings if finding.what == "orphan")
    for name in deleted:
        (folder / name).unlink(missing_ok=True)
    if not report.damaged:
        return RepairReport(deleted=deleted)
    provenance = recorded_provenance(folder)
    restored_names: list[str] = []
    rebuilt: list[str] = []
    if report.damaged != [PROVENANCE]:
        raw = raw or folder.with_name(f"{folder.name}.raw")
        places = (*sources, raw, Path())
        store = PartStore(
            folder=folder / "parts",
            provenance=provenance,
            config=recorded_config(provenance, places),
            raw=raw,
            places=places,
            workers=workers,
        )
        restored_names += _repack(folder, store, _sound_shards(folder, report))
        rebuilt += store.rebuilt
    if PROVENANCE in report.damaged:
        restored_names.append(PROVENANCE)
    for place in (folder, folder / "parts"):
        if place.is_dir():
            write_text(place / PROVENANCE, seal(provenance))
    return RepairReport(restored=tuple(restored_names), rebuilt=tuple(rebuilt), deleted=deleted)


def recorded_provenance(folder: Path) -> dict[str, Any]:
    """The build's record: its own, or the copy beside the parts.

    Raises:
        ShardError: when both are missing or damaged, or it is not the record of a build.
    """
    for place in (folder, folder / "parts"):
        try:
            values = open_sealed(place / PROVENANCE)
        except ShardError:
            continue
        if "merged" in values:
            raise ShardError(
                f"{folder.name}: was merged of {len(values['merged'])} builds; mend or build those "
                "again, then merge-shards"
            )
        if {"sha256sums", "config", "source", "recordings"} <= values.keys():
            return values
    raise ShardError(
        f"{folder.name}: {PROVENANCE} and its copy in parts/ do not say how the shards were built; "
        "fetch the damaged files again, or run build-shards again"
    )


def recorded_config(provenance: Mapping[str, Any], places: Sequence[Path]) -> BuildConfig:
    """The configuration of a build by its record.

    Args:
        provenance: the record.
        places: folders to look for the files in that it names.

    Raises:
        ShardError: when this version would build something else under it.
    """
    values = provenance["config"]["values"]
    config = restored(config_kind(values), values, places)
    need = provenance["config"]["hash"]
    if config.hash != need:
        raise ShardError(
            f"the build's configuration has hash {config.hash}, need {need}: "
            f"{changed_versions(provenance)}; repair with that version, or run build-shards again"
        )
    return config


def _sound_shards(folder: Path, report: VerifyReport) -> dict[str, str]:
    """Path -> SHA-256 of the data files that were found to be what they should be."""
    inventory = take_inventory(folder)
    sums, lines = inventory.sums or {}, inventory.lines or {}
    return {
        path: sums.get(path) or lines[path].get("sha256", "")
        for path in inventory.data_paths
        if path not in report.damaged
    }


def _repack(folder: Path, store: PartStore, keep: dict[str, str]) -> list[str]:
    """Packs the build beside itself, sound shards as links, and takes over what differs."""
    parts = store.fetch(keep.keys())
    scratch = store.folder / "repair"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for name in keep:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).symlink_to((folder / name).resolve())
        if (folder / "quarantine").is_dir():  # counted in README.md
            (scratch / "quarantine").symlink_to((folder / "quarantine").resolve())
        title = shards_title(store.provenance["source"]["dataset"])
        pack(parts, store.folder, scratch, store.config, title=title, keep=keep)
        got, need = sha256_file(scratch / SUMS), store.provenance["sha256sums"]
        if got != need:
            raise ShardError(
                f"{folder.name}: what was made again is not what was built ({SUMS} has {got}, need "
                f"{need}): {changed_versions(store.provenance)}; nothing was changed; repair with "
                "those versions, or run build-shards again"
            )
        return _take_over(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _take_over(scratch: Path, folder: Path) -> list[str]:
    """Moves what was packed to where something else lies; the files that mark completeness last."""
    lines = (scratch / SUMS).read_text(encoding="utf-8").splitlines()
    names = {line.partition("  ")[2] for line in lines}
    taken = []
    for name in (*sorted(names - {MANIFEST}), MANIFEST, SUMS):
        made, path = scratch / name, folder / name
        if made.is_symlink() or (path.is_file() and sha256_file(path) == sha256_file(made)):
            continue
        path.parent.mkdir(exist_ok=True)
        made.replace(path)
        taken.append(name)
    return taken


def changed_versions(provenance: Mapping[str, Any]) -> str:
    """What differs between the software of the build and this."""
    then = {"builder": provenance.get("builder"), **provenance.get("environment", {})}
    now = {"builder": BUILDER, **environment()}
    changed = [
        f"{key} {value}, now {now.get(key)}" for key, value in then.items() if now.get(key) != value
    ]
    return f"it was built with {'; '.join(changed)}" if changed else "by the same versions as now"
