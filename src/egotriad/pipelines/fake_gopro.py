"""A tiny recording as a GoPro writes it: H.264 video and a GPMF telemetry track in one mp4."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.klv import item_bytes, nest_bytes

__all__ = ["write_fake_gopro"]

FRAME_RATE = Fraction(30_000, 1001)
FRAMES, WIDTH, HEIGHT = 180, 64, 48
RATE_HZ = 197.45
PAYLOAD_US, PAYLOADS = 1_001_000, 6
FIRST_FRAME_STAMP_US, FIRST_SAMPLE_STAMP_US = 85_608, 80_562


def write_fake_gopro(folder: Path, *, chapter: int = 1) -> tuple[Path, Path]:
    """Writes GX010001.mp4 (6.006 s) and GX010001.csv, and returns their paths.

    The IMU runs at 197.45 Hz from 5.046 ms before frame 0 on, as that of a real GoPro Max does,
    with gravity along the camera's Z and a walker's two steps a second. A later chapter
    (GX020001.mp4, ...) is the same video again, on the camera's clock and counters that run on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"GX{chapter:02}0001"
    video, narrations = folder / f"{stem}.mp4", folder / f"{stem}.csv"
    narrations.write_text("time_s,text\n1.5,C walks forward\n4.0,C looks around\n", "utf-8")
    with av.open(str(video), "w") as container:
        picture = container.add_stream("libx264", rate=FRAME_RATE)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.options = {"preset": "ultrafast", "crf": "18", "threads": "1"}
        telemetry = container.add_data_stream("bin_data")  # becomes a `gpmd` track
        telemetry.time_base = Fraction(1, 1000)
        for index, luma in enumerate(_frames()):
            frame = av.VideoFrame.from_ndarray(luma, format="gray")
            frame.pts = index
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for index in range(PAYLOADS):
            packet = av.Packet(_payload((chapter - 1) * PAYLOADS + index))
            packet.stream = telemetry
            packet.time_base = telemetry.time_base
            packet.pts = packet.dts = index * PAYLOAD_US // 1000
            packet.duration = PAYLOAD_US // 1000
            container.mux(packet)
    return video, narrations


def _frames() -> Iterator[NDArray[np.uint8]]:
    """A soft texture that moves one pixel a frame."""
    y, x = np.mgrid[:HEIGHT, : WIDTH + FRAMES]
    wide = np.rint(128 + 30 * np.sin(x / 5) * np.cos(y / 7)).astype(np.uint8)
    for index in range(FRAMES):
        yield np.ascontiguousarray(wide[:, index : index + WIDTH])


def _payload(index: int) -> bytes:
    first, end = (round((index + step) * PAYLOAD_US * RATE_HZ / 1e6) for step in (0, 1))
    number = np.arange(first, end)
    stamp_us = FIRST_SAMPLE_STAMP_US + round(first * 1e6 / RATE_HZ)
    step = 2 * np.pi * 2.0 * number / RATE_HZ
    accel = np.stack([0.5 * np.sin(step / 2), 9.81 + 2.0 * np.sin(step), 1.0 + 0 * step])
    gyro = np.stack([0.2 * np.sin(step), 0.3 * np.sin(step / 2), 0 * step])
    return nest_bytes(
        "DEVC",
        item_bytes("DVID", "L", 4, struct.pack(">L", 1)),
        item_bytes("DVNM", "c", 1, b"GoPro Max"),
        _sensor("ACCL", b"m/s\xb2", 417, stamp_us, end, accel),
        _sensor("GYRO", b"rad/s", 939, stamp_us, end, gyro),
        _exposures(index),
    )


def _sensor(
    key: str, unit: bytes, scale: int, stamp_us: int, total: int, xzy: NDArray[np.float64]
) -> bytes:
    """One stream; rows are the camera's X, Z, Y, and ORIN says that Z is stored negative."""
    stored = np.rint(xzy * scale * [[1], [-1], [1]]).astype(">i2")
    return nest_bytes(
        "STRM",
        item_bytes("STMP", "J", 8, struct.pack(">Q", stamp_us)),
        item_bytes("TSMP", "L", 4, struct.pack(">L", total)),
        item_bytes("ORIN", "c", 1, b"XzY"),
        item_bytes("SIUN", "c", len(unit), unit),
        item_bytes("SCAL", "s", 2, struct.pack(">h", scale)),
        item_bytes(key, "s", 6, stored.T.tobytes()),
    )


def _exposures(payload: int) -> bytes:
    stamp_us = FIRST_FRAME_STAMP_US + payload * PAYLOAD_US
    return nest_bytes(
        "STRM",
        item_bytes("STMP", "J", 8, struct.pack(">Q", stamp_us)),
        item_bytes("SHUT", "f", 4, np.full(30, 0.004, ">f4").tobytes()),
    )
