"""Brings what chosen takes of Ego-Exo4D need, file by file, through the `egoexo` program.

First the tables, then takes in batches: each batch is a run of the program, so keys that were
renewed in the meantime are read. What came is known by its size on the server and remembered in the
ledger with its hash; what lies there already (by hand or from an earlier run) is not asked for, and
where nothing is missing not one request is made.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from egotriad.manifests import Unreadable
from egotriad.manifests.errors import DiskFull, DownloadError, UsageError
from egotriad.manifests.licences import licence
from egotriad.manifests.progress import Meter
from egotriad.pipelines.disk import free_bytes
from egotriad.pipelines.download_ledger import DownloadLedger
from egotriad.pipelines.egoexo4d_cli import run_egoexo
from egotriad.pipelines.egoexo4d_files import (
    TABLES,
    ReleaseFile,
    read_failures,
    take_files,
    write_failures,
)
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_release import BUCKET, RemoteFile, manifest_key, read_parts
from egotriad.pipelines.egoexo4d_tables import Tables
from egotriad.pipelines.s3_access import Terms, open_s3, probe_object

__all__ = ["Download", "bring_tables", "download_takes"]

_LOG = logging.getLogger(__name__)

BATCH_BYTES = 50_000_000_000
BATCH_FILES = 400
ATTEMPTS = 2
KEYS_LOOK_S = 30.0


def download_takes(raw: Path, options: EgoExo4DOptions) -> None:
    """Brings the files of the chosen takes that are not there; a second call finds nothing to do.

    Files that could not be brought are written down with their reasons, for whoever reads the tree:
    keys that have expired cost the takes that are not there yet, and no other.

    Raises:
        UsageError: there is something to download, and the licence is not said to be signed.
        DownloadError: nothing can be had and nothing is there (AccessDenied: for want of keys);
            another process downloads into the tree.
        DiskFull: what is missing does not fit.
    """
    if not (options.download and options.selects):
        return
    download = Download(raw, options)
    if not (download.missing(TABLES) or download.missing(_of_takes(raw, options))):
        return
    with download.ledger.claimed():
        bring_tables(raw, download)
        download.bring(_of_takes(raw, options), what="takes")
        write_failures(raw, download.failures)
    if download.stopped is not None and not _any_complete(raw, options, download):
        raise download.stopped


def bring_tables(raw: Path, download: "Download") -> None:
    """Brings what takes are read from.

    Raises:
        UsageError: as `download_takes`.
        DownloadError: takes.json cannot be had; without annotations takes can be built.
        DiskFull: as `download_takes`.
    """
    download.bring(TABLES, what="tables")
    if not (raw / TABLES[0].name).is_file():
        raise download.stopped or DownloadError(download.failures[TABLES[0].name])


def _any_complete(raw: Path, options: EgoExo4DOptions, download: "Download") -> bool:
    return any(
        not download.missing(take_files(raw, take, options).values())
        for take in Tables(raw).chosen(options)
        if not isinstance(take, Unreadable)
    )


def _of_takes(raw: Path, options: EgoExo4DOptions) -> list[ReleaseFile]:
    """The files of the chosen takes."""
    return [
        file
        for take in Tables(raw).chosen(options)
        if not isinstance(take, Unreadable)
        for file in take_files(raw, take, options).values()
    ]


class Download:
    """One download into a tree.

    Args:
        raw: root of the tree.
        options: what is asked for.

    Attributes:
        ledger: of the tree.
        failures: name -> why it could not be brought, of this and, until they are there, of
            earlier downloads.
        stopped: why the server is not asked for more; None while it answers.
    """

    def __init__(self, raw: Path, options: EgoExo4DOptions) -> None:
        self._raw, self._options = raw, options
        self.ledger = DownloadLedger(raw)
        self.failures = read_failures(raw)
        self.stopped: DownloadError | None = None
        terms = licence("egoexo4d")
        self._terms = Terms(dataset=terms.title, sign_url=terms.url or "", profile=options.profile)

    def bring(self, files: Iterable[ReleaseFile], *, what: str) -> None:
        """Fetches those that are not there; what cannot be had is added to the failures."""
        missing = {file.name: file for file in self.missing(files)}
        self.failures = {
            name: why for name, why in self.failures.items() if not self._is_here(name)
        }
        if not missing:
            return
        if not self._options.yes:
            raise UsageError(self._unsigned(len(missing)))
        try:
            if self.stopped is None:
                self._bring(missing, what)
        except DownloadError as exc:
            self.stopped = exc
        if self.stopped is not None:
            left = [name for name in missing if not self._is_here(name)]
            self.failures |= dict.fromkeys(left, str(self.stopped))

    def _bring(self, missing: Mapping[str, ReleaseFile], what: str) -> None:
        """Fetches files take by take.

        Raises:
            DownloadError: it is useless to go on.
        """
        found, absent = self.ask(missing.values())
        self.failures |= absent
        waiting = [found[name] for name in missing if name in found]
        self._check_room(waiting)
        _LOG.info("%s: %d files to fetch, %.3f GB", what, len(waiting), _bytes(waiting) / 1e9)
        with Meter() as meter:
            for batch in _batches(waiting):
                done = sum(self._is_here(file.name) for file in waiting)
                self._fetch(batch, partial(_show, meter, done, len(waiting)))

    def missing(self, files: Iterable[ReleaseFile]) -> list[ReleaseFile]:
        """Those that do not lie there, each once."""
        asked = {file.name: file for file in files}
        return [file for name, file in asked.items() if not self._is_here(name)]

    def ask(self, files: Iterable[ReleaseFile]) -> tuple[dict[str, RemoteFile], dict[str, str]]:
        """What the server has of these files (see `read_parts`)."""
        wanted: dict[str, list[str]] = {}
        for file in files:
            wanted.setdefault(file.part, []).append(file.name)
        return read_parts(open_s3(self._terms), self._terms, wanted)

    def _is_here(self, name: str) -> bool:
        """Whether a file needs no download: as recorded, or laid there by somebody else."""
        if self.ledger.entry(name) is not None:
            return self.ledger.intact(name)
        return (self._raw / name).is_file()

    def _fetch(self, batch: Sequence[RemoteFile], show: Callable[[int], None]) -> None:
        """Fetches a batch.

        Raises:
            DownloadError: it is useless to go on.
        """
        left, attempts = list(batch), 0
        while left:
            for file in left:  # of the right size, but not what was recorded: it would be kept
                (self._raw / file.name).unlink(missing_ok=True)
            crash = run_egoexo(
                self._raw,
                left,
                self._options.profile,
                look=lambda: show(sum((self._raw / file.name).is_file() for file in batch)),
            )
            left = [file for file in left if not self._accepted(file)]
            if not left:
                break
            self._check_room(left)
            refused = self._keys_refused()
            if refused is None:
                attempts += 1
                left = self._worth_another(left, crash, last=attempts == ATTEMPTS)
            elif not self._new_keys():
                raise refused

    def _accepted(self, file: RemoteFile) -> bool:
        """Whether a file has come whole; then it is recorded."""
        path = self._raw / file.name
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            return False
        self.ledger.record(file.name)
        self.failures.pop(file.name, None)
        return True

    def _worth_another(self, left: list[RemoteFile], crash: str, *, last: bool) -> list[RemoteFile]:
        """Those that the server has and did not come; the others, and at last all, have failed."""
        client = open_s3(self._terms)
        again = []
        for file in left:
            refused = probe_object(client, self._terms, file.bucket, file.key)
            if refused is not None:
                self.failures[file.name] = str(refused.error())
            elif last:
                path = self._raw / file.name
                got = path.stat().st_size if path.is_file() else 0
                path.unlink(missing_ok=True)
                self.failures[file.name] = (
                    f"incomplete: {got} of {file.size_bytes} bytes came, {ATTEMPTS} times"
                    + (f"; egoexo crashed: {crash}" if crash else "")
                )
            else:
                again.append(file)
        return again

    def _keys_refused(self) -> DownloadError | None:
        """Why the keys, as they stand in the file now, open nothing; None where they do."""
        try:
            client = open_s3(self._terms)
        except DownloadError as exc:
            return exc
        refused = probe_object(client, self._terms, BUCKET, manifest_key(TABLES[0].part))
        return None if refused is None else refused.error()

    def _new_keys(self) -> bool:
        """Waits as long as was asked for; whether keys that work have been written meanwhile."""
        until = time.monotonic() + self._options.keys_wait_min * 60
        while time.monotonic() < until:
            _LOG.info(
                "the keys have expired: waiting for new ones in profile %s", self._terms.profile
            )
            time.sleep(min(KEYS_LOOK_S, max(until - time.monotonic(), 0)))
            if self._keys_refused() is None:
                return True
        return False

    def _check_room(self, files: Iterable[RemoteFile]) -> None:
        needed, free = _bytes(files), free_bytes(self._raw)
        if needed > free:
            raise DiskFull(
                f"{self._raw.name}: {needed / 1e9:.3f} GB are to be downloaded and "
                f"{free / 1e9:.3f} GB of the disk are free; free {(needed - free) / 1e9:.3f} GB "
                "more, or choose fewer takes (--limit-hours), and run the same command again"
            )

    def _unsigned(self, count: int) -> str:
        return (
            f"{count} files of {self._terms.dataset} are to be downloaded. Its licence must be "
            f"signed first, at {self._terms.sign_url} (about two days; keys come by mail), and "
            "forbids to hand the data on. If you have signed it, run again with --yes; "
            "--no-download builds what lies there"
        )


def _show(meter: Meter, before: int, total: int, here: int) -> None:
    meter("files fetched", before + here, total)


def _bytes(files: Iterable[RemoteFile]) -> int:
    return sum(file.size_bytes for file in files)


def _batches(files: Sequence[RemoteFile]) -> Iterator[list[RemoteFile]]:
    batch: list[RemoteFile] = []
    for file in files:
        if batch and (len(batch) == BATCH_FILES or _bytes(batch) + file.size_bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch
