"""Event files of all formats alike: round trips, streaming, what is refused, damage."""

import itertools
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egotriad.converters.event_files import (
    FORMATS,
    create_events,
    event_format,
    open_events,
    write_events,
    written_format,
)
from egotriad.converters.event_files_fields import WrappingClock
from egotriad.manifests import Events
from egotriad.manifests.errors import EgotriadError, RecordingError, UsageError

SIZELESS = ("tonic", "eventgpt")  # these do not say the sensor's size
CUT_UNSEEN = ("evt2", "evt3", "dat", "aedat2", "aedat4", "text")  # a cut between records


def events_of(rows: list[tuple[int, int, int, bool]], size_wh: tuple[int, int]) -> Events:
    columns = list(zip(*sorted(rows, key=lambda r: (r[0], r[2], r[1], r[3])), strict=True))
    columns = columns or [(), (), (), ()]
    return Events(
        t_us=np.array(columns[0], np.int64),
        x=np.array(columns[1], np.uint16),
        y=np.array(columns[2], np.uint16),
        p=np.array(columns[3], np.bool_),
        size_wh=size_wh,
    )


def random_events(
    n: int, size_wh: tuple[int, int] = (346, 260), extent_us: int = 50_000, seed: int = 0
) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        t_us=np.sort(rng.integers(0, extent_us, n)),
        x=rng.integers(0, size_wh[0], n).astype(np.uint16),
        y=rng.integers(0, size_wh[1], n).astype(np.uint16),
        p=rng.random(n) < 0.5,
        size_wh=size_wh,
    ).canonical()


def read_back(path: Path, name: str, size_wh: tuple[int, int]) -> Events:
    return open_events(path, size_wh=size_wh if name in SIZELESS else None, format=name).read()


def read_while_it_lasts(
    path: Path, name: str | None, size_wh: tuple[int, int]
) -> tuple[list[Events], EgotriadError | None]:
    """The chunks up to the first error, and that."""
    chunks: list[Events] = []
    try:
        chunks.extend(open_events(path, size_wh=size_wh, format=name).chunks(chunk_events=50))
    except EgotriadError as exc:
        return chunks, exc
    return chunks, None


@st.composite
def sensors_and_events(draw: st.DrawFn, name: str) -> Events:
    kind = FORMATS[name]
    largest = (kind.max_side - 1, kind.max_side)
    sizes = kind.sizes or ((1, 1), (346, 260), (640, 480), largest)
    width, height = draw(st.sampled_from(sizes))
    # A DSEC file indexes every millisecond: another test goes further.
    latest = min(kind.end_us - 1, 2**24 + 70 if name == "dsec" else 2**34)
    anchors = [t for t in (0, 2**16, 2**24, 2**31, 2**32, latest) if t <= latest]
    near = st.one_of(
        [st.integers(max(kind.first_us, a - 70), min(latest, a + 70)) for a in anchors]
    )
    side = st.one_of(st.just(width - 1), st.integers(0, width - 1))
    top = st.one_of(st.just(height - 1), st.integers(0, height - 1))
    rows = draw(st.lists(st.tuples(near, side, top, st.booleans()), max_size=60))
    # Runs along a row, doubles among them, as EVT3 packs them.
    for t, x, y, p in rows[:2]:
        rows += [(t, min(x + k, width - 1), y, p) for k in range(draw(st.integers(0, 70)))]
    return events_of(rows, (width, height))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back_exactly(name: str):
    @settings(max_examples=40, deadline=None)
    @given(sensors_and_events(name))
    def check(events: Events) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.bin"
            assert write_events(path, events, format=name) == len(events)
            assert read_back(path, name, events.size_wh).same_as(events)
            assert list(Path(folder).iterdir()) == [path]

    check()


def test_a_dsec_file_goes_beyond_the_71_minutes_of_its_original(tmp_path: Path):
    events = events_of([(5, 1, 1, True), (2**32 + 7, 2, 1, False)], (4, 4))
    write_events(tmp_path / "a.h5", events)
    reader = open_events(tmp_path / "a.h5")
    assert reader.read().same_as(events)
    assert reader.read(start_us=2**32).same_as(events.take(slice(1, 2)))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("n", [0, 1, 5000])
