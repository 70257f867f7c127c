"""IMU files -> `ImuTrack`, with true time stamps and nothing repaired in silence."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from egotriad.converters.clock import clock_report
from egotriad.converters.imu_columns import Columns, read_columns
from egotriad.converters.imu_spec import TIME_UNITS, ImuFileSpec
from egotriad.converters.imu_tables import is_imu_table, read_imu_table
from egotriad.converters.imu_units import (
    ACCEL_UNITS,
    GYRO_UNITS,
    check_units,
    measure_units,
    oriented,
)
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError, UsageError, located

__all__ = ["read_ego4d_imu", "read_ego4d_table", "read_imu"]

EGO4D_COLUMNS = (
    "component_idx",
    "component_timestamp_ms",
    "canonical_timestamp_ms",
    "gyro_x",
    "gyro_y",
    "gyro_z",
    "accl_x",
    "accl_y",
    "accl_z",
)
"""Ego4D docs, data/imu.md. Gyroscope in rad/s, accelerometer in m/s^2 with gravity."""

LONGEST_TIME_MS = 1e10
"""Ego4D's docs warn of absurdly large times; ten million seconds is beyond any recording."""
LONGEST_SPAN_US = 1e13
"""Stamps further than ten million seconds from the median one are damage, not time."""


def read_imu(
    path: Path, spec: ImuFileSpec | None = None, *, gyro_path: Path | None = None
) -> ImuTrack:
    """Reads an IMU file of any supported layout.

    Times count from the first sample (what was subtracted is in the notes); samples without a
    usable time or, per sensor, with a missing axis are dropped and counted; order stays that of the
    file. Units are converted to m/s^2 and rad/s and checked against the data.

    Args:
        path: the file.
        spec: its layout (`imu_spec.IMU_SPECS` has public ones); None for files that say
            themselves what they hold: tables of `write_imu_table` and Ego4D's CSV.
        gyro_path: second file, for layouts that keep the sensors apart; `spec.gyro` are columns of
            that file then, and `spec.time` a column of either.

    Raises:
        UsageError: no layout given for a file that does not say what it holds.
        RecordingError: what the file holds contradicts the layout or the units, or cannot be read.
        MissingDependency: the format needs a package that is not installed.
    """
    if spec is None:
        return _self_described(path)
    columns = read_columns(path, spec)
    gyro_columns = columns if gyro_path is None else read_columns(gyro_path, spec)
    accel = _samples(columns, spec, spec.accel, ACCEL_UNITS.get(spec.accel_unit, 1.0))
    gyro = _samples(gyro_columns, spec, spec.gyro, GYRO_UNITS.get(spec.gyro_unit, 1.0))
    with located(path.name):
        return _track(spec, accel, gyro)


def _self_described(path: Path) -> ImuTrack:
    if path.is_file() and path.suffix.lower() == ".parquet" and is_imu_table(path):
        return read_imu_table(path)
    if path.suffix.lower() == ".csv":
        return read_ego4d_imu(path)
    raise UsageError(
        f"{path.name}: does not say what its columns are; state them in an ImuFileSpec (columns, "
        f"units, time or rate)"
    )


