"""Sections of the suite for devices that run models, small and on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "benchmarks" / "gpu_suite.py"


def sections(report: Path, *words: str) -> dict[str, dict[str, object]]:
    command = [sys.executable, str(SUITE), "--dry-run", *words, "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, object]] = json.loads(report.read_text())["sections"]
    return found


@pytest.mark.slow
def test_steps_speculation_and_stages_work_on_a_cpu(tmp_path: Path) -> None:
    names = ("steps", "speculation", "stages")
    found = sections(tmp_path / "report.json", "--only", *names)
    assert all(found[name]["passed"] for name in names)
    encoding, *steps = found["steps"]["records"]  # type: ignore[misc]
    assert encoding["encode_ms"] > 0
    engines = ["eager", "lean", "graphed", "compiled"]
    assert [row["engine"] for row in steps] == engines * 2
    assert set(steps[0]["verify_ms"]) == {str(gamma) for gamma in range(1, 9)}
    assert steps[0]["c"] == 1.0
    assert all(row["tau"] > 3 for row in found["speculation"]["records"])  # type: ignore[attr-defined]
    (table,) = found["stages"]["records"]  # type: ignore[misc]
    assert table["weights"] == "random"
    assert table["config"]["assumed_alpha"] == 0.8


def test_no_case_begins_when_the_time_is_up(tmp_path: Path) -> None:
    names = ("steps", "speculation", "stages")
    found = sections(tmp_path / "report.json", "--minutes", "0", "--only", *names)
    for name in names:
        assert found[name]["passed"]
        assert all(set(row) == {"left_out"} for row in found[name]["records"])  # type: ignore[attr-defined]
