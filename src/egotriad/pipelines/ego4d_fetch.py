"""Fetches files of Ego4D: sizes from S3, bytes by the `ego4d` program, checked and recorded."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from egotriad.manifests.errors import DiskFull, DownloadError
from egotriad.manifests.progress import Meter
from egotriad.pipelines.download_ledger import DownloadLedger
from egotriad.pipelines.ego4d_cli import adopt, run_ego4d
from egotriad.pipelines.ego4d_manifest import (
    RemoteFile,
    Wanted,
    ends_all,
    fetch_object,
    find_rows,
    head_all,
    terms,
)
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_status import VideoStatus
from egotriad.pipelines.ego4d_tree import NARRATION_FILES, Ego4dTree
from egotriad.pipelines.s3_access import Refusal, open_s3

__all__ = ["Fetcher", "free_bytes"]

BATCH_FILES, BATCH_BYTES = 64, 50 * 2**30
"""Of one call of the program: so much is asked for before keys and disk are looked at again."""
SPARE_BYTES = 2**30
TRIES = 2
POLL_KEYS_S = 15.0

_LOG = logging.getLogger(__name__)


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class Fetcher:
    """Brings files into a tree while its ledger is claimed.

    Args:
        tree: where files go.
        options: release, profile, and how long to wait for new keys.
        ledger: of the tree.

    Attributes:
        failures: uid -> what became of it, for videos of which something could not be brought.
        stopped: why nothing more is asked of S3; None while it answers.
    """

    def __init__(self, tree: Ego4dTree, options: Ego4dOptions, ledger: DownloadLedger) -> None:
        self.failures: dict[str, VideoStatus] = {}
        self.stopped: Refusal | None = None
        self._tree = tree
        self._options = options
        self._ledger = ledger
        self._access = terms(options.profile)
        self._staging = tree.raw / "staging-ego4d"
        self._client: Any = None

    def metadata(self) -> None:
        """Brings `ego4d.json`.

        Raises:
            DownloadError: under the refusal's own name.
        """
        if not self._tree.metadata().is_file():
            self._object("ego4d.json", self._tree.raw / "ego4d.json")
            self._ledger.record("ego4d.json", version=self._options.release)

    def narrations(self) -> None:
        """Brings the first narration file that the release has.

        Raises:
            DownloadError: under the refusal's own name, or the release has none.
        """
        if self._tree.narrations() is not None:
            return
        rows, _ = find_rows(self.manifest("annotations"), "annotations", NARRATION_FILES, suffix="")
        name = next((name for name in NARRATION_FILES if name in rows), None)
        if name is None:
            raise DownloadError(
                f"missing-object: the manifest of annotations has none of "
                f"{', '.join(NARRATION_FILES)}"
            )
        self.bring("annotations", [name])
        if name in self.failures:
            raise DownloadError(self.failures.pop(name).message)

    def manifest(self, dataset: str) -> Path:
        """The manifest of a data set, brought where it is not there.

        Raises:
            DownloadError: under the refusal's own name.
        """
        path = self._tree.raw / self._tree.name(dataset, "manifest.csv")
        if not path.is_file():
            self._object(f"{dataset}/manifest.csv", path)
        return path

    def sizes(
        self, dataset: str, uids: Sequence[str]
    ) -> tuple[list[RemoteFile], dict[str, VideoStatus]]:
        """What S3 has of these videos' files, and why it has not the others.

        Raises:
            DownloadError: the manifest cannot be had.
        """
        suffix = {"imu": ".csv", "annotations": ""}.get(dataset, ".mp4")
        rows, useless = find_rows(self.manifest(dataset), dataset, uids, suffix=suffix)
        failures = {
            uid: _missing(uid, "not-in-manifest", useless.get(uid) or f"{dataset} lists no file")
            for uid in uids
            if uid not in rows
        }
        there, refused = self._head(list(rows.values()))
        return there, failures | {
            file.uid: _missing(file.uid, why.reason, why.message) for file, why in refused.items()
        }

    def bring(self, dataset: str, uids: Sequence[str]) -> None:
        """Brings the files of these videos; what does not come is in `failures`.

        Raises:
            DiskFull: there is no room for all of them.
            MissingDependency: the download program is not installed.
        """
        if not uids:
            return
        if self.stopped is not None:
            self._give_up(uids, self.stopped)
            return
        try:
            there, failures = self.sizes(dataset, uids)
        except DownloadError as exc:
            reason, _, message = str(exc).partition(": ")
            self._give_up(uids, Refusal(reason=reason, message=message))
            return
        self.failures |= failures
        there = [file for file in there if not self._adopt(file)]
        self._check_disk(dataset, there)
        total = sum(file.size_bytes for file in there)
        done = 0
        with Meter() as meter:
            for batch in _batches(there):
                if self.stopped is not None:
                    self._give_up([file.wanted.uid for file in batch], self.stopped)
                    continue
                before = done

                def tell(staged: int, before: int = before) -> None:
                    meter(f"{dataset}, MiB", (before + staged) >> 20, (total >> 20) + 1)

                self._batch(dataset, batch, tell)
                done += sum(file.size_bytes for file in batch)
        shutil.rmtree(self._staging, ignore_errors=True)

    def _batch(self, dataset: str, batch: list[RemoteFile], tell: Callable[[int], None]) -> None:
        problem = ""
        for _ in range(TRIES):
            if self.stopped is None and batch:
                problem = run_ego4d(
                    self._staging,
                    batch,
                    dataset=dataset,
                    release=self._options.release,
                    profile=self._options.profile,
                    tell=tell,
                )
            batch = [file for file in batch if not self._adopt(file)]
            if batch:
                self._check_disk(dataset, batch)
                # Why: the program does not say. Asking again also tells whether the keys still do.
                _, refused = self._head([file.wanted for file in batch])
                for wanted, why in refused.items():
                    self.failures[wanted.uid] = _missing(wanted.uid, why.reason, why.message)
                batch = [file for file in batch if file.wanted not in refused]
        for file in batch:
            uid = file.wanted.uid
            message = f"{self._name(file.wanted)} did not come in {TRIES} tries ({problem})"
            self.failures[uid] = _missing(uid, "not-fetched", message)

    def _head(self, wanted: list[Wanted]) -> tuple[list[RemoteFile], dict[Wanted, Refusal]]:
        """Sizes and refusals; when the keys have ended, once more with new ones."""
        there, refused = head_all(self._s3(), self._access, wanted)
        keys = next((why for why in refused.values() if ends_all(why)), None)
        if keys is not None and self._renewed(refused):
            more, refused = head_all(self._s3(), self._access, list(refused))
            there += more
            keys = next((why for why in refused.values() if ends_all(why)), None)
        self.stopped = keys
        return there, refused

    def _renewed(self, refused: dict[Wanted, Refusal]) -> bool:
        """Reads the keys anew, waiting for others as long as was agreed; whether they open."""
        until = monotonic() + self._options.keys_wait_min * 60
        probe = next(iter(refused))
        while True:
            self._client = None
            _, still = head_all(self._s3(), self._access, [probe])
            if not any(ends_all(why) for why in still.values()):
                return True
            left_s = until - monotonic()
            if left_s <= 0:
                return False
            _LOG.warning(
                "ego4d: the keys have expired; waiting %.0f s more for new ones in the profile %r",
                left_s,
                self._options.profile,
            )
            sleep(min(POLL_KEYS_S, left_s))

    def _adopt(self, file: RemoteFile) -> bool:
        """Takes a staged file into the tree, hashed and recorded, when it is whole."""
        target = self._tree.raw / self._name(file.wanted)
        if not adopt(self._staging, self._tree.folder, file, target):
            return False
        self._ledger.record(self._name(file.wanted), version=file.version)
        return True

    def _check_disk(self, dataset: str, files: Sequence[RemoteFile]) -> None:
        need = sum(file.size_bytes for file in files)
        free = free_bytes(self._tree.raw)
        if files and need + SPARE_BYTES > free:
            raise DiskFull(
                f"disk-full: {len(files)} files of {dataset} take {need / 1e9:.2f} GB and 1 GB to "
                f"spare, {free / 1e9:.2f} GB are free where --raw lies; free space, choose less "
                "(--limit-hours, --video video_540ss), and run again: what came stays"
            )

    def _give_up(self, uids: Sequence[str], why: Refusal) -> None:
        if ends_all(why):
            self.stopped = why
        for uid in uids:
            self.failures.setdefault(uid, _missing(uid, why.reason, why.message))

    def _object(self, name: str, path: Path) -> None:
        key = f"public/{self._options.release}/{name}"
        fetch_object(self._s3(), self._access, key, path)

    def _s3(self) -> Any:
        if self._client is None:
            self._client = open_s3(self._access)
        return self._client

    def _name(self, wanted: Wanted) -> str:
        return self._tree.name(wanted.dataset, wanted.file)


def _missing(uid: str, reason: str, message: str) -> VideoStatus:
    return VideoStatus(uid=uid, state="missing", reason=reason, message=message)


def _batches(files: Sequence[RemoteFile]) -> Iterator[list[RemoteFile]]:
    batch: list[RemoteFile] = []
    for file in files:
        size = sum(other.size_bytes for other in batch)
        if batch and (len(batch) == BATCH_FILES or size + file.size_bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch
