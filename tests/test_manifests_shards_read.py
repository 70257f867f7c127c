"""Reading builds at random, in part, from folders, URLs and the Hub."""

import json
import pickle
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from egotriad.manifests import Clip, Events, Span, shards_events
from egotriad.manifests import shards_read as module
from egotriad.manifests.errors import MissingDependency, ShardError, UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import (
    ShardReader,
    TableWriter,
    read_manifest,
    read_shards,
    shards_sha256,
)

MakeClips = Callable[..., list[Clip]]


def write_build(clips: list[Clip], out: Path, *, shards: int = 2, group: int = 3) -> Path:
    """A complete build of the train split: clips dealt in order to shards, groups of a few rows."""
    lines = []
    for index, part in enumerate(np.array_split(np.arange(len(clips)), shards)):
        name = f"train-{index:05d}-of-{shards:05d}.parquet"
        some = [replace(clips[i], split="train") for i in part]
        for table, folder in (("windows", "data"), ("events", "events")):
            path = out / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with TableWriter(path, table, builder="test 1", config_hash="c") as writer:
                if table == "events":
                    for clip in some:
                        if clip.events is not None:
                            writer.write_events(clip)
                    continue
                rows = np.cumsum([clip.events is not None for clip in some]) - 1
                for start in range(0, len(some), group):
                    chunk = some[start : start + group]
                    event_rows = [
                        int(row) if clip.events is not None else None
                        for clip, row in zip(chunk, rows[start : start + group], strict=True)
                    ]
                    writer.write_windows(chunk, [None] * len(chunk), event_rows)
            lines.append({"config": table, "split": "train", "path": f"{folder}/{name}"})
    (out / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (out / "SHA256SUMS").write_text(f"{sha256_file(out / 'manifest.jsonl')}  manifest.jsonl\n")
    return out


def ids(clips: Iterator[Clip] | list[Clip]) -> list[str]:
    return [clip.window_id for clip in clips]


# What is read


def test_any_clip_by_index_is_the_one_met_in_turn(toy_clips: MakeClips, tmp_path: Path) -> None:
    clips = toy_clips(11)
    clips[4] = replace(clips[4], imu=None)
    clips[6] = replace(clips[6], events=None)
    clips[7] = replace(clips[7], events=Events.empty((32, 24)))
    reader = ShardReader(write_build(clips, tmp_path))
    assert len(reader) == 11
    assert reader.group_rows == (3, 3, 3, 2)
    assert reader.shards == 2
    assert ids(iter(reader)) == ids(clips)
    for index in (10, 0, 7, 6, 4, 5, 3, 9):
        got, want = reader.clip(index), clips[index]
        assert got.window_id == want.window_id
        assert (got.imu is None) == (want.imu is None)
        assert want.imu is None or got.imu.same_as(want.imu)
        assert (got.events is None) == (want.events is None)
        assert want.events is None or got.events.same_as(want.events)


def test_types_are_those_of_the_shards(toy_clips: MakeClips, tmp_path: Path) -> None:
    clip = ShardReader(write_build(toy_clips(1), tmp_path, shards=1)).clip(0)
    events = clip.events
    types = [a.dtype for a in (events.t_us, events.x, events.y, events.p, clip.imu.data)]
    assert types == [np.int64, np.uint16, np.uint16, np.bool_, np.float32]
    assert clip.imu.data.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside_is_refused(index: int, toy_clips: MakeClips, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"clip {index}, need 0 to 3"):
        ShardReader(write_build(toy_clips(4), tmp_path)).clip(index)


def test_imu_and_text_come_without_the_event_files(toy_clips: MakeClips, tmp_path: Path) -> None:
    clips = toy_clips(7)
    shutil.rmtree(write_build(clips, tmp_path) / "events")
    reader = ShardReader(tmp_path, events=False)
    assert all(reader.clip(k).imu.same_as(clips[k].imu) for k in range(7))
    assert [clip.narration for clip in reader] == [clip.narration for clip in clips]
    with pytest.raises(UsageError, match="opened with events=False"):
        reader.events(0)
    with pytest.raises(ShardError, match=r"train-00000-of-00002.parquet: is missing"):
        ShardReader(tmp_path).clip(0)


def test_text_comes_without_decoding_the_imu(
    toy_clips: MakeClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_build(toy_clips(4), tmp_path)
    asked = []
    read = module.read_group
    monkeypatch.setattr(module, "read_group", lambda *args: asked.append(args[3]) or read(*args))
    clips = list(read_shards(tmp_path, imu=False, events=False))
    assert [clip.imu for clip in clips] == [None] * 4
    assert all(clip.narration for clip in clips)
    assert asked
    assert not {"imu", "imu_mask", "event_preview"} & {name for names in asked for name in names}


def test_decoded_rows_are_kept_up_to_the_limit_and_decoded_again_beyond(
    toy_clips: MakeClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_build(toy_clips(9), tmp_path, shards=1)
    decoded = []
    read = module.read_group
    monkeypatch.setattr(module, "read_group", lambda *args: decoded.append(args[1]) or read(*args))
    reader = ShardReader(tmp_path, events=False, cached_rows=6)
    for index in (0, 3, 1, 6, 2, 3):  # groups 0 1 0 2 0 1: the 2 drives out the 1
        reader.clip(index)
    assert decoded == [0, 1, 2, 1]


def test_a_pickled_reader_reads_on_and_carries_no_data(
    toy_clips: MakeClips, tmp_path: Path
) -> None:
    reader = ShardReader(write_build(toy_clips(9), tmp_path))
    first = reader.clip(0)
    content = pickle.dumps(reader)
    assert len(content) < 5_000
    again = pickle.loads(content)
    assert again.clip(0).events.same_as(first.events)
    assert again.sha256 == reader.sha256 == shards_sha256(tmp_path)


# Events in a span


def dense_clip(clip: Clip, duration_us: int) -> Clip:
    """Events at every edge that matters to an index by milliseconds."""
    t = np.array([0, 0, 1, 999, 1000, 1000, 1001, 1999, 2500, 4000, 4000, duration_us - 1])
    events = Events(
        t_us=t.astype(np.int64),
        x=np.arange(len(t), dtype=np.uint16),
        y=np.zeros(len(t), np.uint16),
        p=np.arange(len(t)) % 2 == 0,
        size_wh=(32, 24),
    )
    return replace(clip, duration_us=duration_us, events=events.canonical())


@pytest.mark.parametrize("duration_us", [6_000, 6_400])
def test_a_span_gives_what_cutting_the_whole_does(
    duration_us: int, toy_clips: MakeClips, tmp_path: Path
) -> None:
    clip = dense_clip(toy_clips(1)[0], duration_us)
    reader = ShardReader(write_build([clip], tmp_path, shards=1))
    edges = sorted({-1500, -1, 0, 1, 998, 999, 1000, 1001, 1500, 2000, 2500, 2501, 4000, 5999})
    edges += [duration_us - 1, duration_us, duration_us + 1, duration_us + 5_000]
    for start in edges:
        for end in (edge for edge in edges if edge >= start):
            got = reader.events(0, Span(start, end - start))
            assert got.same_as(clip.events.between(start, end)), (start, end)
    assert reader.events(0).same_as(clip.events)


def test_a_span_of_a_clip_without_events_is_none_or_empty(
    toy_clips: MakeClips, tmp_path: Path
) -> None:
    clips = toy_clips(2)
    clips = [replace(clips[0], events=None), replace(clips[1], events=Events.empty((32, 24)))]
    reader = ShardReader(write_build(clips, tmp_path, shards=1))
    assert reader.events(0, Span(0, 50_000)) is None
    assert reader.events(1, Span(0, 50_000)).same_as(clips[1].events)


def test_a_span_reads_one_row_group_of_the_events(
    toy_clips: MakeClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ShardReader(write_build(toy_clips(6), tmp_path, shards=1))
    reader.clip(0)
    asked = []
    read = shards_events.read_group
    monkeypatch.setattr(
        shards_events, "read_group", lambda *args: asked.append(args[1:3]) or read(*args)
    )
    reader.events(2, Span(1_500_000, 1_000))
    assert asked == [(2, "events/train-00000-of-00001.parquet")]


def test_events_of_another_writers_encodings_are_read_as_well(
    toy_clips: MakeClips, tmp_path: Path
) -> None:
    clips = toy_clips(3)
    file = write_build(clips, tmp_path, shards=1) / "events" / "train-00000-of-00001.parquet"
    rows = [pq.ParquetFile(file).read_row_group(group) for group in range(3)]
    with pq.ParquetWriter(file, rows[0].schema, compression="lz4") as writer:
        for row in rows:
            writer.write_table(row)
    reader = ShardReader(tmp_path)
    for index, clip in enumerate(clips):
        assert reader.events(index).same_as(clip.events)
        span = clip.event_spans[0]
        some = clip.events.between(span.start_us, span.end_us)
        assert reader.events(index, span).same_as(some)


def test_tables_of_two_builds_are_told_apart(toy_clips: MakeClips, tmp_path: Path) -> None:
    clips = toy_clips(4)
    out = write_build(clips, tmp_path / "a", shards=1)
    other = write_build(clips[::-1], tmp_path / "b", shards=1)
    shutil.copy(next((other / "events").iterdir()), out / "events")
    with pytest.raises(ShardError, match=r"row 0 is toy/.*, need toy/.*; the two tables are not"):
        ShardReader(out).clip(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"config": "wind', "manifest.jsonl is damaged"),
        (b'{"config": "windows"}', "manifest.jsonl is damaged .no JSON object with config"),
        (b"[]", "manifest.jsonl is damaged .no JSON object with config"),
        (b"\xff\xfe", "manifest.jsonl cannot be read"),
    ],
)
def test_a_damaged_manifest_is_named(
    content: bytes, message: str, toy_clips: MakeClips, tmp_path: Path
) -> None:
    write_build(toy_clips(2), tmp_path)
    (tmp_path / "manifest.jsonl").write_bytes(content)
    with pytest.raises(ShardError, match=message):
        read_manifest(tmp_path)


# URLs


def test_file_and_memory_urls_read_as_the_folder_does(toy_clips: MakeClips, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    clips = toy_clips(5)
    out = write_build(clips, tmp_path / "b")
    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(out), "/egotriad-test/b", recursive=True)
        for url in (out.as_uri(), "memory://egotriad-test/b"):
            reader = ShardReader(url)
            assert ids(iter(reader)) == ids(clips)
            assert reader.clip(4).events.same_as(clips[4].events)
            assert reader.name == "b"
            assert shards_sha256(url) == shards_sha256(out)
        memory.rm("/egotriad-test/b/SHA256SUMS")
        with pytest.raises(ShardError, match="b: holds no build"):
            ShardReader("memory://egotriad-test/b")
    finally:
        memory.rm("/egotriad-test", recursive=True)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nosuch://bucket/b", ShardError, r"nosuch:// cannot be opened"),
        ("hf://just-a-name", ShardError, r"is no Hub dataset; write hf://user/name"),
        ("memory://nothing/here", ShardError, "here: holds no build"),
    ],
)
def test_a_url_that_leads_nowhere_says_so(url: str, error: type[Exception], message: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(error, match=message):
        ShardReader(url)


class RangeHandler(BaseHTTPRequestHandler):
    """Serves a folder with byte ranges; `failing` names what it answers with 503 instead."""

    def __init__(self, *args: object, root: Path, log: list[tuple[str, int]], failing: set[str]):
        self.root, self.log, self.failing = root, log, failing
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.root / self.path.lstrip("/")
        failing = body and self.path in self.failing
        if failing or not path.is_file():
            self.send_error(503 if failing else 404)
            return
        content = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = content[int(span[1]) : int(span[2]) + 1] if span else content
        self.send_response(206 if span else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{span[2]}/{len(content)}")
        self.end_headers()
        if body:
            self.log.append((self.path, len(part)))
            self.wfile.write(part)


@contextmanager
def served(root: Path, log: list[tuple[str, int]], failing: set[str]) -> Iterator[str]:
    handler = partial(RangeHandler, root=root, log=log, failing=failing)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_over_http_only_the_bytes_that_are_read_travel(
    toy_clips: MakeClips, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    clips = toy_clips(60)
    out = write_build(clips, tmp_path / "b", shards=1, group=20)
    log: list[tuple[str, int]] = []
    failing: set[str] = set()
    with served(tmp_path, log, failing) as url:
        reader = ShardReader(f"{url}/b", events=False)
        assert reader.clip(25).imu.same_as(clips[25].imu)
        sizes = {path.name: path.stat().st_size for path in (out / "data").iterdir()}
        travelled = sum(size for path, size in log if path.startswith("/b/data"))
        assert travelled < 0.75 * sum(sizes.values())  # a third, and the footer twice
        assert not [path for path, _ in log if path.startswith("/b/events")]
        assert ids(read_shards(f"{url}/b")) == ids(clips)

        failing.add("/b/data/train-00000-of-00001.parquet")
        with pytest.raises(ShardError, match=r"parquet.*out of reach"):
            list(ShardReader(f"{url}/b"))
        failing.add("/b/manifest.jsonl")
        with pytest.raises(ShardError, match=r"b: manifest.jsonl cannot be read"):
            ShardReader(f"{url}/b")
    with pytest.raises(ShardError, match="cannot be read"):
        ShardReader(f"{url}/b")


# The Hub


class FakeHub:
    """`huggingface_hub.snapshot_download` of one dataset that lies in a folder."""

    def __init__(self, repo: Path, cache: Path) -> None:
        self.repo, self.cache = repo, cache
        self.calls: list[tuple[str, str | None]] = []
        self.fetched: list[str] = []

    def snapshot_download(
        self, repo_id: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]
    ) -> str:
        assert repo_type == "dataset"
        self.calls.append((repo_id, revision))
        snapshot = self.cache / "c0ffee"
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for path in self.repo.rglob("*") if path.is_file()):
            name = path.relative_to(self.repo).as_posix()
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, snapshot / name)
                self.fetched.append(name)
        return str(snapshot)


@pytest.fixture
def hub(toy_clips: MakeClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    library = pytest.importorskip("huggingface_hub")
    fake = FakeHub(write_build(toy_clips(5), tmp_path / "repo"), tmp_path / "cache")
    monkeypatch.setattr(library, "snapshot_download", fake.snapshot_download)
    return fake


@pytest.mark.parametrize("name", ["me/walks@v1", "hf://me/walks@v1", "hf://datasets/me/walks@v1"])
def test_from_the_hub_only_what_is_needed_is_fetched_and_of_one_commit(
    name: str, hub: FakeHub, toy_clips: MakeClips
) -> None:
    reader = ShardReader(name, split="train", events=False)
    assert ids(iter(reader)) == ids(toy_clips(5))
    assert sorted(hub.fetched) == [
        "SHA256SUMS",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "manifest.jsonl",
    ]
    assert hub.calls == [("me/walks", "v1"), ("me/walks", "c0ffee")]
    assert pickle.loads(pickle.dumps(reader)).clip(3).window_id == reader.clip(3).window_id
    assert len(hub.calls) == 2


def test_a_revision_is_optional_and_events_come_when_asked_for(
    hub: FakeHub, toy_clips: MakeClips
) -> None:
    assert all(clip.events is not None for clip in read_shards("me/walks"))
    assert hub.calls[0] == ("me/walks", None)
    assert "events/train-00001-of-00002.parquet" in hub.fetched


def test_a_folder_of_that_name_goes_before_the_hub(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hub.repo.parent)
    assert len(ShardReader("repo/../repo")) == 5
    shutil.copytree(hub.repo, "me/walks")
    assert len(ShardReader("me/walks")) == 5
    assert hub.calls == []


def test_what_the_hub_refuses_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("huggingface_hub")
    errors = library.errors

    def fails_with(error: Exception) -> None:
        def snapshot_download(*args: object, **kwargs: object) -> str:
            raise error

        monkeypatch.setattr(library, "snapshot_download", snapshot_download)

    def response_error(kind: type[Exception]) -> Exception:
        error = kind.__new__(kind)
        error.args = ("no",)
        return error

    cases = [
        (
            errors.LocalEntryNotFoundError("offline"),
            "no folder here, the Hub cannot be reached, and its local",
        ),
        (response_error(errors.RepositoryNotFoundError), "no folder here and no dataset"),
        (response_error(errors.GatedRepoError), "is gated; ask for access"),
        (errors.OfflineModeIsEnabled("offline"), "cannot be fetched from the Hub"),
    ]
    for error, message in cases:
        fails_with(error)
        with pytest.raises(ShardError, match=rf"^me/walks at v1: .*{message}"):
            ShardReader("me/walks@v1")


def test_a_relative_path_is_never_taken_for_a_hub_id() -> None:
    for path in ("../walks", "./walks", "a/b/c", "walks", "/walks"):
        with pytest.raises(ShardError, match="holds no build"):
            ShardReader(path)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install 'egotriad\[hub\]'"):
        ShardReader("me/walks")


def test_values_used_last_are_kept_and_with_no_room_none() -> None:
    for room, expected in ((0, "aaba"), (1, "aba"), (2, "ab")):
        asked: list[str] = []

        def make(key: str, asked: list[str] = asked) -> str:
            asked.append(key)
            return key

        held = module.Recent[str, str](room, len)
        assert [held.get(key, partial(make, key)) for key in "aaba"] == list("aaba")
        assert "".join(asked) == expected
