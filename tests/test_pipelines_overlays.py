import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egotriad.converters.imu import resample
from egotriad.manifests import Recording
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines import overlay_ego4d
from egotriad.pipelines.dataset_ego4d import DATASET as EGO4D
from egotriad.pipelines.dataset_egovid5m import DATASET as EGOVID
from egotriad.pipelines.dataset_egovid5m import EgoVid5MOptions
from egotriad.pipelines.dataset_mmg_ego4d import DATASET as MMG
from egotriad.pipelines.dataset_mmg_ego4d import MmgEgo4dOptions
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.egovid5m_csv import read_egovid
from egotriad.pipelines.fake_ego4d import fake_uid
from egotriad.pipelines.fake_overlays import EGOVID_CLIPS, write_fake_egovid, write_fake_labels
from egotriad.pipelines.overlay_labels import LabelColumns, read_labels

FIRST, SECOND = fake_uid(0), fake_uid(1)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake Ego4D with both overlays beside it, not to be written to."""
    root = tmp_path_factory.mktemp("overlays") / "raw"
    EGO4D.fake(root)
    write_fake_labels(root)
    write_fake_egovid(root)
    return root


@pytest.fixture
def labels(raw: Path) -> MmgEgo4dOptions:
    return MmgEgo4dOptions(download=False, labels=raw / "labels.csv")


@pytest.fixture
def clips(raw: Path) -> EgoVid5MOptions:
    return EgoVid5MOptions(download=False, table=raw / "egovid-kinematic.csv")


def by_uid(dataset: Any, raw: Path, options: Any) -> dict[str, Any]:
    return {r.recording_id: r for r in dataset.recordings(raw, options)}


def test_overlays_fall_into_the_groups_and_splits_of_their_videos(
    raw: Path, labels: MmgEgo4dOptions, clips: EgoVid5MOptions
):
    for split_by in ("official", "wearer"):
        below = by_uid(EGO4D, raw, Ego4dOptions(download=False, split_by=split_by))
        assert set(below) == {FIRST, SECOND}
        for dataset, options in ((MMG, labels), (EGOVID, clips)):
            for uid, over in by_uid(dataset, raw, replace(options, split_by=split_by)).items():
                assert over.split_group == below[uid].split_group
                assert over.official_split == below[uid].official_split
                assert (over.wearer, over.files) == (below[uid].wearer, below[uid].files)
                assert over.source == dataset.name


def test_labels_stand_at_the_middle_of_their_stretches(raw: Path, labels: MmgEgo4dOptions):
    recording = by_uid(MMG, raw, labels)[SECOND]
    assert [(n.t_us, n.text, n.annotation_id) for n in recording.narrations] == [
        (2_600_000, "bend down", "row-3"),
        (6_700_000, "look around", "row-4"),
    ]
    assert recording.text_source == "label"
    assert recording.notes["mmg_splits"] == "test, train"
    assert len(recording.notes["overlay_sha256"]) == 64


def test_captions_stand_at_the_middle_of_their_clips(raw: Path, clips: EgoVid5MOptions):
    recording = by_uid(EGOVID, raw, clips)[SECOND]
    assert [n.t_us for n in recording.narrations] == [2_700_000, 7_166_666]
    assert (
        recording.narrations[1].text
        == 'The video shows clip 1, seen from the wearer. It is "calm".'
    )
    assert recording.narrations[1].annotation_id == f"{SECOND}_150_280"
    assert (recording.text_source, recording.imu_kind) == ("model", "head_acc_gyro")
    short = by_uid(EGOVID, raw, replace(clips, caption="name"))[SECOND]
    assert [n.text for n in short.narrations] == ["C acts in clip 0", "C acts in clip 1"]


def test_the_imu_per_frame_is_the_imu_at_the_frames(raw: Path, clips: EgoVid5MOptions):
    below = by_uid(EGO4D, raw, Ego4dOptions(download=False))[FIRST].read_imu()
    over = by_uid(EGOVID, raw, replace(clips, imu_source="egovid"))[FIRST]
    track = over.read_imu()
    assert over.imu_kind == "per_frame"
    assert track.rate_hz == pytest.approx(30.0)
    last = EGOVID_CLIPS[-1][1]
    np.testing.assert_array_equal(track.gyro.t_us, np.rint(np.arange(last) * 1e6 / 30))
    # A frame's sample is at most half a period of the original away from it.
    at = np.stack([np.interp(track.gyro.t_us, below.gyro.t_us, row) for row in below.gyro.values])
    slope = np.abs(np.gradient(below.gyro.values, axis=1)).max()
    assert np.abs(track.gyro.values - at).max() <= slope + 1e-6
    assert resample(track, t_start_us=0, duration_us=9_000_000, rate_hz=200.0).valid.all()


def test_only_the_overlays_videos_are_meant_and_others_are_named(
    raw: Path, labels: MmgEgo4dOptions, tmp_path: Path
):
    table = tmp_path / "one.csv"
    lines = (raw / "labels.csv").read_text().splitlines()
    unknown = "0000aaaa-0000-0000-0000-000000000000"
    table.write_text("\n".join([*lines[:3], f"{unknown},1,2,walk,train"]) + "\n")
    one = replace(labels, labels=table)
    assert set(by_uid(MMG, raw, one)) == {FIRST}
    named = by_uid(MMG, raw, replace(one, uids=(FIRST, SECOND, unknown)))
    assert isinstance(named[FIRST], Recording)
    assert named[SECOND].message.startswith("not-in-overlay: ")
    assert named[unknown].message.startswith("unknown-uid: ")
    only = by_uid(MMG, raw, replace(one, uids=(SECOND,)))
    assert list(only) == [SECOND]


def test_a_choice_asks_ego4d_for_the_overlays_videos_alone(
    raw: Path, labels: MmgEgo4dOptions, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Ego4dOptions] = []
    monkeypatch.setattr(
        type(overlay_ego4d.EGO4D), "download", lambda self, raw, options: asked.append(options)
    )
    online = replace(labels, download=True, yes=True)
    MMG.download(raw, online)
    assert asked == [], "without a choice nothing is downloaded"
    MMG.download(raw, replace(online, has=("imu",)))
    MMG.download(raw, replace(online, uids=(SECOND, "another")))
    assert [options.uids for options in asked] == [tuple(sorted((FIRST, SECOND))), (SECOND,)]
    assert asked[0].has == ("imu",)
    assert type(asked[0]) is Ego4dOptions


def test_stretches_outside_their_video_are_left_out_and_counted(
    raw: Path, labels: MmgEgo4dOptions, tmp_path: Path
):
    table = tmp_path / "late.csv"
    table.write_text(
        f"video_uid,start_sec,end_sec,label,split\n{FIRST},1,3,walk,a\n{FIRST},9,60,run,a\n"
    )
    recording = by_uid(MMG, raw, replace(labels, labels=table))[FIRST]
    assert [n.text for n in recording.narrations] == ["walk"]
    assert recording.notes["overlay_spans_outside_video"] == "1"


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".tsv"])
def test_labels_come_in_several_formats_and_in_frames(tmp_path: Path, suffix: str):
    rows = [{"id": FIRST.upper(), "f0": 30, "f1": 90, "verb": "open_door"}]
    path = tmp_path / f"labels{suffix}"
    if suffix == ".tsv":
        path.write_text("id\tf0\tf1\tverb\n" + "\t".join(map(str, rows[0].values())) + "\n")
    else:
        path.write_text(json.dumps(rows if suffix == ".json" else rows[0]))
    columns = LabelColumns.parse("uid=id start_frame=f0 end_frame=f1 label=verb")
    (span,) = read_labels(path, columns).spans[FIRST]
    assert (span.start_us, span.end_us, span.text) == (1_000_000, 3_000_000, "open door")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "video_uid,begin,end\na,1,2\n",
            r"has no column start_sec, end_sec, label, split, only video",
        ),
        ("video_uid,start_sec,end_sec,label,split\n", "holds no row"),
        ("video_uid,start_sec,end_sec,label,split\na,x,2,w,s\n", "row 1: .* are no times"),
        (
            "video_uid,start_sec,end_sec,label,split\na,3,2,w,s\n",
            "row 1: got start_sec 3, end_sec 2",
        ),
        (
            "video_uid,start_sec,end_sec,label,split\na,1,2,17,s\n",
            "row 1: label is '17'; need the name",
        ),
    ],
)
def test_a_label_table_of_another_make_says_what_it_holds(
    raw: Path, labels: MmgEgo4dOptions, tmp_path: Path, content: str, message: str
):
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(RecordingError, match=message):
        list(MMG.recordings(raw, replace(labels, labels=path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"videos": {"a": 1}}', "got videos, need a list of objects"),
        ("{", "neither a JSON list nor JSON lines"),
        ("[1, 2]", "got no objects, need a list"),
    ],
)
def test_a_json_of_another_make_says_what_it_holds(tmp_path: Path, content: str, message: str):
    path = tmp_path / "labels.json"
    path.write_text(content)
    columns = LabelColumns.parse("uid=a start_s=b end_s=c label=d")
    with pytest.raises(RecordingError, match=message):
        read_labels(path, columns)


def test_what_is_not_given_or_cannot_be_is_a_usage_error(raw: Path):
    with pytest.raises(UsageError, match="--labels: name the table"):
        list(MMG.recordings(raw, MmgEgo4dOptions(download=False)))
    with pytest.raises(UsageError, match="--table: name one of EgoVid-5M's tables"):
        list(EGOVID.recordings(raw, EgoVid5MOptions(download=False)))
    with pytest.raises(UsageError, match="--columns: got 'uid=a start_s=b'; need uid="):
        LabelColumns.parse("uid=a start_s=b")
    with pytest.raises(UsageError, match="--imu-source: got 'egovd'; did you mean egovid"):
        EgoVid5MOptions(imu_source="egovd")
    with pytest.raises(UsageError, match="--limit-hours: got -1"):
        MmgEgo4dOptions(limit_hours=-1)


@pytest.fixture
def edited(raw: Path, tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """The EgoVid table with cells of its first row changed."""

    def edit(cells: dict[str, str]) -> Path:
        with (raw / "egovid-kinematic.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        rows[0] |= cells
        path = tmp_path / "egovid.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        return path

    return edit


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"video_id": "clip-7"}, "byte 1[0-9]+: video_id is 'clip-7', need <uid>_<first frame>"),
        ({"video_id": f"{FIRST}_90_30"}, "_90_30 ends before it begins"),
        ({"fps": "thirty"}, "fps is 'thirty', need a number"),
    ],
)
def test_a_row_that_is_no_clip_is_named(
    edited: Callable[[dict[str, str]], Path], cells: dict[str, str], message: str
):
    with pytest.raises(RecordingError, match=message):
        read_egovid(edited(cells), "llava_cap")


def test_clips_of_other_rates_or_without_captions_are_left_out_and_counted(
    raw: Path, clips: EgoVid5MOptions, edited: Callable[[dict[str, str]], Path]
):
    for cells, name in (({"fps": "60.0"}, "other_rate"), ({"llava_cap": " "}, "empty_caption")):
        recording = by_uid(EGOVID, raw, replace(clips, table=edited(cells)))[FIRST]
        assert len(recording.narrations) == 1
        assert recording.notes[f"egovid_rows_{name}"] == "1"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"gyro_y": "[0.1, 0.2]"}, f"{FIRST}_0_162: IMU lists of 162, 2 values for 162 frames"),
        ({"accl_x": "0.1 0.2"}, "an IMU cell begins with '0.1 0.2', need a list of numbers"),
    ],
)
def test_imu_lists_that_are_none_are_refused(
    raw: Path,
    clips: EgoVid5MOptions,
    edited: Callable[[dict[str, str]], Path],
    cells: dict[str, str],
    message: str,
):
    options = replace(clips, table=edited(cells), imu_source="egovid")
    with pytest.raises(RecordingError, match=message):
        by_uid(EGOVID, raw, options)[FIRST].read_imu()


def test_missing_imu_values_are_left_out_and_clips_without_any_passed_over(
    raw: Path, clips: EgoVid5MOptions, edited: Callable[[dict[str, str]], Path]
):
    gap = json.dumps([1.0] * 161)[:-1] + ", nan]"
    options = replace(clips, table=edited({"gyro_y": gap}), imu_source="egovid")
    track = by_uid(EGOVID, raw, options)[FIRST].read_imu()
    assert track.notes["imu_missing"] == "accel 0, gyro 1"
    empty = dict.fromkeys(("gyro_x", "gyro_y", "gyro_z", "accl_x", "accl_y", "accl_z"), "")
    options = replace(clips, table=edited(empty), imu_source="egovid")
    assert by_uid(EGOVID, raw, options)[FIRST].read_imu().notes["imu_clips"] == "1"


def test_a_table_of_another_make_or_without_imu_says_so(
    raw: Path, clips: EgoVid5MOptions, tmp_path: Path
):
    path = tmp_path / "egovid-5m.csv"
    path.write_text("clip,caption\na,b\n")
    with pytest.raises(
        RecordingError, match="has no column video_id, frame_num, fps, llava_cap, only clip"
    ):
        read_egovid(path, "llava_cap")
    path.write_text("video_id,frame_num,fps,llava_cap,name\n")
    with pytest.raises(RecordingError, match="holds no clip that can be used"):
        read_egovid(path, "llava_cap")
    path.write_text(f"video_id,frame_num,fps,llava_cap,name\n{FIRST}_0_90,90,30,a door,opens\n")
    with pytest.raises(
        RecordingError, match=r"egovid-5m.csv: has no IMU columns .*drop --imu-source"
    ):
        list(EGOVID.recordings(raw, replace(clips, table=path, imu_source="egovid")))
    path.write_text(f"video_id,frame_num,fps,llava_cap,name\n{FIRST}_0_90,90\n")
    with pytest.raises(RecordingError, match="byte 38: got 2 cells, need 5; the file is cut off"):
        read_egovid(path, "llava_cap")
