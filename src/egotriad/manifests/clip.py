"""`Clip`: the one datum that travels, from a recording through shards to a report."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import UsageError
from egotriad.manifests.events import Events, Span

__all__ = ["Alignment", "Clip", "Imu", "Narration", "Origin", "Quality", "window_id"]

IMU_ROWS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Imu:
    """Accelerometer and gyroscope on a uniform grid.

    Attributes:
        data: float32 (6, T), rows ax ay az (m/s^2, gravity included) gx gy gz (rad/s). NaN where
            `valid` is False.
        rate_hz: rate of the grid; sample k lies k / rate_hz seconds after the window's start.
        valid: bool (T,), False where the source has no samples (before, after, or inside a gap).
    """

    data: NDArray[np.float32]
    rate_hz: float
    valid: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.data.dtype != np.float32 or self.data.ndim != 2 or self.data.shape[0] != 6:
            raise UsageError(
                f"imu.data: got {self.data.dtype} {self.data.shape}, need float32 (6, T)"
            )
        if self.valid.dtype != np.bool_ or self.valid.shape != self.data.shape[1:]:
            raise UsageError(
                f"imu.valid: got {self.valid.dtype} {self.valid.shape}, "
                f"need bool {self.data.shape[1:]}"
            )
        if not self.rate_hz > 0:
            raise UsageError(f"imu.rate_hz: got {self.rate_hz}, need > 0")

    def __repr__(self) -> str:
        return (
            f"Imu({self.data.shape[1]} samples at {self.rate_hz:g} Hz, "
            f"{self.valid.mean() if self.valid.size else 0:.0%} valid)"
        )

    def same_as(self, other: "Imu") -> bool:
        """Whether both hold the same samples (NaN equals NaN) at the same rate."""
        return (
            self.rate_hz == other.rate_hz
            and np.array_equal(self.valid, other.valid)
            and np.array_equal(self.data, other.data, equal_nan=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Narration:
    """One narration: a point in time and what was written there.

    Attributes:
        t_us: on the recording's clock in a `Recording`, relative to the window in a `Clip`.
        text: cleaned text.
        annotation_pass: which annotator pass it is from (`narration_pass_1`, `user`, ...).
        annotation_id: the source's own id, or an empty string; Ego4D gives one to a whole
            annotation task, so it need not be unique.
        subject: whom it is about, as the annotator marked it: `wearer`, `other`, or an empty string
            where there is no mark.
        unsure: whether the annotator could not name the object or doubted the whole.
        group: number shared by the narrations of one recording that tell the same action at the
            same time (different annotators); None where passes have not been linked.
    """

    t_us: int
    text: str
    annotation_pass: str = ""
    annotation_id: str = ""
    subject: str = ""
    unsure: bool = False
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How the IMU's clock was brought onto the video's.

    Attributes:
        status: hardware | estimated | provided | assumed | unverified.
        offset_us, drift_ppm, score: what was applied, None where nothing was measured.
    """

    status: str
    offset_us: int | None = None
    drift_ppm: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What is known about the trustworthiness of a clip's IMU; None where nothing was measured.

    Attributes:
        imu_gap_fraction: share of the window without samples.
        imu_clip_fraction: share of the samples at the end of a sensor's range.
        imu_score: 1 nothing wrong, 0 useless (`converters.imu_quality`).
        flags: what was found, as short strings that do not change (`imu_quality.FLAGS`).
    """

    imu_gap_fraction: float | None = None
    imu_clip_fraction: float | None = None
    imu_score: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a clip comes from and under which rules.

    Attributes:
        source_version: version of the dataset.
        license_id: licence of the source (`ego4d`, `own`, ...).
        imu_kind: head_acc_gyro | body_acc_gyro | object_acc_ori | orientation_only | per_frame |
            synthetic.
        imu_source_rate_hz: measured rate of the source IMU, None without IMU.
        text_source: human | label | model | llm | none.
        split_group: the exact string that was hashed for the split.
        split_origin: official | hash | single-source.
        sim_id: 16 hex digits naming the event simulator's parameters, None without events.
    """

    source_version: str
    license_id: str
    imu_kind: str
    text_source: str
    split_group: str
    split_origin: str
    imu_source_rate_hz: float | None = None
    sim_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Clip:
    """The data of one window of one recording. Absent is None, never zeros.

    Attributes:
        window_id: `{source}/{recording}/{t_start_us:012d}-{duration_us:09d}`, unique.
        source: name of the dataset.
        recording: id of the recording inside the dataset.
        wearer: id of the person, None when unknown.
        t_start_us: start on the recording's clock (origin: first video frame; else first sample).
        duration_us: length of the window.
        imu: on the window's grid, or None.
        events: times relative to the window, or None when none were synthesised.
        event_spans: where inside the window events were synthesised (sorted; may overlap).
        narration: the text the window is about, or None.
        narrations: every narration inside the window, times relative to it.
        split: train | validation | test.
        window_policy: the rule that laid the window, with every parameter, as canonical JSON
            (`converters.window_policy.WindowPolicy.parse`); empty where no rule did.
        anchor: index in `narrations` of the one the window is about, None without one.
        other_actions: how many actions inside the window differ from the anchor's (all, without an
            anchor).
    """

    window_id: str
    source: str
    recording: str
    wearer: str | None
    t_start_us: int
    duration_us: int
    imu: Imu | None
    events: Events | None
    event_spans: tuple[Span, ...]
    narration: str | None
    narrations: tuple[Narration, ...]
    split: str
    align: Alignment
    qc: Quality = field(default_factory=Quality)
    origin: Origin
    window_policy: str = ""
    anchor: int | None = None
    other_actions: int = 0

    @property
    def ambiguous(self) -> bool:
        """Whether the window is known to show more than the action that `narration` tells."""
        return self.other_actions > 0

    def __repr__(self) -> str:
        return (
            f"Clip({self.window_id}, imu={self.imu!r}, events={self.events!r}, "
            f"{len(self.narrations)} narrations, split={self.split})"
        )


def window_id(source: str, recording: str, t_start_us: int, duration_us: int) -> str:
    """The unique key of a window; sorts by time within a recording."""
    return f"{source}/{recording}/{t_start_us:012d}-{duration_us:09d}"
