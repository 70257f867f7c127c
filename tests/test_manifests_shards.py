import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from egotriad.manifests import Clip, Events, Imu, Narration
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import atomic
from egotriad.manifests.rows import ms_to_idx
from egotriad.manifests.schema import EVENTS, WINDOWS, file_metadata
from egotriad.manifests.shards import TableWriter, read_shards
from egotriad.pipelines.build import BuildConfig
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part


def write_build(clips: list[Clip], out: Path) -> Path:
    """Packs clips as if one recording had been built into one part."""
    folder = out / "parts"
    folder.mkdir(parents=True)
    names = {table: f"rec.key.{table}.parquet" for table in ("windows", "events")}
    for table, name in names.items():
        with TableWriter(folder / name, table, builder="test 1", config_hash="c") as writer:
            if table == "windows":
                writer.write_windows(clips, [None] * len(clips), list(range(len(clips))))
            else:
                for clip in clips:
                    writer.write_events(clip)
    part = Part(
        recording="rec",
        wearer="w",
        key="key",
        split="train",
        split_group="toy/w",
        rows=len(clips),
        event_count=sum(len(clip.events) for clip in clips),
        duration_us=0,
        files={name: {"bytes": 1, "sha256": ""} for name in names.values()},
        sources=[],
        rejected=[],
    )
    pack([part], folder, out, BuildConfig(), title="toy")
    return out


