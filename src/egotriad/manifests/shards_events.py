"""The events of single windows out of an events file, one row group each."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from egotriad.manifests.errors import ShardError
from egotriad.manifests.events import Events, Span
from egotriad.manifests.rows import EVENT_HEAD, EVENT_PLANES, planes_of, times_of
from egotriad.manifests.shards_pages import read_planes, read_times
from egotriad.manifests.shards_table import read_group, table_of
from egotriad.manifests.sources import ShardSource, UrlSource

__all__ = ["EventFile"]


class EventFile:
    """An events file, opened.

    Args:
        source: of the build.
        file: its path in the build.

    Raises:
        ShardError: when it is missing, damaged or of another version.
    """

    def __init__(self, source: ShardSource, file: str) -> None:
        self._file = file
        self._parquet = table_of(source, file, "events")
        place = None if isinstance(source, UrlSource) else source.open(file)
        self._path = place if isinstance(place, Path) else None

    def events(self, row: int, window_id: str, span: Span | None) -> Events:
        """The events of a row, times relative to its window.

        Args:
            row: row and row group.
            window_id: what the row must be.
            span: only events with start_us <= t < end_us; None = all.

        Raises:
            ShardError: when it is another window's row, or damaged.
        """
        index = [] if span is None else ["ev_ms_to_idx"]
        # From far away, one request for all columns costs less than decoding them fast.
        arrays = [] if self._path else ["ev_t", *EVENT_PLANES]
        table = read_group(self._parquet, row, self._file, EVENT_HEAD + index + arrays)
        found = table.column("window_id")[0].as_py()
        if found != window_id:
            raise ShardError(
                f"{PurePosixPath(self._file).name}: row {row} is {found}, need {window_id}; "
                "the two tables are not of one build"
            )
        t = self._times(table, row)
        part = slice(0, len(t)) if span is None else _part_of(t, table, span)
        planes = self._planes(table, row, len(t), part)
        width, height = (table.column(f"sensor_{side}")[0].as_py() for side in ("width", "height"))
        return Events(
            t_us=t[part].astype(np.int64),
            x=planes["ev_x"],
            y=planes["ev_y"],
            p=planes["ev_p"],
            size_wh=(width, height),
        )

    def _times(self, table: pa.Table, row: int) -> NDArray[np.int32]:
        if self._path is not None:
            times = read_times(self._path, self._parquet.metadata, row)
            if times is not None:
                return times
            table = read_group(self._parquet, row, self._file, ["ev_t"])
        return times_of(table)

    def _planes(
        self, table: pa.Table, row: int, count: int, part: slice
    ) -> dict[str, NDArray[Any]]:
        if self._path is not None:
            planes = read_planes(self._path, self._parquet.metadata, row, count, part)
            if planes is not None:
                return planes
            table = read_group(self._parquet, row, self._file, EVENT_PLANES)
        return planes_of(table, part)


def _part_of(t: NDArray[np.int32], table: pa.Table, span: Span) -> slice:
    """Which events of a row lie in a span: start_us <= t < end_us."""
    # Entry ms is the first event at or after ms: the span's ends lie between two entries.
    index = table.column("ev_ms_to_idx").chunk(0).flatten().to_numpy()
    ends = np.array([span.start_us, span.end_us])
    below, above = np.clip([ends // 1000, -(-ends // 1000)], 0, len(index) - 1)
    low, high = (
        int(index[a] + np.searchsorted(t[index[a] : index[b]], end))
        for a, b, end in zip(below, above, ends, strict=True)
    )
    return slice(low, high)
