"""Windows from the command line's settings to a shard and back to the recording."""

import functools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from egotriad.converters.imu import resample
from egotriad.converters.narration_passes import choose_narrations
from egotriad.converters.window_policy import WindowPolicy
from egotriad.converters.windows import plan_windows
from egotriad.manifests import Alignment, Clip, ImuTrack, Narration, Recording, SensorStream
from egotriad.manifests.errors import UsageError
from egotriad.manifests.shards import read_shards
from egotriad.pipelines.build import build
from egotriad.pipelines.cli import build_shards
from egotriad.pipelines.plan import BuildConfig, plan_recording

SECONDS = 40.0


def swaying_imu() -> ImuTrack:
    t_us = np.round(np.arange(SECONDS * 197.45) / 197.45 * 1e6).astype(np.int64)
    phase = 2 * np.pi * np.arange(1, 7)[:, None] * t_us / 7e6
    values = np.sin(phase)
    return ImuTrack(
        accel=SensorStream(t_us, values[:3]),
        gyro=SensorStream(t_us, values[3:]),
        rate_hz=197.45,
        notes={},
    )


def told(t_s: float, text: str, author: str, **more: Any) -> Narration:
    return Narration(t_us=round(t_s * 1e6), text=text, annotation_pass=author, **more)


NARRATIONS = (
    told(24.2, "C opens the door", "narration_pass_1", subject="wearer"),
    told(5.013, "C picks a knife", "narration_pass_1", subject="wearer"),
    told(6.1, "C takes the knife", "narration_pass_2", subject="wearer"),
    told(7.9, "C cuts something", "narration_pass_2", subject="wearer", unsure=True),
    told(15.8, "C washes a cup", "narration_pass_1", subject="wearer"),
    told(16.9, "man X walks", "narration_pass_2", subject="other"),
    told(99.0, "C leaves", "narration_pass_2"),
)

RECORDING = Recording(
    source="made",
    source_version="1",
    recording_id="sway",
    wearer=None,
    video_path=None,
    read_imu=swaying_imu,
    narrations=NARRATIONS,
    duration_us=round(SECONDS * 1e6),
    license_id="own",
    imu_kind="synthetic",
    text_source="human",
    align=Alignment(status="assumed"),
)


class Made:
    """A dataset of the one recording."""

    name: ClassVar[str] = "made"
    licence_id: ClassVar[str] = "own"
    build_defaults: ClassVar[dict[str, Any]] = {}
    Options: ClassVar[type] = dict

    def download(self, raw: Path, options: Any) -> None:
        pass

    def recordings(self, raw: Path, options: Any) -> Iterator[Recording]:
        yield RECORDING

    def fake(self, raw: Path) -> Any:
        return {}


def built(config: BuildConfig, tmp_path: Path) -> list[Clip]:
    build(Made(), {}, config, raw=tmp_path, out=tmp_path / "out", workers=1)
    return list(read_shards(tmp_path / "out"))


configured = functools.partial(BuildConfig, events=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"windows": "grid", "window_s": 3.0, "stride_s": 1.7},
        {"windows": "point", "window_s": 4.321},
        {"windows": "until-next", "cap_s": 6.0, "unsure": "replace"},
        {"windows": "adaptive", "window_s": 9.0, "alpha_s": 2.0, "subject": "wearer"},
        {"windows": "adaptive", "imu_rate_hz": 60.0},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_a_window_can_be_cut_again_from_its_row(settings: dict[str, Any], tmp_path: Path) -> None:
    config = configured(**settings)
    clips = built(config, tmp_path)
    policy = WindowPolicy.parse(clips[0].window_policy)
    texts, _ = choose_narrations(
        NARRATIONS, RECORDING.duration_us, wearer_only=config.subject == "wearer"
    )
    again = plan_windows(policy, RECORDING.duration_us, texts).windows
    assert len(clips) == len(again) > 1
    for clip, window in zip(clips, again, strict=True):
        assert (clip.t_start_us, clip.duration_us) == (window.t_start_us, window.duration_us)
        assert [n.t_us + clip.t_start_us for n in clip.narrations] == [
            n.t_us for n in window.narrations
        ]
        assert [n.group for n in clip.narrations] == [n.group for n in window.narrations]
        assert (clip.anchor, clip.other_actions) == (window.anchor_index, window.other_actions)
        assert clip.narration == (window.anchor.text if window.anchor else None)
        imu = resample(
            swaying_imu(),
            t_start_us=clip.t_start_us,
            duration_us=clip.duration_us,
            rate_hz=config.imu_rate_hz,
        )
        assert clip.imu.same_as(imu)
        samples = clip.duration_us * config.imu_rate_hz / 1e6
        assert clip.imu.data.shape[1] == pytest.approx(samples, abs=1e-4)


