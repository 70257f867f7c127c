"""EgoVid-5M's tables: captions of clips of Ego4D videos, and in two of them the IMU per frame.

    video_id,frame_num,fps,...,llava_cap,name[,gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z]
    0a47c74a-dad9-42d5-b937-0f375490f034_0_162,162,30.0,...,"...","C opens a door","[0.01, ...]",...

(JeffWang987/EgoVid, README.md and processor/.) `video_id` is the video's uid, first and last frame
of the clip; IMU cells are lists in a string, one value a frame, gravity included. Tables are
gigabytes: rows are known by their place in the file and read when they are needed.
"""

import csv
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import fit_rate
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, located
from egotriad.pipelines.overlay_ego4d import OverlaySpan

__all__ = ["EgoVidTable", "read_egovid", "read_frame_imu"]

VIDEO_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_(\d+)_(\d+)(?:\.mp4)?")
NEEDED = ("video_id", "frame_num", "fps")
ACCEL, GYRO = ("accl_x", "accl_y", "accl_z"), ("gyro_x", "gyro_y", "gyro_z")
FRAME_HZ, RATE_TOLERANCE_HZ = 30.0, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoVidTable:
    """A table whose rows are known by their places.

    Attributes:
        path: of the table.
        caption: column of the text.
        places: where each video's rows begin in the file, bytes (int64 arrays: millions of them).
        counts: rows that could not be used, by name.
        kinematic: whether it has the IMU columns.
    """

    path: Path
    caption: str
    places: Mapping[str, "array[int]"]
    counts: Mapping[str, int]
    kinematic: bool

    def spans(self, uid: str) -> tuple[OverlaySpan, ...]:
        """Captions of a video, in time order."""
        rows = _rows_at(self.path, self.places[uid])
        spans = [_span(self.path, place, row, self.caption)[1] for place, row in rows]
        return tuple(sorted(spans, key=lambda span: (span.start_us, span.id)))


def read_egovid(path: Path, caption: str) -> EgoVidTable:
    """Indexes a table.

    Left out and counted: `empty_caption`; `other_rate` (clips whose fps is not Ego4D's 30, so that
    their frames are not the canonical video's).

    Args:
        path: egovid-5m.csv, egovid-kinematic.csv, egovid-val.csv or one of their columns.
        caption: column of the text, `llava_cap` or `name`.

    Raises:
        RecordingError: no such file, other columns than documented (those there are named), or a
            row that is no clip (its place is named).
    """
    places: dict[str, array[int]] = {}
    counts: dict[str, int] = {}
    rows = _rows(path)
    _, names = next(rows, (0, []))
    header = _header(path, names, (*NEEDED, caption))
    for place, cells in rows:
        row = _row(path, place, header, cells)
        uid, span = _span(path, place, row, caption)
        problem = "" if span.text else "empty_caption"
        if abs(_number(path, place, row, "fps") - FRAME_HZ) > RATE_TOLERANCE_HZ:
            problem = "other_rate"
        if problem:
            counts[problem] = counts.get(problem, 0) + 1
        else:
            places.setdefault(uid, array("q")).append(place)
    if not places:
        raise RecordingError(f"{path.name}: holds no clip that can be used ({counts or 'no rows'})")
    return EgoVidTable(
        path=path,
        caption=caption,
        places=places,
        counts=dict(sorted(counts.items())),
        kinematic=all(name in header for name in (*ACCEL, *GYRO)),
    )


