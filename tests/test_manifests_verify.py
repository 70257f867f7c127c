"""Verification: a sound build is clean, and every kind of fault is named with its place."""

import getpass
import json
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egotriad.manifests import Clip, Imu, verify_text
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import (
    canonical_json,
    open_sealed,
    seal,
    sha256_file,
    sha256_text,
    write_text,
)
from egotriad.manifests.rows import event_table, window_table
from egotriad.manifests.schema import SCHEMA_VERSION, TABLES, file_metadata, writer_options
from egotriad.manifests.shards import TableWriter
from egotriad.manifests.shards_qa import QuestionAnswer, qa_table, read_qa
from egotriad.manifests.verify import Finding, VerifyReport, verify
from egotriad.manifests.verify_events import first_disorder
from egotriad.manifests.verify_text import private_text
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig

CONFIG = BuildConfig()
WINDOWS = "data/train-00000-of-00001.parquet"
EVENTS = "events/train-00000-of-00001.parquet"
QUESTIONS = "data_qa/train-00000-of-00001.parquet"
HELD_OUT = "data/test-00000-of-00001.parquet"


def asked(clip: Clip, **changes: Any) -> QuestionAnswer:
    """A question about a clip."""
    facts = {
        "qa_id": f"{clip.window_id}/0",
        "window_id": clip.window_id,
        "question": "What does C do?",
        "answer": clip.narration,
        "task": "activity",
    }
    return QuestionAnswer(**facts | changes)


def write_part(clips: list[Clip], folder: Path) -> Part:
    """One recording's part, as the builder leaves it."""
    name, first = clips[0].recording, clips[0]
    files = {table: f"{name}.key.{table}.parquet" for table in TABLES}
    for table, file in files.items():
        options = {"builder": "test 1", "config_hash": CONFIG.hash}
        with TableWriter(folder / file, table, **options) as writer:
            if table == "windows":
                writer.write(window_table(clips, [None] * len(clips), list(range(len(clips)))))
            elif table == "events":
                for clip in clips:
                    writer.write(event_table(clip))
            else:
                writer.write(qa_table([asked(clip) for clip in clips]))
    return Part(
        recording=name,
        wearer=first.wearer,
        key="key",
        split=first.split,
        split_group=first.origin.split_group,
        rows=len(clips),
        event_count=sum(len(clip.events) for clip in clips if clip.events),
        duration_us=sum(clip.duration_us for clip in clips),
        files={
            file: {"bytes": (folder / file).stat().st_size, "sha256": sha256_file(folder / file)}
            for file in files.values()
        },
        sources=[],
        rejected=[{"window_id": "toy/x", "reason": "imu-gap", "message": "a gap"}],
    )


def masked(clip: Clip) -> Clip:
    """The clip with a gap in its IMU."""
    valid = np.ones(clip.imu.valid.shape, bool)
    valid[5:9] = False
    data = clip.imu.data.copy()
    data[:, ~valid] = np.nan
    return replace(clip, imu=Imu(data=data, rate_hz=clip.imu.rate_hz, valid=valid))


def write_build(clips: Iterable[Clip], out: Path) -> Path:
    """Shards of clips, with a record that vouches for them."""
    folder = out / "parts"
    folder.mkdir(parents=True)
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.recording, []).append(clip)
    parts = [write_part(group, folder) for group in groups.values()]

    def record(sums_sha256: str) -> None:
        counts = {"built_windows": sum(part.rows for part in parts)}
        values = {"sha256sums": sums_sha256, "config": {"hash": CONFIG.hash}, "counts": counts}
        write_text(out / "provenance.json", seal(values))

    pack(parts, folder, out, CONFIG, title="toy", record=record)
    shutil.rmtree(folder)
    return out


