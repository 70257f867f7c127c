"""IMU of one recording: read once, judged, and cut into windows on a uniform grid."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np

from egotriad.converters.imu import Resampler
from egotriad.converters.imu_quality import judge, judge_window
from egotriad.converters.imu_report import report_imu
from egotriad.converters.sync_report import SyncReport, correct
from egotriad.converters.windows import Window
from egotriad.manifests import Imu, Quality, Recording
from egotriad.manifests.errors import ClipRejected, RecordingError
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.sync import SyncWatch, aligned, sync_recording

__all__ = ["PartImu", "shares_pass"]

Result = TypeVar("Result")


def shares_pass(recording: Recording, config: BuildConfig) -> bool:
    """Whether clocks are compared on the frames that are decoded for the events."""
    own_ways = (recording.read_video, recording.read_events)
    return config.sync == "check" and config.events and own_ways == (None, None)


class PartImu:
    """The IMU of a recording while its part is built.

    Whether its clock is the video's is known once the video has been seen: after the pass that
    makes the events, where that shall only be told (`watch`, `settle`); in a pass of its own before
    it, where the samples shall move with it or the video has a reader of its own.

    Args:
        recording: what to read.
        config: the build's configuration.
        notes: gets what the reader and synchronisation did.

    Attributes:
        track: the samples as they were taken, on the video's clock if that was asked for.
        align: how their clock lies to the video's.
        watch: what the pass over the video must let its frames through before `settle`; None where
            nothing is open.

    Raises:
        RecordingError: when the recording has no IMU, or one that cannot be read.
    """

    def __init__(self, recording: Recording, config: BuildConfig, notes: dict[str, str]) -> None:
        if recording.read_imu is None:
            raise RecordingError("has no IMU; pass --no-imu to build clips without one")
        self.track = recording.read_imu()
        self.align = recording.align
        self.watch: SyncWatch | None = None
        self._config, self._notes = config, notes
        self._sync: SyncReport | None = None
        path = recording.video_path
        if path is None or config.sync == "off":
            self._settle(None)
        elif shares_pass(recording, config):
            self.watch = self._checked(lambda: SyncWatch(path, self.track))
            if self.watch is None:
                self._settle(None)
        else:
            self._settle(self._checked(lambda: sync_recording(recording, self.track)))
        self._quality = judge(self.track)
        self._resampler = Resampler(
            self.track,
            rate_hz=config.imu_rate_hz,
            longest_gap_us=round(config.longest_gap_s * 1e6),
        )

    @property
    def report(self) -> dict[str, Any]:
        """Clocks, rest, noise, flags and synchronisation of the whole recording, fit for JSON."""
        report: dict[str, Any] = report_imu(self.track, quality=self._quality).as_dict()
        report["sync"] = None if self._sync is None else asdict(self._sync)
        return report

    def settle(self) -> None:
        """Takes the verdict of `watch`, now that its pass is over; does nothing without one."""
        if self.watch is not None:
            self._settle(self._checked(self.watch.report))
            self.watch = None

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

    def _settle(self, sync: SyncReport | None) -> None:
        """Draws the consequences of a comparison; None where there was none."""
        self._sync = sync
        if sync is not None:
            verdict = sync.verdict
            self._notes["sync"] = f"{verdict}: {sync.reasons[0]}" if sync.reasons else verdict
            if self._config.sync == "correct":
                self.track = correct(self.track, sync)
            if verdict != "corrected" or self._config.sync == "correct":
                self.align = aligned(self.align, sync)
            else:  # and nobody did
                self.align = replace(self.align, status="unverified", score=sync.correlation)
        self._notes.update(self.track.notes)

    def _checked(self, step: Callable[[], Result]) -> Result | None:
        """A step of the comparison; None, and a note, where the video does not let itself be read.

        Events need the same video and say what is wrong with it; an IMU alone does not.
        """
        try:
            return step()
        except RecordingError as exc:
            self._notes["sync"] = f"not checked: {exc}"
            return None
