"""From what was measured to what may be claimed: the verdict, and its reasons in plain words."""

from dataclasses import dataclass

import numpy as np

from egotriad.converters.sync_fit import Fit
from egotriad.converters.sync_scan import Peak
from egotriad.converters.sync_stretches import Stretches
from egotriad.converters.sync_witness import Witness
from egotriad.converters.video_rotation import CameraRotation

__all__ = [
    "Findings",
    "believable",
    "certain",
    "judge_fit",
    "why_no_motion",
    "why_no_peak",
]

LEAST_CONTRAST = 2.0
"""Any other offset must leave twice the variance unexplained; the correlation is then 0.71 or more,
which a part of the recording with another offset still allows (`sync_stretches` finds it)."""
LEAST_CORRELATION = 0.92
LEAST_INFORMED = 3.0
"""Stretches of 2 s with motion: a single turn leaves offset, drift of the bias and distortion of
the lens open."""
LEAST_GAIN = 0.6
"""Of fast rotation in the picture over that of the gyroscope; stabilised footage keeps the slow."""
STILL_RAD_S = 0.03
DARK_LEVEL = 24.0
FEW_CORNERS = 12.0
STRAY_SHARE = 0.2
LEAST_MEASURED = 0.5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Findings:
    """What a fit rests on and what speaks against it.

    Attributes:
        fit: of the measured segments.
        stretches: whether it holds all through.
        gain: of fast rotation in the picture (`sync_stabilised`).
        largest_offset_us: at either end of any measured segment, drift included.
        interval_us: half width of the 95 % interval there, of the least certain one.
        measured_share: share of the IMU's time that lies in measured segments.
        witness: what the event rate says.
    """

    fit: Fit
    stretches: Stretches
    gain: float
    largest_offset_us: float
    interval_us: float
    measured_share: float
    witness: Witness


def believable(peak: Peak | None) -> bool:
    """Whether a coarse peak stands out enough to be refined."""
    return peak is not None and not peak.at_edge and peak.contrast >= LEAST_CONTRAST


def certain(fit: Fit, segment: int, tolerance_us: float) -> bool:
    """Whether the offset of a segment rests on enough motion and is known to the tolerance."""
    enough = fit.informed[segment] >= LEAST_INFORMED
    return bool(enough and fit.interval_us[segment] <= tolerance_us)


def why_no_motion(rotation: CameraRotation) -> str:
    """Why hardly any frame pair tells a rotation."""
    brightness, corners = float(np.median(rotation.brightness)), float(np.median(rotation.corners))
    if corners >= FEW_CORNERS:
        return (
            "the picture does not move as one (its corners cannot be followed); "
            "another part of the recording may do better"
        )
    seen = f"{corners:.0f} corners to follow in the median frame, need {FEW_CORNERS:.0f}"
    if brightness < DARK_LEVEL:
        return f"the video is too dark (mean grey level {brightness:.0f} of 255): {seen}"
    return f"the picture has no texture to follow: {seen}"


def why_no_peak(peak: Peak | None, camera_rad_s: float, gyro_rad_s: float, search_us: int) -> str:
    """Why no offset makes camera and gyroscope agree.

    Args:
        peak: the best there is.
        camera_rad_s: rms of the camera's rotation faster than half a second.
        gyro_rad_s: of the gyroscope's.
        search_us: how far was searched.
    """
    reach = f"within {search_us / 1e6:g} s"
    if peak is None:
        return f"IMU and video have hardly any time in common {reach}"
    if gyro_rad_s < STILL_RAD_S:
        return (
            f"the head hardly turns ({gyro_rad_s:.3f} rad/s of fast rotation, need "
            f"{STILL_RAD_S:g}): nothing to align by"
        )
    if camera_rad_s < LEAST_GAIN * gyro_rad_s / 2:
        return (
            f"the picture turns less than the IMU ({camera_rad_s:.2f} against {gyro_rad_s:.2f} "
            f"rad/s of fast rotation): stabilised footage, or a camera that stands still"
        )
    if peak.at_edge and peak.correlation >= LEAST_CORRELATION:
        return (
            f"the best offset lies at the end of the search ({peak.offset_us / 1e6:+.2f} s): "
            f"the true one may be beyond; search further (--search-seconds)"
        )
    return (
        f"camera and IMU do not turn alike at any offset {reach} (best correlation "
        f"{peak.correlation:.2f}, {peak.ratio:.2f} times the second best): the IMU of another "
        f"recording, an offset further away, or footage that was stabilised or cut"
    )


