"""Merging: whole files are kept, repeated windows once, and nobody lies in two splits."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from egotriad.manifests import Clip, Imu
from egotriad.manifests.clip import window_id
from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import open_sealed, seal, sha256_file, write_text
from egotriad.manifests.shards import TableWriter, read_manifest, read_shards
from egotriad.manifests.shards_qa import QuestionAnswer, qa_table, read_qa
from egotriad.manifests.verify import verify
from egotriad.pipelines.merge import MergeReport, merge
from egotriad.pipelines.merge_cli import merge_shards
from egotriad.pipelines.pack import pack
from egotriad.pipelines.part import Part
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import config_record

MakeClips = Callable[..., list[Clip]]


def official(clip: Clip, **origin: str) -> Clip:
    return replace(clip, origin=replace(clip.origin, split_origin="official", **origin))


def shifted(clip: Clip, by_us: int) -> Clip:
    """Another window of the same recording."""
    start = clip.t_start_us + by_us
    name = window_id(clip.source, clip.recording, start, clip.duration_us)
    return replace(clip, window_id=name, t_start_us=start)


def question(clip: Clip, answer: str = "He walks.") -> QuestionAnswer:
    return QuestionAnswer(
        qa_id=f"{clip.window_id}/0", window_id=clip.window_id, question="What?", answer=answer
    )


def write_part(
    clips: Sequence[Clip], folder: Path, config: BuildConfig, asked: Sequence[QuestionAnswer]
) -> Part:
    tables = {"windows": clips, "events": clips, "qa": asked}
    files = {}
    for table in [name for name, rows in tables.items() if rows]:
        file = f"{clips[0].recording}.{table}.parquet"
        with TableWriter(folder / file, table, builder="test 1", config_hash=config.hash) as writer:
            if table == "windows":
                writer.write_windows(clips, [None] * len(clips), list(range(len(clips))))
            elif table == "events":
                for clip in clips:
                    writer.write_events(clip)
            else:
                writer.write(qa_table(asked))
        files[file] = {"bytes": (folder / file).stat().st_size, "sha256": ""}
    return Part(
        recording=clips[0].recording,
        wearer=clips[0].wearer,
        key="key",
        split=clips[0].split,
        split_group=clips[0].origin.split_group,
        rows=len(clips),
        event_count=sum(len(clip.events) for clip in clips if clip.events is not None),
        duration_us=0,
        files=files,
        sources=[],
        rejected=[{"window_id": f"{clips[0].recording}/x", "reason": "imu-gap", "message": "m"}],
    )


def make_build(
    out: Path,
    clips: Sequence[Clip],
    *,
    config: BuildConfig | None = None,
    asked: Sequence[QuestionAnswer] = (),
    dataset: str = "toy",
) -> Path:
    """A verified build of clips, a part per recording, with a full record."""
    config = config or BuildConfig()
    folder = out / "parts"
    folder.mkdir(parents=True)
    parts = []
    for recording in dict.fromkeys(clip.recording for clip in clips):
        some = [clip for clip in clips if clip.recording == recording]
        mine = [q for q in asked if q.window_id in {clip.window_id for clip in some}]
        parts.append(write_part(some, folder, config, mine))

    def record(sums_sha256: str) -> None:
        values = {
            "sha256sums": sums_sha256,
            "config": config_record(config),
            "event_source": config.event_source | {"sim_id": config.sim_id},
            "source": {"dataset": dataset},
            "counts": {"built_windows": len(clips)},
        }
        write_text(out / "provenance.json", seal(values))

    pack(parts, folder, out, config, title=f"{dataset} shards", record=record)
    shutil.rmtree(folder)
    assert verify(out).findings == ()
    return out


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def only_names(clips: Sequence[Clip]) -> set[str]:
    return {clip.window_id for clip in clips}


@pytest.fixture
def three(toy_clips: MakeClips, tmp_path: Path) -> list[Path]:
    """Builds of other recordings, of more windows of the same ones, and of another licence."""
    clips = [official(clip) for clip in toy_clips(24)]
    narrated = BuildConfig(windows="point", shard_mib=1)
    first = make_build(tmp_path / "first", clips[:8], asked=[question(clips[0])])
    more = [shifted(clip, 1_600_000) for clip in clips[:4]]
    second = make_build(tmp_path / "second", more, config=narrated, dataset="egovid")
    licensed = [official(clip, license_id="ego4d") for clip in clips[8:]]
    third = make_build(tmp_path / "third", licensed, asked=[question(clip) for clip in licensed])
    return [first, second, third]


def test_the_merged_build_is_sound_and_the_same_in_any_order(
    three: list[Path], tmp_path: Path
) -> None:
    made = []
    for number, order in enumerate(permutations(three)):
        report = merge(order, tmp_path / f"m{number}")
        made.append(hashes(tmp_path / f"m{number}"))
        assert verify(tmp_path / f"m{number}").findings == ()
    assert all(found == made[0] for found in made)
    assert report == MergeReport(
        out=tmp_path / "m5",
        builds=3,
        windows=28,
        repeated=0,
        copied=11,
        rewritten=0,
        licences=("ego4d", "own"),
    )
    merged = list(read_shards(tmp_path / "m0"))
    parts = [clip for folder in three for clip in read_shards(folder)]
    assert only_names(merged) == only_names(parts)
    by_name = {clip.window_id: clip for clip in parts}
    for clip in merged:
        assert clip.events.same_as(by_name[clip.window_id].events)
        assert clip.split == by_name[clip.window_id].split
    assert len(list(read_qa(tmp_path / "m0"))) == 17


def test_files_keep_their_bytes_and_the_record_keeps_the_sealed_records(
    three: list[Path], tmp_path: Path
) -> None:
    merge(three, tmp_path / "m")
    before = {line["sha256"] for folder in three for line in read_manifest(folder)}
    assert {line["sha256"] for line in read_manifest(tmp_path / "m")} == before
    records = open_sealed(tmp_path / "m" / "provenance.json")["merged"]
    sealed = {json.dumps(record, sort_keys=True) for record in records}
    for folder in three:
        text = (folder / "provenance.json").read_text()
        assert json.dumps(json.loads(text), sort_keys=True) in sealed
    card = (tmp_path / "m" / "README.md").read_text()
    assert card.startswith("---\npretty_name: ")
    assert "egovid + toy shards" in card
    assert "`ego4d` (Ego4D, https://ego4ddataset.com/): **do not hand on**" in card
    assert "extra_gated_heading: " in card
    assert "Left out: 6 windows (6 x imu-gap)" in card


def test_merging_in_steps_gives_the_files_of_merging_at_once(
    three: list[Path], tmp_path: Path
) -> None:
    merge(three, tmp_path / "once")
    merge(three[:2], tmp_path / "step")
    merge([three[2], tmp_path / "step"], tmp_path / "steps")
    assert hashes(tmp_path / "steps") == hashes(tmp_path / "once")


def test_a_window_in_both_is_kept_once_with_its_events_and_questions(
    toy_clips: MakeClips, tmp_path: Path
) -> None:
    clips = [official(clip) for clip in toy_clips(12)]
    valid = np.ones(640, bool)
    valid[5:9] = False
    data = clips[2].imu.data.copy()
    data[:, ~valid] = np.nan
    clips[2] = replace(clips[2], imu=Imu(data=data, rate_hz=200.0, valid=valid))
    asked = [question(clip) for clip in clips]
    first = make_build(tmp_path / "a", clips[:8], asked=asked[:8])
    second = make_build(tmp_path / "b", [clips[2], *clips[4:12]], asked=[asked[2], *asked[4:12]])
    report = merge([first, second], tmp_path / "m")
    assert (report.windows, report.repeated) == (12, 5)
    assert report.rewritten == 3  # windows, events and questions of one of the two
    assert verify(tmp_path / "m").findings == ()
    merged = list(read_shards(tmp_path / "m"))
    assert len(merged) == 12
    assert only_names(merged) == only_names(clips)
    assert {q.qa_id for q in read_qa(tmp_path / "m")} == {q.qa_id for q in asked}


def test_a_file_of_which_nothing_remains_is_left_out(toy_clips: MakeClips, tmp_path: Path) -> None:
    clips = [official(clip) for clip in toy_clips(8)]
    first = make_build(tmp_path / "a", clips)
    second = make_build(tmp_path / "b", clips[:4])
    report = merge([first, second], tmp_path / "m")
    assert (report.windows, report.repeated) == (8, 4)
    assert verify(tmp_path / "m").findings == ()
    assert len(list((tmp_path / "m" / "data").iterdir())) <= 2


@pytest.mark.parametrize("what", ["narration", "ev_x", "imu"])
def test_a_window_with_another_content_is_refused_by_name(
    toy_clips: MakeClips, tmp_path: Path, what: str
) -> None:
    clips = [official(clip) for clip in toy_clips(4)]
    changed = list(clips)
    events, imu = clips[1].events, clips[1].imu
    if what == "narration":
        changed[1] = replace(clips[1], narration="C sleeps.")
    elif what == "ev_x":
        changed[1] = replace(clips[1], events=replace(events, x=31 - events.x))
        changed[1] = replace(changed[1], events=changed[1].events.canonical())
    else:
        changed[1] = replace(clips[1], imu=replace(imu, data=imu.data * np.float32(1.5)))
    builds = [make_build(tmp_path / "a", clips), make_build(tmp_path / "b", changed)]
    with pytest.raises(ShardError, match=rf"{clips[1].window_id}: is in [ab] and [ab] .*{what}"):
        merge(builds, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_question_with_other_words_is_refused(toy_clips: MakeClips, tmp_path: Path) -> None:
    clips = [official(clip) for clip in toy_clips(4)]
    first = make_build(tmp_path / "a", clips, asked=[question(clips[0])])
    second = make_build(tmp_path / "b", clips, asked=[question(clips[0], "He sits.")])
    with pytest.raises(ShardError, match=r"is in \w and \w with other words"):
        merge([first, second], tmp_path / "m")


@pytest.mark.parametrize("kind", ["wearer", "split group", "recording"])
def test_nobody_may_lie_in_two_splits(toy_clips: MakeClips, tmp_path: Path, kind: str) -> None:
    clips = [official(clip) for clip in toy_clips(4)]
    moved = [replace(shifted(clip, 50), split="test") for clip in clips]
    if kind != "split group":
        moved = [official(clip, split_group="toy/other") for clip in moved]
    if kind != "wearer":
        moved = [replace(clip, wearer="other") for clip in moved]
    if kind != "recording":
        moved = [replace(clip, recording="other") for clip in moved]
        moved = [shifted(clip, 0) for clip in moved]  # under the recording's new name
    builds = [make_build(tmp_path / "a", clips), make_build(tmp_path / "b", moved)]
    with pytest.raises(ShardError, match=rf"{kind} toy/\w+ is (train|test) in \w, (train|test) in"):
        merge(builds, tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"imu_rate_hz": 100.0}, "imu_rate_hz"),
        ({"event_seed": 7}, "sim_id"),
        ({"sensor": "64x48"}, "sensor"),
    ],
)
def test_rows_that_mean_another_thing_are_not_merged(
    toy_clips: MakeClips, tmp_path: Path, options: dict, field: str
) -> None:
    clips = [official(clip) for clip in toy_clips(8)]
    first = make_build(tmp_path / "a", clips[:4])
    second = make_build(tmp_path / "b", clips[4:], config=BuildConfig(**options))
    with pytest.raises(ShardError, match=rf": {field} is .*; a merged build has one"):
        merge([first, second], tmp_path / "m")


def test_what_is_no_merge_is_a_usage_error(three: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(three[0], tmp_path / "copy")
    with pytest.raises(UsageError, match="need two or more"):
        merge(three[:1], tmp_path / "m")
    with pytest.raises(UsageError, match="hold the same build"):
        merge([three[0], copy], tmp_path / "m")
    with pytest.raises(UsageError, match="is one of the builds to merge"):
        merge(three, three[1])
    with pytest.raises(UsageError, match="holds another build"):
        merge(three[1:], copy)


def test_a_damaged_input_stops_the_merge_and_the_next_run_goes_on(
    three: list[Path], tmp_path: Path
) -> None:
    file = next((three[2] / "events").glob("test-*"))
    whole = file.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ShardError, match=r"third/events/test-\S+: is damaged; verify-shards"):
        merge(three, tmp_path / "m")
    with pytest.raises(ShardError, match="no build"):
        list(read_shards(tmp_path / "m"))
    file.write_bytes(whole)
    (tmp_path / "m" / "data" / "train-00000-of-00002.parquet.tmp-1").touch()  # of a killed run
    merge(three, tmp_path / "m")
    merge(three, tmp_path / "other")
    assert hashes(tmp_path / "m") == hashes(tmp_path / "other")


def test_the_command_says_what_it_did(
    three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*map(str, three), "--out", str(tmp_path / "m")]
    assert merge_shards([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["windows"], told["licences"], told["findings"]) == (28, ["ego4d", "own"], [])
    assert merge_shards(words) == 0
    assert "28 windows of 3 builds in" in capsys.readouterr().out
    assert merge_shards([str(three[0]), "--out", str(tmp_path / "x")]) == 2
    assert "need two or more" in capsys.readouterr().err
