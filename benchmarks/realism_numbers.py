"""What is measured of an event stream, and the row of the table that says it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from realism_streams import REAL, STEADY, Stream

from egotriad.converters.event_grids import count_image
from egotriad.converters.event_rhythm import layering
from egotriad.converters.event_stats import (
    EventStats,
    event_stats,
    interval_distance,
    interval_quantiles,
    merged,
)
from egotriad.manifests import Events, Span

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
SPAN_US = 45_000
LAYERING_HZ = 30 / 1.001
"""Rate at which real streams are looked at, too."""

PIXEL_SHARES = np.logspace(-4, 0, 60)


Found = Mapping[tuple[str, str], "Measured"]
"""By stream and arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is said about a stream; see `EventStats`. Intervals in milliseconds."""

    stream: str
    arm: str
    rate_hz: float
    active_share: float
    active_rate_hz: float
    busiest_share: float
    on_share: float
    alternating_share: float
    isolated_share: float
    interval_5_ms: float
    interval_50_ms: float
    interval_95_ms: float
    layering: float
    to_dsec: float
    to_dsec_shape: float
    to_dvxplorer: float
    to_dvxplorer_shape: float

    def markdown(self) -> str:
        """A row of the table."""
        numbers = [value for name, value in asdict(self).items() if name not in ("stream", "arm")]
        return f"| {self.stream} | {self.arm} | " + " | ".join(map(brief, numbers)) + " |"


HEADER = (
    "| stream | arm | events/pixel/s | active pixels | events/active pixel/s | in busiest 1 % "
    "| ON | alternating | isolated | interval 5 %, ms | 50 % | 95 % | layering | to DSEC | shape "
    "| to DVXplorer | shape |\n" + "|---" * 2 + "|---:" * 15 + "|"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """A stream in numbers, its events forgotten."""

    stream: str
    arm: str
    stats: EventStats
    layering: float
    spread: Curve
    rate: Curve
    spectrum: Curve


def measured(stream: Stream) -> Measured:
    """All numbers of a stream."""
    spans = [spans_of(stream, events) for events in stream.parts]
    first = stream.parts[0].between(stream.from_us, int(stream.parts[0].t_us[-1]) + 1)
    return Measured(
        stream=stream.name,
        arm=stream.arm,
        stats=merged(
            [event_stats(part, cut) for part, cut in zip(stream.parts, spans, strict=True)]
        ),
        layering=layering_of(first, stream.frame_rate_hz or LAYERING_HZ),
        spread=spread(stream.parts, spans),
        rate=rate(first),
        spectrum=spectrum(first),
    )


def spans_of(stream: Stream, events: Events) -> list[Span]:
    """As many spans as there are whole ones."""
    count = (int(events.t_us[-1]) + 1 - stream.from_us) // SPAN_US
    return [Span(stream.from_us + k * SPAN_US, SPAN_US) for k in range(count)]


def layering_of(events: Events, rate_hz: float) -> float:
    """Over a whole number of frames; not of less than ten."""
    start_us = int(events.t_us[0])
    frames = int((events.t_us[-1] - start_us) / 1e6 * rate_hz)
    if frames < 10:
        return float("nan")
    return layering(
        events.between(start_us, start_us + round(frames / rate_hz * 1e6)).t_us, rate_hz
    )


def spread(parts: list[Events], spans: list[list[Span]]) -> Curve:
    """Share of events in the busiest pixels, over the share of pixels; mean over spans."""
    shares = []
    for events, cut in zip(parts, spans, strict=True):
        for span in cut:
            counts = np.sort(count_image(events, span).sum(axis=0).ravel())[::-1]
            if counts[0]:
                places = np.maximum(PIXEL_SHARES * len(counts), 1).astype(int) - 1
                shares.append(np.cumsum(counts)[places] / counts.sum())
    return PIXEL_SHARES, np.array(shares).mean(axis=0)


def rate(events: Events) -> Curve:
    """Seconds, and events in 2 ms relative to their mean."""
    t_us = events.t_us - events.t_us[0]
    counts = np.bincount(t_us // 2000)[:-1].astype(np.float64)
    return 0.001 + 0.002 * np.arange(float(len(counts))), counts / counts.mean()


def spectrum(events: Events) -> Curve:
    """Hz, and the vector strength at that rate, to 250 Hz."""
    counts = np.bincount((events.t_us - events.t_us[0]) // 500)
    strength = np.asarray(np.abs(np.fft.rfft(counts)) / counts.sum(), np.float64)
    rates_hz = np.asarray(np.fft.rfftfreq(len(counts), 5e-4), np.float64)
    shown = (rates_hz > 0) & (rates_hz <= 250)
    return rates_hz[shown], strength[shown]


def row(item: Measured, found: Found) -> Row:
    """The numbers of a stream, and its distance from two recordings."""
    stats = item.stats
    quantiles_us = interval_quantiles(stats, np.array([0.05, 0.5, 0.95]))
    distances = [
        interval_distance(stats, found[name, REAL].stats, same_median=same_median)
        for name, same_median in product(("DSEC", STEADY), (False, True))
    ]
    return Row(
        stream=item.stream,
        arm=item.arm,
        rate_hz=stats.rate_hz,
        active_share=stats.active_share,
        active_rate_hz=stats.active_rate_hz,
        busiest_share=stats.busiest_share,
        on_share=stats.on_share,
        alternating_share=stats.alternating_share,
        isolated_share=stats.isolated_share,
        interval_5_ms=quantiles_us[0] / 1e3,
        interval_50_ms=quantiles_us[1] / 1e3,
        interval_95_ms=quantiles_us[2] / 1e3,
        layering=item.layering,
        to_dsec=distances[0],
        to_dsec_shape=distances[1],
        to_dvxplorer=distances[2],
        to_dvxplorer_shape=distances[3],
    )


def brief(value: float) -> str:
    """Three digits; a dash for what is not measured."""
    return "–" if np.isnan(value) else f"{value:.3g}" if value < 999 else f"{value:.0f}"
