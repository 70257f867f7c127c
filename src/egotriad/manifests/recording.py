"""`Recording`: one continuous capture, described but not yet read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.clip import Alignment, Narration
from egotriad.manifests.errors import UsageError
from egotriad.manifests.events import Events

__all__ = ["ImuTrack", "Recording", "SensorStream", "Unreadable"]


@dataclass(frozen=True, slots=True, eq=False)
class SensorStream:
    """Samples of one three-axis sensor with their true times.

    Attributes:
        t_us: int64 (N,), microseconds on the recording's clock, as the source gives them: not
            necessarily in order, uniform or gap-free.
        values: float64 (3, N), x y z.
    """

    t_us: NDArray[np.int64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.t_us.dtype != np.int64 or self.values.dtype != np.float64:
            raise UsageError(
                f"sensor stream: got {self.t_us.dtype}, {self.values.dtype}; need int64, float64"
            )
        if self.values.shape != (3, len(self.t_us)):
            raise UsageError(
                f"sensor stream: got values {self.values.shape} for {len(self.t_us)} times, "
                f"need (3, {len(self.t_us)})"
            )

    def __len__(self) -> int:
        return len(self.t_us)

    def __repr__(self) -> str:
        return f"SensorStream({len(self)} samples)"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImuTrack:
    """The IMU of a recording as the source has it: two streams, possibly at different rates.

    Attributes:
        accel: m/s^2, gravity included.
        gyro: rad/s.
        rate_hz: measured (fitted) sample rate of the accelerometer.
        notes: what the reader did to it (axis map, clock fit), for provenance.
    """

    accel: SensorStream
    gyro: SensorStream
    rate_hz: float
    notes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One continuous capture: paths and callables, nothing decoded, picklable.

    All times are microseconds on one clock whose origin is the first video frame (without video:
    the first IMU sample).

    Attributes:
        source: name of the dataset; source_version its version.
        recording_id: unique inside the dataset, usable as a file name.
        wearer: id of the person, None when unknown.
        video_path: the video's file, or its first one; None without video.
        read_video: called with `size_wh` and `fit`, yields the frames in chunks as
            `converters.video.read_frames` does; None when PyAV opens `video_path` and that is all.
            Crosses process borders like `read_imu`.
        read_imu: reads the IMU when called (a module-level function or a `functools.partial` of
            one, so that it crosses process borders), or None.
        read_events: called with (start_us, end_us), the events that the recording itself holds of
            that stretch, in canonical order; raises `ClipRejected` where they are not known for
            all of it. None where events are to be synthesised from the video.
        narrations: in time order.
        duration_us: length, from metadata (no decoding).
        official_split: train | validation | test as the source says, or None.
        split_group: what is hashed for the split; empty = wearer, else recording.
        redacted_us: stretches (start, end) that the source has blanked; no window may touch them.
        notes: what the source says of it besides (device, place), for provenance.
        files: the source files, for hashing into provenance.
    """

    source: str
    source_version: str
    recording_id: str
    wearer: str | None
    video_path: Path | None
    read_imu: Callable[[], ImuTrack] | None
    narrations: tuple[Narration, ...]
    duration_us: int
    license_id: str
    imu_kind: str
    text_source: str
    align: Alignment
    read_video: Callable[..., Iterator[Any]] | None = None
    read_events: Callable[[int, int], Events] | None = None
    official_split: str | None = None
    split_group: str = ""
    redacted_us: tuple[tuple[int, int], ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A recording that was asked for and cannot even be described; the build goes on without it.

    Attributes:
        recording_id: usable as a file name.
        message: what is wrong with it, for the report.
    """

    recording_id: str
    message: str
