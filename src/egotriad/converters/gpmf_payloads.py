"""GPMF payloads: out of an mp4's telemetry track or a bare file, one at a time.

An mp4 holds about one payload a second, with the container's time of each. Every device that was
connected to the camera appends a container of its own (`DEVC`): a Karma drone, a Bluetooth sensor.
Only the camera's own, the first, is read: the others have other clocks and other axes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.stream import Discard, Stream

from egotriad.converters.klv import Item, parse
from egotriad.converters.media import describe_streams, microseconds, open_media
from egotriad.manifests.errors import RecordingError, located

__all__ = ["Payload", "first_payload", "is_bare", "iterate_payloads", "read_payloads"]


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """What the camera wrote at one time.

    Attributes:
        devices: the camera's container; rarely it is split into several.
        others: names of other devices in this payload (`GoPro Karma v1.0`), not read.
        t_us: start after the video's first frame, as the container says; None in a bare file.
    """

    devices: tuple[Item, ...]
    others: tuple[str, ...]
    t_us: int | None

    def streams(self) -> Iterator[tuple[str, Item]]:
        """The camera's name with each of its streams, in order."""
        for device in self.devices:
            name = device.first("DVNM")
            for stream in device.all("STRM"):
                yield (name.text() if name is not None else ""), stream


def iterate_payloads(path: Path) -> Iterator[Payload]:
    """The payloads of an mp4's GPMF track, or of a file that holds nothing but GPMF, one by one.

    Raises:
        RecordingError: no such file, no GPMF in it, or damaged GPMF.
    """
    camera: bytes | None = None
    empty = True
    for devices, t_us in _device_lists(path):
        if empty:
            camera, empty = _device_id(devices[0]), False
        own = tuple(device for device in devices if _device_id(device) == camera)
        others = (device.first("DVNM") for device in devices if device not in own)
        yield Payload(own, tuple(name.text() for name in others if name is not None), t_us)
    if empty:
        raise RecordingError(f"{path.name}: its GPMF track is empty; the camera wrote no telemetry")


def read_payloads(path: Path) -> list[Payload]:
    """All of `iterate_payloads` at once (about 50 kB for a second of recording)."""
    return list(iterate_payloads(path))


def first_payload(path: Path) -> Payload:
    """The first payload alone; the rest of the file is not read.

    Raises:
        RecordingError: as `iterate_payloads`.
    """
    return next(iterate_payloads(path))


def is_bare(path: Path) -> bool:
    """Whether a file is GPMF from its first byte on: telemetry without a video."""
    with path.open("rb") as file:
        return file.read(4) == b"DEVC"


def _device_lists(path: Path) -> Iterator[tuple[tuple[Item, ...], int | None]]:
    """The devices of each payload (at least one), and the payload's time."""
    if path.is_file() and is_bare(path):
        yield from ((devices, None) for devices in _bare_devices(path))
        return
    with open_media(path) as container:
        track = next((s for s in container.streams if _is_gpmf(s)), None)
        if track is None:
            raise RecordingError(
                f"{path.name}: carries no GPMF track (GoPro's telemetry), only "
                f"{describe_streams(container)}; use the camera's original file, editing and "
                f"messaging tools drop the track"
            )
        frame_zero_us = 0
        if container.streams.video:
            video = container.streams.best("video")
            frame_zero_us = microseconds(video.start_time or 0, video.time_base)
        for stream in container.streams:  # so that the gigabytes of video are not even read
            stream.discard = Discard.default if stream is track else Discard.all
        try:
            for packet in container.demux(track):
                if packet.size and packet.pts is not None:
                    start_us = microseconds(packet.pts, packet.time_base)
                    if devices := _devices(path, bytes(packet)):
                        yield devices, start_us - frame_zero_us
        except av.FFmpegError as exc:
            raise RecordingError(
                f"{path.name}: its GPMF track cannot be read ({exc.strerror}); copy the file again"
            ) from exc


def _devices(path: Path, data: bytes) -> tuple[Item, ...]:
    with located(path.name):
        return tuple(item for item in parse(data) if item.key == "DEVC" and not item.kind)


def _bare_devices(path: Path) -> Iterator[tuple[Item, ...]]:
    """The devices of a bare file by payload: a new one begins where a device comes again."""
    together: list[Item] = []
    for device in _bare_items(path):
        if _device_id(device) in map(_device_id, together):
            yield tuple(together)
            together = []
        together.append(device)
    if together:
        yield tuple(together)


def _bare_items(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        while header := file.read(8):
            size, repeat = struct.unpack(">BH", header[5:]) if len(header) == 8 else (0, 0)
            yield from _devices(path, header + file.read(size * repeat + 3 & ~3))


def _device_id(device: Item) -> bytes | None:
    item = device.first("DVID")
    return None if item is None else item.data


def _is_gpmf(stream: Stream) -> bool:
    """A `gpmd` sample entry is bin_data to libav; the camera's other data tracks have no name."""
    return stream.type == "data" and stream.name == "bin_data"
