"""GoPro telemetry (GPMF) -> `ImuTrack` on the clock of the video it was recorded with.

A camera writes about one payload a second; in it, every sensor is a stream (`STRM`) of samples
without times of their own. What is known: how many samples each payload holds, how many came before
(`TSMP`), and since Hero8 / Max / Fusion when its first one was taken on the camera's microsecond
clock (`STMP`). A straight line through the payloads' first samples therefore gives the true rate
and start; exposures (`SHUT`), one per frame, carry the same clock and so give the time of frame 0.
Older cameras have the container's time of each payload instead, good to a few milliseconds.
(gopro/gpmf-parser, README; keys ORIN, ORIO, SIUN, SCAL, STMP, TSMP.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import ClockFit, fit_rate
from egotriad.converters.klv import Item, parse
from egotriad.converters.video import describe_streams, open_media
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, located

__all__ = [
    "Payload",
    "SensorBlock",
    "read_gopro_imu",
    "read_payloads",
    "sensor_blocks",
    "stamped_by_camera",
]

UNITS = {"ACCL": ("m/s\xb2", "m/s2", "m/s^2"), "GYRO": ("rad/s",)}

AXES_WITHOUT_ORIN = {"Camera": "ZXY", "Hero5": "ZXY", "Hero6": "YxZ", "Fusion": "yXZ"}
"""Axes of cameras that do not write ORIN, by the start of their name; a Hero5 calls itself
"Camera". (gopro/gpmf-parser, README, "Sensor axes".)"""


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


def read_gopro_imu(path: Path) -> ImuTrack:
    """Accelerometer and gyroscope of a GoPro mp4 (or a bare GPMF file) at their measured rates.

    Axes are the camera's X, Y, Z as GoPro names them: channels are put in that order, and signs
    flipped, by ORIN, or by the table of cameras that write none; for an unknown camera the stored
    order is kept and the notes say so. The time of sample i lies on the line fitted through the
    payloads; its origin is the first video frame, in a bare file the first exposure or sample.

    Raises:
        RecordingError: no such file; a file without GPMF (its streams are listed); damaged GPMF; no
            accelerometer or gyroscope; other units than m/s^2 and rad/s; too few payloads to
            measure a rate; a bare file of a camera without STMP, which has no clock at all.
    """
    payloads = read_payloads(path)
    with located(path.name):
        accel = _blocks_of(payloads, "ACCL")
        gyro = _blocks_of(payloads, "GYRO")
        camera_clock = _has_stamps(payloads)
        if not camera_clock and payloads[0].t_us is None:
            raise RecordingError(
                f"a bare GPMF file of {accel[0].device or 'an unnamed camera'} has no clock "
                f"(no STMP); give the mp4 it was taken from"
            )
        accel_line, gyro_line = (_line(blocks, camera_clock) for blocks in (accel, gyro))
        origin_us = _frame_zero_us(payloads, accel_line) if camera_clock else 0.0
        accel_stream, axes = _stream(accel, "ACCL", accel_line, origin_us)
        gyro_stream, _ = _stream(gyro, "GYRO", gyro_line, origin_us)
    return ImuTrack(
        accel=accel_stream,
        gyro=gyro_stream,
        rate_hz=accel_line.rate_hz,
        notes={
            "imu_device": accel[0].device,
            "imu_clock": "camera (STMP)" if camera_clock else "container payload times",
            "imu_axes": axes,
            "imu_fit": f"accel {_words(accel_line)}; gyro {_words(gyro_line)}",
        },
    )


def stamped_by_camera(path: Path) -> bool:
    """Whether a file's IMU and exposures share the camera's microsecond clock (STMP).

    Looks at the first payload only.

    Raises:
        RecordingError: as `read_gopro_imu`, for what the first payload shows.
    """
    payload = next(_payloads(path), None)
    if payload is None:
        raise RecordingError(f"{path.name}: its GPMF track is empty; the camera wrote no telemetry")
    with located(path.name):
        for key in UNITS:
            _blocks_of([payload], key)
        return _has_stamps([payload])


def read_payloads(path: Path) -> list[Payload]:
    """All payloads of an mp4's GPMF track, or of a file that holds nothing but GPMF.

    Raises:
        RecordingError: no such file, no GPMF in it, or damaged GPMF.
    """
    payloads = list(_payloads(path))
    if not payloads:
        raise RecordingError(f"{path.name}: its GPMF track is empty; the camera wrote no telemetry")
    return payloads


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


def _payloads(path: Path) -> Iterator[Payload]:
    if _starts_with(path, b"DEVC"):
        with located(path.name):
            for item in parse(path.read_bytes()):
                yield Payload((item,), None)
        return
    with open_media(path) as container:
        track = next((s for s in container.streams if _is_gpmf(s)), None)
        if track is None:
            raise RecordingError(
                f"{path.name}: carries no GPMF track (GoPro's telemetry), only "
                f"{describe_streams(container)}; use the camera's original file, editing and "
                f"messaging tools drop the track"
            )
        frame_zero_s = 0
        if container.streams.video:
            video = container.streams.best("video")
            frame_zero_s = (video.start_time or 0) * video.time_base
        for stream in container.streams:  # so that the gigabytes of video are not even read
            stream.discard = "default" if stream is track else "all"
        try:
            for packet in container.demux(track):
                if packet.size and packet.pts is not None:
                    after_s = packet.pts * packet.time_base - frame_zero_s
                    with located(path.name):
                        yield Payload(parse(bytes(packet)), round(after_s * 1_000_000))
        except av.FFmpegError as exc:
            raise RecordingError(
                f"{path.name}: its GPMF track cannot be read ({exc.strerror}); copy the file again"
            ) from exc


def _starts_with(path: Path, magic: bytes) -> bool:
    if not path.is_file():
        return False  # open_media says what is wrong
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _is_gpmf(stream: av.stream.Stream) -> bool:
    """libav names the `gpmd` sample entry bin_data; other data tracks of the camera have no name."""
    return stream.type == "data" and stream.name == "bin_data"


def _block(device: Item, stream: Item, item: Item, payload_us: int | None) -> SensorBlock:
    def text(holder: Item, *keys: str) -> str:
        return next((found.text() for key in keys if (found := holder.first(key))), "")

    def count(key: str) -> int | None:
        found = stream.first(key)
        return int(found.numbers()[0, 0]) if found is not None and found.repeat else None

    values = item.numbers()
    scale_item = stream.first("SCAL")
    scale = scale_item.numbers().ravel() if scale_item is not None else np.ones(1)
    if len(scale) not in (1, values.shape[1]) or not scale.all():
        raise RecordingError(
            f"GPMF {item.key}: scale {scale.tolist()} for {values.shape[1]} channels; damaged file"
        )
    return SensorBlock(
        values=values / scale,
        scale=scale,
        unit=text(stream, "SIUN", "UNIT"),
        axes=text(stream, "ORIN"),
        stamp_us=count("STMP"),
        total=count("TSMP"),
        device=text(device, "DVNM"),
        payload_us=payload_us,
    )


def _blocks_of(payloads: list[Payload], key: str) -> list[SensorBlock]:
    """The blocks of an IMU sensor: present, three channels, SI units."""
    blocks = sensor_blocks(payloads, key)
    if not blocks:
        keys = {item.key for p in payloads for d in p.devices for s in d.all("STRM") for item in s.children}
        raise RecordingError(f"its GPMF has no {key} stream, only {', '.join(sorted(keys))}")
    for block in blocks:
        if block.values.shape[1] != 3 or not np.isfinite(block.values).all():
            raise RecordingError(f"GPMF {key}: got {block.values.shape[1]} channels, need 3 finite")
        if block.unit not in UNITS[key]:
            raise RecordingError(
                f"GPMF {key}: got unit {block.unit!r}, need {' or '.join(UNITS[key])}"
            )
    return blocks


def _has_stamps(payloads: list[Payload]) -> bool:
    return all(
        block.stamp_us is not None
        for key in ("ACCL", "GYRO", "SHUT")
        for block in sensor_blocks(payloads, key)
    ) and bool(sensor_blocks(payloads, "SHUT"))
