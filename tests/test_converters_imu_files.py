import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from egotriad.converters.imu_files import EGO4D_COLUMNS, read_ego4d_imu, read_imu
from egotriad.converters.imu_quality import judge
from egotriad.converters.imu_spec import IMU_SPECS, ImuFileSpec
from egotriad.manifests import ImuTrack
from egotriad.manifests.errors import EgotriadError, MissingDependency, RecordingError, UsageError

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


NAMES = ("t", "ax", "ay", "az", "gx", "gy", "gz")
SPEC = ImuFileSpec(
    time="t",
    time_unit="s",
    accel=("ax", "ay", "az"),
    accel_unit="m/s^2",
    gyro=("gx", "gy", "gz"),
    gyro_unit="rad/s",
)


REST = (0, 9.8, 0, 0.1, 0.2, 0.3)


def samples(count: int = 300, rate_hz: float = 100.0) -> np.ndarray:
    """Rows of time in s, accelerometer at rest, gyroscope (count, 7)."""
    noise = np.random.default_rng(0).standard_normal((count, 6)) * 0.01
    return np.column_stack([100 + np.arange(count) / rate_hz, noise + np.array(REST)])


def as_csv(path: Path, rows: np.ndarray, sep: str = ",") -> Path:
    pd.DataFrame(rows, columns=NAMES).to_csv(path, sep=sep, index=False)
    return path


def test_a_csv_is_read_by_its_stated_columns_from_its_first_sample(tmp_path: Path):
    rows = samples()
    track = read_imu(as_csv(tmp_path / "a.csv", rows), SPEC)
    assert track.accel.t_us[:2].tolist() == [0, 10_000]
    assert track.rate_hz == pytest.approx(100.0, rel=1e-9)
    assert np.allclose(track.accel.values, rows[:, 1:4].T)
    assert np.allclose(track.gyro.values, rows[:, 4:].T)
    assert track.notes["imu_origin_us"] == "100000000"
    assert track.notes["imu_clock"] == "column 't' in s"
    assert track.notes["imu_accel_unit"] == "m/s^2"


def test_units_and_axes_are_converted(tmp_path: Path):
    rows = samples()
    rows[:, 1:4] /= 9.80665
    rows[:, 4:] *= 180 / np.pi
    rows[:, 0] *= 1e3
    spec = replace(SPEC, time_unit="ms", accel_unit="g", gyro_unit="deg/s", axes="XzY")
    track = read_imu(as_csv(tmp_path / "a.csv", rows), spec)
    assert track.accel.values[2].mean() == pytest.approx(-9.8, abs=0.01)
    assert track.gyro.values.mean(axis=1) == pytest.approx((0.1, 0.3, -0.2), abs=0.01)
    assert track.rate_hz == pytest.approx(100.0)
    assert track.notes["imu_axes"] == "XzY"


def written_as(suffix: str, folder: Path, rows: np.ndarray) -> tuple[Path, ImuFileSpec]:
    path, numbers = folder / f"a{suffix}", dict(zip(NAMES, rows.T, strict=True))
    by_number = replace(SPEC, time=0, accel=(1, 2, 3), gyro=(4, 5, 6), header_rows=0)
    match suffix:
        case ".tsv":
            return as_csv(path, rows, sep="\t"), SPEC
        case ".txt":
            np.savetxt(path, rows)
            return path, replace(by_number, delimiter=" ")
        case ".npz":
            np.savez(path, walk=rows, label=np.array("walk"))
            return path, replace(by_number, entry="walk")
        case ".mat":
            savemat(path, {"data": {"imu": {**numbers, "rate": 100}}})
            return path, replace(SPEC, entry="data.imu")
        case ".parquet":
            pd.DataFrame(numbers).to_parquet(path)
            return path, SPEC
        case _:
            series = ":".join(",".join(map(repr, column.tolist())) for column in rows.T)
            path.write_text(f"@problemName p\n@data\n1,2:3,4:a\n{series}:walking\n")
            return path, replace(by_number, entry="1")


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".npz", ".mat", ".parquet", ".ts"])
def test_every_format_gives_the_same_samples(tmp_path: Path, suffix: str):
    rows = samples()
    path, spec = written_as(suffix, tmp_path, rows)
    track = read_imu(path, spec)
    assert np.allclose(track.accel.values, rows[:, 1:4].T)
    assert np.allclose(track.gyro.values, rows[:, 4:].T)
    assert np.array_equal(track.accel.t_us, np.arange(300) * 10_000)


