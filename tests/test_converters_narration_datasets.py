import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from egotriad.converters.narration import (
    clean,
    read_ego4d_narrations,
    read_egoexo4d_descriptions,
    read_imu2clip_windows,
)
from egotriad.converters.narration_passes import distinct, link_passes
from egotriad.converters.narration_text import Summary
from egotriad.manifests.errors import RecordingError


def item(time_s: object, text: object, uid: str = "u") -> dict[str, object]:
    return {"timestamp_sec": time_s, "narration_text": text, "annotation_uid": uid}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_both_passes_are_kept_apart_and_sorted_by_time(tmp_path: Path) -> None:
    content = {
        "video-1": {
            "status": "complete",
            "narration_pass_1": {
                "narrations": [
                    item(7.5, "#C C sits"),
                    item(-0.04, "#C C stands", "a"),
                    item(7.0, "#O man X points at #unsure"),
                ],
                "summaries": [{"start_sec": 0, "end_sec": 9.5, "summary_text": "#summary C rests"}],
            },
            "narration_pass_2": {"narrations": [item(1.25, "#C C rises\n")]},
        },
        "video-2": {"status": "redacted"},
        "video-3": {"narration_pass_1": None},
    }
    found = read_ego4d_narrations(written(tmp_path / "narration.json", content))
    assert list(found) == ["video-1", "video-2", "video-3"]
    assert [
        (n.t_us, n.text, n.annotation_pass, n.annotation_id, n.subject, n.unsure)
        for n in found["video-1"].narrations
    ] == [
        (0, "C stands", "narration_pass_1", "a", "wearer", False),
        (1_250_000, "C rises", "narration_pass_2", "u", "wearer", False),
        (7_000_000, "man X points at something", "narration_pass_1", "u", "other", True),
        (7_500_000, "C sits", "narration_pass_1", "u", "wearer", False),
    ]
    assert found["video-1"].summaries == (
        Summary(start_us=0, end_us=9_500_000, text="C rests", annotation_pass="narration_pass_1"),
    )
    assert found["video-1"].counts == {"before_start": 1, "out_of_order": 2}
    assert found["video-2"].narrations == found["video-3"].narrations == ()


def test_the_redacted_schema_is_read_with_its_summaries_apart(tmp_path: Path) -> None:
    content = {
        "videos": {
            "video-1": {
                "narrations": [
                    {"time": 2.0, "text": "#C C walks", "annotator": "p7", "_annotation_uid": "x"},
                    {"time": 1.0, "text": "#O X runs", "is_summary": False},
                    {"time": 0.5, "text": "all of it", "is_summary": True},
                ],
                "summaries": [{"start_time": 0, "end_time": 3, "text": "C walks around"}],
            }
        }
    }
    found = read_ego4d_narrations(written(tmp_path / "a.json", content))["video-1"]
    assert [(n.t_us, n.text, n.annotation_pass, n.annotation_id) for n in found.narrations] == [
        (1_000_000, "X runs", "all_narrations", ""),
        (2_000_000, "C walks", "p7", "x"),
    ]
    assert [(s.start_us, s.end_us, s.text) for s in found.summaries] == [
        (0, 3_000_000, "C walks around"),
        (500_000, 500_000, "all of it"),
    ]


def test_unusable_narrations_are_left_out_and_counted_by_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        item(None, "C a"),
        item(float("nan"), "C b"),
        item(-0.2, "C c"),
        item(1, " "),
        item(2, 3),
        {"_unmapped_timestamp_sec": 4.0, "narration_text": "C e"},
    ]
    content = {"v": {"narration_pass_1": {"narrations": [*bad, item(3, "C d"), "?"]}}}
    with caplog.at_level(logging.INFO):
        found = read_ego4d_narrations(written(tmp_path / "a.json", content))["v"]
    assert [n.text for n in found.narrations] == ["C d"]
    assert found.counts == {"empty": 2, "out_of_range": 1, "unmapped_time": 1, "untimed": 2}
    assert "2 empty, 1 out_of_range, 1 unmapped_time, 2 untimed" in caplog.text


def test_the_unmapped_time_is_never_taken(tmp_path: Path) -> None:
    both = item(3.0, "C d") | {"_unmapped_timestamp_sec": 77.0}
    content = {"v": {"narration_pass_1": {"narrations": [both]}}}
    (found,) = read_ego4d_narrations(written(tmp_path / "a.json", content))["v"].narrations
    assert found.t_us == 3_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([1], "got a JSON list"),
        ({"version": "1", "benchmarks": []}, "top-level keys version, benchmarks"),
        ({}, r"top-level keys \(none\)"),
    ],
)
def test_another_schema_lists_what_was_found(tmp_path: Path, content: object, message: str) -> None:
    path = written(tmp_path / "a.json", content)
    for read in (read_ego4d_narrations, read_egoexo4d_descriptions):
        with pytest.raises(RecordingError, match=message):
            read(path)


