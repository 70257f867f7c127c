"""IMU of one Ego4D video: `imu/<uid>.csv` against what the metadata says of its components.

What the docs (data/imu.md) and users report of these files is looked for by name. What makes a
sensor useless is an error; rows without a usable place on the video's clock are dropped; everything
else stays as it is (whoever resamples cuts at back-steps and masks gaps). All of it is counted in
the track's note `imu_defects`, or in the error, under these names:

    null-time, impossible-time, outside-video, unknown-component     rows, dropped
    null-accel, null-gyro                                            samples, dropped per sensor
    duplicate-time, back-step, gap                                   left in place
    missing-component, offset-varies, component-rate, rates-differ   of components
    identical-columns, wrong-unit, no-samples, broken-imu            errors
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from egotriad.converters.clock import ClockReport, clock_report
from egotriad.converters.imu_files import read_ego4d_table
from egotriad.converters.imu_units import check_units, measure_units
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.ego4d_metadata import Component

__all__ = ["read_component_imu"]

OUTSIDE_US = 100_000
"""Samples further than this outside the video are not its samples."""
LONGEST_TIME_MS = 1e10
IDENTICAL_SHARE = 0.99
LEAST_SAMPLES = 100
RATES_HZ = (150.0, 450.0)
"""GoPro's sensors run at 200 or 400 Hz, give or take; docs and loaders assume 198 to 202."""
OFFSET_VARIES_US = 1000
RATES_DIFFER_PPM = 1000.0

Defects = dict[str, str]


def read_component_imu(
    path: Path, *, duration_us: int, components: Sequence[Component], absence: str = ""
) -> ImuTrack:
    """Reads an IMU file of Ego4D on the clock of its canonical video.

    Args:
        path: the csv file.
        duration_us: length of the canonical video.
        components: of the video, by the metadata; empty where it does not say.
        absence: why there is no such file, where that is known; then nothing is read.

    Raises:
        RecordingError: the file is missing, malformed, or a sensor in it is useless.
    """
    if absence:
        raise RecordingError(absence)
    try:
        table = read_ego4d_table(path)
    except RecordingError as exc:
        raise RecordingError(f"broken-imu: {exc}") from exc
    defects: Defects = {}
    rows = _placed(path, table, duration_us, components, defects)
    t_us = _microseconds(rows["canonical_timestamp_ms"])
    accel = _sensor(path, "accl", rows, t_us, defects)
    gyro = _sensor(path, "gyro", rows, t_us, defects)
    clock = clock_report(accel)
    if clock.rate_hz is None:
        raise RecordingError(f"{path.name}: canonical_timestamp_ms does not advance: {clock}")
    _count_clock(clock, accel.t_us, defects)
    notes = {
        "imu_clock": "canonical_timestamp_ms",
        "imu_rows": str(len(table)),
        "imu_components": "; ".join(_component_lines(rows, t_us, components, defects)),
        "imu_fit": str(clock),
        "imu_defects": "; ".join(f"{name} {what}" for name, what in sorted(defects.items()))
        or "none",
    }
    track = ImuTrack(accel=accel, gyro=gyro, rate_hz=clock.rate_hz, notes=notes)
    try:
        check_units(measure_units(track), accel_unit="m/s^2", gyro_unit="rad/s")
    except RecordingError as exc:
        raise RecordingError(f"{path.name}: wrong-unit: {exc}") from exc
    return track


def _placed(
    path: Path,
    table: pd.DataFrame,
    duration_us: int,
    components: Sequence[Component],
    defects: Defects,
) -> pd.DataFrame:
    """The rows that have a place on the video's clock."""
    time_ms = table["canonical_timestamp_ms"].to_numpy()
    timed = np.isfinite(time_ms)
    near = np.where(timed, time_ms, 0.0)
    possible = timed & (np.abs(near) <= LONGEST_TIME_MS)
    low_ms, high_ms = -OUTSIDE_US / 1e3, (duration_us + OUTSIDE_US) / 1e3
    inside = possible & (near >= low_ms) & (near <= high_ms)
    known = np.ones(len(table), bool)
    if components:
        known = np.isin(table["component_idx"].to_numpy(), [part.index for part in components])
    for name, dropped in (
        ("null-time", ~timed),
        ("impossible-time", timed & ~possible),
        ("outside-video", possible & ~inside),
        ("unknown-component", inside & ~known),
    ):
        if dropped.any():
            defects[name] = f"{int(dropped.sum())} rows"
    if not (inside & known).any():
        found = ", ".join(f"{name}: {what}" for name, what in sorted(defects.items()))
        raise RecordingError(
            f"{path.name}: no-samples: none of {len(table)} rows has a place on the video's clock "
            f"({found}); the metadata has components "
            f"{', '.join(str(part.index) for part in components) or '(none)'} in "
            f"{duration_us / 1e6:.3f} s"
        )
    return table[inside & known]


