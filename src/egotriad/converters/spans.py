"""Where inside a window events are synthesised: all of it, or short spans near its middle."""

import re
from dataclasses import dataclass

import numpy as np

from egotriad.converters.windows import Window
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

__all__ = ["SpanPolicy", "choose_spans"]

PEAK_SEARCH_US = 600_000
"""The densest span is looked for with its centre at most this far from the narration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanPolicy:
    """Where inside a window events are synthesised.

    Attributes:
        duration_us: length of a span; None = the whole window.
        count: number of spans.
        stride_us: distance between their starts.
        place: `center` of the window, or `peak`: the group's centre lies where `duration_us` holds
            most events, within 0.6 s of the narration (of the window's centre without one).
    """

    duration_us: int | None = None
    count: int = 1
    stride_us: int = 0
    place: str = "center"

    @classmethod
    def parse(cls, text: str) -> "SpanPolicy":
        """Reads `full`, `0.05s@center`, `0.1s@peak`, `0.05s x4`, `0.1s x3 /0.05s @peak`.

        `xN` spans follow each other every `/stride` (default: without a pause).
        """
        if text.strip() == "full":
            return cls()
        match = re.fullmatch(
            r"\s*([\d.]+)s\s*(?:x\s*(\d+))?\s*(?:/\s*([\d.]+)s)?\s*(?:@\s*(center|peak))?\s*", text
        )
        try:
            if match is None:
                raise ValueError
            duration = round(float(match[1]) * 1e6)
            count = int(match[2] or 1)
            stride = round(float(match[3]) * 1e6) if match[3] else duration
            if duration <= 0 or count <= 0 or stride <= 0:
                raise ValueError
        except ValueError as exc:
            raise UsageError(
                f"event spans: got {text!r}, need 'full' or DURATIONs [xCOUNT] [/STRIDEs] "
                "[@center|@peak], for example '0.05s@center' or '0.1s x3 /0.05s @peak'"
            ) from exc
        return cls(duration_us=duration, count=count, stride_us=stride, place=match[4] or "center")

    @property
    def reach_us(self) -> int:
        """From the first span's start to the last one's end (0 for the whole window)."""
        return (
            0
            if self.duration_us is None
            else (self.count - 1) * self.stride_us + (self.duration_us)
        )

    def search(self, window: Window) -> Span:
        """The stretch of the window in which events are needed to choose the spans.

        Raises:
            UsageError: when the spans do not fit into the window.
        """
        if self.duration_us is None:
            return Span(0, window.duration_us)
        if self.reach_us > window.duration_us:
            raise UsageError(
                f"event spans reach over {self.reach_us / 1e6:g} s, the window is "
                f"{window.duration_us / 1e6:g} s; take fewer or shorter spans"
            )
        centre = window.duration_us // 2
        slack = 0
        if self.place == "peak":
            slack = PEAK_SEARCH_US
            if window.anchor is not None:
                centre = window.anchor.t_us - window.t_start_us
        lo = min(max(0, centre - slack - self.reach_us // 2), window.duration_us - self.reach_us)
        hi = min(window.duration_us, max(centre + slack - self.reach_us // 2, lo) + self.reach_us)
        return Span(lo, hi - lo)


def choose_spans(policy: SpanPolicy, window: Window, events: Events) -> tuple[Span, ...]:
    """The spans of a window.

    Args:
        policy: where to look.
        window: the window.
        events: all events of `policy.search(window)`, times relative to the window, in order.
    """
    search = policy.search(window)
    if policy.duration_us is None:
        return (search,)
    start = search.start_us
    if policy.place == "peak":
        start += _densest(events, policy, search)
    return tuple(
        Span(start + k * policy.stride_us, policy.duration_us) for k in range(policy.count)
    )


def _densest(events: Events, policy: SpanPolicy, search: Span) -> int:
    """Offset from the search's start at which the group's middle holds most events.

    Ties go to the offset nearest the middle of the search, so that a scene without events keeps
    the spans on the narration.
    """
    duration = policy.duration_us or search.duration_us
    lead = (policy.reach_us - duration) // 2
    offsets = np.arange(0, search.duration_us - policy.reach_us + 1, 1000, dtype=np.int64)
    starts = search.start_us + offsets + lead
    counts = np.searchsorted(events.t_us, starts + duration) - np.searchsorted(events.t_us, starts)
    best = np.flatnonzero(counts == counts.max())
    middle = offsets[-1] / 2
    return int(offsets[best[np.argmin(np.abs(offsets[best] - middle))]])
