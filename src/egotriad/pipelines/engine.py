"""Runs one function over many work items: here, in spawned processes, or on a Ray cluster.

The engine never decides what is complete (the files on disk do), so any of them may be killed and
another take over.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, get_args

from egotriad.manifests.errors import UsageError
from egotriad.pipelines.engine_processes import run_processes
from egotriad.pipelines.engine_task import attempt, heard

__all__ = ["EngineConfig", "default_workers", "run", "stream"]

Item = TypeVar("Item")
Result = TypeVar("Result")

EngineName = Literal["serial", "processes", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Where work is done.

    Attributes:
        engine: `serial` (here, one after the other), `processes` (of this machine; one that dies
            costs its recording only) or `ray` (the machines of a Ray cluster).
        workers: recordings worked on at once; all cores (ray: of the cluster) when not given.
        address: of the Ray cluster (`auto`, `ray://head:10001`, `host:6379`); one on this machine
            for the time of the run when not given.
        gpus: share of a GPU that each recording reserves on the Ray cluster.
    """

    engine: EngineName = "processes"
    workers: int | None = None
    address: str | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.engine not in get_args(EngineName):
            known = ", ".join(get_args(EngineName))
            raise UsageError(f"--engine: got {self.engine!r}, need one of {known}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers: got {self.workers}, need 1 or more")
        if self.gpus < 0:
            raise UsageError(f"--gpus: got {self.gpus}, need 0 or more")
        if self.engine != "ray" and (self.address is not None or self.gpus):
            raise UsageError("--address and --gpus belong to --engine ray; add it or drop them")


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
        workers: 1, or a single item, runs here, in order; more run in spawned processes.
    """
    here = workers <= 1 or len(items) <= 1
    config = EngineConfig(engine="serial" if here else "processes", workers=workers)
    yield from stream(function, items, config)


def stream(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    config: EngineConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    grace_s: float = 0.0,
    told: Callable[[Item, float], None] = lambda item, share: None,
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Yields (item, its result or the exception it raised) as they finish.

    Args:
        function: module-level, so that it can cross process borders; so can items and results.
        items: small descriptions of work, no arrays; each is asked for only when a worker is free.
        config: where.
        stop: asked all the time; once it says True no further item is begun, and the iteration ends
            after `grace_s` seconds at the latest. Work that is not finished by then is dropped
            (serial: what runs is finished).
        grace_s: see `stop`.
        told: is called with an item that is being worked on and how much of it is done, as far as
            the function tells (`engine_task.tell`); not by Ray.

    Raises:
        MissingDependency: for Ray when it is not installed.
    """
    if config.engine == "ray":
        from egotriad.pipelines.engine_ray import run_ray

        yield from run_ray(
            function,
            items,
            workers=config.workers,
            address=config.address,
            gpus=config.gpus,
            stop=stop,
            grace_s=grace_s,
        )
    elif config.engine == "processes":
        workers = config.workers or default_workers()
        yield from run_processes(
            function, items, workers=workers, stop=stop, grace_s=grace_s, told=told
        )
    else:
        for item in items:
            with heard(partial(told, item)):
                result = attempt(function, item)
            yield item, result
            if stop():
                return
