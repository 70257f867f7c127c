"""Event files byte by byte: what each format's own definition says."""

import pickle
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from egotriad.converters.event_files import open_events, write_events
from egotriad.manifests import Events
from egotriad.manifests.errors import RecordingError, UsageError

VGA = (640, 480)


def rows_of(events: Events) -> list[tuple[int, int, int, int]]:
    columns = (events.t_us, events.x, events.y, events.p)
    return [tuple(map(int, row)) for row in zip(*columns, strict=True)]


def events_of(rows: list[tuple[int, int, int, int]], size_wh: tuple[int, int] = VGA) -> Events:
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    return Events(
        t_us=t.astype(np.int64),
        x=x.astype(np.uint16),
        y=y.astype(np.uint16),
        p=p.astype(np.bool_),
        size_wh=size_wh,
    )


def raw(path: Path, words: list[int], dtype: str, header: str = "% evt 3.0\n% end\n") -> Path:
    path.write_bytes(header.encode() + np.array(words, dtype).tobytes())
    return path


# --- DSEC and v2e's HDF5


def test_the_index_of_dsec_is_that_of_its_definition(tmp_path: Path):
    times = [0, 500, 2100, 5000, 5000, 7100, 7200, 7200, 8100, 9000]
    write_events(tmp_path / "a.h5", events_of([(t, k, 0, 0) for k, t in enumerate(times)]))
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["ms_to_idx"]) == [0, 2, 2, 3, 3, 3, 5, 5, 8, 9]
        assert file["ms_to_idx"].dtype == np.uint64
        assert file["t_offset"][()] == 0
        assert file["events"]["x"].dtype == np.uint16
        assert {name: len(file["events"][name]) for name in "txyp"} == dict.fromkeys("txyp", 10)


def dsec_original(path: Path, times: list[int], index: list[int] | None) -> Path:
    """As DSEC publishes it: uint32 times, no size."""
    with h5py.File(path, "w") as file:
        file["events/t"] = np.array(times, np.uint32)
        for name in "xy":
            file[f"events/{name}"] = np.arange(len(times), dtype=np.uint16)
        file["events/p"] = np.ones(len(times), np.uint8)
        file["t_offset"] = 49_599_300_523
        if index is not None:
            file["ms_to_idx"] = np.array(index, np.uint64)
    return path


@pytest.mark.parametrize("index", [[0, 1, 1, 2], None])
def test_a_file_of_dsec_is_read_with_a_given_size_and_its_offset(tmp_path: Path, index):
    path = dsec_original(tmp_path / "events.h5", [3, 1500, 3100], index)
    with pytest.raises(UsageError, match="does not say the size of its sensor"):
        open_events(path)
    reader = open_events(path, size_wh=VGA)
    assert reader.t_offset_us == 49_599_300_523
    assert rows_of(reader.read()) == [(3, 0, 0, 1), (1500, 1, 1, 1), (3100, 2, 2, 1)]
    assert rows_of(reader.read(start_us=1000, end_us=3000)) == [(1500, 1, 1, 1)]
    assert len(reader.read(start_us=3101)) == 0


@pytest.mark.parametrize("entry", [0, 1, 3, 9])
def test_an_index_of_other_events_is_noticed(tmp_path: Path, entry: int):
    path = dsec_original(tmp_path / "events.h5", [3, 1500, 3100], [0, 1, entry, 2])
    reader = open_events(path, size_wh=VGA)
    assert len(reader.read()) == 3
    with pytest.raises(RecordingError, match=r"ms_to_idx\[2\] is \d, which is not the first event"):
        reader.read(start_us=2000)


