"""Parquet files joined by copying: the same rows, places that are right, pages that are sound."""

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egotriad.manifests.errors import ShardError
from egotriad.manifests.shards_footer import COLUMNS, OFFSET_INDEX
from egotriad.manifests.shards_join import PAGE_OFFSET, PAGES, join_parquet
from egotriad.manifests.thrift import BINARY, I64, LIST, STRUCT, read_struct, write_struct

OPTIONS = {
    "compression": "zstd",
    "use_dictionary": ["name"],
    "write_page_checksum": True,
    "write_page_index": True,
    "data_page_size": 4096,
}


def write(path: Path, seed: int, *, rows: int = 3, **options: object) -> pa.Table:
    rng = np.random.default_rng(seed)
    table = pa.table(
        {
            "name": [f"{seed}-{k}" for k in range(rows)],
            "values": [rng.integers(0, 1 << 30, 5000).tolist() for _ in range(rows)],
            "maybe": pa.array([None, seed, None][:rows], pa.int32()),
        }
    )
    with pq.ParquetWriter(path, table.schema, **{**OPTIONS, **options}) as writer:
        for row in range(rows):
            writer.write_table(table.slice(row, 1))
    return table


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], pa.Table]:
    paths = [tmp_path / f"{k}.parquet" for k in range(4)]
    tables = [write(path, k, rows=1 + k % 3) for k, path in enumerate(paths)]
    return paths, pa.concat_tables(tables)


def footer_of(path: Path) -> dict:
    data = path.read_bytes()
    (size,) = struct.unpack("<I", data[-8:-4])
    return read_struct(data[-8 - size : -8])[0]


def test_joined_files_hold_the_rows_of_all_in_order(
    files: tuple[list[Path], pa.Table], tmp_path: Path
) -> None:
    paths, table = files
    target = tmp_path / "joined.parquet"
    assert join_parquet(paths, target)
    joined = pq.ParquetFile(target, page_checksum_verification=True)
    assert joined.read().equals(table)
    assert joined.metadata.num_row_groups == table.num_rows
    for row in (0, 3, 6):
        assert joined.read_row_group(row).equals(table.slice(row, 1).combine_chunks())
    assert joined.metadata.row_group(5).column(1).has_offset_index


def test_one_file_joined_is_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1)
    assert join_parquet([tmp_path / "a.parquet"], tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_joining_is_associative(files: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    paths, _ = files
    left, whole, again = (tmp_path / f"{name}.parquet" for name in ("left", "whole", "again"))
    assert join_parquet(paths, whole)
    assert join_parquet(paths[:2], left)
    assert join_parquet([left, *paths[2:]], again)
    assert whole.read_bytes() == again.read_bytes()


def test_page_indexes_name_the_places_of_pages(
    files: tuple[list[Path], pa.Table], tmp_path: Path
) -> None:
    paths, _ = files
    target = tmp_path / "joined.parquet"
    join_parquet(paths, target)
    data = target.read_bytes()
    checked = 0
    for group in footer_of(target)[4][1][1]:
        for chunk in group[COLUMNS][1][1]:
            index, _ = read_struct(data, chunk[OFFSET_INDEX[0]][1])
            for page in index[PAGES][1][1]:
                header, _ = read_struct(data, page[PAGE_OFFSET][1])
                assert header[1][1] in (0, 3)  # a data page, version 1 or 2
                checked += 1
    assert checked > 20


def test_other_readers_find_their_way(files: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    paths, table = files
    target = tmp_path / "joined.parquet"
    join_parquet(paths, target)
    query = f"select name from '{target}' where maybe = 3 or name = '1-0'"
    assert sorted(row[0] for row in duckdb.sql(query).fetchall()) == ["1-0"]
    assert duckdb.sql(f"select count(*) from '{target}'").fetchall() == [(table.num_rows,)]


def test_files_without_page_indexes_are_joined_too(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    tables = [write(path, k, write_page_index=False) for k, path in enumerate(paths)]
    assert join_parquet(paths, tmp_path / "c.parquet")
    assert pq.read_table(tmp_path / "c.parquet").equals(pa.concat_tables(tables))


def test_files_that_differ_are_left_to_be_written_again(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1)
    pq.write_table(pa.table({"other": [1]}), tmp_path / "b.parquet")
    assert not join_parquet([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 100, b"PAR1" + b"\x01" * 20 + b"PAR1"])
def test_what_is_no_parquet_file_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(damage)
    with pytest.raises(ShardError, match=r"a\.parquet"):
        join_parquet([tmp_path / "a.parquet"], tmp_path / "b.parquet")


def test_a_file_cut_in_its_row_groups_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1)
    data = (tmp_path / "a.parquet").read_bytes()
    (size,) = struct.unpack("<I", data[-8:-4])
    (tmp_path / "a.parquet").write_bytes(data[:100] + data[-8 - size :])
    with pytest.raises(ShardError, match="ends before"):
        join_parquet([tmp_path / "a.parquet"], tmp_path / "b.parquet")


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=300), st.integers(0, 40))
def test_structs_are_written_as_they_were_read(number: int, text: bytes, count: int) -> None:
    inner = {1: (I64, number), 40: (BINARY, text)}
    fields = {
        2: (I64, number),
        3: (STRUCT, inner),
        30: (LIST, (STRUCT, [inner] * count)),
        31: (1, None),
        32: (2, None),
        50: (LIST, (I64, list(range(count)))),
    }
    data = write_struct(fields)
    assert read_struct(data) == (fields, len(data))
    assert write_struct(read_struct(data)[0]) == data
