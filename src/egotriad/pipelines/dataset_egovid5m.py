"""EgoVid-5M: machine-made captions for clips of Ego4D videos, and the IMU per frame of some.

Wang et al., "EgoVid-5M: A Large-Scale Video-Action Dataset for Egocentric Video Generation",
arXiv:2411.08380; code github.com/JeffWang987/EgoVid, tables modelscope.cn/datasets/iic/EgoVid
(their licence is not stated in the code's repository; treated as Ego4D's). An overlay: media and
keys are Ego4D's (`dataset_ego4d`), and --raw is an Ego4D tree.

    video_id,frame_num,fps,...,llava_cap,name       egovid-5m.csv
    ...,gyro_x,...,accl_z                           egovid-kinematic.csv, egovid-val.csv (also)

A recording is a video; its texts are captions, each at the middle of its clip (text_source
`model`). Sensors: Ego4D's IMU, or with `--imu-source egovid` the table's own copy of it: one sample
a video frame, 30 Hz, inside clips alone (imu_kind `per_frame`). Traps: the copy has all faults of
the original and a seventh of its rate, so Ego4D's is the default; poses.zip covers 120 frames of
clips of about 160 and is not read; splits are Ego4D's, whatever egovid-val.csv holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from egotriad.manifests import Recording, Unreadable
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.pipelines.dataset_ego4d import DATASET as EGO4D
from egotriad.pipelines.ego4d_options import Ego4dOptions, check_choice
from egotriad.pipelines.egovid5m_csv import EgoVidTable, read_egovid, read_frame_imu
from egotriad.pipelines.fake_overlays import write_fake_egovid
from egotriad.pipelines.overlay_ego4d import download_below, told, videos_below

__all__ = ["DATASET", "EgoVid5M", "EgoVid5MOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoVid5MOptions(Ego4dOptions):
    """Options of the dataset `egovid5m`: those of `ego4d`, and the table.

    Attributes:
        table: egovid-5m.csv, egovid-kinematic.csv or egovid-val.csv.
        caption: `llava_cap` (detailed, by LLaVA-Video) or `name` (the action, summarised by Qwen).
        imu_source: `ego4d` (its own files, about 200 Hz) or `egovid` (the table's copy, one sample
            a frame).
    """

    table: Path | None = None
    caption: Literal["llava_cap", "name"] = "llava_cap"
    imu_source: Literal["ego4d", "egovid"] = "ego4d"

    def __post_init__(self) -> None:
        # Not super(): a slotted dataclass is another class than the one it was written as.
        Ego4dOptions.__post_init__(self)
        check_choice("--caption", self.caption, ("llava_cap", "name"))
        check_choice("--imu-source", self.imu_source, ("ego4d", "egovid"))


class EgoVid5M:
    """Captioned clips of Ego4D."""

    name: ClassVar[str] = "egovid5m"
    licence_id: ClassVar[str] = EGO4D.licence_id
    build_defaults: ClassVar[Mapping[str, Any]] = EGO4D.build_defaults
    Options: ClassVar[type] = EgoVid5MOptions

    def download(self, raw: Path, options: EgoVid5MOptions) -> None:
        """Brings Ego4D's files of the captioned videos that are chosen; the table is the user's."""
        if options.download and (options.uids or options.filters):
            download_below(raw, options, list(_table(options).places))

    def recordings(self, raw: Path, options: EgoVid5MOptions) -> Iterator[Recording | Unreadable]:
        """One entry per chosen video with captions, as Ego4D describes it.

        Raises:
            UsageError: no --table.
            RecordingError: a table of another make; Ego4D's files missing or malformed.
        """
        table, path = _table(options), _path(options)
        notes = {"overlay_sha256": sha256_file(path), "egovid_caption": options.caption}
        notes |= {f"egovid_rows_{name}": str(count) for name, count in table.counts.items()}
        for recording in videos_below(raw, options, list(table.places)):
            if isinstance(recording, Unreadable):
                yield recording
                continue
            uid = recording.recording_id
            captioned = told(
                recording,
                table.spans(uid),
                source=self.name,
                text_source="model",
                notes=notes,
            )
            if options.imu_source == "egovid":
                captioned = replace(
                    captioned,
                    read_imu=partial(read_frame_imu, path, table.places[uid]),
                    imu_kind="per_frame",
                )
            yield captioned

    def fake(self, raw: Path) -> EgoVid5MOptions:
        """Writes two Ego4D videos and a table with captions and IMU of clips of both."""
        base = EGO4D.fake(raw)
        return EgoVid5MOptions(download=base.download, table=write_fake_egovid(raw))


DATASET = EgoVid5M()


def _path(options: EgoVid5MOptions) -> Path:
    if options.table is None:
        raise UsageError(
            "--table: name one of EgoVid-5M's tables (egovid-5m.csv, egovid-kinematic.csv, "
            "egovid-val.csv), from modelscope.cn/datasets/iic/EgoVid"
        )
    return options.table


def _table(options: EgoVid5MOptions) -> EgoVidTable:
    table = read_egovid(_path(options), options.caption)
    if options.imu_source == "egovid" and not table.kinematic:
        raise RecordingError(
            f"{_path(options).name}: has no IMU columns (gyro_x ... accl_z), only "
            "egovid-kinematic.csv and egovid-val.csv do; drop --imu-source egovid"
        )
    return table
