"""MMG-Ego4D: action classes for stretches of Ego4D videos with picture, sound and IMU.

Gong et al., "MMG-Ego4D: Multi-Modal Generalization in Egocentric Action Recognition", CVPR 2023,
arXiv:2305.07214. An overlay: media, licence and keys are Ego4D's (`dataset_ego4d`), and --raw is
an Ego4D tree. Its own files are said to be at github.com/facebookresearch/MMG_Ego4D; their names
and columns are documented nowhere, so both are the user's to give (`overlay_labels.py`):

    video_uid,start_sec,end_sec,label,split
    0a1b…,12.4,15.9,wash hands,train

Sensors, clock, splits: Ego4D's. A recording is a video, its texts are the labels, each at the
middle of its stretch (text_source `label`). Traps: a label is no narration (Ego4D's own narrations
come with `build-shards ego4d` of the same videos); one video may hold stretches of several of MMG's
splits: its split here is Ego4D's, MMG's is in the notes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from egotriad.manifests import Recording, Unreadable
from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import sha256_file
from egotriad.pipelines.dataset_ego4d import DATASET as EGO4D
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.fake_overlays import write_fake_labels
from egotriad.pipelines.overlay_ego4d import download_below, told, videos_below
from egotriad.pipelines.overlay_labels import LabelColumns, LabelTable, read_labels

__all__ = ["DATASET", "MmgEgo4d", "MmgEgo4dOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MmgEgo4dOptions(Ego4dOptions):
    """Options of the dataset `mmg_ego4d`: those of `ego4d`, and the labels.

    Attributes:
        labels: table of labelled stretches (.csv, .tsv, .json, .jsonl).
        columns: what its columns mean; start_frame= and end_frame= for frames instead of seconds.
    """

    labels: Path | None = None
    columns: str = "uid=video_uid start_s=start_sec end_s=end_sec label=label split=split"


class MmgEgo4d:
    """Labelled stretches of Ego4D."""

    name: ClassVar[str] = "mmg_ego4d"
    licence_id: ClassVar[str] = EGO4D.licence_id
    build_defaults: ClassVar[Mapping[str, Any]] = EGO4D.build_defaults
    Options: ClassVar[type] = MmgEgo4dOptions

    def download(self, raw: Path, options: MmgEgo4dOptions) -> None:
        """Brings Ego4D's files of the labelled videos that are chosen."""
        if options.download and (options.uids or options.filters):
            download_below(raw, options, list(_table(options).spans))

    def recordings(self, raw: Path, options: MmgEgo4dOptions) -> Iterator[Recording | Unreadable]:
        """One entry per chosen video with labels, as Ego4D describes it.

        Raises:
            UsageError: no --labels, or --columns that cannot be.
            RecordingError: a table of another make; Ego4D's files missing or malformed.
        """
        table = _table(options)
        notes = {"overlay_sha256": sha256_file(_labels(options))}
        for recording in videos_below(raw, options, list(table.spans)):
            if isinstance(recording, Unreadable):
                yield recording
                continue
            uid = recording.recording_id
            yield told(
                recording,
                table.spans[uid],
                source=self.name,
                text_source="label",
                notes=notes | {"mmg_splits": table.splits.get(uid, "not given")},
            )

    def fake(self, raw: Path) -> MmgEgo4dOptions:
        """Writes two Ego4D videos and labels for stretches of both."""
        base = EGO4D.fake(raw)
        return MmgEgo4dOptions(download=base.download, labels=write_fake_labels(raw))


DATASET = MmgEgo4d()


def _labels(options: MmgEgo4dOptions) -> Path:
    if options.labels is None:
        raise UsageError(
            "--labels: name the table of labelled stretches; MMG-Ego4D's own files come from "
            "github.com/facebookresearch/MMG_Ego4D"
        )
    return options.labels


def _table(options: MmgEgo4dOptions) -> LabelTable:
    return read_labels(_labels(options), LabelColumns.parse(options.columns))
