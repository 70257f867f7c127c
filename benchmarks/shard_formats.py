"""Ways to store windows with IMU, text and events: each writes a folder and reads it back.

Every format holds the same: id and narration, IMU float32 (6, T), events t, x, y, p.
"""

import io
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.manifests import Clip, Events
from egotriad.manifests.rows import event_table, ms_to_idx, window_table
from egotriad.manifests.schema import file_metadata, writer_options
from egotriad.manifests.shards import ShardReader, TableWriter

NAME = "train-00000-of-00001.parquet"
LIGHT = ["window_id", "narration", "imu"]
Light = tuple[str, str, NDArray[np.float32]]


class Format(ABC):
    """One way to store windows."""

    @abstractmethod
    def write(self, folder: Path, clips: Sequence[Clip]) -> None:
        """Writes all windows into an empty folder."""

    @abstractmethod
    def events(self, folder: Path, index: int) -> Events:
        """The events of one window, of a file that is open already."""

    @abstractmethod
    def light(self, folder: Path) -> Iterator[Light]:
        """Id, narration and IMU of every window."""


class Shards(Format):
    """Our two tables with given Parquet options, written and read by pyarrow as lists."""

    def __init__(self, **events: Any) -> None:
        self._events = writer_options("events") | events

    def write(self, folder: Path, clips: Sequence[Clip]) -> None:
        """See `Format`."""
        rows = list(range(len(clips)))
        light = window_table(clips, [None] * len(clips), rows)
        _write(folder / "data" / NAME, "windows", [light], writer_options("windows"))
        (folder / "events").mkdir()
        self._write_events(folder / "events" / NAME, clips)
        line = {"config": "windows", "split": "train", "path": f"data/{NAME}"}
        (folder / "manifest.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
        (folder / "SHA256SUMS").touch()

    def _write_events(self, path: Path, clips: Sequence[Clip]) -> None:
        _write(path, "events", (event_table(clip) for clip in clips), self._events)

    def events(self, folder: Path, index: int) -> Events:
        """See `Format`."""
        table = _parquet(folder / "events" / NAME).read_row_group(index)
        t, x, y, p = (
            table.column(name).chunk(0).flatten().to_numpy(zero_copy_only=False)
            for name in ("ev_t", "ev_x", "ev_y", "ev_p")
        )
        size_wh = (table["sensor_width"][0].as_py(), table["sensor_height"][0].as_py())
        return Events(t_us=t.astype(np.int64), x=x, y=y, p=p, size_wh=size_wh)

    def light(self, folder: Path) -> Iterator[Light]:
        """See `Format`."""
        file = _parquet(folder / "data" / NAME)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=LIGHT)
            imu = table["imu"].combine_chunks()
            samples = imu.flatten().flatten().to_numpy().reshape(-1, 6)
            ends = imu.offsets.to_numpy()
            for row in range(len(imu)):
                data = np.ascontiguousarray(samples[ends[row] : ends[row + 1]].T)
                yield table["window_id"][row].as_py(), table["narration"][row].as_py(), data


class Ours(Shards):
    """Our two tables, written by our writer and read by our reader."""

    def _write_events(self, path: Path, clips: Sequence[Clip]) -> None:
        with TableWriter(path, "events", builder="bench 1", config_hash="0") as writer:
            for clip in clips:
                writer.write_events(clip)

    def events(self, folder: Path, index: int) -> Events:
        """See `Format`."""
        events = _reader(folder).events(index)
        if events is None:
            raise ValueError(f"window {index} has no events")
        return events

    def light(self, folder: Path) -> Iterator[Light]:
        """See `Format`; whole clips, everything but their events."""
        for clip in ShardReader(folder, events=False):
            if clip.imu is not None:
                yield clip.window_id, clip.narration or "", clip.imu.data


class DsecHdf5(Format):
    """DSEC's layout, a group per window, in one HDF5 file."""

    def __init__(self, *, chunk: int = 1 << 18, **filters: Any) -> None:
        self._chunk, self._filters = chunk, filters

    def write(self, folder: Path, clips: Sequence[Clip]) -> None:
        """See `Format`."""
        with h5py.File(folder / "windows.h5", "w") as file:
            for number, clip in enumerate(clips):
                events = _events(clip)
                group = file.create_group(f"{number:06d}")
                group.attrs.update({"window_id": clip.window_id, "narration": clip.narration or ""})
                group.attrs["size_wh"] = events.size_wh
                columns: dict[str, NDArray[Any]] = {
                    "events/t": events.t_us.astype(np.uint32),
                    "events/x": events.x,
                    "events/y": events.y,
                    "events/p": events.p.astype(np.uint8),
                    "ms_to_idx": ms_to_idx(events.t_us, clip.duration_us).astype(np.uint64),
                    "imu": clip.imu.data if clip.imu else np.empty((6, 0), np.float32),
                }
                for name, values in columns.items():
                    shape = tuple(min(self._chunk, side) or 1 for side in values.shape)
                    filters = self._filters if values.size else {"chunks": None}
                    group.create_dataset(name, data=values, **{"chunks": shape} | filters)

    def events(self, folder: Path, index: int) -> Events:
        """See `Format`."""
        group = _hdf5(folder / "windows.h5")[f"{index:06d}"]
        t, x, y, p = (group[f"events/{name}"][:] for name in "txyp")
        width, height = group.attrs["size_wh"]
        return Events(
            t_us=t.astype(np.int64), x=x, y=y, p=p.view(np.bool_), size_wh=(int(width), int(height))
        )

    def light(self, folder: Path) -> Iterator[Light]:
        """See `Format`."""
        for group in _hdf5(folder / "windows.h5").values():
            yield group.attrs["window_id"], group.attrs["narration"], group["imu"][:]


