"""Builds that are to be merged: what they are, and whether they may stand side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from egotriad.manifests.errors import ShardError, UsageError, located
from egotriad.manifests.files import open_sealed, seal, short_hash
from egotriad.manifests.schema import way_out
from egotriad.manifests.shards import open_table, read_manifest, shards_sha256
from egotriad.pipelines.facts import ONE_VALUE, BuildFacts, facts_in

__all__ = ["Input", "Questions", "Windows", "agree", "open_inputs"]

SHOWN = 5
"""Conflicts that a message lists."""

IDENTITY = ["window_id", "source", "video_uid", "split_group", "wearer_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A complete build.

    Attributes:
        folder: of the build.
        sums_sha256: hash of its SHA256SUMS, which names it.
        lines: of its manifest, in the order of their paths.
        records: its sealed provenance, or those of the builds that it was merged of.
    """

    folder: Path
    sums_sha256: str
    lines: tuple[dict[str, Any], ...]
    records: tuple[dict[str, Any], ...]

    @property
    def facts(self) -> list[BuildFacts]:
        """The facts of each record."""
        with located(self.folder.name):
            return [facts_in(record) for record in self.records]


def open_inputs(folders: Sequence[Path]) -> list[Input]:
    """The builds in the order of their names' hashes, whatever the order of the folders.

    Raises:
        UsageError: with fewer than two, or the same build twice.
        ShardError: when one is no complete build, or of another schema version.
    """
    inputs = sorted((_open(folder) for folder in folders), key=lambda one: one.sums_sha256)
    if len(inputs) < 2:
        raise UsageError("merge-shards: got one build, need two or more")
    for first, second in pairwise(inputs):
        if first.sums_sha256 == second.sums_sha256:
            raise UsageError(
                f"{first.folder} and {second.folder} hold the same build; name it once"
            )
    return inputs


def _open(folder: Path) -> Input:
    lines = read_manifest(folder)
    for version in sorted({line["schema_version"] for line in lines}):
        if (advice := way_out(version)) is not None:
            raise ShardError(f"{folder.name}: is of schema version {version}, {advice}")
    provenance = open_sealed(folder / "provenance.json")
    return Input(
        folder=folder,
        sums_sha256=shards_sha256(folder),
        lines=tuple(lines),
        records=tuple(provenance.get("merged", (json.loads(seal(provenance)),))),
    )


def agree(inputs: Sequence[Input]) -> None:
    """Refuses builds whose rows a model could not read as one.

    Raises:
        ShardError: naming the two builds and what differs.
    """
    told = [(one.folder.name, facts) for one in inputs for facts in one.facts]
    first, facts = told[0]
    for name, other in told[1:]:
        for field in ONE_VALUE:
            mine, its = getattr(facts, field), getattr(other, field)
            if mine != its:
                raise ShardError(
                    f"{name}: {field} is {its}, {first} has {mine}; a merged build has one: "
                    "build one of them again with the other's options"
                )


class Windows:
    """Every window of all inputs: where it lies, and that no person lies in two splits."""

    def __init__(self) -> None:
        self._conflicts: dict[str, None] = {}  # in order, each once
        self._places: dict[str, tuple[Path, int]] = {}
        self._splits: dict[tuple[str, ...], tuple[str, str]] = {}

    def add(self, build: str, path: Path, split: str) -> dict[int, tuple[Path, int]]:
        """Takes in a windows file.

        Args:
            build: name of the input, for messages.
            path: of the file.
            split: of the file.

        Returns:
            Row -> (file, row) of the same window in a file that came before.
        """
        again: dict[int, tuple[Path, int]] = {}
        for number, row in enumerate(_rows(path)):
            before = self._places.setdefault(row["window_id"], (path, number))
            if before != (path, number):
                again[number] = before
            for kind, key in _people(row).items():
                first, where = self._splits.setdefault((kind, *key), (split, build))
                if first != split:
                    name = f"{kind} {'/'.join(key)}"
                    self._conflicts[f"{name} is {first} in {where}, {split} in {build}"] = None
        return again

    def check(self) -> None:
        """Refuses people in two splits.

        Raises:
            ShardError: naming some of them.
        """
        if self._conflicts:
            shown = "; ".join(list(self._conflicts)[:SHOWN])
            more = len(self._conflicts) - SHOWN
            raise ShardError(
                f"{shown}{f'; and {more} more' if more > 0 else ''}: a model would be tested on "
                "whom it was trained on; build both under the splits of one of them"
            )


class Questions:
    """Every question of all inputs."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}

    def add(self, path: Path) -> frozenset[int]:
        """Takes in a file of questions; returns its rows that a file before it held already.

        Raises:
            ShardError: when one came before with other words.
        """
        again, number = set(), 0
        file = open_table(path, "qa")
        for group in range(file.num_row_groups):
            for row in file.read_row_group(group).to_pylist():
                build = path.parent.parent.name
                if row["qa_id"] in self._seen:
                    content, first = self._seen[row["qa_id"]]
                    if content != short_hash(row):
                        raise ShardError(
                            f"question {row['qa_id']}: is in {first} and {build} with other words; "
                            "build one of them without it"
                        )
                    again.add(number)
                else:
                    self._seen[row["qa_id"]] = (short_hash(row), build)
                number += 1
        return frozenset(again)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    file = open_table(path, "windows")
    for group in range(file.num_row_groups):
        table: pa.Table = file.read_row_group(group, columns=IDENTITY)
        yield from table.to_pylist()


def _people(row: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What must lie in one split: the group, the recording and, where known, the wearer."""
    people: dict[str, tuple[str, ...]] = {
        "split group": (row["split_group"],),
        "recording": (row["source"], row["video_uid"]),
    }
    if row["wearer_id"] is not None:
        people["wearer"] = (row["source"], row["wearer_id"])
    return people
