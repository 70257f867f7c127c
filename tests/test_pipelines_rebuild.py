"""Rebuilding: the record and the sources give the same bytes, or what differs is named."""

import json
import shutil
from pathlib import Path

import pytest

from egotriad.manifests.errors import ShardError, UsageError
from egotriad.manifests.files import open_sealed, seal, sha256_file, write_text
from egotriad.manifests.verify import verify
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_gopro import DATASET, GoProOptions
from egotriad.pipelines.fake_gopro import write_fake_gopro
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.rebuild import rebuild
from egotriad.pipelines.rebuild_cli import rebuild_shards
from egotriad.pipelines.repair import repair

CONFIG = BuildConfig(window_s=2.0, sensor="32x24", sync="off")
RECORD = ("provenance.json", "manifest.jsonl", "SHA256SUMS")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of two recordings and one that cannot be read, in `b`; its sources in `films`."""
    root = tmp_path_factory.mktemp("origin")
    (root / "films").mkdir()
    video, _ = write_fake_gopro(root / "films")
    films = [video.rename(root / "films" / "walk.mp4"), root / "films" / "run.mp4"]
    shutil.copy(films[0], films[1])
    broken = root / "films" / "fall.mp4"
    broken.write_bytes(b"no film")
    options = GoProOptions(input=(*films, broken), wearer="anna")
    report = build(DATASET, options, CONFIG, raw=root / "raw", out=root / "b", workers=1)
    assert list(report.failed) == ["fall"]
    assert verify(root / "b").findings == ()
    return root


@pytest.fixture
def root(origin: Path, tmp_path: Path) -> Path:
    """A copy of the build and its sources; of the build only the record and what failed."""
    shutil.copytree(origin / "films", tmp_path / "films")
    (tmp_path / "b").mkdir()
    for name in RECORD:
        shutil.copy(origin / "b" / name, tmp_path / "b" / name)
    shutil.copytree(origin / "b" / "quarantine", tmp_path / "b" / "quarantine")
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Hash of every output file."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "parts" not in path.parts
    }


def test_the_record_and_the_sources_give_every_byte_again(root: Path, origin: Path) -> None:
    report = rebuild(root / "b", root / "again", sources=[root / "films"])
    assert contents(root / "again") == contents(origin / "b")
    assert report.rebuilt == ("run", "walk")
    assert verify(root / "again").ok
    assert rebuild(root / "b", root / "again", sources=[root / "films"]).rebuilt == ()
    # It is a build like the first: it can be mended from its own parts.
    (root / "again" / "README.md").unlink()
    repair(root / "again", verify(root / "again"))
    assert contents(root / "again") == contents(origin / "b")


def test_a_source_that_changed_is_named(root: Path) -> None:
    film = root / "films" / "run.mp4"
    content = bytearray(film.read_bytes())
    content[len(content) // 2] ^= 1
    film.write_bytes(content)
    with pytest.raises(ShardError, match=r"run: run.mp4 changed since the build"):
        rebuild(root / "b", root / "again", sources=[root / "films"])
    assert not (root / "again" / "SHA256SUMS").exists()


def test_a_source_that_is_gone_is_named(root: Path) -> None:
    (root / "films" / "walk.mp4").unlink()
    with pytest.raises(ShardError, match=r"'walk.mp4' is in none of"):
        rebuild(root / "b", root / "again", sources=[root / "films"])


def test_other_bytes_from_the_same_sources_name_the_files_and_the_versions(root: Path) -> None:
    lines = (root / "b" / "manifest.jsonl").read_text().splitlines()
    events = next(line for line in lines if json.loads(line)["config"] == "events")
    sums = (root / "b" / "SHA256SUMS").read_text()
    other = sums.replace(json.loads(events)["sha256"], "0" * 64)
    write_text(root / "b" / "SHA256SUMS", other)
    values = open_sealed(root / "b" / "provenance.json")
    values["sha256sums"] = sha256_file(root / "b" / "SHA256SUMS")
    values["environment"]["numpy"] = "1.0"
    write_text(root / "b" / "provenance.json", seal(values))
    with pytest.raises(ShardError, match=r"b: events/\S+ came out different .* numpy 1.0, now"):
        rebuild(root / "b", root / "again", sources=[root / "films"])
    assert not (root / "again" / "SHA256SUMS").exists()


def test_a_record_without_what_failed_says_what_is_missing(root: Path) -> None:
    shutil.rmtree(root / "b" / "quarantine")
    with pytest.raises(ShardError, match=r"only quarantine/ tells these; copy that folder"):
        rebuild(root / "b", root / "again", sources=[root / "films"])


def test_another_folder_than_its_own_is_refused(root: Path, origin: Path) -> None:
    with pytest.raises(UsageError, match="is the build itself"):
        rebuild(root / "b", root / "b")
    other = Path(shutil.copytree(origin / "b", root / "other"))
    values = open_sealed(other / "provenance.json") | {"counts": {}}
    write_text(other / "provenance.json", seal(values))
    with pytest.raises(UsageError, match="holds another build"):
        rebuild(root / "b", other)


def test_a_merge_is_rebuilt_by_merging(root: Path) -> None:
    values = open_sealed(root / "b" / "provenance.json")
    write_text(root / "b" / "provenance.json", seal({"merged": [values, values]}))
    with pytest.raises(ShardError, match=r"was merged of 2 builds; .* then merge-shards"):
        rebuild(root / "b", root / "again")


def test_the_command_names_the_folders_as_the_build_does(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--from-manifest", str(root / "b"), "--out", str(root / "again"), "--workers", "1"]
    assert rebuild_shards([*words, "--sources", str(root / "films"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rebuilt"], told["windows"] > 0) == (["run", "walk"], True)
    assert rebuild_shards(["--from-manifest", str(root), "--out", str(root / "x")]) == 1
    assert "do not say how the shards were built" in capsys.readouterr().err
