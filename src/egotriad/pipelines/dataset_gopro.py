"""The user's own GoPro recordings: video, IMU and clock in one mp4, narrations beside it.

Any mp4 with a GPMF track will do (Hero5 and later, Max, Fusion), straight from the camera: editing
and messaging tools drop the track. `--narrations` is a `.csv` (`time_s,text`), `.srt` or `.vtt`
file, or,
for several recordings, a folder that holds one per recording under the recording's name.

    walk/GX010012.mp4     H.264 or HEVC video, AAC, "GoPro MET" telemetry (IMU, exposures)
    walk/GX020012.mp4     its second chapter: the same recording, see `converters/gpmf_chapters.py`
    walk/GX010012.csv     time_s,text (seconds from the first frame of the first chapter)
                          3.2,C opens the door

Sensors: accelerometer m/s^2 with gravity, gyroscope rad/s, camera axes X, Y, Z, about 200 Hz (true
rate measured per recording). Traps: see `converters/gpmf.py`; stabilised footage does not move as
its gyroscope says.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from egotriad.converters.gpmf import read_gopro_imu, stamped_by_camera
from egotriad.converters.gpmf_chapters import (
    chapter_starts_us,
    check_chapter_names,
    group_chapters,
    read_chapter_frames,
)
from egotriad.converters.gpmf_payloads import is_bare
from egotriad.converters.narration import read_user_narrations
from egotriad.manifests import Alignment, Recording, Unreadable
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.fake_gopro import write_fake_gopro

__all__ = ["DATASET", "GoProOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoProOptions:
    """Options of the dataset `gopro`.

    Attributes:
        input: mp4 files; a folder stands for every mp4 in it.
        narrations: .csv (time_s,text) or .srt file of the one input, or a folder with one such file
            per input, of the same name; without it clips carry no text.
        wearer: who wore the camera; recordings of one wearer stay in one split.
    """

    input: tuple[Path, ...] = ()
    narrations: Path | None = None
    wearer: str | None = None


class GoPro:
    """Recordings of a GoPro camera."""

    name: ClassVar[str] = "gopro"
    licence_id: ClassVar[str] = "own"
    build_defaults: ClassVar[Mapping[str, Any]] = {
        "windows": "grid",
        "window_s": 5.0,
        "event_spans": "full",
        "sensor": "346x260",
    }
    Options: ClassVar[type] = GoProOptions

    def download(self, raw: Path, options: GoProOptions) -> None:
        """Nothing to bring: the files are the user's."""

    def recordings(self, raw: Path, options: GoProOptions) -> list[Recording | Unreadable]:
        """One entry per recording, in the order given (a folder's by name); chapters are joined.

        A file that is missing, cut off, or lacks video, IMU or its narrations is `Unreadable`.

        Raises:
            UsageError: no input, or one narration file for several inputs.
            RecordingError: a folder without recordings, or narrations that do not exist.
        """
        files = list(itertools.chain.from_iterable(map(_files, options.input)))
        if not files:
            raise UsageError("no input; name mp4 files or folders with --input")
        if options.narrations is not None and not options.narrations.exists():
            raise RecordingError(f"{options.narrations}: no such file or folder; check the path")
        recordings = group_chapters(files)
        if options.narrations is not None and options.narrations.is_file() and len(recordings) > 1:
            raise UsageError(
                f"--narrations: got one file for {len(recordings)} recordings; give a folder that "
                f"holds a .csv or .srt under each recording's name"
            )
        return [_described(chapters, options) for chapters in recordings]

    def fake(self, raw: Path) -> GoProOptions:
        """Writes one six-second recording with walking-like IMU and two narrations."""
        video, narrations = write_fake_gopro(raw)
        return GoProOptions(input=(video,), narrations=narrations, wearer="fake")


DATASET = GoPro()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    inside = sorted(file for file in path.iterdir() if file.suffix.lower() == ".mp4")
    if not inside:
        raise RecordingError(f"{path}: no mp4 in this folder; check the path")
    yield from inside


def _described(chapters: tuple[Path, ...], options: GoProOptions) -> Recording | Unreadable:
    try:
        return _recording(chapters, options)
    except RecordingError as exc:
        return Unreadable(recording_id=_recording_id(chapters[0]), message=str(exc))


def _recording_id(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)


def _recording(chapters: tuple[Path, ...], options: GoProOptions) -> Recording:
    path = chapters[0]
    check_chapter_names(chapters)
    if path.is_file() and is_bare(path):
        raise RecordingError(
            f"{path.name}: IMU without video (a bare GPMF file); give the mp4 it was taken from"
        )
    duration_us = chapter_starts_us(chapters)[-1]
    stamped = all(map(stamped_by_camera, chapters))
    text_path = _narration_path(path, options.narrations)
    return Recording(
        source=GoPro.name,
        source_version="1",
        recording_id=_recording_id(path),
        wearer=options.wearer,
        video_path=path,
        read_imu=partial(read_gopro_imu, *chapters),
        read_video=partial(read_chapter_frames, chapters) if len(chapters) > 1 else None,
        narrations=read_user_narrations(text_path) if text_path else (),
        duration_us=duration_us,
        license_id=GoPro.licence_id,
        imu_kind="head_acc_gyro",
        text_source="human" if text_path else "none",
        # Without the camera's own stamps the container's payload times stand in.
        align=Alignment(status="hardware" if stamped else "assumed"),
        files=(*chapters, text_path) if text_path else chapters,
    )


def _narration_path(video: Path, narrations: Path | None) -> Path | None:
    """The narration file of a recording; None when none were asked for."""
    if narrations is None or narrations.is_file():
        return narrations
    candidates = [narrations / f"{video.stem}{suffix}" for suffix in (".csv", ".srt", ".vtt")]
    present = [path for path in candidates if path.is_file()]
    if len(present) != 1:
        raise RecordingError(
            f"{video.name}: got {len(present)} narration files in {narrations.name}, need one: "
            f"{' or '.join(path.name for path in candidates)}"
        )
    return present[0]
