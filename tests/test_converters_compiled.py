"""Compiled functions: cached on disk, and never older than what they call."""

import subprocess
import sys
from pathlib import Path

CALLER = """
from egotriad.converters.compiled import compiled
from callee import step

@compiled
def twice(x):
    return step(step(x))

before = twice(1)
print(before, sum(twice.stats.cache_hits.values()))
"""
CALLEE = """
from egotriad.converters.compiled import compiled

@compiled
def step(x):
    return x {}
"""


def run(folder: Path) -> str:
    script = [sys.executable, str(folder / "caller.py")]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout.strip()


def test_a_change_in_what_a_function_calls_is_compiled_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "callee.py").write_text(CALLEE.format("+ 10"))
    assert run(tmp_path) == "21 0"
    assert run(tmp_path) == "21 1"
    (tmp_path / "callee.py").write_text(CALLEE.format("* 100"))
    assert run(tmp_path) == "10000 0"
