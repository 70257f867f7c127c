"""Reading a build: from front to back, or any row at random, from a folder, a URL or the Hub.

What is not asked for is not read: `events=False` never opens (or fetches) the event files,
`imu=False` leaves the IMU's bytes where they are. Every page is checked against its CRC. Types are
those of the shards: x and y stay uint16, polarity bool, the IMU float32.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests.clip import Clip
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.events import Events, Span
from egotriad.manifests.files import sha256_text
from egotriad.manifests.rows import clips_of
from egotriad.manifests.shards_events import EventFile
from egotriad.manifests.shards_table import read_group, table_of
from egotriad.manifests.sources import FolderSource, ShardSource, open_source

__all__ = ["ShardReader", "complete", "read_manifest", "read_shards", "shards_sha256"]

MARKERS = ("manifest.jsonl", "SHA256SUMS")
LINE_KEYS = {"config", "split", "path"}
OPEN_FILES = 16
FOOTER_THREADS = 8

Key = TypeVar("Key")
Value = TypeVar("Value")


def read_manifest(path: Path | str) -> list[dict[str, Any]]:
    """The manifest's lines.

    Args:
        path: folder, URL or Hub id of the build.

    Raises:
        ShardError: when there is no complete build.
    """
    return complete(path)[1]


def shards_sha256(path: Path | str) -> str:
    """One hash for the whole build: that of its SHA256SUMS.

    Raises:
        ShardError: when there is no complete build.
    """
    return sha256_text(complete(path)[0].text("SHA256SUMS") or "")


def read_shards(
    path: Path | str, *, split: str | None = None, imu: bool = True, events: bool = True
) -> Iterator[Clip]:
    """Every clip of a build, in the build's order, in bounded memory.

    Args:
        path: folder, URL or Hub id of the build.
        split: train, validation or test; None = all.
        imu: False leaves `Clip.imu` None and never reads it.
        events: False leaves `Clip.events` None and never opens the event table.

    Raises:
        ShardError: when there is no complete build, the split is not in it, or a file is missing,
            damaged or of another version.
    """
    yield from ShardReader(path, split=split, imu=imu, events=events)


class ShardReader:
    """The clips of a build by index or in turn.

    A light row (IMU, text) is decoded with its whole row group, a recording's rows, 256 at most;
    events with nothing but themselves. Can be pickled, and then opens its files anew.

    Args:
        path: folder, URL or Hub id of the build.
        split: train, validation or test; None = all.
        imu: False leaves `Clip.imu` None and never reads it.
        events: False leaves `Clip.events` None and never opens the event table.
        cached_rows: decoded light rows kept for `clip`, those used last (35 kB each with 5 s of IMU
            at 200 Hz); 0 keeps none.

    Raises:
        ShardError: when there is no complete build, or the split is not in it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        split: str | None = None,
        imu: bool = True,
        events: bool = True,
        cached_rows: int = 4096,
    ) -> None:
        self._source, manifest = complete(path)
        lines = [line for line in manifest if line["config"] == "windows"]
        if split is not None:
            splits = sorted({line["split"] for line in lines})
            lines = [line for line in lines if line["split"] == split]
            if not lines:
                raise ShardError(f"{self.name}: has no split {split!r}, only {', '.join(splits)}")
        self._shards = tuple(
            _Shard(line["path"], f"events/{PurePosixPath(line['path']).name}", line["split"])
            for line in lines
        )
        wanted = [shard.light for shard in self._shards]
        if events:
            wanted += [shard.heavy for shard in self._shards]
        self._source.fetch(wanted)
        self._imu, self._events = imu, events
        self.cached_rows = cached_rows
        self._groups = Recent[int, list[_Row]](cached_rows, len)
        self._tables = Recent[str, EventFile](OPEN_FILES, _one)

    @property
    def name(self) -> str:
        """What messages call the build."""
        return self._source.name

    @property
    def shards(self) -> int:
        """Number of shards that are read."""
        return len(self._shards)

    @cached_property
    def sha256(self) -> str:
        """One hash for the whole build, all splits: that of its SHA256SUMS."""
        return sha256_text(self._source.text("SHA256SUMS") or "")

    @cached_property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of every row group, in the build's order: what is decoded together.

        Raises:
            ShardError: when a file is missing, damaged or of another version.
        """
        return tuple(rows for _, _, rows in self._index)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[Clip]:
        for shard in self._shards:
            windows = table_of(self._source, shard.light, "windows")
            for group in range(windows.num_row_groups):
                for row in self._decode(windows, shard, group):
                    yield self._whole(row)

    def clip(self, index: int) -> Clip:
        """The clip at an index, counted in the build's order from 0.

        Its IMU is that of the kept row: do not write into it.

        Raises:
            UsageError: outside 0 .. len - 1.
            ShardError: when a file is missing, damaged or of another version.
        """
        return self._whole(self._row(index))

    def events(self, index: int, span: Span | None = None) -> Events | None:
        """The events of one clip, or only those in a span; None when none were synthesised.

        One row group of the event table is decoded. With a span, `ev_ms_to_idx` leads to its
        events, and only they are widened to int64; times stay relative to the window.

        Raises:
            UsageError: outside 0 .. len - 1, or when the reader was opened without events.
            ShardError: when a file is missing, damaged or of another version.
        """
        if not self._events:
            raise UsageError(f"{self.name}: was opened with events=False")
        return self._read_events(self._row(index), span)

    @cached_property
    def _index(self) -> list[tuple["_Shard", int, int]]:
        """(shard, row group, rows) of every row group."""

        def groups(shard: _Shard) -> list[tuple[_Shard, int, int]]:
            metadata = table_of(self._source, shard.light, "windows").metadata
            counts = [
                metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)
            ]
            return [(shard, group, rows) for group, rows in enumerate(counts)]

        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            return [entry for entries in pool.map(groups, self._shards) for entry in entries]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.group_rows, dtype=np.int64)

    def _row(self, index: int) -> "_Row":
        if not 0 <= index < len(self):
            raise UsageError(f"{self.name}: clip {index}, need 0 to {len(self) - 1}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        shard, group, rows = self._index[number]

        def decode() -> list[_Row]:
            windows = table_of(self._source, shard.light, "windows")
            return self._decode(windows, shard, group)

        return self._groups.get(number, decode)[index - int(self._ends[number]) + rows]

    def _decode(self, windows: pq.ParquetFile, shard: "_Shard", group: int) -> list["_Row"]:
        left_out = {"event_preview"} if self._imu else {"event_preview", "imu", "imu_mask"}
        columns = [name for name in windows.schema_arrow.names if name not in left_out]
        table = read_group(windows, group, shard.light, columns)
        return [_Row(shard, clip, event_row) for clip, event_row in clips_of(table, shard.split)]

    def _whole(self, row: "_Row") -> Clip:
        if not self._events or row.event_row is None:
            return row.clip
        return replace(row.clip, events=self._read_events(row, None))

    def _read_events(self, row: "_Row", span: Span | None) -> Events | None:
        file = row.shard.heavy
        if row.event_row is None:
            return None
        events = self._tables.get(file, lambda: EventFile(self._source, file))
        return events.events(row.event_row, row.clip.window_id, span)


@dataclass(frozen=True, slots=True)
class _Shard:
    light: str
    heavy: str
    split: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A clip without its events, and where they are."""

    shard: _Shard
    clip: Clip
    event_row: int | None