@pytest.fixture(scope="module")
def sound(toy_clips: Callable[..., list[Clip]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings for training, one held out; an IMU with a gap, a window without IMU."""
    made = toy_clips(18)
    clips = [
        replace(made[index], origin=replace(made[index].origin, split_origin="official"))
        for index in (0, 1, 4, 5, 16, 17)
    ]
    clips[1], clips[3] = masked(clips[1]), replace(clips[3], imu=None)
    return write_build(clips, tmp_path_factory.mktemp("sound") / "b")


@pytest.fixture
def build(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound build, to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "b"))


def reseal(out: Path) -> None:
    """Makes sizes and hashes true again: what remains wrong is what the files say."""
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        file = out / line["path"]
        line |= {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    write_text(out / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    names = [line.partition("  ")[2] for line in (out / "SHA256SUMS").read_text().splitlines()]
    sums = "".join(f"{sha256_file(out / name)}  {name}\n" for name in names)
    write_text(out / "SHA256SUMS", sums)
    values = open_sealed(out / "provenance.json") | {"sha256sums": sha256_text(sums)}
    write_text(out / "provenance.json", seal(values))


def rewrite(out: Path, path: str, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Applies `edit` to every row group of a data file, and reseals the build."""
    file = pq.ParquetFile(out / path)
    groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
    file.close()
    table = {"data": "windows", "events": "events", "data_qa": "qa"}[path.partition("/")[0]]
    with TableWriter(out / path, table, builder="test 1", config_hash=CONFIG.hash) as writer:
        for group in groups:
            writer.write(edit(group))
    reseal(out)


def setting(column: str, change: Callable[[Any], Any], row: int = 0) -> Callable[..., pa.Table]:
    """An edit that changes one value of the first row group: `change(old) -> new`."""
    done: list[bool] = []

    def edit(table: pa.Table) -> pa.Table:
        if done:
            return table
        done.append(True)
        values = table.column(column).to_pylist()
        values[row] = change(values[row])
        index = table.schema.get_field_index(column)
        array = pa.array(values, table.schema.field(index).type)
        return table.set_column(index, table.schema.field(index), array)

    return edit


def only(report: VerifyReport) -> Finding:
    assert len(report.findings) == 1, [str(finding) for finding in report.findings]
    return report.findings[0]


def test_a_sound_build_is_clean(sound: Path) -> None:
    report = verify(sound)
    assert report.ok, [str(finding) for finding in report.findings]
    assert (report.windows, report.events, report.deep) == (6, 2400, True)
    assert report.sums_sha256 == sha256_file(sound / "SHA256SUMS")
    assert report.files == len([path for path in sound.rglob("*") if path.is_file()])
    assert verify(sound, deep=False).ok


def test_progress_counts_shards(sound: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    verify(sound, progress=lambda *told: seen.append(told))
    assert seen == [("shards verified", 1, 2), ("shards verified", 2, 2)]


def test_every_flipped_bit_and_every_cut_names_its_file_and_no_other(build: Path) -> None:
    rng = random.Random(5)
    files = [path for path in sorted(build.rglob("*")) if path.is_file()]
    assert len(files) == 13  # every output file there is
    for trial in range(240):
        path = files[trial % len(files)]
        whole = path.read_bytes()
        content = bytearray(whole)
        if trial < 200:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        report = verify(build)
        name = path.relative_to(build).as_posix()
        assert {finding.file for finding in report.findings} == {name}, (trial, report.findings)
        assert report.damaged == [name]
        path.write_bytes(whole)
    assert verify(build).ok


def test_damage_is_narrowed_down_to_row_group_and_column(build: Path) -> None:
    chunk = pq.ParquetFile(build / EVENTS).metadata.row_group(2).column(8)
    assert chunk.path_in_schema == "ev_t.list.element"
    content = bytearray((build / EVENTS).read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 5] ^= 4
    (build / EVENTS).write_bytes(content)
    whole, part = verify(build).findings
    assert (whole.file, whole.what, whole.row_group) == (EVENTS, "sha256", None)
    assert (part.what, part.row_group, part.where) == ("damaged", 2, "ev_t.list.element")
    assert "CRC" in part.got


def test_a_missing_file_and_files_that_nobody_names(build: Path) -> None:
    (build / HELD_OUT).unlink()
    (build / "data" / "train-00001-of-00002.parquet").touch()
    (build / "README.md.tmp-17").touch()
    (build / "my-own.parquet").touch()  # nobody's business
    report = verify(build)
    assert [(f.file, f.what) for f in report.findings] == [
        ("README.md.tmp-17", "orphan"),
        ("data/train-00001-of-00002.parquet", "orphan"),
        (HELD_OUT, "missing"),
    ]
    assert report.damaged == [HELD_OUT]


def test_a_folder_without_a_build_is_refused(build: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no build"):
        verify(tmp_path)
    for marker in ("manifest.jsonl", "SHA256SUMS"):
        (build / marker).unlink()
    with pytest.raises(ShardError, match="build-shards"):
        verify(build)


def last(change: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:-1], change(values[-1])]


@pytest.mark.parametrize(
    ("column", "change", "what", "told"),
    [
        ("ev_t", lambda t: [t[1] + 1, *t[1:]], "order", "event 1"),
        ("ev_t", last(lambda t: 3_200_000), "bounds", "0 <= ev_t < 3200000"),
        ("ev_t", lambda t: [5, *t[1:]], "index", "ev_ms_to_idx: index: got 0 at 1 ms, need 1"),
        ("ev_x", lambda x: [*x[:7], 32, *x[8:]], "bounds", "ev_x[7]: bounds: got 32, need 0 <="),
        ("ev_y", lambda y: [*y[:7], 24, *y[8:]], "bounds", "ev_y[7]"),
        ("ev_p", lambda p: p[:-1], "count", "got 399 values, need 400 values"),
        ("ev_ms_to_idx", lambda i: i[:-1], "index", "got 3200 entries, need 3201 entries"),
        ("ev_ms_to_idx", last(lambda i: i - 1), "index", "got 399 at 3200 ms, need 400"),
        ("t_start_us", lambda t: t + 1, "pairs", "t_start_us: pairs: got 12800001, need 12800000"),
        ("sim_id", lambda s: "f" * 16, "pairs", "need 0123456789abcdef"),
    ],
)
def test_faults_of_events_name_file_row_and_column(
    build: Path, column: str, change: Callable[[Any], Any], what: str, told: str
) -> None:
    rewrite(build, EVENTS, setting(column, change))
    finding = next(f for f in verify(build).findings if f.what == what)
    assert (finding.file, finding.row) == (EVENTS, 0)
    assert finding.where.startswith("toy/rec1/000012800000-003200000")
    assert told in str(finding)
    assert not finding.is_damage


def test_light_verification_leaves_events_undecoded(build: Path) -> None:
    rewrite(build, EVENTS, setting("ev_x", lambda x: [32, *x[1:]]))
    assert verify(build, deep=False).ok
    assert not verify(build).ok


def test_events_outside_their_spans_are_counted(build: Path) -> None:
    shorter = setting("event_spans", lambda spans: spans[:2])
    rewrite(build, EVENTS, shorter)
    rewrite(build, WINDOWS, setting("event_spans", lambda spans: spans[:2]))
    faults = {finding.what: finding for finding in verify(build).findings}
    assert set(faults) == {"event-spans", "count"}  # the rate is over the spans
    assert "events outside them" in faults["event-spans"].got
    assert faults["count"].where.endswith("event_rate_hz")


NARRATION = {"pass": "", "id": "", "subject": "", "unsure": False, "group": None}


@pytest.mark.parametrize(
    ("column", "change", "what", "told"),
    [
        ("window_id", lambda i: "toy/rec1/other", "window-id", "need toy/rec1/000012800000-00320"),
        ("imu", lambda s: s[:-1], "imu", "got 639 samples, need 640 samples"),
        ("imu", lambda s: [[np.nan] * 6, *s[1:]], "imu-mask", "1 samples, the first number 0"),
        ("imu", lambda s: [[np.inf, *s[0][1:]], *s[1:]], "imu-mask", "finite where valid"),
        ("imu_mask", lambda m: [True] * 640, "imu-mask", "640 entries, 640 true"),
        ("imu_mask", lambda m: [False] * 3, "imu-mask", "got 3 entries"),
        ("imu_rate_hz", lambda r: None, "imu", "need a rate above 0 Hz"),
        ("qc", lambda q: q | {"imu_gap_fraction": 0.5}, "imu-mask", "got 0.5, need 0.000000"),
        (
            "narrations",
            lambda n: [{"t_us": 3_200_000, "text": "late", **NARRATION}],
            "narration",
            "narrations[0].t_us: narration: got 3200000, need 0 <= t_us < 3200000",
        ),
        ("anchor", lambda a: 1, "narration", "need an index of 1 narrations"),
        ("num_events", lambda n: n + 1, "count", "event_rate_hz: count: got 2000.0, need 2005.0"),
        ("event_on_fraction", lambda f: f / 2, "count", "event_on_fraction"),
        ("event_rate_hz", lambda f: f * 2, "count", "event_rate_hz: count: got 4000.0, need 2000"),
        ("event_row", lambda r: 3, "event-row", "got 3, need 0"),
        ("sim_id", lambda s: None, "events", "got only num_events, event_row"),
        ("split_origin", lambda s: "chance", "split", "got chance"),
        ("narration", lambda n: "see /home/anna/x", "private", "absolute path '/home/anna/x'"),
        ("wearer_id", lambda w: "anna@uni.edu", "private", "wearer_id: private: got e-mail"),
        ("window_policy", lambda p: "hf_" + "a" * 34, "private", "token 'hf_aaaaa'"),
    ],
)
def test_faults_of_windows_name_file_row_and_column(
    build: Path, column: str, change: Callable[[Any], Any], what: str, told: str
) -> None:
    rewrite(build, WINDOWS, setting(column, change))
    finding = next(f for f in verify(build).findings if f.what == what)
    assert (finding.file, finding.row) == (WINDOWS, 0)
    assert told in str(finding)


def test_a_narration_must_be_the_one_at_the_anchor(build: Path) -> None:
    rewrite(build, WINDOWS, setting("anchor", lambda a: 0))
    assert verify(build).ok
    rewrite(build, WINDOWS, setting("narration", lambda n: "C jumps."))
    assert only(verify(build)).what == "narration"


def test_a_span_outside_the_window_is_found_in_both_tables(build: Path) -> None:
    def longer(spans: list[dict[str, int]]) -> list[dict[str, int]]:
        return [*spans[:2], {"start_us": spans[2]["start_us"], "duration_us": 2_000_000}]

    rewrite(build, WINDOWS, setting("event_spans", longer))
    found = {(finding.file, finding.what) for finding in verify(build).findings}
    assert found >= {(WINDOWS, "event-spans"), (EVENTS, "pairs")}


def test_a_window_that_comes_twice_is_named(build: Path) -> None:
    def same(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table.slice(0, 1)] * table.num_rows).combine_chunks()

    rewrite(build, HELD_OUT, same)
    finding = next(f for f in verify(build).findings if f.what == "duplicate")
    assert (finding.file, finding.row) == (HELD_OUT, 1)


def test_one_person_in_two_splits_is_a_leak(build: Path) -> None:
    rewrite(build, WINDOWS, setting("wearer_id", lambda w: "w4"))
    finding = only(verify(build))
    assert (finding.file, finding.what) == (WINDOWS, "leak")
    assert finding.got == "toy/w4 in test and train"
    rewrite(build, WINDOWS, setting("split_group", lambda g: "toy/w4"))
    assert {"toy/w4 in test and train"} == {
        f.got for f in verify(build).findings if f.what == "leak"
    }


def test_a_hashed_split_must_be_the_one_of_its_group(build: Path) -> None:
    # ego4d/14 belongs to validation (reference vectors of the split function).
    rewrite(build, WINDOWS, setting("split_group", lambda g: "ego4d/14"))
    rewrite(build, WINDOWS, setting("split_origin", lambda g: "hash"))
    finding = next(f for f in verify(build).findings if f.what == "split")
    assert (finding.got, finding.need) == ("train", "validation")


def write_table(out: Path, path: str, edit: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    """Writes a data file past the writer that knows the schema."""
    table = edit(pq.ParquetFile(out / path).read())
    kind = "windows" if path.startswith("data") else "events"
    rows = options.pop("row_group_size", 1 if kind == "events" else None)
    pq.write_table(table, out / path, row_group_size=rows, **(writer_options(kind) | options))
    reseal(out)


def test_files_written_past_the_schema_are_found(build: Path) -> None:
    def retyped(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index("ev_x")
        kind = pa.list_(pa.field("element", pa.int32(), nullable=False))
        field = table.schema.field(index).with_type(kind)
        return table.set_column(index, field, table.column(index).cast(kind))

    write_table(build, EVENTS, retyped)
    finding = only(verify(build))
    assert (finding.what, finding.where) == ("schema", "ev_x")
    assert finding.got.startswith("list<element: int32 not null> not null")
    assert finding.got.endswith("origin=top-left unit=px")


def test_other_encodings_and_row_groups_are_found(build: Path) -> None:
    write_table(build, EVENTS, lambda table: table, compression="lz4", row_group_size=2)
    found = {finding.what: finding for finding in verify(build).findings}
    assert set(found) >= {"encoding", "row-group"}
    assert found["row-group"].got == "2 rows"
    assert found["encoding"].row_group is not None
    assert "lz4" in found["encoding"].got


def test_another_schema_version_is_refused_with_the_way_out(build: Path) -> None:
    def older(table: pa.Table) -> pa.Table:
        changed = {b"egotriad.schema_version": b"1.0.0"}
        return table.replace_schema_metadata(table.schema.metadata | changed)

    write_table(build, WINDOWS, older)
    finding = next(f for f in verify(build).findings if f.file == WINDOWS)
    assert (finding.what, finding.got) == ("schema-version", "1.0.0")
    assert finding.need == f"{SCHEMA_VERSION}; run egotriad upgrade-shards OLD NEW"


def test_metadata_that_is_not_the_codes_own_is_found(build: Path) -> None:
    def edit(table: pa.Table) -> pa.Table:
        extra = {b"made_in": b"/home/anna/shards", b"egotriad.config_hash": b"0"}
        return table.replace_schema_metadata(table.schema.metadata | extra)

    write_table(build, WINDOWS, edit)
    found = [(f.what, f.where) for f in verify(build).findings if f.file == WINDOWS]
    assert found == [
        ("metadata", "egotriad.config_hash"),
        ("metadata", "made_in"),
        ("private", "made_in"),
    ]


def test_the_manifest_must_say_what_the_files_hold(build: Path) -> None:
    lines = [json.loads(line) for line in (build / "manifest.jsonl").read_text().splitlines()]
    lines[1] |= {"rows": 5, "wearers": 9, "split": "test", "config_hash": "0"}
    write_text(build / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    reseal(build)
    report = verify(build)
    assert {f.file for f in report.findings} == {"manifest.jsonl"}
    wrong = {f.where.removeprefix(WINDOWS).strip(): (f.got, f.need) for f in report.findings}
    assert wrong == {
        "rows": ("5", "4"),
        "wearers": ("9", "2"),
        "split": ("test", "train"),
        "config_hash": ("0", CONFIG.hash),
    }


def test_a_gap_in_a_series_of_files_is_found(build: Path) -> None:
    for folder in ("data", "events", "data_qa"):
        file = build / folder / "train-00000-of-00001.parquet"
        file.rename(file.with_name("train-00000-of-00002.parquet"))
    for name in ("manifest.jsonl", "SHA256SUMS"):
        text = (build / name).read_text()
        write_text(build / name, text.replace("train-00000-of-00001", "train-00000-of-00002"))
    reseal(build)
    series = [f for f in verify(build).findings if f.what == "series"]
    assert [f.where for f in series] == ["data/train-*", "data_qa/train-*", "events/train-*"]
    assert series[0].need == "2, numbered from 0"


def test_private_lines_of_text_files_are_named(build: Path) -> None:
    text = (build / "README.md").read_text().splitlines()
    write_text(build / "README.md", "\n".join([*text[:30], "made on ~/.cache/x", *text[30:]]))
    reseal(build)
    finding = only(verify(build))
    assert (finding.file, finding.what, finding.where) == ("README.md", "private", "line 31")


def test_this_machines_user_is_private_but_a_word_of_an_annotator_is_not(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "walker")
    verify_text._own_names.cache_clear()
    rewrite(build, WINDOWS, setting("narration", lambda n: "C greets the walker"))
    assert verify(build).ok
    rewrite(build, WINDOWS, setting("wearer_id", lambda n: "walker-2"))
    assert "host or user name 'walker'" in only(verify(build)).got
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    verify_text._own_names.cache_clear()
    assert verify(build).ok


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("in /home/anna now", "absolute path"),
        ('{"a":"/data/ego4d/v2"}', "absolute path"),
        ("see ~/.cache/x", "absolute path"),
        ("file:///x/y", "absolute path"),
        ("C:\\Users\\anna", "absolute path"),
        ('{"a":"C:\\\\Users\\\\anna"}', "absolute path"),
        ("\\\\nas\\share\\x", "absolute path"),
        ("anna.b@uni-x.edu", "e-mail address"),
        ("hf_" + "a" * 34, "token"),
        ("ghp_" + "b" * 36, "token"),
        ("sk-proj-abcdefghijklmnopqrst", "token"),
        ("AKIAABCDEFGHIJKLMNOP", "token"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0", "token"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "token"),
    ],
)
def test_private_text_is_recognised(text: str, kind: str) -> None:
    assert [found for found, _ in private_text(text, names=False)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "C puts and/or takes /the cup",
        "simulated/s0-w00-r0/000001625139-004500000",
        "m/s^2,m/s^2,rad/s",
        "https://a.b/c/d",
        "0.1s x3 /0.05s @peak",
        "</a></b> 1/2/3 image/png",
        "data/train-*.parquet",
        "C looks @ home",
        "option C:\\nnext",
        "task-abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_ordinary_text_is_not_private(text: str) -> None:
    assert not list(private_text(text, names=False))


def test_the_first_event_out_of_order_is_found_across_blocks() -> None:
    rng = np.random.default_rng(3)
    count = 200_000
    t = np.sort(rng.integers(0, 2000, count)).astype(np.int32)
    y, x = (rng.integers(0, 20, count).astype(np.uint16) for _ in range(2))
    p = rng.random(count) < 0.5
    order = np.lexsort((p, x, y, t))
    t, y, x, p = t[order], y[order], x[order], p[order]
    assert first_disorder(t, y, x, p) is None
    for at in (1, 65_535, 65_536, 65_537, count - 1):
        for array in (t, y, x, p):
            columns = [t.copy(), y.copy(), x.copy(), p.copy()]
            where = [c is array for c in (t, y, x, p)].index(True)
            # Two equal events, of which the first gets the greater value.
            for column in columns:
                column[at] = column[at - 1] = 0 if column is columns[where] else column[at]
            columns[where][at - 1] = 1
            if where == 0:
                columns[0][:] = np.maximum.accumulate(columns[0])
                columns[0][at:] = columns[0][at - 1] - 1
            found = first_disorder(*columns)
            assert found is not None
            assert found <= at
    assert first_disorder(t[:1], y[:1], x[:1], p[:1]) is None


def test_a_sealed_file_opens_only_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "sealed.json"
    values = {"b": [1, 2.5, None], "a": "Tür 🦙"}
    path.write_text(seal(values), encoding="utf-8")
    assert open_sealed(path) == values
    whole = path.read_bytes()
    for spoilt in (whole[:-1], whole + b" ", whole.replace(b"2.5", b"2.6"), b"", b"[]", b"\xff"):
        path.write_bytes(spoilt)
        with pytest.raises(ShardError, match=r"sealed.json: is damaged"):
            open_sealed(path)
    path.unlink()
    with pytest.raises(ShardError, match="is missing"):
        open_sealed(path)


def test_the_metadata_of_a_shard_holds_no_private_text() -> None:
    for table in TABLES:
        for value in file_metadata(table, builder="egotriad 0", config_hash="0").values():
            assert not list(private_text(value.decode()))


def test_questions_come_back_split_by_split(sound: Path, toy_clips: Callable[..., Any]) -> None:
    made = toy_clips(18)
    told = [asked(made[index]) for index in (16, 17)]
    assert list(read_qa(sound, split="test")) == told
    assert len(list(read_qa(sound))) == 6
    with pytest.raises(ShardError, match="holds no questions in split 'validation'"):
        next(read_qa(sound, split="validation"))


def test_a_question_about_no_window_of_its_split_is_found(build: Path) -> None:
    (held_out, *_) = read_qa(build, split="test")
    rewrite(build, QUESTIONS, setting("window_id", lambda _: held_out.window_id, row=1))
    finding = only(verify(build))
    assert (finding.file, finding.what, finding.row) == (QUESTIONS, "qa-window", 1)
    assert finding.got == f"{held_out.window_id} in test"


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("qa_id", "toy/rec0/000003200000-003200000/0", "duplicate"),
        ("answer", "  ", "qa-text"),
        ("question", "What is in /home/anna/films?", "private"),
    ],
)
def test_a_wrong_question_is_named_with_its_row(
    build: Path, column: str, value: str, what: str
) -> None:
    rewrite(build, QUESTIONS, setting(column, lambda _: value))
    findings = [finding for finding in verify(build).findings if finding.file == QUESTIONS]
    assert [f.what for f in findings] == [what]
    assert findings[0].row is not None


def test_the_manifest_must_tell_the_truth_about_questions(build: Path) -> None:
    lines = [json.loads(line) for line in (build / "manifest.jsonl").read_text().splitlines()]
    lines[0] |= {"rows": 9}
    assert lines[0]["path"] == "data/test-00000-of-00001.parquet"
    lines[2] |= {"last_window_id": "x"}
    assert lines[2]["config"] == "qa"
    write_text(build / "manifest.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
    reseal(build)
    found = {(finding.file, finding.where) for finding in verify(build).findings}
    assert found == {
        ("manifest.jsonl", f"{lines[0]['path']} rows"),
        ("manifest.jsonl", f"{lines[2]['path']} last_window_id"),
    }
