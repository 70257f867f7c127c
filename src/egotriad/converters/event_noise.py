"""Which events are noise: isolated ones, hot pixels, and the rate where nothing moves."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from egotriad.converters.compiled import compiled
from egotriad.converters.event_grids import check_inside_sensor, count_image
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

__all__ = ["NEAR_US", "hot_pixels", "is_supported", "quiet_rate_hz"]

NEAR_US = 5_000
"""An event is isolated when the eight pixels around it have none for so long before and after: no
edge that moves at 200 pixels a second or faster passed there."""

HOT_EVENTS, HOT_TIMES = 10, 5
QUIET_TILE_PX, QUIET_SHARE = 16, 0.1


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
    return seen / pixel_s if pixel_s else float("nan")


def _tile_sums(values: NDArray[np.bool_] | NDArray[np.int32]) -> NDArray[np.int64]:
    """Sums over whole tiles, flat; what is left at the right and lower edge is left out."""
    rows, columns = (side // QUIET_TILE_PX for side in values.shape)
    whole = values[: rows * QUIET_TILE_PX, : columns * QUIET_TILE_PX]
    tiles = whole.reshape(rows, QUIET_TILE_PX, columns, QUIET_TILE_PX)
    return tiles.sum(axis=(1, 3), dtype=np.int64).ravel()


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
