from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.imu_files import EGO4D_COLUMNS, read_ego4d_imu
from egotriad.manifests.errors import RecordingError

HEADER = ",".join(EGO4D_COLUMNS)


def row(k: int, canonical: str | None = None, accl_x: str = "0.5", gyro_z: str = "0.3") -> str:
    time_ms = repr(k * 1000 / 201.0)
    canonical = time_ms if canonical is None else canonical
    return f"0,{time_ms},{canonical},0.1,0.2,{gyro_z},{accl_x},9.81,0.7"


def written(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_the_docs_own_rate_of_201_hz_is_measured(tmp_path: Path):
    track = read_ego4d_imu(written(tmp_path / "a.csv", [row(k) for k in range(2000)]))
    assert track.rate_hz == pytest.approx(201.0, rel=1e-6)
    assert track.accel.t_us[:3].tolist() == [0, 4975, 9950]
    assert np.array_equal(track.accel.values[:, 0], [0.5, 9.81, 0.7])
    assert np.array_equal(track.gyro.values[:, 0], [0.1, 0.2, 0.3])
    assert track.notes["imu_clock"] == "canonical_timestamp_ms"


def test_null_times_drop_rows_and_missing_values_drop_samples_of_one_sensor(tmp_path: Path):
    rows = [row(k) for k in range(100)]
    rows[0], rows[1] = row(0, canonical="NULL"), row(1, canonical="")
    rows[5] = row(5, accl_x="NULL")
    rows[6], rows[7] = row(6, gyro_z=""), row(7, gyro_z="nan")
    rows[8] = row(8, canonical="99999999999")
    track = read_ego4d_imu(written(tmp_path / "a.csv", rows))
    assert len(track.accel) == 96
    assert len(track.gyro) == 95
    assert track.accel.t_us[0] == 9950
    assert {
        key: track.notes[f"imu_{key}"]
        for key in (
            "rows_without_time",
            "rows_with_impossible_time",
            "accel_missing",
            "gyro_missing",
        )
    } == {
        "rows_without_time": "2",
        "rows_with_impossible_time": "1",
        "accel_missing": "1",
        "gyro_missing": "2",
    }


def test_back_steps_keep_their_order_and_are_counted(tmp_path: Path):
    rows = [row(k) for k in (*range(300), *range(200, 250))]
    track = read_ego4d_imu(written(tmp_path / "a.csv", rows))
    assert np.argmin(np.diff(track.accel.t_us)) == 299
    assert track.notes["imu_back_steps"] == "1"
    assert track.rate_hz == pytest.approx(201.0, rel=1e-6)


def test_columns_may_come_in_any_order(tmp_path: Path):
    order = list(reversed(EGO4D_COLUMNS))
    rows = [",".join(reversed(row(k).split(","))) for k in range(10)]
    track = read_ego4d_imu(written(tmp_path / "a.csv", rows, header=",".join(order)))
    assert track.gyro.values[:, 0].tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.csv: the file is empty"),
        (HEADER + "\n", "a header and no rows"),
        ("time,ax\n1,2\n", "got columns time, ax; need component_idx"),
        (HEADER + ",extra\n" + row(0) + ",1\n", "not an Ego4D IMU file"),
        (HEADER + "\n" + row(0, accl_x="fast") + "\n", "not a table of numbers.*fast"),
        (HEADER + "\n" + row(0) + ",1\n" + row(1) + ",1,1\n", "not a table of numbers"),
        (HEADER + "\n" + row(0) + ",1\n" + row(1) + ",1\n", "more cells than the header"),
        (HEADER + "\n" + row(0, canonical="NULL") + "\n", r"none of 1 rows.*1 missing, 0 beyond"),
        (HEADER + "\n" + row(0, accl_x="") + "\n" + row(1), "1 complete accl samples in 2 rows"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, content: str, message: str):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(RecordingError, match=message):
        read_ego4d_imu(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RecordingError, match="no such file"):
        read_ego4d_imu(tmp_path / "a.csv")


def test_an_all_null_sensor_is_no_imu(tmp_path: Path):
    rows = [row(k, gyro_z="NULL") for k in range(50)]
    with pytest.raises(RecordingError, match="0 complete gyro samples in 50 rows"):
        read_ego4d_imu(written(tmp_path / "a.csv", rows))
