"""Repair: the bytes that were lost come back, from parts or from sources, or nothing changes."""

import json
import shutil
from pathlib import Path

import pytest

from egotriad.converters.interpolate import UpsampleConfig
from egotriad.manifests.errors import ShardError
from egotriad.manifests.files import open_sealed, seal, sha256_file
from egotriad.manifests.verify import verify
from egotriad.pipelines.build import build
from egotriad.pipelines.dataset_gopro import DATASET, GoProOptions
from egotriad.pipelines.fake_gopro import write_fake_gopro
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.provenance import options_record
from egotriad.pipelines.repair import RepairReport, repair
from egotriad.pipelines.restore import restored
from egotriad.pipelines.verify_cli import verify_shards
from egotriad.pipelines.world_plan import WorldOptions

CONFIG = BuildConfig(window_s=2.0, sensor="32x24", sync="off")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of two recordings in `b`, its sources in `films`."""
    root = tmp_path_factory.mktemp("origin")
    (root / "films").mkdir()
    video, _ = write_fake_gopro(root / "films")
    films = [video.rename(root / "films" / "walk.mp4"), root / "films" / "run.mp4"]
    shutil.copy(films[0], films[1])
    options = GoProOptions(input=tuple(films), wearer="anna")
    build(DATASET, options, CONFIG, raw=root / "raw", out=root / "b", workers=1)
    assert verify(root / "b").ok
    return root


@pytest.fixture
def root(origin: Path, tmp_path: Path) -> Path:
    """A copy of the build and its sources, to be spoilt."""
    return Path(shutil.copytree(origin, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, str]:
    """Hash of every output file."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "parts" not in path.parts
    }


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def mend(root: Path) -> RepairReport:
    out = root / "b"
    return repair(out, verify(out), sources=[root / "films"])


def events_of(out: Path) -> Path:
    (file,) = (out / "events").iterdir()
    return file


def test_whatever_is_lost_comes_back_from_the_parts(root: Path, origin: Path) -> None:
    out = root / "b"
    shutil.rmtree(root / "films")  # sources are not needed
    names = sorted(contents(out))
    assert "stats.json" in names
    for name in [name for name in names if (out / name).stat().st_size]:
        untouched = {n: (out / n).stat().st_mtime_ns for n in names if n != name}
        flip(out / name)
        done = mend(root)
        assert (done.restored, done.rebuilt) == ((name,), ())
        assert verify(out).ok
        assert contents(out) == contents(origin / "b")
        kept = {n: (out / n).stat().st_mtime_ns for n in untouched if n != "provenance.json"}
        assert kept.items() <= untouched.items(), name
    assert not (out / "parts" / "repair").exists()


def test_everything_but_the_parts_may_be_gone(root: Path, origin: Path) -> None:
    out = root / "b"
    for name in contents(out):
        if name != "manifest.jsonl":
            (out / name).unlink()
    (out / "data" / "train-00003-of-00009.parquet").touch()
    (out / "README.md.tmp-1").touch()
    done = mend(root)
    assert sorted(done.restored) == sorted(contents(origin / "b").keys() - {"manifest.jsonl"})
    assert sorted(done.deleted) == ["README.md.tmp-1", "data/train-00003-of-00009.parquet"]
    assert contents(out) == contents(origin / "b")
    assert verify(out).ok


@pytest.mark.parametrize("kind", ["events.parquet", "windows.parquet", "done.json"])
def test_a_damaged_part_is_built_again_from_its_source(root: Path, origin: Path, kind: str) -> None:
    out = root / "b"
    flip(events_of(out))
    (part,) = (out / "parts").glob(f"run.*.{kind}")
    flip(part)
    done = mend(root)
    assert done.rebuilt == ("run",)
    assert contents(out) == contents(origin / "b")
    assert sha256_file(part) == sha256_file(origin / "b" / "parts" / part.name)
    flip(events_of(out))
    assert mend(root).rebuilt == ()  # the new part is found


