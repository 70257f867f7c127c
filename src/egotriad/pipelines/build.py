"""The builder: plan, one part per recording, pack. Kill it anywhere, run it again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.build_parts import PartBuilder, sweep
from egotriad.pipelines.claims import Claims
from egotriad.pipelines.dataset import Dataset
from egotriad.pipelines.disk import DiskGuard
from egotriad.pipelines.engine import EngineConfig
from egotriad.pipelines.finish import finish_build
from egotriad.pipelines.outline import Outline
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import (
    BUILDER,
    config_record,
    environment,
    options_record,
    source_revision,
)
from egotriad.pipelines.quarantine import Quarantine
from egotriad.pipelines.run_config import RunConfig
from egotriad.pipelines.signals import Signals
from egotriad.pipelines.stock import Stock, take_stock

__all__ = ["BuildReport", "build", "shards_title"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build did.

    Attributes:
        out: the build's folder.
        clips, events, hours: what the parts hold.
        recordings: how many recordings are in them; failed: recording id -> message.
        rejected: reason -> number of windows.
        reused: recordings whose parts were there already; built: those that this run built.
        faults: class of failure -> number of recordings, see `quarantine`.
        missing: recordings that this run was not asked to build and nobody has built.
        packed: whether shards were made of the parts.
    """

    out: Path
    clips: int
    events: int
    hours: float
    recordings: int
    reused: int
    failed: dict[str, str]
    rejected: dict[str, int]
    built: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    packed: bool = True

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
    workers: int = 1,
    limit: int | None = None,
    engine: EngineConfig | None = None,
    run: RunConfig | None = None,
    signals: Signals | None = None,
) -> BuildReport:
    """Builds shards from a dataset, or goes on where an earlier run or another driver has got to.

    A recording that cannot be built is quarantined with its message and the rest goes on.

    Args:
        dataset: the plug-in.
        options: its options.
        config: the build's configuration.
        raw: where the dataset's raw files lie or are brought to.
        out: the build's folder.
        workers: 1 builds in this process, more in that many, where `engine` is not given.
        limit: build only the first so many recordings.
        engine: where parts are built.
        run: what of the build is done now, and when it stops.
        signals: that may ask to end.

    Raises:
        RecordingError: when nothing at all could be built; `out` then holds no shards.
        EgotriadError: more recordings failed than `run` allows.
        DiskFull: the disk has no room for more; what is finished stays.
        KeyboardInterrupt: a signal asked to end; what is finished stays.
    """
    started = datetime.now(UTC)
    run, signals = run or RunConfig(), signals or Signals()
    if engine is None:
        engine = EngineConfig(engine="serial" if workers <= 1 else "processes", workers=workers)
    dataset.download(raw, options)
    stock = take_stock(dataset, options, config, raw=raw, limit=limit)
    share = run.share
    outlines = [o for o in stock.outlines if not share or share.holds(o.recording.recording_id)]
    guard = DiskGuard(out, run.reserve_bytes)
    with Claims(out / "parts" / "claims") as claims:
        builder = PartBuilder(
            folder=out / "parts",
            config=config,
            engine=engine,
            run=run,
            claims=claims,
            quarantine=Quarantine(out / "quarantine"),
            guard=guard,
            signals=signals,
        )
        try:
            _make_parts(builder, stock, outlines)
            parts = [
                part for o in outlines if (part := builder.parts.get(o.recording.recording_id))
            ]
            report = _report(out, builder, outlines, parts)
            if share is not None:
                return report
            if not report.clips:
                raise RecordingError(_nothing_built(report))
            provenance = _provenance(dataset, options, config, stock, parts, report)
            finish_build(
                parts,
                out,
                config,
                provenance,
                title=shards_title(dataset.name),
                started=started,
                claims=claims,
                guard=guard,
            )
        except KeyboardInterrupt as exc:
            raise KeyboardInterrupt(
                f"interrupted ({signals.received or 'SIGINT'}): {len(builder.parts)} of "
                f"{len(outlines)} recordings are built; run the same command again to go on"
            ) from exc
    return report


def shards_title(dataset: str) -> str:
    """Title of the shards of a dataset."""
    return f"{dataset} shards"


def _make_parts(builder: PartBuilder, stock: Stock, outlines: Sequence[Outline]) -> None:
    """Brings every part into being that can be, and records what cannot."""
    builder.quarantine.keep_only(stock.names)
    share = builder.run.share
    for name, failure in stock.unreadable.items():
        if share is None or share.holds(name):
            builder.quarantine.add(failure)
            builder.failed[name] = failure
    sweep(builder.folder, builder.claims)
    missing = builder.find(outlines)
    if not builder.run.pack_only:
        builder.build(missing)


def _report(
    out: Path, builder: PartBuilder, outlines: Sequence[Outline], parts: Sequence[Part]
) -> BuildReport:
    rejected = Counter(entry["reason"] for part in parts for entry in part.rejected)
    failures = sorted(builder.failed.values(), key=lambda failure: failure.recording)
    settled = builder.parts.keys() | builder.failed.keys()
    return BuildReport(
        out=out,
        clips=sum(part.rows for part in parts),
        events=sum(part.event_count or 0 for part in parts),
        hours=sum(part.duration_us for part in parts) / 3.6e9,
        recordings=len(parts),
        reused=builder.reused,
        built=builder.built,
        failed={failure.recording: failure.message for failure in failures},
        rejected=dict(sorted(rejected.items())),
        faults=dict(sorted(Counter(failure.kind for failure in failures).items())),
        missing=sum(outline.recording.recording_id not in settled for outline in outlines),
        packed=builder.run.share is None,
    )


def _nothing_built(report: BuildReport) -> str:
    if report.failed:
        first = next(iter(report.failed.values()))
        more = f" (and {len(report.failed) - 1} more failed)" if len(report.failed) > 1 else ""
        return f"{first}{more}"
    if report.missing:
        return f"none of {report.missing} recordings is built yet; run without --pack-only"
    reasons = ", ".join(f"{count} x {reason}" for reason, count in report.rejected.items())
    why = reasons or "none fits: recordings shorter than the window, or without narrations"
    return f"no window became a clip ({why}); see --windows and --window-seconds"


def _provenance(
    dataset: Dataset,
    options: Any,
    config: BuildConfig,
    stock: Stock,
    parts: Sequence[Part],
    report: BuildReport,
) -> dict[str, Any]:
    """The build's record, without its times."""
    versions = {outline.recording.source_version for outline in stock.outlines}
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
            "planned_windows": stock.planned_windows,
            "built_windows": report.clips,
            "rejected_windows": report.rejected,
            "recordings": report.recordings,
            "quarantined": report.failed,
        },
        "recordings": [
            {
                "recording": part.recording,
                "key": part.key,
                "split": part.split,
                "sources": part.sources,
                "notes": part.notes,
                "imu": part.imu,
            }
            for part in sorted(parts, key=lambda part: part.recording)
        ],
    }
