"""Timing of named arms against each other in one run.

Arms are interleaved (every round runs each of them once, in turning order), so that a machine that
slows down slows them all; time is CPU time of this process, so that other processes do not count;
and what is reported is the minimum, the median, and the ratio of each to one named peer.
"""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one case took, arm by arm.

    Attributes:
        case: what was run.
        peer: the arm the others are compared with.
        seconds: CPU seconds of every round, per arm.
        work: how many of a thing one run handles (`pixel`: ..., `event`: ...); the table prints
            nanoseconds per thing.
        facts: further numbers or words worth printing beside the case.
    """

    case: str
    peer: str
    seconds: Mapping[str, Sequence[float]]
    work: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, float | str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """One record per arm: its times, its speed relative to the peer, time per thing."""
        peer = self.seconds[self.peer]
        return [
            {
                "arm": arm,
                "min_ms": min(seconds) * 1e3,
                "median_ms": statistics.median(seconds) * 1e3,
                "speedup_of_min": min(peer) / min(seconds),
                "speedup_of_median": statistics.median(peer) / statistics.median(seconds),
                "ns_per": {
                    thing: min(seconds) / count * 1e9 for thing, count in self.work.items() if count
                },
            }
            for arm, seconds in self.seconds.items()
        ]


def compare(
    case: str,
    arms: Mapping[str, Callable[[], object]],
    *,
    peer: str,
    rounds: int = 5,
    work: Mapping[str, float] | None = None,
    facts: Mapping[str, float | str] | None = None,
) -> Comparison:
    """Runs every arm once to warm up and then `rounds` times, interleaved.

    Args:
        case: what is run.
        arms: name of each arm and the call to time.
        peer: which arm the others are compared with.
        rounds: timed runs of each arm.
        work: see `Comparison`.
        facts: see `Comparison`.
    """
    for run in arms.values():
        run()
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for k in range(rounds):
        for arm in list(arms)[:: -1 if k % 2 else 1]:
            gc.collect()
            start = time.process_time()
            arms[arm]()
            seconds[arm].append(time.process_time() - start)
    return Comparison(case=case, peer=peer, seconds=seconds, work=work or {}, facts=facts or {})


def environment(packages: Sequence[str] = ("numpy", "numba")) -> dict[str, str]:
    """What the numbers depend on; names neither the host nor the user."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def table(comparisons: Sequence[Comparison]) -> str:
    """All comparisons as aligned text."""
    lines = []
    for comparison in comparisons:
        facts = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in comparison.facts.items()
        )
        lines.append(f"{comparison.case}  ({facts})" if facts else comparison.case)
        for row in comparison.rows():
            per = "".join(f"{value:10.2f} ns/{thing}" for thing, value in row["ns_per"].items())
            lines.append(
                f"  {row['arm']:<16}{row['min_ms']:10.3f} ms min{row['median_ms']:10.3f} ms median"
                f"{row['speedup_of_min']:8.2f}x{row['speedup_of_median']:8.2f}x{per}"
            )
        lines.append(f"  (x: {comparison.peer}'s time over the arm's, of minima and of medians)")
    return "\n".join(lines)


def write_json(
    path: Path, comparisons: Sequence[Comparison], environment: Mapping[str, str]
) -> None:
    """Everything that was measured, every round included, as one JSON file."""
    report = {
        "environment": dict(environment),
        "comparisons": [
            {
                "case": comparison.case,
                "peer": comparison.peer,
                "facts": dict(comparison.facts),
                "work": dict(comparison.work),
                "arms": comparison.rows(),
                "seconds": {arm: list(values) for arm, values in comparison.seconds.items()},
            }
            for comparison in comparisons
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
