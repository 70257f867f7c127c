import json
from pathlib import Path
from typing import Any

import pytest

from egotriad.manifests.errors import RecordingError
from egotriad.pipelines.ego4d_metadata import Component, Ego4dMetadata, read_metadata
from egotriad.pipelines.ego4d_splits import decide_splits


def video(uid: str, **more: Any) -> dict[str, Any]:
    return {"video_uid": uid, "duration_sec": 10.0} | more


def read(tmp_path: Path, *videos: dict[str, Any], **more: Any) -> Ego4dMetadata:
    path = tmp_path / "ego4d.json"
    path.write_text(json.dumps({"version": "v2.1", "videos": list(videos)} | more))
    return read_metadata(path)


def test_a_full_entry_is_read_in_microseconds_of_the_canonical_clock(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        video(
            "a",
            duration_sec=12.5,
            scenarios=["Cooking\n", " Walking  on street"],
            device="GoPro Hero Black 7",
            fb_participant_id=31,
            has_imu=True,
            split_em="train",
            split_fho="multi",
            split_av=None,
            video_source="minnesota",
            video_metadata={"num_frames": 375, "fps": 30.0, "audio_start_sec": None},
            video_components=[
                {
                    "component_idx": 1,
                    "canonical_video_start_sec": 6.25,
                    "canonical_video_end_sec": 12.5,
                },
                {
                    "component_idx": 0,
                    "canonical_video_start_sec": 0,
                    "canonical_video_end_sec": 6.25,
                },
            ],
            imu_metadata={
                "s3_path": "s3://x/y",
                "component_metadata": [
                    {"canonical_video_start_ms": 4.9751, "canonical_video_end_ms": 6240.0}
                ],
            },
            redacted_intervals=[{"start_sec": 3.0, "end_sec": 4.5, "start_frame": 90}],
            group_video_uids=["a", "b"],
            something_new={"deep": [1, 2]},
        ),
        video("b"),
        clips=[{"clip_uid": "c", "video_uid": "a"}],
        concurrent_video_sets=[
            {"valid": True, "videos": [{"video_uid": "a"}, {"video_uid": "d"}]},
            {"valid": False, "videos": [{"video_uid": "a"}, {"video_uid": "e"}]},
        ],
    )
    assert found.version == "v2.1"
    assert list(found.videos) == ["a", "b"]
    a = found.videos["a"]
    assert (a.duration_us, a.frames, a.source) == (12_500_000, 375, "minnesota")
    assert (a.device, a.participant, a.has_imu) == ("GoPro Hero Black 7", 31, True)
    assert a.scenarios == ("Cooking", "Walking on street")
    assert a.splits == {"em": "train", "fho": "multi"}
    assert a.components == (
        Component(index=0, start_us=0, end_us=6_250_000),
        Component(index=1, start_us=6_250_000, end_us=12_500_000),
    )
    assert a.imu_us == ((4_975, 6_240_000),)
    assert a.redacted_us == ((3_000_000, 4_500_000),)
    assert a.companions == {"b", "d"}


def test_nulls_and_missing_keys_stay_unknown(tmp_path: Path) -> None:
    everything = (
        *("duration_sec", "scenarios", "device", "fb_participant_id", "has_imu", "video_source"),
        *("video_metadata", "video_components", "imu_metadata", "redacted_intervals"),
        *("group_video_uids", "split_em"),
    )
    found = read(tmp_path, {"video_uid": "a"} | dict.fromkeys(everything), {"video_uid": "b"})
    for uid in "ab":
        entry = found.videos[uid]
        assert (entry.duration_us, entry.frames, entry.source) == (0, None, "")
        assert (entry.device, entry.participant, entry.has_imu) == (None, None, False)
        assert entry.scenarios == entry.components == entry.imu_us == entry.redacted_us == ()
        assert entry.splits == {}
        assert entry.companions == frozenset()


def test_a_length_that_is_null_is_taken_from_the_video_stream(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        video("a", duration_sec=None, video_metadata={"video_duration_sec": 7.0}),
        video("b", duration_sec=-1, video_metadata={"mp4_duration_sec": 8.0}),
    )
    assert [found.videos[uid].duration_us for uid in "ab"] == [7_000_000, 8_000_000]


def test_repeated_and_nameless_videos_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, video("a"), video("a", duration_sec=3.0), video(""))
    assert found.videos["a"].duration_us == 10_000_000
    assert found.damaged == {
        "a": "ego4d.json lists it twice",
        "(no uid)": "ego4d.json has a video without video_uid",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "got a JSON list, need an object"),
        ('{"date": "x", "takes": []}', "top-level keys date, takes; need 'videos'"),
        ('{"videos": [{"video_uid": "a"', "not JSON .* download it again"),
        ("", "got a JSON"),
    ],
)
def test_another_file_is_refused_with_what_it_holds(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "ego4d.json").write_text(text)
    with pytest.raises(RecordingError, match=f"{message}|not JSON"):
        read_metadata(tmp_path / "ego4d.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"ego4d\.json: no such file"):
        read_metadata(tmp_path / "ego4d.json")


def test_one_wearers_videos_share_the_strictest_split_of_any_benchmark(tmp_path: Path) -> None:
    found = decide_splits(
        read(
            tmp_path,
            video("a", fb_participant_id=1, split_em="train"),
            video("b", fb_participant_id=1, split_av="val"),
            video("c", fb_participant_id=2, split_em="train", split_fho="multi"),
            video("d", fb_participant_id=3),
            video("e", split_goalstep="train"),
            video("f", fb_participant_id=4, split_em="validation"),
        )
    )
    assert found.official == {
        "a": "validation",
        "b": "validation",
        "c": "test",
        "d": None,
        "e": "train",
        "f": "validation",
    }
    assert found.groups["a"] == found.groups["b"]
    assert len(set(found.groups.values())) == 5


def test_wearers_filmed_together_form_one_group_whatever_the_order(tmp_path: Path) -> None:
    videos = [
        video("a", fb_participant_id=1),
        video("b", fb_participant_id=2),
        video("c", fb_participant_id=2, split_em="test"),
        video("d", fb_participant_id=3),
        video("e", fb_participant_id=9),
        video("x", group_video_uids=["d", "nowhere"]),
    ]
    sets = [{"videos": [{"video_uid": "a"}, {"video_uid": "b"}]}]
    found = decide_splits(read(tmp_path, *videos, concurrent_video_sets=sets))
    again = decide_splits(read(tmp_path, *reversed(videos), concurrent_video_sets=sets))
    assert found.groups == again.groups
    assert found.groups["a"] == found.groups["b"] == found.groups["c"]
    assert found.groups["d"] == found.groups["x"] != found.groups["a"]
    assert found.official["a"] == "test"
    assert found.official["x"] is None
