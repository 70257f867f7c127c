"""What a build says about itself: statistics, card, Croissant, each by an independent reader."""

import dataclasses
import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egotriad.manifests import Imu
from egotriad.manifests.licences import licence
from egotriad.manifests.schema import TABLES
from egotriad.manifests.shards import TableWriter, read_manifest, read_shards
from egotriad.pipelines.build import build
from egotriad.pipelines.card import dataset_card
from egotriad.pipelines.card_front import front_matter
from egotriad.pipelines.card_yaml import to_yaml
from egotriad.pipelines.dataset_simulated import Simulated
from egotriad.pipelines.describe import DESCRIPTIONS, describe
from egotriad.pipelines.facts import facts_of
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.quantiles import PERCENTS, FirstPass, SecondPass, moments_of
from egotriad.pipelines.stats import shard_stats, value_counts

CONFIG = BuildConfig(**Simulated.build_defaults)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a tiny world, one wearer for training and one for the test."""
    root = tmp_path_factory.mktemp("card")
    options = Simulated().fake(root / "raw")
    build(Simulated(), options, CONFIG, raw=root / "raw", out=root / "shards", workers=1)
    return root / "shards"


def stats_of(shards: Path) -> dict[str, Any]:
    return json.loads((shards / "stats.json").read_text())


def relicensed(stats: dict[str, Any], name: str) -> dict[str, Any]:
    """The same statistics, as if all windows were under another licence."""
    changed = json.loads(json.dumps(stats))
    for split in changed["splits"].values():
        split["values"]["license_id"] = {name: split["windows"]}
    return changed


# Statistics


def blocks(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    signed = rng.standard_normal(5000).astype(np.float32)
    tiny = (rng.standard_normal(300) * 1e-40).astype(np.float32)  # subnormal
    return [signed, np.zeros(70, np.float32), -np.zeros(3, np.float32), tiny, signed[:1] * 1e30]


@pytest.mark.parametrize("seed", range(4))
def test_two_passes_give_what_sorting_everything_gives(seed: int) -> None:
    first = FirstPass()
    for block in blocks(seed):
        first.add(block)
    second = SecondPass(first)
    for block in blocks(seed):
        second.add(block)
    whole = np.concatenate(blocks(seed))
    want = np.quantile(whole, [p / 100 for p in PERCENTS], method="inverted_cdf")
    assert list(second.quantiles().values()) == [float(v) for v in want]
    wide = whole.astype(np.float64)
    assert first.moments() == {
        "count": len(whole),
        "min": float(whole.min()),
        "max": float(whole.max()),
        "mean": pytest.approx(wide.mean(), rel=1e-8),
        "std": pytest.approx(wide.std(), rel=1e-8),
    }


@pytest.mark.parametrize("count", [1, 2, 3, 100, 700])
def test_a_quantile_is_the_least_number_that_so_many_do_not_exceed(count: int) -> None:
    values = np.arange(count, dtype=np.float64)
    found = moments_of(values)
    first = FirstPass()
    first.add(values.astype(np.float32))
    second = SecondPass(first)
    second.add(values.astype(np.float32))
    for percent, value in zip(PERCENTS, second.quantiles().values(), strict=True):
        rank = next(k for k in range(count) if 100 * (k + 1) >= percent * count)
        assert value == found[f"q{percent:02d}"] == rank


def test_statistics_are_those_of_the_clips(shards: Path) -> None:
    stats = stats_of(shards)
    assert sorted(stats["splits"]) == ["test", "train"]
    for split, facts in stats["splits"].items():
        clips = list(read_shards(shards, split=split))
        imu = np.concatenate([clip.imu.data[:, clip.imu.valid] for clip in clips], axis=1)
        for row, name in zip(imu, ("acc_x", "acc_y", "acc_z", "gyro_x"), strict=False):
            column = facts["columns"][f"imu.{name}"]
            assert column["count"] == len(row)
            assert column["q50"] == np.quantile(row, 0.5, method="inverted_cdf")
            assert column["mean"] == pytest.approx(row.astype(float).mean(), rel=1e-7)
        assert facts["columns"]["imu.acc_x"]["unit"] == "m/s^2"
        assert facts["columns"]["imu.gyro_z"]["unit"] == "rad/s"
        assert facts["events"] == sum(len(clip.events) for clip in clips)
        assert facts["windows"] == facts["columns"]["num_events"]["count"] == len(clips)
        assert facts["narrations"] == sum(len(clip.narrations) for clip in clips)
        assert facts["hours"] == pytest.approx(sum(c.duration_us for c in clips) / 3.6e9, abs=1e-6)
        start = min(clip.t_start_us for clip in clips)
        end = max(clip.t_start_us + clip.duration_us for clip in clips)
        assert facts["unique_hours"] == pytest.approx((end - start) / 3.6e9, abs=1e-6)
        assert facts["unique_hours"] < facts["hours"]  # the two windows overlap
        assert facts["wearers"] == facts["recordings"] == 1
    assert value_counts(stats, "license_id") == {"own": 4}


def test_masked_samples_and_absent_values_do_not_count(toy_clips: Any, tmp_path: Path) -> None:
    whole, masked, without = toy_clips(3)
    valid = np.arange(640) >= 100
    data = np.where(valid, masked.imu.data, np.float32(np.nan))
    masked = dataclasses.replace(masked, imu=Imu(data=data, rate_hz=200.0, valid=valid))
    without = dataclasses.replace(without, imu=None, events=None)
    (tmp_path / "data").mkdir()
    path = "data/train-00000-of-00001.parquet"
    with TableWriter(tmp_path / path, "windows", builder="b", config_hash="h") as writer:
        writer.write_windows([whole, masked, without], [None] * 3, [0, 1, None])
    lines = [{"path": path, "config": "windows", "split": "train"}]
    facts = shard_stats(tmp_path, lines)["splits"]["train"]
    row = np.concatenate([whole.imu.data[2], masked.imu.data[2, valid]])
    column = facts["columns"]["imu.acc_z"]
    assert (column["count"], column["q50"]) == (1180, np.sort(row)[589])
    assert column["min"] == row.min()
    assert facts["columns"]["num_events"]["count"] == 2
    assert facts["windows"] == 3


def test_describing_twice_gives_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    lines = read_manifest(shards)
    before = {name: (shards / name).read_bytes() for name in DESCRIPTIONS}
    describe(shards, lines, facts_of(CONFIG), title="simulated shards", rejected={})
    assert {name: (shards / name).read_bytes() for name in DESCRIPTIONS} == before
    sums = (shards / "SHA256SUMS").read_text()
    assert all(f"  {name}\n" in sums for name in DESCRIPTIONS)


# Card


def test_the_front_matter_is_what_datasets_says_of_the_same_schema(shards: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    datasets = pytest.importorskip("datasets")
    card = hub.DatasetCard.load(shards / "README.md")
    infos = datasets.info.DatasetInfosDict.from_dataset_card_data(card.data)
    for name, folder in (("windows", "data"), ("events", "events")):
        loaded = datasets.load_dataset(str(shards), name, streaming=True)
        features = infos[name].features
        assert features == loaded["train"].features
        assert list(features) == TABLES[name].names
        assert {split.num_examples for split in infos[name].splits.values()} == {2}
        size = sum(file.stat().st_size for file in (shards / folder).iterdir())
        assert infos[name].download_size == size
    assert [config["config_name"] for config in card.data["configs"]] == ["windows", "events"]
    assert card.data["size_categories"] == ["n<1K"]
    assert card.data["source_datasets"] == ["original"]
    assert card.data["task_categories"] == ["video-text-to-text", "time-series-forecasting"]


def test_the_examples_of_the_card_run(shards: Path) -> None:
    pytest.importorskip("datasets")
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", (shards / "README.md").read_text(), re.DOTALL)
    for example in examples:
        exec(example.replace("FOLDER", str(shards)), names)
    clips = list(names["clips"])
    assert names["table"].num_rows == 4
    assert next(iter(names["windows"]["train"]))["window_id"] == clips[0].window_id
    row = next(iter(names["events"]["train"]))
    assert row["ev_t"] == clips[0].events.t_us.tolist()
    assert names["events"]["train"].features["ev_x"].feature.dtype == "uint16"


def test_the_example_of_the_readme_runs(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "shards").symlink_to(shards)
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = [
        text
        for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if "load_dataset" in text
    ]
    names: dict[str, Any] = {}
    exec(example, names)
    assert len(list(names["windows"])) == len(list(names["events"])) == 2


def test_loading_without_streaming_agrees_with_the_declared_sizes(
    shards: Path, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(shards), "windows", cache_dir=str(tmp_path))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 2, "test": 2}
    assert loaded["train"][0]["event_preview"].size == (64, 48)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("own", {"license": "other", "license_name": "own"}),
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        (
            "ego4d",
            {
                "license": "other",
                "license_name": "ego4d-derived",
                "license_link": "https://ego4ddataset.com/",
            },
        ),
        ("never-heard-of", {"license": "other", "license_name": "never-heard-of-derived"}),
    ],
)
def test_the_licence_of_the_card(shards: Path, name: str, keys: dict[str, str]) -> None:
    front = front_matter("t", read_manifest(shards), relicensed(stats_of(shards), name))
    assert {key: value for key, value in front.items() if key.startswith("license")} == keys


def test_who_asks_for_restricted_data_is_asked_for_their_licence(shards: Path) -> None:
    lines, stats = read_manifest(shards), relicensed(stats_of(shards), "ego4d")
    front = front_matter("t", lines, stats)
    assert front["extra_gated_heading"] == "Access needs a valid Ego4D licence"
    assert front["extra_gated_fields"]["Date of my licence"] == "date_picker"
    assert front["source_datasets"] == ["extended|simulated"]
    card = dataset_card("t", lines, stats, facts_of(CONFIG), rejected={}, quarantined={})
    assert "`ego4d` (Ego4D, https://ego4ddataset.com/): **do not hand on**" in card
    assert not licence("never-heard-of").redistributable


def test_the_card_tells_what_was_left_out_and_how_the_data_came_to_be(shards: Path) -> None:
    card = dataset_card(
        "t",
        read_manifest(shards),
        stats_of(shards),
        facts_of(CONFIG),
        rejected={"imu-gap": 3, "imu-clip": 1},
        quarantined={"RecordingError": 2},
    )
    assert "Left out: 4 windows (1 x imu-clip, 3 x imu-gap)" in card
    assert "2 recordings that could not be read (2 x RecordingError)" in card
    for fact in (
        "**Events are synthetic**",
        f"`sim_id` `{CONFIG.sim_id}`",
        "measured at 197.45 to 197.45 Hz",
        "to 200 Hz from true time stamps",
        "salt `split-v1`",
        "4 x provided",
        "sha256sum -c SHA256SUMS",
        "rows of `events` are too large for it",
    ):
        assert fact in card


def test_a_build_without_events_or_imu_does_not_speak_of_them(shards: Path, tmp_path: Path) -> None:
    raw = shards.parent / "raw"
    options = Simulated().fake(raw)
    for missing in ("events", "imu"):
        config = dataclasses.replace(CONFIG, **{missing: False})
        out = tmp_path / missing
        build(Simulated(), options, config, raw=raw, out=out, workers=1)
        columns = stats_of(out)["splits"]["train"]["columns"]
        card = (out / "README.md").read_text()
        assert any(name.startswith("imu") for name in columns) == (missing == "events")
        assert ("num_events" in columns) == (missing == "imu")
        assert ("**Events are synthetic**" in card) == (missing == "imu")
        assert ("- **IMU**" in card) == (missing == "events")
        assert ("config_name: events" in card) == (missing == "imu")


@pytest.mark.parametrize(
    "value",
    [
        {"a": "yes", "b": "1.0", "c": "x: y # z", "d": "Ünïcode \"quoted\" 'text'", "e": ""},
        {"list": ["n<1K", "plain words", {"k": 1, "deep": [{"x": True}, {"y": None}]}], "end": []},
        {"a": {"b": {"c": [1, 2.5, "-"]}}, "Date of my licence": "date_picker", "null": "No"},
        {"nested": [["a", "b"], [{"c": "d", "e": ["f"]}]]},
    ],
)
def test_yaml_reads_back_what_was_written(value: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(to_yaml(value)) == value


# Croissant


def test_croissant_names_every_column_and_every_file(shards: Path) -> None:
    document = json.loads((shards / "croissant.json").read_text())
    for files, records in zip(document["distribution"], document["recordSet"], strict=True):
        names = [field["name"] for field in records["field"]]
        assert names == ["split", *TABLES[records["name"]].names]
        paths = [
            line["path"] for line in read_manifest(shards) if line["config"] == records["name"]
        ]
        assert paths
        assert all(fnmatch.fnmatch(path, files["includes"]) for path in paths)
        pattern = records["field"][0]["source"]["transform"]["regex"]
        assert {re.match(pattern, Path(path).name)[1] for path in paths} == {"train", "test"}
    shapes = {field["name"]: field.get("arrayShape") for field in document["recordSet"][0]["field"]}
    assert shapes["imu"] == "-1,6"
    assert shapes["imu_mask"] == shapes["narrations"] == "-1"
    assert shapes["window_id"] is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # rdflib's, over its own classes
def test_mlcroissant_accepts_it_and_reads_rows_through_it(shards: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=str(shards / "croissant.json"))
    assert not dataset.metadata.issues.errors
    first = next(iter(read_shards(shards, split="test")))
    row = next(iter(dataset.records("windows")))
    assert row["windows/window_id"].decode() == first.window_id
    assert row["windows/split"].decode() == "test"
    assert np.array_equal(np.stack(row["windows/imu"]).T, first.imu.data)
    events = next(iter(dataset.records("events")))
    assert np.array_equal(events["events/ev_x"], first.events.x)
