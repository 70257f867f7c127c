"""The streams of an Ego-Exo4D take on one clock: its glasses' own, from its first frame on.

The IMU carries device time and so does, through timesync.csv, every frame of the 30 fps videos: a
frame gets the time at which it was taken, and where the camera took none the video's repetition is
left out. Raw device seconds never meet take seconds (facebookresearch/Ego4d#342).
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egotriad.converters.video import FrameChunk, probe, read_frames
from egotriad.converters.vrs import RGB, VrsRecording, open_vrs
from egotriad.manifests import ImuTrack
from egotriad.manifests.errors import RecordingError
from egotriad.manifests.files import canonical_json
from egotriad.pipelines.egoexo4d_timesync import TakeRows

__all__ = ["read_take_frames", "read_take_imu"]

RATE_TOLERANCE = 0.01
DIGITS = 9


def read_take_imu(vrs: Path | None, rows: TakeRows, label: str, *, absence: str = "") -> ImuTrack:
    """One IMU of the glasses, corrected and in device axes, on the recording's clock.

    Args:
        vrs: the take's recording, with or without image streams; None where it has none.
        rows: its clock.
        label: `imu-right` or `imu-left`.
        absence: why there is no file, where that is known already.

    Raises:
        RecordingError: as `open_vrs` and `TakeRows.read`; no such file or IMU; a rate 1 % off its
            configuration; samples that lie nowhere near the take.
    """
    if vrs is None or absence:
        raise RecordingError(absence)
    clock, opened = rows.read(), open_vrs(vrs)
    camera = opened.camera_calibration(RGB)
    # Frames are stamped late by a constant, which their distances do not show: the IMU does.
    opened.origin_ns = clock.origin_ns - (0 if camera is None else camera.late_ns)
    track = opened.imu(label)
    _check_span(vrs, track, clock.duration_us, opened.origin_ns)
    _check_rate(vrs, track, opened, label)
    notes = {
        "timesync": f"{len(clock.device_ns)} ticks, {clock.blank} without a frame, "
        f"{clock.repeated} with the one before",
        "aria_calibration": _calibration(opened, label),
        "aria_calibrated": str(opened.imu_calibration(label) is not None).lower(),
    }
    return replace(track, notes=track.notes | notes)


def read_take_frames(
    video: Path,
    rows: TakeRows,
    *,
    size_wh: tuple[int, int] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
) -> Iterator[FrameChunk]:
    """Frames of a frame-aligned video, each at the time at which the camera took it.

    Args:
        video: mp4 of the colour camera; its pictures stand upright.
        rows: the take's clock.
        size_wh: as `read_frames`.
        fit: likewise.

    Raises:
        RecordingError: as `read_frames` and `TakeRows.read`; a video of another length than the
            take, by more than one frame.
    """
    clock = rows.read()
    t_us = clock.frame_times_us
    declared = probe(video).frame_count
    if declared is not None:
        _check_count(video, declared, len(t_us))
    count = 0
    for chunk in read_frames(video, size_wh=size_wh, fit=fit):
        stop = min(count + len(chunk.t_us), len(t_us))
        kept = clock.captured[count:stop]
        if kept.any():
            yield FrameChunk(chunk.luma[: len(kept)][kept], t_us[count:stop][kept])
        count += len(chunk.t_us)
    _check_count(video, count, len(t_us))


def _check_count(video: Path, frames: int, ticks: int) -> None:
    if abs(frames - ticks) > 1:
        raise RecordingError(
            f"{video.name}: holds {frames} frames, timesync.csv has {ticks} rows for this take; "
            "they are not of one release, or the video is cut off: download both again"
        )


def _check_span(vrs: Path, track: ImuTrack, duration_us: int, origin_ns: int) -> None:
    first_us, last_us = int(track.accel.t_us[0]), int(track.accel.t_us[-1])
    if first_us < duration_us and last_us > 0:
        return
    start, end, take = ((origin_ns / 1000 + t_us) / 1e6 for t_us in (first_us, last_us, 0))
    raise RecordingError(
        f"{vrs.name}: its IMU runs from {start:.3f} to {end:.3f} s of device time, the take from "
        f"{take:.3f} to {take + duration_us / 1e6:.3f} s by timesync.csv; these are of different "
        "takes, or on different clocks"
    )


def _check_rate(vrs: Path, track: ImuTrack, opened: VrsRecording, label: str) -> None:
    nominal = opened.streams[label].nominal_rate_hz
    if nominal and abs(track.rate_hz / nominal - 1) > RATE_TOLERANCE:
        raise RecordingError(
            f"{vrs.name}: {label} runs at {track.rate_hz:.1f} Hz, its configuration says "
            f"{nominal:g} Hz; the file is damaged or its clock is not device time"
        )


def _calibration(opened: VrsRecording, label: str) -> str:
    """Factory calibration of the IMU and the colour camera as JSON, null where there is none."""
    found = {label: opened.imu_calibration(label), RGB: opened.camera_calibration(RGB)}
    return canonical_json(
        {name: None if item is None else _plain(asdict(item)) for name, item in found.items()}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.round(value, DIGITS).tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
