"""Video files -> grey frames with their true presentation times (PyAV, one decoding thread)."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.container
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from egotriad.converters.media import describe_streams, microseconds, open_media
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = ["FrameChunk", "TimedFrame", "VideoInfo", "fitted", "probe", "read_frames"]

TimedFrame = tuple[av.VideoFrame, int]
"""A decoded frame and its time, microseconds from the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a container says about its video, nothing decoded.

    Attributes:
        size_wh: stored width and height in pixels (a rotation tag is not applied).
        frame_count: as declared, None where the container does not say.
        duration_us: of the video stream; where it does not say, of the container.
        frame_rate_hz: average, None where the container does not say. Never a clock: frames carry
            their own times.
        codec: name of the codec.
    """

    size_wh: tuple[int, int]
    frame_count: int | None
    duration_us: int
    frame_rate_hz: float | None
    codec: str


@dataclass(frozen=True, slots=True, eq=False)
class FrameChunk:
    """Consecutive frames.

    Attributes:
        luma: uint8 (n, H, W), full range.
        t_us: int64 (n,), presentation times relative to the recording's first frame, rising.
    """

    luma: NDArray[np.uint8]
    t_us: NDArray[np.int64]


def probe(path: Path) -> VideoInfo:
    """Reads size, length and rate of the main video stream without decoding.

    Raises:
        RecordingError: the file is missing, empty, cut off, no media file, or holds no video.
    """
    with open_media(path) as container:
        stream = _video_stream(container, path)
        duration_us = _declared_us(stream)
        if duration_us is None and container.duration is not None:
            duration_us = int(container.duration)  # libav counts it in microseconds
        if duration_us is None or duration_us <= 0:
            raise RecordingError(
                f"{path.name}: the container does not say how long its video is; "
                f"remux it (ffmpeg -i {path.name} -c copy fixed.mp4)"
            )
        rate = stream.average_rate
        return VideoInfo(
            size_wh=(stream.codec_context.width, stream.codec_context.height),
            frame_count=stream.frames or None,
            duration_us=duration_us,
            frame_rate_hz=float(rate) if rate else None,
            codec=stream.codec_context.name,
        )


def read_frames(
    path: Path,
    *,
    size_wh: tuple[int, int] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    chunk_frames: int = 32,
    through: Callable[[Iterator[TimedFrame]], Iterator[TimedFrame]] | None = None,
) -> Iterator[FrameChunk]:
    """Decodes the main video stream, grey, in chunks.

    Luma is 0.299 R + 0.587 G + 0.114 B on full-range values (BT.601's weights, which v2e uses), in
    whole levels, exact to one. Sizes are changed with OpenCV's INTER_AREA, as v2e does. A frame's
    time is its presentation time stamp, rounded to the nearest microsecond.

    Args:
        path: any file that libav opens; of several video streams, the one that libav calls best.
        size_wh: width and height of the sensor; None keeps the video's own.
        fit: `crop` cuts the frame to the sensor's aspect around its centre, `stretch` distorts it.
        chunk_frames: frames in a chunk; the last one may hold fewer.
        through: lets every frame pass as it was decoded, for what else wants to see it.

    Yields:
        Chunks of at least one frame; their arrays are the caller's.

    Raises:
        RecordingError: as `probe`; a frame that cannot be decoded, has no time or one that does not
            follow the frame before; a change of size; a stream that ends well before its declared
            length.
        UsageError: an unknown `fit` or a size below one pixel.
    """
    if fit not in ("crop", "stretch"):
        raise UsageError(f"fit: got {fit!r}, need 'crop' or 'stretch'")
    if chunk_frames < 1 or (size_wh is not None and min(size_wh) < 1):
        raise UsageError(f"got size {size_wh} and {chunk_frames} frames a chunk, need 1 or more")
    reformatter = VideoReformatter()  # one for all frames: setting up a conversion costs 1.5 ms
    luma = np.empty(0, np.uint8)
    times: list[int] = []
    frames = _timed_frames(path)
    for frame, t_us in frames if through is None else through(frames):
        grey = _grey(frame, reformatter)
        if size_wh is not None:
            grey = fitted(grey, size_wh, fit)
        if not times:
            luma = np.empty((chunk_frames, *grey.shape), np.uint8)
        luma[len(times)] = grey
        times.append(t_us)
        if len(times) == chunk_frames:
            yield FrameChunk(luma, np.array(times, np.int64))
            times = []
    if times:
        yield FrameChunk(luma[: len(times)], np.array(times, np.int64))


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise RecordingError(
            f"{path.name}: holds no video stream, only {describe_streams(container)}"
        )
    return stream


def _declared_us(stream: av.VideoStream) -> int | None:
    """Length of the stream as its container says; Matroska writes it as a tag."""
    if stream.duration is not None:
        return microseconds(stream.duration, stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+)\.(\d{9})", stream.metadata.get("DURATION", ""))
    if tag is None:
        return None
    hours, minutes, seconds, nanoseconds = map(int, tag.groups())
    return (hours * 3600 + minutes * 60 + seconds) * 1_000_000 + nanoseconds // 1000


def _timed_frames(path: Path) -> Iterator[TimedFrame]:
    """Frames with their times, checked one by one and for completeness at the end."""
    with open_media(path) as container:
        stream = _video_stream(container, path)
        # The builder runs one process per core; more threads would only get in each other's way.
        stream.codec_context.thread_count = 1
        index, first_pts, t_us, end_us = -1, 0, -1, 0
        for index, frame in enumerate(_decoded(container, stream, path)):
            if frame.pts is None:
                raise RecordingError(f"{path.name}: frame {index} has no time stamp; remux it")
            if index == 0:
                first_pts = frame.pts
            previous_us, t_us = t_us, microseconds(frame.pts - first_pts, stream.time_base)
            if t_us <= previous_us:
                raise RecordingError(
                    f"{path.name}: frame {index} at {t_us} us does not follow frame {index - 1} "
                    f"at {previous_us} us; times must rise, so remux or re-encode the file"
                )
            end_us = microseconds(frame.pts - first_pts + (frame.duration or 0), stream.time_base)
            yield frame, t_us
        _check_complete(path, stream, index + 1, end_us)


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> Iterator[av.VideoFrame]:
    """Frames in presentation order, all of one size, errors in words."""
    frames = container.decode(stream)
    size_wh = (0, 0)
    for index in itertools.count():
        try:
            frame = next(frames, None)
        except av.FFmpegError as exc:
            raise RecordingError(_damage(path, stream, index, str(exc.strerror))) from exc
        if frame is None:
            return
        # A decoder patches a hole from its neighbours and says so: that would become events.
        if frame.is_corrupt:
            raise RecordingError(_damage(path, stream, index, "the next frame is patched"))
        if index and (frame.width, frame.height) != size_wh:
            raise RecordingError(
                f"{path.name}: frame {index} is {frame.width}x{frame.height}, the one before "
                f"{size_wh[0]}x{size_wh[1]}; cut the file where its size changes"
            )
        size_wh = (frame.width, frame.height)
        yield frame


def _damage(path: Path, stream: av.VideoStream, frames: int, cause: str) -> str:
    return (
        f"{path.name}: decodes to {frames} of {stream.frames or 'an unknown number of'} frames, "
        f"then {cause}; the file is cut off or damaged there, copy it again"
    )


def _check_complete(path: Path, stream: av.VideoStream, frames: int, end_us: int) -> None:
    """A cut file often decodes without an error, only to less than it declares."""
    declared_us = _declared_us(stream)
    if not frames:
        raise RecordingError(f"{path.name}: not one frame can be decoded")
    if declared_us is None:
        return
    # A few frames may be missing at the end of an intact file (edit lists, a broken last group);
    # more than half a second, or 2 % of a short file, is a loss.
    if declared_us - end_us > min(500_000, declared_us // 50) + 2 * end_us // frames:
        raise RecordingError(
            f"{path.name}: the video ends after {frames} frames at {end_us / 1e6:.3f} s, the "
            f"container declares {stream.frames or 'an unknown number of'} frames and "
            f"{declared_us / 1e6:.3f} s; the file looks cut off, copy it again"
        )


def _grey(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Luma (H, W) of a frame, a view into libav's memory.

    Straight to grey costs libswscale as little as copying the Y plane where that is BT.601 luma; on
    BT.709 footage it goes through RGB and comes out within 1 level of cv2's grey of the RGB frame
    (measured on 315 frames of 848x480: 0.3 ms a frame against 1.3 ms to decode it).
    """
    grey = reformatter.reformat(frame, format="gray", dst_color_range=ColorRange.JPEG, threads=1)
    plane = grey.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def fitted(
    grey: NDArray[np.uint8], size_wh: tuple[int, int], fit: Literal["crop", "stretch"]
) -> NDArray[np.uint8]:
    """The frame at the sensor's size."""
    height, width = grey.shape
    if fit == "crop":
        keep_w = min(width, max(1, round(height * size_wh[0] / size_wh[1])))
        keep_h = min(height, max(1, round(width * size_wh[1] / size_wh[0])))
        left, top = (width - keep_w) // 2, (height - keep_h) // 2
        grey = grey[top : top + keep_h, left : left + keep_w]
    return cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)
