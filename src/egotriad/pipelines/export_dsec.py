"""DSEC: HDF5 events with their index by millisecond, IMU and narrations as tables beside them.

```
{split}/{source}/{recording}/{start}-{duration}/   of each window
{split}/{source}/{recording}/                      of each recording
  events.h5        events/{t,x,y,p}, ms_to_idx, t_offset, as DSEC's (converters.event_files_hdf5)
  imu.csv          t_us, acc_x..acc_z (m/s^2), gyro_x..gyro_z (rad/s); missing samples left out
  narrations.csv   time_s, text
  recording.json   whose it is, how long, in which spans events were computed
```
All times of a folder are on one clock: the window's, or the recording's. `t_offset` leads from a
window's to the recording's. Where windows of a recording overlap, what they share is written once;
where none was cut, and outside the event spans, nothing is known, and `event_spans` says so.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

from egotriad.converters.event_files import create_events
from egotriad.manifests import Clip, Events
from egotriad.manifests.clip import IMU_ROWS
from egotriad.manifests.errors import ShardError, located
from egotriad.manifests.shards import ShardReader
from egotriad.pipelines.export_source import ExportSource, relative_path

__all__ = ["EVENTS", "IMU", "NARRATIONS", "RECORDING", "export_dsec"]

EVENTS, IMU = "events.h5", "imu.csv"
NARRATIONS, RECORDING = "narrations.csv", "recording.json"

IMU_COLUMNS = pa.schema(
    [pa.field("t_us", pa.int64()), *(pa.field(name, pa.float32()) for name in IMU_ROWS)]
)


def export_dsec(source: ExportSource, folder: Path, per: Literal["window", "recording"]) -> None:
    """Writes a folder for each window that has events, or for each recording.

    Raises:
        MissingDependency: h5py or hdf5plugin is not installed.
    """
    for split in source.splits:
        heavy = source.reader(split, imu=False)
        for _, rows in groupby(_numbered(source, split), key=lambda row: _unit(row.clip, per)):
            several = list(rows)
            clip = several[0].clip
            path = relative_path(clip)
            name, origin_us = clip.recording, 0
            if per == "window":
                name, origin_us = f"{clip.recording}-{clip.t_start_us:012d}", clip.t_start_us
            else:
                path = path.parent
            _write_folder(folder / split / path, name, origin_us, several, heavy, source)


def _unit(clip: Clip, per: str) -> str:
    """What gets a folder."""
    return clip.window_id if per == "window" else f"{clip.source}/{clip.recording}"


@dataclass(frozen=True, slots=True)
class _Row:
    """A clip without its events, and its number in its split."""

    number: int
    clip: Clip


def _numbered(source: ExportSource, split: str) -> Iterator[_Row]:
    """The windows that have events."""
    for number, clip in enumerate(source.clips(split, events=False)):
        if clip.origin.sim_id is None:
            source.left_out["no-events"] += 1
        else:
            yield _Row(number, clip)


def _write_folder(
    folder: Path,
    name: str,
    origin_us: int,
    rows: Sequence[_Row],
    heavy: ShardReader,
    source: ExportSource,
) -> None:
    """Writes windows of one recording, times counted from `origin_us` of its clock."""
    clips = [row.clip for row in rows]
    folder.mkdir(parents=True)
    with located(clips[0].window_id):
        source.events += _write_events(folder / EVENTS, rows, heavy, origin_us)
        if any(clip.imu is not None for clip in clips):
            _write_imu(folder / IMU, clips, origin_us)
        _write_narrations(folder / NARRATIONS, clips, origin_us)
        text = json.dumps(_described(clips, name, origin_us), indent=1, ensure_ascii=False)
        (folder / RECORDING).write_text(text + "\n", encoding="utf-8")
    source.windows += len(rows)


def _write_events(path: Path, rows: Sequence[_Row], heavy: ShardReader, origin_us: int) -> int:
    """The events of all spans, in order, those under several windows once; their number."""
    first = _events(heavy, rows[0])
    held = {0: first}
    clips = [row.clip for row in rows]
    with create_events(path, size_wh=first.size_wh, format="dsec", t_offset_us=origin_us) as writer:
        for index, start_us, end_us in _pieces(clips):
            if index not in held:
                # Overlapping windows take turns; those that are over are forgotten.
                held = {k: events for k, events in held.items() if _end_us(clips[k]) > start_us}
                held[index] = _events(heavy, rows[index])
            shift_us = clips[index].t_start_us
            events = held[index].between(start_us - shift_us, end_us - shift_us)
            writer.write(events.shifted(shift_us - origin_us))
        return writer.count


def _events(heavy: ShardReader, row: _Row) -> Events:
    events = heavy.events(row.number)
    if events is None:
        raise ShardError("has a sim_id and no events; run verify-shards on the shards")
    return events


def _pieces(clips: Sequence[Clip]) -> Iterator[tuple[int, int, int]]:
    """(index of a clip, start, end) on the recording's clock: the union of all event spans."""
    spans = [
        (clip.t_start_us + span.start_us, clip.t_start_us + span.end_us, index)
        for index, clip in enumerate(clips)
        for span in clip.event_spans
    ]
    covered_us = 0
    for start_us, end_us, index in sorted(spans):
        if end_us > covered_us:
            yield index, max(start_us, covered_us), end_us
            covered_us = end_us


