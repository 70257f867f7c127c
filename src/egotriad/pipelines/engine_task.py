"""What every engine does with one item, in whatever process that happens."""

import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["attempt", "heard", "portable", "single_threaded", "tell"]

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""Environment of a worker: many single-threaded ones beat few threaded ones on shared cores."""

TELL_S = 1.0
_LISTENER: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


def tell(share: float) -> None:
    """Tells the engine how much of the item in hand is done, 0 to 1; costs nothing if unheard."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(share)


@contextmanager
def heard(report: Callable[[float], None]) -> Iterator[None]:
    """Inside, `report` is called with what is told, at most once a second."""
    next_s = 0.0

    def listen(share: float) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            report(share)
            next_s = time.monotonic() + TELL_S

    token = _LISTENER.set(listen)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def attempt(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    """The function's result, or the exception it raised."""
    try:
        return function(item)
    except Exception as exc:
        return exc


def portable(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    """As `attempt`, but what it returns can be pickled and back; exceptions keep their traceback.

    The traceback travels as a note of the exception (`__notes__`), for it cannot be pickled.
    """
    result = attempt(function, item)
    if not isinstance(result, Exception):
        return result
    trace = "".join(traceback.format_exception(result))
    try:
        result = pickle.loads(pickle.dumps(result))
    except Exception:  # its constructor wants more than its message
        result = RuntimeError(f"{type(result).__name__}: {result}")
    result.add_note(trace)
    return result


def single_threaded() -> None:
    """Keeps the libraries of this process to one thread, those that read no environment too."""
    import cv2
    import pyarrow as pa

    cv2.setNumThreads(0)
    pa.set_cpu_count(1)
