"""Event pages decoded without their levels: the same values as pyarrow's, and damage is found."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egotriad.manifests.errors import ShardError
from egotriad.manifests.rows import EVENT_PLANES, planes_of, times_of
from egotriad.manifests.schema import EVENTS, writer_options
from egotriad.manifests.shards_flat import delta_decoded
from egotriad.manifests.shards_pages import PLANES, TIMES, read_planes, read_times


def event_row(count: int, seed: int = 0) -> pa.Table:
    """A row of the event table; coordinates up to the last of 16 bits."""
    rng = np.random.default_rng((seed, count))
    values = {
        "window_id": ["a"],
        "t_start_us": [0],
        "duration_us": [10],
        "sensor_width": [65535],
        "sensor_height": [65535],
        "sim_id": ["s"],
        "event_spans": [[]],
        "ev_t": [np.arange(count)],
        "ev_x": [rng.integers(0, 65536, count)],
        "ev_y": [rng.integers(0, 65536, count)],
        "ev_p": [rng.random(count) < 0.3],
        "ev_ms_to_idx": [[0]],
    }
    return pa.Table.from_pydict(values, schema=EVENTS)


def write(path: Path, counts: list[int], **options: object) -> pq.FileMetaData:
    with pq.ParquetWriter(path, EVENTS, **writer_options("events") | options) as writer:
        for count in counts:
            writer.write_table(event_row(count))
    return pq.read_metadata(path)


def test_values_are_those_that_pyarrow_reads(tmp_path: Path) -> None:
    counts = [0, 1, 7, 8, 9, 1000, 300_001]  # the last fills more than a page of the default size
    metadata = write(tmp_path / "e", counts)
    file = pq.ParquetFile(tmp_path / "e")
    for group, count in enumerate(counts):
        times = read_times(tmp_path / "e", metadata, group)
        assert times.dtype == np.int32
        assert np.array_equal(times, times_of(file.read_row_group(group)))
        for part in (slice(0, count), slice(count // 3, count // 2)):
            planes = read_planes(tmp_path / "e", metadata, group, count, part)
            need = planes_of(file.read_row_group(group), part)
            assert planes.keys() == need.keys() == set(EVENT_PLANES)
            for name, values in planes.items():
                assert values.dtype == need[name].dtype, name
                assert np.array_equal(values, need[name]), name


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lz4", "compression_level": None},
        {"column_encoding": {"ev_x.list.element": "PLAIN"}},
        {"use_dictionary": True, "column_encoding": None},
        {"write_page_checksum": False},
    ],
)
def test_files_of_other_writers_are_left_to_pyarrow(tmp_path: Path, options: dict) -> None:
    metadata = write(tmp_path / "e", [9000], **options)
    assert read_planes(tmp_path / "e", metadata, 0, 9000, slice(0, 9000)) is None
    assert read_times(tmp_path / "e", metadata, 0) is None


def test_every_damaged_byte_is_an_error_and_never_another_value(tmp_path: Path) -> None:
    path = tmp_path / "e"
    metadata = write(path, [40, 30])
    whole = path.read_bytes()

    def read() -> dict[str, np.ndarray | None]:
        times = read_times(path, metadata, 1)
        return {"ev_t": times} | (read_planes(path, metadata, 1, 30, slice(0, 30)) or {})

    true = read()
    row = metadata.row_group(1)
    chunks = [row.column(k) for k in range(row.num_columns)]
    places = [
        byte
        for chunk in chunks
        if chunk.path_in_schema in PLANES | TIMES
        for byte in range(
            chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
        )
    ]
    assert len(places) > 250
    for byte in places:
        content = bytearray(whole)
        content[byte] ^= 1 << byte % 8
        path.write_bytes(content)
        try:
            found = read()
        except ShardError as exc:
            assert "e: row group 1 is damaged in ev_" in str(exc)  # noqa: PT017
            continue
        # A flip in what the header says besides (or that hides the checksum) changes no value.
        for name, values in found.items():
            assert values is None or np.array_equal(values, true[name]), (byte, name)
    path.write_bytes(whole[: places[-1] - 3])
    with pytest.raises(ShardError, match="fetch it again, or verify-shards --repair"):
        read()


def test_a_wrong_count_is_an_error(tmp_path: Path) -> None:
    metadata = write(tmp_path / "e", [40])
    with pytest.raises(ShardError, match=r"160 bytes of values, need 164"):
        read_planes(tmp_path / "e", metadata, 0, 41, slice(0, 41))


@pytest.mark.parametrize("most", [0, 39])
def test_more_times_than_there_may_be_are_an_error(tmp_path: Path, most: int) -> None:
    encoded = bytes([128, 1, 4, 40, 0, 2, 0, 0, 0, 0])  # 40 values: 0, 1, 2, ...
    assert delta_decoded(encoded, 40).tolist() == list(range(40))
    with pytest.raises(ValueError, match=f"40 values, need at most {most}"):
        delta_decoded(encoded, most)


def test_times_that_end_too_early_are_an_error() -> None:
    with pytest.raises((OSError, ValueError, IndexError)):
        delta_decoded(bytes([128, 1, 4, 200, 1, 0, 2, 1]), 200)
