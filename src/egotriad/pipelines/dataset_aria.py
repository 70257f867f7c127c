"""Recordings of Project Aria glasses: cameras, two IMUs and one hardware clock in one VRS file.

Homepage projectaria.com; format facebookresearch/vrs, reader projectaria-tools (extra `aria`). Open
recordings to try: Aria Everyday Activities (its own licence, read it before you publish shards).
The layout is that of Aria Everyday Activities; any single VRS file will do.

    loc1_script1_seq1_rec1/recording.vrs   camera-rgb, imu-left, imu-right, ...
    loc1_script1_seq1_rec1/speech.csv      words in device time, see `converters/aria_speech.py`
    loc1_script1_seq1_rec1/metadata.json   {"location": 1, "script": 1, "sequence": 1, ...}

Sensors: `converters/vrs.py` (IMU 1000 or 800 Hz, m/s^2 with gravity, rad/s, corrected and in device
axes; everything on one clock). Traps: the two IMUs differ in rate, axes and delay; files without
image streams (Ego-Exo4D's `*_noimagestreams.vrs`) have no video; speech may lie outside an excerpt.
Without --wearer the recordings of one scene (two wearers at once) share a split.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from egotriad.converters.aria_speech import read_speech
from egotriad.converters.vrs import RGB, VrsRecording, open_vrs, read_vrs_frames, read_vrs_imu
from egotriad.manifests import Alignment, Narration, Recording, Unreadable
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.fake_aria import write_fake_aria

__all__ = ["DATASET", "AriaOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AriaOptions:
    """Options of the dataset `aria`.

    Attributes:
        input: VRS files; a folder stands for every VRS file in it and in the folders below.
        imu: which of the two IMUs.
        wearer: who wore the glasses; recordings of one wearer stay in one split.
    """

    input: tuple[Path, ...] = ()
    imu: Literal["imu-right", "imu-left"] = "imu-right"
    wearer: str | None = None


class Aria:
    """Recordings of Project Aria glasses."""

    name: ClassVar[str] = "aria"
    licence_id: ClassVar[str] = "own"
    build_defaults: ClassVar[Mapping[str, Any]] = {
        "windows": "grid",
        "window_s": 5.0,
        "event_spans": "full",
        "sensor": "346x260",
    }
    Options: ClassVar[type] = AriaOptions

    def download(self, raw: Path, options: AriaOptions) -> None:
        """Nothing to bring: the files are the user's."""

    def recordings(self, raw: Path, options: AriaOptions) -> list[Recording | Unreadable]:
        """One entry per VRS file, in the order given (a folder's by path).

        Raises:
            UsageError: no input.
            RecordingError: a folder without a VRS file.
            MissingDependency: projectaria-tools is not installed.
        """
        files = list(itertools.chain.from_iterable(map(_files, options.input)))
        if not files:
            raise UsageError("no input; name VRS files or folders with --input")
        return [_described(path, options) for path in files]

    def fake(self, raw: Path) -> AriaOptions:
        """Writes one six-second recording with speech, as the glasses and their data sets do."""
        return AriaOptions(input=(write_fake_aria(raw / "loc1_script2_seq3_rec4"),), wearer="fake")


DATASET = Aria()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    inside = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".vrs")
    if not inside:
        raise RecordingError(f"{path}: no VRS file in this folder; check the path")
    yield from inside


def _described(path: Path, options: AriaOptions) -> Recording | Unreadable:
    try:
        return _recording(path, options)
    except RecordingError as exc:
        return Unreadable(recording_id=_recording_id(path), message=str(exc))


def _recording_id(path: Path) -> str:
    """The file's name; its folder's where the file has the name that all have."""
    name = path.absolute().parent.name if path.stem == "recording" else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _recording(path: Path, options: AriaOptions) -> Recording:
    opened = open_vrs(path)
    opened.stream(options.imu, "IMU")
    video = RGB in opened.streams
    duration_us = _duration_us(opened, options.imu)
    words, metadata = path.with_name("speech.csv"), path.with_name("metadata.json")
    narrations = _spoken(words, opened, duration_us)
    return Recording(
        source=Aria.name,
        source_version="1",
        recording_id=_recording_id(path),
        wearer=options.wearer,
        video_path=path if video else None,
        read_imu=partial(read_vrs_imu, path, options.imu),
        read_video=partial(read_vrs_frames, path) if video else None,
        narrations=narrations,
        duration_us=duration_us,
        license_id=Aria.licence_id,
        imu_kind="head_acc_gyro",
        text_source="model" if narrations else "none",
        align=Alignment(status="hardware"),
        split_group="" if options.wearer else _scene(metadata),
        files=tuple(file for file in (path, words, metadata) if file.is_file()),
    )


def _duration_us(opened: VrsRecording, imu: str) -> int:
    """To the end of the last frame; without a camera to the IMU's last sample."""
    if RGB not in opened.streams:
        return int(opened.sample_times_us(imu)[-1])
    t_us = opened.frame_times_us()
    return int(t_us[-1] + np.median(np.diff(t_us))) if len(t_us) > 1 else 0


def _spoken(words: Path, opened: VrsRecording, duration_us: int) -> tuple[Narration, ...]:
    if not words.is_file():
        return ()
    spoken = read_speech(words, origin_ns=opened.origin_ns)
    return tuple(narration for narration in spoken if 0 <= narration.t_us < duration_us)


def _scene(metadata: Path) -> str:
    """What recordings of one scene have in common, from metadata.json; empty without it."""
    if not metadata.is_file():
        return ""
    try:
        facts = json.loads(metadata.read_text("utf-8"))
        return "loc{location}_script{script}_seq{sequence}".format(**facts)
    except (ValueError, KeyError, TypeError) as exc:
        raise RecordingError(
            f"{metadata.name}: need location, script and sequence in it, as Aria Everyday "
            f"Activities has ({type(exc).__name__}: {exc})"
        ) from exc
