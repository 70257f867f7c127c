"""What a build comes to, recording by recording, without the windows: small enough for thousands.

Windows and their narrations are laid again when a recording's turn comes; kept for all, they would
fill the memory of a machine that has planned a few thousand hours.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from egotriad.manifests import Recording
from egotriad.manifests.events import Span
from egotriad.manifests.rows import union_us
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.plan import BuildConfig, RecordingPlan, plan_build, plan_recording

__all__ = ["Outline", "outline_build", "replan"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The plan of one recording, in numbers.

    Attributes:
        recording: what to read.
        key: of its part.
        split, split_group: as in its plan.
        windows: how many are to be built.
        rejected: reason -> windows that were laid but cannot be cut.
        window_us: length of all windows; unique_us: time under several windows counted once.
        events_us: length of all stretches whose events are kept, at most.
        decoded_us: how much of the video is decoded: up to the end of the last window.
    """

    recording: Recording
    key: str
    split: str
    split_group: str
    windows: int
    rejected: dict[str, int]
    window_us: int
    unique_us: int
    events_us: int
    decoded_us: int

    @property
    def part_name(self) -> str:
        """What the names of its part files begin with."""
        return f"{self.recording.recording_id}.{self.key}"


def outline_build(recordings: Iterable[Recording], config: BuildConfig) -> list[Outline]:
    """Outlines every recording, in the dataset's order.

    Where official splits would put recordings of one wearer into several, all of them go to the
    most held-out of these.

    Raises:
        UsageError: when two recordings share an id (their shards could not be told apart).
    """
    outlines = [_outline(plan, config) for plan in plan_build(recordings, config)]
    return _with_one_split_each(outlines, config)


def replan(outline: Outline, config: BuildConfig) -> RecordingPlan:
    """The plan that was outlined."""
    return plan_recording(outline.recording, config, split=outline.split)


def _outline(plan: RecordingPlan, config: BuildConfig) -> Outline:
    spans = config.span_policy
    kept_us = None if spans.duration_us is None else spans.duration_us * spans.count
    window_us = sum(window.duration_us for window in plan.windows)
    return Outline(
        recording=plan.recording,
        key=plan.key,
        split=plan.split,
        split_group=plan.split_group,
        windows=len(plan.windows),
        rejected=dict(Counter(refused.reason for refused in plan.rejected)),
        window_us=window_us,
        unique_us=union_us([Span(w.t_start_us, w.duration_us) for w in plan.windows]),
        events_us=0
        if not config.events
        else window_us
        if kept_us is None
        else kept_us * len(plan.windows),
        decoded_us=max((w.t_end_us for w in plan.windows), default=0) if config.events else 0,
    )


def _with_one_split_each(outlines: Sequence[Outline], config: BuildConfig) -> list[Outline]:
    """Moves recordings of a wearer who would be in several splits; a wearer never is."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for outline in outlines:
        splits[outline.split_group].add(outline.split)
    settled, moved = [], 0
    for outline in outlines:
        held_out = max(splits[outline.split_group], key=SPLITS.index)
        if outline.split != held_out:
            key = plan_recording(outline.recording, config, split=held_out).key
            outline = replace(outline, split=held_out, key=key)
            moved += 1
        settled.append(outline)
    if moved:
        _LOG.warning(
            "%d recordings moved to the more held-out split that their wearer's others are in",
            moved,
        )
    return settled
