"""One video of Ego4D as a `Recording`: what lies in the tree held against the metadata."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from egotriad.converters.narration_text import NarrationSet
from egotriad.converters.video import FrameChunk, probe
from egotriad.manifests import Alignment, ImuTrack, Recording, Unreadable
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.ego4d_imu import read_component_imu
from egotriad.pipelines.ego4d_metadata import Ego4dVideo
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_splits import Ego4dSplits
from egotriad.pipelines.ego4d_status import VideoStatus
from egotriad.pipelines.ego4d_tree import Ego4dTree

__all__ = ["describe", "unreadable"]

SOURCE, LICENCE = "ego4d", "ego4d"
LENGTHS_DIFFER_US = 1_000_000
REDACTED_MARGIN_US = 100_000
"""Blanks end in a burst of events, some frames early or late."""


def describe(
    video: Ego4dVideo,
    told: NarrationSet | None,
    status: VideoStatus | None,
    *,
    tree: Ego4dTree,
    splits: Ego4dSplits,
    options: Ego4dOptions,
    origin: Mapping[str, str],
) -> Recording | Unreadable:
    """Describes a video, nothing decoded; `Unreadable` where its pictures could not be had.

    What was never asked for (a plan may come before the download) is described by the metadata
    alone, and is an error of builds that need it; so is an IMU that is not there.

    Args:
        video: by the metadata.
        told: its narrations, None where the narration file does not know it.
        status: what became of its download, None where nothing is known.
        tree: where its files lie.
        splits: of the release.
        options: what was asked for.
        origin: hashes of the files that speak of all videos, for provenance.
    """
    try:
        duration_us = _duration_us(video, status, tree)
    except RecordingError as exc:
        return unreadable(video.uid, str(exc))
    pictures = None if options.video == "none" else tree.video(video.uid)
    absent = pictures is not None and not pictures.is_file()
    imu, narrations = tree.imu(video.uid), told.narrations if told else ()
    return Recording(
        source=SOURCE,
        source_version=options.release,
        recording_id=video.uid,
        wearer=None if video.participant is None else str(video.participant),
        video_path=pictures,
        read_imu=_reader(video, status, tree, duration_us),
        read_video=partial(_no_pictures, _absence(None, _name(tree, video))) if absent else None,
        narrations=narrations,
        duration_us=duration_us,
        license_id=LICENCE,
        imu_kind="head_acc_gyro",
        text_source="human" if narrations else "none",
        align=Alignment(status="assumed"),
        official_split=splits.official[video.uid] if options.split_by == "official" else None,
        split_group=splits.groups[video.uid],
        redacted_us=tuple(
            (start - REDACTED_MARGIN_US, end + REDACTED_MARGIN_US)
            for start, end in video.redacted_us
        ),
        notes=_notes(video, told) | dict(origin),
        files=tuple(file for file in (pictures, imu) if file is not None and file.is_file()),
    )


def unreadable(uid: str, message: str) -> Unreadable:
    """A video that cannot be had, under a name that may be a file's."""
    return Unreadable(recording_id=re.sub(r"[^A-Za-z0-9_-]+", "-", uid) or "-", message=message)


def _duration_us(video: Ego4dVideo, status: VideoStatus | None, tree: Ego4dTree) -> int:
    """Length of the canonical video, checked against its file where pictures are wanted.

    Raises:
        RecordingError: no file, a broken one, or one of another length.
    """
    if tree.video_set == "none":
        if not video.duration_us:
            raise RecordingError("no-duration: ego4d.json gives no length; take --video with it")
        return video.duration_us
    path = tree.video(video.uid)
    if not path.is_file():
        if status is None and video.duration_us:
            return video.duration_us
        raise RecordingError(_absence(status, _name(tree, video)))
    try:
        info = probe(path)
    except RecordingError as exc:
        raise RecordingError(f"broken-video: {exc}") from exc
    claimed_us = video.duration_us or info.duration_us
    if abs(info.duration_us - claimed_us) > LENGTHS_DIFFER_US:
        raise RecordingError(
            f"broken-video: {path.name} lasts {info.duration_us / 1e6:.3f} s, ego4d.json says "
            f"{claimed_us / 1e6:.3f} s; delete the file and run again to fetch it anew"
        )
    return claimed_us


def _name(tree: Ego4dTree, video: Ego4dVideo) -> str:
    return tree.name(tree.video_set, tree.video(video.uid).name)


def _no_pictures(message: str, **_: Any) -> Iterator[FrameChunk]:
    """Stands for the reader of a video that is not there."""
    raise RecordingError(message)


def _absence(status: VideoStatus | None, name: str) -> str:
    """Why a file is not there, as far as is known."""
    if status is not None and status.reason:
        return f"{status.reason}: {status.message}"
    return f"not-downloaded: {name} is not in the raw folder; drop --no-download to fetch it"


def _reader(
    video: Ego4dVideo, status: VideoStatus | None, tree: Ego4dTree, duration_us: int
) -> "partial[ImuTrack]":
    path = tree.imu(video.uid)
    absence = ""
    if not path.is_file():
        absence = (
            _absence(status, tree.name("imu", path.name))
            if video.has_imu
            else "no-imu: Ego4D has none of this video; pass --no-imu to build clips without one"
        )
    return partial(
        read_component_imu,
        path,
        duration_us=duration_us,
        components=video.components,
        absence=absence,
    )


def _notes(video: Ego4dVideo, told: NarrationSet | None) -> dict[str, str]:
    notes = {
        "ego4d_device": video.device or "unknown",
        "ego4d_university": video.source or "unknown",
        "ego4d_scenarios": "; ".join(video.scenarios),
        "ego4d_splits": ", ".join(f"{name} {split}" for name, split in video.splits.items()),
    }
    if not video.duration_us:
        notes["no-duration"] = "ego4d.json gives no length; the video file's is used"
    if told is None or not told.narrations:
        notes["no-narration"] = "no narration of this video is there"
    elif told.counts:
        notes["narrations_read"] = ", ".join(f"{n} {name}" for name, n in told.counts.items())
    if video.redacted_us:
        spans = (f"{start / 1e6:.3f}-{end / 1e6:.3f} s" for start, end in video.redacted_us)
        notes["redacted"] = ", ".join(spans)
    return notes
