"""Builds that are killed with SIGKILL at random moments and resumed: are the bytes the same?

    python benchmarks/kill_loop.py --builds 50 --out kill_loop.json

Each build of a tiny simulated world is killed one to three times: the driver alone, one of its
workers alone, or all of its processes at once, at a moment drawn from the length of an unbroken
build. It is then run to its end, and its SHA256SUMS compared with the unbroken one's.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from egotriad.manifests.verify import verify

WORLD = [
    *("--wearers", "3", "--recordings-per-wearer", "2", "--clips-per-recording", "2"),
    *("--size-wh", "64", "48", "--frame-rate-hz", "30", "--render-workers", "1"),
    *("--windows", "grid", "--window-seconds", "1", "--event-spans", "full"),
]
SCRIPT = (
    "import sys; from egotriad.pipelines.cli import build_shards; "
    "sys.exit(build_shards(sys.argv[1:]))"
)


def command(raw: Path, out: Path) -> list[str]:
    """The command line of a build."""
    words = ["simulated", "--raw", str(raw), "--out", str(out), *WORLD, "--workers", "2"]
    return [sys.executable, "-c", SCRIPT, *words]


def run_whole(raw: Path, out: Path) -> float:
    """Runs a build to its end; returns its seconds."""
    started = time.monotonic()
    done = subprocess.run(command(raw, out), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit {done.returncode}: {done.stderr}")
    return time.monotonic() - started


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def run_and_kill(raw: Path, out: Path, after_s: float, how: str) -> str:
    """Starts a build and kills some of it; says what was standing then."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(command(raw, out), start_new_session=True, **quiet)
    try:
        driver.wait(after_s)
    except subprocess.TimeoutExpired:
        pass
    else:
        return "finished before"
    standing = f"{len(list((out / 'parts').glob('*.done.json')))} parts"
    if (out / "data").exists():
        standing += ", packing"
    workers = children(driver.pid)
    if how == "worker" and workers:
        for pid in workers[-1:]:
            os.kill(pid, signal.SIGKILL)
        driver.wait()  # it goes on without that worker
        return f"{standing}, worker"
    if how == "driver":
        driver.kill()
    else:
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    return f"{standing}, {how}"


def main() -> None:
    """Runs the loop and writes what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill-loop-") as scratch:
        raw, whole = Path(scratch) / "raw", Path(scratch) / "whole"
        run_whole(raw, whole)
        expected = (whole / "SHA256SUMS").read_text()
        whole_s = run_whole(raw, Path(scratch) / "again")
        builds = []
        for number in range(options.builds):
            out = Path(scratch) / f"build-{number}"
            kills = [
                run_and_kill(
                    raw, out, rng.uniform(0.0, whole_s), rng.choice(("driver", "all", "worker"))
                )
                for _ in range(rng.randint(1, 3))
            ]
            run_whole(raw, out)
            same = (out / "SHA256SUMS").read_text() == expected
            left = sorted(path.name for path in out.rglob("*.tmp-*"))
            sound = verify(out).ok
            builds.append({"kills": kills, "same": same, "sound": sound, "left": left})
            print(number, *builds[-1].items(), flush=True)
            shutil.rmtree(out)
    good = sum(bool(b["same"] and b["sound"] and not b["left"]) for b in builds)
    result = {"builds": len(builds), "identical": good, "unbroken_s": whole_s, "runs": builds}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{good} of {len(builds)} builds identical to the unbroken one")
    sys.exit(good != len(builds))


if __name__ == "__main__":
    main()
