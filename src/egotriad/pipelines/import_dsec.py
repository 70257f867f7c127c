"""Recordings of an event camera, in folders of DSEC's layout, into shards.

```
FOLDER/**/events.h5           events; DSEC's own .../<sequence>/events/left/events.h5 too
          imu.csv             t_us, acc_x acc_y acc_z (m/s^2, with gravity), gyro_x.. (rad/s)
          narrations.csv      time_s, text; or narrations.srt, narrations.vtt
          recording.json      whose it is; written by `egotriad export --format dsec`
```
IMU and narrations are optional, lie beside the events or in the sequence's folder, and count time
from where the events do. Of a stereo pair the left camera is taken. Windows are laid, and IMU and
narrations treated, as in any build; events are those of the file, never computed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from egotriad.converters.event_files import open_events, write_events
from egotriad.converters.event_files_fields import Size
from egotriad.converters.imu_files import read_imu
from egotriad.converters.imu_spec import ImuFileSpec
from egotriad.converters.narration import read_user_narrations
from egotriad.manifests import (
    Alignment,
    Events,
    ImuTrack,
    Recording,
    SensorStream,
    Span,
    Unreadable,
)
from egotriad.manifests.clip import IMU_ROWS
from egotriad.manifests.errors import ClipRejected, EgotriadError, RecordingError
from egotriad.pipelines.export_dsec import EVENTS, IMU, RECORDING
from egotriad.pipelines.recorded import RecordedConfig

__all__ = ["DsecFolders", "DsecOptions", "dsec_config"]

NARRATIONS = ("narrations.csv", "narrations.srt", "narrations.vtt")
IMU_SPEC = ImuFileSpec(
    accel=IMU_ROWS[:3],
    gyro=IMU_ROWS[3:],
    accel_unit="m/s^2",
    gyro_unit="rad/s",
    time="t_us",
    time_unit="us",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DsecOptions:
    """What is known of the recordings; where a recording.json says it, that holds.

    Attributes:
        licence: of the recordings; unknown ones are treated as closed.
        wearer: who wore the camera; recordings of one wearer stay in one split.
        imu_kind: where the IMU sat: head_acc_gyro, body_acc_gyro, ...
        size_wh: width and height of the sensor where the files do not say it.
    """

    licence: str = "unknown"
    wearer: str | None = None
    imu_kind: str = "head_acc_gyro"
    size_wh: Size | None = None


class DsecFolders:
    """Folders of DSEC's layout as a dataset."""

    name: ClassVar[str] = "dsec"
    licence_id: ClassVar[str] = "unknown"
    build_defaults: ClassVar[Mapping[str, Any]] = {"sensor": "native"}
    Options: ClassVar[type] = DsecOptions

    def download(self, raw: Path, options: DsecOptions) -> None:
        """Nothing to bring: the files are the user's."""

    def recordings(self, raw: Path, options: DsecOptions) -> Iterator[Recording | Unreadable]:
        """One entry for each events.h5, in order of the paths.

        Raises:
            RecordingError: there is none.
        """
        found = _event_files(raw)
        if not found:
            raise RecordingError(
                f"{raw}: no {EVENTS} in it or below; name the folder that holds the recordings"
            )
        for path in found:
            try:
                yield _recording(path, _recording_id(path, raw), options)
            except EgotriadError as exc:
                yield Unreadable(recording_id=_recording_id(path, raw), message=str(exc))

    def fake(self, raw: Path) -> DsecOptions:
        """Writes two seconds of a dot that moves, seen by a still sensor."""
        count = 2000
        number = np.arange(count)
        events = Events(
            t_us=number * 1000,
            x=(number % 32).astype(np.uint16),
            y=np.full(count, 7, np.uint16),
            p=number % 2 == 0,
            size_wh=(32, 24),
        )
        raw.mkdir(parents=True, exist_ok=True)
        write_events(raw / EVENTS, events)
        rows = [f"{k * 5000},0,0,9.81,0,0,0" for k in range(400)]
        (raw / IMU).write_text("\n".join([f"t_us,{','.join(IMU_ROWS)}", *rows]) + "\n")
        (raw / NARRATIONS[0]).write_text("time_s,text\n1.0,C watches a dot\n")
        return DsecOptions(licence="own")


def dsec_config(raw: Path, **options: Any) -> RecordedConfig:
    """The configuration for the recordings of a folder: with an IMU where one of them has one."""
    found = _event_files(raw)
    made_by = {_noted(path).get("sim_id") for path in found}
    return RecordedConfig(
        sensor="native",
        imu=any(_beside(path, (IMU,)) for path in found),
        simulators=tuple(sorted(name for name in made_by if name)),
        **options,
    )