def read_frame_imu(path: Path, places: Sequence[int]) -> ImuTrack:
    """The IMU that the table holds of one video: one sample a frame, inside its clips alone.

    Where clips overlap the one that begins first counts.

    Raises:
        RecordingError: lists that are none, or of another length than `frame_num`; no samples.
    """
    with located(path.name):
        clips = sorted(_frame_samples(path, places), key=lambda clip: clip[0])
        if not clips:
            raise RecordingError("no clip of this video holds IMU values")
        frames, values = _without_overlaps(clips)
        t_us = np.rint(frames * (1e6 / FRAME_HZ)).astype(np.int64)
        accel, gyro = (
            SensorStream(t_us[kept], np.ascontiguousarray(part[:, kept]))
            for part in (values[:3], values[3:])
            for kept in [np.isfinite(part).all(axis=0)]
        )
        line = fit_rate(accel.t_us)
    return ImuTrack(
        accel=accel,
        gyro=gyro,
        rate_hz=line.rate_hz,
        notes={
            "imu_clock": "frames of the canonical video, 30 Hz",
            "imu_clips": str(len(clips)),
            "imu_missing": f"accel {len(t_us) - len(accel)}, gyro {len(t_us) - len(gyro)}",
        },
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row's place in the file and its cells."""
    if not path.is_file():
        raise RecordingError(f"{path.name}: no such file; check the path")
    try:
        with path.open("rb") as file:
            lines = _Lines(file)
            reader = csv.reader(lines)
            place = 0
            for cells in reader:
                yield place, cells
                place = lines.place
    except (csv.Error, UnicodeDecodeError) as exc:
        raise RecordingError(f"{path.name}: no table in UTF-8 ({exc}); download it again") from exc


def _rows_at(path: Path, places: Sequence[int]) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open("rb") as file:
        header = next(csv.reader(_Lines(file)))
        for place in places:
            file.seek(place)
            yield place, _row(path, place, header, next(csv.reader(_Lines(file))))


class _Lines:
    """Lines of a file as text, and how far it has been read (a row may span several)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.place = file, file.tell()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.place += len(line)
        return line.decode("utf-8-sig")


def _header(path: Path, cells: Sequence[str], needed: Sequence[str]) -> list[str]:
    absent = [name for name in needed if name not in cells]
    if absent:
        raise RecordingError(
            f"{path.name}: has no column {', '.join(absent)}, only {', '.join(cells[:30])}; need "
            "one of EgoVid-5M's tables as its README documents them"
        )
    return list(cells)


def _row(path: Path, place: int, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise RecordingError(
            f"{path.name}, byte {place}: got {len(cells)} cells, need {len(header)}; the file is "
            "cut off or damaged there: download it again"
        )
    return dict(zip(header, cells, strict=True))


def _clip(path: Path, place: int, row: Mapping[str, str]) -> tuple[str, int, int]:
    """Video uid, first frame and last frame of a clip."""
    found = VIDEO_ID.fullmatch(row["video_id"].strip().lower())
    if found is None:
        raise RecordingError(
            f"{path.name}, byte {place}: video_id is {row['video_id']!r}, need "
            "<uid>_<first frame>_<last frame>"
        )
    first, last = int(found[2]), int(found[3])
    if first >= last:
        raise RecordingError(f"{path.name}, byte {place}: {row['video_id']} ends before it begins")
    return found[1], first, last


def _span(path: Path, place: int, row: Mapping[str, str], caption: str) -> tuple[str, OverlaySpan]:
    uid, first, last = _clip(path, place, row)
    start_us, end_us = (round(frame * 1e6 / FRAME_HZ) for frame in (first, last))
    text = " ".join(row[caption].split())
    name = row["video_id"].strip()
    return uid, OverlaySpan(start_us=start_us, end_us=end_us, text=text, id=name)


def _number(path: Path, place: int, row: Mapping[str, str], name: str) -> float:
    try:
        return float(row[name])
    except ValueError as exc:
        raise RecordingError(
            f"{path.name}, byte {place}: {name} is {row[name]!r}, need a number"
        ) from exc


def _frame_samples(path: Path, places: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """First frame and values (6, frames) of each clip that has values."""
    for place, row in _rows_at(path, places):
        cells = [row[name].strip() for name in (*ACCEL, *GYRO)]
        if not any(cells):
            continue
        frames = round(_number(path, place, row, "frame_num"))
        lists = [_listed(row["video_id"], cell) for cell in cells]
        if any(len(values) != frames for values in lists):
            lengths = ", ".join(sorted({str(len(values)) for values in lists}))
            raise RecordingError(
                f"{row['video_id']}: IMU lists of {lengths} values for {frames} frames; they "
                "are documented to hold one a frame"
            )
        yield _clip(path, place, row)[1], np.array(lists)


def _listed(name: str, cell: str) -> list[float]:
    try:
        values = json.loads(cell.replace("nan", "NaN"))
        return [float(value) for value in values]
    except (ValueError, TypeError) as exc:
        raise RecordingError(
            f"{name}: an IMU cell begins with {cell[:40]!r}, need a list of numbers as documented: "
            "[0.1, 0.2, ...]"
        ) from exc


def _without_overlaps(
    clips: Sequence[tuple[int, NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    frames, values, end = [], [], -1
    for first, samples in clips:
        numbers = first + np.arange(samples.shape[1])
        new = numbers > end
        frames.append(numbers[new])
        values.append(samples[:, new])
        end = max(end, int(numbers[-1]))
    return np.concatenate(frames), np.concatenate(values, axis=1)
