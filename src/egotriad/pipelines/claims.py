"""Claims: who builds what, when several drivers work in one folder, on one machine or many.

```
claims/{driver}.driver          touched every 30 s while the driver lives; holds its machine and pid
claims/{name}.claim-{k}         holds the id of the driver that took `name`
```
A claim is created with O_EXCL, which the server of a network disk decides too. One whose driver is
dead is taken over by creating generation k + 1, never by deleting: of two that find it stale only
one can create that file. A driver is dead when its process is gone (same machine) or when its file
has not been touched for 120 s, by the clock of the disk. Claims keep work from being done twice;
that results are right does not hang on them (parts are atomic, and the same whoever builds them).
"""

import json
import os
import platform
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from egotriad.manifests.files import short_hash, write_text

__all__ = ["Claims"]

BEAT_S = 30.0
STALE_S = 120.0
"""Three missed beats, and what a network disk may take to show one."""


class Claims:
    """The claims of one driver; entered, its heart beats until it is left.

    Args:
        folder: shared by all drivers of a build.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._id = uuid.uuid4().hex[:16]
        self._machine = _machine()
        self._held: dict[str, int] = {}
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    @property
    def _driver(self) -> Path:
        return self._folder / f"{self._id}.driver"

    def __enter__(self) -> Self:
        facts = {"machine": self._machine, "pid": os.getpid()}
        write_text(self._driver, json.dumps(facts) + "\n")
        for file in self._folder.glob("*.driver"):
            if file != self._driver and not self._alive(file.stem):
                file.unlink(missing_ok=True)
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._heart.join()
        for name in list(self._held):
            self.release(name)
        self._driver.unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Whether `name` (usable as a file name) is now this driver's, and nobody else's."""
        if name in self._held:
            return True
        generation = self._generation(name)
        if generation >= 0 and self._is_live(self._claim(name, generation)):
            return False
        try:
            handle = os.open(
                self._claim(name, generation + 1), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666
            )
        except FileExistsError:
            return False
        try:
            os.write(handle, self._id.encode())
        finally:
            os.close(handle)
        self._held[name] = generation + 1
        return True

    def release(self, name: str) -> None:
        """Gives up a claim; what it stands for is then done, or free for others."""
        mine = self._held.pop(name)
        # The oldest first: should this process die in between, the newest still tells whose it was.
        for generation in range(mine + 1):
            self._claim(name, generation).unlink(missing_ok=True)

    def _claim(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.claim-{generation}"

    def _generation(self, name: str) -> int:
        """Of the newest claim on a name; -1 where there is none."""
        prefix = f"{name}.claim-"
        return max(
            (
                int(entry.name.removeprefix(prefix))
                for entry in os.scandir(self._folder)
                if entry.name.startswith(prefix)
            ),
            default=-1,
        )

    def _is_live(self, claim: Path) -> bool:
        try:
            with claim.open() as handle:  # opening it asks the server, looking at it may not
                owner, touched_s = handle.read(), os.fstat(handle.fileno()).st_mtime
        except FileNotFoundError:
            return True  # released this moment: whoever did may have finished it, so look again
        if not owner:  # created and not yet written
            return self._disk_time_s() - touched_s < STALE_S
        return self._alive(owner)

    def _alive(self, driver: str) -> bool:
        if driver == self._id:
            return True
        try:
            with (self._folder / f"{driver}.driver").open() as handle:
                facts, touched_s = json.load(handle), os.fstat(handle.fileno()).st_mtime
        except (FileNotFoundError, ValueError):
            return False
        if facts["machine"] == self._machine and not _is_running(facts["pid"]):
            return False
        return self._disk_time_s() - touched_s < STALE_S

    def _disk_time_s(self) -> float:
        """Now, by the clock that stamps files: those of machines differ."""
        os.utime(self._driver)
        return self._driver.stat().st_mtime

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                os.utime(self._driver)
            except OSError:
                continue  # the disk is away: it may come back before anybody thinks us dead


def _machine() -> str:
    """16 hex digits that differ between machines, containers and boots; they name nobody."""
    facts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        link = Path(path)
        if link.is_symlink():
            facts.append(str(link.readlink()))
        elif link.is_file():
            facts.append(link.read_text())
    return short_hash(facts)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