def test_rows_tell_their_anchor_and_whether_they_are_ambiguous(tmp_path: Path) -> None:
    clips = built(configured(windows="point", window_s=4.0), tmp_path)
    assert [(c.narration, c.anchor, c.other_actions, c.ambiguous) for c in clips] == [
        ("C picks a knife", 0, 0, False),
        ("C washes a cup", 0, 1, True),
        ("man X walks", 1, 1, True),
        ("C opens the door", 0, 0, False),
    ]
    assert [(n.text, n.group) for n in clips[0].narrations] == [
        ("C picks a knife", 0),
        ("C takes the knife", 0),
    ]
    assert [n.subject for n in clips[1].narrations] == ["wearer", "other"]


def test_what_was_done_to_the_narrations_is_in_the_provenance(tmp_path: Path) -> None:
    built(configured(windows="point", window_s=4.0, subject="wearer"), tmp_path)
    (entry,) = json.loads((tmp_path / "out" / "provenance.json").read_text())["recordings"]
    assert entry["notes"] == {
        "narrations_after_end": "1",
        "narrations_other_person": "1",
    }
    card = (tmp_path / "out" / "README.md").read_text()
    assert "4 s long, centred on a narration" in card
    assert "No window is about a narration that its annotator marked as `unsure`" in card
    assert "marked as about another person are left out" in card


def test_windows_shorter_than_their_event_spans_are_reported_not_built() -> None:
    config = BuildConfig(windows="until-next", event_spans="0.1s x12")
    plan = plan_recording(RECORDING, config)
    assert [(r.reason, r.window.t_start_us) for r in plan.rejected] == [("too-short", 15_800_000)]
    assert len(plan.windows) == 3


def test_a_length_that_is_no_whole_number_of_samples_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        clips = built(configured(windows="point", window_s=4.321), tmp_path)
    assert {clip.duration_us for clip in clips} == {4_320_000}
    assert "windows of 4.321 s become 4.32 s: 864 whole IMU samples" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cap_s": 3.0}, "--cap-seconds belongs to --windows until-next and adaptive"),
        ({"windows": "point", "stride_s": 3.0}, "a stride belongs to grid windows only"),
        ({"windows": "point", "alpha_s": 3.0}, "alpha belongs to adaptive windows only"),
        ({"windows": "until-next", "cap_s": 1.0, "event_spans": "0.6s x2"}, "fewer or shorter"),
        ({"window_s": float("nan")}, "got nan s, need a length and a stride above 0 s"),
        ({"stride_s": float("inf")}, "got inf s"),
        ({"window_s": -1.0}, "got -1.0 s"),
        ({"subject": "me"}, "need 'all' or 'wearer'"),
    ],
)
def test_settings_that_do_not_go_together_are_usage_errors(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        BuildConfig(**settings)


def test_flags_spell_their_unit_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert build_shards(["gopro", "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("--window-seconds", "--stride-seconds", "--cap-seconds", "--alpha-seconds"):
        assert flag in shown
    assert "grid, point, until-next" in shown
    words = ["gopro", "--out", "x", "--windows", "point", "--stride-seconds", "2"]
    assert build_shards(words) == 2
    assert "a stride belongs to grid windows only" in capsys.readouterr().err
