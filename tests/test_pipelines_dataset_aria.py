import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egotriad.converters.aria_speech import read_speech
from egotriad.converters.imu import resample
from egotriad.manifests import Unreadable
from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_aria import DATASET, AriaOptions
from egotriad.pipelines.plan import BuildConfig

pytest.importorskip("projectaria_tools", reason="needs projectaria-tools (egotriad[aria])")


@pytest.fixture
def options(tmp_path: Path) -> AriaOptions:
    return DATASET.fake(tmp_path / "raw")


def test_the_fake_is_one_recording_on_one_hardware_clock(tmp_path: Path, options: AriaOptions):
    (recording,) = DATASET.recordings(tmp_path, options)
    assert recording.recording_id == "loc1_script2_seq3_rec4"
    assert recording.duration_us == 6_000_000
    assert recording.align.status == "hardware"
    assert [file.name for file in recording.files] == [
        "recording.vrs",
        "speech.csv",
        "metadata.json",
    ]
    assert [(n.t_us, n.text) for n in recording.narrations] == [
        (1_400_000, "i walk forward"),
        (4_000_000, "looking around"),
    ]
    assert (recording.text_source, recording.imu_kind) == ("model", "head_acc_gyro")
    copy = pickle.loads(pickle.dumps(recording))
    imu = resample(copy.read_imu(), t_start_us=0, duration_us=5_000_000, rate_hz=200.0)
    assert imu.valid.all()
    walk = -9.81 + 2.0 * np.sin(2 * np.pi * 2.0 * np.arange(1000) / 200)
    assert np.abs(imu.data[0] - walk).max() < 0.01
    assert sum(len(chunk.t_us) for chunk in copy.read_video(size_wh=(32, 24), fit="crop")) == 120


def test_either_imu_gives_the_same_motion(tmp_path: Path, options: AriaOptions):
    sampled = []
    for label in ("imu-right", "imu-left"):
        (recording,) = DATASET.recordings(tmp_path, replace(options, imu=label))
        track = recording.read_imu()
        sampled.append(resample(track, t_start_us=0, duration_us=5_000_000, rate_hz=200.0).data)
    assert np.abs(sampled[0] - sampled[1]).max() < 0.01


def test_recordings_of_a_scene_share_a_split_unless_the_wearer_is_known(
    tmp_path: Path, options: AriaOptions
):
    (known,) = DATASET.recordings(tmp_path, options)
    (unknown,) = DATASET.recordings(tmp_path, replace(options, wearer=None))
    assert (known.wearer, known.split_group) == ("fake", "")
    assert unknown.split_group == "loc1_script2_seq3"


def test_the_fake_builds_and_is_written_the_same_every_time(tmp_path: Path, options: AriaOptions):
    config = BuildConfig(sensor="32x24", window_s=2.0)
    report = build(DATASET, options, config, raw=tmp_path, out=tmp_path / "out", workers=1)
    assert (report.clips, report.failed) == (3, {})
    assert report.events > 0
    again = DATASET.fake(tmp_path / "again").input[0]
    assert again.read_bytes() == options.input[0].read_bytes()


def test_bad_input_is_named_and_does_not_stop_the_rest(tmp_path: Path, options: AriaOptions):
    good = options.input[0]
    cut = tmp_path / "in" / "cut.vrs"
    cut.parent.mkdir()
    cut.write_bytes(good.read_bytes()[:-100])
    shutil.copytree(good.parent, cut.parent / "b c")
    (cut.parent / "b c" / "metadata.json").write_text(json.dumps({"location": 1}))
    shutil.copy(good, cut.parent / "plain.VRS")
    found = DATASET.recordings(tmp_path, replace(options, input=(cut.parent,), wearer=None))
    assert [r.recording_id for r in found] == ["b-c", "cut", "plain"]
    assert isinstance(found[0], Unreadable)
    assert "metadata.json: need location, script and sequence" in found[0].message
    assert isinstance(found[1], Unreadable)
    assert "cut.vrs: the file is cut off" in found[1].message
    assert (found[2].narrations, found[2].text_source) == ((), "none")
    with pytest.raises(UsageError, match="name VRS files or folders with --input"):
        DATASET.recordings(tmp_path, AriaOptions())
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match="no VRS file in this folder"):
        DATASET.recordings(tmp_path, AriaOptions(input=(tmp_path / "empty",)))
    (missing,) = DATASET.recordings(tmp_path, AriaOptions(input=(tmp_path / "none.vrs",)))
    assert "no such file" in missing.message


HEADING = "startTime_ns,endTime_ns,written,confidence\n"


def test_words_become_utterances(tmp_path: Path):
    path = tmp_path / "speech.csv"
    rows = [
        (5_000_000_600, 5_400_000_000, "so", 0.9),
        (9_000_000_000, 9_100_000_000, "there", 0.9),
        (5_500_000_000, 5_900_000_000, "i", 0.9),
        (6_000_000_000, 6_100_000_000, "mumble", 0.1),
        (6_800_000_000, 7_000_000_000, "walk", 0.9),
    ]
    path.write_text(HEADING + "".join(f"{','.join(map(str, row))}\n" for row in rows), "utf-8")
    said = read_speech(path, origin_ns=4_000_000_000)
    assert [(n.t_us, n.text) for n in said] == [(1_000_001, "so i walk"), (5_000_000, "there")]
    everything = read_speech(path, origin_ns=0, least_confidence=0.0)
    assert everything[0].text == "so i mumble walk"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "has no column confidence, endTime_ns, startTime_ns, written"),
        (HEADING + "1,2,a,0.9\nx,2,a,0.9\n", "line 3: no spoken word"),
        (HEADING + "5,2,a,0.9\n", "line 2: no spoken word .5 to 2 ns"),
        (HEADING + "1,2,a,nan\n", "line 2: no spoken word"),
        (HEADING + "1,2\n", "line 2: no spoken word"),
    ],
)
def test_a_bad_table_of_words_names_its_line(tmp_path: Path, content: str, message: str):
    path = tmp_path / "speech.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(RecordingError, match=message):
        read_speech(path, origin_ns=0)


def test_the_real_clip_is_a_recording_without_words(tmp_path: Path, shared: Callable[[str], Path]):
    path = shared("real/aria_aea_clip/recording.vrs")
    (recording,) = DATASET.recordings(tmp_path, AriaOptions(input=(path,)))
    assert recording.recording_id == "aria_aea_clip"
    assert recording.duration_us == 349_968 + 49_996, (
        "the last frame is shown as long as the median one"
    )
    assert recording.split_group == "loc1_script1_seq1"
    # Its speech.csv is of the whole recording: not one of its words lies in this excerpt.
    assert read_speech(path.with_name("speech.csv"), origin_ns=86_385_246_037)
    assert recording.narrations == ()
    config = BuildConfig(sensor="32x24", window_s=0.3)
    options = AriaOptions(input=(path,))
    report = build(DATASET, options, config, raw=tmp_path, out=tmp_path / "out", workers=1)
    assert report.clips == 1
