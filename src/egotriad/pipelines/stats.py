"""`stats.json`: what shards hold, in numbers, split by split.

```
{"schema_version": ..., "splits": {"train": {
    "windows", "recordings", "wearers", "hours", "unique_hours", "narrations", "events",
    "values":  {"license_id": {"own": 12}, "align_status": {...}, ...},     windows of each value
    "columns": {"imu.acc_x": {"unit", "count", "min", "max", "mean", "std", "q01" ... "q99"}, ...}
}}}
```
`hours` adds up all windows, `unique_hours` counts time under several windows once; `wearers` are
groups that a split never divides (the recording, where the wearer is not known). A quantile is the
least number that so many percent of all do not exceed. Masked IMU samples and absent values do not
count; a column without any is left out. Nothing is estimated.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from egotriad.manifests.clip import IMU_ROWS
from egotriad.manifests.events import Span
from egotriad.manifests.rows import union_us
from egotriad.manifests.schema import SCHEMA_VERSION
from egotriad.manifests.shards import open_table
from egotriad.manifests.split import SPLITS
from egotriad.pipelines.quantiles import FirstPass, SecondPass, moments_of

__all__ = ["shard_stats", "value_counts"]

CATEGORIES = (
    "source",
    "source_version",
    "license_id",
    "split_origin",
    "imu_kind",
    "text_source",
    "align_status",
)
NUMBERS = {
    "duration_us": "us",
    "imu_rate_hz": "Hz",
    "imu_src_rate_hz": "Hz",
    "other_actions": "actions",
    "num_events": "events",
    "event_rate_hz": "Hz",
    "event_on_fraction": "1",
}
LIGHT = (*CATEGORIES, *NUMBERS, "video_uid", "split_group", "t_start_us", "narrations")
IMU_UNITS = ("m/s^2",) * 3 + ("rad/s",) * 3


def shard_stats(folder: Path, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reads the light table twice, a row group at a time; memory grows by some 300 bytes a window.

    Args:
        folder: of the build; its `data/` files must be there.
        lines: of the manifest.
    """
    splits = {}
    for split in SPLITS:
        files = [
            folder / line["path"]
            for line in lines
            if line["config"] == "windows" and line["split"] == split
        ]
        if files:
            splits[split] = _split_stats(files)
    return {"schema_version": SCHEMA_VERSION, "splits": splits}


def value_counts(stats: dict[str, Any], column: str) -> dict[str, int]:
    """How many windows hold each value of one of the `values` columns, over all splits."""
    total: Counter[str] = Counter()
    for split in stats["splits"].values():
        total.update(split["values"][column])
    return dict(sorted(total.items()))


def _split_stats(files: Sequence[Path]) -> dict[str, Any]:
    light = _Light()
    channels = [FirstPass() for _ in IMU_ROWS]
    for table in _row_groups(files, [*LIGHT, "imu"]):
        light.add(table)
        for channel, values in zip(channels, _samples(table), strict=True):
            channel.add(values)
    return light.summary() | {"columns": _imu_columns(files, channels) | light.numbers()}


def _imu_columns(files: Sequence[Path], channels: Sequence[FirstPass]) -> dict[str, Any]:
    if not channels[0].count:
        return {}
    seconds = [SecondPass(channel) for channel in channels]
    for table in _row_groups(files, ["imu"]):
        for second, values in zip(seconds, _samples(table), strict=True):
            second.add(values)
    return {
        f"imu.{name}": {"unit": unit} | first.moments() | second.quantiles()
        for name, unit, first, second in zip(IMU_ROWS, IMU_UNITS, channels, seconds, strict=True)
    }


def _row_groups(files: Sequence[Path], columns: list[str]) -> Iterator[pa.Table]:
    for path in files:
        file = open_table(path, "windows")
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns)


def _samples(table: pa.Table) -> list[NDArray[np.float32]]:
    """The valid samples of each IMU channel of some windows, six times (N,)."""
    imu = table.column("imu").combine_chunks().flatten()
    samples = imu.flatten().to_numpy(zero_copy_only=False).reshape(-1, 6)
    return [column[~np.isnan(column)] for column in samples.T]


class _Light:
    """Everything about the windows of a split besides their IMU samples."""

    def __init__(self) -> None:
        self._windows = self._narrations = 0
        self._groups: set[str] = set()
        self._values: dict[str, Counter[str]] = {name: Counter() for name in CATEGORIES}
        self._numbers: dict[str, list[NDArray[np.float64]]] = {name: [] for name in NUMBERS}
        self._spans: defaultdict[tuple[str, str], list[Span]] = defaultdict(list)

    def add(self, table: pa.Table) -> None:
        """Takes in the rows of a row group."""
        self._windows += table.num_rows
        self._narrations += len(table.column("narrations").combine_chunks().flatten())
        self._groups.update(table.column("split_group").to_pylist())
        for name, counts in self._values.items():
            counts.update(table.column(name).to_pylist())
        for name, blocks in self._numbers.items():
            present = table.column(name).drop_null()
            blocks.append(present.to_numpy().astype(np.float64))
        where = ("source", "video_uid", "t_start_us", "duration_us")
        for source, video, start, duration in zip(
            *(table.column(name).to_pylist() for name in where), strict=True
        ):
            self._spans[source, video].append(Span(start, duration))

    def summary(self) -> dict[str, Any]:
        """Sums and counts of values."""
        events = np.concatenate(self._numbers["num_events"])
        unique_us = sum(union_us(spans) for spans in self._spans.values())
        return {
            "windows": self._windows,
            "recordings": len(self._spans),
            "wearers": len(self._groups),
            "hours": round(float(np.concatenate(self._numbers["duration_us"]).sum()) / 3.6e9, 6),
            "unique_hours": round(unique_us / 3.6e9, 6),
            "narrations": self._narrations,
            "events": int(events.sum()) if len(events) else None,
            "values": {name: dict(sorted(counts.items())) for name, counts in self._values.items()},
        }

    def numbers(self) -> dict[str, Any]:
        """Statistics of the columns with one number a window."""
        whole = {name: np.concatenate(blocks) for name, blocks in self._numbers.items()}
        return {
            name: {"unit": NUMBERS[name]} | dict(moments_of(values))
            for name, values in whole.items()
            if len(values)
        }
