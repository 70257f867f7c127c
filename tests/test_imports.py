"""The layers: imports run one way, modules do nothing when imported, light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "egotriad"
MODULES = sorted(SOURCE.rglob("*.py"))
ALLOWED = {
    "manifests": {"manifests"},
    "converters": {"manifests", "converters"},
    "pipelines": {"manifests", "converters", "pipelines"},
    "models": {"manifests", "converters", "models"},
    "alignment": {"manifests", "converters", "models", "alignment"},
}
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "accelerate", "peft"}
LAZY_TORCH = ("superslomo.py", "dvs_v2ecore.py", "dvs_gpu*.py")
"""Converters that need torch, loaded by others only when they are asked for."""


def lazy(path: Path) -> bool:
    return path.parent.name == "converters" and any(path.match(name) for name in LAZY_TORCH)


def imported(path: Path) -> set[str]:
    """Dotted names of everything a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(dotted: str) -> str | None:
    parts = dotted.split(".")
    return parts[1] if parts[0] == "egotriad" and len(parts) > 1 and parts[1] in ALLOWED else None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    folder = path.relative_to(SOURCE).parts[0]
    if folder not in ALLOWED:  # the package's own command line stands above all layers
        return
    for name in imported(path):
        layer = layer_of(name)
        assert layer is None or layer in ALLOWED[folder], f"{folder} imports {name}"
        if folder in ("manifests", "converters", "pipelines") and not lazy(path):
            assert name.split(".")[0] not in HEAVY, f"{folder} imports {name}"
        if folder == "manifests":
            assert name.split(".")[0] != "scipy", "manifests imports scipy"


def test_the_walk_sees_every_layer() -> None:
    seen = {path.relative_to(SOURCE).parts[0] for path in MODULES}
    assert set(ALLOWED) <= seen
    assert "manifests" in {layer_of(n) for n in imported(SOURCE / "pipelines" / "build.py")}


@pytest.mark.parametrize("words", [["--help"], ["gopro", "--help"]])
def test_build_shards_help_imports_no_torch(words: list[str]) -> None:
    script = (
        "import sys\n"
        "from egotriad.pipelines.cli import build_shards\n"
        f"build_shards({words!r})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gopro" in done.stdout


def test_folders_are_one_level_deep_and_linked_at_the_root() -> None:
    root = SOURCE.parents[1]
    for layer in ALLOWED:
        assert not [p for p in (SOURCE / layer).iterdir() if p.is_dir() and p.name[0] != "_"]
        assert (root / layer).resolve() == (SOURCE / layer).resolve()


def test_every_exported_name_exists() -> None:
    import importlib

    for path in MODULES:
        dotted = ".".join(("egotriad", *path.relative_to(SOURCE).with_suffix("").parts))
        module = importlib.import_module(dotted.removesuffix(".__init__"))
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{dotted}.__all__ names {name}"


def test_what_needs_torch_is_loaded_only_when_it_is_asked_for() -> None:
    names = ", ".join(
        f"egotriad.{folder}.{path.stem}"
        for folder in ("manifests", "converters", "pipelines")
        for path in sorted((SOURCE / folder).glob("*.py"))
        if not lazy(path) and path.stem != "__init__"
    )
    script = f"import sys, {names}; print(*({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
