"""VRS files, looked at from outside: whole, cut off, or damaged, before a library opens them.

The library reads what is left of a cut file without a word, and may crash on a damaged header.
Layout, little endian (facebookresearch/vrs: vrs/FileFormat.h, IndexRecord.cpp):

    file header 80 bytes | description record | index record | records ... (or the index last)
    record header 32 bytes: size, previous size, type, version, time, instance, kind, compression,
        size when uncompressed
    index: streams, records, then for each record its time, size, kind and stream (zstd)
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from egotriad.manifests.errors import RecordingError

__all__ = ["DISK_RECORD", "FILE_HEADER", "MAGIC", "RECORD_HEADER", "check_vrs"]

FILE_HEADER = struct.Struct("<8sQIIqqq24s4s4s")
RECORD_HEADER = struct.Struct("<IIiIdHBBI")
MAGIC = (b"VisionRe", b"cord")
VERSIONS = (b"VRS1", b"VRS2", b"VRS3")
DISK_RECORD = np.dtype(
    [("time", "<f8"), ("size", "<u4"), ("kind", "u1"), ("type", "<i4"), ("instance", "<u2")]
)
CLASSIC_INDEX, ZSTD = 2, 2


def check_vrs(path: Path) -> None:
    """Refuses a file that is no VRS file, is cut off, or has a damaged header or index.

    Raises:
        RecordingError: which of these it is.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    with path.open("rb") as file:
        total = path.stat().st_size
        header = file.read(FILE_HEADER.size)
        if len(header) < FILE_HEADER.size or header[:8] != MAGIC[0]:
            raise RecordingError(f"{path.name}: no VRS file (it does not begin as one)")
        _, _, header_size, record_header_size, index, description, first, _, magic, version = (
            FILE_HEADER.unpack(header)
        )
        if magic != MAGIC[1] or version not in VERSIONS:
            raise RecordingError(
                f"{path.name}: VRS of version {version!r}, need one of "
                f"{', '.join(map(bytes.decode, VERSIONS))}; a newer file, or a damaged header"
            )
        if header_size != FILE_HEADER.size or record_header_size != RECORD_HEADER.size:
            raise _damaged(path, f"headers of {header_size} and {record_header_size} bytes")
        if not index:
            raise RecordingError(
                f"{path.name}: has no index, so its recording was interrupted; repair it with "
                f"`vrs fix-index {path.name}`"
            )
        end_of_description = _record_end(path, file, description, total)
        _record_end(path, file, index, total)
        data_end = _data_end(path, file, index, total, first or end_of_description)
        limit = index if index > (first or end_of_description) else total
        if data_end > limit:
            raise _cut_off(path, data_end, limit)


def _record_end(path: Path, file: BinaryIO, offset: int, total: int) -> int:
    """Where the record at an offset ends; it must lie inside the file."""
    if not FILE_HEADER.size <= offset:
        raise _damaged(path, f"a record at byte {offset}")
    if offset + RECORD_HEADER.size > total:
        raise _cut_off(path, offset + RECORD_HEADER.size, total)
    file.seek(offset)
    size = RECORD_HEADER.unpack(file.read(RECORD_HEADER.size))[0]
    if size < RECORD_HEADER.size:
        raise _damaged(path, f"a record of {size} bytes at byte {offset}")
    if offset + size > total:
        raise _cut_off(path, offset + size, total)
    return offset + size


def _data_end(path: Path, file: BinaryIO, index: int, total: int, first: int) -> int:
    """Where the last record ends, by the index; `first` where the index is of a kind not known."""
    file.seek(index)
    header = RECORD_HEADER.unpack(file.read(RECORD_HEADER.size))
    size, version, compression, uncompressed = header[0], header[3], header[7], header[8]
    if version != CLASSIC_INDEX:
        return first
    body = file.read(size - RECORD_HEADER.size)
    try:
        (streams,) = struct.unpack_from("<I", body)
        prelude = 8 + 6 * streams
        (count,) = struct.unpack_from("<I", body, prelude - 4)
        length = count * DISK_RECORD.itemsize
        fits = compression != ZSTD or prelude + length == uncompressed
        if not fits or count * RECORD_HEADER.size > total:
            raise _damaged(path, f"an index of {count} records in {uncompressed} bytes")
        stored = body[prelude:]
        if compression == ZSTD:  # the frame may be shorter than the space kept for it
            stored = pa.CompressedInputStream(pa.BufferReader(stored), "zstd").read(length)
        records = np.frombuffer(stored, DISK_RECORD, count)
    except (struct.error, ValueError, OSError) as exc:
        raise _damaged(path, f"an index that cannot be read ({exc})") from exc
    return first + int(records["size"].sum(dtype=np.int64))


def _damaged(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: a damaged VRS file, it has {what}; copy it again")


def _cut_off(path: Path, need: int, got: int) -> RecordingError:
    return RecordingError(
        f"{path.name}: the file is cut off: got {got} bytes of records, its index needs {need}; "
        f"copy it again"
    )
