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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_fit import Fit, fit_offsets
from egotriad.converters.sync_gyro import GyroSegment, clock_segments, cut
from egotriad.converters.sync_mount import find_mount
from egotriad.converters.sync_report import SegmentOffset, SyncReport
from egotriad.converters.sync_scan import Peak, bins_of, find_peak, scan
from egotriad.converters.sync_stabilised import fast_gain, fast_motion
from egotriad.converters.sync_stretches import stretches_of
from egotriad.converters.sync_verdict import (
    Findings,
    believable,
    certain,
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
LEAST_SHARE = 0.2
"""Of the video must tell a rotation: what noise looks like now and then does not count."""
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

    A gap in the IMU is taken for lost samples of one clock. Only where that leads to no result is
    every long gap taken for a change of the clock.

    Args:
        rotation: of the camera, on the recording's clock.
        track: the IMU as the source has it.
        config: see there.
    """
    comparison = _Comparison(rotation, track, config or SyncConfig(), at_gaps=False)
    report = comparison.report()
    if report.verdict in ("ok", "corrected"):
        return report
    finer = _Comparison(rotation, track, comparison.config, at_gaps=True)
    if len(finer.runs) == len(comparison.runs):
        return report
    again = finer.report()
    return again if again.verdict in ("ok", "corrected") else report


def usable_pairs(rotation: CameraRotation) -> NDArray[np.bool_]:
    """Frame pairs whose rotation most of the corners agree on, bool (n,)."""
    told = np.isfinite(rotation.omega).all(axis=1)
    return told & (rotation.agreement >= LEAST_AGREEMENT)


class _Comparison:
    """One camera against one IMU, cut in one way."""

    def __init__(
        self, rotation: CameraRotation, track: ImuTrack, config: SyncConfig, *, at_gaps: bool
    ) -> None:
        self.rotation = rotation
        self.config = config
        self.at_gaps = at_gaps
        self.gyro = track.gyro
        self.runs = cut(track.gyro, at_gaps=at_gaps)
        self.pieces = clock_segments(track.gyro, shortest_us=SHORTEST_US, at_gaps=at_gaps)
        self.usable = usable_pairs(rotation)
        self.bins = bins_of(rotation, self.usable)
        self.search_us = round(config.search_s * 1e6)

    def report(self) -> SyncReport:
        """The verdict with everything that was measured."""
        obstacle = self._obstacle()
        if obstacle:
            return self._cannot_tell(obstacle)
        peaks = [self._peak(piece) for piece in self.pieces]
        found = [
            (piece, peak)
            for piece, peak in zip(self.pieces, peaks, strict=True)
            if peak is not None and believable(peak)
        ]
        if not found:
            return self._cannot_tell(self._why_no_peak(peaks))
        fit = self._fit(found)
        tolerance_us = self.config.tolerance_ms * 1e3
        sure = [pair for k, pair in enumerate(found) if certain(fit, k, tolerance_us)]
        if 0 < len(sure) < len(found):
            found, fit = sure, self._fit(sure)
        return self._judged(fit, found)

    def _obstacle(self) -> str:
        """Why there is nothing to compare; empty where there is."""
        need_s = SHORTEST_US / 1e6
        if not self.pieces:
            longest_s = max(map(self._length_s, self.runs), default=0.0)
            return (
                f"the IMU is too short: the longest of its clock segments lasts {longest_s:.1f} s, "
                f"need {need_s:g} s"
            )
        length_s = float((self.rotation.end_us - self.rotation.start_us).sum()) / 1e6
        if length_s < need_s:
            return f"the video is too short: {length_s:.1f} s, need {need_s:g} s"
        if self._seconds() < max(need_s, LEAST_SHARE * length_s):
            return why_no_motion(self.rotation)
        return ""

    def _length_s(self, run: slice) -> float:
        return float(self.gyro.t_us[run][-1] - self.gyro.t_us[run][0]) / 1e6

    def _seconds(self) -> float:
        return float((self.bins.end_us - self.bins.start_us).sum()) / 1e6

    def _cannot_tell(self, reason: str) -> SyncReport:
        return SyncReport(
            verdict="cannot tell",
            reasons=(reason,),
            clock_segments=len(self.runs),
            cut_at_gaps=self.at_gaps,
            compared_s=self._seconds(),
        )

    def _peak(self, piece: GyroSegment) -> Peak | None:
        return find_peak(
            scan(
                self.bins,
                self.bins.omega,
                [piece],
                lambda rate: rate,
                around_us=[0.0],
                search_us=self.search_us,
            )
        )

    def _why_no_peak(self, peaks: Sequence[Peak | None]) -> str:
        """The reason of the segment that came closest."""
        heights = [-1.0 if peak is None else peak.correlation for peak in peaks]
        best = int(np.argmax(heights))
        peak = peaks[best]
        offset_us = 0.0 if peak is None else peak.offset_us
        camera, gyro = fast_motion(self.bins, self.pieces[best], offset_us)
        return why_no_peak(peak, camera, gyro, self.search_us)

    def _fit(self, found: Sequence[tuple[GyroSegment, Peak]]) -> Fit:
        pieces, peaks = zip(*found, strict=True)
        return fit_offsets(self.rotation, self.usable, pieces, [peak.offset_us for peak in peaks])

    def _judged(self, fit: Fit, found: Sequence[tuple[GyroSegment, Peak]]) -> SyncReport:
        pieces = [piece for piece, _ in found]
        # The fit is along video time; along the IMU's own the same offset grows a little faster.
        drift_ppm = fit.drift_ppm / (1 - fit.drift_ppm * 1e-6)
        segments = tuple(_segment(fit, k, piece, peak) for k, (piece, peak) in enumerate(found))
        measured_s = sum(piece.end_us - piece.start_us for piece in pieces) / 1e6
        stretches = stretches_of(fit, pieces, search_us=self.search_us)
        witness = second_witness(self.bins, pieces, fit)
        findings = Findings(
            fit=fit,
            stretches=stretches,
            gain=fast_gain(fit),
            largest_offset_us=_largest_offset_us(segments, drift_ppm),
            interval_us=_interval_us(segments, fit.drift_interval_ppm),
            measured_share=measured_s / sum(map(self._length_s, self.runs)),
            witness=witness,
        )
        tolerance_us = round(self.config.tolerance_ms * 1e3)
        verdict, reasons = judge_fit(findings, tolerance_us=tolerance_us)
        if verdict == "cannot tell":
            return self._cannot_tell(reasons[0])
        report = SyncReport(
            verdict=verdict,
            reasons=reasons,
            segments=segments,
            clock_segments=len(self.runs),
            cut_at_gaps=self.at_gaps,
            drift_ppm=drift_ppm,
            drift_interval_ppm=fit.drift_interval_ppm,
            correlation=fit.correlation,
            speed_correlation=speed_correlation(self.bins, pieces, fit),
            peak_ratio=min(segment.peak_ratio for segment in segments),
            event_correlation=witness.correlation,
            event_offset_us=witness.offset_us,
            witnesses_agree=witness.agrees,
            scatter_us=stretches.scatter_us,
            stray_share=stretches.stray_share,
            jumps_us=tuple(map(float, stretches.jump_us[stretches.jumped])),
            compared_s=float((fit.end_us - fit.start_us).sum()) / 1e6,
        )
        return _with_mount(report, fit, self.rotation)


def _with_mount(report: SyncReport, fit: Fit, rotation: CameraRotation) -> SyncReport:
    mount = find_mount(fit.linear_map, fit.gyro_spread, focal_known=rotation.focal_known)
    if mount is None:
        return report
    return replace(
        report,
        camera_from_imu=tuple(map(tuple, mount.rotation.tolist())),
        focal_per_width=rotation.focal_px / rotation.size_wh[0] * mount.focal_factor,
        mirrored_axes=mount.mirrored,
    )


def _largest_offset_us(segments: Sequence[SegmentOffset], drift_ppm: float) -> float:
    """The offset furthest from zero at either end of any segment."""
    ends = [
        segment.offset_us + drift_ppm * 1e-6 * (t_us - segment.middle_us)
        for segment in segments
        for t_us in (segment.start_us, segment.end_us)
    ]
    return max(ends, key=abs)


def _interval_us(segments: Sequence[SegmentOffset], drift_interval_ppm: float) -> float:
    """Half width at the end of the segment where it is largest, the drift's included."""
    return max(
        float(
            np.hypot(
                segment.interval_us,
                drift_interval_ppm * 1e-6 * (segment.end_us - segment.start_us) / 2,
            )
        )
        for segment in segments
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
