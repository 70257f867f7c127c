"""A build as exporters read it: split by split, every window counted as it passes."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from egotriad.manifests import Clip, Events
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import sha256_text
from egotriad.manifests.shards import ShardReader, read_manifest
from egotriad.manifests.shards_qa import QuestionAnswer, read_qa
from egotriad.manifests.sources import open_source
from egotriad.manifests.split import SPLITS

__all__ = ["ExportSource", "Progress", "relative_path"]

Progress = Callable[[str, int, int], None]
"""Called with what is counted, how much of it is done, and how much there is."""


class ExportSource:
    """The windows of a build, and a tally of what became of them.

    Args:
        shards: folder, URL or Hub id of the build.
        split: only this one; None = all.
        progress: called after every window.

    Attributes:
        splits: names of the splits, in their usual order.
        windows, events: how many were written.
        left_out: reason -> how many were not.
        licences: ids met.

    Raises:
        ShardError: when there is no complete build, or the split is not in it.
    """

    def __init__(self, shards: Path | str, *, split: str | None, progress: Progress) -> None:
        lines = read_manifest(shards)
        present = {line["split"] for line in lines}
        self.splits = [split] if split is not None else [s for s in SPLITS if s in present]
        self.windows = self.events = 0
        self.left_out: Counter[str] = Counter()
        self.licences: set[str] = set()
        self._shards, self._progress = shards, progress
        self._done = 0
        self._total = sum(len(self.reader(name, events=False)) for name in self.splits)
        self._asked: Counter[str] = Counter()
        for line in lines:
            if line["config"] == "qa" and line["split"] in self.splits:
                self._asked[line["split"]] += line["rows"]

    def reader(self, split: str, *, events: bool = True, imu: bool = True) -> ShardReader:
        """A reader of one split."""
        return ShardReader(self._shards, split=split, imu=imu, events=events)

    def clips(self, split: str, *, imu: bool = True, events: bool = True) -> Iterator[Clip]:
        """Every clip of a split in the build's order; the next one is asked for when it is done."""
        for clip in self.reader(split, imu=imu, events=events):
            yield clip
            self.passed(clip)

    @property
    def asked(self) -> int:
        """How many questions there are about the windows."""
        return self._asked.total()

    def questions(self) -> Iterator[QuestionAnswer]:
        """Every question about the windows, in the build's order."""
        for split in self.splits:
            if self._asked[split]:
                yield from read_qa(self._shards, split=split)

    def passed(self, clip: Clip) -> None:
        """Notes that a window has been dealt with."""
        self.licences.add(clip.origin.license_id)
        self._done += 1
        self._progress("windows exported", self._done, self._total)

    def wrote(self, events: Events | None = None) -> None:
        """Counts a window that was written, and its events."""
        self.windows += 1
        self.events += 0 if events is None else len(events)

    def text(self, name: str) -> str | None:
        """A text file of the build, None where it has none."""
        source = open_source(self._shards)
        source.fetch([name])
        return source.text(name)

    @cached_property
    def sha256(self) -> str:
        """One hash for the build that is exported."""
        return sha256_text(self.text("SHA256SUMS") or "")

    @cached_property
    def provenance(self) -> dict[str, Any] | None:
        """The build's own record of how it came to be, None where it has none."""
        text = self.text("provenance.json")
        try:
            return None if text is None else json.loads(text)
        except ValueError as exc:
            raise ShardError(
                f"provenance.json: is damaged ({exc}); run verify-shards --repair first"
            ) from exc


def relative_path(clip: Clip) -> PurePosixPath:
    """The window's id as a path: `source/recording/start-duration`.

    Raises:
        ShardError: when the id is no such path, and would lead elsewhere.
    """
    parts = clip.window_id.split("/")
    if len(parts) < 2 or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ShardError(
            f"{clip.window_id}: cannot be the name of a file; run verify-shards on the shards"
        )
    return PurePosixPath(*parts)
