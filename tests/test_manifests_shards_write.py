"""Events files of our writer: byte for byte those of Arrow's, and every reader gives the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.manifests import shards_flat, shards_write
from egotriad.manifests.errors import ShardError
from egotriad.manifests.schema import EVENTS, file_metadata, writer_options
from egotriad.manifests.shards import TableWriter
from egotriad.manifests.shards_encode import list_levels
from egotriad.manifests.shards_flat import STEP, delta_decoded, delta_encoded

INT32 = st.integers(-(2**31), 2**31 - 1)
SCHEMA = EVENTS.with_metadata(file_metadata("events", builder="test 1", config_hash="c"))


def row_of(**columns: Any) -> pa.Table:
    """A row of the events table."""
    row: dict[str, Any] = {
        "window_id": "toy/ä/000000000000-000005000000",
        "t_start_us": -(2**40),
        "duration_us": 5_000_000,
        "sensor_width": 346,
        "sensor_height": 65535,
        "sim_id": "",
        "event_spans": [
            {"start_us": 0, "duration_us": 5},
            {"start_us": -9, "duration_us": 2**31 - 1},
        ],
    }
    row |= {name: np.empty(0, np.int32) for name in EVENTS.names if name.startswith("ev_")}
    return pa.Table.from_pydict({k: [v] for k, v in (row | columns).items()}, schema=EVENTS)


def random_row(count: int, seed: int = 0) -> pa.Table:
    """A row of so many events, in places uniform over all of 16 bits."""
    rng = np.random.default_rng((seed, count))
    return row_of(
        window_id=f"toy/{seed}/{count}",
        event_spans=[{"start_us": k, "duration_us": 7} for k in range(count % 5)],
        ev_t=np.sort(rng.integers(0, 1 + 3 * count, count)),
        ev_x=rng.integers(0, 65536, count),
        ev_y=rng.integers(0, 65536, count),
        ev_p=rng.random(count) < 0.3,
        ev_ms_to_idx=np.sort(rng.integers(0, count + 1, count // 7)),
    )


def write(path: Path, rows: list[pa.Table]) -> Path:
    with TableWriter(path, "events", builder="test 1", config_hash="c") as writer:
        for row in rows:
            writer.write(row)
    return path


def read(path: Path) -> pa.Table:
    return pq.ParquetFile(path, page_checksum_verification=True).read()


@pytest.mark.skipif(not pa.__version__.startswith("26."), reason="Arrow's bytes are those of 26")
def test_files_are_those_of_arrow_byte_for_byte(tmp_path: Path) -> None:
    counts = [*range(40), 63, 64, 65, 127, 128, 129, 130, 5000, 300_001]
    rows = [random_row(count) for count in counts]
    with pq.ParquetWriter(tmp_path / "arrow", SCHEMA, **writer_options("events")) as writer:
        for row in rows:
            writer.write_table(row.replace_schema_metadata(SCHEMA.metadata))
    ours = write(tmp_path / "ours", rows).read_bytes()
    assert ours == (tmp_path / "arrow").read_bytes()


def test_rows_come_back_from_lists_of_any_length(tmp_path: Path) -> None:
    rows = [random_row(count) for count in (*range(20), 1000, 0, 128, 129, 1)]
    found = read(write(tmp_path / "e", rows))
    assert found.equals(pa.concat_tables(rows))
    assert found.schema.metadata[b"egotriad.table"] == b"events"
    assert pq.read_metadata(tmp_path / "e").num_row_groups == len(rows)


def test_a_list_longer_than_any_page_of_arrow_comes_back(tmp_path: Path) -> None:
    count = 2 * STEP + 77
    assert 4 * count > 4 << 20
    row = random_row(count)
    path = write(tmp_path / "e", [row, random_row(3)])
    assert read(path).equals(pa.concat_tables([row, random_row(3)]))


@settings(deadline=None)
@given(
    times=st.lists(INT32, max_size=300),
    shift=st.integers(0, 31),
    x=st.lists(st.integers(0, 65535), max_size=40),
    p=st.lists(st.booleans(), max_size=40),
    spans=st.lists(st.fixed_dictionaries({"start_us": INT32, "duration_us": INT32}), max_size=20),
    name=st.text(max_size=20),
)
def test_any_row_comes_back(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], shift: int, name: str, **lists: Any
) -> None:
    near = [value >> shift for value in times]
    row = row_of(
        window_id=name,
        event_spans=lists["spans"],
        ev_t=near,
        ev_x=lists["x"],
        ev_y=lists["x"][::2],
        ev_p=lists["p"],
        ev_ms_to_idx=sorted(near),
    )
    path = write(tmp_path_factory.getbasetemp() / "any", [row, row])
    assert read(path).equals(pa.concat_tables([row, row]))


@pytest.mark.parametrize("width", range(33))
def test_every_bit_width_is_packed(width: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(width)
    excess = rng.integers(0, 1 << width, 1000, dtype=np.uint64)
    excess[::32] = (1 << width) - 1
    values = np.cumsum(excess).astype(np.uint32).view(np.int32)
    assert read(write(tmp_path / "e", [row_of(ev_t=values)]))["ev_t"][0].as_py() == values.tolist()


def test_differences_are_encoded_alike_in_steps_and_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.cumsum(np.random.default_rng(1).poisson(0.7, 50_000)).astype(np.int32)
    whole = delta_encoded(values)
    monkeypatch.setattr(shards_flat, "STEP", 128 * 3)
    for count in (0, 1, 2, 384, 385, 386, 5000):
        assert np.array_equal(delta_decoded(delta_encoded(values[:count]), count), values[:count])
    assert delta_encoded(values) == whole
    assert len(whole) < len(values) / 2


def test_a_pyarrow_that_encodes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_flat, "BLOCK", 256)
    with pytest.raises(ShardError, match=r"in 4 of 128 and 9 in a page, need 4 of 256 and 9"):
        delta_encoded(np.arange(9, dtype=np.int32))


def test_levels_are_runs_whatever_the_length() -> None:
    assert list_levels(0) == bytes([2, 0, 0, 0, 2, 0] * 2)
    assert all(len(list_levels(count)) <= 30 for count in (1, 15, 16, 10**6, 2**31 - 1))


def test_rows_may_begin_anywhere_in_arrow_s_arrays(tmp_path: Path) -> None:
    counts = [3, 8, 5, 16, 1, 100]
    table = pa.concat_tables([random_row(count) for count in counts]).combine_chunks()
    assert read(write(tmp_path / "e", [table.slice(1, 4)])).equals(table.slice(1, 4))
    whole = write(tmp_path / "f", [random_row(count) for count in counts]).read_bytes()
    assert write(tmp_path / "e", [table]).read_bytes() == whole


def test_the_last_bits_of_polarities_are_zero(tmp_path: Path) -> None:
    ones = pa.array([True] * 16)
    row = row_of(ev_t=[0] * 3, ev_x=[0] * 3, ev_y=[0] * 3)
    index = EVENTS.get_field_index("ev_p")
    lists = [
        pa.ListArray.from_arrays(
            pa.array([0, 3], pa.int32()), values, type=EVENTS.field(index).type
        )
        for values in (ones, pa.array([True] * 3 + [False] * 13))
    ]
    files = [
        write(tmp_path / "e", [row.set_column(index, EVENTS.field(index), values)]).read_bytes()
        for values in lists
    ]
    assert files[0] == files[1]


def plain_rows(found: Any) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: row["window_id"])


@pytest.mark.parametrize("reader", ["duckdb", "polars", "datasets"])
def test_other_readers_give_the_same_values(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip(reader)
    rows = [random_row(count) for count in (0, 1, 9, 17, 1000, 70_000)]
    path = write(tmp_path / "events.parquet", rows)
    need = plain_rows(pa.concat_tables(rows).to_pylist())
    if reader == "duckdb":
        found = library.sql(f"select * from '{path}'").to_arrow_table().to_pylist()
        narrow = library.sql(f"select window_id from '{path}' where window_id = 'toy/0/9'")
        assert narrow.fetchall() == [("toy/0/9",)]
    elif reader == "polars":
        found = library.read_parquet(path).to_dicts()
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        found = list(
            library.load_dataset(
                "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
            )
        )
    assert plain_rows(found) == need


@pytest.mark.parametrize(
    ("name", "nothing"),
    [
        ("window_id", None),
        ("duration_us", None),
        ("ev_t", None),
        ("ev_t", [1, None]),
        ("ev_p", [None]),
        ("event_spans", [None]),
        ("event_spans", [{"start_us": None, "duration_us": 1}]),
    ],
)
def test_nulls_are_refused(name: str, nothing: Any, tmp_path: Path) -> None:
    field = EVENTS.field(name)
    column = pa.array([nothing], field.type)
    row = row_of().set_column(EVENTS.get_field_index(name), field, column)
    with pytest.raises(ShardError, match=rf"{name}.*got null, need a value"):
        write(tmp_path / "e", [row])


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"e: got columns \['window_id'.*need those of the events"):
        write(tmp_path / "e", [row_of().drop_columns(["ev_t"])])


def test_a_page_that_parquet_cannot_count_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_write, "LARGEST_PAGE", 4000)
    with pytest.raises(ShardError, match=r"1000 values in ev_x\.list\.element.*--max-events"):
        write(tmp_path / "e", [random_row(1000)])


def test_a_row_that_fails_is_not_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ShardError):
        write(tmp_path / "e", [random_row(9), row_of().drop_columns(["ev_t"])])
    assert read(tmp_path / "e").equals(random_row(9))
