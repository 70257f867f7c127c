"""What a user may ask of Ego4D."""

import difflib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.provenance import PRIVATE

__all__ = ["Ego4dOptions", "check_choice", "check_download", "read_uids"]

HAS = ("imu", "narration")
VideoSet = Literal["video_540ss", "full_scale", "none"]
Release = Literal["v2_1", "v2", "v1"]
SplitBy = Literal["official", "wearer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ego4dOptions:
    """Options of the dataset `ego4d`.

    Without any selection, what lies in the raw folder is built and nothing is downloaded.

    Attributes:
        uids: video uids, or files that list them (text, or a JSON list), with commas between.
        universities: only videos of these institutions (`video_source` in ego4d.json), with commas.
        scenarios: only videos of this scenario; once for each.
        has: `imu`, `narration` or `imu,narration`: only videos of which Ego4D has these.
        splits: only videos of these official splits (train, validation, test), with commas.
        limit_hours: at most so many hours, always the same ones first.
        imu2clip: the folder `splits` of a checkout of facebookresearch/imu2clip: only its videos.
        release: v2_1, v2 or v1; one raw folder holds one release.
        video: which videos: video_540ss (short side 540), full_scale, or none (IMU and text).
        split_by: `official` keeps the wearers that Ego4D's benchmarks hold out, held out; `wearer`
            ignores the benchmarks and draws splits by wearer.
        download: whether to fetch what is missing; --no-download never uses the network.
        profile: of the AWS credentials file that holds your Ego4D keys.
        yes: you have signed Ego4D's licence, and the download may start.
        keys_wait_min: when the keys expire during a download, wait so many minutes for new ones in
            the credentials file before going on without the rest.
    """

    uids: tuple[str, ...] = ()
    universities: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    limit_hours: float | None = None
    imu2clip: Path | None = None
    release: Release = "v2_1"
    video: VideoSet = "video_540ss"
    split_by: SplitBy = "official"
    download: bool = True
    profile: str = field(default="default", metadata={PRIVATE: True})
    yes: bool = field(default=False, metadata={PRIVATE: True})
    keys_wait_min: float = field(default=0.0, metadata={PRIVATE: True})

    def __post_init__(self) -> None:
        for name in ("uids", "universities", "has", "splits"):
            words = ",".join(getattr(self, name)).split(",")
            object.__setattr__(self, name, tuple(word.strip() for word in words if word.strip()))
        # A list may be gone, or lie elsewhere, when a build is repeated: its uids are kept.
        object.__setattr__(self, "uids", tuple(read_uids(self.uids)))
        for flag, values, allowed in (
            ("--has", self.has, HAS),
            ("--splits", self.splits, SPLITS),
            ("--release", (self.release,), get_args(Release)),
            ("--video", (self.video,), get_args(VideoSet)),
            ("--split-by", (self.split_by,), get_args(SplitBy)),
        ):
            for value in values:
                check_choice(flag, value, allowed)
        check_download(self.limit_hours, self.keys_wait_min, self.profile)

    @property
    def filters(self) -> bool:
        """Whether something chooses among the videos of the release."""
        chosen = (self.universities, self.scenarios, self.has, self.splits)
        return any(chosen) or self.limit_hours is not None or self.imu2clip is not None

    @property
    def folder(self) -> str:
        """Folder of the release below the raw folder: as the `ego4d` program, its major version."""
        return self.release.partition("_")[0]


def check_download(limit_hours: float | None, keys_wait_min: float, profile: str) -> None:
    """What the options of every dataset that is downloaded with keys must fulfil.

    Raises:
        UsageError: naming the flag.
    """
    if limit_hours is not None and not 0 < limit_hours < math.inf:
        raise UsageError(f"--limit-hours: got {limit_hours}, need above 0")
    if not 0 <= keys_wait_min < math.inf:
        raise UsageError(f"--keys-wait-min: got {keys_wait_min}, need 0 or more")
    if not profile:
        raise UsageError("--profile: is empty; name a profile of your AWS credentials file")


def check_choice(flag: str, value: str, allowed: tuple[str, ...] | list[str]) -> None:
    """Refuses a value that is none of the allowed ones, and names the nearest.

    Raises:
        UsageError: with the nearest, or all, allowed values.
    """
    if value not in allowed:
        near = difflib.get_close_matches(value, allowed, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"need one of {', '.join(allowed)}"
        raise UsageError(f"{flag}: got {value!r}; {hint}")


def read_uids(words: Collection[str]) -> list[str]:
    """Uids out of words: each one is a uid, or a file of them (text, or a JSON list).

    Lower case, each once, in order.

    Raises:
        RecordingError: a file that cannot be read, or holds something else.
    """
    found: list[str] = []
    for word in words:
        path = Path(word).expanduser()
        found += _listed(path) if path.is_file() else [word]
    return list(dict.fromkeys(uid.strip().lower() for uid in found if uid.strip()))


def _listed(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
        items: Any = json.loads(text) if path.suffix.lower() == ".json" else text.split()
    except ValueError as exc:
        raise RecordingError(f"{path.name}: is no list of uids ({exc})") from exc
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise RecordingError(f"{path.name}: need a JSON list of uids")
    return items
