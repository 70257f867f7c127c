"""Builds one recording into its part: the unit of work that is either done or not there.

```
parts/{recording}.{key}.windows.parquet    parts/{recording}.{key}.events.parquet
parts/{recording}.{key}.done.json          written last: rows, sizes, hashes, rejected windows
```
The key covers the configuration and all that is known of the recording without decoding it, so
changed options or inputs never mix with old parts.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from egotriad.converters.dvs import DvsEmulator
from egotriad.converters.event_frames import event_image
from egotriad.converters.figures import png_bytes
from egotriad.converters.imu import resample
from egotriad.converters.interpolate import Upsampler
from egotriad.converters.spans import SpanPolicy, choose_spans
from egotriad.converters.video import read_frames
from egotriad.converters.windows import Window
from egotriad.manifests import Clip, Events, Imu, ImuTrack, Origin, Quality, Span
from egotriad.manifests.clip import window_id
from egotriad.manifests.errors import ClipRejected, RecordingError, located
from egotriad.manifests.events import concatenate
from egotriad.manifests.files import atomic, canonical_json, sha256_file, write_text
from egotriad.manifests.rows import window_table
from egotriad.manifests.shards import TableWriter
from egotriad.pipelines.plan import BuildConfig, RecordingPlan
from egotriad.pipelines.provenance import BUILDER

__all__ = ["Part", "PartJob", "Rejection", "build_part", "find_part"]

UPSAMPLED_BEFORE_US = 100_000
"""Upsampling begins this long before the first events that are kept."""

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
    marker = job.path("done.json")
    if not marker.is_file():
        return None
    part = Part(**json.loads(marker.read_text(encoding="utf-8")))
    for name, facts in part.files.items():
        file = job.folder / name
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
        paths = {"windows": job.path("windows.parquet")}
        if job.config.events:
            paths["events"] = job.path("events.parquet")
        with ExitStack() as stack:
            writers = {
                table: stack.enter_context(
                    TableWriter(
                        stack.enter_context(atomic(path)),
                        table,
                        builder=BUILDER,
                        config_hash=job.config.hash,
                    )
                )
                for table, path in paths.items()
            }
            rows, count, duration = _write(job, writers, rejected, notes)
        part = Part(
            recording=recording.recording_id,
            wearer=recording.wearer,
            key=job.plan.key,
            split=job.plan.split,
            split_group=job.plan.split_group,
            rows=rows,
            event_count=count if job.config.events else None,
            duration_us=duration,
            files={
                path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
                for path in paths.values()
            },
            sources=[
                {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
                for file in recording.files
            ],
            rejected=[asdict(rejection) for rejection in rejected],
            notes=notes,
        )
        write_text(job.path("done.json"), canonical_json(asdict(part)) + "\n")
    return part


def _write(
    job: PartJob,
    writers: dict[str, TableWriter],
    rejected: list[Rejection],
    notes: dict[str, str],
) -> tuple[int, int, int]:
    """Writes every clip as it is finished; returns rows, events and microseconds written."""
    light: list[pa.Table] = []
    count = duration = 0
    for clip in _clips(job, rejected, notes):
        row = None
        if clip.events is not None:
            row = writers["events"].rows
            writers["events"].write_events(clip)
            count += len(clip.events)
        light.append(window_table([clip], [_preview(clip, job.config)], [row]))
        duration += clip.duration_us
    if light:
        writers["windows"].write(pa.concat_tables(light).combine_chunks())
    return writers["windows"].rows, count, duration


def _preview(clip: Clip, config: BuildConfig) -> bytes | None:
    if clip.events is None or not config.preview:
        return None
    span = clip.event_spans[len(clip.event_spans) // 2]
    first = clip.events.between(span.start_us, span.start_us + PREVIEW_US)
    return png_bytes(event_image(first.take(slice(0, PREVIEW_EVENTS))))


def _clips(job: PartJob, rejected: list[Rejection], notes: dict[str, str]) -> Iterator[Clip]:
    plan, config, recording = job.plan, job.config, job.plan.recording

    def identify(window: Window) -> str:
        return window_id(
            recording.source, recording.recording_id, window.t_start_us, window.duration_us
        )

    def reject(window: Window, reason: str, message: str) -> None:
        rejected.append(Rejection(window_id=identify(window), reason=reason, message=message))

    for refused in plan.rejected:
        reject(refused.window, refused.reason, refused.message)
    track = _read_imu(job, notes)
    ready: list[tuple[Window, Imu | None]] = []
    for window in plan.windows:
        try:
            ready.append((window, _window_imu(track, window, config)))
        except ClipRejected as exc:
            reject(window, exc.reason, str(exc))
    imus = {window.t_start_us: imu for window, imu in ready}
    windows = [window for window, _ in ready]
    cut = (
        _cut_events(job, windows, notes)
        if config.events
        else ((window, None) for window in windows)
    )
    for window, events in cut:
        if isinstance(events, ClipRejected):
            reject(window, events.reason, str(events))
            continue
        yield _clip(job, window, identify(window), imus[window.t_start_us], events, track)


def _read_imu(job: PartJob, notes: dict[str, str]) -> ImuTrack | None:
    if not job.config.imu:
        return None
    if job.plan.recording.read_imu is None:
        raise RecordingError("has no IMU; pass --no-imu to build clips without one")
    track = job.plan.recording.read_imu()
    notes.update(track.notes)
    return track


def _window_imu(track: ImuTrack | None, window: Window, config: BuildConfig) -> Imu | None:
    if track is None:
        return None
    imu = resample(
        track,
        t_start_us=window.t_start_us,
        duration_us=window.duration_us,
        rate_hz=config.imu_rate_hz,
        longest_gap_us=round(config.longest_gap_s * 1e6),
    )
    missing = 1.0 - float(imu.valid.mean())
    if missing > config.max_gap_fraction:
        raise ClipRejected(
            "imu-gap",
            f"{missing:.1%} of the window has no IMU samples, need at most "
            f"{config.max_gap_fraction:.1%}; raise --max-gap-fraction to keep it masked",
        )
    return imu


def _clip(
    job: PartJob,
    window: Window,
    name: str,
    imu: Imu | None,
    chosen: tuple[Events, tuple[Span, ...]] | None,
    track: ImuTrack | None,
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
        align=recording.align,
        qc=Quality(
            imu_gap_fraction=None if imu is None else 1.0 - float(np.float32(imu.valid.mean()))
        ),
        origin=Origin(
            source_version=recording.source_version,
            license_id=recording.license_id,
            imu_kind=recording.imu_kind,
            text_source=recording.text_source,
            split_group=plan.split_group,
            split_origin=plan.split_origin,
            imu_source_rate_hz=None if track is None else track.rate_hz,
            sim_id=None if events is None else job.config.sim_id,
        ),
        window_policy=plan.window_policy,
        anchor=window.anchor_index,
        other_actions=window.other_actions,
    )


def _cut_events(
    job: PartJob, windows: list[Window], notes: dict[str, str]
) -> Iterator[tuple[Window, tuple[Events, tuple[Span, ...]] | ClipRejected]]:
    """Emulates the recording once, in one pass, and yields each window as soon as it is over.

    The pass ends with the last window; what no window needs is forgotten at once.
    """
    recording, policy = job.plan.recording, job.config.span_policy
    if recording.video_path is None:
        raise RecordingError("has no video; pass --no-events to build clips without events")
    pending = [_Pending(window, policy) for window in windows]
    emulator: DvsEmulator | None = None
    upsampler: Upsampler | None = None
    until_us = step_us = 0
    if not pending:
        return

    def near(start_us: int, end_us: int) -> Iterator[_Pending]:
        """Windows that want events of a stretch of time; they wait in time order."""
        for waiting in pending:
            if waiting.window.t_start_us - UPSAMPLED_BEFORE_US >= end_us:
                return
            if waiting.start_us - UPSAMPLED_BEFORE_US < end_us and start_us < waiting.end_us:
                yield waiting

    read_video = recording.read_video or partial(read_frames, recording.video_path)
    for chunk in read_video(size_wh=job.config.sensor_wh, fit=job.config.fit):
        height, width = chunk.luma.shape[1:]
        if emulator is None or upsampler is None:
            upsampler = Upsampler(job.config.upsampling, (width, height))
            emulator = DvsEmulator(
                job.config.dvs,
                (width, height),
                seed=job.config.event_seed,
                recording=recording.recording_id,
            )
        for piece in upsampler.feed(chunk.luma, chunk.t_us, lambda *stretch: any(near(*stretch))):
            events = emulator.feed(piece.luma, piece.t_us)
            for waiting in near(until_us, int(piece.t_us[-1]) + 1):
                waiting.add(events)
        notes["upsampling"] = str(upsampler.tally)
        if len(chunk.t_us) > 1:
            step_us = int(chunk.t_us[-1] - chunk.t_us[-2])
        until_us = int(chunk.t_us[-1])
        while pending and pending[0].end_us <= until_us:
            yield pending.pop(0).finish(job.config.max_events)
        if not pending:
            return
    for waiting in pending:
        # The last frame is shown for one more frame interval.
        if waiting.end_us <= until_us + step_us:
            yield waiting.finish(job.config.max_events)
        else:
            message = f"the video ends at {(until_us + step_us) / 1e6:.3f} s, inside the window"
            yield waiting.window, ClipRejected("video-ends", message)


class _Pending:
    """A window whose events are still coming."""

    def __init__(self, window: Window, policy: SpanPolicy) -> None:
        search = policy.search(window)
        self.window = window
        self.start_us = window.t_start_us + search.start_us
        self.end_us = window.t_start_us + search.end_us
        self._policy = policy
        self._parts: list[Events] = []
        self._size_wh = (0, 0)

    def add(self, events: Events) -> None:
        self._size_wh = events.size_wh
        if len(events) and events.t_us[0] < self.end_us and events.t_us[-1] >= self.start_us:
            self._parts.append(events.between(self.start_us, self.end_us))

    def finish(
        self, max_events: int
    ) -> tuple[Window, tuple[Events, tuple[Span, ...]] | ClipRejected]:
        events = concatenate(self._parts, self._size_wh)
        events = events.shifted(-self.window.t_start_us).canonical()
        spans = choose_spans(self._policy, self.window, events)
        keep = np.zeros(len(events), bool)
        for span in spans:
            lo, hi = np.searchsorted(events.t_us, [span.start_us, span.end_us])
            keep[lo:hi] = True
        if keep.sum() > max_events:
            message = f"{keep.sum()} events, need at most {max_events} (--max-events)"
            return self.window, ClipRejected("too-many-events", message)
        return self.window, (events.take(keep), spans)
