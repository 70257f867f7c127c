import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from egotriad.converters.narration import (
    clean,
    read_ego4d_narrations,
    read_user_narrations,
)
from egotriad.manifests.errors import RecordingError


@pytest.mark.parametrize(
    ("raw", "text", "mark"),
    [
        ("#C C picks a knife", "C picks a knife", "c"),
        ("#c C picks a knife", "C picks a knife", "c"),
        ("@c C picks a knife\n", "C picks a knife", "c"),
        ("#O man X walks", "man X walks", "o"),
        ("#o  X   turns", "X turns", "o"),
        ("C stirs the pot", "C stirs the pot", ""),
        ("#C C cuts #unsure with a knife", "C cuts something with a knife", "c"),
        ("#C C moves #Unsure.", "C moves something.", "c"),
        ("#C C lifts _unsure_", "C lifts something", "c"),
        ("#summary C cooked", "C cooked", "summary"),
        ("#C C hands the cup to #O woman Y", "C hands the cup to woman Y", "c"),
        ("#C", "", "c"),
        ("", "", ""),
    ],
)
def test_marks_go_and_sentences_stay(raw: str, text: str, mark: str):
    assert clean(raw) == (text, mark)


@pytest.mark.parametrize(
    "text",
    [
        "C opens a Coke can with C3PO",
        "C picks #Coke",
        "C mails bob@company.org",
        "C is unsure about the #unsured thing",
        "O and C look at Oslo",
    ],
)
def test_words_that_look_like_marks_are_not_damaged(text: str):
    assert clean(text)[0] == text


def item(time_s: object, text: object, uid: str = "u") -> dict[str, object]:
    return {"timestamp_sec": time_s, "narration_text": text, "annotation_uid": uid}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_both_passes_are_kept_apart_and_sorted_by_time(tmp_path: Path):
    content = {
        "video-1": {
            "status": "complete",
            "narration_pass_1": {
                "narrations": [item(7.5, "#C C sits"), item(-0.04, "#C C stands", "a")],
                "summaries": [{"start_sec": 0, "end_sec": 9, "summary_text": "#summary C"}],
            },
            "narration_pass_2": {"narrations": [item(1.25, "#C C rises\n")]},
        },
        "video-2": {"status": "redacted"},
        "video-3": {"narration_pass_1": None},
    }
    found = read_ego4d_narrations(written(tmp_path / "narration.json", content))
    assert list(found) == ["video-1", "video-2", "video-3"]
    assert [(n.t_us, n.text, n.annotation_pass, n.annotation_id) for n in found["video-1"]] == [
        (0, "C stands", "narration_pass_1", "a"),
        (1_250_000, "C rises", "narration_pass_2", "u"),
        (7_500_000, "C sits", "narration_pass_1", "u"),
    ]
    assert found["video-2"] == found["video-3"] == ()


def test_the_redacted_schema_is_read_without_its_summaries(tmp_path: Path):
    content = {
        "videos": {
            "video-1": {
                "narrations": [
                    {"time": 2.0, "text": "#C C walks", "annotator": "p7", "_annotation_uid": "x"},
                    {"time": 1.0, "text": "#O X runs", "is_summary": False},
                    {"time": 0.0, "text": "all of it", "is_summary": True},
                ],
                "summaries": [{"start_time": 0, "end_time": 3, "text": "C"}],
            }
        }
    }
    found = read_ego4d_narrations(written(tmp_path / "a.json", content))
    assert [(n.t_us, n.text, n.annotation_pass, n.annotation_id) for n in found["video-1"]] == [
        (1_000_000, "X runs", "all_narrations", ""),
        (2_000_000, "C walks", "p7", "x"),
    ]


def test_unusable_narrations_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    bad = [
        item(None, "C a"),
        item(float("nan"), "C b"),
        item(-0.2, "C c"),
        item(1, " "),
        item(2, 3),
    ]
    content = {"v": {"narration_pass_1": {"narrations": [*bad, item(3, "C d"), "?"]}}}
    with caplog.at_level(logging.INFO):
        found = read_ego4d_narrations(written(tmp_path / "a.json", content))
    assert [n.text for n in found["v"]] == ["C d"]
    assert "5 narrations" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([1], "got a JSON list"),
        ({"version": "1", "benchmarks": []}, "top-level keys version, benchmarks"),
        ({}, r"top-level keys \(none\)"),
    ],
)
def test_another_schema_lists_what_was_found(tmp_path: Path, content: object, message: str):
    with pytest.raises(RecordingError, match=message):
        read_ego4d_narrations(written(tmp_path / "a.json", content))


