"""Files of other programs into shards: an exported WebDataset, or folders of DSEC's layout."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import open_sealed
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.pipelines.build import build
from egotriad.pipelines.export import EXPORT_RECORD
from egotriad.pipelines.export_source import Progress
from egotriad.pipelines.import_dsec import DsecFolders, DsecOptions, dsec_config
from egotriad.pipelines.import_webdataset import import_webdataset

__all__ = ["ImportReport", "import_dsec_folder", "import_export", "is_export"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did.

    Attributes:
        out: folder of the shards.
        clips, events, recordings: what they hold.
        rejected: reason -> number of windows.
        failed: recording -> why it could not be read.
    """

    out: Path
    clips: int
    events: int
    recordings: int
    rejected: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def is_export(folder: Path) -> bool:
    """Whether a folder holds shards exported as WebDataset; False for recordings of any origin.

    Raises:
        UsageError: it is an export in a format that does not hold all that shards hold.
    """
    if not (folder / EXPORT_RECORD).is_file():
        return False
    format = open_sealed(folder / EXPORT_RECORD)["format"]
    if format not in ("webdataset", "dsec"):
        raise UsageError(
            f"{folder}: is an export as {format}, which cannot become shards again; export as "
            "webdataset, or as dsec"
        )
    return bool(format == "webdataset")


def import_export(
    folder: Path, out: Path, *, places: tuple[Path, ...] = (), progress: Progress
) -> ImportReport:
    """The shards that were exported as WebDataset.

    Args:
        folder: of the export.
        out: the build's folder; what an interrupted import has left there is used.
        places: folders of files that the build's configuration names.
        progress: called after every window.

    Raises:
        UsageError: `out` holds another build.
        ShardError: what was exported is incomplete, damaged, or of another schema version.
    """
    record = open_sealed(folder / EXPORT_RECORD)
    _refuse_other_build(out, record["shards_sha256"])
    if record["schema_version"] != SCHEMA_VERSION:
        raise ShardError(
            f"{EXPORT_RECORD}: holds windows of schema version {record['schema_version']}, need "
            f"{SCHEMA_VERSION}; export the shards again with this version of egotriad"
        )
    parts = import_webdataset(folder, record, out, places=places, progress=progress)
    rejected = Counter(entry["reason"] for part in parts for entry in part.rejected)
    return ImportReport(
        out=out,
        clips=sum(part.rows for part in parts),
        events=sum(part.event_count or 0 for part in parts),
        recordings=len(parts),
        rejected=dict(sorted(rejected.items())),
    )


def import_dsec_folder(
    folder: Path, out: Path, options: DsecOptions, *, workers: int, **settings: Any
) -> ImportReport:
    """Shards of recordings in folders of DSEC's layout.

    Args:
        folder: of one or more recordings.
        out: the build's folder; running again resumes.
        options: what is known of the recordings.
        workers: processes.
        settings: fields of `BuildConfig` about windows, spans and IMU.

    Raises:
        EgotriadError: when nothing at all could be built.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; check the path")
    config = dsec_config(folder, **settings)
    report = build(DsecFolders(), options, config, raw=folder, out=out, workers=workers)
    return ImportReport(
        out=out,
        clips=report.clips,
        events=report.events,
        recordings=report.recordings,
        rejected=report.rejected,
        failed=report.failed,
    )


def _refuse_other_build(out: Path, shards_sha256: str) -> None:
    if not (out / "SHA256SUMS").exists():
        return
    imported = open_sealed(out / "provenance.json").get("imported", {})
    if imported.get("shards_sha256") != shards_sha256:
        raise UsageError(f"{out}: holds another build; choose a new folder")
