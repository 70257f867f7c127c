"""Exports, each read by what stands for its program, and imports that give the clips again."""

import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("hdf5plugin")
import h5py

from egotriad.cli import main
from egotriad.converters.event_files import open_events, write_events
from egotriad.converters.event_frames import event_image
from egotriad.converters.spans import SpanPolicy
from egotriad.manifests import Alignment, Clip, Events, Quality
from egotriad.manifests.clip import IMU_ROWS
from egotriad.manifests.errors import RecordingError, ShardError, UsageError
from egotriad.manifests.files import open_sealed, seal, sha256_file
from egotriad.manifests.shards import read_shards
from egotriad.manifests.shards_qa import read_qa
from egotriad.manifests.verify import verify
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_simulated import Simulated
from egotriad.pipelines.export import ExportConfig, export_shards
from egotriad.pipelines.export_instructions import shown_spans
from egotriad.pipelines.export_source import relative_path
from egotriad.pipelines.import_dsec import DsecFolders, DsecOptions
from egotriad.pipelines.import_shards import import_dsec_folder, import_export
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.repair import repair
from egotriad.pipelines.webdataset_sample import MEMBERS, clip_of_sample, sample_of

SIZE = (32, 24)
SECONDS = 8


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def write_recording(folder: Path, seed: int, **described: Any) -> None:
    """Eight seconds: random events, a walking IMU with a hole, narrations from second five on."""
    rng = np.random.default_rng(seed)
    count = 6000
    events = Events(
        t_us=np.sort(rng.integers(0, SECONDS * 1_000_000, count)),
        x=rng.integers(0, SIZE[0], count).astype(np.uint16),
        y=rng.integers(0, SIZE[1], count).astype(np.uint16),
        p=rng.random(count) < 0.5,
        size_wh=SIZE,
    ).canonical()
    folder.mkdir(parents=True)
    write_events(folder / "events.h5", events)
    t_us = np.arange(-20, SECONDS * 200 + 20) * 5000
    t_us = t_us[(t_us < 1_200_000) | (t_us >= 1_300_000)]
    phase = 2 * np.pi * 1.7 * t_us / 1e6
    accel = np.stack([np.sin(phase), np.cos(phase), 9.81 + 0.5 * np.sin(2 * phase)])
    columns = np.concatenate([accel, 0.3 * accel - 1.0])
    rows = [
        ",".join([str(t), *(f"{v:.6f}" for v in column)])
        for t, column in zip(t_us, columns.T, strict=True)
    ]
    (folder / "imu.csv").write_text("\n".join([f"t_us,{','.join(IMU_ROWS)}", *rows]) + "\n")
    (folder / "narrations.csv").write_text(
        'time_s,text\n5.25,"C öffnet die Tür, dann geht er"\n6.5,C turns left\n7.5,C sits down\n'
    )
    (folder / "recording.json").write_text(json.dumps(described))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, one for training and one for the test."""
    root = tmp_path_factory.mktemp("recordings")
    for seed, split in enumerate(("train", "test")):
        write_recording(
            root / f"walk{seed}",
            seed,
            wearer=f"w{seed}",
            split=split,
            duration_us=SECONDS * 1_000_000,
            license_id="own" if seed else "ego4d",
        )
    return root


@pytest.fixture(scope="module")
def shards(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of one second, all events in them; one window's IMU has a hole."""
    out = tmp_path_factory.mktemp("built") / "shards"
    settings: dict[str, Any] = {"window_s": 1.0, "max_gap_fraction": 0.5}
    report = import_dsec_folder(recordings, out, DsecOptions(), workers=1, **settings)
    assert (report.clips, report.failed) == (16, {})
    return out