def test_an_hdf5_file_of_other_things_is_refused(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"] = np.zeros(3)
    with pytest.raises(RecordingError, match="in no event format"):
        open_events(tmp_path / "a.h5")
    with pytest.raises(RecordingError, match=r"need datasets of whole numbers.*got \['frames'\]"):
        open_events(tmp_path / "a.h5", format="dsec")
    with pytest.raises(RecordingError, match=r"need a dataset events.*got \['frames'\]"):
        open_events(tmp_path / "a.h5", format="v2e-h5")


@pytest.mark.parametrize("off", [0, 4_294_967_295])
def test_v2e_s_minus_one_for_off_and_its_wrap_are_undone(tmp_path: Path, off: int):
    table = np.array([[10, 1, 2, 1], [4_294_967_290, 3, 4, off], [5, 5, 6, 1]], np.uint32)
    with h5py.File(tmp_path / "v2e.h5", "w") as file:
        file["events"] = table
    got = open_events(tmp_path / "v2e.h5", size_wh=VGA).read()
    assert rows_of(got) == [(10, 1, 2, 1), (4_294_967_290, 3, 4, 0), (2**32 + 5, 5, 6, 1)]


def test_any_other_polarity_is_an_error(tmp_path: Path):
    with h5py.File(tmp_path / "v2e.h5", "w") as file:
        file["events"] = np.array([[1, 1, 1, 1], [2, 1, 1, 7]], np.uint32)
    with pytest.raises(RecordingError, match="event 1 has polarity 7, need 1 for ON"):
        open_events(tmp_path / "v2e.h5", size_wh=VGA).read()


# --- NumPy


def test_a_tonic_file_is_tonic_s_own_dtype_and_numpy_reads_it(tmp_path: Path):
    write_events(tmp_path / "a.npy", events_of([(2**40, 639, 479, 1)]))
    stored = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert stored.dtype == [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")]
    assert stored.tolist() == [(639, 479, 2**40, True)]


def test_other_orders_types_and_signs_of_a_structured_array_are_read(tmp_path: Path):
    stored = np.zeros(2, [("t", "<u8"), ("p", "i1"), ("y", "u1"), ("x", "<i4"), ("extra", "f4")])
    stored["t"], stored["p"], stored["x"], stored["y"] = [5, 6], [-1, 1], [3, 4], [1, 2]
    np.save(tmp_path / "a.npy", stored)
    got = rows_of(open_events(tmp_path / "a.npy", size_wh=VGA).read())
    assert got == [(5, 3, 1, 0), (6, 4, 2, 1)]


@pytest.mark.parametrize(
    "stored",
    [
        np.zeros((3, 4)),
        np.zeros(3, [("t", "f8"), ("x", "i2"), ("y", "i2"), ("p", "?")]),
        np.zeros((2, 2), [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "?")]),
    ],
)
def test_an_array_without_whole_microseconds_is_refused(tmp_path: Path, stored: np.ndarray):
    np.save(tmp_path / "a.npy", stored)
    with pytest.raises(RecordingError, match="need one dimension with integer fields x, y, t"):
        open_events(tmp_path / "a.npy", size_wh=VGA)


def eventgpt(path: Path, holder: object) -> Path:
    np.save(path, np.array(holder, dtype=object), allow_pickle=True)
    return path


def window(t: np.ndarray) -> dict[str, np.ndarray]:
    n = len(t)
    return {
        "p": np.ones(n, np.uint8),
        "t": t,
        "x": np.arange(n, dtype=np.uint16),
        "y": np.zeros(n, np.uint16),
    }


def test_eventgpt_s_16_bit_times_are_widened_and_their_wrap_undone(tmp_path: Path):
    path = eventgpt(tmp_path / "a.npy", window(np.array([100, 60_000, 30, 40_000, 3], np.uint16)))
    got = open_events(path, size_wh=VGA).read()
    assert list(got.t_us) == [100, 60_000, 65_566, 105_536, 131_075]


def test_16_bit_times_that_are_not_in_order_are_no_wrap(tmp_path: Path):
    path = eventgpt(tmp_path / "a.npy", window(np.array([100, 20_000, 19_000], np.uint16)))
    with pytest.raises(RecordingError, match="time goes back from 20000 us to 19000 us at event 2"):
        open_events(path, size_wh=VGA).read()


def test_eventgpt_s_own_loader_reads_what_is_written(tmp_path: Path):
    write_events(tmp_path / "a.npy", events_of([(70_000, 5, 6, 1)]), format="eventgpt")
    stored = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert {k: (v.dtype, v.tolist()) for k, v in stored.items()} == {
        "x": (np.uint16, [5]),
        "y": (np.uint16, [6]),
        "t": (np.int64, [70_000]),
        "p": (np.uint8, [1]),
    }


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize("inside", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
):
    monkeypatch.chdir(tmp_path)
    holder = window(np.arange(3)) | {"z": Hostile()} if inside else Hostile()
    path = eventgpt(tmp_path / "a.npy", holder)
    with pytest.raises(
        RecordingError, match=r"nothing but arrays \(it asks for .*touch\)|asks for"
    ):
        open_events(path, size_wh=VGA)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "holder",
    [
        [1, 2, 3],
        {"x": np.zeros(2, int)},
        window(np.arange(3)) | {"t": np.arange(4)},
        window(np.arange(3)) | {"t": np.arange(3) / 2},
        window(np.arange(3)) | {"t": [1, 2, 3]},
    ],
)
def test_a_dict_that_is_no_window_is_refused(tmp_path: Path, holder: object):
    path = tmp_path / "a.npy"
    eventgpt(path, holder)
    with pytest.raises(RecordingError, match="need a dict of four one-dimensional integer arrays"):
        open_events(path, size_wh=VGA)


