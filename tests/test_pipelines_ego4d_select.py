import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from egotriad.manifests.errors import RecordingError, UsageError
from egotriad.pipelines.ego4d_metadata import Ego4dMetadata, Ego4dVideo
from egotriad.pipelines.ego4d_options import Ego4dOptions, read_uids
from egotriad.pipelines.ego4d_select import IMU2CLIP_UNUSABLE, Selection, select
from egotriad.pipelines.ego4d_splits import decide_splits

PLAIN = Ego4dVideo(
    uid="",
    duration_us=3_600_000_000,
    frames=None,
    source="cmu",
    device=None,
    participant=None,
    scenarios=(),
    has_imu=True,
    splits={},
    components=(),
    imu_us=(),
    redacted_us=(),
    companions=frozenset(),
)
VIDEOS = (
    replace(PLAIN, uid="a", scenarios=("Cooking", "Walking on street")),
    replace(PLAIN, uid="b", source="nus", splits={"em": "val"}),
    replace(PLAIN, uid="c", has_imu=False, splits={"em": "train"}),
    replace(PLAIN, uid="d", source="nus", scenarios=("Cooking",), splits={"av": "multi"}),
)
METADATA = Ego4dMetadata(version="v2.1", videos={v.uid: v for v in VIDEOS}, damaged={})


def choose(present: tuple[str, ...] = (), **options: Any) -> Selection:
    return select(
        METADATA,
        decide_splits(METADATA),
        Ego4dOptions(**options),
        present=present,
        narrated=lambda uids: {"a", "b"},
    )


def test_uids_come_by_name_in_the_metadatas_order_and_unknown_ones_are_refused() -> None:
    found = choose(uids=("D", "a", "zz"))
    assert found.uids == ("a", "d")
    assert list(found.refused) == ["zz"]
    assert found.refused["zz"].startswith("unknown-uid: ego4d.json has no video zz")


def test_filters_choose_among_the_whole_release() -> None:
    assert choose(universities=("NUS",)).uids == ("b", "d")
    assert choose(scenarios=("cooking",)).uids == ("a", "d")
    assert choose(scenarios=("cooking",), universities=("cmu",)).uids == ("a",)
    assert choose(has=("imu",)).uids == ("a", "b", "d")
    assert choose(has=("imu,narration",)).uids == ("a", "b")
    assert choose(splits=("validation", "test")).uids == ("b", "d")


def test_a_named_video_that_lacks_what_is_needed_is_refused_under_its_reason() -> None:
    found = choose(uids=("a", "c", "d"), has=("imu", "narration"))
    assert found.uids == ("a",)
    assert found.refused == {
        "c": "no-imu: Ego4D has none of this video",
        "d": "no-narration: Ego4D has none of this video",
    }


def test_without_a_choice_or_without_download_what_is_there_is_meant() -> None:
    assert choose(present=("c", "b")).uids == ("b", "c")
    assert choose(present=("c", "b"), has=("imu",), download=False).uids == ("b",)
    assert list(choose(present=("c", "other")).refused) == ["other"]
    with pytest.raises(UsageError, match=r"nothing is chosen .* nothing of --video video_540ss"):
        choose()


def test_a_larger_limit_of_hours_only_adds_videos() -> None:
    chosen = [set(choose(limit_hours=float(hours)).uids) for hours in range(1, 6)]
    assert [len(uids) for uids in chosen] == [1, 2, 3, 4, 4]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    with pytest.raises(UsageError, match=r"got 0\.5, the first video alone is longer"):
        choose(limit_hours=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenarios": ("Coking",)}, "--scenarios: got 'coking'; did you mean cooking"),
        ({"universities": ("mit",)}, "--universities: got 'mit'; need one of cmu, nus"),
        ({"video": "full-scale"}, "--video: got 'full-scale'; did you mean full_scale"),
        ({"has": ("gaze",)}, "--has: got 'gaze'; need one of imu, narration"),
        ({"release": "v2.1"}, "--release: got 'v2.1'; did you mean v2_1"),
        ({"limit_hours": 0.0}, "--limit-hours: got 0.0, need above 0"),
    ],
)
def test_a_word_that_is_not_known_is_refused_with_the_nearest(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        choose(**options)
    assert message in str(error.value)


def test_lists_of_uids_may_be_text_or_json(tmp_path: Path) -> None:
    (tmp_path / "uids.txt").write_text("A b\n\nc\n")
    (tmp_path / "uids.json").write_text('["d", "a"]')
    words = [str(tmp_path / "uids.txt"), "e", str(tmp_path / "uids.json")]
    assert read_uids(words) == ["a", "b", "c", "e", "d"]
    assert Ego4dOptions(uids=(",".join(words),)).uids == ("a", "b", "c", "e", "d")
    (tmp_path / "uids.json").write_text('{"a": 1}')
    with pytest.raises(RecordingError, match=r"uids\.json: need a JSON list of uids"):
        read_uids(words)


def test_imu2clips_videos_are_its_three_lists_less_the_one_it_leaves_out(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"lacks training_0\.json, validation_0\.json, test_0"):
        choose(imu2clip=tmp_path)
    for name, uids in (
        ("training", ["d", IMU2CLIP_UNUSABLE]),
        ("validation", ["b"]),
        ("test", ["unknown"]),
    ):
        (tmp_path / f"{name}_0.json").write_text(json.dumps(uids))
    assert choose(imu2clip=tmp_path).uids == ("b", "d")
