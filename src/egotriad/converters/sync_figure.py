"""A picture of a synchronisation: both sensors' motion before and after, and what was searched."""

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.line_figure import Curve, curves_svg
from egotriad.converters.sync import SyncConfig, usable_pairs
from egotriad.converters.sync_gyro import GyroSegment, clock_segments
from egotriad.converters.sync_report import SyncReport
from egotriad.converters.sync_scan import bins_of, scan
from egotriad.converters.video_rotation import CameraRotation
from egotriad.manifests import ImuTrack

__all__ = ["sync_section"]

Array = NDArray[np.float64]

EXCERPT_S = 20.0


def sync_section(
    name: str,
    rotation: CameraRotation,
    track: ImuTrack,
    report: SyncReport,
    config: SyncConfig | None = None,
) -> str:
    """HTML of one recording: verdict, angular speeds before and after, correlation by offset.

    The speeds are those of the 20 s in which the camera turns most. Goes into `figures.page`.

    Args:
        name: of the recording, plain text.
        rotation: of the camera.
        track: the IMU as the source has it.
        report: of `synchronise`.
        config: that it was called with.
    """
    time_s, camera = _camera_speed(rotation, report)
    pieces = clock_segments(track.gyro, shortest_us=1, at_gaps=report.cut_at_gaps)
    start_s = _liveliest(time_s, camera)
    span = (start_s, min(start_s + EXCERPT_S, float(time_s[-1])))
    turning = Curve(name="camera", x=time_s, y=camera)
    before = Curve(name="gyroscope", x=time_s, y=_gyro_speed(rotation, pieces, None))
    drawn = [
        curves_svg(
            [turning, before],
            title="before: angular speed, rad/s",
            x_label="video time, s",
            x_range=span,
        )
    ]
    if report.segments:
        after = Curve(name="gyroscope", x=time_s, y=_gyro_speed(rotation, pieces, report))
        drawn.append(
            curves_svg(
                [turning, after],
                title="after: angular speed, rad/s",
                x_label="video time, s",
                x_range=span,
            )
        )
    if pieces:
        drawn.append(_search_svg(rotation, pieces, report, config or SyncConfig()))
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in report.reasons)
    return (
        f"<h2>{html.escape(name)}: {html.escape(report.verdict)}</h2>\n<ul>{reasons}</ul>\n"
        f"{_table(report)}\n" + "\n".join(f"<figure>{svg}</figure>" for svg in drawn)
    )


def _camera_speed(rotation: CameraRotation, report: SyncReport) -> tuple[Array, Array]:
    """Middle of every frame pair, s, and the speed there, NaN where it is not known.

    Pitch and yaw are divided by the focal factor where it was estimated.
    """
    omega = rotation.omega.copy()
    if report.focal_per_width is not None:
        omega[:, :2] *= rotation.focal_px / rotation.size_wh[0] / report.focal_per_width
    speed = np.linalg.norm(omega, axis=1)
    speed[~usable_pairs(rotation)] = np.nan
    return (rotation.start_us + rotation.end_us) / 2e6, speed


def _gyro_speed(
    rotation: CameraRotation, pieces: Sequence[GyroSegment], report: SyncReport | None
) -> Array:
    """The gyroscope's speed over every frame pair: by its own stamps, or by the offsets found."""
    start, end = rotation.start_us.astype(np.float64), rotation.end_us.astype(np.float64)
    speed = np.full(len(start), np.nan)
    for piece in pieces:
        shift: Array | float = 0.0
        if report is not None:
            segment = next((s for s in report.segments if s.number == piece.number), None)
            if segment is None:
                continue
            drift = (report.drift_ppm or 0.0) * 1e-6
            shift = segment.offset_us + drift * (start - segment.offset_us - segment.middle_us)
        rate, known = piece.mean_rate(start - shift, end - shift)
        speed[known] = np.linalg.norm(rate[known], axis=1)
    return speed


def _liveliest(time_s: Array, speed: Array) -> float:
    """Start of the stretch of `EXCERPT_S` with most motion."""
    place = ((time_s - time_s[0]) // (EXCERPT_S / 2)).astype(np.int64)
    energy = np.bincount(place, np.nan_to_num(speed) ** 2)
    both = energy[:-1] + energy[1:] if len(energy) > 1 else energy
    return float(time_s[0] + both.argmax() * EXCERPT_S / 2)


def _search_svg(
    rotation: CameraRotation,
    pieces: Sequence[GyroSegment],
    report: SyncReport,
    config: SyncConfig,
) -> str:
    """Correlation against offset for the longest clock segment, of rotation and of event rate."""
    piece = max(pieces, key=lambda piece: piece.end_us - piece.start_us)
    bins = bins_of(rotation, usable_pairs(rotation))
    arms = {
        "rotation, three axes": (bins.omega, lambda rate: rate),
        "event rate and speed": (
            np.sqrt(bins.event_rate_hz)[:, None],
            lambda rate: np.sqrt(np.linalg.norm(rate, axis=1, keepdims=True)),
        ),
    }
    curves = []
    for name, (target, feature) in arms.items():
        scanned = scan(
            bins,
            target,
            [piece],
            feature,
            around_us=[0.0],
            search_us=round(config.search_s * 1e6),
        )
        curves.append(Curve(name=name, x=scanned.offset_us / 1e6, y=scanned.correlation))
    found = [s.offset_us / 1e6 for s in report.segments if s.number == piece.number]
    return curves_svg(
        curves,
        title="correlation at every offset",
        x_label="offset added to IMU time, s (line: found)",
        x_range=(-config.search_s, config.search_s),
        marks=found,
    )


def _table(report: SyncReport) -> str:
    rows = "".join(
        f'<tr><td class="num">{s.number}</td>'
        f'<td class="num">{s.start_us / 1e6:.1f} to {s.end_us / 1e6:.1f} s</td>'
        f'<td class="num">{s.offset_us / 1e3:+.2f} ± {s.interval_us / 1e3:.2f} ms</td>'
        f'<td class="num">{s.correlation:.3f}</td><td class="num">{s.peak_ratio:.2f}</td></tr>'
        for s in report.segments
    )
    if not rows:
        return ""
    drift = f"{report.drift_ppm or 0:+.2f} ± {report.drift_interval_ppm or 0:.2f} ppm"
    return (
        "<table><tr><th>clock segment</th><th>IMU time</th><th>offset to add</th>"
        "<th>coarse correlation</th><th>over the second best</th></tr>"
        f"{rows}</table>\n<p>Drift {drift}; correlation after the fit {report.correlation:.3f}; "
        f"{report.compared_s:.0f} s of video compared.</p>"
    )