def test_flags_written_as_strings_are_not_taken_for_true(tmp_path: Path) -> None:
    description = {"text": "C jumps.", "timestamp": 1, "narration_subject": "O", "unsure": "0"}
    content = {
        "annotations": {
            "take": [
                {"annotator_id": 7, "rejected": "0", "descriptions": [description]},
                {"annotator_id": 8, "rejected": "1", "descriptions": [description]},
                {"annotator_id": 9, "descriptions": [description | {"unsure": "1"}]},
            ]
        }
    }
    found = read_egoexo4d_descriptions(written(tmp_path / "a.json", content))["take"]
    assert [(n.annotation_pass, n.subject, n.unsure) for n in found.narrations] == [
        ("7", "other", False),
        ("9", "other", True),
    ]
    assert found.counts == {"rejected": 1}


EXO_COUNTS = {
    "13b85191-0a2c-4d0f-a54c-3118f5a96cbb": 243,
    "1d502b9b-792c-4d03-96d3-3b61b10fff68": 38,
    "f1415a2f-c967-450e-bc9a-53a49abdd5e5": 70,
    "d8db054f-b5ee-41c3-ba66-cb84ed2d286e": 41,
    "bd801ad2-17d1-4af2-9595-1f7386a92dea": 155,
    "7cef5f7e-d66d-4b23-b832-ff998d357784": 8,
    "db826228-fe35-4b7a-819c-cefbd140920e": 13,
    "8067827f-ebcf-4493-866c-93ca84290df7": 24,
}


def test_real_atomic_descriptions_have_the_numbers_of_their_file(
    shared: Callable[[str], Path],
) -> None:
    path = shared("real/egoexo4d_atomic_excerpt/atomic_descriptions_excerpt.json")
    found = read_egoexo4d_descriptions(path)
    assert {uid: len(take.narrations) for uid, take in found.items()} == EXO_COUNTS
    every = [n for take in found.values() for n in take.narrations]
    assert len(every) == 592
    assert Counter(n.subject for n in every) == {"wearer": 578, "other": 14}
    assert sum(n.unsure for n in every) == 3
    assert sum(take.counts.get("rejected", 0) for take in found.values()) == 1
    assert all("\n" not in n.text for n in every)


def test_two_real_annotators_of_one_take_share_only_what_both_tell(
    shared: Callable[[str], Path],
) -> None:
    path = shared("real/egoexo4d_atomic_excerpt/atomic_descriptions_excerpt.json")
    take = read_egoexo4d_descriptions(path)["1d502b9b-792c-4d03-96d3-3b61b10fff68"]
    linked = link_passes(take.narrations)
    groups = Counter(n.group for n in linked)
    shared_texts = [
        sorted(n.text for n in linked if n.group == group)
        for group, count in groups.items()
        if count > 1
    ]
    assert shared_texts == [["C stops dancing.", "C stops dancing."]]
    assert len(distinct(linked)) == 37


def test_in_real_ego4d_texts_only_the_unsure_mark_changes(shared: Callable[[str], Path]) -> None:
    path = shared("real/ego4d_narration_excerpt/imu2clip_motion_narr_2.5_excerpt.csv")
    texts = [line.split(",")[4] for line in path.read_text("utf-8").splitlines()[1:]]
    assert len(texts) == 400
    for text in texts:
        want = text.removesuffix(" #unsure") if ". #" in text else text
        want = want.removesuffix(" # unsure").replace("#unsure", "something")
        assert clean(text).text == " ".join(want.split())
    assert (
        sum(clean(text).unsure for text in texts) == sum("unsure" in text for text in texts) == 17
    )


def test_real_imu2clip_windows_are_whole_seconds_five_long(shared: Callable[[str], Path]) -> None:
    path = shared("real/ego4d_narration_excerpt/imu2clip_motion_narr_2.5_excerpt.csv")
    found = read_imu2clip_windows(path)
    every = [window for windows in found.values() for window in windows]
    assert len(every) == 400
    assert {window.duration_us for window in every} == {5_000_000}
    assert all(window.t_start_us % 1_000_000 == 0 for window in every)
    assert all("#" not in window.text and window.label for window in every)
    first = next(w for w in found["3663482b-968f-4956-8fb8-0b127a4233ec"] if w.t_start_us == 1572e6)
    assert (first.text, first.label, first.unsure) == ("moves a head", "moves head", False)
    # An annotation uid names an annotator's task, not one narration.
    uids = Counter((uid, w.annotation_id) for uid, windows in found.items() for w in windows)
    assert max(uids.values()) > 1


HEADER = "window_start,window_end,video_uid,narration_uid,text,Score-TFIDF,label\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", r"line 1: got columns a, b; window_start, .* missing"),
        ("", r"line 1: got columns \(none\)"),
        (f"{HEADER}5,5,v,n,C,1,sits\n", r"line 2: got window 5 to 5, need two times"),
        (f"{HEADER}-1,4,v,n,C,1,sits\n", r"line 2: got window -1 to 4"),
        (f"{HEADER}1,inf,v,n,C,1,sits\n", r"line 2: got window 1 to inf"),
        (f"{HEADER}0,5,v,n,C,1,sits\n1\n", r"line 3: got window 1 to None"),
    ],
)
def test_a_bad_imu2clip_row_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_imu2clip_windows(written(tmp_path / "w.csv", content))
