"""A tiny recording as Project Aria glasses write it: a VRS file with a camera, two IMUs, time code.

What is written follows facebookresearch/vrs (vrs/FileFormat.h, DescriptionRecord.cpp,
IndexRecord.cpp: description version 2, classic index, nothing compressed) and projectaria_tools
(core/data_provider/data_layout: the fields of each stream's records).
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from egotriad.converters.vrs_container import DISK_RECORD, FILE_HEADER, MAGIC, RECORD_HEADER

__all__ = [
    "IMU_LEFT",
    "IMU_RIGHT",
    "LATE_NS",
    "RATES_HZ",
    "VrsRecord",
    "calibration",
    "configurations",
    "imu_record",
    "write_fake_aria",
    "write_vrs",
]

CONFIGURATION, DATA = 2, 3
RGB, IMU_RIGHT, IMU_LEFT, TIME_CODE = (214, 1), (1202, 1), (1202, 2), (285, 1)
WIDTH, HEIGHT, FRAMES, FRAME_US = 64, 48, 120, 50_000
BOOT_NS = 86_385_246_037
"""Device time of the first frame."""

LATE_NS = {IMU_RIGHT: 4_000_000, IMU_LEFT: 1_000_000}
RATES_HZ = {IMU_RIGHT: 1001.1, IMU_LEFT: 798.2}
TURNS = {IMU_RIGHT: (0.0, 0.0, 1.0), IMU_LEFT: (1.0, 0.0, 0.0)}
"""Axis of the half turn from each IMU to the device."""

TYPES = {"u4": "uint32_t", "u8": "uint64_t", "i8": "int64_t", "f8": "double", "?": "Bool"}

IMAGE = (
    "camera_id:u4 nominal_rate:f8 image_width:u4 image_height:u4 image_stride:u4"
    " image_pixel_format:u4",
    "frame_number:u8 exposure_duration_s:f8 capture_timestamp_ns:i8",
)
MOTION = (
    "stream_index:u4 device_id:u8 nominal_rate:f8",
    "accelerometer_valid:? gyroscope_valid:? magnetometer_valid:? capture_timestamp_ns:i8"
    " accelerometer:3f4 gyroscope:3f4",
)
CLOCK = (
    "stream_id:u4 sample_rate_hz:f8 mode:text",
    "monotonic_timestamp_ns:i8 real_timestamp_ns:i8",
)
LAYOUTS = {RGB: IMAGE, IMU_RIGHT: MOTION, IMU_LEFT: MOTION, TIME_CODE: CLOCK}
"""Fields of each stream's configuration and data records, with their NumPy types."""

