"""Chapters: the files a GoPro cuts one long recording into, put together again.

    GX010012.MP4 GX020012.MP4 ...   Hero6 and later (GH: AVC, GX: HEVC), Max (GS)
    GOPR0012.MP4 GP010012.MP4 ...   Hero5 and earlier

The rule: chapter k begins where the video of chapter k - 1 ends, by the container's duration. Where
the camera's own clock (STMP) runs on through the chapters it must agree; a recording of which a
chapter is missing, or two recordings taken for one, is refused. Payloads and frames of all chapters
then lie on the clock of the first chapter's first frame.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from egotriad.converters.gpmf_blocks import BlockTime
from egotriad.converters.gpmf_payloads import Payload, iterate_payloads
from egotriad.converters.video import FrameChunk, probe, read_frames
from egotriad.manifests.errors import RecordingError

__all__ = [
    "chapter_payloads",
    "chapter_starts_us",
    "check_chapter_clocks",
    "check_chapter_names",
    "group_chapters",
    "read_chapter_frames",
]

_CHAPTER = re.compile(r"(G[HXSL])(\d{2})(\d{4})")
_OLD_FIRST = re.compile(r"GOPR(\d{4})")
_OLD_LATER = re.compile(r"GP(\d{2})(\d{4})")


def group_chapters(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Puts the chapters of one recording together, in order; other files stay alone.

    Files belong together when they lie in one folder and their names follow the camera's scheme.
    Groups come in the order of their first file.
    """
    groups: dict[tuple[object, ...], dict[int, Path]] = {}
    for position, path in enumerate(paths):
        recording, number = _place(path)
        key: tuple[object, ...] = (path.parent, recording)
        if recording is None or number in groups.get(key, {}):
            key = (position,)
        groups.setdefault(key, {})[number] = path
    return [tuple(path for _, path in sorted(group.items())) for group in groups.values()]


def check_chapter_names(paths: Sequence[Path]) -> None:
    """Refuses a group with a hole.

    Raises:
        RecordingError: a chapter between two others is missing.
    """
    for before, after in pairwise(paths):
        if _place(after)[1] != _place(before)[1] + 1:
            raise RecordingError(
                f"{after.name}: does not follow {before.name}, a chapter between them is missing; "
                f"copy it from the camera, or put the files into different folders"
            )


def chapter_starts_us(paths: Sequence[Path]) -> list[int]:
    """When each chapter begins, and the end of the last: sums of the videos' declared durations.

    Raises:
        RecordingError: as `probe`.
    """
    starts = [0]
    for path in paths:
        starts.append(starts[-1] + probe(path).duration_us)
    return starts


def chapter_payloads(paths: Sequence[Path]) -> Iterator[tuple[Path, Payload]]:
    """The payloads of all chapters, each with its file, on the clock of the first one's frame 0.

    Raises:
        RecordingError: as `iterate_payloads` and `probe`.
    """
    starts = chapter_starts_us(paths[:-1])
    for path, start_us in zip(paths, starts, strict=True):
        for payload in iterate_payloads(path):
            if payload.t_us is None and len(paths) > 1:
                raise RecordingError(
                    f"{path.name}: a bare GPMF file has no place among chapters; give the mp4"
                )
            t_us = None if payload.t_us is None else payload.t_us + start_us
            yield path, replace(payload, t_us=t_us)


def check_chapter_clocks(
    paths: Sequence[Path], starts_us: Sequence[int], exposures: Sequence[BlockTime]
) -> None:
    """Refuses chapters that the camera's own clock says do not follow each other.

    A clock that begins anew with a chapter (a camera that was switched off) proves nothing.

    Args:
        paths: the chapters.
        starts_us: when each begins, by their containers' durations.
        exposures: of SHUT, in all chapters.

    Raises:
        RecordingError: the clock runs on, and disagrees by more than 0.1 s + 200 ppm.
    """
    stamped = [
        (exposure.payload_us, exposure.stamp_us)
        for exposure in exposures
        if exposure.payload_us is not None and exposure.stamp_us is not None
    ]
    for path, start_us in list(zip(paths, starts_us, strict=False))[1:]:
        before = [stamp - begin for begin, stamp in stamped if begin < start_us]
        after = [stamp - begin for begin, stamp in stamped if begin >= start_us]
        if not before or not after or after[0] + start_us < before[0]:
            continue
        late_us = after[0] - before[0]
        if abs(late_us) > 100_000 + start_us // 5000:
            raise RecordingError(
                f"{path.name}: the camera's clock puts this chapter {late_us / 1e6:+.3f} s from "
                f"where the one before ends; are these chapters of one recording? Put files of "
                f"different recordings into different folders"
            )


def read_chapter_frames(
    paths: Sequence[Path],
    *,
    size_wh: tuple[int, int] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    chunk_frames: int = 32,
) -> Iterator[FrameChunk]:
    """Frames of all chapters on one clock, like `video.read_frames` of a single file.

    Raises:
        RecordingError: as `read_frames`.
        UsageError: as `read_frames`.
    """
    starts = chapter_starts_us(paths[:-1])
    for path, start_us in zip(paths, starts, strict=True):
        chunks = read_frames(path, size_wh=size_wh, fit=fit, chunk_frames=chunk_frames)
        for chunk in chunks:
            yield FrameChunk(chunk.luma, chunk.t_us + start_us)


def _place(path: Path) -> tuple[str | None, int]:
    """Recording and chapter number in a file's name; None for a name of the user's own."""
    stem = path.stem.upper()
    if found := _CHAPTER.fullmatch(stem):
        return found[1] + found[3], int(found[2])
    if found := _OLD_FIRST.fullmatch(stem):
        return "GP" + found[1], 0
    if found := _OLD_LATER.fullmatch(stem):
        return "GP" + found[2], int(found[1])
    return None, 0
