"""Engine `ray`: the machines of a Ray cluster, or a cluster of this machine for one run.

Every machine needs egotriad of the same version, and sees the raw files and the build's folder
under the same paths (a shared disk). Ray carries descriptions of work and small results only; the
files are written by the workers.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from egotriad.manifests.errors import EgotriadError, MissingDependency, WorkerLost
from egotriad.pipelines.engine_task import portable, single_threaded

__all__ = ["run_ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_S = 0.2
KNOCK_S = 5.0
OBJECT_STORE_BYTES = 100 << 20
"""Of a cluster for one run: only pickled descriptions pass through it."""


def run_ray(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None,
    address: str | None,
    gpus: float,
    stop: Callable[[], bool],
    grace_s: float,
) -> Iterator[tuple[Item, Result | Exception]]:
    """See `engine.stream`; an item whose worker or machine died gives a `WorkerLost`.

    Raises:
        MissingDependency: Ray is not installed.
        EgotriadError: the cluster cannot be reached.
    """
    ray = _connected(address, workers)
    try:
        at_once = workers or _places(ray.cluster_resources(), gpus)
        # Machine faults are tried again by the builder, which knows what else went wrong.
        options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": 0}
        task = ray.remote(**options)(_work)
        waiting = iter(items)
        running: dict[Any, Item] = {}
        deadline_s = float("inf")
        while True:
            if stop():
                deadline_s = min(deadline_s, time.monotonic() + grace_s)
            while deadline_s == float("inf") and len(running) < at_once:
                try:
                    item = next(waiting)
                except StopIteration:
                    break
                running[task.remote(function, item)] = item
            if not running or time.monotonic() >= deadline_s:
                break
            for reference in ray.wait(list(running), timeout=POLL_S)[0]:
                yield running.pop(reference), _result(ray, reference)
        for reference in running:
            ray.cancel(reference, force=True)
    finally:
        ray.shutdown()


def _work(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    single_threaded()
    return portable(function, item)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as exc:
        cause = str(exc).strip().splitlines()[0]
        return WorkerLost(f"Ray lost the work on it ({type(exc).__name__}: {cause})")


def _places(resources: dict[str, float], gpus: float) -> int:
    """How many items the cluster holds at once."""
    places = resources.get("CPU", 1.0)
    if gpus:
        places = min(places, resources.get("GPU", 0.0) / gpus)
        if places < 1:
            raise EgotriadError(
                f"--gpus {gpus:g}: the Ray cluster has {resources.get('GPU', 0.0):g} GPUs; add "
                "machines with GPUs, or drop --gpus"
            )
    return max(int(places), 1)


def _connected(address: str | None, workers: int | None) -> Any:
    try:
        import ray
    except ImportError as exc:
        raise MissingDependency("--engine ray needs Ray; pip install 'egotriad[ray]'") from exc
    local = {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",  # nobody else can reach it
    }
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(**quiet, **local)
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as exc:
        raise EgotriadError(
            f"--address {address}: the Ray cluster cannot be reached ({exc}); start one with "
            "`ray start --head`, or drop --address for one on this machine"
        ) from exc
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own in the place, which just exits
    return ray


def _knock(address: str) -> None:
    """Whether anybody listens at HOST:PORT: Ray itself tries for minutes before it says no.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
