import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egotriad.converters.narration import clean, read_user_narrations
from egotriad.converters.narration_text import CleanText, in_order
from egotriad.manifests import Narration
from egotriad.manifests.errors import RecordingError


@pytest.mark.parametrize(
    ("raw", "text", "subject", "unsure"),
    [
        ("#C C picks a knife", "C picks a knife", "wearer", False),
        ("#c C picks a knife", "C picks a knife", "wearer", False),
        ("@c C picks a knife\n", "C picks a knife", "wearer", False),
        ("#O man X walks", "man X walks", "other", False),
        ("#o  X   turns", "X turns", "other", False),
        ("C stirs the pot", "C stirs the pot", "", False),
        ("#C C cuts #unsure with a knife", "C cuts something with a knife", "wearer", True),
        ("#C C moves #Unsure.", "C moves something.", "wearer", True),
        ("#C C lifts _unsure_", "C lifts something", "wearer", True),
        ("#C C scratches his head. #unsure", "C scratches his head.", "wearer", True),
        ("#C C wipes the lens. # unsure", "C wipes the lens.", "wearer", True),
        ("#C C holds #unsure. #unsure\n", "C holds something.", "wearer", True),
        ("#C C hands the cup to #O woman Y", "C hands the cup to woman Y", "wearer", False),
        ("#C", "", "wearer", False),
        ("", "", "", False),
    ],
)
def test_marks_go_and_sentences_stay(raw: str, text: str, subject: str, unsure: bool) -> None:
    assert clean(raw) == CleanText(text=text, subject=subject, unsure=unsure)


def test_a_summary_says_so_and_keeps_its_subject() -> None:
    assert clean("#summary #C C cooked") == CleanText(
        text="C cooked", subject="wearer", summary=True
    )


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
def test_words_that_look_like_marks_are_not_damaged(text: str) -> None:
    assert clean(text) == CleanText(text=text)


@given(st.text(st.sampled_from("#@cCoO unsrey._\nä。"), max_size=30) | st.text(max_size=30))
def test_cleaning_twice_changes_nothing_more(raw: str) -> None:
    text = clean(raw).text
    assert text == " ".join(text.split())
    # Taking a mark out may join two halves of another one, and only then is there more to do.
    assert clean(text).text == text or "#" in text or "@" in text or "_" in text


@given(st.permutations([Narration(t_us=t, text=x) for t in (0, 5) for x in "ab"]))
def test_order_is_by_time_and_never_by_the_order_of_the_input(shuffled: list[Narration]) -> None:
    assert [(n.t_us, n.text) for n in in_order(shuffled)] == [
        (0, "a"),
        (0, "b"),
        (5, "a"),
        (5, "b"),
    ]


def written(path: Path, content: str) -> Path:
    path.write_text(content, "utf-8")
    return path


def test_a_users_csv_is_read_with_extra_columns_in_any_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "n.csv"
    path.write_bytes(
        "\ufefftext, time_s,who\r\n"
        '"C walks, then turns",4.5,me\r\n'
        "\r\n"
        "C öffnet die Tür,0.25,me\r\n"
        "  ,1,me\r\n"
        "#C C sits,-0.05,me\r\n".encode()
    )
    with caplog.at_level(logging.INFO):
        found = read_user_narrations(path)
    assert [(n.t_us, n.text, n.annotation_pass, n.subject) for n in found] == [
        (0, "C sits", "user", "wearer"),
        (250_000, "C öffnet die Tür", "user", ""),
        (4_500_000, "C walks, then turns", "user", ""),
    ]
    assert "1 before_start, 1 empty, 2 out_of_order" in caplog.text


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
def test_a_bad_csv_names_the_line_and_what_it_needs(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(RecordingError, match=message):
        read_user_narrations(written(tmp_path / "n.csv", content))


def test_missing_foreign_and_wrongly_encoded_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        read_user_narrations(tmp_path / "n.csv")
    with pytest.raises(RecordingError, match=r"n.docx: narrations come as .csv, .srt or .vtt"):
        read_user_narrations(tmp_path / "n.docx")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("time_s,text\n1,C öffnet\n".encode("latin-1"))
    with pytest.raises(RecordingError, match=r"latin.csv: not UTF-8 at byte 16"):
        read_user_narrations(latin)
