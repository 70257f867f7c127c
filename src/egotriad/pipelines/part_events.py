"""Events of one recording: one pass over its video, cut into windows as they come."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from egotriad.converters.dvs import DvsEmulator
from egotriad.converters.interpolate import Upsampler
from egotriad.converters.spans import SpanPolicy, choose_spans
from egotriad.converters.video import TimedFrame, read_frames
from egotriad.converters.windows import Window
from egotriad.manifests import Events, Recording, Span
from egotriad.manifests.errors import ClipRejected, RecordingError
from egotriad.manifests.events import concatenate
from egotriad.pipelines.plan import BuildConfig

__all__ = ["CutEvents", "cut_events"]

CutEvents = tuple[Events, tuple[Span, ...]]
"""Events of a window, times relative to it, and the spans they lie in."""

UPSAMPLED_BEFORE_US = 100_000
"""Upsampling begins this long before the first events that are kept."""


def cut_events(
    recording: Recording,
    config: BuildConfig,
    windows: list[Window],
    notes: dict[str, str],
    through: Callable[[Iterator[TimedFrame]], Iterator[TimedFrame]] | None = None,
) -> Iterator[tuple[Window, CutEvents | ClipRejected]]:
    """Emulates the recording once, in one pass, and yields each window as soon as it is over.

    The pass ends with the last window; what no window needs is forgotten at once. Where the
    recording holds events itself, those are taken.

    Args:
        recording: what to read.
        config: the build's configuration.
        windows: in time order.
        notes: gets what was done to the frames.
        through: as of `read_frames`, where the recording brings no reader of its own.

    Raises:
        RecordingError: when the recording has no video, or one that cannot be read.
    """
    policy = config.span_policy
    if recording.read_events is not None:
        yield from _recorded(recording.read_events, config, windows)
        return
    if recording.video_path is None:
        raise RecordingError("has no video; pass --no-events to build clips without events")
    pending = [_Pending(window, policy) for window in windows]
    emulator: DvsEmulator | None = None
    upsampler: Upsampler | None = None
    until_us = step_us = 0
    if not pending:
        return

    def near(start_us: int, end_us: int) -> Iterator[_Pending]:
        """Windows that want events of a stretch of time; they wait in time order."""
        for waiting in pending:
            if waiting.window.t_start_us - UPSAMPLED_BEFORE_US >= end_us:
                return
            if waiting.start_us - UPSAMPLED_BEFORE_US < end_us and start_us < waiting.end_us:
                yield waiting

    read_video = recording.read_video or partial(read_frames, recording.video_path, through=through)
    for chunk in read_video(size_wh=config.sensor_wh, fit=config.fit):
        height, width = chunk.luma.shape[1:]
        borders_us = chunk.t_us if emulator is None else np.append(until_us, chunk.t_us)
        for gap in np.flatnonzero(np.diff(borders_us) > config.longest_frame_gap_s * 1e6):
            for waiting in near(int(borders_us[gap]), int(borders_us[gap + 1])):
                waiting.mark_gap(int(borders_us[gap]), int(borders_us[gap + 1]))
        if emulator is None or upsampler is None:
            upsampler = Upsampler(config.upsampling, (width, height))
            emulator = DvsEmulator(
                config.dvs,
                (width, height),
                seed=config.event_seed,
                recording=recording.recording_id,
            )
        for piece in upsampler.feed(chunk.luma, chunk.t_us, lambda *stretch: any(near(*stretch))):
            events = emulator.feed(piece.luma, piece.t_us)
            for waiting in near(until_us, int(piece.t_us[-1]) + 1):
                waiting.add(events)
        notes["upsampling"] = str(upsampler.tally)
        if len(chunk.t_us) > 1:
            step_us = int(chunk.t_us[-1] - chunk.t_us[-2])
        until_us = int(chunk.t_us[-1])
        while pending and pending[0].end_us <= until_us:
            yield pending.pop(0).finish(config.max_events)
        if not pending:
            return
    for waiting in pending:
        # The last frame is shown for one more frame interval.
        if waiting.end_us <= until_us + step_us:
            yield waiting.finish(config.max_events)
        else:
            message = f"the video ends at {(until_us + step_us) / 1e6:.3f} s, inside the window"
            yield waiting.window, ClipRejected("video-ends", message)


class _Pending:
    """A window whose events are still coming."""

    def __init__(self, window: Window, policy: SpanPolicy) -> None:
        search = policy.search(window)
        self.window = window
        self.start_us = window.t_start_us + search.start_us
        self.end_us = window.t_start_us + search.end_us
        self._policy = policy
        self._parts: list[Events] = []
        self._size_wh = (0, 0)
        self._gap_us: tuple[int, int] | None = None

    def add(self, events: Events) -> None:
        self._size_wh = events.size_wh
        if len(events) and events.t_us[0] < self.end_us and events.t_us[-1] >= self.start_us:
            events = events.between(self.start_us, self.end_us)
            self._parts.append(events.shifted(-self.window.t_start_us))

    def mark_gap(self, start_us: int, end_us: int) -> None:
        """Notes two frames with too much time between them."""
        if start_us < self.end_us and end_us > self.start_us:
            self._gap_us = (start_us, end_us)

    def finish(self, max_events: int) -> tuple[Window, CutEvents | ClipRejected]:
        if self._gap_us is not None:
            start_s, end_s = (border / 1e6 for border in self._gap_us)
            message = (
                f"no frame between {start_s:.3f} and {end_s:.3f} s (--longest-frame-gap-seconds)"
            )
            return self.window, ClipRejected("video-gap", message)
        events = concatenate(self._parts, self._size_wh)
        # In canonical order as it is: so the emulator gives them, each piece after the one before.
        return self.window, _chosen(self.window, self._policy, events, max_events)


def _recorded(
    read: Callable[[int, int], Events], config: BuildConfig, windows: list[Window]
) -> Iterator[tuple[Window, CutEvents | ClipRejected]]:
    """Events that are there already, window by window."""
    policy = config.span_policy
    for window in windows:
        search = policy.search(window)
        start_us = window.t_start_us + search.start_us
        try:
            events = read(start_us, start_us + search.duration_us).shifted(-window.t_start_us)
        except ClipRejected as exc:
            yield window, exc
            continue
        yield window, _chosen(window, policy, events, config.max_events)


def _chosen(
    window: Window, policy: SpanPolicy, events: Events, max_events: int
) -> CutEvents | ClipRejected:
    """The spans of a window and the events in them, of all events that may be needed."""
    spans = choose_spans(policy, window, events)
    keep = np.zeros(len(events), bool)
    for span in spans:
        lo, hi = np.searchsorted(events.t_us, [span.start_us, span.end_us])
        keep[lo:hi] = True
    if keep.sum() > max_events:
        message = f"{keep.sum()} events, need at most {max_events} (--max-events)"
        return ClipRejected("too-many-events", message)
    return events if keep.all() else events.take(keep), spans
