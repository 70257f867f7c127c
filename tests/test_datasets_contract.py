"""What every dataset must do, over whatever `dataset_<name>.py` files there are."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egotriad.manifests import Recording
from egotriad.manifests.errors import MissingDependency
from egotriad.manifests.plugins import DATASETS
from egotriad.manifests.shards import read_shards
from egotriad.pipelines.build import BuildReport, build
from egotriad.pipelines.plan import BuildConfig


@pytest.fixture(scope="module", params=DATASETS.names())
def faked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(dataset, its options, raw folder) with a tiny raw tree on disk."""
    dataset = DATASETS.load(request.param)
    raw = tmp_path_factory.mktemp(request.param) / "raw"
    options = dataset.fake(raw)
    try:
        dataset.recordings(raw, options)
    except MissingDependency as exc:  # an optional reader: its own tests say more
        pytest.skip(str(exc))
    return dataset, options, raw


@pytest.fixture(scope="module")
def built(faked: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    dataset, options, raw = faked
    out = tmp_path_factory.mktemp("built") / "shards"
    config = tiny(dataset)
    return out, build(dataset, options, config, raw=raw, out=out, workers=1)


def tiny(dataset: Any) -> BuildConfig:
    """The dataset's own settings on a small sensor, and windows a tiny recording can hold."""
    settings = dict(dataset.build_defaults) | {"sensor": "32x24", "window_s": 1.5}
    if settings.get("event_spans", "full") != "full":
        settings["event_spans"] = "0.05s x3 /0.025s @peak"
    return BuildConfig(**settings)


def test_recordings_are_described_the_same_twice_and_cross_process_borders(faked: Any) -> None:
    dataset, options, raw = faked
    dataset.download(raw, options)
    first, second = (list(dataset.recordings(raw, options)) for _ in range(2))
    assert first
    assert [r.recording_id for r in first] == [r.recording_id for r in second]
    for recording in first:
        assert isinstance(pickle.loads(pickle.dumps(recording)), Recording)
        assert recording.source == dataset.name
        assert recording.license_id == dataset.licence_id
        assert recording.duration_us > 0
        assert all(file.is_file() for file in recording.files)
        times = [narration.t_us for narration in recording.narrations]
        assert times == sorted(times)
        assert all(n.text and n.text == n.text.strip() for n in recording.narrations)


def test_clips_are_whole_and_in_canonical_units(built: tuple[Path, BuildReport]) -> None:
    out, report = built
    clips = list(read_shards(out))
    assert len(clips) == report.clips > 0
    assert report.failed == {}
    for clip in clips:
        assert clip.imu is not None
        assert clip.imu.data.shape[1] == round(clip.duration_us * clip.imu.rate_hz / 1e6)
        gravity = np.linalg.norm(clip.imu.data[:3, clip.imu.valid].mean(axis=1))
        assert 7.0 < gravity < 13.0, "accelerometer is not m/s^2 with gravity"
        assert clip.events is not None
        assert clip.events.canonical() is clip.events
        for t in clip.events.t_us:
            assert any(span.start_us <= t < span.end_us for span in clip.event_spans)
    assert sum(len(clip.events) for clip in clips) > 0


def test_the_same_bytes_with_other_workers_and_after_an_interruption(
    faked: Any, built: tuple[Path, BuildReport], tmp_path: Path
) -> None:
    dataset, options, raw = faked
    want = (built[0] / "SHA256SUMS").read_text()
    out = tmp_path / "shards"
    build(dataset, options, tiny(dataset), raw=raw, out=out, workers=2)
    assert (out / "SHA256SUMS").read_text() == want
    # As if killed while packing, with one part not yet finished.
    (out / "SHA256SUMS").unlink()
    next((out / "parts").glob("*.done.json")).unlink()
    (out / "data" / "train-00000-of-00001.parquet.tmp-999999999").write_text("half")
    report = build(dataset, options, tiny(dataset), raw=raw, out=out, workers=1)
    assert (out / "SHA256SUMS").read_text() == want
    assert report.reused == report.recordings - 1
    assert not list(out.rglob("*.tmp-*"))


def test_no_output_names_this_machine(faked: Any, built: tuple[Path, BuildReport]) -> None:
    raw, out = faked[2], built[0]
    for file in out.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert str(raw).encode() not in content, file.name
            assert str(Path.home()).encode() + b"/" not in content, file.name
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["config"]["values"]["sensor"] == "32x24"
    assert provenance["recordings"][0]["sources"]
