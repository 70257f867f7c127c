"""Signals that ask a long run to end soon: remembered, or raised as `KeyboardInterrupt`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Signals"]

ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what schedulers and `kill` send; what Slurm sends before a time limit, if asked to."""


class Signals:
    """While it is entered, SIGINT, SIGTERM and SIGUSR1 all mean: end soon, and resumably.

    The first of them raises `KeyboardInterrupt` where the main thread happens to be, or, inside
    `deferred`, is only remembered in `received` for whoever polls it; a second one always raises. A
    signal that the process was started to ignore (`nohup`) stays ignored.

    Attributes:
        received: name of the first signal that came, None before.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in ASKED_TO_END:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal is remembered and nothing is raised."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.received is None
        if first:
            self.received = signal.Signals(number).name
        if not (first and self._deferred):
            raise KeyboardInterrupt
