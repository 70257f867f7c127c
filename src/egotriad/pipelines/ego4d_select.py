"""Which videos of Ego4D are asked for."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.ego4d_metadata import Ego4dMetadata, Ego4dVideo
from egotriad.pipelines.ego4d_options import Ego4dOptions, check_choice, read_uids
from egotriad.pipelines.ego4d_splits import Ego4dSplits

__all__ = ["Selection", "read_uids", "select"]

IMU2CLIP_LISTS = ("training_0.json", "validation_0.json", "test_0.json")
IMU2CLIP_UNUSABLE = "ec344610-74f4-4765-9c3f-0837ef78055d"
"""imu2clip leaves it out by name (lib/data_modules.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The outcome of a choice.

    Attributes:
        uids: chosen, in the order of the metadata.
        refused: uid that was asked for by name -> why it cannot be had.
    """

    uids: tuple[str, ...]
    refused: dict[str, str]


def select(
    metadata: Ego4dMetadata,
    splits: Ego4dSplits,
    options: Ego4dOptions,
    *,
    present: Collection[str],
    narrated: Callable[[Collection[str]], Collection[str]],
) -> Selection:
    """Chooses videos.

    Uids given by name come first; then every filter must hold. Without a name and a filter (and,
    without names, under --no-download) the videos that are there are meant.

    Args:
        metadata: of the release.
        splits: of the release.
        options: what is asked for.
        present: uids of which the raw folder holds files.
        narrated: tells which of these uids have narrations; called only when that matters.

    Raises:
        UsageError: nothing is chosen, or a filter's word is unknown.
        RecordingError: imu2clip's lists cannot be read.
    """
    named = options.uids
    everything = bool(options.filters and options.download)
    pool = set(named) if options.uids else set(metadata.videos if everything else present)
    if not pool:
        raise UsageError(
            f"nothing is chosen and the raw folder holds nothing of --video {options.video}: "
            "choose with --uids, --universities, --scenarios, --splits, --limit-hours, or --has "
            "imu,narration for all"
        )
    refused = {
        uid: f"unknown-uid: ego4d.json has no video {uid}; a typing error, or another release?"
        for uid in sorted(pool - metadata.videos.keys())
    }
    refused |= {uid: f"damaged-entry: {metadata.damaged[uid]}" for uid in metadata.damaged}
    kept = [video for uid, video in metadata.videos.items() if uid in pool and uid not in refused]
    kept = _filtered(kept, metadata, splits, options)
    for need in ("imu", "narration"):
        if need in options.has:
            imu = {video.uid for video in kept if video.has_imu}
            those = imu if need == "imu" else narrated({video.uid for video in kept})
            lacking = [video.uid for video in kept if video.uid not in those]
            kept = [video for video in kept if video.uid in those]
            if named:
                refused |= {uid: f"no-{need}: Ego4D has none of this video" for uid in lacking}
    chosen = {video.uid for video in _limited(kept, options.limit_hours)}
    return Selection(
        uids=tuple(video.uid for video in kept if video.uid in chosen),
        refused={uid: why for uid, why in refused.items() if uid in pool},
    )


def _filtered(
    videos: list[Ego4dVideo], metadata: Ego4dMetadata, splits: Ego4dSplits, options: Ego4dOptions
) -> list[Ego4dVideo]:
    if options.universities:
        known = sorted({video.source for video in metadata.videos.values()})
        wanted = _words("--universities", options.universities, known)
        videos = [video for video in videos if video.source in wanted]
    if options.scenarios:
        known = sorted({name for video in metadata.videos.values() for name in video.scenarios})
        wanted = _words("--scenarios", options.scenarios, known)
        videos = [video for video in videos if wanted.intersection(video.scenarios)]
    if options.splits:
        videos = [video for video in videos if splits.official[video.uid] in options.splits]
    if options.imu2clip is not None:
        listed = read_imu2clip_uids(options.imu2clip)
        videos = [video for video in videos if video.uid in listed]
    return videos


def _words(flag: str, asked: tuple[str, ...], known: list[str]) -> set[str]:
    """The metadata's own spelling of what was asked for in any case."""
    spelling = {name.lower(): name for name in known}
    for word in asked:
        check_choice(flag, word.lower(), list(spelling))
    return {spelling[word.lower()] for word in asked}


def read_imu2clip_uids(folder: Path) -> frozenset[str]:
    """The 2,293 videos of imu2clip (its ten folds hold the same ones), less its unusable one.

    Raises:
        RecordingError: the folder lacks the lists.
    """
    missing = [name for name in IMU2CLIP_LISTS if not (folder / name).is_file()]
    if missing:
        raise RecordingError(
            f"{folder}: lacks {', '.join(missing)}; give the folder 'splits' of a checkout of "
            "github.com/facebookresearch/imu2clip"
        )
    uids = read_uids([str(folder / name) for name in IMU2CLIP_LISTS])
    return frozenset(uids) - {IMU2CLIP_UNUSABLE}


def _limited(videos: list[Ego4dVideo], hours: float | None) -> list[Ego4dVideo]:
    """The first videos in a fixed, arbitrary order, until the hours are full.

    Raises:
        UsageError: not one fits.
    """
    if hours is None:
        return videos
    left_us = hours * 3.6e9
    chosen = []
    for video in sorted(videos, key=lambda v: hashlib.blake2b(v.uid.encode()).digest()):
        left_us -= video.duration_us
        if left_us < 0:
            break
        chosen.append(video)
    if videos and not chosen:
        raise UsageError(f"--limit-hours: got {hours:g}, the first video alone is longer")
    return chosen