@pytest.fixture(scope="module")
def short(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Overlapping windows around narrations, with three overlapping event spans in each."""
    out = tmp_path_factory.mktemp("built") / "short"
    settings: dict[str, Any] = {
        "windows": "point",
        "window_s": 1.8,
        "event_spans": "0.1s x3 /0.05s @peak",
    }
    report = import_dsec_folder(recordings, out, DsecOptions(), workers=1, **settings)
    assert report.clips == 4
    assert report.rejected == {"outside-recording": 2}
    return out


def export(shards: Path, out: Path, format: Any, **options: Any) -> Path:
    export_shards(shards, out, ExportConfig(format=format, **options), progress=silent)
    return out


def same(a: Clip, b: Clip) -> bool:
    """Whether two clips are equal in every field."""
    names = [name for name in Clip.__slots__ if name not in ("imu", "events")]
    pairs = ((a.imu, b.imu), (a.events, b.events))
    return all(getattr(a, name) == getattr(b, name) for name in names) and all(
        (x is None) == (y is None) and (x is None or x.same_as(y)) for x, y in pairs
    )


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# WebDataset


def test_samples_have_the_same_members_and_keys_without_dots(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset", windows_per_tar=3)
    tars = sorted(folder.glob("*.tar"))
    assert [path.name for path in tars[:3]] == [f"test-{i:06d}.tar" for i in range(3)]
    assert len(tars) == 6
    for path in tars:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        keys = [member.name.partition(".")[0] for member in members]
        names = [member.name.partition(".")[2] for member in members]
        assert names == list(MEMBERS) * (len(members) // len(MEMBERS))
        assert keys == sorted(keys)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


@pytest.mark.parametrize("format", ["webdataset", "dsec", "tonic", "eventgpt", "llava"])
def test_the_same_shards_give_the_same_bytes(shards: Path, tmp_path: Path, format: str) -> None:
    first, second = (hashes(export(shards, tmp_path / n, format, split="test")) for n in "ab")
    assert first == second
    assert len(first) > 2


def test_every_file_of_a_webdataset_has_its_hash(shards: Path, tmp_path: Path) -> None:
    found = hashes(export(shards, tmp_path / "out", "webdataset"))
    sums = (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()
    named = {line[66:]: line[:64] for line in sums}
    assert named.items() <= found.items()
    assert found.keys() - named.keys() == {"SHA256SUMS", "export.json"}


def test_a_tar_holds_every_array_with_its_type(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset", split="train")
    clips = list(read_shards(shards, split="train"))
    with tarfile.open(folder / "train-000000.tar") as tar:
        for number, clip in enumerate(clips):
            arrays = {
                name: np.load(io.BytesIO(tar.extractfile(f"{number:09d}.{name}").read()))
                for name in MEMBERS
                if name.endswith(".npy")
            }
            np.testing.assert_array_equal(arrays["imu.npy"], clip.imu.data)
            assert arrays["imu_mask.npy"].tolist() == clip.imu.valid.tolist()
            types = {name: str(array.dtype) for name, array in arrays.items()}
            assert types["events_t.npy"] == "int32"
            assert types["events_x.npy"] == types["events_y.npy"] == "uint16"
            assert types["events_p.npy"] == types["imu_mask.npy"] == "bool"
            np.testing.assert_array_equal(arrays["events_t.npy"], clip.events.t_us)
            text = tar.extractfile(f"{number:09d}.txt").read().decode()
            assert text == (clip.narration or "")
    assert not clips[1].imu.valid.all()


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_reads_the_tars(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    # The first five windows have no narration: types guessed from them must hold for the others.
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    folder = export(shards, tmp_path / "out", "webdataset")
    files = {split: str(folder / f"{split}-*.tar") for split in ("train", "test")}
    loaded = datasets.load_dataset(
        "webdataset", data_files=files, streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    for split in ("train", "test"):
        rows, clips = list(loaded[split]), list(read_shards(shards, split=split))
        assert [row["txt"] for row in rows] == [clip.narration or "" for clip in clips]
        assert clips[0].narration is None
        for row, clip in zip(rows, clips, strict=True):
            assert row["json"]["window_id"] == clip.window_id
            assert row["json"]["split"] == split
            more = json.loads(row["more.jsonl"])
            assert more["narration"] == clip.narration
            assert len(more["narrations"]) == len(clip.narrations)
            np.testing.assert_array_equal(np.array(row["events_x.npy"]), clip.events.x)
            assert np.array(row["imu.npy"]).shape == clip.imu.data.shape


def test_shards_come_back_from_a_webdataset_byte_for_byte(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset", windows_per_tar=5)
    report = import_export(folder, tmp_path / "back", progress=silent)
    assert (report.clips, report.recordings) == (16, 2)
    sums = [(place / "SHA256SUMS").read_text() for place in (shards, tmp_path / "back")]
    assert sums[0] == sums[1]
    assert verify(tmp_path / "back").ok
    provenance = open_sealed(tmp_path / "back" / "provenance.json")
    assert provenance["imported"]["format"] == "webdataset"
    assert (
        provenance["imported"]["shards_sha256"]
        == open_sealed(folder / "export.json")["shards_sha256"]
    )


@pytest.mark.slow
def test_a_build_of_videos_comes_back_byte_for_byte(tmp_path: Path) -> None:
    options = Simulated().fake(tmp_path / "raw")
    config = BuildConfig(**Simulated.build_defaults)
    build(Simulated(), options, config, raw=tmp_path / "raw", out=tmp_path / "shards", workers=1)
    folder = export(tmp_path / "shards", tmp_path / "out", "webdataset", windows_per_tar=1)
    import_export(folder, tmp_path / "back", progress=silent)
    sums = [(tmp_path / name / "SHA256SUMS").read_text() for name in ("shards", "back")]
    assert sums[0] == sums[1]
    assert verify(tmp_path / "back").ok


def test_rejected_windows_and_spans_come_back_too(short: Path, tmp_path: Path) -> None:
    folder = export(short, tmp_path / "out", "webdataset")
    import_export(folder, tmp_path / "back", progress=silent)
    clips, back = (list(read_shards(place)) for place in (short, tmp_path / "back"))
    assert len(clips) == len(back) == 4
    assert all(same(a, b) for a, b in zip(clips, back, strict=True))
    assert len(clips[0].event_spans) == 3
    rejected = [(p / "rejected.jsonl").read_text() for p in (short, tmp_path / "back")]
    assert rejected[0] == rejected[1] != ""


def test_one_split_comes_back_alone(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset", split="test")
    import_export(folder, tmp_path / "back", progress=silent)
    assert {clip.split for clip in read_shards(tmp_path / "back")} == {"test"}
    assert verify(tmp_path / "back").ok
    assert open_sealed(tmp_path / "back" / "provenance.json")["counts"]["recordings"] == 1


def test_absent_imu_and_events_stay_absent(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    shutil.copytree(recordings / "walk0", tmp_path / "raw" / "walk0")
    (tmp_path / "raw" / "walk0" / "imu.csv").unlink()
    import_dsec_folder(tmp_path / "raw", tmp_path / "shards", DsecOptions(), workers=1)
    folder = export(tmp_path / "shards", tmp_path / "out", "webdataset")
    with tarfile.open(folder / "train-000000.tar") as tar:
        stored = tar.extractfile("000000000.imu.npy").read()
    assert np.load(io.BytesIO(stored)).shape == (6, 0)
    import_export(folder, tmp_path / "back", progress=silent)
    clip = next(iter(read_shards(tmp_path / "back")))
    assert clip.imu is None
    assert clip.events is not None


def test_shards_without_events_come_back_without(recordings: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"window_s": 2.0, "max_gap_fraction": 0.5, "events": False}
    place = tmp_path / "shards"
    import_dsec_folder(recordings, place, DsecOptions(), workers=1, **settings)
    import_export(export(place, tmp_path / "a", "webdataset"), tmp_path / "back", progress=silent)
    sums = [(folder / "SHA256SUMS").read_text() for folder in (place, tmp_path / "back")]
    assert sums[0] == sums[1]
    for format in ("dsec", "tonic", "eventgpt"):
        folder = export(place, tmp_path / format, format)
        assert open_sealed(folder / "export.json")["left_out"] == {"no-events": 8}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"imu": None},
        {"events": None, "event_spans": ()},
        {"events": Events.empty((32, 24))},
        {"narration": None, "narrations": (), "wearer": None},
        {"narration": '\u2028 \x85 ü " , 日本', "qc": Quality(imu_score=0.5, flags=("gap", "b"))},
        {"align": Alignment(status="estimated", offset_us=-5, drift_ppm=0.25, score=0.5)},
    ],
)
def test_a_sample_holds_all_of_a_clip(toy_clips: Any, changes: dict[str, Any]) -> None:
    clip = dataclasses.replace(toy_clips(1)[0], **changes)
    origin = dataclasses.replace(clip.origin, imu_source_rate_hz=197.5)
    clip = dataclasses.replace(clip, origin=origin)
    sample = sample_of(clip)
    assert list(sample) == list(MEMBERS)
    assert same(clip_of_sample(sample), clip)


def test_an_interrupted_import_goes_on(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(shards, tmp_path / "out", "webdataset")

    def stop(stage: str, done: int, total: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_export(folder, tmp_path / "back", progress=stop)
    assert len(list((tmp_path / "back" / "parts").glob("*.done.json"))) == 1
    for place in ("parts/x.key.events.parquet.tmp-1", "data/test-00000-of-00001.parquet.tmp-1"):
        (tmp_path / "back" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "back" / place).write_bytes(b"of a process that was killed")
    import_export(folder, tmp_path / "back", progress=silent)
    sums = [(place / "SHA256SUMS").read_text() for place in (shards, tmp_path / "back")]
    assert sums[0] == sums[1]
    before = hashes(tmp_path / "back")
    import_export(folder, tmp_path / "back", progress=silent)
    assert hashes(tmp_path / "back") == before
    assert verify(tmp_path / "back").ok
    with pytest.raises(UsageError, match="holds another build"):
        import_export(folder, shards, progress=silent)


def test_a_flipped_bit_or_a_missing_tar_is_named(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset")
    tar = folder / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=r"train-000000\.tar: is damaged"):
        import_export(folder, tmp_path / "back", progress=silent)
    tar.unlink()
    with pytest.raises(ShardError, match=r"train-000000\.tar: is missing"):
        import_export(folder, tmp_path / "back", progress=silent)


def test_questions_go_out_and_come_back(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset")
    ids = [clip.window_id for clip in read_shards(shards)]
    asked = [
        {"qa_id": f"{k}", "window_id": ids[k], "question": "Was?", "answer": "Ü", "task": None}
        for k in (1, 9, 10)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    record = open_sealed(folder / "export.json")
    sums = record["sha256"] | {"questions.jsonl": sha256_file(folder / "questions.jsonl")}
    (folder / "export.json").write_text(seal(record | {"sha256": sums}))
    import_export(folder, tmp_path / "with", progress=silent)
    assert verify(tmp_path / "with").ok
    assert sorted(row.qa_id for row in read_qa(tmp_path / "with")) == ["1", "10", "9"]
    again = export(tmp_path / "with", tmp_path / "again", "webdataset")
    import_export(again, tmp_path / "back", progress=silent)
    assert (tmp_path / "back" / "SHA256SUMS").read_text() == (
        tmp_path / "with" / "SHA256SUMS"
    ).read_text()
    report = open_sealed(export(tmp_path / "with", tmp_path / "t", "tonic") / "export.json")
    assert report["left_out"] == {"question": 3}


def changed_tar(folder: Path, member: str, data: bytes | None) -> None:
    """Writes a tar anew with one member replaced or left out, as if it had been exported so."""
    path = folder / "test-000000.tar"
    with tarfile.open(path) as tar:
        held = [(m, tar.extractfile(m).read()) for m in tar.getmembers()]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, stored in held:
            content = data if info.name.partition(".")[2] == member else stored
            if content is not None:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    record = open_sealed(folder / "export.json")
    record["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "export.json").write_text(seal(record))


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("imu.npy", None, "has no imu.npy"),
        ("imu.npy", b"\x93NUMPY", "imu.npy: is no whole npy"),
        ("json", b"{", "json: is no JSON"),
        ("json", b"{}", "json: lacks"),
        ("events_x.npy", b"", "events_x.npy: is no whole npy"),
    ],
)
def test_a_sample_that_is_no_window_is_named(
    shards: Path, tmp_path: Path, member: str, data: bytes | None, message: str
) -> None:
    folder = export(shards, tmp_path / "out", "webdataset")
    changed_tar(folder, member, data)
    with pytest.raises(ShardError, match=r"test-000000\.tar: sample 000000000: " + message):
        import_export(folder, tmp_path / "back", progress=silent)


def test_an_export_of_another_schema_is_refused(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "webdataset")
    record = open_sealed(folder / "export.json") | {"schema_version": "0.9.0"}
    (folder / "export.json").write_text(seal(record))
    with pytest.raises(ShardError, match=r"schema version 0\.9\.0, need"):
        import_export(folder, tmp_path / "back", progress=silent)


# DSEC


def check_dsec(path: Path) -> Events:
    """Events of a file by DSEC's own definition of its layout."""
    with h5py.File(path) as file:
        t = file["events/t"][:].astype("int64")
        index = file["ms_to_idx"][:].astype("int64")
        offset = int(file["t_offset"][()])
        x, y, p = (file[f"events/{name}"][:] for name in "xyp")
    for ms in range(1, len(index)):
        assert index[ms] == len(t) or t[index[ms]] >= ms * 1000
        assert index[ms] == 0 or t[index[ms] - 1] < ms * 1000
    return Events(t_us=t + offset, x=x, y=y, p=p.astype(bool), size_wh=SIZE)


def test_dsec_files_hold_each_window_and_its_offset(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "dsec")
    for clip in read_shards(shards):
        where = folder / clip.split / relative_path(clip)
        assert check_dsec(where / "events.h5").same_as(clip.events.shifted(clip.t_start_us))
        rows = np.loadtxt(where / "imu.csv", delimiter=",", skiprows=1, dtype=np.float64)
        np.testing.assert_array_equal(
            rows[:, 1:].astype(np.float32), clip.imu.data.T[clip.imu.valid]
        )
        np.testing.assert_array_equal(rows[:, 0], np.flatnonzero(clip.imu.valid) * 5000)


def test_dsec_files_of_recordings_hold_overlapping_spans_once(short: Path, tmp_path: Path) -> None:
    folder = export(short, tmp_path / "out", "dsec", per="recording")
    clips = list(read_shards(short, split="train"))
    known = np.zeros(SECONDS * 1_000_000, bool)
    for clip in clips:
        for span in clip.event_spans:
            start = clip.t_start_us + span.start_us
            known[start : start + span.duration_us] = True
    where = folder / "train" / "dsec" / "walk0"
    events = check_dsec(where / "events.h5")
    assert known[events.t_us].all()
    every = {
        (int(t) + clip.t_start_us, int(x), int(y), bool(p))
        for clip in clips
        for t, x, y, p in zip(
            clip.events.t_us, clip.events.x, clip.events.y, clip.events.p, strict=True
        )
    }
    assert len(events) >= len(every)  # a pixel may fire twice in a microsecond
    columns = (events.t_us, events.x, events.y, events.p)
    assert {*zip(*(column.tolist() for column in columns), strict=True)} == every
    described = json.loads((where / "recording.json").read_text())
    assert sum(length for _, length in described["event_spans"]) == known.sum()
    assert "T\u00fcr, dann" in (where / "narrations.csv").read_text(encoding="utf-8")


def test_recordings_come_back_from_dsec_with_their_events(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "dsec", per="recording")
    settings: dict[str, Any] = {"window_s": 1.0, "max_gap_fraction": 0.5}
    report = import_dsec_folder(folder, tmp_path / "back", DsecOptions(), workers=1, **settings)
    assert (report.clips, report.failed) == (16, {})
    assert verify(tmp_path / "back").ok
    pairs = zip(read_shards(shards), read_shards(tmp_path / "back"), strict=True)
    for clip, back in pairs:
        assert back.window_id == clip.window_id
        assert back.events.same_as(clip.events)
        assert (back.split, back.wearer) == (clip.split, clip.wearer)
        assert back.origin.license_id == clip.origin.license_id
        assert [n.text for n in back.narrations] == [n.text for n in clip.narrations]
        both = back.imu.valid & clip.imu.valid
        assert np.abs(back.imu.data - clip.imu.data)[:, both].max() < 2e-2


def test_windows_exported_alone_are_recordings_of_their_own(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "dsec", split="test")
    settings: dict[str, Any] = {"window_s": 1.0, "max_gap_fraction": 0.5}
    import_dsec_folder(folder, tmp_path / "back", DsecOptions(), workers=1, **settings)
    back = {clip.recording: clip for clip in read_shards(tmp_path / "back")}
    for clip in read_shards(shards, split="test"):
        assert back[f"walk1-{clip.t_start_us:012d}"].events.same_as(clip.events)


def test_windows_where_events_are_not_known_are_rejected(short: Path, tmp_path: Path) -> None:
    folder = export(short, tmp_path / "out", "dsec", per="recording")
    with pytest.raises(RecordingError, match="14 x events-unknown"):
        import_dsec_folder(
            folder,
            tmp_path / "back",
            DsecOptions(),
            workers=1,
            window_s=1.0,
            max_gap_fraction=1.0,
        )


def test_the_card_says_that_events_come_from_files(shards: Path) -> None:
    card = (shards / "README.md").read_text()
    assert "Events come from files" in card
    assert "synthetic" not in card
    assert "synthetic" not in (shards / "croissant.json").read_text()
    source = open_sealed(shards / "provenance.json")["event_source"]
    assert source["simulator"] is None
    entry = open_sealed(shards / "provenance.json")["recordings"][0]
    assert entry["notes"]["events"] == "from events.h5, made by a camera or unknown"


def test_folders_of_dsecs_own_tree_are_found_by_sequence(tmp_path: Path) -> None:
    options = DsecFolders().fake(tmp_path / "seq_a" / "events" / "left")
    DsecFolders().fake(tmp_path / "seq_a" / "events" / "right")
    DsecFolders().fake(tmp_path / "seq_b")
    for name in ("imu.csv", "narrations.csv"):
        (tmp_path / "seq_a" / "events" / "left" / name).rename(tmp_path / "seq_a" / name)
    found = list(DsecFolders().recordings(tmp_path, options))
    assert [recording.recording_id for recording in found] == ["seq_a", "seq_b"]
    assert all(r.read_imu is not None and len(r.narrations) == 1 for r in found)
    assert found[0].duration_us == 1_999_001
    assert found[0].read_imu().accel.t_us[1] == 5000


def test_broken_recordings_are_set_aside_with_their_reason(
    recordings: Path, tmp_path: Path
) -> None:
    raw = shutil.copytree(recordings, tmp_path / "raw")
    (raw / "walk0" / "events.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    report = import_dsec_folder(raw, tmp_path / "out", DsecOptions(), workers=1, window_s=1.0,
                                max_gap_fraction=0.5)  # fmt: skip
    assert list(report.failed) == ["walk0"]
    assert "cannot be read as HDF5" in report.failed["walk0"]
    assert report.clips == 8
    shutil.copy(recordings / "walk0" / "events.h5", raw / "walk0")
    (raw / "walk0" / "recording.json").write_text('{"event_spans": [1]}')
    (raw / "walk1" / "recording.json").write_text("[")
    with pytest.raises(RecordingError, match=r"event_spans are no pairs.*and 1 more failed"):
        import_dsec_folder(raw, tmp_path / "more", DsecOptions(), workers=1)
    reason = (tmp_path / "more" / "quarantine" / "walk1.json").read_text()
    assert "recording.json: is no description" in reason


def test_an_imported_build_is_repaired_from_its_parts(shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shards, tmp_path / "shards")
    victim = folder / "events" / "train-00000-of-00001.parquet"
    victim.write_bytes(victim.read_bytes()[:-100])
    report = repair(folder, verify(folder))
    assert report.restored == ("events/train-00000-of-00001.parquet",)
    assert verify(folder).ok


def test_real_events_go_through_and_come_out_for_eventgpt(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    stored = open_events(
        shared("real/dsec_events/interlaken_00_d/000074.npy"), size_wh=(640, 480)
    ).read()
    events = stored.shifted(-int(stored.t_us[0]))
    (tmp_path / "raw" / "interlaken").mkdir(parents=True)
    write_events(tmp_path / "raw" / "interlaken" / "events.h5", events)
    (tmp_path / "raw" / "interlaken" / "narrations.csv").write_text("time_s,text\n0.01,A road\n")
    options = DsecOptions(licence="cc-by-sa-4.0", wearer="car")
    report = import_dsec_folder(
        tmp_path / "raw", tmp_path / "shards", options, workers=1, window_s=0.02
    )
    assert report.clips == 2
    folder = export(tmp_path / "shards", tmp_path / "out", "eventgpt", spans="0.02s@center")
    split = next(read_shards(tmp_path / "shards")).split
    (entry,) = entries_of(folder, split)
    path = folder / "event_npy" / entry["event_data"]
    assert len(list(eventgpt_images(path))) == 5
    back = open_events(path, size_wh=(640, 480), format="eventgpt").read()
    assert back.same_as(events.between(0, 20_000))


# Tonic


def test_tonic_arrays_have_its_type_and_the_list_names_them(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "tonic")
    struct = [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")]
    for split in ("train", "test"):
        lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        for line, clip in zip(
            map(json.loads, lines), read_shards(shards, split=split), strict=True
        ):
            events = np.load(folder / line["events"])
            assert events.dtype == np.dtype(struct)
            np.testing.assert_array_equal(events["t"], clip.events.t_us)
            np.testing.assert_array_equal(events["p"], clip.events.p)
            assert line["sensor_size"] == [32, 24, 2]
            assert line["narration"] == clip.narration
            np.testing.assert_array_equal(np.load(folder / line["imu"]), clip.imu.data)


# Instructions


def entries_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))


def eventgpt_images(path: Path) -> Iterator[np.ndarray]:
    """What EventGPT's released reader does with a file (common/common.py of 4680549)."""
    events = np.array(np.load(path, allow_pickle=True)).item()
    assert events["t"].max() - events["t"].min() < 100_000
    step = len(events["t"]) // 5
    for k in range(5):
        part = slice(k * step, (k + 1) * step if k < 4 else None)
        x, y, p = (events[name][part] for name in "xyp")
        image = np.ones((y.max() + 1, x.max() + 1, 3), np.uint8) * 255
        for column, row, on in zip(x, y, p, strict=True):
            image[row, column] = np.array([0, 0, 255]) if on == 0 else np.array([255, 0, 0])
        yield image


def test_eventgpt_reads_every_entry(short: Path, tmp_path: Path) -> None:
    folder = export(short, tmp_path / "out", "eventgpt", question="What is done?")
    clips = {clip.window_id: clip for clip in read_shards(short)}
    entries = entries_of(folder, "train") + entries_of(folder, "test")
    assert len(entries) == 12
    for entry in entries:
        assert entry.keys() == {"id", "event_data", "conversations"}
        name, _, start = entry["id"].partition("@")
        span = next(s for s in clips[name].event_spans if s.start_us == int(start))
        path = folder / "event_npy" / entry["event_data"]
        assert len(list(eventgpt_images(path))) == 5
        stored = open_events(path, size_wh=SIZE, format="eventgpt").read()
        need = clips[name].events.between(span.start_us, span.end_us).shifted(-span.start_us)
        assert stored.same_as(need)
        assert np.load(path, allow_pickle=True).item()["t"].dtype == np.int64
        human, model = entry["conversations"]
        assert human == {"from": "human", "value": "<event>\nWhat is done?"}
        assert model == {"from": "gpt", "value": clips[name].narration}


def test_long_events_are_shown_by_chosen_spans(shards: Path, tmp_path: Path) -> None:
    source = export(shards, tmp_path / "out", "eventgpt", spans="0.1s x2 @center")
    entries = entries_of(source, "train")
    record = open_sealed(source / "export.json")
    assert record["left_out"] == {"no-narration": 10}
    assert len(entries) == 6
    assert {int(entry["id"].partition("@")[2]) for entry in entries} == {400_000, 500_000}
    clip = list(read_shards(shards, split="train"))[6]
    (span,) = shown_spans(clip, SpanPolicy.parse("0.05s@peak"))
    counts = [len(clip.events.between(t, t + 50_000)) for t in range(0, 950_001, 1000)]
    assert len(clip.events.between(span.start_us, span.end_us)) == max(counts)


def test_spans_of_too_few_events_are_left_out_and_counted(shards: Path, tmp_path: Path) -> None:
    folder = export(shards, tmp_path / "out", "eventgpt", spans="0.00002s@center")
    assert entries_of(folder, "train") == []
    assert open_sealed(folder / "export.json")["left_out"]["span-of-few-events"] == 6


def test_llava_images_show_the_events(short: Path, tmp_path: Path) -> None:
    folder = export(short, tmp_path / "out", "llava", split="test")
    clips = {clip.window_id: clip for clip in read_shards(short)}
    entries = entries_of(folder, "test")
    assert len(entries) == 6
    for entry in entries:
        image = cv2.imread(str(folder / "images" / entry["image"]))[:, :, ::-1]
        name, _, start = entry["id"].partition("@")
        events = clips[name].events.between(int(start), int(start) + 100_000)
        np.testing.assert_array_equal(image, event_image(events))
        assert entry["conversations"][0]["value"].startswith("<image>\n")
    assert not (folder / "train.json").exists()


# What all exports share


def test_an_export_is_whole_or_not_there(shards: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    config = ExportConfig(format="tonic")
    with pytest.raises(KeyboardInterrupt):
        export_shards(shards, tmp_path / "out", config, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out.tmp-999999999").mkdir()  # of a process that was killed
    export_shards(shards, tmp_path / "out", config, progress=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UsageError, match="is not empty"):
        export_shards(shards, tmp_path / "out", config, progress=silent)


def test_a_build_behind_a_url_is_exported_as_from_a_folder(shards: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in filter(Path.is_file, shards.rglob("*")):
        name = path.relative_to(shards).as_posix()
        if not name.startswith("parts/"):
            memory.pipe_file(f"/walks/{name}", path.read_bytes())
    config = ExportConfig(format="webdataset")
    export_shards("memory://walks", tmp_path / "url", config, progress=silent)
    assert hashes(tmp_path / "url") == hashes(export(shards, tmp_path / "out", "webdataset"))


def test_progress_counts_every_window_of_every_split(shards: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    config = ExportConfig(format="dsec", per="recording")
    export_shards(shards, tmp_path / "out", config, progress=lambda *call: calls.append(call))
    assert calls == [("windows exported", k, 16) for k in range(1, 17)]


def test_window_ids_that_lead_elsewhere_are_refused(toy_clips: Any) -> None:
    for name in ("../../x", "a//b", "/etc/x", "a\\b/c", "x"):
        clip = dataclasses.replace(toy_clips(1)[0], window_id=name)
        with pytest.raises(ShardError, match="cannot be the name of a file"):
            relative_path(clip)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, "--format"),
        ({"format": "dsec", "per": "day"}, "--per"),
        ({"format": "webdataset", "windows_per_tar": 0}, "--windows-per-tar"),
        ({"format": "eventgpt", "spans": "full"}, "at most 0.1 s"),
        ({"format": "eventgpt", "spans": "0.2s@center"}, "at most 0.1 s"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportConfig(**options)


def test_the_command_lines_export_and_import(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    assert main(["export", str(shards), out, "--format", "webdataset"]) == 0
    shown = capsys.readouterr().out
    assert "16 windows (12,000 events) as webdataset" in shown
    assert "ego4d: do not hand it on" in shown
    assert main(["import", out, back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 16
    assert main(["import", out, back + "2", "--wearer", "me"]) == 2
    assert "the export says it itself" in capsys.readouterr().err
    words = ["export", str(shards), out + "2", "--format", "tonic", "--question", "Why?"]
    assert main(words) == 2
    assert "--question: belongs to eventgpt and llava" in capsys.readouterr().err
    assert main(["export", str(shards), out + "2", "--format", "tonic", "--split", "x"]) == 1
    assert "has no split 'x'" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "nowhere"), back + "3"]) == 2
    assert main(["export", str(shards), out + "3", "--format", "tonic", "--json"]) == 0
    assert main(["import", out + "3", back + "3"]) == 2
    assert "which cannot become shards again" in capsys.readouterr().err


def test_the_command_line_imports_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DsecFolders().fake(tmp_path / "raw")
    words = ["import", str(tmp_path / "raw"), str(tmp_path / "out"), "--window-seconds", "0.5"]
    words += ["--licence", "own", "--wearer", "me", "--workers", "1", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 3
    (clip, *_) = read_shards(tmp_path / "out")
    assert (clip.wearer, clip.origin.license_id, clip.source) == ("me", "own", "dsec")
