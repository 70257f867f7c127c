"""Questions: from a part's file to the build, its card, and every reader."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from egotriad.manifests import Clip
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import seal, write_text
from egotriad.manifests.schema import QA, file_metadata
from egotriad.manifests.shards import TableWriter, read_manifest
from egotriad.manifests.shards_qa import QuestionAnswer, qa_table, read_qa
from egotriad.pipelines.pack import pack, qa_path
from egotriad.pipelines.part import Part, file_facts
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.repair_parts import PartStore

CONFIG = BuildConfig()


def question(clip: Clip, number: int) -> QuestionAnswer:
    return QuestionAnswer(
        qa_id=f"{clip.window_id}/{number}",
        window_id=clip.window_id,
        question=f"Was {number}. tut C?",
        answer="Er öffnet die Tür — 镇",
        task="activity" if number else None,
    )


def write_part(clips: list[Clip], folder: Path, asked: list[QuestionAnswer]) -> Part:
    name, tables = clips[0].recording, ["windows", "events"] + (["qa"] if asked else [])
    files = {table: f"{name}.key.{table}.parquet" for table in tables}
    for table, file in files.items():
        options = {"builder": "test 1", "config_hash": CONFIG.hash}
        with TableWriter(folder / file, table, **options) as writer:
            if table == "windows":
                writer.write_windows(clips, [None] * len(clips), list(range(len(clips))))
            elif table == "events":
                for clip in clips:
                    writer.write_events(clip)
            else:
                writer.write(qa_table(asked))
    return Part(
        recording=name,
        wearer=clips[0].wearer,
        key="key",
        split=clips[0].split,
        split_group=clips[0].origin.split_group,
        rows=len(clips),
        event_count=sum(len(clip.events) for clip in clips),
        duration_us=0,
        files={file: {"bytes": 1, "sha256": ""} for file in files.values()},
        sources=[],
        rejected=[],
    )


@pytest.fixture
def build(toy_clips: Callable[..., list[Clip]], tmp_path: Path) -> Path:
    """Five recordings, of which the first, the third and the held-out one have questions."""
    folder = tmp_path / "b" / "parts"
    folder.mkdir(parents=True)
    clips, parts = toy_clips(20), []
    for number in range(5):
        some = clips[4 * number : 4 * number + 4]
        asked = [question(clip, k) for clip in some for k in range(2)] if number % 2 == 0 else []
        parts.append(write_part(some, folder, asked))
    pack(parts, folder, tmp_path / "b", CONFIG, title="toy shards")
    return tmp_path / "b"


def test_questions_are_packed_by_split_in_the_order_of_their_windows(
    build: Path, toy_clips: Callable[..., list[Clip]]
) -> None:
    lines = [line for line in read_manifest(build) if line["config"] == "qa"]
    assert [(line["path"], line["rows"]) for line in lines] == [
        ("data_qa/test-00000-of-00001.parquet", 8),
        ("data_qa/train-00000-of-00001.parquet", 16),
    ]
    clips = toy_clips(20)
    assert list(read_qa(build, split="test")) == [
        question(clip, k) for clip in clips[16:20] for k in range(2)
    ]
    assert len(list(read_qa(build))) == 24


def test_a_build_without_questions_says_so(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path
) -> None:
    (tmp_path / "parts").mkdir()
    part = write_part(toy_clips(4), tmp_path / "parts", [])
    pack([part], tmp_path / "parts", tmp_path, CONFIG, title="toy shards")
    assert not (tmp_path / "data_qa").exists()
    with pytest.raises(ShardError, match="holds no questions; not every dataset has any"):
        next(read_qa(tmp_path))


def test_datasets_and_the_descriptions_know_the_third_table(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(str(build), "qa", split="test", streaming=True)
    told = next(iter(rows))
    assert (told["question"], told["task"]) == ("Was 0. tut C?", None)
    assert told["answer"] == "Er öffnet die Tür — 镇"
    described = datasets.Features.from_arrow_schema(
        QA.with_metadata(file_metadata("qa", builder="b", config_hash="c"))
    )
    assert described == datasets.Features.from_arrow_schema(QA.remove_metadata())
    card = (build / "README.md").read_text()
    assert "data_qa/train-*.parquet" in card
    assert 'qa = load_dataset("FOLDER", "qa", streaming=True)' in card
    croissant = json.loads((build / "croissant.json").read_text())
    (records,) = (r for r in croissant["recordSet"] if r["name"] == "qa")
    assert records["key"] == {"@id": "qa/qa_id"}
    assert [field["name"] for field in records["field"]] == ["split", *QA.names]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # rdflib's, over its own classes
def test_croissant_reads_questions_by_another_reader(build: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    rows = list(mlcroissant.Dataset(jsonld=str(build / "croissant.json")).records("qa"))
    assert len(rows) == 24


def test_a_repair_looks_at_the_parts_that_lost_questions_come_from(
    toy_clips: Callable[..., list[Clip]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, parts = toy_clips(8), []
    for number in range(2):
        some = clips[4 * number : 4 * number + 4]
        part = write_part(some, tmp_path, [question(clip, 0) for clip in some])
        files = file_facts(tmp_path / name for name in part.files)
        parts.append(replace(part, files=files))
        write_text(tmp_path / f"{part.recording}.key.done.json", seal(asdict(parts[-1])))
    damaged = tmp_path / "rec1.key.qa.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    rebuilt: list[str] = []
    monkeypatch.setattr(
        PartStore, "_rebuild", lambda store, found: rebuilt.extend(e["recording"] for e in found)
    )
    store = PartStore(
        folder=tmp_path,
        provenance={"recordings": [{"recording": f"rec{k}", "key": "key"} for k in range(2)]},
        config=CONFIG,
        raw=tmp_path,
        places=(),
        workers=1,
    )
    shards = {f"{folder}/train-00000-of-00001.parquet" for folder in ("data", "events")}
    store.fetch(shards | {qa_path("train")})
    assert rebuilt == []
    store.fetch(shards)
    assert rebuilt == ["rec1"]
