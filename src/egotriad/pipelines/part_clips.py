"""The clips of one recording: which windows have an IMU, their events, and both together.

Events know nothing of the IMU, and how its clock lies to the video's may be known only after the
pass over the video that makes them. So clips get their events first and their IMU at the end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from egotriad.converters.video import TimedFrame
from egotriad.converters.windows import Window
from egotriad.manifests import Clip, Imu, Origin, Quality, Recording
from egotriad.manifests.clip import window_id
from egotriad.manifests.errors import ClipRejected
from egotriad.pipelines.engine_task import tell
from egotriad.pipelines.part_events import CutEvents, cut_events
from egotriad.pipelines.part_imu import PartImu
from egotriad.pipelines.plan import BuildConfig, RecordingPlan

__all__ = ["Chosen", "Rejection", "choose", "event_clips", "with_imu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One window that did not become a clip, and why."""

    window_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The windows of a recording that are to become clips, and the others.

    Attributes:
        ready: each window with its IMU (None in builds without one) and how good that is, in time
            order.
        rejected: the windows that were laid and shall not become clips.
    """

    ready: list[tuple[Window, Imu | None, Quality]]
    rejected: list[Rejection]

    @property
    def windows(self) -> list[Window]:
        """Those that are to become clips."""
        return [window for window, _, _ in self.ready]


def choose(plan: RecordingPlan, source: PartImu | None) -> Chosen:
    """Chooses the windows whose IMU is good enough.

    Args:
        plan: of the recording.
        source: its IMU; None chooses all windows.
    """
    chosen = Chosen(ready=[], rejected=[])
    for refused in plan.rejected:
        chosen.rejected.append(
            _rejection(plan.recording, refused.window, refused.reason, refused.message)
        )
    for window in plan.windows:
        try:
            imu, quality = (None, Quality()) if source is None else source.window(window)
            chosen.ready.append((window, imu, quality))
        except ClipRejected as exc:
            chosen.rejected.append(_rejection(plan.recording, window, exc.reason, str(exc)))
    return chosen


def event_clips(
    plan: RecordingPlan,
    config: BuildConfig,
    windows: list[Window],
    rejected: list[Rejection],
    notes: dict[str, str],
    *,
    through: Callable[[Iterator[TimedFrame]], Iterator[TimedFrame]] | None = None,
) -> Iterator[Clip]:
    """Clips with everything but the IMU, as soon as their events are complete.

    Args:
        plan: of the recording.
        config: the build's configuration.
        windows: in time order.
        rejected: gets the windows whose events cannot be had.
        notes: gets what was done to the frames.
        through: as of `cut_events`.

    Raises:
        RecordingError: the video cannot be read.
    """
    recording = plan.recording
    cut = (
        cut_events(recording, config, windows, notes, through)
        if config.events
        else ((window, None) for window in windows)
    )
    for window, events in cut:
        tell(window.t_end_us / windows[-1].t_end_us)
        if isinstance(events, ClipRejected):
            rejected.append(_rejection(recording, window, events.reason, str(events)))
        else:
            yield _clip(plan, config, window, events)


def with_imu(clips: Sequence[Clip], chosen: Chosen, source: PartImu | None) -> list[Clip]:
    """The clips with the IMU of their windows.

    Args:
        clips: of some of the chosen windows.
        chosen: windows with their IMU.
        source: the recording's IMU; None leaves the clips without one.
    """
    if source is None:
        return list(clips)
    found = {
        (window.t_start_us, window.duration_us): (imu, quality)
        for window, imu, quality in chosen.ready
    }
    completed = []
    for clip in clips:
        imu, quality = found[clip.t_start_us, clip.duration_us]
        origin = replace(clip.origin, imu_source_rate_hz=source.track.rate_hz)
        completed.append(replace(clip, imu=imu, qc=quality, align=source.align, origin=origin))
    return completed


def _rejection(recording: Recording, window: Window, reason: str, message: str) -> Rejection:
    return Rejection(window_id=_identity(recording, window), reason=reason, message=message)


def _identity(recording: Recording, window: Window) -> str:
    return window_id(
        recording.source, recording.recording_id, window.t_start_us, window.duration_us
    )


def _clip(
    plan: RecordingPlan, config: BuildConfig, window: Window, chosen: CutEvents | None
) -> Clip:
    recording = plan.recording
    events, spans = chosen if chosen is not None else (None, ())
    return Clip(
        window_id=_identity(recording, window),
        source=recording.source,
        recording=recording.recording_id,
        wearer=recording.wearer,
        t_start_us=window.t_start_us,
        duration_us=window.duration_us,
        imu=None,
        events=events,
        event_spans=spans,
        narration=window.anchor.text if window.anchor else None,
        narrations=tuple(
            replace(narration, t_us=narration.t_us - window.t_start_us)
            for narration in window.narrations
        ),
        split=plan.split,
        align=recording.align,
        origin=Origin(
            source_version=recording.source_version,
            license_id=recording.license_id,
            imu_kind=recording.imu_kind,
            text_source=recording.text_source,
            split_group=plan.split_group,
            split_origin=plan.split_origin,
            imu_source_rate_hz=None,
            sim_id=None if events is None else config.sim_id,
        ),
        window_policy=plan.window_policy,
        anchor=window.anchor_index,
        other_actions=window.other_actions,
    )
