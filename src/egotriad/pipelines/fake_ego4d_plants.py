"""Defects of Ego4D's files, one function each: what the docs and users report, at known places."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLANTS", "Draft"]

TIME, COMPONENT_TIME = 2, 1
GYRO, ACCEL = slice(3, 6), slice(6, 9)
FROM_MS, TO_MS = 10_000.0, 10_600.0
"""Where in the video most defects lie."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """The files of one video before they are written; a plant changes them in place.

    Attributes:
        uid: its uid.
        header: of the IMU file.
        rows: float64 (N, 9), NaN where the file says NULL.
        video: the mp4's bytes.
        entry: in ego4d.json.
        narrations: (seconds, text, annotation uid).
        has_csv: whether there is an IMU file at all.
    """

    uid: str
    header: list[str]
    rows: NDArray[np.float64]
    video: bytes = field(repr=False)
    entry: dict[str, Any] = field(repr=False)
    narrations: list[tuple[float, str, str]]
    has_csv: bool = True

    def between(self, start_ms: float = FROM_MS, end_ms: float = TO_MS) -> NDArray[np.bool_]:
        """Which rows lie in a stretch of canonical time, bool (N,)."""
        t = self.rows[:, TIME]
        return np.asarray((t >= start_ms) & (t < end_ms))


def _null_time(draft: Draft) -> None:
    draft.rows[draft.between(), TIME] = np.nan


def _impossible_time(draft: Draft) -> None:
    draft.rows[[500, 900, 1300], TIME] = [1.6e15, -1.6e15, 4e12]


def _outside_video(draft: Draft) -> None:
    late = draft.rows[-40:].copy()
    late[:, [COMPONENT_TIME, TIME]] += 30_000.0
    draft.rows = np.concatenate([draft.rows, late])


def _null_accel(draft: Draft) -> None:
    draft.rows[draft.between(), ACCEL] = np.nan


def _null_gyro(draft: Draft) -> None:
    draft.rows[draft.between(), GYRO] = np.nan


def _duplicate_time(draft: Draft) -> None:
    draft.rows = np.repeat(draft.rows, np.where(draft.between(), 2, 1), axis=0)


def _back_step(draft: Draft) -> None:
    draft.rows[draft.rows[:, TIME] >= FROM_MS, TIME] -= 300.0


def _gap(draft: Draft) -> None:
    draft.rows = draft.rows[~draft.between()]


def _unknown_component(draft: Draft) -> None:
    draft.rows[draft.between(), 0] = 7


def _missing_component(draft: Draft) -> None:
    _two_components(draft)
    draft.rows = draft.rows[draft.rows[:, 0] == 0]


def _two_components(draft: Draft) -> None:
    """Nothing wrong: two camera files, whose times each start anew."""
    whole = draft.entry["video_components"][0]
    half_s = whole["canonical_video_end_sec"] // 2
    first = whole | {"canonical_video_end_sec": half_s}
    second = whole | {"component_idx": 1, "canonical_video_start_sec": half_s}
    draft.entry["video_components"] = [second, first]
    later = draft.rows[:, TIME] >= half_s * 1e3
    draft.rows[later, 0] = 1
    draft.rows[later, COMPONENT_TIME] -= half_s * 1e3


def _offset_varies(draft: Draft) -> None:
    draft.rows[draft.rows[:, TIME] >= FROM_MS, COMPONENT_TIME] += 40.0


def _identical_columns(draft: Draft) -> None:
    draft.rows[:, 7] = draft.rows[:, 8]


def _accel_in_g(draft: Draft) -> None:
    draft.rows[:, ACCEL] /= 9.80665


def _wrong_columns(draft: Draft) -> None:
    draft.header = [name.replace("accl", "acc") for name in draft.header]


def _empty_csv(draft: Draft) -> None:
    draft.rows = draft.rows[:0]


def _all_null(draft: Draft) -> None:
    draft.rows[:, TIME] = np.nan


def _late_clock(draft: Draft) -> None:
    """The IMU's stamps are 0.4 s too large (facebookresearch/Ego4d#158)."""
    draft.rows[:, TIME] += 400.0


def _no_imu(draft: Draft) -> None:
    draft.entry |= {"has_imu": False, "imu_metadata": None}
    draft.has_csv = False


def _promised_imu(draft: Draft) -> None:
    """The metadata claims an IMU, and there is no file."""
    draft.has_csv = False


def _no_narration(draft: Draft) -> None:
    draft.narrations = []


def _redacted(draft: Draft) -> None:
    draft.entry |= {
        "has_redacted_regions": True,
        "redacted_intervals": [
            {
                "start_sec": FROM_MS / 1e3,
                "end_sec": 12.0,
                "start_frame": round(FROM_MS * 0.03),
                "end_frame": 360,
            }
        ],
    }


def _no_duration(draft: Draft) -> None:
    draft.entry |= {"duration_sec": None, "video_metadata": None}


def _cut_video(draft: Draft) -> None:
    """An interrupted copy: the index at the end is gone."""
    draft.video = draft.video[: len(draft.video) // 2]


def _damaged_video(draft: Draft) -> None:
    """The container is whole, the pictures in its middle are not."""
    size = len(draft.video)
    damaged = bytearray(draft.video)
    damaged[size // 3 : size // 2] = bytes(size // 2 - size // 3)
    draft.video = bytes(damaged)


def _short_video(draft: Draft) -> None:
    """The metadata claims four hours (facebookresearch/Ego4d#401)."""
    draft.entry["duration_sec"] = 14_400.0


PLANTS: dict[str, Callable[[Draft], None]] = {
    "null-time": _null_time,
    "impossible-time": _impossible_time,
    "outside-video": _outside_video,
    "null-accel": _null_accel,
    "null-gyro": _null_gyro,
    "duplicate-time": _duplicate_time,
    "back-step": _back_step,
    "gap": _gap,
    "unknown-component": _unknown_component,
    "missing-component": _missing_component,
    "two-components": _two_components,
    "offset-varies": _offset_varies,
    "identical-columns": _identical_columns,
    "accel-in-g": _accel_in_g,
    "wrong-columns": _wrong_columns,
    "empty-csv": _empty_csv,
    "all-null": _all_null,
    "late-clock": _late_clock,
    "no-imu": _no_imu,
    "promised-imu": _promised_imu,
    "no-narration": _no_narration,
    "redacted": _redacted,
    "no-duration": _no_duration,
    "cut-video": _cut_video,
    "damaged-video": _damaged_video,
    "short-video": _short_video,
}
