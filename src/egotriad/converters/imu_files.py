"""IMU files of datasets -> `ImuTrack`, with true time stamps and nothing repaired in silence."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from egotriad.converters.clock import count_faults, fit_rate, longest_segment
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError

__all__ = ["read_ego4d_imu"]

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
FAULT_GAP_US = 50_000


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
    table = _read_table(path)
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
    steady = longest_segment(accel.t_us, longest_gap_us=FAULT_GAP_US)
    fit = fit_rate(accel.t_us[steady])
    faults = count_faults(t_us, longest_gap_us=FAULT_GAP_US)
    notes = {
        "imu_clock": "canonical_timestamp_ms",
        "imu_components": str(rows["component_idx"].nunique()),
        "imu_rows": str(len(table)),
        "imu_rows_without_time": str(int((~timed).sum())),
        "imu_rows_with_impossible_time": str(int((timed & ~possible).sum())),
        "imu_accel_missing": str(accel_missing),
        "imu_gyro_missing": str(gyro_missing),
        "imu_back_steps": str(faults.back_steps),
        "imu_duplicate_times": str(faults.duplicates),
        "imu_gaps": str(faults.gaps),
        "imu_fit": f"{fit.rate_hz:.4f} Hz, residual {fit.residual_us:.0f} us, "
        f"{fit.outliers} outliers of {steady.stop - steady.start}",
    }
    return ImuTrack(accel=accel, gyro=gyro, rate_hz=fit.rate_hz, notes=notes)


def _read_table(path: Path) -> pd.DataFrame:
    """All columns as float64, `NULL` and empty as NaN."""
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
