"""The whole chain through its command lines, on a world small enough for every test run."""

import json
from pathlib import Path

import pytest

from egotriad.alignment.cli import evaluate_acceptance
from egotriad.alignment.train_cli import cache_targets, train_draft, train_target
from egotriad.cli import main
from egotriad.pipelines.cli import build_shards, inspect_shards


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything up to the draft: four wearers, two held out, a few training steps."""
    root = tmp_path_factory.mktemp("chain")
    shards, target, outputs, draft = (
        str(root / name) for name in ("shards", "target", "outputs.parquet", "draft")
    )
    world = "--wearers 4 --recordings-per-wearer 1 --clips-per-recording 3 --held-out-share 0.5"
    small = "--size-wh 64 48 --frame-rate-hz 30"
    words = ["simulated", "--out", shards, *world.split(), *small.split(), "--workers", "1"]
    assert build_shards([*words, "--render-workers", "1"]) == 0
    shared = ["--shards", shards, "--target", target]
    steps = ["--tower-steps", "5", "--decoder-steps", "30"]
    assert train_target(["--shards", shards, "--out", target, *steps]) == 0
    assert cache_targets([*shared, "--out", outputs]) == 0
    assert train_draft([*shared, "--outputs", outputs, "--out", draft, "--steps", "10"]) == 0
    return root


def evaluation(root: Path, *more: str) -> list[str]:
    flags = ["--shards", "shards", "--target", "target", "--draft", "draft"]
    paths = [word if word.startswith("--") else str(root / word) for word in flags]
    return [*paths, "--outputs", str(root / "outputs.parquet"), "--out", str(root / "r"), *more]


def test_the_chain_ends_in_a_report_with_every_control(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert evaluate_acceptance(evaluation(chain, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    report = json.loads((chain / "r" / "report.json").read_text())
    assert printed["arms"] == report["arms"]
    assert set(report["arms"]) == {
        "draft",
        "text_only",
        "ngram",
        "zeroed_imu",
        "shuffled_imu",
        "oracle",
    }
    assert report["lossless"]["equal"] == report["lossless"]["checked"] > 0
    assert report["lossless"]["oracle_complete"]
    assert all(1 <= arm["tau_incl_bonus"] <= 6 for arm in report["arms"].values())
    assert report["data"]["recordings"] == 2
    page = (chain / "r" / "report.html").read_text()
    assert "rejected" in page
    assert "data:image/png;base64," in page
    assert str(chain) not in page + json.dumps(report)


def test_training_wearers_are_refused_unless_the_user_insists(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_acceptance(evaluation(chain, "--split", "train")) == 1
    assert "not held out" in capsys.readouterr().err
    assert evaluate_acceptance(evaluation(chain, "--split", "train", "--allow-overlap")) == 0
    assert json.loads((chain / "r" / "report.json").read_text())["data"]["overlaps"]


def test_shards_can_be_looked_at_and_commands_share_one_name(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect_shards([str(chain / "shards"), "--clips", "3"]) == 0
    page = (chain / "shards" / "inspect.html").read_text()
    assert page.count("angular rate") == 3
    assert main(["inspect-shards", str(chain / "nowhere")]) == 1
    assert "holds no build" in capsys.readouterr().err
    assert main(["inspect-shard"]) == 2
    assert "did you mean inspect-shards" in capsys.readouterr().err