def test_a_users_csv_is_read_with_extra_columns_in_any_order(tmp_path: Path):
    path = tmp_path / "n.csv"
    path.write_bytes(
        "\ufefftext, time_s,who\r\n"
        '"C walks, then turns",4.5,me\r\n'
        "\r\n"
        "C öffnet die Tür,0.25,me\r\n"
        "  ,1,me\r\n"
        "#C C sits,-0.05,me\r\n".encode()
    )
    assert [(n.t_us, n.text, n.annotation_pass) for n in read_user_narrations(path)] == [
        (0, "C sits", "user"),
        (250_000, "C öffnet die Tür", "user"),
        (4_500_000, "C walks, then turns", "user"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"n.csv: the file is empty"),
        (" \n\n", r"n.csv: the file is empty"),
        ("time_s,text\n", r"n.csv: no narration in it \(0 rows"),
        ("time_s,text\n1, \n2,\n", r"n.csv: no narration in it \(2 rows"),
        ("start,text\n1,C walks\n", r"line 1: got columns start, text; need 'time_s' and 'text'"),
        ("time_s,text\n1.0,C walks\n1:30,C sits\n", r"line 3: got time_s '1:30', need a number"),
        ("time_s,text\n-0.5,C walks\n", r"line 2: got time -0.5 s, need a time from 0 s on"),
        ("time_s,text\nnan,C walks\n", r"line 2: got time nan s"),
        ("time_s,text\ninf,C walks\n", r"line 2: got time inf s"),
        ("time_s,text\n1.0\n", r"line 2: got 1 cells, need 2"),
        ("time_s,text\n1.0,C walks, turns\n", r"line 2: got 3 cells, need 2; a text with commas"),
    ],
)
def test_a_bad_csv_names_the_line_and_what_it_needs(tmp_path: Path, content: str, message: str):
    with pytest.raises(RecordingError, match=message):
        read_user_narrations(written(tmp_path / "n.csv", content))


SRT = """1
00:00:04,260 --> 00:00:08,350
C walks
<i>to the door</i>

2
00:00:00,210 --> 00:00:04,260
{\\an8}C stands

3
01:02:03.5 --> 01:02:04.5 X1:100
C waits, waves
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_subtitles_start_where_they_are_shown_first(tmp_path: Path, newline: str):
    path = tmp_path / "n.srt"
    path.write_bytes(SRT.replace("\n", newline).encode())
    assert [(n.t_us, n.text) for n in read_user_narrations(path)] == [
        (210_000, "C stands"),
        (4_260_000, "C walks to the door"),
        (3_723_500_000, "C waits, waves"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n00:00:01 C walks\n", r"line 2: got '00:00:01 C walks', need times such as"),
        ("C walks\n", r"line 1: got 'C walks', need times"),
        ("1\n-00:00:01,000 --> 00:00:02,000\nC\n", r"line 2: got time -1 s"),
        ("1\n00:00:01,000 --> 00:00:02,000\n\n", r"no narration in it \(1 rows"),
    ],
)
def test_a_bad_srt_names_the_line(tmp_path: Path, content: str, message: str):
    with pytest.raises(RecordingError, match=message):
        read_user_narrations(written(tmp_path / "n.srt", content))


def test_missing_foreign_and_wrongly_encoded_files_are_named(tmp_path: Path):
    with pytest.raises(RecordingError, match="no such file"):
        read_user_narrations(tmp_path / "n.csv")
    with pytest.raises(RecordingError, match=r"n.docx: narrations come as .csv or .srt"):
        read_user_narrations(tmp_path / "n.docx")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("time_s,text\n1,C öffnet\n".encode("latin-1"))
    with pytest.raises(RecordingError, match=r"latin.csv: not UTF-8 at byte 16"):
        read_user_narrations(latin)


def test_in_real_ego4d_texts_only_the_unsure_mark_changes(shared: Callable[[str], Path]):
    path = shared("real/ego4d_narration_excerpt/imu2clip_motion_narr_2.5_excerpt.csv")
    texts = [line.split(",")[4] for line in path.read_text("utf-8").splitlines()[1:]]
    assert len(texts) == 400
    assert sum("#unsure" in text for text in texts) > 0
    for text in texts:
        assert clean(text) == (" ".join(text.replace("#unsure", "something").split()), "")
