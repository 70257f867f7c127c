"""`egotriad demo`: the whole chain in the simulated world, as a user would type it.

Above all layers: it runs the command lines one after another, and they meet in files.
"""

import json
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import App

from egotriad.alignment.cli import benchmark_stages, evaluate_acceptance
from egotriad.alignment.train_cli import cache_targets, train_draft, train_target
from egotriad.manifests.cli import run_app
from egotriad.pipelines.cli import build_shards

__all__ = ["main"]

# Below these a target says nearly the same of every clip, which flatters every draft.
MIN_ACCURACY = 0.35
MIN_DISTINCT_TEXTS = 20


def main(tokens: Sequence[str] | None = None) -> int:
    """`egotriad demo`: build, train, evaluate, report."""
    return run_app(_app, tokens)


def _app(words: list[str]) -> App:
    app = App(name="demo", version_flags=[])
    app.default(_demo)
    return app


def _demo(*, out: Path = Path("demo"), seed: int = 0, wearers: int = 36) -> int:
    """Build shards of the simulated world, train on them, and measure acceptance.

    Running again resumes: finished recordings are not rendered or built again.

    Args:
        out: folder for everything.
        seed: of the world and of the training.
        wearers: people in the world; fewer are faster and less certain.
    """
    shards, target, outputs, draft, stages, report = (
        str(out / name)
        for name in ("shards", "target", "outputs.parquet", "draft", "stages", "report")
    )
    trial = ["--draft", draft, "--outputs", outputs, "--out", report]
    trained = ["--shards", shards, "--target", target]
    steps = [
        (build_shards, "build-shards simulated", ["--out", shards, "--wearers", str(wearers)]),
        (train_target, "train-target", ["--shards", shards, "--out", target]),
        (cache_targets, "cache-targets", [*trained, "--out", outputs]),
        (train_draft, "train-draft", [*trained, "--outputs", outputs, "--out", draft]),
        (
            benchmark_stages,
            "benchmark-stages",
            [*trained, "--draft", draft, "--out", stages, "--clips", "40", "--clock", "cpu"],
        ),
        (
            evaluate_acceptance,
            "evaluate-acceptance",
            [*trained, *trial, "--retrieval", "--stages", stages],
        ),
    ]
    started = time.monotonic()
    for command, name, flags in steps:
        if command not in (cache_targets, benchmark_stages):  # in these nothing is drawn
            flags = [*flags, "--seed", str(seed)]
        line = shlex.join(["egotriad", *name.split(), *flags])
        sys.stdout.write(f"$ {line}\n")
        sys.stdout.flush()
        code = command([*name.split()[1:], *flags])
        if code:
            return code
    return _conclude(out, time.monotonic() - started)


def _conclude(out: Path, seconds: float) -> int:
    """Prints the row worth quoting; a target that has learnt too little fails the demo."""
    peak_kib = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    report: dict[str, Any] = json.loads((out / "report" / "report.json").read_text())
    sys.stdout.write(
        f"\n{_headline(report)}\n{report['verdict']}\n"
        f"report: {out / 'report' / 'report.html'}\n"
        f"{seconds / 60:.1f} min, largest process {peak_kib / 2**20:.1f} GiB\n"
    )
    target = report["target"]
    if target["accuracy"] < MIN_ACCURACY or target["distinct_texts"] < MIN_DISTINCT_TEXTS:
        sys.stderr.write(
            f"error: the target has learnt too little to judge a draft by (need accuracy "
            f"{MIN_ACCURACY} and {MIN_DISTINCT_TEXTS} distinct texts); take more --wearers\n"
        )
        return 1
    return 0


def _headline(report: dict[str, Any]) -> str:
    """The one row worth quoting: tau of the draft and its controls beside the target's quality."""
    taus = ", ".join(
        f"{label} {arm['tau_incl_bonus']:.2f} [{arm['ci95']['tau_incl_bonus'][0]:.2f}, "
        f"{arm['ci95']['tau_incl_bonus'][1]:.2f}]"
        for label, arm in (
            ("IMU draft", report["arms"]["draft"]),
            ("text-only", report["arms"]["text_only"]),
            ("n-gram", report["arms"]["ngram"]),
            ("retrieved text", report["arms"]["retrieval"]),
        )
    )
    target, lossless = report["target"], report["lossless"]
    return (
        f"tau (gamma {report['config']['gamma']}): {taus}; target accuracy "
        f"{target['accuracy']:.2f}, {target['distinct_texts']} distinct texts; "
        f"{lossless['equal']}/{lossless['checked']} texts equal to plain greedy"
    )