def test_windows_pickled_by_numpy_before_2_are_read(tmp_path: Path):
    path = eventgpt(tmp_path / "a.npy", window(np.array([1, 2, 3])))
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    # In a pickle a name has its length in front, and the frame too.
    old = old.replace(b"\x8c\x16numpy.core", b"\x8c\x15numpy.core")
    start = old.index(b"\x80\x04\x95")
    frame = struct.unpack("<Q", old[start + 3 : start + 11])[0]
    old = old[: start + 3] + struct.pack("<Q", frame - 1) + old[start + 11 :]
    path.write_bytes(old)
    assert pickle.loads(old[start:]).shape == ()
    assert list(open_events(path, size_wh=VGA).read().t_us) == [1, 2, 3]


# --- Prophesee


def test_evt2_words_are_those_of_openeb(tmp_path: Path):
    time, on, off = 8 << 28 | 0x123, 1 << 28 | 5 << 22 | 639 << 11 | 479, 63 << 22 | 1 << 11 | 2
    others = [0xA << 28, 0xE << 28, 0xF << 28, 0xD << 28]  # triggers and others are skipped
    path = raw(tmp_path / "a.raw", [on, time, on, *others, off], "<u4", "% evt 2.0\n")
    base = 0x123 << 6
    got = rows_of(open_events(path, size_wh=VGA).read())
    assert got == [(base + 5, 639, 479, 1), (base + 63, 1, 2, 0)]


def test_events_without_a_time_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = raw(tmp_path / "a.raw", [0, 1 << 28, 8 << 28, 0], "<u4", "% evt 2.0\n")
    assert len(open_events(path, size_wh=VGA).read()) == 1
    assert "a.raw: left out 2 events that come before the first time" in caplog.text


def test_evt2_s_time_wraps_after_34_bits(tmp_path: Path):
    words = [8 << 28 | 0xFFFFFFF, 7 << 22, 8 << 28, 9 << 22]
    got = open_events(raw(tmp_path / "a.raw", words, "<u4", "% evt 2.0\n"), size_wh=VGA).read()
    assert list(got.t_us) == [2**34 - 64 + 7, 2**34 + 9]


def test_evt3_words_are_those_of_openeb(tmp_path: Path):
    words = [
        0x8001,  # time high 1
        0x6010,  # time low 16
        0x0005,  # row 5
        0x2803,  # column 3, ON
        0x3064,  # vector base 100, OFF
        0x4801,  # columns 100 and 111
        0x4002,  # column 113
        0x5081,  # columns 124 and 131
        0x5002,  # column 133, of the next 8
        0x1007,  # a row of other than contrast events
        0x2001,
        0x0009,  # row 9
        0xA000,  # a trigger
        0xE014,  # others, with what belongs to them
        0x7000,
        0xF000,
        0xD000,
        0x2004,  # column 4, OFF
        0x8002,  # time high 2, low 0 until it is said
        0x2004,
        0x6001,
        0x2005,
    ]
    rows = [(4112, 3, 5, 1)]
    rows += [(4112, x, 5, 0) for x in (100, 111, 113, 124, 131, 133)]
    rows += [(4112, 4, 9, 0), (8192, 4, 9, 0), (8193, 5, 9, 0)]
    assert rows_of(open_events(raw(tmp_path / "a.raw", words, "<u2"), size_wh=VGA).read()) == rows


