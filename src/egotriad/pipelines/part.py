"""Builds one recording into its part: the unit of work that is either done or not there.

```
parts/{recording}.{key}.windows.parquet    parts/{recording}.{key}.events.parquet
parts/{recording}.{key}.done.json          written last: rows, sizes, hashes, rejected windows
```
The key covers the configuration and all that is known of the recording without decoding it, so
changed options or inputs never mix with old parts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from egotriad.converters.event_frames import event_image
from egotriad.converters.figures import png_bytes
from egotriad.manifests import Clip
from egotriad.manifests.errors import ShardError, located
from egotriad.manifests.files import atomic, open_sealed, seal, sha256_file, write_text
from egotriad.manifests.rows import window_table
from egotriad.manifests.shards import TableWriter
from egotriad.pipelines.part_clips import Rejection, choose, event_clips, with_imu
from egotriad.pipelines.part_imu import PartImu
from egotriad.pipelines.plan import BuildConfig, RecordingPlan
from egotriad.pipelines.provenance import BUILDER

__all__ = [
    "Part",
    "PartJob",
    "build_part",
    "file_facts",
    "find_part",
    "read_part",
    "table_writers",
    "write_clips",
]

EVENT_COLUMNS = ["num_events", "event_rate_hz", "event_on_fraction", "event_row", "event_preview"]
"""Of a window's row, what only its events tell."""
PREVIEW_US = 50_000
PREVIEW_EVENTS = 20_000


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
        notes = dict(job.plan.notes)
        source = PartImu(recording, job.config, notes) if job.config.imu else None
        paths = {"windows": job.path("windows.parquet")}
        if job.config.events:
            paths["events"] = job.path("events.parquet")
        written, rejected = _convert(job, source, paths, notes)
        part = Part(
            recording=recording.recording_id,
            wearer=recording.wearer,
            key=job.plan.key,
            split=job.plan.split,
            split_group=job.plan.split_group,
            rows=len(written.clips),
            event_count=written.event_count if job.config.events else None,
            duration_us=written.duration_us,
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
    written = _write_events(clips, writers, preview=preview)
    _write_windows(written, written.clips, writers)
    return len(written.clips), written.event_count, written.duration_us


@dataclass(slots=True, kw_only=True)
class _Written:
    """The clips of a recording whose events are written and gone.

    Attributes:
        clips: in time order, without events.
        columns: what their rows say of the events, `EVENT_COLUMNS`.
        event_count: of all clips.
    """

    clips: list[Clip] = field(default_factory=list)
    columns: list[pa.Table] = field(default_factory=list)
    event_count: int = 0

    @property
    def duration_us(self) -> int:
        """Of all clips."""
        return sum(clip.duration_us for clip in self.clips)


def _convert(
    job: PartJob, source: PartImu | None, paths: Mapping[str, Path], notes: dict[str, str]
) -> tuple[_Written, list[Rejection]]:
    """Writes the files of a part; returns what is in them, and the windows that are not."""
    chosen = choose(job.plan, source)
    rejected = list(chosen.rejected)
    watch = None if source is None else source.watch
    with table_writers(paths, job.config) as writers:
        clips = event_clips(
            job.plan,
            job.config,
            chosen.windows,
            rejected,
            notes,
            through=None if watch is None else watch.through,
        )
        written = _write_events(clips, writers, preview=job.config.preview)
        if source is not None:
            source.settle()
        _write_windows(written, with_imu(written.clips, chosen, source), writers)
    return written, rejected


def _write_events(
    clips: Iterable[Clip], writers: Mapping[str, TableWriter], *, preview: bool
) -> _Written:
    written = _Written()
    for clip in clips:
        row = None
        if clip.events is not None:
            row = writers["events"].rows
            writers["events"].write_events(clip)
            written.event_count += len(clip.events)
        table = window_table([clip], [_preview(clip) if preview else None], [row])
        written.columns.append(table.select(EVENT_COLUMNS))
        written.clips.append(replace(clip, events=None))
    return written


def _write_windows(
    written: _Written, clips: Sequence[Clip], writers: Mapping[str, TableWriter]
) -> None:
    """Writes the rows of clips whose events are written."""
    if not clips:
        return
    table = window_table(clips, [None] * len(clips), [None] * len(clips))
    of_events = pa.concat_tables(written.columns).combine_chunks()
    for name in EVENT_COLUMNS:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), of_events[name])
    writers["windows"].write(table)


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
