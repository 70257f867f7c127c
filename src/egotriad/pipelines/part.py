"""Builds one recording into its part: the unit of work that is either done or not there.

```
parts/{recording}.{key}.windows.parquet    parts/{recording}.{key}.events.parquet
parts/{recording}.{key}.done.json          written last: rows, sizes, hashes, rejected windows
```
The key covers the configuration and all that is known of the recording without decoding it, so
changed options or inputs never mix with old parts.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from egotriad.converters.event_frames import event_image
from egotriad.converters.figures import png_bytes
from egotriad.converters.windows import Window
from egotriad.manifests import Clip, Imu, Origin, Quality
from egotriad.manifests.clip import window_id
from egotriad.manifests.errors import ClipRejected, ShardError, located
from egotriad.manifests.files import atomic, open_sealed, seal, sha256_file, write_text
from egotriad.manifests.rows import window_table
from egotriad.manifests.shards import TableWriter
from egotriad.pipelines.part_events import CutEvents, cut_events
from egotriad.pipelines.part_imu import PartImu
from egotriad.pipelines.plan import BuildConfig, RecordingPlan
from egotriad.pipelines.provenance import BUILDER

__all__ = [
    "Part",
    "PartJob",
    "Rejection",
    "build_part",
    "file_facts",
    "find_part",
    "read_part",
    "table_writers",
    "write_clips",
]

PREVIEW_US = 50_000
PREVIEW_EVENTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One window that did not become a clip, and why."""

    window_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What lies on disk for one recording; the content of its done marker."""

    recording: str
    wearer: str | None
    key: str
    split: str
    split_group: str
    rows: int
    event_count: int | None
    duration_us: int
    files: dict[str, dict[str, Any]]
    sources: list[dict[str, Any]]
    rejected: list[dict[str, str]]
    notes: dict[str, str] = field(default_factory=dict)
    imu: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartJob:
    """A plan, the configuration, and where to put the part: all a worker needs."""

    plan: RecordingPlan
    config: BuildConfig
    folder: Path

    def path(self, kind: str) -> Path:
        """Path of the part's file of a kind (`windows.parquet`, `events.parquet`, `done.json`)."""
        return self.folder / f"{self.plan.recording.recording_id}.{self.plan.key}.{kind}"


def find_part(job: PartJob) -> Part | None:
    """The finished part of a job, or None when it must be (re)built."""
    return read_part(job.path("done.json"))


def read_part(marker: Path) -> Part | None:
    """The part of a done marker; None when the marker is absent or damaged, or files are short."""
    try:
        part = Part(**open_sealed(marker))
    except ShardError:
        return None
    for name, facts in part.files.items():
        file = marker.parent / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return None
    return part


def build_part(job: PartJob) -> Part:
    """Reads, converts and writes one recording, streaming.

    Raises:
        RecordingError: when the recording cannot be read; nothing is left behind.
    """
    recording = job.plan.recording
    with located(f"{recording.source}/{recording.recording_id}"):
        rejected: list[Rejection] = []
        notes = dict(job.plan.notes)
        source = PartImu(recording, job.config, notes) if job.config.imu else None
        paths = {"windows": job.path("windows.parquet")}
        if job.config.events:
            paths["events"] = job.path("events.parquet")
        with table_writers(paths, job.config) as writers:
            clips = _clips(job, source, rejected, notes)
            rows, count, duration = write_clips(clips, writers, preview=job.config.preview)
        part = Part(
            recording=recording.recording_id,
            wearer=recording.wearer,
            key=job.plan.key,
            split=job.plan.split,
            split_group=job.plan.split_group,
            rows=rows,
            event_count=count if job.config.events else None,
            duration_us=duration,
            files=file_facts(paths.values()),
            sources=[
                {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
                for file in recording.files
            ],
            rejected=[asdict(rejection) for rejection in rejected],
            notes=notes,
            imu=None if source is None else source.report,
        )
        write_text(job.path("done.json"), seal(asdict(part)))
    return part


@contextmanager
def table_writers(
    paths: Mapping[str, Path], config: BuildConfig
) -> Iterator[dict[str, TableWriter]]:
    """Writers of a part's tables; the files appear when the block ends without an error.

    Args:
        paths: table -> file.
        config: the build's configuration.
    """
    with ExitStack() as stack:
        yield {
            table: stack.enter_context(
                TableWriter(
                    stack.enter_context(atomic(path)),
                    table,
                    builder=BUILDER,
                    config_hash=config.hash,
                )
            )
            for table, path in paths.items()
        }


def write_clips(
    clips: Iterable[Clip], writers: Mapping[str, TableWriter], *, preview: bool
) -> tuple[int, int, int]:
    """Writes every clip as it comes; returns rows, events and microseconds written.

    Args:
        clips: of one recording, in time order.
        writers: of its tables.
        preview: whether rows get a picture of their first events.
    """
    light: list[pa.Table] = []
    count = duration = 0
    for clip in clips:
        row = None
        if clip.events is not None:
            row = writers["events"].rows
            writers["events"].write_events(clip)
            count += len(clip.events)
        light.append(window_table([clip], [_preview(clip) if preview else None], [row]))
        duration += clip.duration_us
    if light:
        writers["windows"].write(pa.concat_tables(light).combine_chunks())
    return writers["windows"].rows, count, duration


def file_facts(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Name -> size and hash of a part's files, as its done marker holds them."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths
    }


def _preview(clip: Clip) -> bytes | None:
    if clip.events is None:
        return None
    span = clip.event_spans[len(clip.event_spans) // 2]
    first = clip.events.between(span.start_us, span.start_us + PREVIEW_US)
    return png_bytes(event_image(first.take(slice(0, PREVIEW_EVENTS))))


def _clips(
    job: PartJob, source: PartImu | None, rejected: list[Rejection], notes: dict[str, str]
) -> Iterator[Clip]:
    plan, config, recording = job.plan, job.config, job.plan.recording

    def identify(window: Window) -> str:
        return window_id(
            recording.source, recording.recording_id, window.t_start_us, window.duration_us
        )

    def reject(window: Window, reason: str, message: str) -> None:
        rejected.append(Rejection(window_id=identify(window), reason=reason, message=message))

    for refused in plan.rejected:
        reject(refused.window, refused.reason, refused.message)
    ready: list[tuple[Window, Imu | None, Quality]] = []
    for window in plan.windows:
        try:
            imu, quality = (None, Quality()) if source is None else source.window(window)
            ready.append((window, imu, quality))
        except ClipRejected as exc:
            reject(window, exc.reason, str(exc))
    windows = [window for window, _, _ in ready]
    cut = (
        cut_events(recording, config, windows, notes)
        if config.events
        else ((window, None) for window in windows)
    )
    # Windows come back in the order they went in, and none is lost.
    for (window, imu, quality), (_, events) in zip(ready, cut, strict=True):
        if isinstance(events, ClipRejected):
            reject(window, events.reason, str(events))
            continue
        yield _clip(job, window, identify(window), imu, quality, events, source)


def _clip(
    job: PartJob,
    window: Window,
    name: str,
    imu: Imu | None,
    quality: Quality,
    chosen: CutEvents | None,
    source: PartImu | None,
) -> Clip:
    plan, recording = job.plan, job.plan.recording
    events, spans = chosen if chosen is not None else (None, ())
    return Clip(
        window_id=name,
        source=recording.source,
        recording=recording.recording_id,
        wearer=recording.wearer,
        t_start_us=window.t_start_us,
        duration_us=window.duration_us,
        imu=imu,
        events=events,
        event_spans=spans,
        narration=window.anchor.text if window.anchor else None,
        narrations=tuple(
            replace(narration, t_us=narration.t_us - window.t_start_us)
            for narration in window.narrations
        ),
        split=plan.split,
        align=recording.align if source is None else source.align,
        qc=quality,
        origin=Origin(
            source_version=recording.source_version,
            license_id=recording.license_id,
            imu_kind=recording.imu_kind,
            text_source=recording.text_source,
            split_group=plan.split_group,
            split_origin=plan.split_origin,
            imu_source_rate_hz=None if source is None else source.track.rate_hz,
            sim_id=None if events is None else job.config.sim_id,
        ),
        window_policy=plan.window_policy,
        anchor=window.anchor_index,
        other_actions=window.other_actions,
    )
