"""Vector instructions: each says what NumPy says, at every place and at the ends of arrays."""

from typing import Any

import numpy as np
import pytest
from numba import types

from egotriad.converters.compiled import compiled
from egotriad.converters.simd import (
    BYTES,
    outside,
    rows_of_four,
    store_rows_of_four,
    trailing_zeros,
    vectorised,
)
from egotriad.converters.simd_lanes import (
    LANES,
    Lanes,
    bits,
    compress,
    count,
    first_places,
    select,
    word,
)


@vectorised(types.void)
def calculate(a: Any, b: Any, floats: Any, integers: Any, start: Any) -> None:
    x, y = a.load(start), b.load(start)
    sums = (x + y, x - y, x * y, x / y, 1 - x, 1 / y, -x, select(x < y, x, y))
    for k, lanes in enumerate(sums):
        floats.row(k, LANES, lanes).store(start.type(0), lanes)
    i = x.to("int32")
    masks = (x > y, x >= y, (x < y) | (x > 2), ~(x <= y), x.equals(y), i & 3, i ^ 5, i << 2, i >> 1)
    for k, lanes in enumerate(masks):
        whole = lanes.to("int32")
        integers.row(k, LANES, whole).store(start.type(0), whole)


@compiled
def run_calculate(a: Any, b: Any, floats: Any, integers: Any, start: Any) -> None:
    calculate(a, b, floats, integers, start)


def test_arithmetic_rounds_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-9, 9, (2, 40)).astype(np.float32)
    a[5:9] = b[5:9]
    floats, integers = np.empty((8, LANES), np.float32), np.empty((9, LANES), np.int32)
    run_calculate(a, b, floats, integers, 3)
    x, y = a[3 : 3 + LANES], b[3 : 3 + LANES]
    one = np.float32(1)
    expected = [x + y, x - y, x * y, x / y, one - x, one / y, -x, np.minimum(x, y)]
    np.testing.assert_array_equal(floats, expected)
    i = x.astype(np.int32)
    logical = (i.view(np.uint32) >> 1).view(np.int32)
    masks = [x > y, x >= y, (x < y) | (x > 2), x > y, x == y]
    np.testing.assert_array_equal(integers[:5], np.array(masks, np.int32))
    np.testing.assert_array_equal(integers[5:], [i & 3, i ^ 5, i << 2, logical])


@vectorised(types.int64)
def keep(values: Any, out: Any, mask: Any, start: Any) -> Any:
    where = bits(values.builder, mask)
    out.store(start.type(0), compress(values.load(start), where))
    return count(where)


@compiled
def run_keep(values: Any, out: Any, mask: Any, start: Any) -> Any:
    return keep(values, out, mask, start)


@pytest.mark.parametrize("mask", [0, 1, 1 << 15, 0b1010_0110_0001_1001, 0xFFFF])
def test_compress_moves_the_places_of_a_mask_to_the_front(mask: int) -> None:
    values = np.arange(40, dtype=np.float32)
    out = np.full(LANES, -1, np.float32)
    expected = [7 + i for i in range(LANES) if mask >> i & 1]
    assert run_keep(values, out, mask, 7) == len(expected)
    assert out[: len(expected)].tolist() == expected


@vectorised(types.int64)
def copy_first(values: Any, out: Any, number: Any) -> Any:
    where = first_places(values.builder, number)
    out.store(number.type(0), values.load(number.type(0), where), where)
    return word(where)


@compiled
def run_copy_first(values: Any, out: Any, number: Any) -> Any:
    return copy_first(values, out, number)


@pytest.mark.parametrize("number", [0, 1, 7, 16])
def test_masked_memory_is_untouched_elsewhere(number: int) -> None:
    values, out = np.arange(1, 17).astype(np.float32), np.zeros(LANES, np.float32)
    assert run_copy_first(values, out, number) == (1 << number) - 1
    np.testing.assert_array_equal(out, np.where(np.arange(LANES) < number, values, 0))


@vectorised(types.void)
def gather_bytes(table: Any, index: Any, out: Any, start: Any) -> None:
    out.store(start, table.gather(index.load(start)) + 1000)


