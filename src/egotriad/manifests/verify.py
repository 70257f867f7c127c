"""Verification of a build: is every byte, row and statement what it should be?

All faults are collected, each with its file and row; nothing stops at the first. One data file is
read at a time, once for its hash and once, while still in memory, for its rows.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from egotriad.manifests.files import sha256_file
from egotriad.manifests.schema import FOLDERS
from egotriad.manifests.shards import read_manifest
from egotriad.manifests.verify_events import check_events, check_pairs
from egotriad.manifests.verify_files import (
    MANIFEST,
    PROVENANCE,
    SUMS,
    check_bytes,
    check_text,
    find_orphans,
    take_inventory,
)
from egotriad.manifests.verify_findings import Finding, Place, refused
from egotriad.manifests.verify_lines import check_counts, check_line, check_lines, check_qa_line
from egotriad.manifests.verify_qa import check_qa
from egotriad.manifests.verify_tables import check_table, locate_damage, open_checked
from egotriad.manifests.verify_windows import Build, check_windows

__all__ = ["Finding", "VerifyReport", "verify"]

QA_FOLDER = f"{FOLDERS['qa']}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What verification saw.

    Attributes:
        folder: name of the build's folder.
        deep: whether events were decoded.
        files, bytes, windows, events: what was checked.
        sums_sha256: hash of SHA256SUMS, which names the build; None when it is missing.
        findings: every fault, file by file.
    """

    folder: str
    deep: bool
    files: int
    bytes: int
    windows: int
    events: int
    sums_sha256: str | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def damaged(self) -> list[str]:
        """Files that are missing or do not hold the bytes that were written."""
        return sorted({finding.file for finding in self.findings if finding.is_damage})

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self) | {"ok": self.ok, "damaged": self.damaged}


def verify(
    folder: Path | str,
    *,
    deep: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> VerifyReport:
    """Checks a build.

    Args:
        folder: of the build.
        deep: False leaves the events undecoded; their files are still hashed.
        progress: called with (stage, shards done, shards in all).

    Raises:
        ShardError: when there is no build in the folder, or an unfinished one.
    """
    root = Path(folder)
    if not (root / MANIFEST).is_file() and not (root / SUMS).is_file():
        read_manifest(root)
    verification = _Verification(root, deep)
    verification.run(progress or (lambda stage, done, total: None))
    sums = root / SUMS
    return VerifyReport(
        folder=root.resolve().name,
        deep=deep,
        files=verification.files,
        bytes=verification.bytes,
        windows=verification.windows,
        events=verification.events,
        sums_sha256=sha256_file(sums) if sums.is_file() else None,
        findings=tuple(verification.findings),
    )


class _Verification:
    """One run over a build; its findings and counts."""

    def __init__(self, root: Path, deep: bool) -> None:
        self.findings: list[Finding] = []
        self.bytes = self.windows = self.events = 0
        self._root = root
        self._deep = deep
        self._inventory = take_inventory(root)
        self._build = Build()
        self._sound = True  # whether all windows were read

    @property
    def files(self) -> int:
        """How many files were looked at."""
        return 3 + len(self._inventory.side_paths) + len(self._inventory.data_paths)

    def run(self, progress: Callable[[str, int, int], None]) -> None:
        """All checks."""
        inventory = self._inventory
        self.findings += inventory.findings
        for name in (PROVENANCE, SUMS, MANIFEST):
            self.findings += check_text(self._root, name)
        for name in inventory.side_paths:
            self.findings += check_bytes(self._root, name, inventory)
            self.findings += check_text(self._root, name)
        self.findings += find_orphans(self._root, inventory)
        self.findings += check_lines(inventory)
        questions = [path for path in inventory.data_paths if path.startswith(QA_FOLDER)]
        shards = {path.partition("/")[2] for path in {*inventory.data_paths} - {*questions}}
        for done, name in enumerate(sorted(shards), start=1):
            rows = self._windows(f"data/{name}")
            self._events(f"events/{name}", rows)
            progress("shards verified", done, len(shards))
        for path in questions:
            self._questions(path)
        if self._sound:
            self.findings += check_counts(inventory, self.windows)

    def _windows(self, path: str) -> list[dict[str, Any]] | None:
        """Checks a windows file; its light rows, None when they cannot be had."""
        place, rows = Place(file=path), list[dict[str, Any]]()
        file = self._open(path, "windows")
        if file is None:
            self._sound = False
            return None
        split = path.partition("/")[2].partition("-")[0]
        with refused(self.findings, place, "rows that can be read"):
            for finding in check_windows(file, split, place, self._build, rows):
                self.findings.append(finding)
        self.findings += check_line(self._inventory, path, file.metadata, rows)
        self.windows += len(rows)
        return rows

    def _events(self, path: str, rows: list[dict[str, Any]] | None) -> None:
        """Checks an events file against the rows of its windows file, where these are known."""
        place = Place(file=path)
        partners = None if rows is None else [row for row in rows if row["event_row"] is not None]
        if path not in self._inventory.data_paths:
            if partners:
                need = f"the events of {len(partners)} windows"
                self.findings.append(place.finding("pairs", "no such file is named", need))
            return
        file = self._open(path, "events")
        if file is None:
            return
        with refused(self.findings, place, "rows that can be read"):
            if partners is not None:
                self.findings += check_pairs(file, partners, place)
                self.findings += check_line(self._inventory, path, file.metadata, partners)
            if self._deep:
                windows_place = Place(file=f"data/{path.partition('/')[2]}")
                for finding in check_events(file, place, partners, windows_place):
                    self.findings.append(finding)
        self.events += sum(row["num_events"] for row in partners or ())

    def _questions(self, path: str) -> None:
        """Checks a file of questions against the windows of all files."""
        place, ids = Place(file=path), list[str]()
        file = self._open(path, "qa")
        if file is None:
            return
        split = path.removeprefix(QA_FOLDER).partition("-")[0]
        windows = self._build.windows if self._sound else None
        with refused(self.findings, place, "rows that can be read"):
            for finding in check_qa(file, split, place, windows, self._build.questions, ids):
                self.findings.append(finding)
        self.findings += check_qa_line(self._inventory, path, file.metadata, ids)

    def _open(self, path: str, table: str) -> pq.ParquetFile | None:
        """A data file whose bytes and schema are right, or None and findings that say why not."""
        place = Place(file=path)
        file = None
        self.findings += (damage := check_bytes(self._root, path, self._inventory))
        if not (self._root / path).is_file():
            return None
        self.bytes += (self._root / path).stat().st_size
        if damage:
            # What can still be read of it proves nothing about the rest of the build.
            self.findings += locate_damage(self._root / path, place)
            return None
        with refused(self.findings, place, "a whole Parquet file"):
            file = open_checked(self._root / path)
            faults = list(check_table(file, table, place, self._inventory.config_hash(path)))
            self.findings += faults
            if any(fault.what in ("schema", "schema-version") for fault in faults):
                return None
        return file
