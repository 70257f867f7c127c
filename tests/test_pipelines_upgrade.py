"""Upgrading: builds as earlier versions wrote them become builds of the present version."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egotriad.manifests import Clip, Events
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import canonical_json, open_sealed, sha256_file, write_text
from egotriad.manifests.schema import SCHEMA_VERSION, writer_options
from egotriad.manifests.shards import TableWriter, read_manifest, read_shards, shards_sha256
from egotriad.manifests.verify import verify
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.upgrade import upgrade
from egotriad.pipelines.upgrade_cli import upgrade_shards

MakeClips = Callable[..., list[Clip]]
CONFIG = BuildConfig()
LATER_COLUMNS = {"window_policy", "anchor", "other_actions"}
LATER_FIELDS = {"narrations": {"subject", "unsure", "group"}, "qc": {"imu_score"}}
OLD_CARD = """---
pretty_name: "toy shards"
license: other
configs:
- config_name: windows
  data_files: [{split: train, path: "data/train-*.parquet"}]
---
# toy shards

Windows of 3.2 s, one row each.
"""


def write_build(clips: list[Clip], out: Path) -> Path:
    """A build in the present version, one recording."""
    (out / "parts").mkdir(parents=True)
    files = {table: f"rec.{table}.parquet" for table in ("windows", "events")}
    for table, file in files.items():
        options = {"builder": "test 1", "config_hash": CONFIG.hash}
        with TableWriter(out / "parts" / file, table, **options) as writer:
            if table == "windows":
                writer.write_windows(clips, [None] * len(clips), list(range(len(clips))))
            else:
                for clip in clips:
                    writer.write_events(clip)
    part = Part(
        recording="rec",
        wearer=clips[0].wearer,
        key="key",
        split="train",
        split_group=clips[0].origin.split_group,
        rows=len(clips),
        event_count=sum(len(clip.events) for clip in clips),
        duration_us=0,
        files={file: {"bytes": 1, "sha256": ""} for file in files.values()},
        sources=[],
        rejected=[],
    )
    pack([part], out / "parts", out, CONFIG, title="toy shards")
    shutil.rmtree(out / "parts")
    return out


def without(kind: pa.DataType, names: set[str]) -> pa.DataType:
    """A struct type, or a list of one, without some fields."""
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", without(kind.value_type, names), nullable=False))
    return pa.struct([field for field in kind if field.name not in names])


def aged_table(rows: pa.Table, version: str) -> pa.Table:
    """Rows as version 1.0.0 had them, or 1.1.0 (its first builds had no `qc.imu_score` yet)."""
    fields = {"qc": LATER_FIELDS["qc"]} if version == "1.1.0" else LATER_FIELDS
    if version == "1.0.0":
        rows = rows.drop_columns([name for name in rows.column_names if name in LATER_COLUMNS])
    for name, later in fields.items():
        if name not in rows.column_names:
            continue
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(index).with_type(without(rows.schema.field(index).type, later))
        rows = rows.set_column(index, field, pa.array(rows[name].to_pylist(), field.type))
    metadata = rows.schema.metadata | {b"egotriad.schema_version": version.encode()}
    return rows.replace_schema_metadata(metadata)


def age(out: Path, version: str) -> Path:
    """Turns a build into one as an earlier version wrote it."""
    lines = read_manifest(out)
    for line in lines:
        file = pq.ParquetFile(out / line["path"])
        groups = [aged_table(file.read_row_group(k), version) for k in range(file.num_row_groups)]
        options = writer_options(line["config"])
        if line["config"] == "events":
            options["column_encoding"] |= {"ev_y.list.element": "DELTA_BINARY_PACKED"}
        else:
            names = [name for name in options["use_dictionary"] if name in groups[0].column_names]
            options["use_dictionary"] = names
        with pq.ParquetWriter(out / line["path"], groups[0].schema, **options) as writer:
            for group in groups:
                writer.write_table(group)
        path = out / line["path"]
        line |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        line["schema_version"] = version
    values: dict[str, Any] = {"config": {"hash": CONFIG.hash}}
    values["counts"] = {"built_windows": sum(x["rows"] for x in lines if x["config"] == "windows")}
    write_text(out / "provenance.json", canonical_json(values) + "\n")  # sealed only later
    write_text(out / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    names = [line["path"] for line in lines] + ["README.md", "manifest.jsonl", "rejected.jsonl"]
    if version == "1.0.0":
        write_text(out / "README.md", OLD_CARD)
        for name in ("stats.json", "croissant.json"):
            (out / name).unlink()
    else:
        names += ["stats.json", "croissant.json"]
    sums = "".join(f"{sha256_file(out / name)}  {name}\n" for name in sorted(names))
    write_text(out / "SHA256SUMS", sums)
    return out


@pytest.fixture
def clips(toy_clips: MakeClips) -> list[Clip]:
    made = toy_clips(4)
    made[2] = replace(made[2], events=Events.empty((32, 24)), imu=None)
    origin = {"split_origin": "official", "imu_source_rate_hz": 197.5}
    return [replace(clip, origin=replace(clip.origin, **origin)) for clip in made]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_an_old_build_becomes_a_sound_one_with_every_value_it_had(
    clips: list[Clip], tmp_path: Path, version: str
) -> None:
    old = age(write_build(clips, tmp_path / "old"), version)
    with pytest.raises(ShardError, match=rf"is of schema version {version}, need .*upgrade-shards"):
        list(read_shards(old))
    before = {path: sha256_file(path) for path in old.rglob("*") if path.is_file()}
    assert upgrade(old, tmp_path / "new") == version
    assert verify(tmp_path / "new").findings == ()
    assert before == {path: sha256_file(path) for path in old.rglob("*") if path.is_file()}
    for was, now in zip(clips, read_shards(tmp_path / "new"), strict=True):
        assert now.events.same_as(was.events)
        assert (now.imu is None) == (was.imu is None)
        assert now.imu is None or np.array_equal(now.imu.data, was.imu.data)
        for name in ("window_id", "narration", "narrations", "event_spans", "align", "origin"):
            assert getattr(now, name) == getattr(was, name), name
        # Nobody counted the actions: all that are told may be another than the text's.
        assert now.other_actions == (len(was.narrations) if version == "1.0.0" else 0)
        assert now.qc.imu_score is None


def test_what_is_told_of_the_build_is_kept_and_the_step_is_on_record(
    clips: list[Clip], tmp_path: Path
) -> None:
    old = age(write_build(clips, tmp_path / "old"), "1.0.0")
    upgrade(old, tmp_path / "new")
    (step,) = open_sealed(tmp_path / "new" / "provenance.json")["upgraded"]
    assert (step["from"], step["to"]) == ("1.0.0", SCHEMA_VERSION)
    assert step["sha256sums"] == shards_sha256(old)
    card = (tmp_path / "new" / "README.md").read_text()
    assert "Windows of 3.2 s, one row each." in card
    assert f"Upgraded from schema version 1.0.0 to {SCHEMA_VERSION}" in card
    assert "name: ev_y" in card  # features, which an old card lacked
    assert json.loads((tmp_path / "new" / "stats.json").read_text())["splits"]["train"]["events"]


def test_datasets_reads_an_upgraded_build(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    upgrade(age(write_build(clips, tmp_path / "old"), "1.1.0"), tmp_path / "new")
    rows = datasets.load_dataset(str(tmp_path / "new"), "events", split="train", streaming=True)
    assert next(iter(rows))["ev_y"] == clips[0].events.y.tolist()


def test_a_stopped_upgrade_goes_on_to_the_same_bytes(clips: list[Clip], tmp_path: Path) -> None:
    old = age(write_build(clips, tmp_path / "old"), "1.1.0")

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(old, tmp_path / "new", progress=stop)
    with pytest.raises(ShardError, match="no build"):
        list(read_shards(tmp_path / "new"))
    upgrade(old, tmp_path / "new")
    upgrade(old, tmp_path / "other")
    assert shards_sha256(tmp_path / "new") == shards_sha256(tmp_path / "other")
    assert verify(tmp_path / "new").ok


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.0.0", "it is newer: pip install --upgrade egotriad"),
        ("1.99.0", "it is newer: pip install --upgrade egotriad"),
        ("0.9.0", "upgrade-shards knows no way from there: run build-shards again"),
        ("none", "these are no shards of egotriad"),
    ],
)
def test_an_unknown_version_is_refused_with_the_next_step(
    clips: list[Clip], tmp_path: Path, version: str, words: str
) -> None:
    old = age(write_build(clips, tmp_path / "old"), version)
    for act in (lambda: list(read_shards(old)), lambda: upgrade(old, tmp_path / "new")):
        with pytest.raises(ShardError, match=words):
            act()
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_upgraded_is_named(clips: list[Clip], tmp_path: Path) -> None:
    new = write_build(clips, tmp_path / "old")
    with pytest.raises(UsageError, match="the present one"):
        upgrade(new, tmp_path / "new")
    old = age(new, "1.1.0")
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        upgrade(old, old)
    file = next((old / "events").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ShardError, match=r"events/train-\S+: is missing or damaged"):
        upgrade(old, tmp_path / "new")


def test_the_command_verifies_what_it_wrote(
    clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = age(write_build(clips, tmp_path / "old"), "1.0.0")
    assert upgrade_shards([str(old), str(tmp_path / "new"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["to"], told["windows"]) == ("1.0.0", SCHEMA_VERSION, 4)
    assert told["findings"] == []
