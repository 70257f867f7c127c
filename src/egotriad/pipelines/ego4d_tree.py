"""Where Ego4D's files lie below the raw folder: as the `ego4d` program and its users lay them.

```
ego4d.json                                  metadata of the release (also found in v2/)
v2/annotations/narration.json               or narrations.json, all_narrations_redacted.json
v2/imu/<uid>.csv
v2/video_540ss/<uid>.mp4   v2/full_scale/<uid>.mp4
downloads.jsonl   ego4d_status.jsonl        what was fetched, and what became of each video
```
"""

from dataclasses import dataclass
from pathlib import Path

from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.ego4d_options import Ego4dOptions

__all__ = ["NARRATION_FILES", "Ego4dTree"]

NARRATION_FILES = ("narration.json", "narrations.json", "all_narrations_redacted.json")
"""The first that is there is read; the last lacks 689 of the first one's videos."""


@dataclass(frozen=True, slots=True)
class Ego4dTree:
    """The files of one release.

    Attributes:
        raw: root of the tree.
        folder: of the release below it.
        video_set: which videos.
    """

    raw: Path
    folder: str
    video_set: str

    @classmethod
    def of(cls, raw: Path, options: Ego4dOptions) -> "Ego4dTree":
        """The tree that options speak of."""
        return cls(raw, options.folder, options.video)

    def name(self, dataset: str, file: str) -> str:
        """A file's name below the root, as ledgers and messages write it."""
        return f"{self.folder}/{dataset}/{file}"

    def imu(self, uid: str) -> Path:
        """The IMU of a video."""
        return self.raw / self.name("imu", f"{uid}.csv")

    def video(self, uid: str) -> Path:
        """The pictures of a video."""
        return self.raw / self.name(self.video_set, f"{uid}.mp4")

    def metadata(self) -> Path:
        """The file `ego4d.json`, there or not."""
        inside = self.raw / self.folder / "ego4d.json"
        return inside if inside.is_file() else self.raw / "ego4d.json"

    def narrations(self) -> Path | None:
        """The narration file, None where there is none."""
        folder = self.raw / self.folder / "annotations"
        return next((folder / n for n in NARRATION_FILES if (folder / n).is_file()), None)

    def sources(self) -> list[Path]:
        """The files that speak of all videos, as far as they are there."""
        return [path for path in (self.metadata(), self.narrations()) if path and path.is_file()]

    def need_metadata(self) -> Path:
        """The file `ego4d.json`.

        Raises:
            RecordingError: it is not there; the message says how it gets there.
        """
        path = self.metadata()
        if not path.is_file():
            raise RecordingError(
                "ego4d.json is not in the raw folder: choose what to download (--uids, --has "
                "imu,narration, ...; without --no-download), or lay there what you have"
            )
        return path

    def present(self) -> frozenset[str]:
        """Uids of the videos that lie there; without pictures wanted, of the IMU files."""
        name, suffix = ("imu", ".csv") if self.video_set == "none" else (self.video_set, ".mp4")
        files = (self.raw / self.folder / name).glob(f"*{suffix}")
        return frozenset(file.stem for file in files if file.name != "manifest.csv")
