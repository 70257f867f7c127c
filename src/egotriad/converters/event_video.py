"""Events as a video to look at: what an event camera's own software shows.

Every frame is exposed for its whole time: a pixel is light where its last event in that time was
ON, blue where it was OFF, dark where it had none (the dark palette of prophesee-ai/openeb,
`sdk/modules/core/cpp/include/metavision/sdk/core/utils/colors.h`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.event_files_fields import Size
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import atomic

__all__ = ["PALETTE", "event_video"]

PALETTE = np.array([[30, 37, 52], [64, 126, 201], [216, 223, 236]], np.uint8)
"""RGB of a pixel without an event, with OFF, with ON."""

SHOWN_WIDTH = 640
"""Smaller sensors are enlarged to this or more, pixel by pixel: video codecs blur colours."""

LONGEST_PAUSE_S = 3600


@contextmanager
def event_video(
    path: Path, size_wh: Size, *, frame_rate_hz: int = 30
) -> Iterator[Callable[[Events], None]]:
    """Creates a video (mp4) of events; it appears at `path` when the block ends without an error.

    The first frame begins with the first event. Small sensors are shown enlarged.

    Args:
        path: the file.
        size_wh: width and height of the sensor, pixels.
        frame_rate_hz: frames per second; each is exposed for all of its time.

    Yields:
        The function that takes the events, piece by piece, in order of time.

    Raises:
        UsageError: a rate below one, a name that does not end in .mp4, or a pause of hours.
    """
    if frame_rate_hz < 1 or path.suffix.lower() != ".mp4":
        raise UsageError(
            f"got {path.name} at {frame_rate_hz} frames/s, need a name that ends in .mp4 and 1 or "
            "more"
        )
    with (
        atomic(path) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        screen = _Screen(container, size_wh, frame_rate_hz)
        yield screen.feed
        screen.finish()


class _Screen:
    """Paints events onto the present frame and encodes it when its time is over."""

    def __init__(
        self, container: av.container.OutputContainer, size_wh: Size, frame_rate_hz: int
    ) -> None:
        self._enlarge = -(-SHOWN_WIDTH // size_wh[0])
        self._pixels = np.zeros(size_wh[::-1], np.uint8)  # index into PALETTE
        self._rate_hz = frame_rate_hz
        self._first_us: int | None = None
        self._shown = 0
        self._container = container
        self._stream = _video_stream(container, self._picture().shape, frame_rate_hz)

    def feed(self, events: Events) -> None:
        """Paints events, in order of time, and encodes the frames that end before the last."""
        if not len(events):
            return
        if self._first_us is None:
            self._first_us = int(events.t_us[0])
        frame = (events.t_us - self._first_us) * self._rate_hz // 1_000_000
        pause_s = int(np.diff(frame, prepend=self._shown).max()) // self._rate_hz
        if pause_s > LONGEST_PAUSE_S:
            raise UsageError(
                f"the events pause for {pause_s} s, need {LONGEST_PAUSE_S} s or less to show them; "
                "choose a span (--start-us, --end-us)"
            )
        starts = np.flatnonzero(np.diff(frame, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
            while self._shown < frame[start]:
                self._encode()
            part = slice(start, end)
            # NumPy assigns in order where an index repeats, so the last event of a pixel stays.
            self._pixels[events.y[part], events.x[part]] = 1 + events.p[part].view(np.uint8)

    def finish(self) -> None:
        """Encodes the last frame."""
        self._encode()
        self._container.mux(self._stream.encode())

    def _encode(self) -> None:
        frame = av.VideoFrame.from_ndarray(self._picture(), format="rgb24")
        frame.pts = self._shown
        self._container.mux(self._stream.encode(frame))
        self._pixels[:] = 0
        self._shown += 1

    def _picture(self) -> NDArray[np.uint8]:
        """The frame as RGB (H, W, 3), sides even as encoders need them."""
        height, width = (side * self._enlarge for side in self._pixels.shape)
        picture = np.empty((height + height % 2, width + width % 2, 3), np.uint8)
        picture[:] = PALETTE[0]
        rows = self._pixels.repeat(self._enlarge, axis=0).repeat(self._enlarge, axis=1)
        picture[:height, :width] = PALETTE[rows]
        return picture


def _video_stream(
    container: av.container.OutputContainer, shape: tuple[int, ...], frame_rate_hz: int
) -> Any:
    """H.264 where PyAV was built with an encoder for it, else MPEG-4."""
    try:
        stream = container.add_stream("libx264", rate=frame_rate_hz, options={"crf": "20"})
    except (ValueError, av.FFmpegError):
        stream = container.add_stream("mpeg4", rate=frame_rate_hz, bit_rate=8_000_000)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream
