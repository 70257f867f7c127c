"""Engines: every result and every error, whoever computes them and whoever dies."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from egotriad.manifests.errors import EgotriadError, RecordingError, UsageError, WorkerLost
from egotriad.pipelines import engine_task
from egotriad.pipelines.engine import EngineConfig, run, stream
from egotriad.pipelines.engine_task import heard, portable, tell

TWO = EngineConfig(engine="processes", workers=2)


@pytest.mark.parametrize(
    "engine",
    ["serial", "processes", pytest.param("ray", marks=pytest.mark.slow)],
)
def test_engines_give_every_result_and_every_error(engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    config = EngineConfig(engine=engine, workers=2)
    handler = signal.getsignal(signal.SIGTERM)
    results = dict(stream(math.sqrt, [0.0, 1.0, -1.0, 4.0, 9.0, 16.0], config))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert isinstance(results.pop(-1.0), ValueError)
    assert results == {0.0: 0.0, 1.0: 1.0, 4.0: 2.0, 9.0: 3.0, 16.0: 4.0}


@pytest.mark.parametrize("workers", [1, 2])
def test_run_works_here_or_in_processes(workers: int) -> None:
    assert dict(run(math.sqrt, [4.0, 9.0], workers=workers)) == {4.0: 2.0, 9.0: 3.0}


def test_a_killed_worker_costs_its_item_only() -> None:
    # Signal 0 is refused, SIGWINCH does nothing, SIGKILL ends the worker.
    numbers = [signal.SIGWINCH, signal.SIGKILL, 0, signal.SIGWINCH + 0, signal.SIGKILL]
    results = [result for _, result in stream(signal.raise_signal, numbers, TWO)]
    lost = [result for result in results if isinstance(result, WorkerLost)]
    assert len(results) == 5
    assert len(lost) == 2
    assert "SIGKILL" in str(lost[0])
    assert "memory" in str(lost[0])


def test_a_worker_that_ends_itself_is_lost_too() -> None:
    ((_, result),) = stream(os._exit, [3], TWO)
    assert "exit code 3" in str(result)


def test_what_cannot_be_pickled_is_an_error_of_its_item() -> None:
    results = dict(stream(math.sqrt, [4.0, lambda: None], TWO))
    assert results.pop(4.0) == 2.0
    (error,) = results.values()
    assert isinstance(error, Exception)


def test_errors_bring_their_traceback_along() -> None:
    ((_, error),) = stream(math.sqrt, [-1.0], TWO)
    assert "math domain error" in "".join(error.__notes__)


class Odd(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def test_an_exception_that_cannot_be_copied_is_told_in_words() -> None:
    def fail(item: int) -> None:
        raise Odd(item, 2)

    error = portable(fail, 1)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Odd: 1 and 2"


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_who_follows_an_item_hears_how_far_it_is(engine: str) -> None:
    told: list[tuple[float, float]] = []
    config = EngineConfig(engine=engine, workers=2)
    results = stream(tell, [0.25, 0.75], config, told=lambda *said: told.append(said))
    assert dict(results) == {0.25: None, 0.75: None}
    assert sorted(told) == [(0.25, 0.25), (0.75, 0.75)]
    tell(0.5)  # and nobody hears
    assert len(told) == 2


def test_not_everything_that_is_told_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    with heard(shares.append):
        tell(0.25)
        tell(0.5)  # too soon
    monkeypatch.setattr(engine_task, "TELL_S", 0.0)
    with heard(shares.append):
        tell(0.6)
        tell(0.7)
    assert shares == [0.25, 0.6, 0.7]


def test_items_are_asked_for_only_when_a_worker_is_free() -> None:
    asked: list[float] = []

    def items() -> Iterator[float]:
        for k in range(6):
            asked.append(k)
            yield float(k)

    for done, _ in enumerate(stream(math.sqrt, items(), TWO), start=1):
        assert len(asked) <= done + 2


def test_after_stop_running_work_gets_its_grace_and_no_more() -> None:
    started = time.monotonic()
    results = stream(
        time.sleep,
        [0.0, 0.2, 60.0, 0.0],
        TWO,
        stop=lambda: time.monotonic() - started > 2.0,
        grace_s=0.5,
    )
    finished = [item for item, _ in results]
    assert 60.0 not in finished
    assert time.monotonic() - started < 10.0


def test_leaving_the_loop_kills_what_runs() -> None:
    results = stream(time.sleep, [0.0, 60.0], TWO)
    started = time.monotonic()
    next(results)
    results.close()
    assert time.monotonic() - started < 5.0


def test_workers_die_with_their_driver() -> None:
    script = (
        "import time\n"
        "from egotriad.pipelines.engine import EngineConfig, stream\n"
        "if __name__ == '__main__':\n"
        "    results = stream(time.sleep, [0.0, 60.0, 60.0], EngineConfig(workers=2))\n"
        "    next(results)\n"
        "    import multiprocessing\n"
        "    print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(60)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    driver.kill()
    driver.communicate()
    assert pids
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as handle:  # noqa: PTH123
            return handle.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine": "dask"}, "one of serial, processes, ray"),
        ({"workers": 0}, "--workers"),
        ({"engine": "ray", "gpus": -1.0}, "--gpus"),
        ({"address": "auto"}, "--engine ray"),
        ({"gpus": 0.5}, "--engine ray"),
    ],
)
def test_engines_refuse_what_they_cannot_be(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EngineConfig(**values)


def test_a_ray_cluster_that_nobody_runs_is_said_so_at_once() -> None:
    pytest.importorskip("ray")
    config = EngineConfig(engine="ray", address="127.0.0.1:1")
    with pytest.raises(EgotriadError, match="cannot be reached"):
        list(stream(math.sqrt, [1.0], config))


def test_recording_errors_cross_process_borders_unchanged() -> None:
    error = portable(fail_to_read, "x")
    assert type(error) is RecordingError
    assert str(error) == "x: row 3"


def fail_to_read(item: str) -> None:
    raise RecordingError(f"{item}: row 3")


@pytest.mark.slow
def test_a_killed_ray_worker_costs_its_item_only() -> None:
    pytest.importorskip("ray")
    config = EngineConfig(engine="ray", workers=1)
    results = [r for _, r in stream(signal.raise_signal, [signal.SIGKILL, signal.SIGWINCH], config)]
    assert sum(isinstance(result, WorkerLost) for result in results) == 1
    assert results.count(None) == 1
