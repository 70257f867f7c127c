"""Ego-Exo4D: skilled people at work, filmed by their glasses (Project Aria) and from outside.

Homepage ego-exo4d-data.org, documents docs.ego-exo4d-data.org. Sign the licence (no redistribution)
at ego4d.dev/request/ego-exo4d; two days later AWS keys come by mail, good for 14 days. The way from
there to shards: docs/egoexo4d.md. Citation: Grauman et al., Ego-Exo4D, CVPR 2024.

    takes.json                                                one entry a take
    annotations/splits.json                                   take_uid_to_split
    annotations/atomic_descriptions_{train,val}.json          texts at points in time
    captures/<capture>/timesync.csv                           device time of every frame
    takes/<take>/<aria>_noimagestreams.vrs                    both IMUs, calibration
    takes/<take>/frame_aligned_videos/downscaled/448/<aria>_214-1.mp4    30 fps, upright

One description: {"text": "C moves his right hand.", "timestamp": 0.03831, "subject": "C",
"ego_visible": false, "unsure": false, ...}, seconds of the take.

Sensors: imu-right 1000 Hz, imu-left 800 Hz, m/s^2 with gravity and rad/s, corrected by the factory
calibration, in device axes (x down, y left, z forward); IMU and colour camera share one hardware
clock. Recording times are device time from the take's first frame on (`egoexo4d_timesync.py`).
Traps: files carry raw device seconds while texts begin at 0; the glasses may be `aria02`;
`is_narrated` does not say whether a take is described; annotation files name takes that do not
exist; the download program has traps of its own (`egoexo4d_cli.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

from egotriad.converters.narration_text import NarrationSet, in_order
from egotriad.manifests import Alignment, Narration, Recording, Unreadable
from egotriad.manifests.errors import RecordingError, located
from egotriad.manifests.files import sha256_file
from egotriad.pipelines.egoexo4d_check import check_takes
from egotriad.pipelines.egoexo4d_download import download_takes
from egotriad.pipelines.egoexo4d_files import TABLES, ReleaseFile, read_failures, take_files
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_release import RELEASE
from egotriad.pipelines.egoexo4d_streams import read_take_frames, read_take_imu
from egotriad.pipelines.egoexo4d_tables import Tables
from egotriad.pipelines.egoexo4d_takes import Take
from egotriad.pipelines.egoexo4d_timesync import TakeClock, TakeRows, read_device_times
from egotriad.pipelines.fake_egoexo4d import write_fake_egoexo4d
from egotriad.pipelines.preflight import Preflight

__all__ = ["DATASET", "EgoExo4D"]

NO_IMU = "no-imu: the release has none of this take; pass --no-imu to build clips without one"
NO_TEXT = NarrationSet(narrations=(), summaries=(), counts={})


class EgoExo4D:
    """Takes of Ego-Exo4D, seen from the glasses."""

    name: ClassVar[str] = "egoexo4d"
    licence_id: ClassVar[str] = "egoexo4d"
    build_defaults: ClassVar[Mapping[str, Any]] = {
        "windows": "point",
        "window_s": 5.0,
        # Full spans of all takes are terabytes; EventGPT takes less than 0.1 s.
        "event_spans": "0.1s x3 /0.05s @peak",
        "sensor": "346x260",
    }
    Options: ClassVar[type] = EgoExo4DOptions

    def download(self, raw: Path, options: EgoExo4DOptions) -> None:
        """Brings what the chosen takes need and does not lie there (see `download_takes`)."""
        download_takes(raw, options)

    def check(self, raw: Path, options: EgoExo4DOptions) -> Preflight:
        """What a build would find missing (see `check_takes`)."""
        return check_takes(raw, options)

    def recordings(self, raw: Path, options: EgoExo4DOptions) -> list[Recording | Unreadable]:
        """One entry per chosen take, in the order of takes.json.

        Raises:
            RecordingError: no takes.json, or tables that are not Ego-Exo4D's.
            UsageError: nothing is chosen, or a university or scenario that no take has.
        """
        tables = Tables(raw)
        reader = _Reader(raw, options, tables)
        return [
            take if isinstance(take, Unreadable) else reader.described(take)
            for take in tables.chosen(options)
        ]

    def fake(self, raw: Path) -> EgoExo4DOptions:
        """Writes three takes of ten seconds, by two wearers and in three splits."""
        write_fake_egoexo4d(raw)
        return EgoExo4DOptions()


DATASET = EgoExo4D()


class _Reader:
    """Describes takes; what all of them share is read once."""

    def __init__(self, raw: Path, options: EgoExo4DOptions, tables: Tables) -> None:
        self._raw, self._options, self._tables = raw, options, tables
        self._failures = read_failures(raw)
        self._device_times = lru_cache(maxsize=4)(read_device_times)
        self._hashes = {
            f"sha256_{Path(table.name).name}": sha256_file(raw / table.name)
            for table in TABLES
            if (raw / table.name).is_file()
        }

    def described(self, take: Take) -> Recording | Unreadable:
        """The take as a recording, or why it is none."""
        try:
            with located(take.name):
                return self._recording(take)
        except RecordingError as exc:
            return Unreadable(recording_id=take.uid, message=str(exc))

    def _recording(self, take: Take) -> Recording:
        files = take_files(self._raw, take, self._options)
        absent = {
            kind: self._absence(file)
            for kind, file in files.items()
            if not (self._raw / file.name).is_file()
        }
        # An IMU that is not there is an error only of builds that need one.
        fatal = [why for kind, why in absent.items() if kind != "imu"]
        if fatal:
            raise RecordingError("; ".join(fatal))
        paths = {kind: self._raw / file.name for kind, file in files.items()}
        rows = TakeRows(
            path=paths["timesync"],
            column=take.time_column,
            first=take.first_row,
            last=take.last_row,
        )
        clock = rows.read(self._device_times(rows.path, rows.column))
        text = self._tables.texts.get(take.uid, NO_TEXT)
        video = paths.get("video")
        read_imu = partial(
            read_take_imu,
            paths.get("imu"),
            rows,
            f"imu-{self._options.imu_side}",
            absence=absent.get("imu", "" if "imu" in paths else NO_IMU),
        )
        return Recording(
            source=EgoExo4D.name,
            source_version=RELEASE,
            recording_id=take.uid,
            wearer=take.participant,
            video_path=video,
            read_imu=read_imu,
            read_video=partial(read_take_frames, video, rows) if video else None,
            narrations=_on_clock(text, clock),
            duration_us=clock.duration_us,
            license_id=EgoExo4D.licence_id,
            imu_kind="head_acc_gyro",
            text_source="human" if text.narrations else "none",
            align=Alignment(status="hardware"),
            official_split=self._tables.splits.get(take.uid),
            # Takes of one session are of few people: without a name they stay together.
            split_group="" if take.participant else f"{EgoExo4D.name}/{take.capture_uid}",
            notes=self._hashes | _notes(take, text),
            files=tuple(path for kind, path in paths.items() if kind not in absent),
        )

    def _absence(self, file: ReleaseFile) -> str:
        """Why a file does not lie there, as far as it is known."""
        why = self._failures.get(file.name, f"bring it with: egoexo --parts {file.part}")
        return f"missing-file: {file.name}: {why}"


def _on_clock(text: NarrationSet, clock: TakeClock) -> tuple[Narration, ...]:
    """Narrations on the recording's clock; what lies before its first frame is at 0."""
    moved = (replace(n, t_us=max(0, clock.recording_us(n.t_us))) for n in text.narrations)
    return in_order(moved)


def _notes(take: Take, text: NarrationSet) -> dict[str, str]:
    """What is worth keeping of a take besides its streams."""
    counts = {f"descriptions_{name}": str(count) for name, count in text.counts.items()}
    return counts | {
        "take_name": take.name,
        "task": f"{take.scenario}: {take.task}",
        "timesync_validated": str(take.validated).lower(),
    }