def test_all_parts_may_be_gone_as_long_as_the_sources_are_there(root: Path, origin: Path) -> None:
    out = root / "b"
    shutil.rmtree(out / "parts")
    events_of(out).unlink()
    done = mend(root)
    assert sorted(done.rebuilt) == ["run", "walk"]
    assert contents(out) == contents(origin / "b")
    assert (out / "parts" / "provenance.json").read_bytes() == (
        out / "provenance.json"
    ).read_bytes()


def test_changed_or_absent_sources_change_nothing(root: Path, tmp_path: Path) -> None:
    out = root / "b"
    shutil.rmtree(out / "parts")
    flip(events_of(out))
    before = contents(out)
    with (root / "films" / "run.mp4").open("ab") as film:
        film.write(b"\0\0\0\x08free")
    with pytest.raises(ShardError, match=r"run: run.mp4 changed since the build"):
        mend(root)
    (root / "films" / "run.mp4").unlink()
    with pytest.raises(ShardError, match=r"'run.mp4' is in none of .*--sources"):
        mend(root)
    assert contents(out) == before


def test_a_repair_that_gives_other_bytes_touches_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = root / "b"
    flip(out / "README.md")
    before = contents(out)
    monkeypatch.setattr("egotriad.pipelines.repair.shards_title", lambda name: "other shards")
    with pytest.raises(ShardError, match=r"not what was built .* nothing was changed"):
        mend(root)
    assert contents(out) == before
    assert not (out / "parts" / "repair").exists()


def test_without_any_record_there_is_no_repair(root: Path) -> None:
    out = root / "b"
    flip(out / "provenance.json")
    flip(out / "parts" / "provenance.json")
    with pytest.raises(ShardError, match="and its copy in parts/ do not say"):
        mend(root)
    for place in (out, out / "parts"):
        (place / "provenance.json").write_text(seal({"sha256sums": "0"}))
    with pytest.raises(ShardError, match="do not say how the shards were built"):
        mend(root)


def test_another_configuration_hash_is_refused(root: Path) -> None:
    out = root / "b"
    values = open_sealed(out / "provenance.json")
    values["config"]["values"]["window_s"] = 3.0
    values["environment"]["pyarrow"] = "1.0"
    for place in (out, out / "parts"):
        (place / "provenance.json").write_text(seal(values))
    flip(out / "README.md")
    with pytest.raises(ShardError, match=r"pyarrow 1.0, now .*; repair with that version"):
        mend(root)
    values["config"]["values"]["colour"] = "red"
    for place in (out, out / "parts"):
        (place / "provenance.json").write_text(seal(values))
    with pytest.raises(ShardError, match="of another version of egotriad"):
        mend(root)


def test_options_come_back_as_they_were(tmp_path: Path) -> None:
    film = tmp_path / "a.mp4"
    film.touch()
    gopro = GoProOptions(input=(film, film), wearer="w")
    world = WorldOptions(size_wh=(64, 48), frame_rate_hz=30.0)
    config = BuildConfig(window_s=1.5, pos_thres=0.3)
    upsampling = UpsampleConfig(method="linear")
    for options in (gopro, world, config, upsampling):
        record = json.loads(json.dumps(options_record(options)))
        assert restored(type(options), record, [tmp_path / "no", tmp_path]) == options


def test_the_command_verifies_repairs_and_says_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / "b"
    assert verify_shards([str(out)]) == 0
    assert "b: 0 findings in 9 files" in capsys.readouterr().out
    flip(events_of(out))
    (part,) = (out / "parts").glob("walk.*.events.parquet")
    part.unlink()
    assert verify_shards([str(out), "--light"]) == 1
    told = capsys.readouterr().out
    assert f"{events_of(out).relative_to(out)}: sha256: got" in told
    assert "--repair makes damaged files again" in told
    assert verify_shards([str(out), "--repair"]) == 1
    told = capsys.readouterr().out
    assert "not repaired: 'walk.mp4' is in none of" in told
    words = [str(out), "--repair", "--json", "--sources", str(root / "films"), "--workers", "1"]
    assert verify_shards(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert result["findings"] == []
    assert result["repair"]["rebuilt"] == ["walk"]
    assert verify_shards([str(root)]) == 1
    assert "no build" in capsys.readouterr().err
