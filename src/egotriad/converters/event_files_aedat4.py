"""AEDAT 4, the file of iniVation's DV software: packets of FlatBuffers, compressed one by one.

`#!AER-DAT4.0`, a header (flags, XML about the streams), then packets: stream number and size as
int32, and a size-prefixed FlatBuffer, by itself or as an LZ4 or Zstandard frame
(docs.inivation.com, "AEDAT 4.0"). One event is 16 bytes: t int64 (us), x int16, y int16, p.
Both kinds of table have one shape in all files we know of, but are read by their own offsets.

Cameras give Unix time: times of 1.6e15 us. Files are written without the table of packets that may
end them; readers then find the packets one after another (checked with `aedat` 2.3 and
`dv_processing` 2.0), and a cut between two of them cannot be seen.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa

from egotriad.converters.event_files_fields import Size, opened, sensor_size
from egotriad.converters.event_files_stream import Block, EventReader
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError

__all__ = ["create_aedat4", "open_aedat4"]

MAGIC = b"#!AER-DAT4.0\r\n"
EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("pad", "u1", 3)])
PACKET_EVENTS = 1 << 14
CODECS = (None, "lz4", "lz4", "zstd", "zstd")  # by the header's number: none, LZ4 (high), ZSTD ...
WRITTEN_CODEC = 1


def open_aedat4(path: Path, size_wh: Size | None) -> EventReader:
    """The event stream of an AEDAT 4 file.

    Raises:
        RecordingError: no such file, not AEDAT 4, cut off in its header, or not one event stream.
        UsageError: the size is neither stored nor given.
    """
    with opened(path) as file:
        codec, end, xml = _read_header(file, path)
        start = file.tell()
    total = path.stat().st_size if end < 0 else end
    stream, stored_size = _event_stream(xml, path)

    def blocks(start_us: int | None, end_us: int | None) -> Iterator[Block]:
        index = 0
        with opened(path) as file:
            file.seek(start)
            while file.tell() < total:
                where = file.tell()
                try:
                    number, size = struct.unpack("<ii", file.read(8))
                    packet = file.read(size) if size >= 0 else b""
                    if len(packet) != size:
                        raise ValueError("the file ends inside it")
                    if number != stream:
                        continue
                    rows = _events(packet, CODECS[codec])
                except (ValueError, struct.error, OSError) as exc:
                    raise RecordingError(
                        f"{path.name}: the packet at byte {where} cannot be read ({exc}); the file "
                        "is cut off or damaged there, copy it again"
                    ) from exc
                yield Block(rows["t"], rows["x"], rows["y"], rows["p"] != 0, index, file.tell())
                index += len(rows)

    return EventReader(
        path=path,
        format="aedat4",
        size_wh=sensor_size(path, stored_size, size_wh),
        blocks=blocks,
        total=total,
        unit="bytes",
    )


@contextmanager
def create_aedat4(
    path: Path, size_wh: Size, t_offset_us: int
) -> Iterator[Callable[[Events], None]]:
    """Writes one stream of events, LZ4 as DV does."""
    with path.open("wb") as file:
        file.write(MAGIC + _header(size_wh))

        def put(events: Events) -> None:
            for k in range(0, len(events), PACKET_EVENTS):
                part = events.take(slice(k, k + PACKET_EVENTS))
                rows = np.zeros(len(part), EVENT)
                rows["t"], rows["x"], rows["y"], rows["p"] = part.t_us, part.x, part.y, part.p
                packet = pa.compress(_packet(rows.tobytes()), "lz4", asbytes=True)
                file.write(struct.pack("<ii", 0, len(packet)) + packet)

        yield put


def _read_header(file: BinaryIO, path: Path) -> tuple[int, int, str]:
    """Number of the codec, where the packets end (-1: with the file), and the XML."""
    if file.read(len(MAGIC)) != MAGIC:
        raise RecordingError(f"{path.name}: does not begin with #!AER-DAT4.0, no AEDAT 4")
    try:
        (size,) = struct.unpack("<I", file.read(4))
        buffer = file.read(size)
        if len(buffer) != size or buffer[4:8] != b"IOHE":
            raise ValueError("no whole IOHE table")
        table = _Table(buffer)
        codec, end = table.integer(0, "<i", 0), table.integer(1, "<q", -1)
        text, length = table.vector(2)
        if not 0 <= codec < len(CODECS):
            raise ValueError(f"codec number {codec}")
        return codec, end, buffer[text : text + length].decode()
    except (ValueError, struct.error) as exc:
        raise RecordingError(
            f"{path.name}: its header cannot be read ({exc}); the file is cut off or damaged"
        ) from exc


def _event_stream(xml: str, path: Path) -> tuple[int, Size | None]:
    """Number and sensor size of the only event stream."""
    found: dict[int, Size | None] = {}
    try:
        for node in ElementTree.fromstring(xml).iter("node"):
            if _attributes(node).get("typeIdentifier") == "EVTS":
                info = node.find("node[@name='info']")
                sides = _attributes(info) if info is not None else {}
                width, height = (int(sides.get(key) or 0) for key in ("sizeX", "sizeY"))
                found[int(node.get("name", ""))] = (width, height) if width and height else None
    except (ElementTree.ParseError, ValueError) as exc:
        raise RecordingError(
            f"{path.name}: the list of its streams cannot be read ({exc}); the file is damaged"
        ) from exc
    if len(found) != 1:
        raise RecordingError(
            f"{path.name}: holds event streams {sorted(found)}, need one; write each to a file of "
            "its own (DV: split the recording)"
        )
    return next(iter(found.items()))


def _attributes(node: ElementTree.Element) -> dict[str | None, str | None]:
    return {attribute.get("key"): attribute.text for attribute in node.findall("attr")}


class _Table:
    """The root table of a FlatBuffer: (google/flatbuffers, "FlatBuffer Internals").

    Args:
        buffer: without its size prefix.
    """

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        (self._at,) = struct.unpack_from("<I", buffer, 0)
        (back,) = struct.unpack_from("<i", buffer, self._at)
        self._fields = self._at - back
        if self._fields < 0:
            raise ValueError("a table without fields")
        (self._fields_size,) = struct.unpack_from("<H", buffer, self._fields)

    def integer(self, field: int, kind: str, absent: int) -> int:
        """A scalar field."""
        at = self._field(field)
        return struct.unpack_from(kind, self._buffer, at)[0] if at else absent

    def vector(self, field: int) -> tuple[int, int]:
        """Where the elements of a vector or string field begin, and how many they are."""
        at = self._field(field)
        if not at:
            return 0, 0
        at += struct.unpack_from("<I", self._buffer, at)[0]
        return at + 4, struct.unpack_from("<I", self._buffer, at)[0]

    def _field(self, field: int) -> int:
        """Where a field lies; 0 where it is absent."""
        entry = 4 + 2 * field
        if entry + 2 > self._fields_size:
            return 0
        (offset,) = struct.unpack_from("<H", self._buffer, self._fields + entry)
        return self._at + offset if offset else 0


def _events(packet: bytes, codec: str | None) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Events of one packet."""
    if codec is not None:
        with pa.input_stream(pa.BufferReader(packet), compression=codec) as stream:
            packet = stream.read()
    if len(packet) < 12 or packet[8:12] != b"EVTS":
        raise ValueError("no EVTS table")
    at, count = _Table(packet[4:]).vector(0)
    return np.frombuffer(packet, EVENT, count, 4 + at)


