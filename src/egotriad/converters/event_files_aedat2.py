"""AEDAT 2.0, jAER's event file, for the three sensors that v2e writes.

Text lines that begin with `#` and end with CRLF, then pairs of big-endian 32-bit numbers, address
and microseconds. Addresses are y << 22 | x << 12 | p << 11 on 346x260 and 240x180 (DAVIS) and
y << 11 | x << 1 | p on 640x480 (DVS640). jAER counts from the lower right corner, so that x and y
are both mirrored here (SensorsINI/v2e, `v2ecore/output/aedat2_output.py`). Bit 31 of an address
marks frames and IMU samples, which are skipped; bit 10, v2e's mark of a noise event, is ignored
(on 640x480 v2e sets it in the middle of x: files with such marks hold wrong columns).

v2e drops a first event whose address begins with the byte of `#`. We keep it: like jAER we end the
header with a line that says so, and read accordingly. The same line carries no size, so ours has
one more, `# size 346x260`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from egotriad.converters.event_files_fields import Size, WrappingClock, opened, records, sensor_size
from egotriad.converters.event_files_stream import Block, EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError, UsageError

__all__ = ["AEDAT2_SIZES", "create_aedat2", "open_aedat2"]

RECORD = np.dtype([("address", ">u4"), ("t", ">i4")])
END_OF_HEADER = b"#End Of ASCII Header\r\n"
MAX_HEADER_LINE = 10_000

_DAVIS, _DVS640 = (22, 12, 11), (11, 1, 0)
AEDAT2_SIZES = {(346, 260): _DAVIS, (240, 180): _DAVIS, (640, 480): _DVS640}
"""Bit of y, of x and of the polarity in an address, by the sensor's size."""


def open_aedat2(path: Path, size_wh: Size | None) -> EventReader:
    """An AEDAT 2.0 file; its clock's wraps at 32 bits are undone.

    Raises:
        RecordingError: no such file, or not AEDAT 2.0.
        UsageError: the size is neither stored nor given, or not one of the three.
    """
    start, stored_size = _header(path)
    size_wh = sensor_size(path, stored_size, size_wh)
    if size_wh not in AEDAT2_SIZES:
        known = ", ".join(f"{width}x{height}" for width, height in AEDAT2_SIZES)
        raise UsageError(
            f"{path.name}: addresses of a {size_wh[0]}x{size_wh[1]} sensor are not known; need one "
            f"of {known}"
        )
    y_bit, x_bit, p_bit = AEDAT2_SIZES[size_wh]
    width, height = size_wh
    x_mask, y_mask = (1 << (y_bit - x_bit)) - 1, (1 << (31 - y_bit)) - 1

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        clock, index = WrappingClock(32), 0
        for rows, position in records(path, start, RECORD):
            t_us = clock(rows["t"].astype(np.int64))
            address = rows["address"].astype(np.int64)
            events = address >> 31 == 0
            address, t_us = address[events], t_us[events]
            yield Block(
                t_us,
                width - 1 - ((address >> x_bit) & x_mask),
                height - 1 - ((address >> y_bit) & y_mask),
                (address >> p_bit) & 1 == 1,
                index,
                position,
            )
            index += len(t_us)

    return EventReader(
        path=path,
        format="aedat2",
        size_wh=size_wh,
        blocks=blocks,
        total=path.stat().st_size,
        unit="bytes",
    )


@contextmanager
def create_aedat2(
    path: Path, size_wh: Size, t_offset_us: int
) -> Iterator[Callable[[Events], None]]:
    """Writes an AEDAT 2.0 file."""
    y_bit, x_bit, p_bit = AEDAT2_SIZES[size_wh]
    width, height = size_wh
    with path.open("wb") as file:
        file.write(
            b"#!AER-DAT2.0\r\n"
            b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each "
            b"event\r\n# Timestamps tick is 1 us\r\n"
        )
        file.write(f"# size {width}x{height}\r\n".encode())
        file.write(END_OF_HEADER)

        def put(events: Events) -> None:
            rows = np.empty(len(events), RECORD)
            x, y = width - 1 - events.x.astype(np.uint32), height - 1 - events.y.astype(np.uint32)
            rows["address"] = (y << y_bit) | (x << x_bit) | (events.p.astype(np.uint32) << p_bit)
            rows["t"] = events.t_us
            file.write(rows.tobytes())

        yield put


def _header(path: Path) -> tuple[int, Size | None]:
    """Where the data begin, and the size that we write."""
    with opened(path) as file:
        if not file.readline(MAX_HEADER_LINE).startswith(b"#!AER-DAT2"):
            raise RecordingError(f"{path.name}: does not begin with #!AER-DAT2, no AEDAT 2.0")
        start, size_wh = file.tell(), None
        while (line := file.readline(MAX_HEADER_LINE)).startswith(b"#"):
            if not line.endswith(b"\n"):
                raise RecordingError(f"{path.name}: ends inside its header; copy it again")
            start = file.tell()
            if line == END_OF_HEADER:
                break
            size = re.fullmatch(rb"# size (\d+)x(\d+)\r\n", line)
            size_wh = (int(size[1]), int(size[2])) if size else size_wh
    return start, size_wh
