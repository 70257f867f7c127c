"""Engine `processes`: spawned workers of this machine, of which any may die.

`concurrent.futures` gives up its whole pool when one worker is killed, for example by the kernel
for want of memory; here that costs the one item, and a new worker takes the place.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Generic, TypeVar

from egotriad.manifests.errors import WorkerLost
from egotriad.pipelines.engine_task import ONE_THREAD, heard, portable, single_threaded
from egotriad.pipelines.signals import ASKED_TO_END

__all__ = ["run_processes"]

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_S = 0.2
CLOSING_S = 2.0
"""An idle worker that has not ended this long after it was told to is killed."""


def run_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    stop: Callable[[], bool],
    grace_s: float,
    told: Callable[[Item, float], None],
) -> Iterator[tuple[Item, Result | Exception]]:
    """See `engine.stream`; an item whose worker died gives a `WorkerLost`."""
    context = multiprocessing.get_context("spawn")
    waiting = iter(items)
    idle: list[_Worker[Item, Result]] = []
    busy: dict[Connection, _Worker[Item, Result]] = {}
    deadline_s = float("inf")
    try:
        while True:
            if stop():
                deadline_s = min(deadline_s, time.monotonic() + grace_s)
            while deadline_s == float("inf") and len(busy) < workers:
                try:
                    item = next(waiting)
                except StopIteration:
                    break
                worker = idle.pop() if idle else _Worker(context, function)
                error = worker.begin(item)
                if error is None:
                    busy[worker.pipe] = worker
                else:
                    idle.append(worker)
                    yield item, error
            if not busy or time.monotonic() >= deadline_s:
                return
            for pipe in wait(list(busy), timeout=POLL_S):
                worker = busy[pipe]  # type: ignore[index]
                result = worker.receive()
                if isinstance(result, _Told):
                    told(worker.item, result.share)
                    continue
                del busy[worker.pipe]
                if not isinstance(result, WorkerLost):
                    idle.append(worker)
                yield worker.item, result
    finally:
        for worker in busy.values():
            worker.kill()
        for worker in idle:
            worker.close()
        for worker in (*busy.values(), *idle):
            worker.join()


@dataclass(frozen=True, slots=True)
class _Told:
    """How much of a worker's item is done."""

    share: float


class _Worker(Generic[Item, Result]):
    """A spawned process that works on one item at a time."""

    item: Item

    def __init__(self, context: SpawnContext, function: Callable[[Item], Result]) -> None:
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        with _environment(ONE_THREAD):  # libraries read it when they are loaded
            self._process.start()
        theirs.close()

    def begin(self, item: Item) -> Exception | None:
        """Sends an item; returns why that cannot be, if so."""
        self.item = item
        try:
            self.pipe.send(item)
        except OSError:
            return None  # it is dead: `receive` says so
        except Exception as exc:
            return exc  # the item cannot be pickled
        return None

    def receive(self) -> Result | Exception | _Told:
        """What came of the item, or how far it is; call it when the pipe has something."""
        try:
            result: Result | Exception | _Told = self.pipe.recv()
            return result
        except (EOFError, OSError):
            self._process.join()
            return WorkerLost(_cause_of_death(self._process.exitcode))

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.pipe.close()

    def join(self) -> None:
        self._process.join(CLOSING_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _cause_of_death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the worker process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; the machine may be short of memory: fewer --workers help" if name == "SIGKILL" else ""
    return f"the worker process died of {name}{hint}"


def _serve(pipe: Connection, function: Callable[[Item], Result]) -> None:
    """Life of a worker: items in, results out, until the driver closes the pipe or dies."""
    for number in ASKED_TO_END:  # they reach the whole process group; the driver decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    single_threaded()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        except Exception as exc:  # the item cannot be unpickled here
            pipe.send(RuntimeError(f"{type(exc).__name__}: {exc}"))
            continue
        with heard(lambda share: pipe.send(_Told(share))):
            result = portable(function, item)
        pipe.send(result)


def _die_with_parent() -> None:
    """Ends this process when the driver is gone: nobody would take its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