def _packet(rows: bytes) -> bytes:
    """A size-prefixed EventPacket: one field, a vector of events, that begin at byte 32."""
    count = len(rows) // EVENT.itemsize
    fields = struct.pack("<HHH2x", 6, 8, 4)  # their own size, the table's, place of field 0
    table = struct.pack("<iII", 8, 4, count)  # back to the fields, on to the vector, its length
    return struct.pack("<II", 28 + len(rows), 16) + b"EVTS" + fields + table + rows


def _header(size_wh: Size) -> bytes:
    """A size-prefixed IOHeader: codec, place of the packet table (-1: none), XML."""
    xml = f"""<dv version="2.0">
    <node name="outInfo" path="/mainloop/Recorder/outInfo/">
        <node name="0" path="/mainloop/Recorder/outInfo/0/">
            <attr key="compression" type="string">LZ4</attr>
            <attr key="originalModuleName" type="string">egotriad</attr>
            <attr key="originalOutputName" type="string">events</attr>
            <attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
            <attr key="typeIdentifier" type="string">EVTS</attr>
            <node name="info" path="/mainloop/Recorder/outInfo/0/info/">
                <attr key="sizeX" type="int">{size_wh[0]}</attr>
                <attr key="sizeY" type="int">{size_wh[1]}</attr>
                <attr key="source" type="string">egotriad</attr>
            </node>
        </node>
    </node>
</dv>
""".encode()
    text = struct.pack("<I", len(xml)) + xml + b"\0" * (4 - len(xml) % 4)
    fields = struct.pack("<HHHHH6x", 10, 20, 4, 12, 8)
    table = struct.pack("<iiIq", 16, WRITTEN_CODEC, 12, -1)
    body = struct.pack("<I", 24) + b"IOHE" + fields + table + text
    return struct.pack("<I", len(body)) + body
