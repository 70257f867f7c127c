"""Whether an IMU and a video share a clock, and if not, by how much they are apart.

The camera's rotation (`video_rotation`) and the gyroscope's are the same motion seen twice. Each
clock segment of the IMU (its stamps step back between them) is searched on its own for the offset
at which the two agree (`sync_scan`); all are then refined together (`sync_fit`); the event rate
gives a second opinion; and only what survives every test is claimed (`sync_verdict`).

Sign: offset_us is video time minus IMU time. Added to IMU stamps it gives video time; a positive
one means that the IMU's stamps are too small.

What it measures includes all that delays one sensor against the other: half the exposure, half the
readout of a rolling shutter, filters inside the gyroscope. Stamps that are right by the book can so
be 5 to 20 ms apart, and the tolerance leaves them alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_fit import Fit, fit_offsets
from egotriad.converters.sync_gyro import GyroSegment, clock_segments, cut
from egotriad.converters.sync_mount import find_mount
from egotriad.converters.sync_report import SegmentOffset, SyncReport
from egotriad.converters.sync_scan import Bins, Peak, bins_of, find_peak, scan
from egotriad.converters.sync_stretches import stretches_of
from egotriad.converters.sync_verdict import (
    Findings,
    believable,
    certain,
    fast_part,
    high_frequency_gain,
    judge_fit,
    why_no_motion,
    why_no_peak,
)
from egotriad.converters.sync_witness import second_witness, speed_correlation
from egotriad.converters.video_rotation import CameraRotation
from egotriad.manifests import ImuTrack
from egotriad.manifests.errors import UsageError

__all__ = ["SEARCH_S", "TOLERANCE_MS", "SyncConfig", "synchronise", "usable_pairs"]

Array = NDArray[np.float64]

SEARCH_S, TOLERANCE_MS = 5.0, 10.0
SHORTEST_US = 8_000_000
"""Of a clock segment, and of what is compared: less motion agrees by chance."""
LEAST_AGREEMENT = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """Settings of synchronisation.

    Attributes:
        search_s: offsets up to this are searched, to either side.
        tolerance_ms: smaller offsets are left alone, and a correction must be this certain.
    """

    search_s: float = SEARCH_S
    tolerance_ms: float = TOLERANCE_MS

    def __post_init__(self) -> None:
        if not 0.2 <= self.search_s <= 600:
            raise UsageError(f"--search-seconds: got {self.search_s}, need 0.2 to 600 s")
        if not 0 < self.tolerance_ms <= 1000:
            raise UsageError(f"--tolerance-ms: got {self.tolerance_ms}, need up to 1000 ms")


def synchronise(
    rotation: CameraRotation, track: ImuTrack, config: SyncConfig | None = None
) -> SyncReport:
    """Compares a camera's rotation with a gyroscope's.

    Args:
        rotation: of the camera, on the recording's clock.
        track: the IMU as the source has it.
        config: see there.
    """
    config = config or SyncConfig()
    search_us = round(config.search_s * 1e6)
    pieces = clock_segments(track.gyro, shortest_us=SHORTEST_US)
    usable = usable_pairs(rotation)
    bins = bins_of(rotation, usable)
    obstacle = _obstacle(rotation, track, pieces, bins)
    if obstacle:
        return _cannot_tell(track, bins, obstacle)
    peaks = [_peak(bins, piece, search_us) for piece in pieces]
    found = [
        (piece, peak)
        for piece, peak in zip(pieces, peaks, strict=True)
        if peak is not None and believable(peak)
    ]
    if not found:
        best = max(range(len(peaks)), key=lambda k: _height(peaks[k]))
        camera, gyro = _fast_motion(bins, pieces[best], peaks[best])
        return _cannot_tell(track, bins, why_no_peak(peaks[best], camera, gyro, search_us))
    fit = _fit(rotation, usable, found)
    tolerance_us = config.tolerance_ms * 1e3
    sure = [pair for k, pair in enumerate(found) if certain(fit, k, tolerance_us)]
    if 0 < len(sure) < len(found):
        found, fit = sure, _fit(rotation, usable, sure)
    return _report(rotation, track, fit, found, bins, config)


def usable_pairs(rotation: CameraRotation) -> NDArray[np.bool_]:
    """Frame pairs whose rotation most of the corners agree on, bool (n,)."""
    told = np.isfinite(rotation.omega).all(axis=1)
    return told & (rotation.agreement >= LEAST_AGREEMENT)


def _fit(
    rotation: CameraRotation,
    usable: NDArray[np.bool_],
    found: Sequence[tuple[GyroSegment, Peak]],
) -> Fit:
    pieces, peaks = zip(*found, strict=True)
    return fit_offsets(rotation, usable, pieces, [peak.offset_us for peak in peaks])


def _obstacle(
    rotation: CameraRotation, track: ImuTrack, pieces: Sequence[GyroSegment], bins: Bins
) -> str:
    """Why there is nothing to compare; empty where there is."""
    need_s = SHORTEST_US / 1e6
    if not pieces:
        longest_s = max((_length_us(track, run) for run in cut(track.gyro)), default=0.0) / 1e6
        return (
            f"the IMU is too short: the longest of its clock segments lasts {longest_s:.1f} s, "
            f"need {need_s:g} s"
        )
    length_s = float((rotation.end_us - rotation.start_us).sum()) / 1e6
    if length_s < need_s:
        return f"the video is too short: {length_s:.1f} s, need {need_s:g} s"
    if _seconds(bins) < need_s:
        return why_no_motion(rotation)
    return ""


def _length_us(track: ImuTrack, run: slice) -> float:
    return float(track.gyro.t_us[run][-1] - track.gyro.t_us[run][0])


def _seconds(bins: Bins) -> float:
    return float((bins.end_us - bins.start_us).sum()) / 1e6


def _cannot_tell(track: ImuTrack, bins: Bins, reason: str) -> SyncReport:
    return SyncReport(
        verdict="cannot tell",
        reasons=(reason,),
        clock_segments=len(cut(track.gyro)),
        compared_s=_seconds(bins),
    )


def _peak(bins: Bins, piece: GyroSegment, search_us: int) -> Peak | None:
    return find_peak(
        scan(bins, bins.omega, [piece], lambda rate: rate, around_us=[0.0], search_us=search_us)
    )


def _height(peak: Peak | None) -> float:
    return -1.0 if peak is None else peak.correlation


def _fast_motion(bins: Bins, piece: GyroSegment, peak: Peak | None) -> tuple[float, float]:
    """Rms of rotation faster than half a second, camera's and gyroscope's, rad/s."""
    shift = peak.offset_us if peak is not None else 0.0
    rate, known = piece.mean_rate(bins.start_us - shift, bins.end_us - shift)
    camera, gyro = (
        float(np.sqrt((fast_part(rows[known], 5) ** 2).sum(axis=1).mean())) if known.any() else 0.0
        for rows in (bins.omega, rate)
    )
    return camera, gyro


def _report(
    rotation: CameraRotation,
    track: ImuTrack,
    fit: Fit,
    found: Sequence[tuple[GyroSegment, Peak]],
    bins: Bins,
    config: SyncConfig,
) -> SyncReport:
    pieces = [piece for piece, _ in found]
    # The fit is along video time; along the IMU's own the same offset grows a little faster.
    drift = None if fit.drift_ppm is None else fit.drift_ppm / (1 - fit.drift_ppm * 1e-6)
    segments = tuple(_segment(fit, k, piece, peak) for k, (piece, peak) in enumerate(found))
    runs = cut(track.gyro)
    whole_us = sum(_length_us(track, run) for run in runs)
    witness = second_witness(bins, pieces, fit)
    stretches = stretches_of(fit)
    findings = Findings(
        fit=fit,
        stretches=stretches,
        gain=high_frequency_gain(fit, rotation),
        largest_offset_us=max(
            (
                segment.offset_us + (drift or 0.0) * 1e-6 * (t_us - segment.middle_us)
                for segment in segments
                for t_us in (segment.start_us, segment.end_us)
            ),
            key=abs,
        ),
        measured_share=sum(piece.end_us - piece.start_us for piece in pieces) / whole_us,
        witness=witness,
    )
    verdict, reasons = judge_fit(findings, tolerance_us=round(config.tolerance_ms * 1e3))
    if verdict == "cannot tell":
        return _cannot_tell(track, bins, reasons[0])
    mount = find_mount(fit.linear_map, fit.gyro_spread, focal_known=rotation.focal_known)
    return SyncReport(
        verdict=verdict,
        reasons=reasons,
        segments=segments,
        clock_segments=len(runs),
        drift_ppm=drift,
        drift_interval_ppm=fit.drift_interval_ppm,
        correlation=fit.correlation,
        speed_correlation=speed_correlation(bins, pieces, fit),
        peak_ratio=min(segment.peak_ratio for segment in segments),
        event_correlation=witness.correlation,
        event_offset_us=witness.offset_us,
        witnesses_agree=witness.agrees,
        scatter_us=stretches.scatter_us,
        stray_share=stretches.stray_share,
        compared_s=float((rotation.end_us - rotation.start_us)[fit.pair].sum()) / 1e6,
        camera_from_imu=None if mount is None else tuple(map(tuple, mount.rotation.tolist())),
        focal_per_width=None
        if mount is None
        else rotation.focal_px / rotation.size_wh[0] * mount.focal_factor,
        mirrored_axes=mount is not None and mount.mirrored,
    )


def _segment(fit: Fit, k: int, piece: GyroSegment, peak: Peak) -> SegmentOffset:
    return SegmentOffset(
        number=piece.number,
        start_us=round(piece.start_us),
        end_us=round(piece.end_us),
        middle_us=round(float(fit.middle_us[k] - fit.offset_us[k])),
        offset_us=float(fit.offset_us[k]),
        interval_us=float(fit.interval_us[k]),
        correlation=peak.correlation,
        peak_ratio=peak.ratio,
    )