class WebDatasetNpz(Format):
    """A tar file with a json, an npy and a compressed npz member per window."""

    def write(self, folder: Path, clips: Sequence[Clip]) -> None:
        """See `Format`."""
        with tarfile.open(folder / "windows.tar", "w", format=tarfile.USTAR_FORMAT) as file:
            for number, clip in enumerate(clips):
                events, imu, heavy = _events(clip), io.BytesIO(), io.BytesIO()
                told = {"window_id": clip.window_id, "narration": clip.narration or ""}
                light = json.dumps(told | {"size_wh": events.size_wh}).encode()
                np.save(imu, clip.imu.data if clip.imu else np.empty((6, 0), np.float32))
                t = events.t_us.astype(np.int32)
                np.savez_compressed(heavy, t=t, x=events.x, y=events.y, p=events.p)
                for kind, content in (
                    ("json", light),
                    ("imu.npy", imu.getvalue()),
                    ("events.npz", heavy.getvalue()),
                ):
                    member = tarfile.TarInfo(f"{number:06d}.{kind}")
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))

    def events(self, folder: Path, index: int) -> Events:
        """See `Format`."""
        with np.load(io.BytesIO(_member(folder, f"{index:06d}.events.npz"))) as arrays:
            t, x, y, p = (arrays[name] for name in "txyp")
        size_wh = json.loads(_member(folder, f"{index:06d}.json"))["size_wh"]
        return Events(t_us=t.astype(np.int64), x=x, y=y, p=p, size_wh=tuple(size_wh))

    def light(self, folder: Path) -> Iterator[Light]:
        """See `Format`."""
        names = [name for name in _tar(folder / "windows.tar") if name.endswith(".json")]
        for name in names:
            told = json.loads(_member(folder, name))
            imu = np.load(io.BytesIO(_member(folder, name.replace("json", "imu.npy"))))
            yield told["window_id"], told["narration"], imu


def blosc(**options: Any) -> Mapping[str, Any]:
    """Filters of HDF5: blosc with zstd at level 5 and bit shuffle, as DSEC's tools write."""
    return dict(hdf5plugin.Blosc(cname="zstd", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE)) | (
        options
    )


def _events(clip: Clip) -> Events:
    if clip.events is None:
        raise ValueError(f"{clip.window_id} has no events")
    return clip.events


def _write(path: Path, table: str, groups: Any, options: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    metadata = file_metadata(table, builder="bench 1", config_hash="0")
    writer = None
    for rows in groups:
        rows = rows.replace_schema_metadata(metadata)
        writer = writer or pq.ParquetWriter(path, rows.schema, **options)
        writer.write_table(rows, row_group_size=256)
    if writer is not None:
        writer.close()


# Opening is not what is measured: every file is opened once and stays open.


@cache
def _parquet(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


@cache
def _reader(folder: Path) -> ShardReader:
    return ShardReader(folder)


@cache
def _hdf5(path: Path) -> h5py.File:
    return h5py.File(path)


@cache
def _tar(path: Path) -> dict[str, tuple[int, int]]:
    with tarfile.open(path) as file:
        return {member.name: (member.offset_data, member.size) for member in file}


def _member(folder: Path, name: str) -> bytes:
    offset, size = _tar(folder / "windows.tar")[name]
    with (folder / "windows.tar").open("rb") as file:
        file.seek(offset)
        return file.read(size)


FORMATS: Mapping[str, Format] = {
    "egotriad": Ours(),
    "egotriad, by pyarrow": Shards(),
    "recipe": Shards(
        column_encoding=writer_options("events")["column_encoding"]
        | {"ev_y.list.element": "DELTA_BINARY_PACKED"}
    ),
    "parquet defaults": Shards(
        compression="snappy",
        compression_level=None,
        use_dictionary=True,
        write_statistics=True,
        column_encoding=None,
        write_page_checksum=False,
        write_page_index=False,
    ),
    "hdf5 dsec blosc": DsecHdf5(**blosc()),
    "hdf5 dsec blosc, checked": DsecHdf5(**blosc(fletcher32=True)),
    "webdataset npz": WebDatasetNpz(),
}
"""`recipe` is the encoding of the study that this format began with, and its way to read."""
