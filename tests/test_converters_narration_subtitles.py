import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from egotriad.converters.narration import read_user_narrations
from egotriad.manifests.errors import RecordingError

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

VTT = """WEBVTT - made by hand
Kind: captions

STYLE
::cue { color: red }

NOTE a cue follows

second
00:04.260 --> 00:08.350 align:start
<v Anna>C walks & waves</v>
<00:00:05.000>to the door

00:00:00.210 --> 00:00:04.260
C &lt;stands&gt;

01:02:03.500 --> 01:02:04.500
C waits
"""


def written(path: Path, content: str) -> Path:
    path.write_text(content, "utf-8")
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_subtitles_start_where_they_are_shown_first(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "n.srt"
    path.write_bytes(SRT.replace("\n", newline).encode())
    assert [(n.t_us, n.text) for n in read_user_narrations(path)] == [
        (210_000, "C stands"),
        (4_260_000, "C walks to the door"),
        (3_723_500_000, "C waits, waves"),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_webvtt_cues_lose_their_markup_and_comments_are_passed_over(
    tmp_path: Path, newline: str
) -> None:
    path = tmp_path / "n.vtt"
    path.write_bytes(f"\ufeff{VTT}".replace("\n", newline).encode())
    assert [(n.t_us, n.text) for n in read_user_narrations(path)] == [
        (210_000, "C <stands>"),
        (4_260_000, "C walks & waves to the door"),
        (3_723_500_000, "C waits"),
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
def test_a_bad_srt_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_user_narrations(written(tmp_path / "n.srt", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SRT, r"line 1: got '1', need WEBVTT; is it a .srt file"),
        ("WEBVTT\n\nC walks\n", r"line 3: got 'C walks', need times such as 00:12.500"),
        ("WEBVTT\n\na\nb\n", r"line 4: got 'b', need times"),
        ("WEBVTT\n\n00:01,000 --> 00:02,000\nC\n", r"line 3: got '00:01,000 --> 00:02,000'"),
        ("WEBVTT\n", r"no narration in it \(0 rows"),
    ],
)
def test_a_bad_vtt_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        read_user_narrations(written(tmp_path / "n.vtt", content))


WEBB = [
    (210_000, "NAR: This is the optical and science segment of the Webb"),
    (4_260_000, "space telescope in one of the largest cleanrooms in the world"),
    (8_350_000, "at NASA’s Goddard Space Flight Center in Greenbelt, Maryland."),
    (12_470_000, "This half of the observatory element successfully"),
]


def test_the_subtitle_tracks_of_a_real_video_are_read_at_their_times(
    shared: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = shared("real/nasa_webb_subtitles/nasa_13013.mp4")
    with caplog.at_level(logging.INFO):
        found = read_user_narrations(path)
    assert [(n.t_us, n.text) for n in found] == WEBB
    assert "read subtitles of stream 2, not 5" in caplog.text
    assert read_user_narrations(path, stream_index=5) == found


def test_a_stream_without_subtitles_is_named(shared: Callable[[str], Path]) -> None:
    path = shared("real/nasa_webb_subtitles/nasa_13013.mp4")
    with pytest.raises(RecordingError, match=r"no text track at stream 3, only 0 video \(h264\)"):
        read_user_narrations(path, stream_index=3)
