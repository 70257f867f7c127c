"""GoPro telemetry (GPMF) -> `ImuTrack` on the clock of the video it was recorded with.

A camera writes about one payload a second; in it, every sensor is a stream (`STRM`) of samples
without times of their own. What is known: how many samples each payload holds, how many came before
(`TSMP`), and, of newer cameras (Fusion, Max, Hero11; not Hero5 to Hero7), when its first one was
taken on the camera's microsecond clock (`STMP`). A straight line through the payloads' first
samples therefore gives the true rate and start; exposures (`SHUT`), one per frame, carry the same
clock and so give the time of frame 0. Older cameras have the container's time of each payload
instead, good to a few milliseconds: samples do not begin where payloads do.
(gopro/gpmf-parser, README; keys ORIN, ORIO, SIUN, SCAL, STMP, TSMP.)
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.clock import ClockFit, fit_rate
from egotriad.converters.gpmf_payloads import (
    Payload,
    SensorBlock,
    first_payload,
    read_payloads,
    sensor_blocks,
)
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, located

__all__ = ["read_gopro_imu", "stamped_by_camera"]

UNITS = {"ACCL": ("m/s\xb2", "m/s2", "m/s^2"), "GYRO": ("rad/s",)}

AXES_WITHOUT_ORIN = {"Camera": "ZXY", "Hero5": "ZXY", "Hero6": "YxZ", "Fusion": "yXZ"}
"""Axes of cameras that do not write ORIN, by the start of their name; a Hero5 calls itself
"Camera". (gopro/gpmf-parser, README.)"""


def read_gopro_imu(path: Path) -> ImuTrack:
    """Accelerometer and gyroscope of a GoPro mp4 (or a bare GPMF file) at their measured rates.

    Axes are the camera's X, Y, Z as GoPro names them: channels are put in that order, and signs
    flipped, by ORIN, or by the table of cameras that write none; for an unknown camera the stored
    order is kept and the notes say so. The time of sample i lies on the line fitted through the
    payloads; its origin is the first video frame (in a bare file: the first exposure).

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
        origin_us = sensor_blocks(payloads, "SHUT")[0].stamp_us or 0 if camera_clock else 0
        accel_line, gyro_line = _line(accel, camera_clock), _line(gyro, camera_clock)
        accel_axes, gyro_axes = _axes(accel), _axes(gyro)
        return ImuTrack(
            accel=_stream(accel, accel_line, accel_axes, origin_us),
            gyro=_stream(gyro, gyro_line, gyro_axes, origin_us),
            rate_hz=accel_line.rate_hz,
            notes={
                "imu_device": accel[0].device,
                "imu_clock": "camera (STMP)" if camera_clock else "container payload times",
                "imu_axes": f"accel {accel_axes or 'stored order'}, "
                f"gyro {gyro_axes or 'stored order'}",
                "imu_fit": f"accel {_words(accel_line)}; gyro {_words(gyro_line)}",
            },
        )


def stamped_by_camera(path: Path) -> bool:
    """Whether a file's IMU and exposures share the camera's microsecond clock (STMP).

    Looks at the first payload only.

    Raises:
        RecordingError: as `read_gopro_imu`, for what the first payload shows.
    """
    payload = first_payload(path)
    with located(path.name):
        for key in UNITS:
            _blocks_of([payload], key)
        return _has_stamps([payload])


def _blocks_of(payloads: list[Payload], key: str) -> list[SensorBlock]:
    """The blocks of an IMU sensor: present, three channels, SI units."""
    blocks = sensor_blocks(payloads, key)
    if not blocks:
        streams = (s for payload in payloads for d in payload.devices for s in d.all("STRM"))
        keys = ", ".join(sorted({item.key for stream in streams for item in stream.children}))
        raise RecordingError(f"its GPMF has no {key} samples, only {keys or 'no streams'}")
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


def _line(blocks: list[SensorBlock], camera_clock: bool) -> ClockFit:
    """Time of sample number i of a sensor, counted from its first one."""
    if len(blocks) < 2:
        raise RecordingError(
            "GPMF: one payload is not enough to measure a sample rate; need a recording of 2 s"
        )
    stamps = [block.stamp_us if camera_clock else block.payload_us for block in blocks]
    line = fit_rate(np.array(stamps, np.int64), index=_first_numbers(blocks))
    if not 1 <= line.rate_hz <= 100_000:
        raise RecordingError(f"GPMF: {line.rate_hz:g} Hz measured, no IMU's rate; damaged times")
    return line


def _first_numbers(blocks: list[SensorBlock]) -> NDArray[np.int64]:
    """Number of each block's first sample, from TSMP (lost payloads leave holes), else by sum."""
    lengths = np.array([len(block.values) for block in blocks], np.int64)
    summed = np.cumsum(lengths) - lengths
    if any(block.total is None for block in blocks):
        return summed
    counted = np.array([block.total for block in blocks], np.int64) - lengths
    counted -= counted[0]
    return counted if (np.diff(counted) >= lengths[:-1]).all() else summed


def _axes(blocks: list[SensorBlock]) -> str:
    """Axis letter of each stored channel, lower case for a flipped sign; empty when not known."""
    letters = {block.axes for block in blocks}
    if letters == {""}:
        device = blocks[0].device
        known = (axes for name, axes in AXES_WITHOUT_ORIN.items() if device.startswith(name))
        return next(known, "")
    axes = letters.pop()
    if letters or sorted(axes.upper()) != ["X", "Y", "Z"]:
        raise RecordingError(
            f"GPMF ORIN: got {sorted({axes, *letters})}, need one order of X, Y, Z"
        )
    return axes


def _stream(blocks: list[SensorBlock], line: ClockFit, axes: str, origin_us: int) -> SensorStream:
    first = _first_numbers(blocks)
    lengths = [len(block.values) for block in blocks]
    number = np.concatenate([start + np.arange(n) for start, n in zip(first, lengths, strict=True)])
    stored = np.concatenate([block.values for block in blocks]).T  # (3, N)
    values = np.empty_like(stored)
    for channel, letter in enumerate(axes or "XYZ"):
        values["XYZ".index(letter.upper())] = stored[channel] * (1 if letter.isupper() else -1)
    return SensorStream(line.times_us(number) - origin_us, values)


def _words(line: ClockFit) -> str:
    return f"{line.rate_hz:.3f} Hz, residual {line.residual_us:.0f} us"