def _end_us(clip: Clip) -> int:
    return clip.t_start_us + clip.duration_us


def _write_imu(path: Path, clips: Sequence[Clip], origin_us: int) -> None:
    """Every sample once; of overlapping windows the earlier one's."""
    written_us = -1
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    with pyarrow.csv.CSVWriter(path, IMU_COLUMNS, write_options=options) as writer:
        for imu, start_us in ((clip.imu, clip.t_start_us) for clip in clips):
            if imu is None:
                continue
            steps = np.arange(imu.data.shape[1])
            t_us = start_us + np.rint(steps * (1e6 / imu.rate_hz)).astype(np.int64)
            keep = imu.valid & (t_us > written_us)
            columns = [t_us[keep] - origin_us, *imu.data[:, keep]]
            writer.write_batch(pa.record_batch(columns, schema=IMU_COLUMNS))
            written_us = max(written_us, int(t_us[-1]))


def _write_narrations(path: Path, clips: Sequence[Clip], origin_us: int) -> None:
    told = {
        (clip.t_start_us + narration.t_us - origin_us, narration.text)
        for clip in clips
        for narration in clip.narrations
    }
    if not told:
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["time_s", "text"])
        rows.writerows((f"{t_us / 1e6:.6f}", text) for t_us, text in sorted(told))


def _described(clips: Sequence[Clip], name: str, origin_us: int) -> dict[str, Any]:
    clip = clips[0]
    return {
        "source": clip.source,
        "source_version": clip.origin.source_version,
        "recording": clip.recording,
        "id": name,
        "wearer": clip.wearer,
        "split": clip.split,
        "split_group": clip.origin.split_group,
        "license_id": clip.origin.license_id,
        "imu_kind": clip.origin.imu_kind,
        "text_source": clip.origin.text_source,
        "sim_id": clip.origin.sim_id,
        "origin_us": origin_us,
        "duration_us": max(map(_end_us, clips)) - origin_us,
        "event_spans": [[start - origin_us, end - start] for start, end in _covered(clips)],
        "windows": [other.window_id for other in clips],
    }


def _covered(clips: Sequence[Clip]) -> list[tuple[int, int]]:
    """The union of all event spans, as few stretches."""
    joined: list[tuple[int, int]] = []
    for _, start_us, end_us in _pieces(clips):
        if joined and joined[-1][1] == start_us:
            joined[-1] = (joined[-1][0], end_us)
        else:
            joined.append((start_us, end_us))
    return joined
