"""Where the columns of an IMU file are and what they mean: stated, never guessed."""

from dataclasses import dataclass
from types import MappingProxyType

from egotriad.converters.imu_units import ACCEL_UNITS, GYRO_UNITS, UNKNOWN
from egotriad.manifests.errors import UsageError

__all__ = ["IMU_SPECS", "TIME_UNITS", "ImuFileSpec"]

TIME_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
"""Factors to microseconds."""

Column = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuFileSpec:
    """Layout of an IMU file.

    A column is named by its heading, or by its number from 0. Headings in two rows are joined by a
    dot (`left_sensor.acc_x`).

    Attributes:
        accel, gyro: the three columns of each sensor, in the stored order.
        accel_unit: m/s^2 | g | mg | unknown.
        gyro_unit: rad/s | deg/s | mdeg/s | unknown. Unknown units are taken as they are, and every
            window says so (`unit-unknown`).
        time: column of time stamps, None where the file has none.
        time_unit: s | ms | us | ns.
        rate_hz: declared rate of a file without time stamps.
        axes: axis of each stored channel, lower case for a flipped sign (`imu_units.oriented`).
        header_rows: rows of headings, 0 for none (text files).
        delimiter: between cells; a space stands for any white space (text files).
        entry: which series of a file that holds several: a key (npz), the number of a case (ts), a
            path of fields with dots (mat).
    """

    accel: tuple[Column, Column, Column]
    gyro: tuple[Column, Column, Column]
    accel_unit: str
    gyro_unit: str
    time: Column | None = None
    time_unit: str = "s"
    rate_hz: float | None = None
    axes: str = "XYZ"
    header_rows: int = 1
    delimiter: str = ","
    entry: str = ""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("accel_unit", self.accel_unit, [*ACCEL_UNITS, UNKNOWN]),
            ("gyro_unit", self.gyro_unit, [*GYRO_UNITS, UNKNOWN]),
            ("time_unit", self.time_unit, [*TIME_UNITS]),
        ):
            if value not in known:
                raise UsageError(f"{name}: got {value!r}, need one of {', '.join(known)}")
        if sorted(self.axes.upper()) != ["X", "Y", "Z"]:
            raise UsageError(f"axes: got {self.axes!r}, need one order of X, Y, Z, e.g. 'XzY'")
        if (self.time is None) == (self.rate_hz is None):
            raise UsageError(
                f"IMU file: got time column {self.time!r} and rate {self.rate_hz}, need one of "
                f"the two: stamps where the file has them, else the declared rate"
            )
        if self.rate_hz is not None and not 0.1 <= self.rate_hz <= 100_000:
            raise UsageError(f"rate_hz: got {self.rate_hz}, need 0.1 to 100000")
        if len(self.accel) != 3 or len(self.gyro) != 3:
            raise UsageError("accel, gyro: need three columns each")
        if self.header_rows not in (0, 1, 2):
            raise UsageError(f"header_rows: got {self.header_rows}, need 0, 1 or 2")


def _in_order(**options: object) -> ImuFileSpec:
    """Accelerometer in columns 0 to 2, gyroscope in 3 to 5."""
    return ImuFileSpec(accel=(0, 1, 2), gyro=(3, 4, 5), **options)  # type: ignore[arg-type]


IMU_SPECS = MappingProxyType(
    {
        # UCI Smartphone-Based Recognition of Human Activities and Postural Transitions 2.1,
        # RawData: two files a recording, g and rad/s, 50 Hz, no time stamps.
        "hapt": ImuFileSpec(
            accel=(0, 1, 2),
            gyro=(0, 1, 2),
            accel_unit="g",
            gyro_unit="rad/s",
            rate_hz=50.0,
            header_rows=0,
            delimiter=" ",
        ),
        # Mobilise-D data.mat: 100 Hz, UNIX seconds. Give `entry` as far as the sensor, e.g.
        # data.TimeMeasure1.Test5.Trial1.SU.LowerBack.
        "mobilise-d": ImuFileSpec(
            accel=("Acc.0", "Acc.1", "Acc.2"),
            gyro=("Gyr.0", "Gyr.1", "Gyr.2"),
            accel_unit="g",
            gyro_unit="deg/s",
            time="Timestamp",
        ),
        # iniVation AEDAT4 (DVXplorer): microseconds on the clock of the events.
        "aedat4": ImuFileSpec(
            accel=("accelerometer_x", "accelerometer_y", "accelerometer_z"),
            gyro=("gyroscope_x", "gyroscope_y", "gyroscope_z"),
            accel_unit="g",
            gyro_unit="deg/s",
            time="t",
            time_unit="us",
        ),
        # seglearn's watch exercises (Burns et al. 2018) in one npz; entry x_000 and so on.
        "seglearn-watch": _in_order(accel_unit="g", gyro_unit="rad/s", rate_hz=50.0),
        # UEA BasicMotions (.ts): the archive states no units; entry is the number of the case.
        "basicmotions": _in_order(accel_unit=UNKNOWN, gyro_unit=UNKNOWN, rate_hz=10.0),
        # gaitmap's and Portabiles' CSV with two rows of headings; for the other foot replace
        # `left_sensor` in the column names.
        "gaitmap-left": ImuFileSpec(
            accel=("left_sensor.acc_x", "left_sensor.acc_y", "left_sensor.acc_z"),
            gyro=("left_sensor.gyr_x", "left_sensor.gyr_y", "left_sensor.gyr_z"),
            accel_unit="m/s^2",
            gyro_unit="deg/s",
            time=0,
            header_rows=2,
        ),
    }
)
"""Layouts of public formats; `dataclasses.replace` changes what differs (entry, rate, columns)."""
