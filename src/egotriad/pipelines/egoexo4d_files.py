"""Which files a take of Ego-Exo4D is built from, which lie there, and what is wrong with the rest.

Besides Ego-Exo4D's own files the tree holds `downloads.jsonl` (`download_ledger`) and, after a
download that could not bring everything, `downloads_failed.json`: name of a file -> why.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from egotriad.manifests.errors import DownloadError
from egotriad.manifests.files import canonical_json, write_text
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_takes import SPLITS_JSON, TAKES_JSON, Take

__all__ = [
    "DESCRIPTIONS",
    "TABLES",
    "ReleaseFile",
    "lies_there",
    "read_failures",
    "take_files",
    "write_failures",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """A file of the release: its name below the root, and its part (a word of `egoexo --parts`)."""

    name: str
    part: str


DESCRIPTIONS = tuple(f"annotations/atomic_descriptions_{split}.json" for split in ("train", "val"))
TABLES = (
    ReleaseFile(name=TAKES_JSON, part="metadata"),
    *(ReleaseFile(name=name, part="annotations") for name in (SPLITS_JSON, *DESCRIPTIONS)),
)
"""What the takes are read from."""

FAILURES = "downloads_failed.json"


def take_files(raw: Path, take: Take, options: EgoExo4DOptions) -> dict[str, ReleaseFile]:
    """The files that a take is built from, by what they are: timesync, imu, video.

    Both VRS files of a take hold its IMUs. The one without image streams is meant, unless only the
    other one was released, or lies there.
    """
    files = {"timesync": ReleaseFile(name=take.timesync, part="captures")}
    small, large = take.vrs, take.full_vrs
    if large and (not small or (not (raw / small).is_file() and (raw / large).is_file())):
        files["imu"] = ReleaseFile(name=large, part="take_vrs")
    elif small:
        files["imu"] = ReleaseFile(name=small, part="take_vrs_noimagestream")
    if options.video == "448":
        files["video"] = ReleaseFile(name=take.small_video, part="downscaled_takes/448")
    elif options.video == "full":
        files["video"] = ReleaseFile(name=take.video, part="takes")
    return files


def lies_there(raw: Path, take: Take, options: EgoExo4DOptions) -> bool:
    """Whether a file of the take itself (not only of its capture) is in the tree."""
    files = take_files(raw, take, options)
    return any((raw / file.name).is_file() for kind, file in files.items() if kind != "timesync")


def read_failures(raw: Path) -> dict[str, str]:
    """Why files could not be brought the last time.

    Raises:
        DownloadError: the record is damaged.
    """
    path = raw / FAILURES
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return {str(name): str(why) for name, why in found.items()}
    except (ValueError, AttributeError) as exc:
        raise DownloadError(f"{FAILURES}: is damaged ({exc}); delete it and run again") from exc


def write_failures(raw: Path, failures: Mapping[str, str]) -> None:
    """Remembers why files could not be brought; nothing where there is nothing to remember."""
    path = raw / FAILURES
    if failures:
        write_text(path, canonical_json(dict(failures)) + "\n")
    else:
        path.unlink(missing_ok=True)