@compiled
def run_gather_bytes(table: Any, index: Any, out: Any) -> None:
    for start in range(0, out.size, LANES):
        gather_bytes(table, index, out, start)


def test_bytes_are_gathered_as_unsigned_numbers() -> None:
    rng = np.random.default_rng(1)
    table = rng.integers(0, 256, 50).astype(np.uint8)
    index = rng.integers(0, 50, 2 * LANES).astype(np.int32)
    out = np.empty(index.size, np.int32)
    run_gather_bytes(table, index, out)
    np.testing.assert_array_equal(out, table[index].astype(np.int32) + 1000)


@vectorised(types.void)
def look_up(table: Any, index: Any, columns: Any, zero: Any) -> None:
    for k, lanes in enumerate(rows_of_four(table, index)):
        columns.row(k, LANES, lanes).store(zero, lanes)


@vectorised(types.void)
def look_up_last(table: Any, index: Any, columns: Any, left: Any) -> None:
    for k, lanes in enumerate(rows_of_four(table, index, left)):
        columns.row(k, LANES, lanes).store(left.type(0), lanes)


@compiled
def run_look_up(table: Any, index: Any, columns: Any) -> None:
    if index.size < LANES:
        look_up_last(table, index, columns, index.size)
    else:
        look_up(table, index, columns, 0)


def test_rows_of_a_table_become_columns_and_rows_again() -> None:
    rng = np.random.default_rng(2)
    table = rng.random((256, 4)).astype(np.float32)
    index = rng.integers(0, 256, LANES).astype(np.uint8)
    columns, rows = np.empty((4, LANES), np.float32), np.full((LANES + 2, 4), -1, np.float32)
    run_look_up(table, index, columns)
    np.testing.assert_array_equal(columns, table[index].T)
    run_store(columns, rows, 1)
    np.testing.assert_array_equal(rows[1:-1], table[index])
    assert (rows[[0, -1]] == -1).all()


def test_the_last_row_is_repeated_where_an_array_ends() -> None:
    table = np.arange(40).reshape(10, 4).astype(np.float32)
    index, columns = np.array([9, 0, 4], np.uint8), np.empty((4, LANES), np.float32)
    run_look_up(table, index, columns)
    np.testing.assert_array_equal(columns, table[[9, 0] + [4] * 14].T)


@vectorised(types.void)
def store(columns: Any, rows: Any, start: Any) -> None:
    zero = start.type(0)
    lanes = [columns.row(k, LANES, "float32").load(zero) for k in range(4)]
    store_rows_of_four(rows, start, (lanes[0], lanes[1], lanes[2], lanes[3]))


@compiled
def run_store(columns: Any, rows: Any, start: Any) -> None:
    store(columns, rows, start)


@vectorised(types.void, width=8)
def count_in_eights(scale: Any, out: Any, start: Any) -> None:
    number = Lanes.counting(out.builder, 8).to("int64").to("float64")
    out.store(start, number * scale)


@compiled
def run_count_in_eights(scale: Any, out: Any) -> None:
    count_in_eights(scale, out, 1)


def test_lanes_may_be_fewer_and_wider() -> None:
    out = np.zeros(10)
    run_count_in_eights(0.1, out)
    np.testing.assert_array_equal(out, [0, *(np.arange(8) * 0.1), 0])


@compiled
def run_outside(values: Any, low: Any, high: Any, start: Any) -> Any:
    return outside(values, low, high, start)


def test_outside_has_a_bit_for_every_byte_below_or_above() -> None:
    rng = np.random.default_rng(3)
    values, low, high = rng.integers(0, 256, (3, BYTES + 9)).astype(np.uint8)
    mask = int(run_outside(values, low, high, 9))
    expected = (values < low) | (values > high)
    assert [mask >> i & 1 for i in range(BYTES)] == expected[9:].astype(int).tolist()


@compiled
def run_trailing_zeros(number: Any) -> Any:
    return trailing_zeros(number)


def test_trailing_zeros_are_counted() -> None:
    numbers = np.uint64(1) << np.arange(64, dtype=np.uint64)
    assert [run_trailing_zeros(number) for number in numbers] == list(range(64))
