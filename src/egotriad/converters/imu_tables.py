"""IMU tables of ours: the true samples of a track in one Parquet file, nothing resampled.

Long form, because the two sensors need not share a clock or a rate: a row is one sample of one
sensor, first all of the accelerometer, then all of the gyroscope, each in the order of the source.

```
sensor  string   accel | gyro
t_us    int64    microseconds on the recording's clock
x y z   double   m/s^2 (accel), rad/s (gyro); NaN where the source has none
```
The file's metadata hold the version, the rate, the units and the reader's notes.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError
from egotriad.manifests.files import atomic, canonical_json

__all__ = ["is_imu_table", "read_imu_table", "write_imu_table"]

VERSION = "1"
KEY = b"egotriad.imu_table"
ROW_GROUP = 1 << 20
SCHEMA = pa.schema(
    [
        pa.field("sensor", pa.string(), nullable=False),
        pa.field("t_us", pa.int64(), nullable=False, metadata={"unit": "us"}),
        *(
            pa.field(
                axis,
                pa.float64(),
                nullable=False,
                metadata={"unit": "accel m/s^2 with gravity, gyro rad/s"},
            )
            for axis in "xyz"
        ),
    ]
)


def write_imu_table(path: Path, track: ImuTrack) -> None:
    """Writes a track, whole or not at all; the same track gives the same bytes."""
    facts = {"version": VERSION, "rate_hz": track.rate_hz, "notes": track.notes}
    schema = SCHEMA.with_metadata({KEY: canonical_json(facts).encode()})
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=["sensor"],
            column_encoding={
                "t_us": "DELTA_BINARY_PACKED",
                **dict.fromkeys("xyz", "BYTE_STREAM_SPLIT"),
            },
            write_page_checksum=True,
        ) as writer,
    ):
        for name, stream in (("accel", track.accel), ("gyro", track.gyro)):
            columns = [np.full(len(stream), name), stream.t_us, *stream.values]
            rows = [
                pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(rows, schema=schema), row_group_size=ROW_GROUP)


def is_imu_table(path: Path) -> bool:
    """Whether a file is a table that `write_imu_table` wrote (of any version)."""
    try:
        return KEY in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def read_imu_table(path: Path) -> ImuTrack:
    """Reads what `write_imu_table` wrote.

    Raises:
        RecordingError: no such file, no such table, a damaged one, or one of another version.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    if not is_imu_table(path):
        raise RecordingError(
            f"{path.name}: no IMU table of egotriad's; for other Parquet files state the columns"
        )
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        facts = json.loads(table.schema.metadata[KEY])
    except (OSError, ValueError, pa.ArrowException) as exc:
        raise RecordingError(f"{path.name}: the table is damaged: {exc}; write it again") from exc
    if facts.get("version") != VERSION:
        raise RecordingError(
            f"{path.name}: IMU table of version {facts.get('version')}, this release reads "
            f"{VERSION}; update egotriad"
        )
    if not table.schema.remove_metadata().equals(SCHEMA.remove_metadata()):
        raise RecordingError(f"{path.name}: other columns than an IMU table has; write it again")
    sensor = table.column("sensor").to_numpy()
    t_us = table.column("t_us").to_numpy()
    values = np.stack([table.column(axis).to_numpy() for axis in "xyz"])
    accel, gyro = (
        SensorStream(t_us[sensor == name], values[:, sensor == name]) for name in ("accel", "gyro")
    )
    return ImuTrack(
        accel=accel, gyro=gyro, rate_hz=float(facts["rate_hz"]), notes=dict(facts["notes"])
    )
