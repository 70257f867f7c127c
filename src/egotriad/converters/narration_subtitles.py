"""Subtitles -> (where, seconds, text): SubRip and WebVTT files, tracks inside media files."""

import html
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import av
import av.container
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from egotriad.converters.media import describe_streams, microseconds, open_media
from egotriad.manifests.errors import RecordingError

__all__ = ["TimedText", "srt_rows", "track_rows", "vtt_rows"]

TimedText = tuple[str, float, str]
"""Where it stands ("line 7"), seconds of its start, its text without formatting."""

TEXT_CODECS = ("ass", "mov_text", "ssa", "srt", "subrip", "text", "webvtt")
"""Subtitle codecs of libav that carry text; the others carry pictures."""

_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
_SRT_TIMES = re.compile(r"\s*(-?)(\d{1,4}):(\d{1,2}):(\d{1,2})[,.](\d{1,3})\s*-->\s*\S")
_VTT_TIMES = re.compile(r"\s*()(?:(\d{2,4}):)?(\d{2}):(\d{2})\.(\d{3})\s*-->\s*\S")
_VTT_COMMENTS = re.compile(r"(?:NOTE|STYLE|REGION)(?!\S)")

_LOG = logging.getLogger(__name__)


def srt_rows(path: Path, lines: list[str]) -> Iterator[TimedText]:
    """Every subtitle of a SubRip file: a number, a line of times, lines of text.

    Raises:
        RecordingError: naming the line that should hold times.
    """
    for block in _blocks(lines):
        yield _timed(path, block, _SRT_TIMES, "00:00:12,500 --> 00:00:14,000")


def vtt_rows(path: Path, lines: list[str]) -> Iterator[TimedText]:
    """Every cue of a WebVTT file; comments, styles and regions are passed over.

    Source: WebVTT, W3C Candidate Recommendation, sections 4.1 and 4.2.2.

    Raises:
        RecordingError: no `WEBVTT` in the first line, or a line that should hold times.
    """
    if not re.match(r"WEBVTT(?!\S)", lines[0]):
        raise RecordingError(
            f"{path.name}, line 1: got {lines[0].strip()[:40]!r}, need WEBVTT; is it a .srt file?"
        )
    for block in _blocks(lines):
        number, first = block[0]
        if number == 1 or _VTT_COMMENTS.match(first):
            continue
        where, time_s, text = _timed(path, block, _VTT_TIMES, "00:12.500 --> 00:14.000")
        yield where, time_s, html.unescape(text)


def _blocks(lines: list[str]) -> Iterator[list[tuple[int, str]]]:
    """Runs of numbered lines between blank ones."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, "\n"], 1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []


def _timed(
    path: Path, block: list[tuple[int, str]], times: re.Pattern[str], example: str
) -> TimedText:
    """The start and the text of one subtitle; before the times may stand its number or name."""
    times_at = 1 if "-->" not in block[0][1] and len(block) > 1 else 0
    number, line = block[times_at]
    match = times.match(line)
    if match is None:
        raise RecordingError(
            f"{path.name}, line {number}: got {line.strip()[:40]!r}, need times such as {example}"
        )
    sign, hours, minutes, seconds, fraction = match.groups()
    time_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")
    text = " ".join(_MARKUP.sub("", words) for _, words in block[times_at + 1 :])
    return f"line {number}", -time_s if sign else time_s, text


def track_rows(path: Path, *, stream_index: int | None = None) -> Iterator[TimedText]:
    """Every subtitle of a text track inside a media file, on the clock of its first video frame.

    Args:
        path: mp4, mov, mkv, ...
        stream_index: which stream; None takes the first text track (and logs it when there are
            several).

    Raises:
        RecordingError: no such file, no such stream, or one that is no subtitle text or cannot be
            decoded.
    """
    with open_media(path) as container:
        stream = _text_stream(container, path, stream_index)
        video = container.streams.best("video")
        origin_us = 0
        if video is not None and video.start_time is not None:
            origin_us = microseconds(video.start_time, video.time_base)
        count = 0
        try:
            for packet in container.demux(stream):
                # mov_text fills pauses with empty samples; the last packet only flushes.
                words = [_dialogue(subtitle) for subtitle in packet.decode()]
                if not words or packet.pts is None:
                    continue
                count += 1
                time_us = microseconds(packet.pts, packet.time_base) - origin_us
                yield f"subtitle {count}", time_us / 1e6, " ".join(words)
        except av.FFmpegError as exc:
            raise RecordingError(
                f"{path.name}: stream {stream.index} cannot be decoded after {count} subtitles "
                f"({exc.strerror}); extract it to a .srt file"
            ) from exc


def _text_stream(
    container: av.container.InputContainer, path: Path, stream_index: int | None
) -> SubtitleStream:
    tracks = [s for s in container.streams.subtitles if s.codec_context.name in TEXT_CODECS]
    chosen = [s for s in tracks if stream_index in (None, s.index)]
    if not chosen:
        what = "text track" if stream_index is None else f"text track at stream {stream_index}"
        raise RecordingError(
            f"{path.name}: holds no {what}, only {describe_streams(container)}; write the "
            "narrations to a .csv, .srt or .vtt file"
        )
    if len(chosen) > 1:
        others = ", ".join(str(stream.index) for stream in chosen[1:])
        _LOG.info("%s: read subtitles of stream %d, not %s", path.name, chosen[0].index, others)
    return chosen[0]


def _dialogue(subtitle: AssSubtitle) -> str:
    """The words of a decoded subtitle (libav gives all text as ASS events)."""
    text = subtitle.dialogue.decode("utf-8", "replace")
    return _MARKUP.sub("", re.sub(r"\\[Nnh]", " ", text))
