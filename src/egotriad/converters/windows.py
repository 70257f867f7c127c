"""Which stretches of a recording become clips. Planned from times alone; nothing is decoded."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from egotriad.converters.narration_actions import same_action
from egotriad.converters.narration_passes import distinct
from egotriad.converters.narration_text import in_order
from egotriad.converters.window_policy import WindowPolicy
from egotriad.manifests import Narration

__all__ = ["RejectedWindow", "Window", "WindowPlan", "plan_windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time span of a recording.

    Attributes:
        t_start_us: on the recording's clock.
        duration_us: a whole number of IMU samples, to the nearest microsecond.
        anchor: the narration it is about, if any.
        narrations: all narrations inside, on the recording's clock, in order.
        other_actions: how many actions inside differ from the anchor's (all, without an anchor),
            near-duplicates of several annotators counted once; above 0 the window is ambiguous.
    """

    t_start_us: int
    duration_us: int
    anchor: Narration | None
    narrations: tuple[Narration, ...]
    other_actions: int = 0

    @property
    def t_end_us(self) -> int:
        """First microsecond after the window."""
        return self.t_start_us + self.duration_us

    @property
    def anchor_index(self) -> int | None:
        """Where in `narrations` the anchor stands."""
        return None if self.anchor is None else self.narrations.index(self.anchor)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedWindow:
    """A window that was laid but cannot be cut, and why.

    Reasons: `outside-recording`, `too-short`, `redacted`.
    """

    window: Window
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """The windows of a recording.

    Attributes:
        policy: complete, so that it lays these windows again.
        windows: inside the recording, in time order, no two alike.
        rejected: the others, in time order.
    """

    policy: WindowPolicy
    windows: tuple[Window, ...]
    rejected: tuple[RejectedWindow, ...]


def plan_windows(
    policy: WindowPolicy,
    duration_us: int,
    narrations: Sequence[Narration],
    *,
    redacted_us: Sequence[tuple[int, int]] = (),
) -> WindowPlan:
    """Lays the windows of a recording.

    A narration belongs to every window with t_start <= t < t_end. A grid window is about the
    narration nearest to its centre that may anchor one. Windows that would begin before the
    recording or end after it, variable ones below the shortest length, and those that touch a
    redacted stretch, are rejected.

    Args:
        policy: how.
        duration_us: length of the recording.
        narrations: of the recording, linked (`narration_passes.link_passes`), in any order.
        redacted_us: stretches (start, end) whose pictures are blank.
    """
    ordered = in_order(narrations)
    times = [narration.t_us for narration in ordered]
    policy = policy.measured(ordered)
    inside: list[Window] = []
    rejected: list[RejectedWindow] = []
    seen: set[tuple[int, int]] = set()
    for start, length, anchor in sorted(_laid(policy, duration_us, ordered), key=lambda w: w[:2]):
        if (start, length) in seen:  # two actions at one microsecond share their window
            continue
        seen.add((start, length))
        within = ordered[bisect_left(times, start) : bisect_left(times, start + length)]
        window = _window(policy, start, length, anchor, within)
        refused = _refused(policy, window, duration_us) or _redacted(window, redacted_us)
        if refused is None:
            inside.append(window)
        else:
            rejected.append(refused)
    return WindowPlan(policy=policy, windows=tuple(inside), rejected=tuple(rejected))


def _refused(policy: WindowPolicy, window: Window, duration_us: int) -> RejectedWindow | None:
    if policy.varies and window.duration_us < policy.shortest_us:
        reason = "too-short"
        message = f"{window.duration_us / 1e6:.3f} s, need {policy.shortest_us / 1e6:g} s or more"
    elif window.t_start_us < 0 or window.t_end_us > duration_us:
        reason = "outside-recording"
        message = (
            f"window {window.t_start_us / 1e6:.3f}..{window.t_end_us / 1e6:.3f} s, the recording "
            f"lasts {duration_us / 1e6:.3f} s"
        )
    else:
        return None
    return RejectedWindow(window=window, reason=reason, message=message)


def _redacted(window: Window, redacted_us: Sequence[tuple[int, int]]) -> RejectedWindow | None:
    for start_us, end_us in redacted_us:
        if start_us < window.t_end_us and window.t_start_us < end_us:
            message = f"pictures from {start_us / 1e6:.3f} to {end_us / 1e6:.3f} s are blanked"
            return RejectedWindow(window=window, reason="redacted", message=message)
    return None


def _laid(
    policy: WindowPolicy, duration_us: int, narrations: Sequence[Narration]
) -> Iterator[tuple[int, int, Narration | None]]:
    """(start, length, anchor) of every window, those outside the recording included."""
    length = policy.length_us
    if policy.kind == "grid":
        for start in range(0, duration_us - length + 1, policy.stride_us or length):
            yield start, length, None
        return
    told = distinct(narrations)
    times = [narration.t_us for narration in told]
    if policy.kind == "adaptive":
        length = policy.adaptive_us
    for anchor in filter(policy.may_anchor, told):
        if policy.kind == "until-next":
            following = bisect_right(times, anchor.t_us)
            end = times[following] if following < len(times) else duration_us
            gap = max(0, min(end - anchor.t_us, length))
            yield anchor.t_us, policy.whole_us(gap, at_most=True), anchor
        else:
            yield anchor.t_us - length // 2, length, anchor


def _window(
    policy: WindowPolicy,
    start_us: int,
    length_us: int,
    anchor: Narration | None,
    within: tuple[Narration, ...],
) -> Window:
    told = distinct(within)
    if anchor is None:
        centre = start_us + length_us // 2
        anchor = min(
            filter(policy.may_anchor, told),
            key=lambda narration: abs(narration.t_us - centre),
            default=None,
        )
    return Window(
        t_start_us=start_us,
        duration_us=length_us,
        anchor=anchor,
        narrations=within,
        other_actions=sum(anchor is None or not _one_action(n, anchor) for n in told),
    )


def _one_action(narration: Narration, anchor: Narration) -> bool:
    if narration.group is not None and narration.group == anchor.group:
        return True
    return same_action(narration.text, anchor.text)
