"""Numbers about event streams that real and simulated ones can be compared by.

`event_stats` counts over spans and adds up: the statistics of many spans, clips or recordings are
the `merged` ones of each. Spans should be equally long: how many pixels are active, and which
intervals fit in, depend on it. `hot_pixels`, `quiet_rate_hz` and `layering` look at one longer
stretch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from egotriad.converters.compiled import compiled
from egotriad.converters.event_grids import check_inside_sensor, count_image
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

__all__ = [
    "BUSIEST_SHARE",
    "INTERVAL_EDGES_US",
    "NEAR_US",
    "EventStats",
    "event_stats",
    "hot_pixels",
    "interval_distance",
    "interval_quantiles",
    "is_supported",
    "layering",
    "merged",
    "quiet_rate_hz",
    "vector_strength",
]

INTERVAL_EDGES_US = 10.0 ** (np.arange(141) / 20)
"""Borders of the bins that intervals are counted in: 1 us to 10 s, 20 to the decade."""

NEAR_US = 5_000
"""An event is isolated when the eight pixels around it have none for so long before and after: no
edge that moves at 200 pixels a second or faster passed there."""

BUSIEST_SHARE = 0.01
"""Share of the pixels whose events count as those of the busiest."""

HOT_EVENTS, HOT_TIMES = 10, 5
QUIET_TILE_PX, QUIET_SHARE = 16, 0.1


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


def is_supported(events: Events, *, within_us: int = NEAR_US) -> NDArray[np.bool_]:
    """Which events have another event in the eight pixels around theirs, at about the same time.

    The background activity filter of Delbruck ("Frame-free dynamic digital vision", 2008), which
    asks for an earlier event; we also take a later one, so that the front of an edge passes.

    Args:
        events: in time order.
        within_us: largest difference in time, before or after.

    Returns:
        bool (N,).

    Raises:
        UsageError: as `event_stats`.
    """
    check_inside_sensor(events)
    if (events.t_us[1:] < events.t_us[:-1]).any():
        raise UsageError("events go back in time; need time order, call .canonical()")
    after = _follows(events.t_us, events.x, events.y, *events.size_wh, within_us)
    t_us = np.ascontiguousarray(-events.t_us[::-1])
    x, y = np.ascontiguousarray(events.x[::-1]), np.ascontiguousarray(events.y[::-1])
    return after | _follows(t_us, x, y, *events.size_wh, within_us)[::-1]


def hot_pixels(counts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels that fire by themselves: ten events or more, and over five times any neighbour's.

    Args:
        counts: int32 (H, W), events of each pixel, of both polarities.

    Returns:
        bool (H, W).
    """
    around = np.ones((3, 3), np.bool_)
    around[1, 1] = False
    loudest = maximum_filter(counts, footprint=around, mode="constant")
    return (counts >= HOT_EVENTS) & (counts > HOT_TIMES * loudest)


def quiet_rate_hz(events: Events, span: Span) -> float:
    """Events per pixel and second where least happens: the noise, if something stays still.

    Tiles of 16 x 16 pixels: the quietest tenth by one half of the span is measured in the other
    half, and the other way round, so that choosing quiet ones does not make them quieter. Hot
    pixels count neither as pixels nor with their events.

    Returns:
        NaN for a sensor of fewer than ten tiles.

    Raises:
        UsageError: as `event_stats`.
    """
    halves = [
        Span(span.start_us, span.duration_us // 2),
        Span(span.centre_us, span.end_us - span.centre_us),
    ]
    counts = [count_image(events, half).sum(axis=0, dtype=np.int32) for half in halves]
    steady = ~hot_pixels(counts[0] + counts[1])
    pixels = _tile_sums(steady)
    sums = [_tile_sums(count * steady) for count in counts]
    chosen = int(QUIET_SHARE * len(pixels))
    if not chosen:
        return float("nan")
    seen = 0
    pixel_s = 0.0
    for judged, measured, half in zip(sums, sums[::-1], halves[::-1], strict=True):
        quiet = np.argsort(judged / np.maximum(pixels, 1), kind="stable")[:chosen]
        seen += int(measured[quiet].sum())
        pixel_s += float(pixels[quiet].sum()) * half.duration_us / 1e6
    return _ratio(seen, pixel_s)


def vector_strength(t_us: NDArray[np.int64], rates_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """How strongly events keep to one phase of each rate: |mean of exp(2 pi i rate t)|.

    1 when all fall on the same phase, 0 when they are spread evenly; for N events without any
    rhythm about 0.9 / sqrt(N). (Goldberg and Brown, J. Neurophysiol. 32, 1969.)

    Args:
        t_us: int64 (N,); best spans a whole number of periods.
        rates_hz: float64 (R,).

    Returns:
        float64 (R,); NaN without events.
    """
    if not len(t_us):
        return np.full(rates_hz.shape, np.nan)
    return _strengths(t_us - t_us[0], rates_hz)


def layering(t_us: NDArray[np.int64], frame_rate_hz: float, *, harmonics: int = 10) -> float:
    """How much of the frame rate is in the times of events: the greatest of its vector strengths.

    A camera knows of no frames; what it has at such a rate is chance, and the slow changes of the
    scene. Simulated streams pulse.

    Args:
        t_us: int64 (N,), of at least several frames.
        frame_rate_hz: of the video.
        harmonics: multiples of that rate to look at.

    Raises:
        UsageError: when the rate or the number of multiples is not positive.
    """
    if harmonics < 1 or not frame_rate_hz > 0:
        raise UsageError(f"got {frame_rate_hz} Hz and {harmonics} harmonics, need both above zero")
    return float(vector_strength(t_us, frame_rate_hz * np.arange(1.0, harmonics + 1)).max())


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


def _tile_sums(values: NDArray[np.bool_] | NDArray[np.int32]) -> NDArray[np.int64]:
    """Sums over whole tiles, flat; what is left at the right and lower edge is left out."""
    rows, columns = (side // QUIET_TILE_PX for side in values.shape)
    whole = values[: rows * QUIET_TILE_PX, : columns * QUIET_TILE_PX]
    tiles = whole.reshape(rows, QUIET_TILE_PX, columns, QUIET_TILE_PX)
    return tiles.sum(axis=(1, 3), dtype=np.int64).ravel()


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


@compiled
def _follows(
    t_us: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    width: int,
    height: int,
    within_us: int,
) -> NDArray[np.bool_]:
    """Whether a neighbouring pixel had an event not long before."""
    found = np.zeros(len(t_us), np.bool_)
    last = np.full((height + 2, width + 2), -1, np.int64)
    for i in range(len(t_us)):
        row, column = int(y[i]) + 1, int(x[i]) + 1
        for near_row in range(row - 1, row + 2):
            for near_column in range(column - 1, column + 2):
                before = last[near_row, near_column]
                itself = near_row == row and near_column == column
                if before >= 0 and not itself and t_us[i] - t_us[before] <= within_us:
                    found[i] = True
        last[row, column] = i
    return found


@compiled
def _strengths(t_us: NDArray[np.int64], rates_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    strengths = np.empty(len(rates_hz))
    for k in range(len(rates_hz)):
        step = 2e-6 * np.pi * rates_hz[k]
        real = imaginary = 0.0
        at_once = 0
        for i in range(len(t_us)):
            at_once += 1
            if i + 1 == len(t_us) or t_us[i + 1] != t_us[i]:
                real += at_once * np.cos(step * t_us[i])
                imaginary += at_once * np.sin(step * t_us[i])
                at_once = 0
        strengths[k] = np.hypot(real, imaginary) / len(t_us)
    return strengths
