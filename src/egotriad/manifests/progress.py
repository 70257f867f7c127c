"""Progress of long work: a live bar on a terminal, one line per 30 s elsewhere."""

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["Meter"]

logger = logging.getLogger(__name__)

QUIET_INTERVAL_S = 30.0


class Meter:
    """Shows how far named stages of a work are; call it with (stage, done, total).

    Example:
        with Meter() as meter:
            meter("recordings built", 3, 72)
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            )
        self._tasks: dict[str, TaskID] = {}
        self._starts: dict[str, float] = {}
        self._called = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tells that `done` of `total` are finished in a stage."""
        if self._bar:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total)
            self._bar.update(self._tasks[stage], completed=done)
            return
        now = time.monotonic()
        # A stage begins when the meter was last heard of, not with its own first word.
        elapsed_s = now - self._starts.setdefault(stage, self._called)
        self._called = now
        if done == total or now - self._shown >= QUIET_INTERVAL_S:
            left_s = elapsed_s / max(done, 1) * (total - done)
            rate = done / elapsed_s if elapsed_s else 0.0
            logger.info("%s: %d of %d, %.2f/s, %.0f s to go", stage, done, total, rate, left_s)
            self._shown = now
