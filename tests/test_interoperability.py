"""The examples of the documentation, run as they stand, on a small build."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("h5py")
pytest.importorskip("hdf5plugin")

from egotriad.pipelines.import_dsec import DsecFolders
from egotriad.pipelines.import_shards import import_dsec_folder

ROOT = Path(__file__).parents[1]
OPTIONAL = ("datasets", "duckdb", "polars")


def examples(page: str, wanted: str = "") -> list[Any]:
    """Python blocks of a page, named by what stands over them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        heading = re.findall(r"^#+ (.+)$", text[: match.start()], re.MULTILINE)[-1]
        if wanted in match[1]:
            found.append(pytest.param(match[1], id=f"{page}: {heading}"))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a build called `shards`: one recording in training, one in the test split."""
    root = tmp_path_factory.mktemp("home")
    for split in ("train", "test"):
        folder = root / "raw" / split
        options = DsecFolders().fake(folder)
        (folder / "recording.json").write_text(f'{{"split": "{split}", "duration_us": 2000000}}')
        (folder / "narrations.csv").write_text("time_s,text\n0.7,C turns left\n")
    import_dsec_folder(root / "raw", root / "shards", options, workers=1, window_s=0.5)
    return root


@pytest.mark.parametrize(
    "example", [*examples("docs/interoperability.md"), *examples("README.md", "load_dataset")]
)
def test_the_example_runs_as_it_stands(
    example: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = [name for name in OPTIONAL if find_spec(name) is None]
    for name in absent:
        if re.search(rf"^(import|from) {name}\b", example, re.MULTILINE):
            pytest.skip(f"{name} is not installed")
    (tmp_path / "shards").symlink_to(home / "shards")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if "datasets" not in absent:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    exec(compile(example, "example", "exec"), {"__name__": "example"})


def test_every_reader_has_its_example() -> None:
    blocks = "".join(param.values[0] for param in examples("docs/interoperability.md"))
    for name in ("duckdb", "polars", "with_format", "webdataset", "streaming=True"):
        assert name in blocks
    assert examples("README.md", "load_dataset")