def test_writing_in_pieces_gives_the_same_file(tmp_path: Path, name: str, n: int):
    events = random_events(n)
    cuts = np.unique(np.random.default_rng(1).integers(0, n + 1, 7))
    # A time stamp may be split between two pieces.
    pieces = [events.take(slice(a, b)) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    write_events(tmp_path / "whole", events, format=name)
    write_events(tmp_path / "pieces", pieces, size_wh=events.size_wh, format=name)
    assert read_back(tmp_path / "pieces", name, events.size_wh).same_as(events)
    # Blocks of EVT3 rows and of compressed packets end with a piece; all else is equal bytewise.
    if name not in ("evt3", "aedat4", "dsec", "v2e-h5"):
        assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_events_give_the_same_bytes(tmp_path: Path, name: str):
    events = random_events(2000)
    for file in ("a", "b"):
        write_events(tmp_path / file, events, format=name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_a_written_file_is_recognised_by_its_content(tmp_path: Path, name: str):
    write_events(tmp_path / "file", random_events(10), format=name)
    assert event_format(tmp_path / "file") == name


@pytest.mark.parametrize("name", FORMATS)
def test_any_span_is_cut_exactly(tmp_path: Path, name: str):
    events = random_events(3000)
    write_events(tmp_path / "file", events, format=name)
    size_wh = events.size_wh if name in SIZELESS else None
    reader = open_events(tmp_path / "file", size_wh=size_wh)
    for start_us, end_us in ((0, 50_000), (12_345, 12_346), (999, 31_000), (40_000, 10**9), (5, 5)):
        got = reader.read(start_us=start_us, end_us=end_us)
        assert got.same_as(events.between(start_us, end_us)), (start_us, end_us)
    assert reader.read(start_us=49_000).same_as(events.between(49_000, 10**9))
    assert reader.read(end_us=1000).same_as(events.between(0, 1000))


@pytest.mark.parametrize("chunk_events", [1, 7, 1000, 10**6])
def test_chunks_never_split_a_time_stamp_and_stay_in_order(tmp_path: Path, chunk_events: int):
    events = random_events(4000, extent_us=300)
    write_events(tmp_path / "a.dat", events)
    chunks = list(open_events(tmp_path / "a.dat").chunks(chunk_events=chunk_events))
    for before, after in itertools.pairwise(chunks):
        assert before.t_us[-1] < after.t_us[0]
    for chunk in chunks:
        assert chunk.canonical().same_as(chunk)
        assert len(chunk) <= chunk_events or len(np.unique(chunk.t_us)) == 1
    assert sum(map(len, chunks)) == len(events)


def test_events_of_one_time_stamp_come_sorted_whatever_the_file_says(tmp_path: Path):
    events = random_events(5000, extent_us=400)
    shuffled = np.random.default_rng(0).permutation(len(events))
    shuffled = shuffled[np.argsort(events.t_us[shuffled], kind="stable")]
    write_events(tmp_path / "a.npy", events.take(shuffled))
    assert open_events(tmp_path / "a.npy", size_wh=events.size_wh).read().same_as(events)


def test_a_chunk_of_centuries_is_sorted_too(tmp_path: Path):
    rows = [(-(2**61), 3, 3, True), (2**61, 5, 1, False), (2**61, 5, 0, True)]
    path = tmp_path / "a.npy"
    write_events(path, [events_of([row], (8, 8)) for row in rows], size_wh=(8, 8))
    read = open_events(path, size_wh=(8, 8)).read()
    assert read.same_as(events_of(rows, (8, 8)))


def test_time_that_goes_back_is_an_error_that_names_the_event(tmp_path: Path):
    rows = np.zeros(6, [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
    rows["t"] = [1, 1, 5, 7, 6, 9]
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(
        RecordingError, match=r"a\.npy: time goes back from 7 us to 6 us at event 4"
    ):
        open_events(tmp_path / "a.npy", size_wh=(4, 4)).read()


def test_an_event_outside_the_sensor_is_an_error_that_names_it(tmp_path: Path):
    write_events(tmp_path / "a.npy", events_of([(0, 1, 2, True), (1, 5, 2, True)], (6, 4)))
    with pytest.raises(RecordingError, match=r"event 1 has x = 5, need 0 to 4 on a sensor of 5x4"):
        open_events(tmp_path / "a.npy", size_wh=(5, 4)).read()


@pytest.mark.parametrize("name", SIZELESS)
def test_a_format_without_a_size_asks_for_it(tmp_path: Path, name: str):
    write_events(tmp_path / "file", random_events(5), format=name)
    with pytest.raises(UsageError, match=r"does not say the size.*--size WIDTHxHEIGHT"):
        open_events(tmp_path / "file")


def test_a_size_against_the_file_s_own_is_refused(tmp_path: Path):
    write_events(tmp_path / "a.h5", random_events(5))
    with pytest.raises(UsageError, match="says that its sensor is 346x260, got 640x480"):
        open_events(tmp_path / "a.h5", size_wh=(640, 480))


@pytest.mark.parametrize("name", [n for n, kind in FORMATS.items() if kind.end_us < 2**60])
def test_times_that_a_format_cannot_hold_are_refused_before_anything_is_written(
    tmp_path: Path, name: str
):
    kind = FORMATS[name]
    for t in (kind.end_us, kind.first_us - 1):
        with pytest.raises(UsageError, match=f"{name} holds .* to {kind.end_us - 1} us"):
            write_events(tmp_path / "file", events_of([(t, 0, 0, True)], (346, 260)), format=name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [n for n, kind in FORMATS.items() if kind.max_side < 2**16])
def test_a_sensor_that_a_format_cannot_hold_is_refused(tmp_path: Path, name: str):
    side = FORMATS[name].max_side + 1
    with pytest.raises(UsageError, match=f"a sensor of {side}x1 does not fit into {name}"):
        write_events(tmp_path / "file", Events.empty((side, 1)), format=name)
    assert not list(tmp_path.iterdir())


def test_aedat2_exists_for_three_sensors(tmp_path: Path):
    with pytest.raises(UsageError, match="346x260, 240x180, 640x480, got 320x240"):
        write_events(tmp_path / "a.aedat", Events.empty((320, 240)))


def test_a_clock_offset_is_kept_or_refused(tmp_path: Path):
    events = random_events(10)
    write_events(tmp_path / "a.h5", events, t_offset_us=51_836_199_776)
    assert open_events(tmp_path / "a.h5").t_offset_us == 51_836_199_776
    with pytest.raises(UsageError, match=r"cannot hold a clock offset, got 7 us.*--origin"):
        write_events(tmp_path / "a.dat", events, t_offset_us=7)


def test_a_writer_refuses_what_is_not_one_ordered_stream(tmp_path: Path):
    events = random_events(10, (20, 10))
    with (
        pytest.raises(UsageError, match=r"got events of \(20, 10\), need \(40, 10\)"),
        create_events(tmp_path / "a.h5", size_wh=(40, 10)) as writer,
    ):
        writer.write(events)
    with pytest.raises(UsageError, match="times go back"):
        write_events(tmp_path / "a.h5", [events, events], size_wh=(20, 10))
    outside = Events(t_us=events.t_us, x=events.x, y=events.y, p=events.p, size_wh=(2, 2))
    with pytest.raises(UsageError, match="inside the sensor of 2x2"):
        write_events(tmp_path / "a.h5", outside)
    with pytest.raises(UsageError, match="give size_wh"):
        write_events(tmp_path / "a.h5", [events])
    assert not list(tmp_path.iterdir())


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.raw"
    events = random_events(100)
    write_events(path, events)
    before = path.read_bytes()

    def pieces() -> Iterator[Events]:
        yield events
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_events(path, pieces(), size_wh=events.size_wh)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_names_and_suffixes_list_what_is_known(tmp_path: Path):
    with pytest.raises(UsageError, match=r"suffix '\.xyz' means no event format"):
        written_format(tmp_path / "a.xyz")
    with pytest.raises(UsageError, match="no event format is called 'evt4'; known: dsec"):
        open_events(tmp_path / "a.raw", format="evt4")


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02\x03" * 9, b"RIFF....AVI ", b"#!AER-DAT3.1\r\n", b"% evt 4.0\n"]
)
def test_a_file_of_no_known_format_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(RecordingError, match="in no event format that is known here"):
        open_events(tmp_path / "a")


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_or_empty_file_says_so(tmp_path: Path, name: str):
    with pytest.raises(RecordingError, match="nothere"):
        open_events(tmp_path / "nothere", format=name, size_wh=(346, 260))
    (tmp_path / "empty").touch()
    with pytest.raises((RecordingError, UsageError), match="empty"):
        open_events(tmp_path / "empty", format=name).read()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_gives_an_error_or_whole_true_events(tmp_path: Path, name: str):
    events = random_events(400, extent_us=4000)
    truth = set(zip(events.t_us, events.x, events.y, events.p, strict=True))
    write_events(tmp_path / "whole", events, format=name)
    content = (tmp_path / "whole").read_bytes()
    positions = np.linspace(0, len(content) - 2, 120).astype(int)
    for position in positions:
        path = tmp_path / "cut"
        path.write_bytes(content[:position])
        got, error = read_while_it_lasts(path, name, events.size_wh)
        assert name in CUT_UNSEEN if error is None else path.name in str(error)
        rows = [r for g in got for r in zip(g.t_us, g.x, g.y, g.p, strict=True)]
        assert set(rows) <= truth, position
        assert len(rows) < len(events)


@pytest.mark.parametrize("name", ["dsec", "v2e-h5"])
def test_a_flipped_bit_in_hdf5_never_gives_other_events(tmp_path: Path, name: str):
    events = random_events(3000)
    write_events(tmp_path / "whole", events, format=name)
    content = bytearray((tmp_path / "whole").read_bytes())
    rng = np.random.default_rng(0)
    seen = 0
    for position in rng.integers(0, len(content), 120):
        damaged = content.copy()
        damaged[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            got = open_events(tmp_path / "damaged", format=name).read()
        except EgotriadError:
            seen += 1
        else:
            assert got.same_as(events), position
    assert seen > 60


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_byte_never_ends_in_a_foreign_error(tmp_path: Path, name: str):
    events = random_events(300, extent_us=3000)
    write_events(tmp_path / "whole", events, format=name)
    content = bytearray((tmp_path / "whole").read_bytes())
    rng = np.random.default_rng(0)
    for position in np.concatenate([np.arange(0, 200, 3), rng.integers(0, len(content), 40)]):
        damaged = content.copy()
        damaged[position % len(content)] = int(rng.integers(256))
        (tmp_path / "damaged").write_bytes(damaged)
        _, error = read_while_it_lasts(tmp_path / "damaged", None, events.size_wh)
        assert error is None or "damaged" in str(error)


def test_a_clock_s_wraps_are_undone_over_pieces_and_short_steps_back_stay():
    clock = WrappingClock(8)
    counted = [np.array(part, np.int64) for part in ([10, 200], [4, 250], [], [20, 19])]
    assert [list(clock(part)) for part in counted] == [[10, 200], [260, 506], [], [532, 531]]


def test_a_file_far_larger_than_a_chunk_is_converted_in_flat_memory(tmp_path: Path):
    step, pieces = 1 << 17, 40

    def source() -> Iterator[Events]:
        for k in range(pieces):
            yield random_events(step, (640, 480), 100_000, seed=k % 3).shifted(k * 100_000)

    write_events(tmp_path / "a.npy", source(), size_wh=(640, 480))
    assert (tmp_path / "a.npy").stat().st_size > 13 * step * pieces
    reader = open_events(tmp_path / "a.npy", size_wh=(640, 480))
    list(reader.chunks(end_us=1))  # what is loaded once does not count
    tracemalloc.start()
    try:
        count = write_events(
            tmp_path / "b.raw", reader.chunks(chunk_events=step), size_wh=(640, 480), format="evt2"
        )
        assert count == step * pieces
        assert sum(map(len, open_events(tmp_path / "b.raw").chunks(chunk_events=step))) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # of 68 MB


def test_progress_reaches_the_end(tmp_path: Path):
    for name in FORMATS:
        write_events(tmp_path / name, random_events(1000), format=name)
        seen: list[int] = []
        reader = open_events(tmp_path / name, size_wh=(346, 260))
        list(reader.chunks(progress=seen.append))
        assert seen == sorted(seen), name
        assert seen[-1] == reader.total, name
        assert repr(reader).startswith(f"EventReader({name}, {name}, ")


# As their READMEs say: format, size, events, first and last time, fraction of ON events.
VGA = (640, 480)
DSEC = "dsec_events/interlaken_00_d"
REAL = {
    "prophesee_evt2/evt2.raw": ("evt2", VGA, 521_252, 913_716_224, 913_812_095, 0.35657),
    "dvxplorer_imu/sample.aedat4": (
        "aedat4",
        (320, 240),
        111_954,
        1_605_537_493_718_345,
        1_605_537_494_308_262,
        0.4915,
    ),
    "dsec_events/eventgpt_sample1.npy": ("eventgpt", VGA, 132_268, 0, 49_595, 0.489),
    f"{DSEC}/000074.npy": ("eventgpt", VGA, 218_543, 51_836_199_776, 51_836_249_775, 0.620),
    f"{DSEC}/000079.npy": ("eventgpt", VGA, 209_542, 51_836_449_776, 51_836_499_775, 0.627),
    f"{DSEC}/000099.npy": ("eventgpt", VGA, 135_853, 51_837_449_776, 51_837_499_775, 0.600),
}


@pytest.mark.parametrize("file", REAL)
def test_real_recordings_give_their_numbers_and_survive_every_format(
    shared: Callable[[str], Path], tmp_path: Path, file: str
):
    name, size_wh, count, first_us, last_us, on_fraction = REAL[file]
    reader = open_events(shared(f"real/{file}"), size_wh=size_wh)
    events = reader.read()
    assert reader.format == name
    assert (len(events), events.t_us[0], events.t_us[-1]) == (count, first_us, last_us)
    assert events.p.mean() == pytest.approx(on_fraction, abs=5e-4)
    relative = events.shifted(-first_us)
    for target, kind in FORMATS.items():
        if kind.sizes and size_wh not in kind.sizes:
            continue
        write_events(tmp_path / target, relative, format=target)
        assert read_back(tmp_path / target, target, size_wh).same_as(relative), target