class Recent(Generic[Key, Value]):
    """The values used last, up to a total weight: at least one of them, or with 0 none."""

    def __init__(self, limit: int, weigh: Callable[[Value], int]) -> None:
        self._limit, self._weigh = limit, weigh
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made when it is not held."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        least = 1 if self._limit else 0
        weight = sum(map(self._weigh, self._values.values()))
        while weight > self._limit and len(self._values) > least:
            weight -= self._weigh(self._values.popitem(last=False)[1])
        return value

    def __reduce__(self) -> tuple[type["Recent[Key, Value]"], tuple[Any, ...]]:
        return type(self), (self._limit, self._weigh)


def _one(_: object) -> int:
    return 1


def complete(path: Path | str) -> tuple[ShardSource, list[dict[str, Any]]]:
    """The source of a complete build, its marker files fetched, and the manifest's lines.

    Raises:
        ShardError: when there is no complete build.
    """
    source = open_source(path)
    source.fetch(MARKERS)
    texts = [source.text(file) for file in MARKERS]
    if None in texts:
        parts = isinstance(source, FolderSource) and (source.root / "parts").is_dir()
        found = "an unfinished build" if parts else "no build"
        raise ShardError(
            f"{source.name}: holds {found} (no manifest.jsonl with SHA256SUMS); "
            "run build-shards again to finish it"
        )
    return source, _lines(source.name, texts[0] or "")


def _lines(name: str, manifest: str) -> list[dict[str, Any]]:
    found = "no JSON object with config, split and path"
    try:
        lines = [json.loads(line) for line in manifest.splitlines()]
        if all(isinstance(line, dict) and line.keys() >= LINE_KEYS for line in lines):
            return lines
    except ValueError as exc:
        found = str(exc)
    raise ShardError(f"{name}: manifest.jsonl is damaged ({found}); rebuild or fetch it again")
