"""Progress of long work: a live bar on a terminal, one line per 30 s elsewhere."""

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

__all__ = ["Meter"]

logger = logging.getLogger(__name__)

QUIET_INTERVAL_S = 30.0
NOTHING: Mapping[str, float] = MappingProxyType({})


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
                TextColumn("{task.fields[pace]}"),
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

    def __call__(
        self,
        stage: str,
        done: int,
        total: int,
        *,
        share: float | None = None,
        amounts: Mapping[str, float] = NOTHING,
    ) -> None:
        """Tells that `done` of `total` are finished in a stage.

        Args:
            stage: its name.
            done: how many things are finished.
            total: of how many.
            share: of the stage's work that is done, where the things differ in size; the time to go
                is told by it.
            amounts: unit -> how much of it came of the stage so far; shown per second.
        """
        now = time.monotonic()
        # A stage begins when the meter was last heard of, not with its own first word.
        elapsed_s = now - self._starts.setdefault(stage, self._called)
        self._called = now
        pace = _pace(elapsed_s, done / total if share is None and total else share, amounts)
        if self._bar:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, pace="")
            self._bar.update(self._tasks[stage], completed=done, total=total, pace=pace)
        elif done == total or now - self._shown >= QUIET_INTERVAL_S:
            logger.info("%s: %d of %d%s", stage, done, total, pace and f", {pace}")
            self._shown = now


def _pace(elapsed_s: float, share: float | None, amounts: Mapping[str, float]) -> str:
    """Amounts per second and the time to go, as far as they can be told."""
    if not elapsed_s:
        return ""
    words = [f"{_short(amount / elapsed_s)} {unit}/s" for unit, amount in amounts.items()]
    if share:
        words.append(f"{_clock(elapsed_s * (1 - share) / share)} to go")
    return ", ".join(words)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
