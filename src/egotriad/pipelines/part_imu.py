"""IMU of one recording: read once, judged, and cut into windows on a uniform grid."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from egotriad.converters.imu import Resampler
from egotriad.converters.imu_quality import judge, judge_window
from egotriad.converters.imu_report import report_imu
from egotriad.converters.sync_report import SyncReport, correct
from egotriad.converters.windows import Window
from egotriad.manifests import Imu, ImuTrack, Quality, Recording
from egotriad.manifests.errors import ClipRejected, RecordingError
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.sync import aligned, sync_recording

__all__ = ["PartImu"]


class PartImu:
    """The IMU of a recording while its part is built.

    Args:
        recording: what to read.
        config: the build's configuration.
        notes: gets what the reader did.

    Attributes:
        track: the samples as they were taken, on the video's clock if that was asked for.
        align: how their clock lies to the video's.
        report: clocks, rest, noise, flags and synchronisation of the whole recording, fit for JSON.

    Raises:
        RecordingError: when the recording has no IMU, or one that cannot be read.
    """

    def __init__(self, recording: Recording, config: BuildConfig, notes: dict[str, str]) -> None:
        if recording.read_imu is None:
            raise RecordingError("has no IMU; pass --no-imu to build clips without one")
        self.track = recording.read_imu()
        self.align = recording.align
        sync = _synchronised(recording, self.track, config, notes)
        if sync is not None and config.sync == "correct":
            self.track = correct(self.track, sync)
            self.align = aligned(recording.align, sync)
        elif sync is not None and sync.verdict == "corrected":  # and nobody did
            self.align = replace(recording.align, status="unverified", score=sync.correlation)
        elif sync is not None:
            self.align = aligned(recording.align, sync)
        notes.update(self.track.notes)
        self._config = config
        self._quality = judge(self.track)
        self.report: dict[str, Any] = report_imu(self.track, quality=self._quality).as_dict()
        self.report["sync"] = None if sync is None else asdict(sync)
        self._resampler = Resampler(
            self.track,
            rate_hz=config.imu_rate_hz,
            longest_gap_us=round(config.longest_gap_s * 1e6),
        )

    def window(self, window: Window) -> tuple[Imu, Quality]:
        """The IMU of a window and how far it can be trusted.

        Raises:
            ClipRejected: `imu-gap` or `imu-quality`, by the limits of the configuration.
        """
        imu = self._resampler.window(window.t_start_us, window.duration_us)
        missing = 1.0 - float(imu.valid.mean())
        if missing > self._config.max_gap_fraction:
            raise ClipRejected(
                "imu-gap",
                f"{missing:.1%} of the window has no IMU samples, need at most "
                f"{self._config.max_gap_fraction:.1%}; raise --max-gap-fraction to keep it masked",
            )
        found = judge_window(
            self._quality, imu, t_start_us=window.t_start_us, duration_us=window.duration_us
        )
        if found.score < self._config.min_imu_score:
            raise ClipRejected(
                "imu-quality",
                f"IMU scores {found.score:.2f} ({', '.join(found.flags)}), need "
                f"{self._config.min_imu_score:g} or more; lower --min-imu-score to keep it",
            )
        # As stored: a clip that was read back equals the one that was written.
        return imu, Quality(
            imu_gap_fraction=1.0 - float(np.float32(imu.valid.mean())),
            imu_clip_fraction=float(np.float32(found.clip_fraction)),
            imu_score=float(np.float32(found.score)),
            flags=found.flags,
        )


def _synchronised(
    recording: Recording, track: ImuTrack, config: BuildConfig, notes: dict[str, str]
) -> SyncReport | None:
    """What comparing IMU and video says; None where there is nothing to compare."""
    if config.sync == "off" or recording.video_path is None:
        return None
    try:
        report = sync_recording(recording, track)
    except RecordingError as exc:
        # Events need the same video and say what is wrong with it; an IMU alone does not.
        notes["sync"] = f"not checked: {exc}"
        return None
    notes["sync"] = f"{report.verdict}: {report.reasons[0]}" if report.reasons else report.verdict
    return report
