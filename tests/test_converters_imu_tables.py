import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egotriad.converters.imu_files import read_imu
from egotriad.converters.imu_tables import is_imu_table, read_imu_table, write_imu_table
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError


def stream(count: int, seed: int) -> SensorStream:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((3, count))
    values[0, count // 2] = np.nan
    # In the order of the source: steps back included.
    return SensorStream(rng.integers(-(10**15), 10**15, count), values)


@pytest.fixture
def track() -> ImuTrack:
    return ImuTrack(
        accel=stream(1000, 0),
        gyro=stream(3217, 1),
        rate_hz=197.45,
        notes={"imu_device": "Kamera Süd", "imu_axes": "XzY"},
    )


def same(a: SensorStream, b: SensorStream) -> bool:
    return np.array_equal(a.t_us, b.t_us) and np.array_equal(a.values, b.values, equal_nan=True)


def test_a_track_comes_back_as_it_was(tmp_path: Path, track: ImuTrack):
    path = tmp_path / "deep" / "imu.parquet"
    write_imu_table(path, track)
    back = read_imu_table(path)
    assert same(back.accel, track.accel)
    assert same(back.gyro, track.gyro)
    assert (back.rate_hz, back.notes) == (track.rate_hz, track.notes)
    assert same(read_imu(path).gyro, track.gyro)
    assert [p.name for p in path.parent.iterdir()] == ["imu.parquet"]


def test_the_same_track_gives_the_same_bytes(tmp_path: Path, track: ImuTrack):
    for name in ("a", "b"):
        write_imu_table(tmp_path / name, track)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_others_can_read_units_and_samples(tmp_path: Path, track: ImuTrack):
    write_imu_table(tmp_path / "imu.parquet", track)
    table = pq.read_table(tmp_path / "imu.parquet")
    assert table.column_names == ["sensor", "t_us", "x", "y", "z"]
    assert table.schema.field("t_us").metadata[b"unit"] == b"us"
    assert b"gyro rad/s" in table.schema.field("x").metadata[b"unit"]
    assert table.column("sensor").to_pylist() == ["accel"] * 1000 + ["gyro"] * 3217


def test_a_track_without_samples_is_a_table_without_rows(tmp_path: Path):
    nothing = SensorStream(np.empty(0, np.int64), np.empty((3, 0)))
    empty = ImuTrack(accel=nothing, gyro=nothing, rate_hz=1.0, notes={})
    write_imu_table(tmp_path / "imu.parquet", empty)
    assert len(read_imu_table(tmp_path / "imu.parquet").gyro) == 0


def test_other_files_are_no_imu_tables(tmp_path: Path, track: ImuTrack):
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    text = tmp_path / "text.parquet"
    text.write_text("no parquet")
    for path in (other, text):
        assert not is_imu_table(path)
        with pytest.raises(RecordingError, match="no IMU table of egotriad's"):
            read_imu_table(path)
    with pytest.raises(RecordingError, match="no such file"):
        read_imu_table(tmp_path / "absent.parquet")


def test_damage_and_other_versions_are_named(tmp_path: Path, track: ImuTrack):
    path = tmp_path / "imu.parquet"
    write_imu_table(path, track)
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"egotriad.imu_table"]) | {"version": "9"}
    newer = table.replace_schema_metadata({b"egotriad.imu_table": json.dumps(facts).encode()})
    pq.write_table(newer, tmp_path / "newer.parquet")
    with pytest.raises(RecordingError, match="version 9, this release reads 1"):
        read_imu_table(tmp_path / "newer.parquet")
    pq.write_table(table.drop_columns(["z"]), tmp_path / "less.parquet")
    with pytest.raises(RecordingError, match="other columns"):
        read_imu_table(tmp_path / "less.parquet")
    damaged = bytearray(path.read_bytes())
    damaged[2000] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(RecordingError, match="the table is damaged"):
        read_imu_table(path)