def judge_fit(findings: Findings, *, tolerance_us: int) -> tuple[str, tuple[str, ...]]:
    """Verdict and reasons where camera and gyroscope do agree at some offset.

    Args:
        findings: see there.
        tolerance_us: offsets below are left alone, and a result must be this certain.
    """
    fit = findings.fit
    gain = findings.gain
    if fit.informed.max() < LEAST_INFORMED:
        return "cannot tell", (
            f"nearly all rotation lies within {max(2 * fit.informed.max(), 2):.0f} s: one turn is "
            f"too little to tell an offset from a distortion",
        )
    if gain < LEAST_GAIN:
        return "cannot tell", (
            f"the picture shows {max(gain, 0.0):.0%} of the IMU's fast rotation: the footage is "
            f"stabilised, so its motion says little about time",
        )
    doubts = _doubts(findings, tolerance_us)
    where = f"largest offset {findings.largest_offset_us / 1e3:+.1f} ms"
    if doubts:
        return "suspect", (*doubts, where)
    notes = []
    if findings.measured_share < 1:
        notes.append(
            f"{1 - findings.measured_share:.1%} of the IMU lies in clock segments that are too "
            f"short or too still to be measured"
        )
    if findings.witness.agrees is None:
        notes.append("the second witness (event rate) is silent")
    interval = f"{where}, known to {findings.interval_us / 1e3:.2f} ms"
    if abs(findings.largest_offset_us) <= tolerance_us:
        return "ok", (f"{interval}: within {tolerance_us / 1e3:g} ms", *notes)
    return "corrected", (interval, *notes)


def _doubts(findings: Findings, tolerance_us: int) -> list[str]:
    fit, stretches = findings.fit, findings.stretches
    doubts = []
    if fit.correlation < LEAST_CORRELATION:
        doubts.append(
            f"camera and IMU correlate by {fit.correlation:.2f} only, need {LEAST_CORRELATION:g}"
        )
    if findings.interval_us > tolerance_us:
        doubts.append(
            f"the offset is known to {findings.interval_us / 1e3:.1f} ms only, need "
            f"{tolerance_us / 1e3:g} ms"
        )
    if stretches.jumped.any():
        first = int(np.flatnonzero(stretches.jumped)[0])
        doubts.append(
            f"at {stretches.time_us[first] / 1e6:.0f} s the offset is "
            f"{stretches.jump_us[first] / 1e3:+.0f} ms from that of the rest "
            f"({stretches.jumped.sum()} stretches of 10 s in all): the clock jumps where its "
            f"stamps do not show it"
        )
    elif stretches.stray_share > STRAY_SHARE:
        doubts.append(
            f"{stretches.stray_share:.0%} of the stretches with motion do not follow the IMU"
        )
    elif stretches.scatter_us > tolerance_us:
        doubts.append(
            f"stretches of the recording are {stretches.scatter_us / 1e3:.0f} ms off a steady clock"
        )
    if findings.witness.agrees is False:
        doubts.append(
            f"the second witness, the event rate, disagrees by "
            f"{findings.witness.offset_us / 1e3:+.0f} ms"
        )
    if findings.measured_share < LEAST_MEASURED:
        doubts.append(f"only {findings.measured_share:.0%} of the IMU could be measured")
    return doubts