def _microseconds(column: pd.Series) -> NDArray[np.int64]:
    return np.rint(column.to_numpy() * 1e3).astype(np.int64)


def _sensor(
    path: Path, prefix: str, rows: pd.DataFrame, t_us: NDArray[np.int64], defects: Defects
) -> SensorStream:
    """One sensor's complete samples.

    Raises:
        RecordingError: there are hardly any, or two of its columns are the same.
    """
    values = rows[[f"{prefix}_{axis}" for axis in "xyz"]].to_numpy().T  # (3, N)
    complete = np.isfinite(values).all(axis=0)
    if complete.sum() < 2:
        raise RecordingError(
            f"{path.name}: no-samples: {int(complete.sum())} complete {prefix} samples in "
            f"{len(t_us)} rows, need at least 2; this recording has no usable IMU"
        )
    if not complete.all():
        name = "null-accel" if prefix == "accl" else "null-gyro"
        defects[name] = f"{int((~complete).sum())} samples"
    values = np.ascontiguousarray(values[:, complete])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        same = float(np.mean(values[first] == values[second]))
        if same > IDENTICAL_SHARE and values.shape[1] >= LEAST_SAMPLES:
            raise RecordingError(
                f"{path.name}: identical-columns: {prefix}_{'xyz'[first]} and "
                f"{prefix}_{'xyz'[second]} hold the same values in {same:.1%} of "
                f"{values.shape[1]} rows; this recording has no usable IMU"
            )
    return SensorStream(t_us[complete], values)


def _count_clock(clock: ClockReport, t_us: NDArray[np.int64], defects: Defects) -> None:
    steps = np.diff(t_us)
    if clock.resent + clock.spread:
        defects["duplicate-time"] = f"{clock.resent + clock.spread} samples"
    if clock.back_steps:
        defects["back-step"] = f"{clock.back_steps}, largest {-steps.min() / 1e3:.1f} ms"
    if clock.gaps:
        defects["gap"] = f"{clock.gaps}, largest {steps.max() / 1e3:.1f} ms"


def _component_lines(
    rows: pd.DataFrame,
    t_us: NDArray[np.int64],
    components: Sequence[Component],
    defects: Defects,
) -> Iterator[str]:
    """One line on each component; what is wrong with them goes into `defects`."""
    index = rows["component_idx"].to_numpy()
    starts = {part.index: part.start_us for part in components}
    rates: dict[int, float] = {}
    varying: list[str] = []
    for number in sorted(set(index.tolist()) | starts.keys()):
        mine = index == number
        if not mine.any():
            continue
        name = f"component {number:.0f}"
        own_us = rows["component_timestamp_ms"].to_numpy()[mine] * 1e3
        offsets = (t_us[mine] - own_us)[np.isfinite(own_us)]
        line = f"{name}: {int(mine.sum())} rows"
        clock = clock_report(SensorStream(t_us[mine], np.zeros((3, int(mine.sum())))))
        if clock.rate_hz is not None:
            rates[int(number)] = clock.rate_hz
            line += f" at {clock.rate_hz:.4f} Hz"
        if len(offsets):
            spread_us = float(offsets.max() - offsets.min())
            line += f", {(float(np.median(offsets)) - (starts.get(number) or 0)) / 1e3:+.3f} ms"
            line += " from its video's start"
            if spread_us > OFFSET_VARIES_US:
                varying.append(f"{name} by {spread_us / 1e3:.1f} ms")
        yield line
    present = {int(number) for number in set(index.tolist())}
    _judge_components(present, starts, rates, varying, defects)


def _judge_components(
    present: set[int],
    starts: dict[int, int | None],
    rates: dict[int, float],
    varying: list[str],
    defects: Defects,
) -> None:
    found = {
        "missing-component": [str(number) for number in sorted(starts.keys() - present)],
        "offset-varies": varying,
        "component-rate": [
            f"component {number} at {rate:.1f} Hz"
            for number, rate in sorted(rates.items())
            if not RATES_HZ[0] <= rate <= RATES_HZ[1]
        ],
    }
    if len(rates) > 1:
        apart = (max(rates.values()) / min(rates.values()) - 1) * 1e6
        found["rates-differ"] = [f"by {apart:.0f} ppm"] if apart > RATES_DIFFER_PPM else []
    defects.update({name: ", ".join(which) for name, which in found.items() if which})
