"""Rows that two builds share: are they the same, and files written again without them."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import atomic
from egotriad.manifests.schema import FOLDERS, WINDOWS
from egotriad.manifests.shards import TableWriter, open_table
from egotriad.manifests.shards_read import Recent
from egotriad.pipelines.pack import manifest_line, renumber, window_ids
from egotriad.pipelines.provenance import BUILDER

__all__ = ["same_rows", "write_without"]


def same_rows(path: Path, again: Mapping[int, tuple[Path, int]]) -> None:
    """Refuses windows that stand in two builds with different contents.

    Args:
        path: a windows file.
        again: row of it -> (windows file, row) of the same window in another build.

    Raises:
        ShardError: naming the window, the builds and the columns that differ.
    """
    groups = Recent[tuple[Path, str, int], pa.Table](4, lambda _: 1)
    for row, (other, other_row) in again.items():
        first, second = _row(other, other_row, groups), _row(path, row, groups)
        differing = [name for name in first if not _equal(first[name], second[name])]
        if differing:
            builds = " and ".join(place.parent.parent.name for place in (other, path))
            raise ShardError(
                f"{first['window_id'][0]}: is in {builds} with another {', '.join(differing)}; "
                "build one of them without this recording, or both from the same sources"
            )


def _row(
    path: Path, row: int, groups: Recent[tuple[Path, str, int], pa.Table]
) -> dict[str, pa.Array]:
    """The columns of a window in both tables, without where its events lie."""

    def decoded(file: Path, table: str, group: int) -> pa.Table:
        key = (file, table, group)
        return groups.get(key, lambda: open_table(file, table).read_row_group(group))

    metadata = open_table(path, "windows").metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    ends = np.cumsum(sizes)
    group = int(np.searchsorted(ends, row, side="right"))
    light = decoded(path, "windows", group).slice(row - int(ends[group]) + sizes[group], 1)
    columns = {name: light[name].combine_chunks() for name in light.column_names}
    event_row = columns.pop("event_row")[0].as_py()
    if event_row is not None:
        heavy = decoded(path.parent.with_name(FOLDERS["events"]) / path.name, "events", event_row)
        columns |= {name: heavy[name].combine_chunks() for name in heavy.column_names}
    return columns


def _equal(first: pa.Array, second: pa.Array) -> bool:
    if first.type == WINDOWS.field("imu").type and first.null_count == second.null_count:
        # To Arrow a NaN, which stands where no sample was, is unequal to itself.
        first, second = (a.flatten().flatten().view(pa.int32()) for a in (first, second))
    return bool(first.equals(second))


def write_without(
    source: Path, line: Mapping[str, Any], out: Path, path: str, left_out: Set[int]
) -> dict[str, Any]:
    """Writes a data file again without some of its rows; returns its line of the manifest.

    Args:
        source: the file.
        line: its line of the manifest.
        out: folder of the new build.
        path: of the new file in it.
        left_out: rows, counted from the start of the file.
    """
    table, config_hash = line["config"], line["config_hash"]
    with (
        atomic(out / path) as temporary,
        TableWriter(temporary, table, builder=BUILDER, config_hash=config_hash) as writer,
    ):
        start = 0
        file = open_table(source, table)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            kept = [row not in left_out for row in range(start, start + rows.num_rows)]
            start += rows.num_rows
            rows = rows.filter(pa.array(kept)).combine_chunks()
            if table == "windows" and rows.num_rows:
                rows = renumber(rows, writer.rows, rows["event_row"].null_count < rows.num_rows)
            writer.write(rows)
    ids = window_ids(out / path, table)
    counts = {} if table == "qa" else _counts(source, left_out)
    return manifest_line(out, path, config_hash, ids) | counts


def _counts(source: Path, left_out: Set[int]) -> dict[str, int | None]:
    """What the manifest counts in the rows of a shard that are kept."""
    columns = ["num_events", "source", "video_uid", "split_group"]
    light = open_table(source.parent.with_name(FOLDERS["windows"]) / source.name, "windows")
    told = light.read(columns).to_pylist()
    kept = [row for number, row in enumerate(told) if number not in left_out]
    events = [row["num_events"] for row in kept if row["num_events"] is not None]
    return {
        "events": sum(events) if events else None,
        "videos": len({(row["source"], row["video_uid"]) for row in kept}),
        "wearers": len({row["split_group"] for row in kept}),
    }
