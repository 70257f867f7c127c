"""The demo on several seeds (world and training), one Markdown row each, none left out.

    python benchmarks/demo_seeds.py --out /tmp/seeds --seeds 0 1 2

A seed whose report is already in the folder is not run again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from egotriad import demo

ARMS = ("draft", "text_only", "ngram", "retrieval", "zeroed_imu", "shuffled_imu", "oracle")
OTHERS = ("text_only", "retrieval")


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = [header()]
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        report = folder / "report" / "report.json"
        if not report.is_file() and demo.main(["--out", str(folder), "--seed", str(seed)]):
            raise SystemExit(f"the demo failed on seed {seed}")
        rows.append(row(seed, json.loads(report.read_text(encoding="utf-8"))))
    print("\n".join(rows))


def header() -> str:
    """Column names and the rule under them."""
    names = ["seed", *ARMS, *(f"draft - {name}" for name in OTHERS)]
    names += [
        "accuracy",
        "distinct texts",
        "tokens",
        "equal",
        "speed-up of timed clips, predicted",
        "measured",
    ]
    return "| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|"


def row(seed: int, report: dict[str, Any]) -> str:
    """One seed's numbers: tau with its interval per arm, then the target's quality."""
    cells = [str(seed)]
    for name in ARMS:
        arm = report["arms"][name]
        cells.append(interval(arm["tau_incl_bonus"], arm["ci95"]["tau_incl_bonus"]))
    for name in OTHERS:
        gain = report["tau_gains"][name]
        cells.append(interval(gain["value"], gain["ci95"]))
    target, lossless, cost = report["target"], report["lossless"], report["cost"]
    cells += [
        f"{target['accuracy']:.2f}",
        str(target["distinct_texts"]),
        f"{target['mean_tokens']:.1f}",
        f"{lossless['equal']}/{lossless['checked']}",
        f"{cost['speedup_predicted_of_timed']:.2f}",
        f"{cost['speedup_measured_decode']:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def interval(value: float, ends: list[float]) -> str:
    """A value with the ends of its interval."""
    return f"{value:.2f} [{ends[0]:.2f} {ends[1]:.2f}]"


if __name__ == "__main__":
    main()