def words_of(path: Path) -> list[int]:
    data = path.read_bytes()
    return np.frombuffer(data[data.index(b"% end\n") + 6 :], "<u2").tolist()


def test_evt3_packs_runs_as_vectors_and_doubles_beside_them(tmp_path: Path):
    run = [(7, x, 3, 1) for x in (10, 11, 12, 12, 20, 40, 42, 43, 44, 45, 70)]
    write_events(tmp_path / "a.raw", events_of(run))
    assert words_of(tmp_path / "a.raw") == [
        *(0x8000, 0x6007, 0x0003),
        *(0x3800 | 10, 0x4007 | 1 << 10, 0x4000, 0x5000 | 1 << 6, 0x2800 | 12),  # columns 10 to 41
        *(0x400F, 0x4000, 0x5000 | 1 << 4),  # columns 42 to 73, base goes on
    ]
    assert rows_of(open_events(tmp_path / "a.raw").read()) == run


def test_evt3_counts_the_loops_of_its_time(tmp_path: Path):
    rows = [(2**24 + 5, 1, 1, 1), (3 * 2**24, 1, 1, 0)]
    write_events(tmp_path / "a.raw", events_of(rows))
    loop = [0x8FFF, 0x8000]
    assert words_of(tmp_path / "a.raw") == [
        *(*loop, 0x8000, 0x6005, 0x0001, 0x2801),
        *(*loop, *loop, 0x8000, 0x6000, 0x2001),
    ]
    assert rows_of(open_events(tmp_path / "a.raw").read()) == rows


@pytest.mark.parametrize(("dtype", "version", "word"), [("<u4", 2, 5 << 28), ("<u2", 3, 0x9000)])
def test_a_word_of_no_type_names_its_byte(tmp_path: Path, dtype: str, version: int, word: int):
    path = raw(tmp_path / "a.raw", [0, 0, word], dtype, f"% evt {version}.0\n% end\n")
    byte = len(f"% evt {version}.0\n% end\n") + 2 * np.dtype(dtype).itemsize
    with pytest.raises(RecordingError, match=f"the word {word:#x} at byte {byte} is of no type"):
        open_events(path, size_wh=VGA).read()


@pytest.mark.parametrize(
    "line", ["geometry 640x480", "format EVT3;height=480;width=640", "Height 480\n% Width 640"]
)
def test_the_size_is_taken_from_any_header_that_says_it(tmp_path: Path, line: str):
    path = raw(tmp_path / "a.raw", [], "<u2", f"% evt 3.0\n% {line}\n% end\n")
    assert open_events(path).size_wh == VGA


def test_a_header_of_another_encoding_is_refused(tmp_path: Path):
    path = raw(tmp_path / "a.raw", [], "<u2", "% evt 2.0\n% end\n")
    with pytest.raises(RecordingError, match="its header says evt2, need evt3"):
        open_events(path, format="evt3", size_wh=VGA)


def test_a_dat_file_is_that_of_prophesee_and_its_clock_wraps(tmp_path: Path):
    write_events(tmp_path / "a.dat", events_of([(2**32 - 1, 639, 479, 1)]))
    data = (tmp_path / "a.dat").read_bytes()
    assert data.endswith(
        b"% Width 640\n\x0c\x08" + struct.pack("<II", 2**32 - 1, 1 << 28 | 479 << 14 | 639)
    )
    (tmp_path / "b.dat").write_bytes(data + struct.pack("<II", 4, 7))
    got = rows_of(open_events(tmp_path / "b.dat").read())
    assert got == [(2**32 - 1, 639, 479, 1), (2**32 + 4, 7, 0, 0)]


@pytest.mark.parametrize(
    "head", [b"% Version 1\n\x00\x08", b"% Version 2\n\x0e\x08", b"% Version 2\n"]
)
def test_a_dat_file_of_other_than_contrast_events_is_refused(tmp_path: Path, head: bytes):
    (tmp_path / "a.dat").write_bytes(head)
    with pytest.raises(RecordingError, match="need a DAT file of version 2 with contrast events"):
        open_events(tmp_path / "a.dat", size_wh=VGA)