VERSIONS = {RGB: 2, IMU_RIGHT: 2, IMU_LEFT: 2, TIME_CODE: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class VrsRecord:
    """One record: of which stream, when, of which kind, and its bytes."""

    stream: tuple[int, int]
    time_s: float
    kind: int
    data: bytes


def write_fake_aria(folder: Path) -> Path:
    """Writes recording.vrs (6 s), speech.csv and metadata.json; returns the recording's path.

    A walker's two steps a second show in both IMUs, whose axes, rates and delays differ; gravity
    pulls along the device's x, as on the real glasses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recording.vrs"
    records = [*configurations(LAYOUTS), *sorted(_data(), key=lambda record: record.time_s)]
    tags = {"device_type": "Aria", "calib_json": json.dumps(calibration())}
    write_vrs(path, records, tags)
    said = ((1.4, "i"), (1.6, "walk"), (1.9, "forward"), (4.0, "looking"), (4.4, "around"))
    rows = (
        f"{BOOT_NS + round(at * 1e9)},{BOOT_NS + round((at + 0.2) * 1e9)},{word},0.9"
        for at, word in said
    )
    heading = "startTime_ns,endTime_ns,written,confidence\n"
    (folder / "speech.csv").write_text(heading + "\n".join(rows) + "\n", "utf-8")
    place = {"location": 1, "script": 2, "sequence": 3, "recording": 4}
    (folder / "metadata.json").write_text(json.dumps(place) + "\n", "utf-8")
    return path


def write_vrs(path: Path, records: Iterable[VrsRecord], tags: Mapping[str, str]) -> None:
    """Writes a VRS file of the streams of `LAYOUTS`: header, description, records, index."""
    described = _record(_description(tags), 0, (1, 0), 0.0, DATA, 2)
    body, index, previous, streams = bytearray(), [], len(described), set()
    for record in records:
        version = VERSIONS[record.stream]
        stored = _record(record.data, previous, record.stream, record.time_s, record.kind, version)
        index.append((record.time_s, len(stored), record.kind, *record.stream))
        previous = len(stored)
        body += stored
        streams.add(record.stream)
    listed = struct.pack("<I", len(streams))
    listed += b"".join(struct.pack("<iH", *stream) for stream in sorted(streams))
    listed += struct.pack("<I", len(index)) + np.array(index, DISK_RECORD).tobytes()
    first = FILE_HEADER.size + len(described)
    header = FILE_HEADER.pack(
        MAGIC[0], 1, FILE_HEADER.size, RECORD_HEADER.size, first + len(body), FILE_HEADER.size,
        first, bytes(24), MAGIC[1], b"VRS1",
    )  # fmt: skip
    path.write_bytes(header + described + body + _record(listed, previous, (2, 0), 0.0, DATA, 2))


def _record(
    data: bytes, previous: int, stream: tuple[int, int], time_s: float, kind: int, version: int
) -> bytes:
    size = RECORD_HEADER.size + len(data)
    return (
        RECORD_HEADER.pack(size, previous, stream[0], version, time_s, stream[1], kind, 0, 0) + data
    )


def _description(tags: Mapping[str, str]) -> bytes:
    data = struct.pack("<I", len(LAYOUTS))
    for stream, layouts in sorted(LAYOUTS.items()):
        version = VERSIONS[stream]
        words = {"VRS_Original_Recordable_Name": "fake", "VRS_Recordable_Flavor": "device/aria"}
        for name, layout in zip(("Configuration", "Data"), layouts, strict=True):
            picture = "+image/jpg" if stream == RGB and name == "Data" else ""
            words[f"RF:{name}:{version}"] = f"data_layout{picture}"
            words[f"DL:{name}:{version}:0"] = json.dumps({"data_layout": _fields(layout)})
        data += struct.pack("<iH", *stream) + _map({}) + _map(words)
    return data + _map(tags)


def _fields(layout: str) -> list[dict[str, object]]:
    fields: list[dict[str, object]] = []
    offset = texts = 0
    for name, kind in (field.split(":") for field in layout.split()):
        if kind == "text":
            fields.append({"name": name, "type": "DataPieceString", "index": texts})
            texts += 1
            continue
        value = {"name": name, "type": f"DataPieceValue<{TYPES.get(kind)}>", "offset": offset}
        if kind == "3f4":
            value |= {"type": "DataPieceArray<float>", "size": 3}
        fields.append(value)
        offset += 12 if kind == "3f4" else np.dtype(kind).itemsize
    return fields


def _map(words: Mapping[str, str]) -> bytes:
    data = struct.pack("<I", len(words))
    for word in (word for pair in words.items() for word in pair):
        data += struct.pack("<I", len(word.encode())) + word.encode()
    return data


def configurations(streams: Iterable[tuple[int, int]]) -> Iterator[VrsRecord]:
    """The configuration record of each stream: what a file's records begin with."""
    mode = b"TIMECODE"
    contents = {
        RGB: struct.pack("<IdIIII", 2, 1e6 / FRAME_US, WIDTH, HEIGHT, 3 * WIDTH, 3),
        IMU_RIGHT: struct.pack("<IQd", 0, 0, 1000.0),
        IMU_LEFT: struct.pack("<IQd", 1, 1, 800.0),
        TIME_CODE: struct.pack("<IdII", 1, 1.0, 0, len(mode)) + mode,
    }
    for stream in sorted(streams):
        yield VrsRecord(stream=stream, time_s=5e-324, kind=CONFIGURATION, data=contents[stream])


def imu_record(
    stream: tuple[int, int], t_ns: int, accel: Sequence[float], gyro: Sequence[float]
) -> VrsRecord:
    """One sample of an IMU, stamped late as its calibration says.

    Args:
        stream: `IMU_RIGHT` or `IMU_LEFT`.
        t_ns: device time at which it was taken.
        accel: m/s^2 in the device's axes.
        gyro: rad/s in the device's axes.
    """
    own = (value for sensor in (accel, gyro) for value in _turned(sensor, stream))
    stamp_ns = t_ns + LATE_NS[stream]
    data = struct.pack("<???q6f", True, True, False, stamp_ns, *own)
    return VrsRecord(stream=stream, time_s=stamp_ns / 1e9, kind=DATA, data=data)


def _data() -> Iterator[VrsRecord]:
    for number in range(FRAMES):
        t_ns = BOOT_NS + number * FRAME_US * 1000
        picture = cv2.imencode(".jpg", _frame(number))[1].tobytes()
        yield _stamped(RGB, t_ns, struct.pack("<Qdq", number, 0.004, t_ns) + picture)
    for stream in (IMU_RIGHT, IMU_LEFT):
        rate_hz = RATES_HZ[stream]
        for number in range(round((FRAMES * FRAME_US / 1e6 + 0.1) * rate_hz)):
            since_ns = round(number * 1e9 / rate_hz) - 40_000_000  # it begins before the camera
            yield imu_record(stream, BOOT_NS + since_ns, *_motion(since_ns / 1e9))
    for second in range(8):
        t_ns = BOOT_NS + second * 1_000_000_000
        yield _stamped(TIME_CODE, t_ns, struct.pack("<qq", t_ns, t_ns + 3_600_000_000_000))


def _stamped(stream: tuple[int, int], t_ns: int, data: bytes) -> VrsRecord:
    return VrsRecord(stream=stream, time_s=t_ns / 1e9, kind=DATA, data=data)


def _frame(number: int) -> NDArray[np.uint8]:
    """A soft texture that moves one pixel a frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grey = np.rint(128 + 60 * np.sin((x + number) / 5) * np.cos(y / 7)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _motion(at_s: float) -> tuple[list[float], list[float]]:
    """Accelerometer and gyroscope in the device's axes; at rest x measures -9.81 m/s^2."""
    step = 2 * np.pi * 2.0 * at_s
    return [-9.81 + 2.0 * np.sin(step), 0.5 * np.sin(step / 2), 0.0], [0.0, 0.2 * np.sin(step), 0.3]


def _turned(values: Sequence[float], stream: tuple[int, int]) -> list[float]:
    """Into the IMU's own axes; a half turn is its own inverse."""
    return [value if axis else -value for value, axis in zip(values, TURNS[stream], strict=True)]


def calibration() -> dict[str, object]:
    """Factory calibration as the glasses carry it (`calib_json`), of the IMUs alone."""
    straight = {"Name": "Linear", "RectificationMatrix": np.eye(3).tolist()}
    unbiased = {"Name": "Constant", "Offset": [0.0, 0.0, 0.0]}
    imus = [
        {
            "Accelerometer": {
                "Bias": unbiased,
                "Model": straight,
                "TimeOffsetSec_Device_Accel": LATE_NS[stream] / 1e9,
            },
            "Gyroscope": {
                "Bias": unbiased,
                "Model": straight,
                "TimeOffsetSec_Device_Gyro": LATE_NS[stream] / 1e9,
            },
            "Calibrated": True,
            "Label": label,
            "SerialNumber": label,
            "T_Device_Imu": {
                "Translation": [0.0, 0.0, 0.0],
                "UnitQuaternion": [0.0, list(TURNS[stream])],
            },
        }
        for label, stream in (("imu-right", IMU_RIGHT), ("imu-left", IMU_LEFT))
    ]
    return {
        "DeviceClassInfo": {"BuildVersion": "DVT-S", "DeviceClass": "Aria"},
        "ImuCalibrations": imus,
        "OriginSpecification": {"ChildLabel": "camera-slam-left", "Type": "Custom"},
    }
