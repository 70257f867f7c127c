"""Keeps a build from filling its disk: what is free, what is needed, and when to stop."""

import errno
import shutil
import time
from pathlib import Path

from egotriad.manifests.errors import DiskFull

__all__ = ["DiskGuard", "free_bytes", "is_full", "size_text"]

LOOK_EVERY_S = 1.0


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class DiskGuard:
    """Watches the free space of the disk that a build writes to.

    Args:
        folder: of the build.
        reserve_bytes: always left free.
    """

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve = reserve_bytes
        self._looked_s = 0.0
        self._low = False

    def require(self, bytes_needed: int, what: str) -> None:
        """Raises when what is about to be written does not fit.

        Args:
            bytes_needed: how much that is.
            what: it is, for the message.

        Raises:
            DiskFull: with the numbers.
        """
        free = free_bytes(self._folder)
        short = bytes_needed + self._reserve - free
        if short > 0:
            raise DiskFull(
                f"{self._folder.name}: {size_text(free)} of the disk are free, {what} needs "
                f"{size_text(bytes_needed)} and --reserve-gib keeps {size_text(self._reserve)}; "
                f"free {size_text(short)} more and run the same command again: what is finished "
                "stays"
            )

    def is_low(self) -> bool:
        """Whether less than the reserve is left; looks once a second."""
        now = time.monotonic()
        if now - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            self._low = free_bytes(self._folder) < self._reserve
        return self._low


def size_text(size: float) -> str:
    """A number of bytes for people: `3.2 GiB`."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while size >= 1024 and power < len(units) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.1f} {units[power]}" if power else f"{size:.0f} bytes"