# --- AEDAT


@pytest.mark.parametrize(
    ("size_wh", "address"),
    [
        ((346, 260), (259 - 20) << 22 | (345 - 10) << 12 | 1 << 11),
        ((240, 180), (179 - 20) << 22 | (239 - 10) << 12 | 1 << 11),
        ((640, 480), (479 - 20) << 11 | (639 - 10) << 1 | 1),
    ],
)
def test_aedat2_addresses_are_those_of_v2e(tmp_path: Path, size_wh, address: int):
    write_events(tmp_path / "a.aedat", events_of([(77, 10, 20, 1)], size_wh))
    data = (tmp_path / "a.aedat").read_bytes()
    assert data.startswith(b"#!AER-DAT2.0\r\n")
    assert data.endswith(b"#End Of ASCII Header\r\n" + struct.pack(">II", address, 77))


def test_a_first_event_that_begins_like_a_comment_is_kept(tmp_path: Path):
    # 259 - 118 = 141 = 0x23 << 2 | 1: the address begins with the byte of '#'.
    events = events_of([(1, 0, 118, 1), (2, 0, 118, 0)], (346, 260))
    write_events(tmp_path / "a.aedat", events)
    assert open_events(tmp_path / "a.aedat").read().same_as(events)


def test_a_file_as_v2e_writes_it_is_read_and_frames_and_wraps_in_it_are_dealt_with(tmp_path: Path):
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file created by AEDat2Output in v2e\r\n"
    records = [
        (3 << 22 | 4 << 12 | 1 << 11, 2**31 - 1),
        (1 << 31 | 3 << 22, 2**31 - 1),  # of a frame
        (5 << 22 | 6 << 12 | 1 << 10, -(2**31)),  # noise, after the wrap
    ]
    path = tmp_path / "a.aedat"
    path.write_bytes(header + b"".join(struct.pack(">Ii", *record) for record in records))
    with pytest.raises(UsageError, match="does not say the size"):
        open_events(path)
    got = rows_of(open_events(path, size_wh=(346, 260)).read())
    assert got == [(2**31 - 1, 341, 256, 1), (2**31, 339, 254, 0)]
    with pytest.raises(UsageError, match="need one of 346x260, 240x180, 640x480"):
        open_events(path, size_wh=(128, 128))


def test_aedat4_is_what_another_reader_of_it_reads(tmp_path: Path):
    aedat = pytest.importorskip("aedat")
    rng = np.random.default_rng(0)
    rows = sorted((int(t), 5, 6, int(t) % 2) for t in rng.integers(0, 2**50, 40_000))
    events = events_of(rows, (320, 240))
    write_events(tmp_path / "a.aedat4", events)
    decoder = aedat.Decoder(str(tmp_path / "a.aedat4"))
    assert decoder.id_to_stream() == {0: {"type": "events", "width": 320, "height": 240}}
    packets = [packet["events"] for packet in decoder]
    assert np.array_equal(np.concatenate([p["t"] for p in packets]), events.t_us)
    assert np.array_equal(np.concatenate([p["on"] for p in packets]), events.p)
    assert {int(v) for p in packets for v in p["x"]} == {5}


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_aedat4_packets_of_every_compression_are_read(tmp_path: Path, codec: int):
    import pyarrow as pa

    from egotriad.converters import event_files_aedat4 as aedat4

    header = aedat4._header((320, 240))
    head = header.replace(struct.pack("<iI", 1, 12), struct.pack("<iI", codec, 12), 1)
    packet = aedat4._packet(np.array([(5, 1, 2, 1, 0)], aedat4.EVENT).tobytes())
    if codec:
        packet = pa.compress(packet, "lz4" if codec < 3 else "zstd", asbytes=True)
    other = struct.pack("<ii", 4, 3) + b"abc"  # another stream's
    body = other + struct.pack("<ii", 0, len(packet)) + packet
    (tmp_path / "a").write_bytes(aedat4.MAGIC + head + body)
    assert rows_of(open_events(tmp_path / "a").read()) == [(5, 1, 2, 1)]


