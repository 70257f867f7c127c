"""When each frame of an Ego-Exo4D take was taken: `timesync.csv` of its capture, in device time.

    aria01_214-1_capture_timestamp_ns,aria01_214-1_frame_number,cam01_pts,cam01_frame_number
    284324567890,6373,106216,6373

One row per tick of 30 Hz. Frame i of a take's videos is row `timesync_start_idx + 1 + i`, up to and
including row `timesync_end_idx`, counted from 0 (Ego-Exo4D docs, data/metadata.md: their sample has
641 rows for 21.3667 s; their tutorials slice 640: videos may be longer or shorter by one frame).
An empty cell, or the row above again, is a tick at which that camera took no frame of its own.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from egotriad.manifests.errors import RecordingError

__all__ = ["TICK_HZ", "TakeClock", "TakeRows", "read_device_times"]

TICK_HZ = 30.0
LATEST_NS = 2**53
"""104 days after boot: beyond, float64 would round nanoseconds, and no glasses run so long."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TakeClock:
    """Take time (frame i at i / 30 s) against the device time of a camera.

    Attributes:
        device_ns: int64 (n,), device time of each tick; empty cells are interpolated.
        captured: bool (n,), whether the camera took a frame of its own at that tick.
        blank, repeated: how many ticks it did not, and why.
    """

    device_ns: NDArray[np.int64]
    captured: NDArray[np.bool_]
    blank: int
    repeated: int

    @property
    def origin_ns(self) -> int:
        """Device time of the first frame: where the recording's clock begins."""
        return int(self.device_ns[self.captured][0])

    @property
    def frame_times_us(self) -> NDArray[np.int64]:
        """Microseconds (n,) of each tick on the recording's clock."""
        return (self.device_ns - self.origin_ns + 500) // 1000

    @property
    def duration_us(self) -> int:
        """To the end of the last frame, which is shown as long as the median one."""
        t_us = self.frame_times_us[self.captured]
        return int(t_us[-1] + np.median(np.diff(t_us))) if len(t_us) > 1 else 0

    def recording_us(self, take_us: int) -> int:
        """A time of the take on the recording's clock; real seconds count on beyond its ends."""
        ticks, t_us = np.arange(len(self.device_ns)) / TICK_HZ * 1e6, self.frame_times_us
        outside = min(take_us, 0) + max(take_us - ticks[-1], 0)
        return round(float(np.interp(take_us, ticks, t_us)) + outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeRows:
    """Where the clock of a take stands.

    Attributes:
        path: timesync.csv of the capture.
        column: the camera's (`aria01_214-1_capture_timestamp_ns`).
        first, last: rows of the take's first and last frame, 0-based, both included.
    """

    path: Path
    column: str
    first: int
    last: int

    def read(self, device_times: NDArray[np.float64] | None = None) -> TakeClock:
        """The clock of the take.

        Args:
            device_times: what `read_device_times` gave, where it has been read already.

        Raises:
            RecordingError: as `read_device_times`; rows that the file does not have, without a
                frame at either end, or whose times fall.
        """
        if device_times is None:
            device_times = read_device_times(self.path, self.column)
        if not 0 <= self.first <= self.last < len(device_times):
            raise RecordingError(
                f"{self.path.name}: has {len(device_times)} rows, the take lies in rows "
                f"{self.first} to {self.last}; download the capture again, with takes.json"
            )
        known = np.flatnonzero(np.isfinite(device_times))
        rows = np.arange(self.first, self.last + 1)
        if not len(known) or known[0] > self.first or known[-1] < self.last:
            raise RecordingError(
                f"{self.path.name}: {self.column} is empty at an end of rows {self.first} to "
                f"{self.last}: the take's frames have no time there"
            )
        cells = device_times[rows]
        blank = np.isnan(cells)
        device_ns = np.rint(np.interp(rows, known, device_times[known])).astype(np.int64)
        previous = np.maximum.accumulate(np.where(blank, -1, device_ns))[:-1]
        steps = np.where(blank[1:], 1, device_ns[1:] - previous)
        if (steps < 0).any():
            row = self.first + 1 + int(np.argmax(steps < 0))
            raise RecordingError(f"{self.path.name}: {self.column} falls at row {row}")
        captured = ~blank
        captured[1:] &= steps > 0
        if not captured.any():
            raise RecordingError(f"{self.path.name}: no frame of the take has a time")
        return TakeClock(
            device_ns=device_ns,
            captured=captured,
            blank=int(blank.sum()),
            repeated=int((~captured & ~blank).sum()),
        )


def read_device_times(path: Path, column: str) -> NDArray[np.float64]:
    """One camera's column of a timesync.csv: nanoseconds (rows,), NaN where a cell is empty.

    Raises:
        RecordingError: no such file or column (those there are named), or no device times.
    """
    if not path.is_file():
        raise RecordingError(f"{path.name}: no such file; download the capture's timesync")
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = [name.strip().strip('"') for name in file.readline().split(",")]
        if column not in names:
            stamped = ", ".join(name for name in names if name.endswith("_timestamp_ns"))
            raise RecordingError(
                f"{path.name}: has no column {column}; columns of device times: {stamped or 'none'}"
            )
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(
                use_threads=False, column_names=names, skip_rows=1, encoding="utf8"
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=[column], column_types={column: pa.float64()}
            ),
        )
    except (OSError, UnicodeDecodeError, pa.ArrowException) as exc:
        raise RecordingError(f"{path.name}: cannot be read as a table ({exc})") from exc
    times = table[column].to_numpy().astype(np.float64)
    found = times[np.isfinite(times)]
    if not len(found) or found.min() < 0 or found.max() > LATEST_NS:
        span = f"{found.min():.0f} to {found.max():.0f}" if len(found) else "nothing"
        raise RecordingError(
            f"{path.name}: {column} holds {span}, need device time: nanoseconds since boot"
        )
    return times
