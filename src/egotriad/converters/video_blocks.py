"""Small grey pictures of a video, whole or in blocks spread over it, as cheaply as they come.

What needs motion and not detail (synchronisation) reads a long video in blocks: each begins at a
key frame, so that nothing is decoded in vain.
"""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from egotriad.converters.media import microseconds, open_media
from egotriad.converters.video import FrameChunk
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = ["block_starts", "read_small_frames"]

CHUNK_FRAMES = 64


def block_starts(
    duration_us: int, *, block_us: int, share: float, least_us: int
) -> tuple[int, ...] | None:
    """Where blocks begin that cover a share of a recording, the first and the last at its ends.

    Args:
        duration_us: length of the recording.
        block_us: length of a block.
        share: share of the recording to be read, in (0, 1].
        least_us: shortest total; shorter recordings are read whole.

    Returns:
        Starts in microseconds, rising; None where the whole recording is to be read.

    Raises:
        UsageError: a share outside (0, 1] or a block without length.
    """
    if not 0 < share <= 1 or block_us < 1:
        raise UsageError(f"blocks: got share {share} and {block_us} us, need (0, 1] and 1 or more")
    count = round(max(share * duration_us, least_us) / block_us)
    if count * block_us >= duration_us:
        return None
    last = duration_us - block_us
    return tuple(last * k // max(count - 1, 1) for k in range(count))


def read_small_frames(
    path: Path, *, width: int, starts: Sequence[int] | None = None, block_us: int = 0
) -> Iterator[FrameChunk]:
    """Decodes the main video stream, grey and reduced, whole or in blocks.

    Unlike `video.read_frames` it forgives: a frame that is damaged, lacks a time or does not follow
    the one before is left out, as if the camera had dropped it. Grey levels are those of
    `read_frames` to a few levels (libswscale reduces and converts in one step).

    Args:
        path: any file that libav opens.
        width: width of the pictures; a narrower video keeps its own. Heights keep the aspect.
        starts: where blocks begin, microseconds from the first frame, rising; None reads all. A
            block begins at the last key frame before.
        block_us: length of each block.

    Yields:
        Chunks of at least one frame, times rising, relative to the recording's first frame.

    Raises:
        RecordingError: as `video.probe`; not one frame can be decoded.
    """
    with open_media(path) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise RecordingError(f"{path.name}: holds no video stream")
        stream.codec_context.thread_count = 1
        first_pts, pictures = None, _Pictures(width)
        for start_us in (0,) if starts is None else starts:
            if first_pts is not None:
                _seek(container, stream, first_pts, start_us)
            end_us: float | None = None if starts is not None else float("inf")
            for frame in _frames(container, stream):
                first_pts = frame.pts if first_pts is None else first_pts
                t_us = microseconds(frame.pts - first_pts, stream.time_base or Fraction(1))
                end_us = t_us + block_us if end_us is None else end_us
                if t_us >= end_us:
                    break
                yield from pictures.add(frame, t_us)
        yield from pictures.rest()
        if first_pts is None:
            raise RecordingError(f"{path.name}: not one frame can be decoded; copy it again")


def _seek(
    container: av.container.InputContainer, stream: av.VideoStream, first_pts: int, start_us: int
) -> None:
    ticks = Fraction(start_us, 1_000_000) / (stream.time_base or Fraction(1))
    container.seek(first_pts + int(ticks), stream=stream, backward=True)


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """Whole frames with a time from the next key frame on, up to the end or beyond repair."""
    frames = container.decode(stream)
    begun = False
    for _ in itertools.count():
        try:
            frame = next(frames, None)
        except av.FFmpegError:
            return
        if frame is None:
            return
        begun = begun or frame.key_frame
        if begun and frame.pts is not None and not frame.is_corrupt:
            yield frame


class _Pictures:
    """Reduces frames and gathers them into chunks."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._reformatter = VideoReformatter()
        self._luma: list[NDArray[np.uint8]] = []
        self._t_us: list[int] = []
        self._last_us = -1

    def add(self, frame: av.VideoFrame, t_us: int) -> Iterator[FrameChunk]:
        """Takes a frame that follows those before; yields a chunk when it is full."""
        if t_us <= self._last_us:
            return
        self._last_us = t_us
        width = min(self._width, frame.width)
        grey = self._reformatter.reformat(
            frame,
            width=width,
            height=max(1, round(frame.height * width / frame.width)),
            format="gray",
            dst_color_range=ColorRange.JPEG,
            interpolation="AREA",
            threads=1,
        )
        plane = grey.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        self._luma.append(rows[:, : plane.width].copy())
        self._t_us.append(t_us)
        if len(self._t_us) == CHUNK_FRAMES:
            yield from self.rest()

    def rest(self) -> Iterator[FrameChunk]:
        """Yields what has been gathered."""
        if self._t_us:
            yield FrameChunk(np.stack(self._luma), np.array(self._t_us, np.int64))
        self._luma, self._t_us = [], []
