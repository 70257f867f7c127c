"""What the fields of event files have in common: sizes, polarities, clocks that wrap, records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import RecordingError, UsageError

__all__ = [
    "BLOCK_EVENTS",
    "Size",
    "WrappingClock",
    "opened",
    "polarity",
    "records",
    "sensor_size",
]

Size = tuple[int, int]
"""Width and height of a sensor, pixels."""

BLOCK_EVENTS = 1 << 18
"""Events (or words) that a format reads from its file at once."""


def sensor_size(path: Path, stored: Size | None, given: Size | None) -> Size:
    """The sensor's size: what the file says, else what the caller says.

    Raises:
        UsageError: neither says it, or they differ.
    """
    if stored is None and given is None:
        raise UsageError(
            f"{path.name}: does not say the size of its sensor; give it (--size WIDTHxHEIGHT)"
        )
    if stored is not None and given is not None and stored != given:
        raise UsageError(
            f"{path.name}: says that its sensor is {stored[0]}x{stored[1]}, got "
            f"{given[0]}x{given[1]}; leave the size out"
        )
    size_wh = stored or given or (0, 0)
    if not all(1 <= side <= 1 << 16 for side in size_wh):
        raise UsageError(f"{path.name}: got size {size_wh}, need 1 to 65536 pixels each way")
    return size_wh


def opened(path: Path) -> BinaryIO:
    """The file, open for reading.

    Raises:
        RecordingError: it is missing, or may not be read.
    """
    try:
        return path.open("rb")
    except OSError as exc:
        raise RecordingError(f"{path}: cannot be opened ({exc.strerror}); check the path") from exc


def polarity(values: NDArray[np.generic], path: Path, index: int) -> NDArray[np.bool_]:
    """Stored polarities as booleans, True = ON.

    ON is 1; OFF is 0, -1, or 4294967295, which is -1 in v2e's unsigned columns (v2e issue 47).
    `index` is the number of the first one in the file.

    Raises:
        RecordingError: anything else is among them.
    """
    if values.dtype == np.bool_:
        return values.astype(np.bool_, copy=False)
    on = values == 1
    off = values == 0
    off |= values == (-1 if values.dtype.kind in "if" else (1 << 32) - 1)
    wrong = ~(on | off)
    if wrong.any():
        k = int(wrong.argmax())
        raise RecordingError(
            f"{path.name}: event {index + k} has polarity {values[k]}, need 1 for ON, 0 or -1 for "
            "OFF; the file is damaged or of another format"
        )
    return on


def records(path: Path, start: int, dtype: np.dtype[Any]) -> Iterator[tuple[NDArray[Any], int]]:
    """Records of one size from a place in a file to its end, in blocks, each with its end.

    Raises:
        RecordingError: after the last whole one, when the file ends inside a record.
    """
    with opened(path) as file:
        file.seek(start)
        while data := file.read(BLOCK_EVENTS * dtype.itemsize):
            whole = len(data) - len(data) % dtype.itemsize
            position = file.tell()
            yield np.frombuffer(data[:whole], dtype), position
            if whole < len(data):
                raise RecordingError(
                    f"{path.name}: ends at byte {position} inside a record of {dtype.itemsize} "
                    "bytes; the file is cut off, copy it again"
                )


class WrappingClock:
    """Undoes the wraps of a counter of few bits: a step back by half its range or more is one.

    A gap of a whole range or more cannot be seen. Shorter steps back stay what they are.

    Args:
        bits: of the counter.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._last: int | None = None
        self._wraps = 0

    def __call__(self, counted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of the next counter values (n,), continued from those before."""
        if not len(counted):
            return counted
        first = counted[0] if self._last is None else self._last
        wrapped = np.diff(counted, prepend=first) <= -(1 << (self._bits - 1))
        wraps = self._wraps + np.cumsum(wrapped)
        self._last, self._wraps = int(counted[-1]), int(wraps[-1])
        return counted + (wraps << self._bits)
