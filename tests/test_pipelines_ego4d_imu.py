from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.ego4d_imu import read_component_imu
from egotriad.pipelines.ego4d_metadata import Component
from egotriad.pipelines.world_recording import CSV_HEADER

WHOLE = (Component(index=0, start_us=0, end_us=20_000_000),)


def rows(
    *, rate_hz: float = 200.0, start_s: float = 0.0, end_s: float = 20.0
) -> NDArray[np.float64]:
    """A sensor that nods at 0.5 Hz, as nine columns."""
    t = np.arange(start_s, end_s, 1 / rate_hz)
    angle = 0.3 * np.sin(np.pi * t)
    rate = 0.3 * np.pi * np.cos(np.pi * t)
    accel = 9.81 * np.stack([np.sin(angle), 0.01 * np.sin(t), np.cos(angle)])
    gyro = np.stack([0.001 * np.cos(t), -rate, 0.002 * np.sin(3 * t)])
    return np.column_stack([np.zeros_like(t), (t - start_s) * 1e3, t * 1e3, gyro.T, accel.T])


def written(path: Path, table: NDArray[np.float64]) -> Path:
    lines = [",".join("" if np.isnan(v) else f"{v:.7f}" for v in row) for row in table.tolist()]
    path.write_text("\n".join([CSV_HEADER, *lines]) + "\n")
    return path


def defects(
    path: Path, table: NDArray[np.float64], components: tuple[Component, ...] = WHOLE
) -> str:
    track = read_component_imu(written(path, table), duration_us=20_000_000, components=components)
    return track.notes["imu_defects"]


def test_a_clean_file_keeps_its_true_times_and_values(tmp_path: Path) -> None:
    table = rows(rate_hz=201.0)
    track = read_component_imu(
        written(tmp_path / "a.csv", table), duration_us=20_000_000, components=WHOLE
    )
    assert track.notes["imu_defects"] == "none"
    assert track.rate_hz == pytest.approx(201.0, abs=0.001)
    np.testing.assert_allclose(track.accel.t_us, table[:, 2] * 1e3, atol=0.51)
    np.testing.assert_allclose(track.accel.values, table[:, 6:].T, atol=1e-7)
    np.testing.assert_allclose(track.gyro.values, table[:, 3:6].T, atol=1e-7)


def test_two_components_are_told_apart_with_their_rates(tmp_path: Path) -> None:
    first, second = rows(end_s=10.0, rate_hz=200.0), rows(start_s=10.0, rate_hz=201.0)
    second[:, 0] = 1
    parts = (*WHOLE, Component(index=1, start_us=10_000_000, end_us=20_000_000))
    track = read_component_imu(
        written(tmp_path / "a.csv", np.concatenate([first, second])),
        duration_us=20_000_000,
        components=parts,
    )
    lines = track.notes["imu_components"].split("; ")
    assert [line.partition(",")[0] for line in lines] == [
        "component 0: 2000 rows at 200.0000 Hz",
        "component 1: 2010 rows at 201.0000 Hz",
    ]
    assert "rates-differ by 5000 ppm" in track.notes["imu_defects"]


def test_a_rate_that_no_such_sensor_has_is_named(tmp_path: Path) -> None:
    assert (
        defects(tmp_path / "a.csv", rows(rate_hz=100.0)) == "component-rate component 0 at 100.0 Hz"
    )


def test_components_that_the_metadata_does_not_know_are_an_error_that_says_both(
    tmp_path: Path,
) -> None:
    parts = (Component(index=1, start_us=0, end_us=20_000_000),)
    with pytest.raises(
        RecordingError,
        match=r"a\.csv: no-samples: .*\(unknown-component: 4000 rows\); .* has components 1 in 20",
    ):
        defects(tmp_path / "a.csv", rows(), parts)


def test_without_components_in_the_metadata_the_file_stands_for_itself(tmp_path: Path) -> None:
    assert defects(tmp_path / "a.csv", rows(), ()) == "none"


def test_a_known_absence_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"^expired-keys: the keys"):
        read_component_imu(
            tmp_path / "a.csv", duration_us=1, components=(), absence="expired-keys: the keys"
        )