def _event_files(raw: Path) -> list[Path]:
    """Every events.h5, without the right camera of a pair."""

    def is_right_of_a_pair(path: Path) -> bool:
        left = path.parents[1] / "left" / EVENTS
        return path.parts[-3:-1] == ("events", "right") and left.is_file()

    return sorted(path for path in raw.rglob(EVENTS) if not is_right_of_a_pair(path))


def _recording_id(path: Path, raw: Path) -> str:
    """From recording.json, else the folders from `raw` on, without DSEC's `events/left`."""
    parts = _home(path).relative_to(raw).parts or (raw.resolve().name,)
    name = str(_noted(path).get("id") or "-".join(parts))
    return re.sub(r"[^\w.-]+", "-", name).lstrip(".") or "recording"


def _home(path: Path) -> Path:
    """The recording's folder: that of the events, or of the sequence in DSEC's own tree."""
    return path.parents[2] if path.parent.parent.name == "events" else path.parent


def _beside(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first of some files that lies beside the events, or in the sequence's folder."""
    folders = (path.parent, _home(path))
    candidates = (folder / name for folder in folders for name in names)
    return next((file for file in candidates if file.is_file()), None)


def _described(path: Path) -> dict[str, Any]:
    """What recording.json says, nothing where there is none."""
    file = path.parent / RECORDING
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__} instead of an object")
    except ValueError as exc:
        raise RecordingError(f"{file}: is no description of a recording ({exc})") from exc
    return values


def _noted(path: Path) -> dict[str, Any]:
    """As `_described`; a damaged file, which is reported with its recording, says nothing."""
    try:
        return _described(path)
    except RecordingError:
        return {}


def _recording(path: Path, name: str, options: DsecOptions) -> Recording:
    reader = open_events(path, size_wh=options.size_wh, format="dsec")
    said = _described(path)
    imu, texts = _beside(path, (IMU,)), _beside(path, NARRATIONS)
    files = (path, imu, texts, _beside(path, (RECORDING,)))
    return Recording(
        source=said.get("source", DsecFolders.name),
        source_version=said.get("source_version", "1"),
        recording_id=name,
        wearer=said.get("wearer", options.wearer),
        video_path=None,
        read_imu=None if imu is None else partial(_read_imu, imu),
        read_events=partial(_read_events, path, reader.size_wh, _known(said)),
        narrations=read_user_narrations(texts) if texts else (),
        duration_us=said.get("duration_us") or _duration_us(path),
        license_id=said.get("license_id", options.licence),
        imu_kind=said.get("imu_kind", options.imu_kind),
        text_source=said.get("text_source", "human" if texts else "none"),
        align=Alignment(status="provided"),
        official_split=said.get("split"),
        split_group=said.get("split_group", ""),
        notes={
            "events": f"from {path.name}, made by {said.get('sim_id') or 'a camera or unknown'}"
        },
        files=tuple(file for file in files if file is not None),
    )


def _known(said: Mapping[str, Any]) -> tuple[Span, ...] | None:
    """Where events are known, None for everywhere."""
    if "event_spans" not in said:
        return None
    try:
        return tuple(Span(int(start), int(length)) for start, length in said["event_spans"])
    except (TypeError, ValueError) as exc:
        raise RecordingError(
            f"{RECORDING}: event_spans are no pairs of start and duration in us ({exc})"
        ) from exc


def _duration_us(path: Path) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        times = file["events/t"]
        if not len(times):
            raise RecordingError(f"{path.name}: holds no events, so its length is not known")
        return int(times[-1]) + 1


def _read_events(
    path: Path, size_wh: Size, known: tuple[Span, ...] | None, start_us: int, end_us: int
) -> Events:
    if known is not None and not any(s.start_us <= start_us and end_us <= s.end_us for s in known):
        raise ClipRejected(
            "events-unknown",
            f"the file has no events between {start_us / 1e6:.3f} and {end_us / 1e6:.3f} s, or of "
            f"a part of it only (event_spans in {RECORDING}); take windows or spans inside them",
        )
    reader = open_events(path, size_wh=size_wh, format="dsec")
    return reader.read(start_us=start_us, end_us=end_us)


def _read_imu(path: Path) -> ImuTrack:
    """The table, on the clock of the events: reading counts from the first sample."""
    track = read_imu(path, IMU_SPEC)
    origin_us = int(track.notes["imu_origin_us"])
    accel, gyro = (
        SensorStream(stream.t_us + origin_us, stream.values) for stream in (track.accel, track.gyro)
    )
    return replace(track, accel=accel, gyro=gyro)
