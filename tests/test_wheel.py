"""The wheel: built from the sdist, installed alone, every module imported, every script run."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with nothing but the wheel; libraries come from the test environment."""
    folder = tmp_path_factory.mktemp("wheel")
    # setuptools leaves build/ and egg-info beside the sources: work on a copy.
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = folder / "copy" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "../dist", cwd=folder / "copy")
    wheel = next((folder / "dist").glob("*.whl"))
    venv.create(folder / "env", with_pip=False, symlinks=True)
    site = folder / "env" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    # The environment's own Python, with pip borrowed: the test environment must not notice.
    pip = Path(sysconfig.get_paths()["purelib"]) / "pip"
    run(folder / "env" / "bin" / "python", pip, "install", "-q", "--no-deps", "--no-index", wheel,
        cwd=folder)  # fmt: skip
    # A path file makes the libraries importable without processing their own .pth files, so the
    # editable install of this project stays invisible.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "env"


def test_only_egotriad_lands_in_site_packages(installed: Path) -> None:
    site = next(installed.glob("lib/python3.*/site-packages"))
    names = {p.name for p in site.iterdir()} - {"libraries.pth"}
    assert {name for name in names if not name.startswith("egotriad-")} == {"egotriad"}
    assert not list((site / "egotriad").glob("tests"))
    assert (site / "egotriad" / "py.typed").is_file()


def test_every_module_imports_from_the_wheel(installed: Path) -> None:
    script = (
        "import importlib, pkgutil, egotriad, pathlib\n"
        "assert 'site-packages' in egotriad.__file__ and '.venv' not in egotriad.__file__\n"
        "names = [m.name for m in pkgutil.walk_packages(egotriad.__path__, 'egotriad.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))\n"
    )
    count = int(run(installed / "bin" / "python", "-c", script, cwd=installed))
    assert count == len(list((ROOT / "src" / "egotriad").rglob("*.py"))) - 1


def test_every_console_script_runs(installed: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name in scripts:
        out = run(installed / "bin" / "python", installed / "bin" / name, "--help", cwd=installed)
        assert "Usage" in out, name
