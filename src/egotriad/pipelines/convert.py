"""One file into another: events between formats, a video to events, a camera's IMU to a table.

All of it streams: a file larger than memory goes through in chunks.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from egotriad.converters.dvs import DvsEmulator
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.event_files import (
    FORMATS,
    EventReader,
    create_events,
    written_format,
)
from egotriad.converters.event_files_fields import Size
from egotriad.converters.event_video import event_video
from egotriad.converters.gpmf import read_gopro_imu
from egotriad.converters.imu_tables import write_imu_table
from egotriad.converters.interpolate import UpsampleConfig, Upsampler
from egotriad.converters.video import probe, read_frames
from egotriad.converters.vrs import read_vrs_imu
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError

__all__ = [
    "EventTally",
    "ImuTally",
    "Origin",
    "Progress",
    "convert_events",
    "convert_imu",
    "convert_video",
]

Progress = Callable[[str, int, int], None]
"""Called with what is counted, how much of it is done, and how much there is."""

Origin = Literal["file", "first", "absolute"]


@dataclass(slots=True, kw_only=True)
class EventTally:
    """What was written.

    Attributes:
        format: of the file; `mp4` for a video to look at.
        size_wh: of the sensor, pixels.
        events: how many.
        on: how many of them ON.
        first_us: time of the first one, None without events.
        last_us: time of the last one, None without events.
        t_offset_us: what to add to these times to get the source's own clock, stored or not.
    """

    format: str
    size_wh: Size
    events: int = 0
    on: int = 0
    first_us: int | None = None
    last_us: int | None = None
    t_offset_us: int = 0

    def add(self, events: Events) -> None:
        """Counts events, in order of time."""
        if not len(events):
            return
        self.events += len(events)
        self.on += int(events.p.sum())
        self.first_us = int(events.t_us[0]) if self.first_us is None else self.first_us
        self.last_us = int(events.t_us[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuTally:
    """What was written: samples of both sensors and the accelerometer's measured rate."""

    accel_samples: int
    gyro_samples: int
    rate_hz: float
    notes: dict[str, str]


def convert_events(
    reader: EventReader,
    target: Path,
    *,
    format: str | None = None,
    origin: Origin | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    preview: Path | None = None,
    progress: Progress,
) -> EventTally:
    """Events from one file into another, or into a video to look at (`.mp4`).

    Args:
        reader: of the source.
        target: the file to write.
        format: its format; None takes it from the suffix.
        origin: where time 0 lies: None leaves times and clock offset as they are; `file` leaves the
            times and drops the offset; `absolute` adds it to them; `first` counts from the first
            event, and keeps an offset where the format can.
        start_us: on the source's clock; events before are left out.
        end_us: on the source's clock; events from there on are left out.
        preview: a video of the events besides, `.mp4`.
        progress: see `Progress`.

    Raises:
        RecordingError: the source is cut off or damaged.
        UsageError: what the target cannot hold.
    """
    unit, scale = (reader.unit, 1) if reader.unit == "events" else ("kB", 1000)
    chunks = reader.chunks(
        start_us=start_us,
        end_us=end_us,
        progress=lambda done: progress(f"{unit} read", done // scale, reader.total // scale),
    )
    name = "mp4" if target.suffix.lower() == ".mp4" else format or written_format(target)
    first = next(chunks, Events.empty(reader.size_wh))
    shift_us = 0
    if origin == "absolute":
        shift_us = reader.t_offset_us
    elif origin == "first" and len(first):
        shift_us = -int(first.t_us[0])
    tally = EventTally(
        format=name, size_wh=reader.size_wh, t_offset_us=reader.t_offset_us - shift_us
    )
    holds_offset = name in FORMATS and FORMATS[name].holds_offset
    drops_offset = origin == "file" or (origin == "first" and not holds_offset) or name == "mp4"
    _deliver(
        (events.shifted(shift_us) for events in itertools.chain([first], chunks)),
        target,
        tally,
        0 if drops_offset else tally.t_offset_us,
        preview,
    )
    return tally


def convert_video(
    source: Path,
    target: Path,
    *,
    config: DvsConfig,
    upsample: UpsampleConfig,
    size_wh: Size | None = None,
    seed: int = 0,
    format: str | None = None,
    preview: Path | None = None,
    progress: Progress,
) -> EventTally:
    """The events that an event camera would have sent of a video's scene.

    Args:
        source: the video.
        target: the event file, or `.mp4` for a video to look at.
        config: the camera.
        upsample: what to do about motion between frames.
        size_wh: of the sensor; None takes the video's. The picture is cropped to its shape.
        seed: of the camera's noise; the source's name is the other key.
        format: of the event file; None takes it from the suffix.
        preview: a video of the events besides, `.mp4`.
        progress: see `Progress`.

    Raises:
        RecordingError: the video cannot be read.
        UsageError: what the target cannot hold.
    """
    info = probe(source)
    name = "mp4" if target.suffix.lower() == ".mp4" else format or written_format(target)
    tally = EventTally(format=name, size_wh=size_wh or info.size_wh)
    total = info.frame_count or round(info.duration_us * (info.frame_rate_hz or 0) / 1e6)
    emulator = DvsEmulator(config, tally.size_wh, seed=seed, recording=source.stem)
    upsampler = Upsampler(upsample, tally.size_wh)

    def chunks() -> Iterator[Events]:
        done = 0
        for frames in read_frames(source, size_wh=size_wh):
            for piece in upsampler.feed(frames.luma, frames.t_us):
                yield emulator.feed(piece.luma, piece.t_us)
            done += len(frames.t_us)
            progress("frames", done, max(total, done))

    _deliver(chunks(), target, tally, 0, preview)
    return tally


def convert_imu(source: Path, target: Path) -> ImuTally:
    """The IMU of a GoPro file (GPMF) or of Aria glasses (VRS) as a table.

    Raises:
        RecordingError: the source has no IMU, or cannot be read.
        MissingDependency: VRS without projectaria-tools.
    """
    read = read_vrs_imu if source.suffix.lower() == ".vrs" else read_gopro_imu
    track = read(source)
    write_imu_table(target, track)
    return ImuTally(
        accel_samples=len(track.accel),
        gyro_samples=len(track.gyro),
        rate_hz=track.rate_hz,
        notes=track.notes,
    )


def _deliver(
    chunks: Iterable[Events],
    target: Path,
    tally: EventTally,
    t_offset_us: int,
    preview: Path | None,
) -> None:
    """Events into the file, or the video, or both, counted."""
    if preview is not None and preview == target:
        raise UsageError(f"--preview: got {preview.name}, which is the target itself")
    with ExitStack() as files:
        sinks: list[Callable[[Events], None]] = [tally.add]
        if tally.format == "mp4":
            sinks.append(files.enter_context(event_video(target, tally.size_wh)))
        else:
            writer = files.enter_context(
                create_events(
                    target, size_wh=tally.size_wh, format=tally.format, t_offset_us=t_offset_us
                )
            )
            sinks.append(writer.write)
        if preview is not None:
            sinks.append(files.enter_context(event_video(preview, tally.size_wh)))
        for events in chunks:
            for sink in sinks:
                sink(events)
