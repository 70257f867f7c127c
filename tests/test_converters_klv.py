import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters.klv import DEEPEST, item_bytes, nest_bytes, parse
from egotriad.manifests.errors import RecordingError


def test_items_carry_numbers_and_text_of_every_type():
    items = parse(
        item_bytes("AAAA", "s", 4, struct.pack(">4h", 1, -2, 3, -4))
        + item_bytes("BBBB", "B", 1, b"\x01\x02\xff")
        + item_bytes("CCCC", "f", 4, struct.pack(">f", 0.5))
        + item_bytes("DDDD", "J", 8, struct.pack(">Q", 2**40))
        + item_bytes("EEEE", "c", 4, b"m/s\xb2")
        + item_bytes("FFFF", "q", 4, struct.pack(">i", -(3 << 15)))
        + item_bytes("GGGG", "Q", 8, struct.pack(">q", 5 << 31))
        + item_bytes("HHHH", "U", 16, b"191118234514.250")
        + bytes(12)
    )
    assert "".join(item.key[0] for item in items) == "ABCDEFGH"
    assert items[0].numbers().tolist() == [[1, -2], [3, -4]]
    assert items[1].numbers().tolist() == [[1], [2], [255]]
    assert items[2].numbers().tolist() == [[0.5]]
    assert items[3].numbers().tolist() == [[2**40]]
    assert items[4].text() == "m/s²"
    assert items[5].numbers().tolist() == [[-1.5]]
    assert items[6].numbers().tolist() == [[2.5]]
    assert items[7].numbers().tolist() == [[1574120714.25]]  # 2019-11-18 23:45:14.25 UTC


def test_a_complex_structure_is_read_by_its_type():
    row = struct.pack(">lHB2f", -7, 65535, 9, 0.5, 1.5)
    (item,) = parse(item_bytes("MYDD", "?", len(row), row * 2))
    assert item.numbers("lSBf[2]").tolist() == [[-7, 65535, 9, 0.5, 1.5]] * 2


def test_texts_are_cut_at_their_structures():
    (units,) = parse(item_bytes("UNIT", "c", 3, b"degdegm\0\0m/s"))
    assert units.texts() == ("deg", "deg", "m", "m/s")
    (name,) = parse(item_bytes("DVNM", "c", 1, b"GoPro Max"))
    assert name.texts() == ("GoPro Max",)


def test_nests_are_opened_in_order():
    stream = nest_bytes("STRM", item_bytes("A   ", "B", 1, b"\1"))
    (device,) = parse(nest_bytes("DEVC", stream, nest_bytes("STRM")))
    assert [item.key for item in device.all("STRM")] == ["STRM", "STRM"]
    assert device.first("STRM").first("A   ").data == b"\1"
    assert device.first("NONE") is None


def deep(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = nest_bytes("DEEP", data)
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (item_bytes("ACCL", "s", 6, bytes(60))[:-4], "ACCL: claims 60 bytes at byte 8, 56 are"),
        (item_bytes("ACCL", "s", 6, b"", repeat=0xFFFF), "claims 393210 bytes"),
        (nest_bytes("DEVC", item_bytes("ACCL", "s", 6, b"", repeat=2)), "ACCL: claims 12 bytes"),
        (item_bytes("ACCL", "B", 1, b"abcde")[:-1], "ACCL: claims 5 bytes at byte 8, 7 are left"),
        (item_bytes("ACCL", "B", 1, b"a") + b"abc", "3 stray bytes at byte 12"),
        (item_bytes("A\x01CL", "B", 1, b"a"), "need a key"),
        (deep(DEEPEST + 1), f"nested more than {DEEPEST} deep"),
    ],
)
def test_damaged_bytes_are_refused_with_their_place(data: bytes, message: str):
    with pytest.raises(RecordingError, match=message):
        parse(data)


def test_nesting_up_to_the_limit_is_read():
    assert parse(deep(DEEPEST))[0].key == "DEEP"


@pytest.mark.parametrize(
    ("kind", "size", "structure", "message"),
    [
        ("z", 4, "", "type 'z'"),
        ("c", 4, "", "type 'c'"),
        ("s", 3, "", "structures of 3 bytes"),
        ("s", 0, "", "structures of 0 bytes"),
        ("f", 6, "", "structures of 6 bytes"),
        ("?", 4, "", "no TYPE"),
        ("?", 8, "Ff", r"type '\?' \(Ff\)"),
        ("?", 8, "ff[9]", "describes more than its 8 bytes"),
        ("?", 8, "f[999]" * 50, "describes more than its 8 bytes"),
        ("?", 8, "ffB", "structures of 8 bytes"),
        ("?", 0, "f[0]", "structures of 0 bytes"),
        ("U", 16, "", "is no date"),
    ],
)
def test_data_that_are_no_numbers_say_so(kind: str, size: int, structure: str, message: str):
    (item,) = parse(item_bytes("DATA", kind, size, bytes(2 * size), repeat=2))
    with pytest.raises(RecordingError, match=f"GPMF DATA: .*{message}"):
        item.numbers(structure)


def test_a_structure_of_no_bytes_repeated_for_ever_costs_nothing():
    tracemalloc.start()
    items = parse(item_bytes("DATA", "B", 0, b"", repeat=0xFFFF) * 1000)
    for item in items:
        with pytest.raises(RecordingError):
            item.numbers()
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@settings(deadline=2000, max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes):
    try:
        items = parse(data)
    except RecordingError:
        return
    for item in items:
        for structure in ("", "lf[3]"):
            try:
                assert len(item.numbers(structure)) == item.repeat
            except RecordingError:
                continue
        assert len(item.texts()) <= max(1, item.repeat)
