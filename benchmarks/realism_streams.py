"""Event streams to compare: real recordings, and what the emulator makes of videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from upsampling_scenes import TRUE_RATE_HZ, shoot

from egotriad.converters.dvs import DvsConfig, DvsEmulator
from egotriad.converters.event_files import open_events
from egotriad.converters.event_grids import count_image
from egotriad.converters.event_noise import hot_pixels
from egotriad.converters.interpolate import UpsampleConfig, Upsampler
from egotriad.converters.video import read_frames
from egotriad.manifests import Events
from egotriad.manifests.events import concatenate

WARM_US = 500_000
"""What a simulated stream begins with and is not looked at: pixels start from no history."""

Size = tuple[int, int]
VGA, QVGA = (640, 480), (320, 240)
DSEC = "dsec_events/interlaken_00_d"
RECORDINGS: dict[str, tuple[tuple[str, ...], Size | None]] = {
    "DSEC": (tuple(f"{DSEC}/{name}.npy" for name in ("000074", "000079", "000099")), VGA),
    "DVXplorer": (("dvxplorer_imu/sample.aedat4",), None),
    "EventGPT sample": (("dsec_events/eventgpt_sample1.npy",), VGA),
    "Prophesee": (("prophesee_evt2/evt2.raw",), VGA),
}


REAL = "real"
STEADY = "DVXplorer without hot pixels"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stream:
    """Events of one camera.

    Attributes:
        name: of the recording, or of the video.
        arm: how they were made; `real` when they were not.
        parts: stretches of events, each from time 0.
        from_us: where in each part looking begins.
        frame_rate_hz: of the video; None for a real camera.
    """

    name: str
    arm: str
    parts: list[Events]
    from_us: int = 0
    frame_rate_hz: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Video:
    """Frames (n, H, W) at t_us, from 0."""

    name: str
    luma: NDArray[np.uint8]
    t_us: NDArray[np.int64]

    @property
    def rate_hz(self) -> float:
        """Frames per second, on average."""
        return float((len(self.t_us) - 1) / self.t_us[-1] * 1e6)


def recordings(shared: Path) -> Iterator[Stream]:
    """The real ones."""
    for name, (files, size_wh) in RECORDINGS.items():
        parts = []
        for file in files:
            reader = open_events(shared / "real" / file, size_wh=size_wh)
            events = concatenate(list(reader.chunks()), reader.size_wh)
            parts.append(events.shifted(-int(events.t_us.min())).canonical())
        yield Stream(name=name, arm=REAL, parts=parts)
        if name == "DVXplorer":
            yield Stream(name=STEADY, arm=REAL, parts=[without_hot_pixels(parts[0])])


def without_hot_pixels(events: Events) -> Events:
    """The others' events."""
    hot = hot_pixels(count_image(events).sum(axis=0, dtype=np.int32))
    return events.take(~hot[events.y, events.x])


def videos(shared: Path) -> Iterator[Video]:
    """What the emulator is given; the simulated world also at a rate that no camera has."""
    walk = shared / "real/gopro_max_walk/max-heromode.mp4"
    yield clip("GoPro walk 640x480", walk, VGA, 3.0, 5.5)
    yield clip("GoPro walk 320x240", walk, QVGA, 3.0, 5.5)
    nasa = shared / "real/nasa_webb_subtitles/nasa_13013.mp4"
    yield clip("NASA hall 320x240", nasa, QVGA, 8.3, 11.3)
    luma, t_us = shoot("walk", 1.9)
    yield Video(name="simulated walk 346x260", luma=luma[::32], t_us=t_us[::32])
    yield Video(name=f"simulated walk at {TRUE_RATE_HZ} Hz", luma=luma, t_us=t_us)


def still_videos(shared: Path) -> Iterator[Video]:
    """Nothing moves: one frame held, and a still picture as a codec keeps it."""
    walk = clip("", shared / "real/gopro_max_walk/max-heromode.mp4", QVGA, 3.0, 5.5)
    held = np.broadcast_to(walk.luma[0], walk.luma.shape)
    yield Video(name="one frame held", luma=held, t_us=walk.t_us)
    nasa = shared / "real/nasa_webb_subtitles/nasa_13013.mp4"
    yield clip("still picture, H.264", nasa, QVGA, 1.0, 4.5)


def clip(name: str, path: Path, size_wh: Size, start_s: float, end_s: float) -> Video:
    """A stretch of a video file."""
    chunks = list(read_frames(path, size_wh=size_wh))
    t_us = np.concatenate([chunk.t_us for chunk in chunks])
    chosen = (t_us >= start_s * 1e6) & (t_us < end_s * 1e6)
    luma = np.concatenate([chunk.luma for chunk in chunks])[chosen]
    return Video(name=name, luma=luma, t_us=t_us[chosen] - t_us[chosen][0])


def upsampled(video: Video) -> Video:
    """The video with frames put between its own, as upsampling does by default."""
    upsampler = Upsampler(UpsampleConfig(), video.luma.shape[:0:-1])
    chunks = list(upsampler.feed(video.luma, video.t_us))
    luma = np.concatenate([chunk.luma for chunk in chunks])
    return Video(name=video.name, luma=luma, t_us=np.concatenate([c.t_us for c in chunks]))


def emulated(video: Video, arm: str, config: DvsConfig, frame_rate_hz: float) -> Stream:
    """Events of a video."""
    emulator = DvsEmulator(config, video.luma.shape[:0:-1], recording=video.name)
    events = emulator.feed(np.ascontiguousarray(video.luma), video.t_us)
    return Stream(
        name=video.name, arm=arm, parts=[events], from_us=WARM_US, frame_rate_hz=frame_rate_hz
    )
