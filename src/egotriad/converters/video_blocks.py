"""Small grey pictures of a video, whole or in blocks spread over it, as cheaply as they come.

What needs motion and not detail (synchronisation) reads a long video in blocks: each begins at a
key frame, so that nothing is decoded in vain. Where the video is decoded for something else as
well, the same pictures are taken from that pass (`FrameTap`).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from egotriad.converters.media import microseconds, open_media
from egotriad.converters.video import FrameChunk, TimedFrame
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = ["FrameTap", "block_starts", "read_small_frames"]

CHUNK_FRAMES = 64
WHOLE = ((0, float("inf")),)


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
        stream = _video_stream(container, path)
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


class FrameTap:
    """Takes from a pass over a video what `read_small_frames` would decode it for.

    Args:
        path: the video.
        take: is called with the pictures, in chunks, in time order.
        width, starts, block_us: as of `read_small_frames`.

    Example:
        tap = FrameTap(path, meter.add, width=160)
        for chunk in read_frames(path, through=tap.through):
            ...
        tap.finish()
    """

    def __init__(
        self,
        path: Path,
        take: Callable[[FrameChunk], None],
        *,
        width: int,
        starts: Sequence[int] | None = None,
        block_us: int = 0,
    ) -> None:
        self._path, self._take = path, take
        self._starts, self._block_us = starts, block_us
        self._pictures = _Pictures(width)
        self._blocks: Sequence[tuple[int, float]] = WHOLE
        self._first_pts: int | None = None
        self._reached_us = -1
        self._ended = False
        self._refused: RecordingError | None = None

    def through(self, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
        """Lets the frames pass, all of them from the first one on, and takes those it wants."""
        begun = False
        for frame, t_us in frames:
            if self._first_pts is None:
                self._begin(frame.pts)
            begun = begun or frame.key_frame
            if begun:
                self._see(frame, t_us)
            yield frame, t_us
        self._ended = True

    def finish(self) -> None:
        """Decodes what the pass has not come to, if anything, and gives the last pictures.

        Raises:
            RecordingError: the pass saw nothing, and not one frame can be decoded here; a video
                that cannot be searched for the blocks.
        """
        if self._refused is not None:
            raise self._refused
        if self._first_pts is None:
            whole = read_small_frames(
                self._path, width=self._pictures.width, starts=self._starts, block_us=self._block_us
            )
            for chunk in whole:
                self._take(chunk)
            return
        if not self._ended:
            self._read_on(self._first_pts)
        for chunk in self._pictures.rest():
            self._take(chunk)

    def _begin(self, first_pts: int) -> None:
        self._first_pts = first_pts
        if self._starts is None:
            return
        try:
            self._blocks = _key_blocks(self._path, first_pts, self._starts, self._block_us)
        except RecordingError as exc:  # it must not end the pass, which does not search
            self._refused, self._blocks = exc, ()

    def _see(self, frame: av.VideoFrame, t_us: int) -> None:
        self._reached_us = t_us
        if any(start_us <= t_us < end_us for start_us, end_us in self._blocks):
            self._add(frame, t_us)

    def _read_on(self, first_pts: int) -> None:
        """What the blocks still want after the pass, forgiving as `read_small_frames` is."""
        with open_media(self._path) as container:
            stream = _video_stream(container, self._path)
            for start_us, end_us in self._blocks:
                if end_us <= self._reached_us:
                    continue
                _seek(container, stream, first_pts, max(start_us, self._reached_us))
                for frame in _frames(container, stream):
                    t_us = microseconds(frame.pts - first_pts, stream.time_base or Fraction(1))
                    if t_us >= end_us:
                        break
                    if t_us >= start_us:
                        self._add(frame, t_us)

    def _add(self, frame: av.VideoFrame, t_us: int) -> None:
        for chunk in self._pictures.add(frame, t_us):
            self._take(chunk)


def _key_blocks(
    path: Path, first_pts: int, starts: Sequence[int], block_us: int
) -> list[tuple[int, int]]:
    """Where the blocks of `read_small_frames` begin and end; nothing is decoded."""
    blocks = [(0, block_us)]
    with open_media(path) as container:
        stream = _video_stream(container, path)
        for start_us in starts[1:]:
            _seek(container, stream, first_pts, start_us)
            key_pts = _next_key(container, stream)
            if key_pts is not None:
                key_us = microseconds(key_pts - first_pts, stream.time_base or Fraction(1))
                blocks.append((key_us, key_us + block_us))
    return blocks


def _next_key(container: av.container.InputContainer, stream: av.VideoStream) -> int | None:
    """Time of the next key frame, in ticks; None up to the end or beyond repair."""
    try:
        for packet in container.demux(stream):
            if packet.is_keyframe and packet.pts is not None:
                return packet.pts
    except av.FFmpegError:
        pass
    return None


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise RecordingError(f"{path.name}: holds no video stream")
    stream.codec_context.thread_count = 1
    return stream


def _seek(
    container: av.container.InputContainer, stream: av.VideoStream, first_pts: int, start_us: int
) -> None:
    ticks = Fraction(start_us, 1_000_000) / (stream.time_base or Fraction(1))
    try:
        container.seek(first_pts + int(ticks), stream=stream, backward=True)
    except (av.FFmpegError, OSError) as exc:
        raise RecordingError(
            f"its video cannot be searched ({exc.strerror}); remux it (ffmpeg -i IN -c copy OUT)"
        ) from exc


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
        self.width = width
        self._reformatter = VideoReformatter()
        self._luma: list[NDArray[np.uint8]] = []
        self._t_us: list[int] = []
        self._last_us = -1

    def add(self, frame: av.VideoFrame, t_us: int) -> Iterator[FrameChunk]:
        """Takes a frame that follows those before; yields a chunk when it is full."""
        if t_us <= self._last_us:
            return
        self._last_us = t_us
        width = min(self.width, frame.width)
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
