"""Runs one function over many work items: in this process, or in spawned ones.

The engine never decides what is complete (the files on disk do), so any of them may be killed and
another take over.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import TypeVar

__all__ = ["default_workers", "run"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def run(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yields (item, its result or the exception it raised) as they finish.

    Args:
        function: module-level, so that it can cross process borders; so can items and results.
        items: small descriptions of work, no arrays.
        workers: 1 runs here, in order; more run in spawned processes with one thread each, at most
            two items per worker in flight.
    """
    if workers <= 1 or len(items) <= 1:
        for item in items:
            yield item, _attempt(function, item)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        waiting = iter(items)
        running: dict[Future[Result], Item] = {}
        for item in waiting:
            running[pool.submit(function, item)] = item
            if len(running) < 2 * workers:
                continue
            yield from _finished(running)
        while running:
            yield from _finished(running)


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except Exception as exc:
        return exc


def _finished(
    running: dict[Future[Result], Item],
) -> Iterator[tuple[Item, Result | Exception]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error  # KeyboardInterrupt, SystemExit: not the item's fault
        yield running.pop(future), error if error is not None else future.result()


def _one_thread() -> None:
    """Many single-threaded workers beat few threaded ones on shared cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2  # after the variable is set: OpenCV reads it when loaded

    cv2.setNumThreads(0)
