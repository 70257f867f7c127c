"""Claims: one owner at a time, and the dead are succeeded by one heir."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from egotriad.pipelines import claims as claims_module
from egotriad.pipelines.claims import STALE_S, Claims


def test_a_name_belongs_to_one_driver_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("a")
        assert first.take("a")  # still its own
        assert not second.take("a")
        assert second.take("b")
        first.release("a")
        assert second.take("a")
    assert not list(tmp_path.iterdir())


def test_a_name_that_begins_like_another_is_another(tmp_path: Path) -> None:
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("a.b")
        assert second.take("a")
        assert not first.take("a")


def leave_behind(folder: Path, name: str, **facts: object) -> Path:
    """A driver that claimed `name` and died."""
    with Claims(folder) as living:
        mine = json.loads(next(folder.glob("*.driver")).read_text())
        del living
    driver = folder / "feedfeedfeedfeed.driver"
    driver.write_text(json.dumps({**mine, **facts}))
    (folder / f"{name}.claim-0").write_text("feedfeedfeedfeed")
    return driver


def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_the_claim_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    leave_behind(tmp_path, "a", pid=dead_pid())
    with Claims(tmp_path) as heir, Claims(tmp_path) as late:
        assert heir.take("a")
        assert not late.take("a")
        heir.release("a")
    assert not list(tmp_path.iterdir())


def test_a_driver_elsewhere_is_dead_when_its_heart_has_stopped(tmp_path: Path) -> None:
    driver = leave_behind(tmp_path, "a", machine="another")
    with Claims(tmp_path) as claims:
        assert not claims.take("a")
        old = driver.stat().st_mtime - STALE_S - 1
        os.utime(driver, (old, old))
        assert claims.take("a")


def test_a_claim_nobody_has_signed_yet_is_respected_for_a_while(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        unsigned = tmp_path / "a.claim-0"
        unsigned.touch()
        assert not claims.take("a")
        old = unsigned.stat().st_mtime - STALE_S - 1
        os.utime(unsigned, (old, old))
        assert claims.take("a")


def test_of_many_heirs_one_inherits(tmp_path: Path) -> None:
    leave_behind(tmp_path, "a", pid=dead_pid())
    heirs = [Claims(tmp_path) for _ in range(8)]
    taken: list[bool] = []
    barrier = threading.Barrier(len(heirs))

    def run(claims: Claims) -> None:
        with claims:
            barrier.wait()
            taken.append(claims.take("a"))
            barrier.wait()

    threads = [threading.Thread(target=run, args=(heir,)) for heir in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "BEAT_S", 0.01)
    beaten = threading.Event()
    with Claims(tmp_path):
        (driver,) = tmp_path.glob("*.driver")
        os.utime(driver, (0, 0))
        while not beaten.wait(0.01):
            if driver.stat().st_mtime > 0:
                beaten.set()


def test_claims_name_no_machine_and_no_user(tmp_path: Path) -> None:
    import platform

    with Claims(tmp_path) as claims:
        claims.take("a")
        text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert platform.node() not in text
