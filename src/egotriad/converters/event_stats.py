"""Numbers about event streams that real and simulated ones can be compared by.

`event_stats` counts over spans and adds up: the statistics of many spans, clips or recordings are
the `merged` ones of each. Spans should be equally long: how many pixels are active, and which
intervals fit in, depend on it. Noise and rhythm of a longer stretch: `event_noise`, `event_rhythm`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.event_grids import count_image
from egotriad.converters.event_noise import is_supported
from egotriad.manifests import Events, Span

__all__ = [
    "BUSIEST_SHARE",
    "INTERVAL_EDGES_US",
    "EventStats",
    "event_stats",
    "interval_distance",
    "interval_quantiles",
    "merged",
]

INTERVAL_EDGES_US = 10.0 ** (np.arange(141) / 20)
"""Borders of the bins that intervals are counted in: 1 us to 10 s, 20 to the decade."""

BUSIEST_SHARE = 0.01
"""Share of the pixels whose events count as those of the busiest."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EventStats:
    """Counts over spans; they add up.

    Attributes:
        pixel_s: pixels times seconds that were looked at.
        active_pixel_s: of those, the ones of pixels with an event in the span.
        events: all events.
        on: the ON ones.
        isolated: those with no event near, see `is_supported`.
        busiest: those of each span's busiest pixels, `BUSIEST_SHARE` of all.
        intervals: int64 (2, 140), times between consecutive events of a pixel within a span, by
            `INTERVAL_EDGES_US`; row 0 between events of the same polarity, row 1 of different ones.
    """

    pixel_s: float
    active_pixel_s: float
    events: int
    on: int
    isolated: int
    busiest: int
    intervals: NDArray[np.int64]

    @property
    def rate_hz(self) -> float:
        """Events per pixel and second."""
        return _ratio(self.events, self.pixel_s)

    @property
    def active_rate_hz(self) -> float:
        """Events per second of those pixels that have one in the span."""
        return _ratio(self.events, self.active_pixel_s)

    @property
    def active_share(self) -> float:
        """Share of the pixels that have an event in the span."""
        return _ratio(self.active_pixel_s, self.pixel_s)

    @property
    def on_share(self) -> float:
        """Share of ON events."""
        return _ratio(self.on, self.events)

    @property
    def isolated_share(self) -> float:
        """Share of isolated events."""
        return _ratio(self.isolated, self.events)

    @property
    def busiest_share(self) -> float:
        """Share of the events that come from the busiest pixels."""
        return _ratio(self.busiest, self.events)

    @property
    def alternating_share(self) -> float:
        """Share of a pixel's consecutive events that differ in polarity."""
        return _ratio(int(self.intervals[1].sum()), int(self.intervals.sum()))


def event_stats(events: Events, spans: Sequence[Span]) -> EventStats:
    """Statistics of the events in some spans; each span is looked at by itself.

    Args:
        events: in time order.
        spans: stretches of time; what lies outside is not seen.

    Raises:
        UsageError: when an event lies outside the sensor, or events go back in time.
    """
    return merged([_span_stats(events, span) for span in spans])


def merged(parts: Sequence[EventStats]) -> EventStats:
    """Statistics of all parts together; of none, zero everywhere."""
    return EventStats(
        pixel_s=sum(part.pixel_s for part in parts),
        active_pixel_s=sum(part.active_pixel_s for part in parts),
        events=sum(part.events for part in parts),
        on=sum(part.on for part in parts),
        isolated=sum(part.isolated for part in parts),
        busiest=sum(part.busiest for part in parts),
        intervals=sum(
            (part.intervals for part in parts),
            start=np.zeros((2, len(INTERVAL_EDGES_US) - 1), np.int64),
        ),
    )


def interval_quantiles(stats: EventStats, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times in microseconds below which so large shares of the intervals are.

    Within a bin intervals count as spread evenly in their logarithm. Without intervals: NaN.
    """
    counts = stats.intervals.sum(axis=0)
    if not counts.any():
        return np.full(shares.shape, np.nan)
    end = int(np.flatnonzero(counts)[-1]) + 1
    below = np.concatenate([[0], np.cumsum(counts[:end])]) / counts.sum()
    return 10 ** np.interp(shares, below, np.log10(INTERVAL_EDGES_US[: end + 1]))


def interval_distance(a: EventStats, b: EventStats, *, same_median: bool = False) -> float:
    """How far apart two distributions of intervals are, in factors of ten.

    The Wasserstein-1 distance of log10(interval): the mean factor by which the intervals of one
    would have to be stretched to become those of the other. The outermost half percent at both ends
    is left out. NaN where one of them has no intervals.

    Args:
        a: statistics of spans as long as those of `b`.
        b: as `a`.
        same_median: compare the shapes only: first give both the same median. This takes out how
            fast things moved.
    """
    shares = np.linspace(0.005, 0.995, 199)
    quantiles = [np.log10(interval_quantiles(stats, shares)) for stats in (a, b)]
    if same_median:
        quantiles = [values - values[len(values) // 2] for values in quantiles]
    return float(np.abs(quantiles[0] - quantiles[1]).mean())


def _span_stats(events: Events, span: Span) -> EventStats:
    counts = count_image(events, span)
    events = events.between(span.start_us, span.end_us)
    per_pixel = counts.sum(axis=0).ravel()
    busiest = int(BUSIEST_SHARE * per_pixel.size)
    seconds = span.duration_us / 1e6
    return EventStats(
        pixel_s=per_pixel.size * seconds,
        active_pixel_s=int(np.count_nonzero(per_pixel)) * seconds,
        events=len(events),
        on=int(events.p.sum()),
        isolated=len(events) - int(is_supported(events).sum()),
        busiest=int(np.sort(per_pixel)[per_pixel.size - busiest :].sum()),
        intervals=_count_intervals(
            events.t_us, events.x, events.y, events.p, *events.size_wh, INTERVAL_EDGES_US
        ),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@compiled
def _count_intervals(
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    width: int,
    height: int,
    edges_us: NDArray[np.float64],
) -> NDArray[np.int64]:
    counts = np.zeros((2, len(edges_us) - 1), np.int64)
    last = np.full((height, width), -1, np.int64)
    for i in range(len(t_us)):
        before = last[y[i], x[i]]
        if before >= 0:
            interval_us = t_us[i] - t_us[before]
            place = np.searchsorted(edges_us, interval_us, side="right") - 1
            counts[int(p[i] != p[before]), min(max(place, 0), counts.shape[1] - 1)] += 1
        last[y[i], x[i]] = i
    return counts
