"""Synchronisation of recordings: which frames and which IMU are compared, and what follows.

Of a long video a quarter is read (two minutes at least), in blocks spread over it: with one clock
segment that is all an offset and a drift need. Where the IMU's clock steps back, everything is
read, so that each segment is seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from egotriad.converters.sync import SyncConfig, synchronise
from egotriad.converters.sync_gyro import cut
from egotriad.converters.sync_report import SyncReport
from egotriad.converters.video import FrameChunk, TimedFrame, probe
from egotriad.converters.video_blocks import FrameTap, block_starts, read_small_frames
from egotriad.converters.video_rotation import SMALL_WIDTH, RotationMeter, camera_rotation
from egotriad.converters.vrs import read_vrs_frames
from egotriad.manifests import Alignment, ImuTrack, Recording
from egotriad.manifests.errors import RecordingError

__all__ = ["SyncWatch", "aligned", "frames_to_compare", "sync_recording"]

BLOCK_US = 20_000_000
VIDEO_SHARE = 0.25
LEAST_VIDEO_US = 120_000_000


def sync_recording(
    recording: Recording, track: ImuTrack, config: SyncConfig | None = None
) -> SyncReport:
    """Compares the IMU of a recording, which has been read, with its video; nothing is written.

    Raises:
        RecordingError: the recording has no video, or it cannot be read.
    """
    if recording.read_video is not None:
        chunks = recording.read_video(size_wh=None, fit="stretch")
    elif recording.video_path is not None:
        chunks = frames_to_compare(recording.video_path, track)
    else:
        raise RecordingError("has no video to compare its IMU with")
    return synchronise(camera_rotation(chunks), track, config)


class SyncWatch:
    """Synchronises on a pass over the video that is made anyway, with the result of its own pass.

    Args:
        path: a video that PyAV opens.
        track: the recording's IMU.

    Raises:
        RecordingError: the video cannot be opened, or does not say how long it is.
    """

    def __init__(self, path: Path, track: ImuTrack) -> None:
        self._track = track
        self._meter = RotationMeter()
        self._tap = FrameTap(
            path,
            self._meter.add,
            width=SMALL_WIDTH,
            starts=_starts(path, track),
            block_us=BLOCK_US,
        )

    def through(self, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
        """Lets the frames of the pass through, for `video.read_frames`."""
        return self._tap.through(frames)

    def report(self, config: SyncConfig | None = None) -> SyncReport:
        """The verdict, once the pass is over; what it has not come to is read here.

        Raises:
            RecordingError: no two frames can be compared.
        """
        self._tap.finish()
        return synchronise(self._meter.rotation(), self._track, config)


def aligned(alignment: Alignment, report: SyncReport) -> Alignment:
    """How an IMU's clock was brought onto the video's, after synchronisation.

    `corrected`: estimated, with what was applied (of several clock segments, the longest one's).
    `ok`: what was only assumed is now estimated, with nothing applied. `suspect`: unverified.
    `cannot tell`: as it was.
    """
    if report.verdict == "cannot tell":
        return alignment
    if report.verdict == "suspect":
        return replace(alignment, status="unverified", score=report.correlation)
    if report.verdict == "ok":
        known = alignment.status in ("hardware", "provided")
        status = alignment.status if known else "estimated"
        return replace(alignment, status=status, score=report.correlation)
    longest = max(report.segments, key=lambda segment: segment.end_us - segment.start_us)
    return Alignment(
        status="estimated",
        offset_us=round(longest.offset_us),
        drift_ppm=report.drift_ppm,
        score=report.correlation,
    )


def frames_to_compare(path: Path, track: ImuTrack) -> Iterator[FrameChunk]:
    """The frames of a video that an IMU is compared with, grey, in time order.

    Args:
        path: mp4 and the like, or an Aria VRS file.
        track: the IMU; where its clock steps back all frames are needed.

    Raises:
        RecordingError: the video cannot be read.
    """
    if path.suffix.lower() == ".vrs":
        return read_vrs_frames(path)
    starts = _starts(path, track)
    return read_small_frames(path, width=SMALL_WIDTH, starts=starts, block_us=BLOCK_US)


def _starts(path: Path, track: ImuTrack) -> Sequence[int] | None:
    """Where the blocks begin that are compared; None for the whole video."""
    if len(cut(track.gyro)) > 1:
        return None
    return block_starts(
        probe(path).duration_us, block_us=BLOCK_US, share=VIDEO_SHARE, least_us=LEAST_VIDEO_US
    )
