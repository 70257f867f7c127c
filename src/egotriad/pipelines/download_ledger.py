"""What has been downloaded into a tree: name, size, version and SHA-256 of every finished file.

Download programs keep no trustworthy record of their own: theirs forget, mix files of one name, or
know no checksum. This one is a file of JSON lines at the root of the tree,

    {"name":"v2/imu/0a1b.csv","size_bytes":81,"version":"3sL4","sha256":"…","mtime_ns":17}

to which a line is appended (and flushed to disk) when a file is whole; the last line of a name
counts. A process killed while writing leaves half a line, which the next one drops. Files laid into
the tree by hand need no entry.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from egotriad.manifests.errors import DownloadError
from egotriad.manifests.files import canonical_json, sha256_file

__all__ = ["DownloadLedger", "LedgerEntry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One finished download.

    Attributes:
        name: path below the tree's root, parts joined by "/": unique, whatever the download
            program calls the file.
        size_bytes: its size.
        version: what the server calls this version of it (S3 version id, ETag); empty if nothing.
        sha256: of its content.
        mtime_ns: modification time when it was hashed.
    """

    name: str
    size_bytes: int
    version: str
    sha256: str
    mtime_ns: int


class DownloadLedger:
    """The finished downloads of one tree; not shared between threads.

    Args:
        root: root of the tree; need not exist yet.
    """

    FILE = "downloads.jsonl"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / self.FILE
        self._entries = _read(self._path)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, name: str) -> LedgerEntry | None:
        """What is known of a file, whether it is still there or not."""
        return self._entries.get(name)

    def intact(self, name: str) -> bool:
        """Whether the file lies there as it was recorded.

        Its size decides, and its modification time; where a copied tree has other times, its hash.
        """
        entry, path = self._entries.get(name), self._root / name
        if entry is None or not path.is_file():
            return False
        facts = path.stat()
        if facts.st_size != entry.size_bytes:
            return False
        return facts.st_mtime_ns == entry.mtime_ns or sha256_file(path) == entry.sha256

    def current(self, name: str, *, size_bytes: int, version: str = "") -> bool:
        """Whether the file is intact and is what the server has now: nothing to fetch.

        Args:
            name: of the file.
            size_bytes: what the server says.
            version: what the server says; ignored where it is empty on either side.
        """
        entry = self._entries.get(name)
        return (
            entry is not None
            and entry.size_bytes == size_bytes
            and (not version or not entry.version or entry.version == version)
            and self.intact(name)
        )

    def record(self, name: str, *, version: str = "") -> LedgerEntry:
        """Hashes a finished file of the tree and remembers it.

        Raises:
            DownloadError: there is no such file.
        """
        path = self._root / name
        if not path.is_file():
            raise DownloadError(f"{name}: was to be recorded as downloaded and is not there")
        facts = path.stat()
        entry = LedgerEntry(
            name=name,
            size_bytes=facts.st_size,
            version=version,
            sha256=sha256_file(path),
            mtime_ns=facts.st_mtime_ns,
        )
        _append(self._path, canonical_json(asdict(entry)) + "\n")
        self._entries[name] = entry
        return entry

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the tree against other processes that download into it.

        Entries written by others in the meantime are read on entry.

        Raises:
            DownloadError: another process is at it.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / f"{self.FILE}.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise DownloadError(
                    f"{self._root}: another process downloads into this folder; wait for it, or "
                    "give this build its own folder with --raw"
                ) from exc
            self._entries = _read(self._path)
            yield


def _read(path: Path) -> dict[str, LedgerEntry]:
    """The last entry of every name; half a line at the end is no entry."""
    if not path.is_file():
        return {}
    entries: dict[str, LedgerEntry] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = LedgerEntry(**json.loads(line))
        except (ValueError, TypeError) as exc:
            raise DownloadError(
                f"{path.name}, line {number}: is no record of a download; delete the file, and "
                "the files of this folder will be compared with the server's once more"
            ) from exc
        entries[entry.name] = entry
    return entries


def _append(path: Path, line: str) -> None:
    """Adds a line, after cutting off the half of one that a killed process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as handle:
        if handle.seek(0, os.SEEK_END):
            handle.seek(-1, os.SEEK_END)
            if handle.read() != b"\n":
                handle.seek(0)
                handle.truncate(handle.read().rfind(b"\n") + 1)
        handle.write(line.encode())
        handle.flush()
        os.fsync(handle.fileno())
