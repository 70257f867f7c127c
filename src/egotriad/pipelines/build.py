"""The builder: plan, one part per recording, pack. Kill it anywhere, run it again."""

import errno
import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from egotriad.manifests import EgotriadError, Recording, Unreadable
from egotriad.manifests.errors import RecordingError
from egotriad.manifests.files import canonical_json, seal, write_text
from egotriad.manifests.progress import Meter
from egotriad.pipelines import engine
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part, PartJob, build_part, find_part
from egotriad.pipelines.plan import BuildConfig, RecordingPlan, plan_build
from egotriad.pipelines.provenance import (
    BUILDER,
    config_record,
    environment,
    options_record,
    source_revision,
)

__all__ = ["BuildReport", "build", "shards_title"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build did.

    Attributes:
        out: the build's folder.
        clips, events, hours: what the shards hold.
        recordings: how many recordings are in them; failed: recording id -> message.
        rejected: reason -> number of windows.
        reused: recordings whose parts were there already.
    """

    out: Path
    clips: int
    events: int
    hours: float
    recordings: int
    reused: int
    failed: dict[str, str]
    rejected: dict[str, int]

    @property
    def reject_rate(self) -> float:
        """Share of planned windows that were rejected."""
        rejected = sum(self.rejected.values())
        return rejected / max(rejected + self.clips, 1)


def build(
    dataset: Dataset,
    options: Any,
    config: BuildConfig,
    *,
    raw: Path,
    out: Path,
    workers: int,
    limit: int | None = None,
) -> BuildReport:
    """Builds shards from a dataset.

    A recording that cannot be read is quarantined with its message and the rest goes on.

    Args:
        dataset: the plug-in.
        options: its options.
        config: the build's configuration.
        raw: where the dataset's raw files lie or are brought to.
        out: the build's folder.
        workers: processes.
        limit: build only the first so many recordings.

    Raises:
        EgotriadError: when nothing at all could be built; `out` then holds no shards.
    """
    started = datetime.now(UTC)
    dataset.download(raw, options)
    described = list(dataset.recordings(raw, options))[:limit]
    if not described:
        raise RecordingError(f"{dataset.name}: there are no recordings to build")
    plans = plan_build([r for r in described if isinstance(r, Recording)], config)
    failed = _quarantine_unreadable(described, out)
    folder = out / "parts"
    _remove_orphans(out)
    jobs = [PartJob(plan=plan, config=config, folder=folder) for plan in plans]
    parts = {job.plan.key: part for job in jobs if (part := find_part(job)) is not None}
    reused = len(parts)
    failed |= _build_parts(jobs, parts, out, workers)
    chosen = [parts[job.plan.key] for job in jobs if job.plan.key in parts]
    report = _report(out, chosen, reused, failed)
    if not report.clips:
        raise RecordingError(_nothing_built(report))

    def record(sums_sha256: str) -> None:
        provenance = _provenance(dataset, options, config, plans, chosen, report)
        provenance["sha256sums"] = sums_sha256
        provenance["utc"] = {
            "start": started.isoformat(timespec="seconds"),
            "end": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Times cannot be computed again: `verify-shards --repair` takes the record from its copy.
        for place in (folder, out):
            write_text(place / "provenance.json", seal(provenance))

    pack(chosen, folder, out, config, title=shards_title(dataset.name), record=record)
    return report


def shards_title(dataset: str) -> str:
    """Title of the shards of a dataset."""
    return f"{dataset} shards"


def _quarantine_unreadable(described: list[Recording | Unreadable], out: Path) -> dict[str, str]:
    names = {recording.recording_id for recording in described}
    for record in (out / "quarantine").glob("*.json"):
        if record.stem not in names:  # of a dataset that has changed since
            record.unlink()
    failed = {r.recording_id: r.message for r in described if isinstance(r, Unreadable)}
    for name, message in failed.items():
        _quarantine(out, name, "RecordingError", message)
    return failed


def _quarantine(out: Path, name: str, error: str, message: str) -> None:
    """Leaves a record of a recording that failed."""
    facts = {"recording": name, "error": error, "message": message}
    write_text(out / "quarantine" / f"{name}.json", canonical_json(facts) + "\n")


def _build_parts(
    jobs: list[PartJob], parts: dict[str, Part], out: Path, workers: int
) -> dict[str, str]:
    """Builds what is missing into `parts`; returns recording id -> message of what failed."""
    missing = [job for job in jobs if job.plan.key not in parts]
    failed: dict[str, str] = {}
    with Meter() as meter:
        results = engine.run(build_part, missing, workers=workers)
        for done, (job, result) in enumerate(results, start=1):
            meter("recordings built", done, len(missing))
            name = job.plan.recording.recording_id
            if isinstance(result, Part):
                parts[job.plan.key] = result
                (out / "quarantine" / f"{name}.json").unlink(missing_ok=True)
                continue
            if isinstance(result, OSError) and result.errno == errno.ENOSPC:
                raise result  # a full disk is not the recording's fault
            if not isinstance(result, EgotriadError):
                # A defect of ours, or the machine's: say where, and do not bury it.
                raise EgotriadError(f"{name}: {type(result).__name__}: {result}") from result
            failed[name] = str(result)
            _quarantine(out, name, type(result).__name__, failed[name])
    return failed


def _report(out: Path, parts: list[Part], reused: int, failed: dict[str, str]) -> BuildReport:
    rejected = Counter(entry["reason"] for part in parts for entry in part.rejected)
    return BuildReport(
        out=out,
        clips=sum(part.rows for part in parts),
        events=sum(part.event_count or 0 for part in parts),
        hours=sum(part.duration_us for part in parts) / 3.6e9,
        recordings=len(parts),
        reused=reused,
        failed=failed,
        rejected=dict(sorted(rejected.items())),
    )


def _nothing_built(report: BuildReport) -> str:
    if report.failed:
        first = next(iter(report.failed.values()))
        more = f" (and {len(report.failed) - 1} more failed)" if len(report.failed) > 1 else ""
        return f"{first}{more}"
    reasons = ", ".join(f"{count} x {reason}" for reason, count in report.rejected.items())
    why = reasons or "none fits: recordings shorter than the window, or without narrations"
    return f"no window became a clip ({why}); see --windows and --window-seconds"


def _provenance(
    dataset: Dataset,
    options: Any,
    config: BuildConfig,
    plans: list[RecordingPlan],
    parts: list[Part],
    report: BuildReport,
) -> dict[str, Any]:
    versions = {plan.recording.source_version for plan in plans}
    return {
        "builder": BUILDER,
        "revision": source_revision(),
        "environment": environment(),
        "config": config_record(config),
        "event_source": config.event_source | {"sim_id": config.sim_id} if config.events else None,
        "source": {
            "dataset": dataset.name,
            "versions": sorted(versions),
            "licence_id": dataset.licence_id,
            "options": options_record(options),
        },
        "counts": {
            "planned_windows": sum(len(plan.windows) + len(plan.rejected) for plan in plans),
            "built_windows": report.clips,
            "rejected_windows": report.rejected,
            "recordings": report.recordings,
            "quarantined": report.failed,
        },
        "recordings": [
            {
                "recording": part.recording,
                "key": part.key,
                "sources": part.sources,
                "notes": part.notes,
                "imu": part.imu,
            }
            for part in sorted(parts, key=lambda part: part.recording)
        ],
    }


def _remove_orphans(out: Path) -> None:
    """Deletes temporary files of processes that are gone."""
    for file in out.rglob("*.tmp-*"):
        pid = file.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
