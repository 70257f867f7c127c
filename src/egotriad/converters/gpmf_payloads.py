"""GPMF payloads: out of an mp4's telemetry track or a bare file, into blocks of sensor samples."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.stream import Discard, Stream
from numpy.typing import NDArray

from egotriad.converters.klv import Item, parse
from egotriad.converters.media import describe_streams, microseconds, open_media
from egotriad.manifests.errors import RecordingError, located

__all__ = ["Payload", "SensorBlock", "first_payload", "is_bare", "read_payloads", "sensor_blocks"]


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """One payload's device containers (`DEVC`) and its time.

    Attributes:
        devices: usually one.
        t_us: start after the video's first frame, as the container says; None in a bare file.
    """

    devices: tuple[Item, ...]
    t_us: int | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SensorBlock:
    """The samples of one sensor in one payload.

    Attributes:
        values: float64 (n, channels), divided by SCAL, channels in stored order.
        scale: SCAL, (1,) or (channels,).
        unit: SIUN or UNIT, empty when absent.
        axes: ORIN, a letter per channel (lower case: sign flipped), empty when absent.
        stamp_us: STMP, the camera's clock at the first sample, or None.
        total: TSMP, samples since the recording began, these included, or None.
        device: name of the camera (DVNM).
        payload_us: the payload's own time, or None.
    """

    values: NDArray[np.float64]
    scale: NDArray[np.float64]
    unit: str
    axes: str
    stamp_us: int | None
    total: int | None
    device: str
    payload_us: int | None


def read_payloads(path: Path) -> list[Payload]:
    """All payloads of an mp4's GPMF track, or of a file that holds nothing but GPMF.

    Raises:
        RecordingError: no such file, no GPMF in it, or damaged GPMF.
    """
    return _present(path, _payloads(path))


def first_payload(path: Path) -> Payload:
    """The first payload alone; the rest of the file is not read.

    Raises:
        RecordingError: as `read_payloads`.
    """
    return _present(path, itertools.islice(_payloads(path), 1))[0]


def is_bare(path: Path) -> bool:
    """Whether a file is GPMF from its first byte on: telemetry without a video."""
    with path.open("rb") as file:
        return file.read(4) == b"DEVC"


def sensor_blocks(payloads: list[Payload], key: str) -> list[SensorBlock]:
    """The blocks of one sensor (`ACCL`, `GYRO`, `SHUT`, ...), in time order; empty if none.

    Raises:
        RecordingError: data that are no numbers, or a scale that does not fit them.
    """
    return [
        _block(device, stream, item, payload.t_us)
        for payload in payloads
        for device in payload.devices
        for stream in device.all("STRM")
        for item in stream.all(key)
        if item.repeat
    ]


def _present(path: Path, payloads: Iterator[Payload]) -> list[Payload]:
    found = list(payloads)
    if not found:
        raise RecordingError(f"{path.name}: its GPMF track is empty; the camera wrote no telemetry")
    return found


def _payloads(path: Path) -> Iterator[Payload]:
    if path.is_file() and is_bare(path):
        with located(path.name):
            devices = parse(path.read_bytes())
        yield from (Payload((device,), None) for device in devices)
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
                    with located(path.name):
                        devices = parse(bytes(packet))
                    yield Payload(devices, start_us - frame_zero_us)
        except av.FFmpegError as exc:
            raise RecordingError(
                f"{path.name}: its GPMF track cannot be read ({exc.strerror}); copy the file again"
            ) from exc


def _is_gpmf(stream: Stream) -> bool:
    """A `gpmd` sample entry is bin_data to libav; the camera's other data tracks have no name."""
    return stream.type == "data" and stream.name == "bin_data"


def _block(device: Item, stream: Item, item: Item, payload_us: int | None) -> SensorBlock:
    def text(holder: Item, *keys: str) -> str:
        return next((found.text() for key in keys if (found := holder.first(key))), "")

    def count(key: str) -> int | None:
        found = stream.first(key)
        if found is None or not found.repeat:
            return None
        value = float(found.numbers()[0, 0])
        if not 0 <= value < 2**53:
            raise RecordingError(f"GPMF {key}: got {value}, need a count; damaged file")
        return int(value)

    values = item.numbers()
    scale_item = stream.first("SCAL")
    scale = scale_item.numbers().ravel() if scale_item is not None else np.ones(1)
    if len(scale) not in (1, values.shape[1]) or not (np.isfinite(scale) & (scale != 0)).all():
        raise RecordingError(
            f"GPMF {item.key}: scale {scale.tolist()} for {values.shape[1]} channels; damaged file"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
        values = values / scale
    return SensorBlock(
        values=values,
        scale=scale,
        unit=text(stream, "SIUN", "UNIT"),
        axes=text(stream, "ORIN"),
        stamp_us=count("STMP"),
        total=count("TSMP"),
        device=text(device, "DVNM"),
        payload_us=payload_us,
    )
