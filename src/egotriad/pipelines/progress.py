"""Progress of long work: a live bar on a terminal, one line per 30 s elsewhere."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["track"]

logger = logging.getLogger(__name__)

QUIET_INTERVAL_S = 30.0

Item = TypeVar("Item")


def track(items: Iterable[Item], *, total: int, what: str) -> Iterator[Item]:
    """Passes items through while showing how many of `total` are done, with rate and ETA."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as progress:
            yield from progress.track(items, total=total, description=what)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= QUIET_INTERVAL_S or done == total:
            rate = done / max(now - start, 1e-9)
            remaining_s = (total - done) / rate
            logger.info("%s: %d of %d, %.2f/s, %.0f s to go", what, done, total, rate, remaining_s)
            shown = now
