from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.gpmf import read_gopro_imu
from egotriad.converters.gpmf_blocks import BlockTime
from egotriad.converters.gpmf_chapters import (
    chapter_starts_us,
    check_chapter_clocks,
    check_chapter_names,
    group_chapters,
    read_chapter_frames,
)
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.fake_gopro import write_fake_gopro

CHAPTER_US = 6_006_000


@pytest.fixture(scope="module")
def chapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("chapters")
    return [write_fake_gopro(folder, chapter=number)[0] for number in (1, 2, 3)]


def test_files_are_grouped_by_the_cameras_names():
    names = ["GX010012.MP4", "b.mp4", "GX020012.mp4", "gx010013.mp4", "GH010012.MP4"]
    old = ["GOPR0007.MP4", "GP020007.MP4", "GP010007.MP4", "GX020012.mp4"]
    groups = group_chapters(Path("x") / name for name in names + old)
    assert [[path.name for path in group] for group in groups] == [
        ["GX010012.MP4", "GX020012.mp4"],
        ["b.mp4"],
        ["gx010013.mp4"],
        ["GH010012.MP4"],
        ["GOPR0007.MP4", "GP010007.MP4", "GP020007.MP4"],
        ["GX020012.mp4"],
    ]
    assert len(group_chapters([Path("a/GX010001.mp4"), Path("b/GX020001.mp4")])) == 2


def test_a_missing_chapter_is_noticed():
    check_chapter_names([Path("GX020012.mp4"), Path("GX030012.mp4")])
    with pytest.raises(RecordingError, match=r"GX030012.mp4: does not follow GX010012.mp4"):
        check_chapter_names([Path("GX010012.mp4"), Path("GX030012.mp4")])


def test_chapters_are_one_imu_without_a_seam(chapters: list[Path]):
    track = read_gopro_imu(*chapters)
    assert track.rate_hz == pytest.approx(197.45, abs=1e-4)
    assert track.accel.t_us[0] == -5046
    assert np.abs(np.diff(track.accel.t_us) - 1e6 / 197.45).max() < 2
    number = np.arange(len(track.accel))
    walk = 9.81 + 2.0 * np.sin(2 * np.pi * 2.0 * number / 197.45)
    assert np.abs(track.accel.values[2] - walk).max() < 0.01
    assert track.accel.t_us[-1] == pytest.approx(3 * CHAPTER_US - 5046, abs=6000)


def test_a_later_chapter_alone_begins_at_its_own_first_frame(chapters: list[Path]):
    whole, second = read_gopro_imu(*chapters), read_gopro_imu(chapters[1])
    start = np.flatnonzero(whole.accel.values[2] == second.accel.values[2, 0])
    assert second.accel.t_us[0] in whole.accel.t_us[start] - CHAPTER_US


def test_frames_run_on_through_the_chapters(chapters: list[Path]):
    assert chapter_starts_us(chapters) == [0, CHAPTER_US, 2 * CHAPTER_US, 3 * CHAPTER_US]
    chunks = list(read_chapter_frames(chapters, size_wh=(32, 24), chunk_frames=50))
    t_us = np.concatenate([chunk.t_us for chunk in chunks])
    assert len(t_us) == 3 * 180
    assert np.abs(np.diff(t_us) - 33_366.67).max() < 1
    assert {chunk.luma.shape[1:] for chunk in chunks} == {(24, 32)}


def test_chapters_of_different_recordings_are_refused(chapters: list[Path]):
    with pytest.raises(RecordingError, match=r"GX030001.mp4: .* puts this chapter \+6.006 s from"):
        read_gopro_imu(chapters[0], chapters[2])


def test_a_clock_that_begins_anew_with_a_chapter_is_tied_to_the_container(chapters: list[Path]):
    """The camera was switched off in between: nothing to check, and nothing to complain of."""
    track = read_gopro_imu(chapters[1], chapters[0])
    step = np.diff(track.accel.t_us)
    assert step.min() > 0
    assert step.max() < 2 * 1e6 / 197.45
    assert "2 runs" in track.notes["imu_fit"]


def test_clocks_without_stamps_prove_nothing():
    exposure = BlockTime(payload_us=0, stamp_us=None, tick_us=None, count=30, total=None)
    check_chapter_clocks([Path("a"), Path("b")], [0, 100], [exposure])


def test_a_bare_file_is_no_chapter(
    tmp_path: Path, chapters: list[Path], shared: Callable[[str], Path]
):
    bare = shared("real/gopro_max_walk/gpmf_payloads/hero11.raw")
    with pytest.raises(RecordingError, match=r"hero11.raw: a bare GPMF file has no place among"):
        read_gopro_imu(chapters[0], bare)
