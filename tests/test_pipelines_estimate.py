"""What a build would come to, from plans alone and from a trial."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egotriad.manifests import Alignment, ImuTrack, Recording, SensorStream, Unreadable
from egotriad.manifests.errors import RecordingError
from egotriad.pipelines import cost as cost_module
from egotriad.pipelines import estimate as estimate_module
from egotriad.pipelines.build import build
from egotriad.pipelines.cli import build_shards
from egotriad.pipelines.cost import Cost, measure_cost, typical_cost
from egotriad.pipelines.dataset_simulated import DATASET
from egotriad.pipelines.estimate import estimate, estimate_lines
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.run_config import Share
from egotriad.pipelines.stock import Stock, take_stock

COST = Cost(
    basis="made up",
    build_cpu_s=0.5,
    pack_cpu_s=0.25,
    part_bytes=1000.0,
    shard_bytes=500.0,
    events=10.0,
)


def blank(name: str, seconds: float) -> Recording:
    return Recording(
        source="made",
        source_version="1",
        recording_id=name,
        wearer=name,
        video_path=None,
        read_imu=None,
        narrations=(),
        duration_us=round(seconds * 1e6),
        license_id="own",
        imu_kind="synthetic",
        text_source="none",
        align=Alignment(status="assumed"),
    )


class Blank:
    """A dataset that nothing can be read from."""

    name = "blank"

    def __init__(self, *recordings: Recording | Unreadable) -> None:
        self._recordings = recordings

    def recordings(self, raw: Path, options: Any) -> Any:
        yield from self._recordings


def stock_of(config: BuildConfig, *recordings: Recording | Unreadable) -> Stock:
    return take_stock(Blank(*recordings), {}, config, raw=Path())


def test_hours_bytes_and_machine_hours_add_up(tmp_path: Path) -> None:
    config = BuildConfig(window_s=10.0)
    bad = Unreadable(recording_id="c", message="c.mp4: is cut off")
    stock = stock_of(config, blank("a", 3605.0), blank("b", 3595.0), bad)
    found = estimate(stock, COST, out=tmp_path / "none" / "out", workers=4, hours=100.0)
    assert (found.recordings, found.windows, found.built) == (2, 360 + 359, 0)
    assert found.unreadable == {"c": "c.mp4: is cut off"}
    assert found.duplication == 1.0
    assert sum(split["windows"] for split in found.splits.values()) == 719
    assert found.left.recorded_hours == pytest.approx(2.0)
    assert found.left.window_hours == pytest.approx(7190 / 3600)
    assert found.left.cpu_hours == pytest.approx((7200 * 0.5 + 7190 * 0.25) / 3600)
    assert found.left.wall_hours == pytest.approx((7200 * 0.5 / 4 + 7190 * 0.25) / 3600)
    assert (found.left.part_bytes, found.left.shard_bytes) == (7_190_000, 3_595_000)
    assert found.asked is not None
    assert found.asked.events == pytest.approx(100 * 3600 * 7190 / 7200 * 10, abs=1)
    json.dumps(found.as_dict())


def test_overlapping_windows_are_counted_and_warned_of(tmp_path: Path) -> None:
    config = BuildConfig(window_s=10.0, stride_s=5.0)
    stock = stock_of(config, blank("a", 105.0))
    found = estimate(stock, COST, out=tmp_path, workers=1)
    assert found.duplication == pytest.approx(20 * 10 / 105)
    assert any("--windows grid" in line for line in estimate_lines(found))


def test_a_share_is_estimated_alone(tmp_path: Path) -> None:
    stock = stock_of(BuildConfig(), *(blank(f"r{k}", 60.0) for k in range(40)))
    halves = [
        estimate(stock, COST, out=tmp_path, workers=1, share=Share(k, 2)).recordings
        for k in range(2)
    ]
    assert sum(halves) == 40
    assert min(halves) > 5


def test_a_disk_too_small_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "free_bytes", lambda folder: 1_000)
    found = estimate(stock_of(BuildConfig(), blank("a", 60.0)), COST, out=tmp_path, workers=1)
    assert "NOT ENOUGH, 87.9 KiB" in estimate_lines(found)[-1]


def test_typical_sizes_go_with_the_share_of_events_that_is_kept() -> None:
    full = typical_cost(BuildConfig(window_s=5.0))
    tenth = typical_cost(BuildConfig(window_s=5.0, event_spans="0.5s@center"))
    none = typical_cost(BuildConfig(events=False))
    assert tenth.events == pytest.approx(full.events / 10)
    assert none.events == 0
    assert none.part_bytes < tenth.part_bytes < full.part_bytes / 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    raw = tmp_path_factory.mktemp("world")
    return raw, DATASET.fake(raw)


def test_a_trial_foretells_the_build_it_is_made_of(world: tuple[Path, Any], tmp_path: Path) -> None:
    raw, options = world
    config = BuildConfig(**{**DATASET.build_defaults, "windows": "grid", "window_s": 1.0})
    config = dataclasses.replace(config, event_spans="full")
    stock = take_stock(DATASET, options, config, raw=raw)
    cost = measure_cost(stock, config, seconds=1e6)  # all of it
    report = build(DATASET, options, config, raw=raw, out=tmp_path / "out")
    assert cost.events * report.hours * 3600 == pytest.approx(report.events, rel=1e-6)
    files = [*(tmp_path / "out").glob("*/*.parquet")]
    shards = sum(f.stat().st_size for f in files if f.parent.name in ("data", "events"))
    assert cost.shard_bytes * report.hours * 3600 == pytest.approx(shards, rel=0.1)
    assert 0 < cost.pack_cpu_s < 1
    assert 0 < cost.build_cpu_s < 5
    assert "measured here" in cost.basis


def test_decoding_that_serves_the_events_too_is_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow_frames(*_: object) -> Iterator[str]:
        for frame in ("first", "second"):
            begun_s = time.process_time()
            while time.process_time() < begun_s + 0.1:
                pass
            yield frame

    seen: list[str] = []
    monkeypatch.setattr(cost_module, "frames_to_compare", slow_frames)
    monkeypatch.setattr(cost_module, "camera_rotation", seen.extend)
    monkeypatch.setattr(cost_module, "synchronise", lambda *_: None)
    monkeypatch.setattr(cost_module, "sync_recording", lambda *_: list(slow_frames()))
    recording = dataclasses.replace(blank("a", 60.0), video_path=Path("a.mp4"))
    still = SensorStream(np.arange(3) * 10_000, np.zeros((3, 3)))
    track = ImuTrack(accel=still, gyro=still, rate_hz=100.0, notes={})
    assert cost_module._sync_s(recording, track, shared=True) < 0.1
    assert seen == ["first", "second"]
    assert cost_module._sync_s(recording, track, shared=False) >= 0.2


def test_nothing_to_measure_is_an_error() -> None:
    config = BuildConfig()
    with pytest.raises(RecordingError, match="no window to measure"):
        measure_cost(stock_of(config, blank("a", 1.0)), config, seconds=60.0)
    with pytest.raises(RecordingError, match="not one of the recordings"):
        measure_cost(stock_of(config, blank("a", 60.0)), config, seconds=60.0)


def test_a_dry_run_writes_nothing_and_speaks_json(
    world: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, _ = world
    toml = tmp_path / "world.toml"
    toml.write_text(
        "wearers = 2\nrecordings-per-wearer = 1\nclips-per-recording = 2\nsize-wh = [64, 48]\n"
        'frame-rate-hz = 30.0\nrender-workers = 1\nwindows = "grid"\nwindow-seconds = 1.0\n'
    )
    words = ["simulated", "--config", str(toml), "--raw", str(raw), "--out", str(tmp_path / "out")]
    assert build_shards([*words, "--dry-run", "--hours", "836", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recordings"] == 2
    assert found["windows"] > 10
    assert found["asked"]["recorded_hours"] == 836
    assert not (tmp_path / "out").exists()
    assert build_shards([*words, "--dry-run"]) == 0
    assert "free on the disk" in capsys.readouterr().out
    assert build_shards([*words, "--hours", "3"]) == 2
    assert "--dry-run" in capsys.readouterr().err
