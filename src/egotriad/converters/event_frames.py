"""Events to the images that event-language models look at.

The contract is that of EventGPT (XduSyL/EventGPT, commit 4680549, `common/common.py`): a stretch
under 100 ms is cut into groups of equal event *count*, and each group is drawn onto white, OFF blue
and ON red, later events over earlier ones.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import compiled
from egotriad.converters.event_grids import check_inside_sensor
from egotriad.manifests import Events, Span
from egotriad.manifests.errors import UsageError

__all__ = ["MAX_EXTENT_US", "event_image", "eventgpt_frames", "eventgpt_frames_cropped"]

MAX_EXTENT_US = 100_000
"""EventGPT refuses events whose last and first time are this far apart, or further."""


def eventgpt_frames(
    events: Events, span: Span | None = None, *, count: int = 5
) -> NDArray[np.uint8]:
    """Images of `count` consecutive groups of equally many events, at full sensor size.

    Every group holds `n // count` events; the last one also takes the remainder. With fewer events
    than groups the first `count - 1` images are therefore blank (white), and with none all are.

    Args:
        events: in time order.
        span: which part of `events` to draw; None for all of them.
        count: number of images; EventGPT was trained on five.

    Returns:
        uint8 (count, H, W, 3), RGB.

    Raises:
        UsageError: when the events reach over 100 ms or more, lie outside the sensor, or `count`
            is not positive.
    """
    groups = _groups(events, span, count)
    return np.stack([event_image(group) for group in groups])


def eventgpt_frames_cropped(
    events: Events, span: Span | None = None, *, count: int = 5
) -> list[NDArray[np.uint8]]:
    """As `eventgpt_frames`, but sized as the released code does it.

    Each image ends at the largest row and column that its own group reaches, so images of one call
    can differ in size. For comparisons with the released model only: geometry moves from image to
    image.

    Returns:
        `count` arrays uint8 (max(y) + 1, max(x) + 1, 3), RGB.

    Raises:
        UsageError: as `eventgpt_frames`, and when there are fewer events than images (an image
            without events has no size under this rule).
    """
    groups = _groups(events, span, count)
    if not all(len(group) for group in groups):
        raise UsageError(
            f"got {sum(map(len, groups))} events for {count} images sized by their events, need "
            f"{count} or more; use eventgpt_frames, which draws at sensor size"
        )
    return [
        event_image(group)[: int(group.y.max()) + 1, : int(group.x.max()) + 1] for group in groups
    ]


def event_image(events: Events) -> NDArray[np.uint8]:
    """All events on one white image of sensor size, OFF blue and ON red, the latest on top.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UsageError: when an event lies outside the sensor.
    """
    check_inside_sensor(events)
    width, height = events.size_wh
    image = np.full((height, width, 3), 255, np.uint8)
    _paint(events.x, events.y, events.p, image)
    return image


def _groups(events: Events, span: Span | None, count: int) -> list[Events]:
    if count < 1:
        raise UsageError(f"count: got {count}, need 1 or more images")
    if span is not None:
        events = events.between(span.start_us, span.end_us)
    if len(events):
        extent_us = int(events.t_us[-1] - events.t_us[0])
        if extent_us >= MAX_EXTENT_US:
            raise UsageError(
                f"events reach over {extent_us} us, need less than {MAX_EXTENT_US} us for EventGPT "
                "(it was trained on 50,000 us); pass a shorter span"
            )
    size = len(events) // count
    bounds = [size * k for k in range(count)] + [len(events)]
    return [events.take(slice(lo, hi)) for lo, hi in pairwise(bounds)]


@compiled
def _paint(
    x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.bool_], image: NDArray[np.uint8]
) -> None:
    """OFF blue, ON red, over whatever is there."""
    for i in range(len(x)):
        image[y[i], x[i], 0] = 255 if p[i] else 0
        image[y[i], x[i], 1] = 0
        image[y[i], x[i], 2] = 0 if p[i] else 255
