"""Everything that a CUDA device has to show, in one call of less than ten minutes.

    python benchmarks/gpu_suite.py --json gpu.json
    python benchmarks/gpu_suite.py --dry-run          # small, on the CPU: that the suite works

A section yields rows, and the JSON is written anew after each, so that whatever ends the run early
takes no numbers with it. Events are compared with those of the CPU before anything is timed. All
tables come again at the end, that of the emulator last. Exit code 1 when a row failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from gpu_emulator import emulator, profile
from gpu_section import Options, Row
from harness import environment

ROOT = Path(__file__).parents[1]
GPU_TESTS = ("tests/test_converters_dvs_gpu.py", "tests/test_models_engines.py")
TESTS_S = 240  # after which they are stopped


def main() -> None:
    """Runs the sections asked for, prints their tables, writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, help="sections to run")
    parser.add_argument("--dry-run", action="store_true", help="small sizes on the CPU")
    parser.add_argument("--rounds", type=int, default=6, help="timed runs of each case")
    parser.add_argument("--minutes", type=float, default=8, help="after these no case begins")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    given = parser.parse_args()
    device, rounds = ("cpu", 2) if given.dry_run else ("cuda", given.rounds)
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; --dry-run shows that the suite works")
    until = time.perf_counter() + 60 * given.minutes
    options = Options(device=device, small=given.dry_run, rounds=rounds, until=until)
    where = environment(("numpy", "numba", "torch", "triton"))
    where["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    found: dict[str, list[Row]] = {}
    for name in given.only or SECTIONS:
        found[name] = []
        for row in guarded(SECTIONS[name], options):
            print(row.text, flush=True)
            found[name].append(row)
            if given.json:
                write_report(given.json, where, found)
    print("\n" + ", ".join(f"{name} {value}" for name, value in where.items()))
    for name, rows in found.items():
        print(f"\n{name}: {'passed' if all(row.passed for row in rows) else 'FAILED'}")
        print("\n".join(row.text for row in rows))
    if not all(row.passed for rows in found.values() for row in rows):
        raise SystemExit(1)


def guarded(section: Callable[[Options], Iterator[Row]], options: Options) -> Iterator[Row]:
    """The rows of a section; an error ends it with a row that failed, and the next one runs."""
    try:
        yield from section(options)
    except Exception:  # the numbers of other sections must not be lost
        yield Row(text=traceback.format_exc(), passed=False)


def write_report(path: Path, where: dict[str, str], found: dict[str, list[Row]]) -> None:
    """All numbers so far; names neither the host nor the user."""
    sections = {
        name: {
            "passed": all(row.passed for row in rows),
            "records": [row.record for row in rows if row.record],
        }
        for name, rows in found.items()
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"environment": where, "sections": sections}, indent=1) + "\n")
    part.replace(path)


def tests(options: Options) -> Iterator[Row]:
    """The tests that need a device; in small only that they can be collected."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", *GPU_TESTS]
    command += ["--collect-only"] if options.small else ["--durations=5"]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TESTS_S,
    )
    lines = done.stdout.rstrip().splitlines()[-(12 if done.returncode == 0 else 60) :]
    record = {"last": lines[-1], "seconds": time.perf_counter() - start}
    yield Row(text="\n".join(lines), record=record, passed=done.returncode == 0)


def steps(options: Options) -> Iterator[Row]:
    """Decoder steps at true size; without transformers only this section fails."""
    import gpu_models

    yield from gpu_models.steps(options)


def speculation(options: Options) -> Iterator[Row]:
    """Calibrated drafts in front of a 7B target."""
    import gpu_speculation

    yield from gpu_speculation.speculation(options)


def stages(options: Options) -> Iterator[Row]:
    """Five stages of a 7B target with calibrated drafts, from shards."""
    import gpu_stages

    yield from gpu_stages.stages(options)


SECTIONS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "tests": tests,
    "profile": profile,
    "steps": steps,
    "speculation": speculation,
    "stages": stages,
    "emulator": emulator,
}


if __name__ == "__main__":
    main()
