"""Videos of events: exposure, colours, size, files that are whole or not there."""

from pathlib import Path

import av
import numpy as np
import pytest

from egotriad.converters.event_video import PALETTE, event_video
from egotriad.manifests import Events
from egotriad.manifests.errors import UsageError


def events_at(t_us: list[int], x: list[int], p: list[int], size_wh: tuple[int, int]) -> Events:
    return Events(
        t_us=np.array(t_us, np.int64),
        x=np.array(x, np.uint16),
        y=np.full(len(x), 3, np.uint16),
        p=np.array(p, np.bool_),
        size_wh=size_wh,
    )


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 30
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def shown(frame: np.ndarray, x: int, enlarge: int) -> int:
    """Which colour of the palette a sensor pixel of row 3 is nearest to."""
    centre = enlarge * 3 + enlarge // 2, enlarge * x + enlarge // 2
    return int(np.abs(PALETTE.astype(int) - frame[centre]).sum(axis=1).argmin())


def test_a_frame_shows_the_last_event_of_each_pixel_in_its_own_time(tmp_path: Path):
    size_wh = (64, 48)
    with event_video(tmp_path / "a.mp4", size_wh) as show:
        # The first frame ends 33,333 us after the first event; the third has none.
        show(events_at([1_000_000, 1_000_005, 1_033_333], [10, 10, 20], [1, 0, 1], size_wh))
        show(Events.empty(size_wh))
        show(events_at([1_033_334, 1_100_000], [30, 40], [0, 1], size_wh))
    frames = frames_of(tmp_path / "a.mp4")
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 4
    colours = [[shown(frame, x, 10) for x in (10, 20, 30, 40)] for frame in frames]
    assert colours == [[1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 2]]


def test_odd_sensors_are_shown_and_no_events_are_one_dark_frame(tmp_path: Path):
    with event_video(tmp_path / "a.mp4", (641, 7)):
        pass
    (frame,) = frames_of(tmp_path / "a.mp4")
    assert frame.shape == (8, 642, 3)
    assert np.abs(frame.astype(int) - PALETTE[0]).max() < 6


def test_an_error_leaves_no_video(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), event_video(tmp_path / "a.mp4", (64, 48)):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_pause_of_days_and_another_suffix_are_refused(tmp_path: Path):
    events = events_at([0, 86_400_000_000], [1, 1], [1, 1], (64, 48))
    with (
        pytest.raises(UsageError, match="the events pause for 86400 s, need 3600 s"),
        event_video(tmp_path / "a.mp4", (64, 48)) as show,
    ):
        show(events)
    with pytest.raises(UsageError, match=r"a\.avi at 30 frames/s, need a name that ends in \.mp4"):
        event_video(tmp_path / "a.avi", (64, 48)).__enter__()
    assert not list(tmp_path.iterdir())