def test_a_file_with_two_event_streams_is_not_guessed_at(tmp_path: Path):
    write_events(tmp_path / "a.aedat4", Events.empty((320, 240)))
    data = (tmp_path / "a.aedat4").read_bytes()
    start, end = data.index(b'        <node name="0"'), data.index(b"    </node>\n</dv>")
    twice = data[:end] + data[start:end].replace(b'name="0"', b'name="7"') + data[end:]
    size, xml = struct.unpack_from("<I", data, 14)[0], data.index(b"<dv ") - 4
    added = len(twice) - len(data)
    twice = twice[:14] + struct.pack("<I", size + added) + twice[18:]
    length = struct.unpack_from("<I", twice, xml)[0] + added
    (tmp_path / "b.aedat4").write_bytes(twice[:xml] + struct.pack("<I", length) + twice[xml + 4 :])
    with pytest.raises(RecordingError, match=r"holds event streams \[0, 7\], need one"):
        open_events(tmp_path / "b.aedat4")


# --- text


def test_text_is_exact_to_the_microsecond_however_it_is_written(tmp_path: Path):
    lines = {
        "-1.5 1 2 1": -1_500_000,
        "-0.0000004 1 2 1": 0,
        "0.0 1 2 1": 0,
        "1e-06 1 2 -1": 1,
        "1.6e-05 1 2 0": 16,
        ".5 1 2 1": 500_000,
        "  +0.500000499999 \t1  2  1 ": 500_000,
        "0.5000005 1 2 1": 500_001,
        "12E3 1 2 1\r": 12_000_000_000,
        "1605537493.7183451111111111111 1 2 1": 1_605_537_493_718_345,
        "900000000000.000001 1 2 1": 900_000_000_000_000_001,
    }
    text = "#!events.txt\n# a comment\n\n" + "\n".join(lines)
    (tmp_path / "a.txt").write_text(text, newline="")
    got = open_events(tmp_path / "a.txt", size_wh=VGA).read()
    assert got.t_us.tolist() == list(lines.values())
    assert rows_of(got)[3:5] == [(1, 1, 2, 0), (16, 1, 2, 0)]


def test_text_is_written_as_v2e_s_columns(tmp_path: Path):
    write_events(tmp_path / "a.txt", events_of([(-1_000_001, 0, 9, 0), (60_000_007, 639, 10, 1)]))
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert [line for line in lines if line[0] != "#"] == ["-1.000001 0 9 0", "60.000007 639 10 1"]
    assert lines[0] == "#!events.txt"


def test_v2e_s_column_of_labels_is_ignored(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0.1 1 2 1 0\n0.2 3 4 0 1\n")
    got = rows_of(open_events(tmp_path / "a.txt", size_wh=VGA).read())
    assert got == [(100_000, 1, 2, 1), (200_000, 3, 4, 0)]


@pytest.mark.parametrize(
    "line",
    [
        "1 2 3 1",  # microseconds or seconds?
        "0.2 1 2",
        "0.2 1 2 1 1",
        "0.2 1 2 1 1 1",
        "0.2 1.0 2 1",
        "0.2 1 2 1 # why",
        "0.2 1234567890 2 1",
        "0.2 - 2 1",
        "0.2,1,2,1",
        "1.2.3 1 2 1",
        ". 1 2 1",
        "1e 1 2 1",
        "1e999 1 2 1",
        "1e80 1 2 1",
        "1234567890123456789.0 1 2 1",
        "nan 1 2 1",
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str):
    (tmp_path / "a.txt").write_text(f"# head\n0.1 1 2 1\n{line}\n0.3 1 2 1\n")
    with pytest.raises(RecordingError, match=r"a\.txt: line 3 is b"):
        open_events(tmp_path / "a.txt", size_wh=VGA).read()


def test_a_line_without_end_is_not_swallowed_whole(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"0.1 " + b"1" * 5_000_000)
    with pytest.raises(RecordingError, match=r"line 1 is b.0\.1 1111"):
        open_events(tmp_path / "a.txt", size_wh=VGA).read()
