"""What synchronisation found, in plain values, and how it is applied to an IMU."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.sync_gyro import cut
from egotriad.manifests import ImuTrack, SensorStream
from egotriad.manifests.errors import RecordingError

__all__ = ["SegmentOffset", "SyncReport", "correct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOffset:
    """The offset of one clock segment of the IMU.

    Attributes:
        number: of the segment, from 0.
        start_us, end_us: its first and last stamp.
        middle_us: stamp in the middle of what was compared.
        offset_us: video time minus IMU time at `middle_us`: added to IMU time it gives video time.
        interval_us: half width of its 95 % interval.
        correlation, peak_ratio: coarse agreement of this segment alone, and that over the second
            best offset's.
    """

    number: int
    start_us: int
    end_us: int
    middle_us: int
    offset_us: float
    interval_us: float
    correlation: float
    peak_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """How an IMU's clock lies to its video's; plain values, `dataclasses.asdict` makes JSON.

    offset(t) = offset_us + drift_ppm * 1e-6 * (t - middle_us), t the IMU's stamp, with an offset
    for every clock segment and one drift.

    Attributes:
        verdict: `ok` (off by less than the tolerance: leave the times alone), `corrected` (off, and
            known by how much), `suspect` (off or inconsistent, and not known well enough),
            `cannot tell` (nothing can be concluded; see the reasons).
        reasons: sentences, the decisive one first.
        segments: the measured clock segments; the clock steps back between two.
        clock_segments: how many there are in all.
        cut_at_gaps: whether long gaps had to be taken for changes of the clock too.
        drift_ppm: microseconds a second by which the offset grows.
        drift_interval_ppm: half width of its 95 % interval; some hundred where the recording is too
            short to say.
        correlation: of the camera's rotation and the gyroscope's, three axes, after the fit.
        speed_correlation: of their angular speeds.
        peak_ratio: best over second best coarse correlation, least of the segments.
        event_correlation: of event rate and angular speed, the independent witness.
        event_offset_us: where that is highest, from the offset found.
        witnesses_agree: whether that is the same offset; None where the witness is silent.
        scatter_us: largest deviation of a 10-s stretch from offset(t), as far as noise does not
            explain it.
        stray_share: share of the stretches with motion that do not follow offset(t) at all.
        jumps_us: of those, the offsets of the ones that follow another one, from offset(t).
        compared_s: length of video that was compared.
        camera_from_imu: rows of the rotation from IMU to camera axes (x right, y down, z forward).
        focal_per_width: focal length over picture width, estimated where it was not given.
        mirrored_axes: whether the gyroscope's axes are left-handed, one sign being wrong.
    """

    verdict: str
    reasons: tuple[str, ...]
    segments: tuple[SegmentOffset, ...] = ()
    clock_segments: int = 0
    cut_at_gaps: bool = False
    drift_ppm: float | None = None
    drift_interval_ppm: float | None = None
    correlation: float | None = None
    speed_correlation: float | None = None
    peak_ratio: float | None = None
    event_correlation: float | None = None
    event_offset_us: float | None = None
    witnesses_agree: bool | None = None
    scatter_us: float | None = None
    stray_share: float | None = None
    jumps_us: tuple[float, ...] = ()
    compared_s: float = 0.0
    camera_from_imu: tuple[tuple[float, ...], ...] | None = None
    focal_per_width: float | None = None
    mirrored_axes: bool = False

    def video_times_us(self, t_us: NDArray[np.int64], segment: SegmentOffset) -> NDArray[np.int64]:
        """Stamps of a segment on the video's clock."""
        drift = (self.drift_ppm or 0.0) * 1e-6
        offset = segment.offset_us + drift * (t_us - segment.middle_us)
        return t_us + np.rint(offset).astype(np.int64)


def correct(track: ImuTrack, report: SyncReport) -> ImuTrack:
    """The track on the video's clock.

    Verdict `corrected`: every sample moves by its segment's offset(t); samples of segments whose
    offset could not be measured are left out, for their time is not known. Any other verdict: the
    samples as they are. Either way the notes say so.

    Raises:
        RecordingError: accelerometer and gyroscope step back at different places, or the report is
            of another recording.
    """
    notes = track.notes | {"sync_verdict": report.verdict}
    if report.verdict != "corrected":
        return replace(track, notes=notes | {"sync_reason": report.reasons[0]})
    accel, gyro = _moved(track.accel, report), _moved(track.gyro, report)
    dropped = len(track.gyro) - len(gyro)
    offsets = ", ".join(f"{segment.offset_us / 1e3:.2f}" for segment in report.segments)
    drift = f"{report.drift_ppm or 0.0:.2f} ppm"
    return ImuTrack(
        accel=accel,
        gyro=gyro,
        rate_hz=track.rate_hz / (1 + (report.drift_ppm or 0.0) * 1e-6),
        notes=notes
        | {
            "sync_offset": f"{offsets} ms, drift {drift}",
            "sync_dropped_samples": str(dropped),
        },
    )


def _moved(stream: SensorStream, report: SyncReport) -> SensorStream:
    runs = cut(stream, at_gaps=report.cut_at_gaps)
    if len(runs) != report.clock_segments:
        raise RecordingError(
            f"IMU: a sensor's clock has {len(runs)} segments, the synchronised one "
            f"{report.clock_segments}; both sensors must share their time stamps to be corrected"
        )
    times = [
        report.video_times_us(stream.t_us[runs[segment.number]], segment)
        for segment in report.segments
    ]
    values = [stream.values[:, runs[segment.number]] for segment in report.segments]
    return SensorStream(np.concatenate(times), np.concatenate(values, axis=1))