def assert_same(a: Clip, b: Clip) -> None:
    for name in ("window_id", "source", "recording", "wearer", "t_start_us", "duration_us"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("event_spans", "narration", "narrations", "split", "align", "qc", "origin"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("window_policy", "anchor", "other_actions", "ambiguous"):
        assert getattr(a, name) == getattr(b, name), name
    assert (a.imu is None) == (b.imu is None)
    assert a.imu is None or a.imu.same_as(b.imu)
    assert a.events.same_as(b.events)


def odd_clips(toy_clips: Callable[..., list[Clip]]) -> list[Clip]:
    """Clips with everything that may be absent, empty or unusual."""
    clips = [
        replace(clip, origin=replace(clip.origin, imu_source_rate_hz=197.5))
        for clip in toy_clips(5)
    ]
    gap = np.ones(640, bool)
    gap[5:9] = False
    data = clips[3].imu.data.copy()
    data[:, ~gap] = np.nan
    clips[1] = replace(clips[1], imu=None, wearer=None)
    clips[2] = replace(clips[2], events=Events.empty((32, 24)))
    clips[3] = replace(clips[3], imu=Imu(data=data, rate_hz=200.0, valid=gap))
    text = "C zieht die Tür — 镇 🦙"
    clips[4] = replace(
        clips[4],
        narration=text,
        narrations=(
            Narration(t_us=5, text=text, annotation_pass="p", annotation_id="i", group=3),
            Narration(t_us=9, text="b", subject="other", unsure=True),
        ),
        window_policy='{"kind":"grid"}',
        anchor=0,
        other_actions=1,
    )
    return clips


def test_clips_come_back_equal(toy_clips: Callable[..., list[Clip]], tmp_path: Path) -> None:
    clips = odd_clips(toy_clips)
    back = list(read_shards(write_build(clips, tmp_path / "b")))
    assert len(back) == len(clips)
    for a, b in zip(clips, back, strict=True):
        assert_same(a, b)


def test_light_reads_never_open_the_events(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    out = write_build(toy_clips(3), tmp_path / "b")
    for file in (out / "events").iterdir():
        file.unlink()
    assert [clip.events for clip in read_shards(out, events=False)] == [None] * 3
    with pytest.raises(ShardError, match="is missing"):
        list(read_shards(out))


def test_columns_have_the_chosen_encodings_and_checksums(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    out = write_build(toy_clips(2), tmp_path / "b")
    want = {
        "imu.list.element.list.element": "BYTE_STREAM_SPLIT",
        "ev_t.list.element": "DELTA_BINARY_PACKED",
        "ev_x.list.element": "BYTE_STREAM_SPLIT",
        "ev_y.list.element": "BYTE_STREAM_SPLIT",
        "ev_p.list.element": "PLAIN",
        "ev_ms_to_idx.list.element": "DELTA_BINARY_PACKED",
    }
    seen = {}
    for file in out.glob("*/*.parquet"):
        if file.parent.name == "parts":
            continue
        group = pq.ParquetFile(file).metadata.row_group(0)
        for index in range(group.num_columns):
            column = group.column(index)
            seen[column.path_in_schema] = column.encodings
            assert column.compression == "ZSTD"
    for path, encoding in want.items():
        assert encoding in seen[path], (path, seen[path])
        assert "RLE_DICTIONARY" not in seen[path]
    events = pq.ParquetFile(next((out / "events").iterdir())).metadata
    assert events.num_row_groups == events.num_rows == 2


def test_a_flipped_bit_is_an_error_and_not_other_data(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    out = write_build(toy_clips(2), tmp_path / "b")
    file = next((out / "events").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 16
    file.write_bytes(bytes(content))
    with pytest.raises(ShardError, match=r"damaged|not a whole Parquet"):
        list(read_shards(out))


def test_truncated_and_foreign_files_are_named(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    out = write_build(toy_clips(2), tmp_path / "b")
    file = next((out / "data").iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"train-00000-of-00001.parquet: not a whole Parquet"):
        list(read_shards(out))
    file.write_bytes(next((out / "events").iterdir()).read_bytes())
    with pytest.raises(ShardError, match="holds table 'events'"):
        list(read_shards(out))


def test_an_unfinished_build_and_a_missing_split_are_refused(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    out = write_build(toy_clips(2), tmp_path / "b")
    with pytest.raises(ShardError, match="has no split 'test', only train"):
        list(read_shards(out, split="test"))
    (out / "SHA256SUMS").unlink()
    with pytest.raises(ShardError, match="an unfinished build"):
        list(read_shards(out))
    with pytest.raises(ShardError, match="no build"):
        list(read_shards(tmp_path))


def test_datasets_reads_both_tables(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    clips = odd_clips(toy_clips)
    out = write_build(clips, tmp_path / "b")
    cache = str(tmp_path / "cache")
    windows = datasets.load_dataset(str(out), "windows", split="train", cache_dir=cache)
    assert windows["window_id"][:] == [clip.window_id for clip in clips]
    assert windows[4]["narration"] == clips[4].narration
    assert windows[4]["narrations"][1] == {
        "t_us": 9,
        "text": "b",
        "pass": "",
        "id": "",
        "subject": "other",
        "unsure": True,
        "group": None,
    }
    assert windows["other_actions"][:] == [0, 0, 0, 0, 1]
    assert np.array_equal(np.array(windows[0]["imu"], np.float32).T, clips[0].imu.data)
    events = datasets.load_dataset(str(out), "events", split="train", streaming=True)
    row = next(iter(events))
    assert row["ev_t"] == clips[0].events.t_us.tolist()
    assert row["ev_x"] == clips[0].events.x.tolist()


@pytest.mark.parametrize(("table", "schema"), [("windows", WINDOWS), ("events", EVENTS)])
def test_the_hub_metadata_describes_the_schema(table: str, schema) -> None:
    datasets = pytest.importorskip("datasets")
    metadata = file_metadata(table, builder="b", config_hash="c")
    described = datasets.Features.from_arrow_schema(schema.with_metadata(metadata))
    derived = datasets.Features.from_arrow_schema(schema.remove_metadata())
    differing = {name for name in derived if derived[name] != described[name]}
    assert differing == ({"event_preview"} if table == "windows" else set())
    assert table == "events" or described["event_preview"] == datasets.Image()


def test_ms_to_idx_is_dsecs() -> None:
    t = np.array([0, 500, 2100, 5000, 5000, 7100, 7200, 7200, 8100, 9000])
    assert ms_to_idx(t, 9000).tolist() == [0, 2, 2, 3, 3, 3, 5, 5, 8, 9]


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_and_fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        write_and_fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_plain_readers_read_every_encoding(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    clips = toy_clips(4)
    out = write_build(clips, tmp_path / "b")
    rows = duckdb.sql(
        f"SELECT ev_t, ev_x, ev_y, ev_p FROM '{out}/events/*.parquet' ORDER BY window_id"
    ).fetchall()
    lists = polars.read_parquet(f"{out}/events/*.parquet").sort("window_id")
    for number, clip in enumerate(sorted(clips, key=lambda clip: clip.window_id)):
        events = clip.events
        need = [array.tolist() for array in (events.t_us, events.x, events.y, events.p)]
        assert list(rows[number]) == need
        assert [lists[name][number].to_list() for name in ("ev_t", "ev_x", "ev_y", "ev_p")] == need


@pytest.mark.parametrize("needed", ["pyarrow", "duckdb", "polars", "datasets"])
def test_the_examples_of_the_formats_page_run_as_they_stand(
    toy_clips: Callable[..., list[Clip]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    needed: str,
) -> None:
    pytest.importorskip(needed)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page = (Path(__file__).parents[1] / "docs" / "shards.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (example,) = (block for block in blocks if re.match(rf"(import|from) {needed}\b", block))
    write_build(toy_clips(4), tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/shards.md", "exec"), {"__name__": "example"})


def test_no_windows_make_a_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "windows.parquet"
    with TableWriter(path, "windows", builder="test 1", config_hash="c") as writer:
        writer.write_windows([], [], [])
    assert writer.rows == 0
    assert pq.read_table(path).schema.equals(WINDOWS)
    assert pq.read_metadata(path).num_rows == 0