def _samples(
    columns: Columns, spec: ImuFileSpec, names: Sequence[str | int], factor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Microseconds (N,), NaN where the file has no time, and values (3, N) in SI units."""
    with np.errstate(over="ignore"):  # what exceeds float64 is infinite, so missing
        values = np.stack([columns[name] for name in names]) * factor
        if spec.time is not None:
            return columns[spec.time] * TIME_UNITS[spec.time_unit], oriented(values, spec.axes)
    number = np.arange(values.shape[1], dtype=np.float64)
    return number * (1e6 / (spec.rate_hz or np.nan)), oriented(values, spec.axes)


def _track(
    spec: ImuFileSpec,
    accel_samples: tuple[NDArray[np.float64], NDArray[np.float64]],
    gyro_samples: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> ImuTrack:
    timed = [_timed(t) for t, _ in (accel_samples, gyro_samples)]
    origin = min(
        float(t[use].min())
        for (t, _), use in zip((accel_samples, gyro_samples), timed, strict=True)
    )
    accel, accel_missing = _stream(*accel_samples, timed[0], origin)
    gyro, gyro_missing = _stream(*gyro_samples, timed[1], origin)
    if min(len(accel), len(gyro)) < 2:
        raise RecordingError(
            f"{len(accel)} complete accelerometer and {len(gyro)} gyroscope samples, need 2 each"
        )
    clock = clock_report(accel)
    if clock.rate_hz is None:
        raise RecordingError(f"time stamps do not advance: {clock}; is {spec.time!r} the time?")
    notes = {
        "imu_clock": f"declared {spec.rate_hz:g} Hz, no time stamps"
        if spec.rate_hz
        else f"column {spec.time!r} in {spec.time_unit}",
        "imu_origin_us": f"{origin:.0f}",
        "imu_accel_unit": spec.accel_unit,
        "imu_gyro_unit": spec.gyro_unit,
        "imu_axes": spec.axes,
        "imu_rows_without_time": str(int((~timed[0]).sum())),
        "imu_accel_missing": str(accel_missing),
        "imu_gyro_missing": str(gyro_missing),
        "imu_fit": str(clock),
    }
    track = ImuTrack(accel=accel, gyro=gyro, rate_hz=clock.rate_hz, notes=notes)
    check_units(measure_units(track), accel_unit=spec.accel_unit, gyro_unit=spec.gyro_unit)
    return track


def _timed(t: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which times are numbers within ten million seconds of the median one."""
    finite = np.isfinite(t)
    if not finite.any():
        raise RecordingError(f"none of {len(t)} rows has a time; is the time column the right one?")
    with np.errstate(invalid="ignore", over="ignore"):
        return finite & (np.abs(t - np.median(t[finite])) <= LONGEST_SPAN_US)


def _stream(
    t: NDArray[np.float64],
    values: NDArray[np.float64],
    timed: NDArray[np.bool_],
    origin: float,
) -> tuple[SensorStream, int]:
    """The complete samples with a time, and how many with a time are not complete."""
    complete = timed & np.isfinite(values).all(axis=0)
    t_us = np.rint(t[complete] - origin).astype(np.int64)
    stream = SensorStream(t_us, np.ascontiguousarray(values[:, complete]))
    return stream, int((timed & ~complete).sum())


def read_ego4d_imu(path: Path) -> ImuTrack:
    """Reads `imu/<video_uid>.csv` of Ego4D on the clock of the canonical video.

    Rows without a canonical time (`NULL` or an empty cell: outside the trimmed video) or with one
    beyond ten million seconds are dropped; so are, per sensor, samples with a missing axis. Rows
    keep their order: back-steps stay back-steps and are cut by whoever resamples. All of it is
    counted in the track's notes.

    Raises:
        RecordingError: no such file, other columns, text among the numbers, no rows, or a sensor
            without samples.
    """
    table = read_ego4d_table(path)
    time_ms = table["canonical_timestamp_ms"].to_numpy()
    timed = np.isfinite(time_ms)
    possible = timed & (np.abs(time_ms, where=timed, out=np.zeros_like(time_ms)) <= LONGEST_TIME_MS)
    if not possible.any():
        raise RecordingError(
            f"{path.name}: none of {len(table)} rows has a usable canonical_timestamp_ms "
            f"({int((~timed).sum())} missing, {int((timed & ~possible).sum())} beyond 1e7 s)"
        )
    t_us = np.rint(time_ms[possible] * 1e3).astype(np.int64)
    rows = table[possible]
    accel, accel_missing = _sensor(path, "accl", rows, t_us)
    gyro, gyro_missing = _sensor(path, "gyro", rows, t_us)
    clock = clock_report(accel)
    if clock.rate_hz is None:
        raise RecordingError(f"{path.name}: canonical_timestamp_ms does not advance: {clock}")
    notes = {
        "imu_clock": "canonical_timestamp_ms",
        "imu_components": str(rows["component_idx"].nunique()),
        "imu_rows": str(len(table)),
        "imu_rows_without_time": str(int((~timed).sum())),
        "imu_rows_with_impossible_time": str(int((timed & ~possible).sum())),
        "imu_accel_missing": str(accel_missing),
        "imu_gyro_missing": str(gyro_missing),
        "imu_back_steps": str(clock.back_steps),
        "imu_duplicate_times": str(clock.resent + clock.spread),
        "imu_gaps": str(clock.gaps),
        "imu_fit": str(clock),
    }
    return ImuTrack(accel=accel, gyro=gyro, rate_hz=clock.rate_hz, notes=notes)


def read_ego4d_table(path: Path) -> pd.DataFrame:
    """All columns of an Ego4D IMU file as float64, `NULL` and empty as NaN, rows as they stand.

    Raises:
        RecordingError: no such file, other columns, text among the numbers, or no rows.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; download the recording's IMU")
    need = sorted(EGO4D_COLUMNS)
    try:
        got = list(pd.read_csv(path, nrows=0).columns)
        if sorted(got) != need:
            raise RecordingError(
                f"{path.name}: not an Ego4D IMU file: got columns {', '.join(map(str, got))}; "
                f"need {', '.join(EGO4D_COLUMNS)}"
            )
        table = pd.read_csv(path, dtype=np.float64)
    except pd.errors.EmptyDataError as exc:
        raise RecordingError(f"{path.name}: the file is empty; download it again") from exc
    except (ValueError, pd.errors.ParserError) as exc:  # ValueError: text among the numbers
        raise RecordingError(f"{path.name}: not a table of numbers: {exc}") from exc
    if not isinstance(table.index, pd.RangeIndex):  # pandas took surplus cells for row names
        raise RecordingError(f"{path.name}: rows have more cells than the header has columns")
    if table.empty:
        raise RecordingError(f"{path.name}: a header and no rows; download it again")
    return table


def _sensor(
    path: Path, prefix: str, rows: pd.DataFrame, t_us: NDArray[np.int64]
) -> tuple[SensorStream, int]:
    """One sensor's complete samples and how many were not."""
    values = rows[[f"{prefix}_{axis}" for axis in "xyz"]].to_numpy().T  # (3, N)
    complete = np.isfinite(values).all(axis=0)
    if complete.sum() < 2:
        raise RecordingError(
            f"{path.name}: {int(complete.sum())} complete {prefix} samples in {len(t_us)} rows, "
            f"need at least 2; this recording has no usable IMU"
        )
    stream = SensorStream(t_us[complete], np.ascontiguousarray(values[:, complete]))
    return stream, int((~complete).sum())
