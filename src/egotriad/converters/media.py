"""Opening media containers (PyAV), with errors in words."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.container

from egotriad.manifests.errors import RecordingError

__all__ = ["describe_streams", "microseconds", "open_media"]


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
    """Opens a media file for reading.

    Raises:
        RecordingError: the file is missing, empty, cut off or no media file.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    if not path.stat().st_size:
        raise RecordingError(f"{path.name}: the file is empty; copy it again from the camera")
    if _is_cut_off(path):
        raise RecordingError(
            f"{path.name}: the file looks cut off (an mp4 without its index, the moov atom, or "
            f"without the end of its data): the recording was interrupted or the copy is "
            f"incomplete; copy it again"
        )
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as exc:
        raise RecordingError(
            f"{path.name}: not a media file that can be read ({exc.strerror})"
        ) from exc
    with container:
        yield container


def describe_streams(container: av.container.InputContainer) -> str:
    """The streams of a container in words, for messages: `0 video (h264), 1 audio (aac)`."""
    words = []
    for stream in container.streams:
        context = stream.codec_context
        name = context.name if context is not None else stream.metadata.get("handler_name", "")
        words.append(f"{stream.index} {stream.type} ({name.strip() or 'unnamed'})")
    return ", ".join(words) or "no streams at all"


def microseconds(ticks: int, time_base: Fraction) -> int:
    """Ticks in microseconds, rounded half up, in integers: no float ever holds a time stamp."""
    numerator = ticks * time_base.numerator * 1_000_000
    return (2 * numerator + time_base.denominator) // (2 * time_base.denominator)


def _is_cut_off(path: Path) -> bool:
    """Whether an mp4 lacks its index, or its index or data reach past the end of the file."""
    kinds = []
    with path.open("rb") as file:
        total, position = path.stat().st_size, 0
        while position + 8 <= total:
            file.seek(position)
            size, kind = struct.unpack(">I4s", file.read(8))
            kinds.append(kind)
            if kinds[0] != b"ftyp":
                return False  # no mp4, so nothing is known
            if size == 1:
                size = int.from_bytes(file.read(8))  # a 64-bit size follows
            if size < 8:  # 0: up to the end of the file
                break
            position += size
            if kind in (b"mdat", b"moov") and position > total:
                return True
    return b"moov" not in kinds