def test_npz_arrays_of_their_own_are_columns_by_name(tmp_path: Path):
    rows = samples()
    np.savez(tmp_path / "a.npz", acc=rows[:, 1:4], gyr=rows[:, 4:], t=rows[:, 0], fs=100)
    spec = replace(SPEC, accel=("acc.0", "acc.1", "acc.2"), gyro=("gyr.0", "gyr.1", "gyr.2"))
    assert np.allclose(read_imu(tmp_path / "a.npz", spec).gyro.values, rows[:, 4:].T)


def test_sensors_in_two_files_keep_their_own_stamps(tmp_path: Path):
    accel, gyro = samples(300, 100.0), samples(600, 200.0)
    for name, rows in (("accel", accel[:, :4]), ("gyro", gyro[:, [0, 4, 5, 6]])):
        np.savetxt(tmp_path / f"{name}.csv", rows, delimiter=",")
    spec = replace(SPEC, time=0, accel=(1, 2, 3), gyro=(1, 2, 3), header_rows=0)
    track = read_imu(tmp_path / "accel.csv", spec, gyro_path=tmp_path / "gyro.csv")
    assert np.array_equal(track.gyro.t_us, np.arange(600) * 5_000)
    assert np.allclose(track.gyro.values, gyro[:, 4:].T)


def test_a_declared_rate_is_stated_as_declared(tmp_path: Path):
    path = as_csv(tmp_path / "a.csv", samples())
    track = read_imu(path, replace(SPEC, time=None, rate_hz=62.5))
    assert track.accel.t_us[:3].tolist() == [0, 16_000, 32_000]
    assert track.notes["imu_clock"] == "declared 62.5 Hz, no time stamps"


def test_missing_values_drop_samples_of_one_sensor_and_bad_times_drop_rows(tmp_path: Path):
    rows = samples()
    rows[10, 1] = rows[20, 4] = rows[21, 5] = np.nan
    rows[30, 0], rows[40, 0] = np.nan, 1e15
    track = read_imu(as_csv(tmp_path / "a.csv", rows), SPEC)
    assert (len(track.accel), len(track.gyro)) == (297, 296)
    assert track.notes["imu_rows_without_time"] == "2"
    assert track.notes["imu_accel_missing"] == "1"
    assert track.notes["imu_gyro_missing"] == "2"
    assert 300_000 not in track.accel.t_us


def test_back_steps_and_repeats_stay_as_they_are(tmp_path: Path):
    rows = samples()
    rows[150:, 0] -= 0.5
    rows[200, 0] = rows[199, 0]
    track = read_imu(as_csv(tmp_path / "a.csv", rows), SPEC)
    assert np.flatnonzero(np.diff(track.accel.t_us) <= 0).tolist() == [149, 199]
    assert "1 back-steps" in track.notes["imu_fit"]


def test_a_wrong_unit_is_refused_with_the_files_name(tmp_path: Path):
    path = as_csv(tmp_path / "a.csv", samples())
    with pytest.raises(RecordingError, match=r"a\.csv: accelerometer: declared g.*declare m/s"):
        read_imu(path, replace(SPEC, accel_unit="g"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delimiter": ";"}, "^a.csv: no column 'ax'.*is the delimiter right"),
        ({"time": 0, "accel": (0, 1, 9), "gyro": (4, 5, 6)}, "7 columns, need number 9"),
        ({"time": "stamp"}, "no column 'stamp'; it has t, ax, ay"),
        ({"header_rows": 0, "time": 0, "accel": (1, 2, 3), "gyro": (4, 5, 6)}, "not numbers"),
    ],
)
def test_a_layout_that_does_not_fit_says_where(tmp_path: Path, change: dict, message: str):
    path = as_csv(tmp_path / "a.csv", samples())
    with pytest.raises(RecordingError, match=message):
        read_imu(path, replace(SPEC, **change))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"t,ax,ay,az,gx,gy,gz\n", "need columns of one length above 0"),
        ("a.csv", b"t,ax,ay,az,gx,gy,gz\n1,2,3,4,5,6,7\n", "1 complete accelerometer and 1"),
        ("a.csv", b"t,ax,ay,az,gx,gy,gz\n" + b"1,2,3,4,5,6,7\n" * 9, "do not advance"),
        ("a.csv", b"t,ax,ay,az,gx,gy,gz\n" + b",2,3,4,5,6,7\n" * 9, "none of 9 rows has a time"),
        ("a.csv", b"\xff\xfe\x00\x01" * 50, "cannot be read as csv"),
        ("a.npz", b"PK\x03\x04 no archive", "cannot be read as npz"),
        ("a.ts", b"@problemName p\n1,2,3\n", "no @data line"),
        ("a.mat", b"MATLAB 7.3" + bytes(200), "mat"),
        ("a.parquet", b"PAR1 nothing PAR1", "cannot be read as parquet"),
        ("a.jpg", b"jpeg", "not an IMU format known here; need one of .csv, .tsv"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, content: bytes, message: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        read_imu(tmp_path / name, SPEC)


def test_pickled_arrays_are_never_loaded(tmp_path: Path):
    np.savez(tmp_path / "a.npz", walk=np.array([{"a": 1}], object))
    with pytest.raises(RecordingError, match=r"cannot be read as npz.*allow_pickle"):
        read_imu(tmp_path / "a.npz", replace(SPEC, entry="walk"))


def test_an_entry_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path):
    for suffix, message in ((".npz", "it has walk, label"), (".mat", "there is imu")):
        path, spec = written_as(suffix, tmp_path, samples())
        with pytest.raises(RecordingError, match=message):
            read_imu(path, replace(spec, entry="data.run" if suffix == ".mat" else "run"))
    path, spec = written_as(".ts", tmp_path, samples())
    with pytest.raises(RecordingError, match="no case number 7"):
        read_imu(path, replace(spec, entry="7"))


def test_aedat4_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(MissingDependency, match=r"pip install 'egotriad\[aedat\]'"):
        read_imu(tmp_path / "a.aedat4", IMU_SPECS["aedat4"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accel_unit": "m/s2"}, "need one of m/s\\^2, g, mg, unknown"),
        ({"gyro_unit": "rpm"}, "need one of rad/s, deg/s"),
        ({"time_unit": "h"}, "need one of s, ms, us, ns"),
        ({"axes": "XYX"}, "need one order of X, Y, Z"),
        ({"time": None}, "need one of the two"),
        ({"rate_hz": 50.0}, "need one of the two"),
        ({"time": None, "rate_hz": -1.0}, "need 0.1 to 100000"),
        ({"header_rows": 3}, "need 0, 1 or 2"),
        ({"accel": ("ax", "ay")}, "three columns each"),
    ],
)
def test_a_layout_that_means_nothing_is_a_usage_error(change: dict, message: str):
    with pytest.raises(UsageError, match=message):
        replace(SPEC, **change)


def test_without_a_layout_only_files_that_explain_themselves_are_read(tmp_path: Path):
    ego4d = written(tmp_path / "a.csv", [row(k) for k in range(100)])
    assert read_imu(ego4d).notes["imu_clock"] == "canonical_timestamp_ms"
    with pytest.raises(UsageError, match="state them in an ImuFileSpec"):
        read_imu(written_as(".npz", tmp_path, samples())[0])


REAL = {
    "hapt": ("real/hapt_phone/RawData/acc_exp01_user01.txt", {}, 20_598, 50.0),
    "mobilise-d": (
        "real/mobgap_lowback/HA_001/data.mat",
        {"entry": "data.TimeMeasure1.Test5.Trial1.SU.LowerBack"},
        1_246,
        100.0,
    ),
    "aedat4": ("real/dvxplorer_imu/sample.aedat4", {}, 475, 805.2),
    "seglearn-watch": ("real/seglearn_watch/watch_exercises.npz", {"entry": "x_024"}, None, 50.0),
    "basicmotions": ("real/basicmotions_watch/BasicMotions_TRAIN.ts", {"entry": "39"}, 100, 10.0),
    "gaitmap-left": ("real/gaitmap_feet/imu_sample_healthy_stair_up.csv", {}, 5_130, 204.8),
}


def real_track(shared: Callable[[str], Path], name: str) -> ImuTrack:
    relative, change, _, _ = REAL[name]
    if name == "aedat4":
        pytest.importorskip("aedat")
    path = shared(relative)
    gyro = path.with_name(path.name.replace("acc_", "gyro_")) if name == "hapt" else None
    return read_imu(path, replace(IMU_SPECS[name], **change), gyro_path=gyro)


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_load_with_their_rates_and_plausible_units(
    shared: Callable[[str], Path], name: str
):
    track = real_track(shared, name)
    _, _, count, rate_hz = REAL[name]
    assert count is None or len(track.accel) == len(track.gyro) == count
    assert track.rate_hz == pytest.approx(rate_hz, rel=1e-4)
    quality = judge(track)
    if name == "basicmotions":
        assert quality.flags == ("unit-unknown",)
    else:
        assert quality.flags == ()
        assert quality.evidence.resting_norm == pytest.approx(9.81, abs=0.8)


def test_real_numbers_are_those_of_the_recordings_descriptions(shared: Callable[[str], Path]):
    phone = real_track(shared, "hapt")
    assert np.linalg.norm(phone.accel.values, axis=0).mean() / 9.80665 == pytest.approx(
        1.039, abs=1e-3
    )
    assert judge(phone).evidence.gravity_gain == pytest.approx(1.0, abs=0.05)
    back = real_track(shared, "mobilise-d")
    assert np.linalg.norm(back.accel.values, axis=0).mean() / 9.80665 == pytest.approx(
        0.989, abs=0.01
    )
    assert back.notes["imu_origin_us"] == "1607605064733000"
    camera = real_track(shared, "aedat4")
    first = camera.accel.values[:, 0] / 9.80665
    assert first == pytest.approx((0.12634, -0.99512, -0.39307), abs=1e-5)
    assert np.rad2deg(camera.gyro.values[:, 0]) == pytest.approx(
        (0.41199, 0.07629, -0.41199), abs=1e-5
    )


def test_all_watch_exercises_and_motions_are_read(shared: Callable[[str], Path]):
    path = shared("real/seglearn_watch/watch_exercises.npz")
    for k in range(0, 84, 7):
        track = read_imu(path, replace(IMU_SPECS["seglearn-watch"], entry=f"x_{k:03d}"))
        assert judge(track).flags == ()
    path = shared("real/basicmotions_watch/BasicMotions_TRAIN.ts")
    for k in range(40):
        assert len(read_imu(path, replace(IMU_SPECS["basicmotions"], entry=str(k))).accel) == 100


@pytest.mark.parametrize("name", REAL)
def test_damaged_copies_of_real_files_are_read_or_refused_in_words(
    shared: Callable[[str], Path], tmp_path: Path, name: str
):
    if name == "aedat4":
        pytest.importorskip("aedat")
    relative, change, _, _ = REAL[name]
    whole, spec = shared(relative).read_bytes(), replace(IMU_SPECS[name], **change)
    rng = np.random.default_rng(0)
    path = tmp_path / f"damaged{Path(relative).suffix}"
    outcomes = set()
    for trial in range(12):
        data = bytearray(whole)
        if trial % 3 == 0:
            data = data[: int(rng.integers(len(data)))]
        else:
            reach = 2000 if trial % 3 == 1 else len(data)
            for place in rng.integers(0, reach, 40).tolist():
                data[place] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            outcomes.add(read_imu(path, spec).notes["imu_axes"])
        except EgotriadError as exc:
            outcomes.add(str(exc).split(":")[0])
    assert outcomes <= {"XYZ", path.name}
    assert path.name in outcomes


cells = st.sampled_from(
    ["", "nan", "inf", "1e308", "-1e308", "1e9", "0", "x", "1,2", "9.8", "\x00"]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(cells, min_size=5, max_size=8), max_size=6), st.integers(0, 200))
def test_whatever_the_cells_hold_there_is_a_track_or_a_message(
    tmp_path: Path, odd: list[list[str]], good: int
):
    lines = [",".join(NAMES)]
    lines += [",".join(map(repr, line)) for line in samples(good).tolist()]
    lines += [",".join(line) for line in odd]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    try:
        track = read_imu(path, SPEC)
    except RecordingError:
        return
    judge(track)
