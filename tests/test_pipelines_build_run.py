"""How builds are run: shares, several drivers, signals, full disks, bad recordings; same bytes."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from egotriad.manifests import Recording, Unreadable
from egotriad.manifests.errors import DiskFull, EgotriadError, RecordingError, UsageError
from egotriad.manifests.verify import verify
from egotriad.pipelines import build_parts, disk, engine_task
from egotriad.pipelines.build import BuildReport, build
from egotriad.pipelines.cli import build_shards
from egotriad.pipelines.dataset_simulated import DATASET
from egotriad.pipelines.engine import EngineConfig
from egotriad.pipelines.plan import BuildConfig
from egotriad.pipelines.repair import repair
from egotriad.pipelines.run_config import RunConfig, Share
from egotriad.pipelines.world_plan import WorldOptions

OPTIONS = WorldOptions(
    wearers=2,
    recordings_per_wearer=2,
    clips_per_recording=2,
    size_wh=(64, 48),
    frame_rate_hz=30.0,
    render_workers=1,
)
CONFIG = BuildConfig(
    **{**DATASET.build_defaults, "windows": "grid", "window_s": 1.0, "events": False}
)
FLAGS = [
    *("--wearers", "2", "--recordings-per-wearer", "2", "--clips-per-recording", "2"),
    *("--size-wh", "64", "48", "--frame-rate-hz", "30", "--render-workers", "1"),
    *("--windows", "grid", "--window-seconds", "1", "--no-events"),
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    DATASET.download(folder, OPTIONS)
    return folder


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken build."""
    out = tmp_path_factory.mktemp("whole") / "out"
    build(DATASET, OPTIONS, CONFIG, raw=raw, out=out)
    return out


@pytest.fixture
def make(raw: Path, tmp_path: Path) -> Callable[..., BuildReport]:
    def run(**options: Any) -> BuildReport:
        return build(DATASET, OPTIONS, CONFIG, raw=raw, out=tmp_path / "out", **options)

    return run


def sums(out: Path) -> str:
    return (out / "SHA256SUMS").read_text()


def sabotage(monkeypatch: pytest.MonkeyPatch, victim: str, error: Callable[[], Exception]) -> None:
    """Lets the IMU of one recording fail, when it is built in this process."""
    recordings = type(DATASET).recordings

    def fail() -> None:
        raise error()

    def described(self: Any, raw: Path, options: Any) -> list[Recording]:
        return [
            dataclasses.replace(r, read_imu=fail) if r.recording_id == victim else r
            for r in recordings(self, raw, options)
        ]

    monkeypatch.setattr(type(DATASET), "recordings", described)


@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_every_engine_gives_the_same_bytes(engine: str, make: Any, whole: Path) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    report = make(engine=EngineConfig(engine=engine, workers=2))
    assert report.recordings == 4
    assert sums(report.out) == sums(whole)


def test_shares_built_apart_and_packed_together_are_the_unbroken_build(
    make: Any, whole: Path
) -> None:
    shares = [make(run=RunConfig(partition=f"{k}/2")) for k in range(2)]
    assert sum(share.recordings for share in shares) == 4
    assert not any(share.packed for share in shares)
    assert not (shares[0].out / "SHA256SUMS").exists()
    packed = make(run=RunConfig(pack_only=True))
    assert (packed.reused, packed.missing) == (4, 0)
    assert sums(packed.out) == sums(whole)
    assert verify(packed.out).ok


def test_pack_only_says_what_is_missing(make: Any) -> None:
    share = next(s for k in range(2) if (s := make(run=RunConfig(partition=f"{k}/2"))).recordings)
    if share.recordings < 4:
        assert make(run=RunConfig(pack_only=True)).missing == 4 - share.recordings


def test_a_recording_that_cannot_be_described_fails_in_its_own_share_only(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = type(DATASET).recordings
    bad = Unreadable(recording_id="bad", message="bad.mp4: is cut off")
    monkeypatch.setattr(
        type(DATASET), "recordings", lambda self, *rest: [bad, *recordings(self, *rest)]
    )
    shares = [make(run=RunConfig(partition=f"{k}/3")) for k in range(3)]
    assert sorted(share.faults.get("input", 0) for share in shares) == [0, 0, 1]
    packed = make(run=RunConfig(pack_only=True))
    assert packed.failed == {"bad": "bad.mp4: is cut off"}


def test_shares_are_disjoint_whole_and_stable() -> None:
    names = [f"recording-{k}" for k in range(500)]
    held = [{name for name in names if Share(k, 7).holds(name)} for k in range(7)]
    assert set().union(*held) == set(names)
    assert sum(map(len, held)) == len(names)
    assert min(map(len, held)) > 40
    assert Share.parse(" 3/8 ") == Share(3, 8)
    for text in ("8/8", "1", "-1/2", "a/b", "1/0"):
        with pytest.raises(UsageError, match="--partition"):
            RunConfig(partition=text)


def test_running_again_packs_nothing_twice(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    when = (first.out / "SHA256SUMS").stat().st_mtime_ns
    assert make().reused == 4
    assert (first.out / "SHA256SUMS").stat().st_mtime_ns == when
    shard = next((first.out / "data").iterdir())
    shard.write_bytes(b"short")
    make()
    assert verify(first.out).ok


@pytest.mark.slow
def test_two_drivers_in_one_folder_share_the_work(raw: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [
        "simulated",
        "--out",
        str(out),
        "--raw",
        str(raw),
        *FLAGS,
        "--engine",
        "serial",
        "--json",
    ]
    script = (
        f"import sys; from egotriad.pipelines.cli import build_shards as b; sys.exit(b({words!r}))"
    )
    drivers = [
        subprocess.Popen([sys.executable, "-c", script + f" # {k}"], stdout=subprocess.PIPE)
        for k in range(2)
    ]
    reports = [json.loads(driver.communicate()[0]) for driver in drivers]
    assert sum(report["built"] for report in reports) == 4
    assert [report["recordings"] for report in reports] == [4, 4]
    assert sums(out) == sums(whole)
    assert not list((out / "parts" / "claims").iterdir())


def test_a_recording_that_another_driver_holds_is_waited_for(
    make: Any, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_parts, "WAIT_S", 0.01)
    built: list[str] = []
    really = build_parts.build_part

    def count(job: Any) -> Any:
        built.append(job.plan.recording.recording_id)
        return really(job)

    monkeypatch.setattr(build_parts, "build_part", count)
    take = build_parts.Claims.take
    refused: list[str] = []

    def refuse_twice(self: Any, name: str) -> bool:
        if "." in name and refused.count(name) < 2:
            refused.append(name)
            return False
        return take(self, name)

    monkeypatch.setattr(build_parts.Claims, "take", refuse_twice)
    assert make().recordings == 4
    assert len(built) == len(set(built)) == 4
    assert len(refused) == 8


def test_progress_tells_of_recordings_that_are_not_finished(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., BuildReport]
) -> None:
    shown: list[tuple[int, int, float]] = []

    def show(self: Any, stage: str, done: int, total: int, **more: Any) -> None:
        shown.append((done, total, more["share"]))

    monkeypatch.setattr(build_parts.Meter, "__call__", show)
    monkeypatch.setattr(engine_task, "TELL_S", 0.0)
    make()
    shares = [share for _, _, share in shown]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    between = [share for done, _, share in shown if done == 0]
    assert len(between) > 1
    assert 0 < between[0] < between[-1] <= 0.5


@pytest.mark.parametrize(
    ("number", "engine"),
    [
        (signal.SIGINT, "serial"),
        (signal.SIGTERM, "processes"),
        pytest.param(signal.SIGTERM, "serial", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "processes", marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, "processes", marks=pytest.mark.slow),
    ],
)
def test_signals_end_a_build_that_resumes(
    number: signal.Signals, engine: str, raw: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["simulated", "--out", str(out), "--raw", str(raw), *FLAGS]
    words += ["--engine", engine, "--workers", "2", "--grace-seconds", "0"]
    script = (
        "import sys, time\n"
        "from egotriad.pipelines import build_parts, part\n"
        "from egotriad.pipelines.cli import build_shards\n"
        "if __name__ == '__main__':\n"
        "    build_parts.build_part = time.sleep\n"
        "    jobs = build_parts.PartBuilder._jobs\n"
        "    def slow(self, *rest):\n"
        "        for job in jobs(self, *rest):\n"
        "            print('working', flush=True)\n"
        "            yield 60.0\n"
        "    build_parts.PartBuilder._jobs = slow\n"
        f"    sys.exit(build_shards({words!r}))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    driver = subprocess.Popen([sys.executable, "-c", script], **pipes)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "working\n"
    started = time.monotonic()
    driver.send_signal(number)
    _, said = driver.communicate()
    assert driver.returncode == 75, said
    assert time.monotonic() - started < 10
    assert f"interrupted ({number.name}): 0 of 4 recordings are built" in said
    assert "run the same command again" in said
    assert not list((out / "parts" / "claims").iterdir())
    build(DATASET, OPTIONS, CONFIG, raw=raw, out=out)
    assert sums(out) == sums(whole)


def test_a_disk_that_gets_full_stops_the_build_with_numbers_and_nothing_is_lost(
    make: Any, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = iter([3 << 30, 3 << 30])
    monkeypatch.setattr(
        disk.shutil, "disk_usage", lambda folder: usage(0, 0, next(free, 900 << 20))
    )
    monkeypatch.setattr(disk, "LOOK_EVERY_S", 0.0)
    with pytest.raises(DiskFull, match=r"900\.0 MiB of the disk are free.* keeps 1\.0 GiB"):
        make()
    monkeypatch.undo()
    report = make()
    assert 1 <= report.reused < 4
    assert sums(report.out) == sums(whole)


def test_shards_that_would_not_fit_are_not_begun(
    make: Any, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(file.stat().st_size for file in (whole / "parts").glob("*.parquet"))
    usage = namedtuple("usage", "total used free")
    make(run=RunConfig(partition="0/1"))
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: usage(0, 0, (1 << 30) + size - 1))
    with pytest.raises(DiskFull, match="packing the shards"):
        make()
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: usage(0, 0, (1 << 30) + size))
    assert make().reused == 4


def test_bad_input_is_not_tried_again_and_a_sick_machine_is(
    make: Any, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    victim = "s0-w00-r0"

    def bad() -> Exception:
        tried.append("bad")
        return RecordingError("row 17")

    with monkeypatch.context() as patch:
        sabotage(patch, victim, bad)
        for attempts in (1, 1):
            report = make()
            assert report.faults == {"input": 1}
            assert len(tried) == attempts
        assert make(run=RunConfig(retry_quarantined=True)).faults == {"input": 1}
        assert len(tried) == 2
    with monkeypatch.context() as patch:
        sabotage(patch, victim, lambda: tried.append("sick") or MemoryError())
        report = make(run=RunConfig(retry_quarantined=True))
        assert report.faults == {"machine": 1}
        assert tried[2:] == ["sick", "sick"]
        assert json.loads((report.out / f"quarantine/{victim}.json").read_text())["attempts"] == 2
    assert make().failed == {}  # machine faults are tried again without being asked
    assert sums(report.out) == sums(whole)


def test_a_defect_of_ours_costs_its_recording_only(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch, "s0-w00-r0", lambda: IndexError("list index out of range"))
    report = make()
    assert (report.recordings, report.faults) == (3, {"defect": 1})
    record = json.loads((report.out / "quarantine" / "s0-w00-r0.json").read_text())
    assert record["error"] == "IndexError"
    assert "part_imu.py" in record["traceback"]
    assert verify(report.out).ok


def test_too_many_failures_stop_the_build(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(monkeypatch, "s0-w00-r0", lambda: RecordingError("row 17"))
    assert make(run=RunConfig(max_failures=1)).recordings == 3
    with pytest.raises(EgotriadError, match=r"--max-failures allows 0; the latest.*row 17"):
        make(run=RunConfig(max_failures=0, retry_quarantined=True))


@pytest.mark.slow
def test_one_poisoned_video_of_four_exits_with_3_and_the_quarantine_says_why(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned = tmp_path / "raw"
    subprocess.run(["cp", "-r", raw, poisoned], check=True)
    video = poisoned / "full_scale" / "s0-w01-r0.mp4"
    half = video.stat().st_size // 2
    video.write_bytes(video.read_bytes()[:half] + bytes(video.stat().st_size - half))
    words = ["simulated", "--out", str(tmp_path / "out"), "--raw", str(poisoned), *FLAGS]
    words = [word for word in words if word != "--no-events"]
    words += ["--event-spans", "0.05s@center", "--upsample", "none", "--workers", "2", "--json"]
    assert build_shards([*words, "--verify"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["recordings"] == 3
    assert report["verified"]["ok"]
    record = json.loads((tmp_path / "out" / "quarantine" / "s0-w01-r0.json").read_text())
    assert record["class"] == "input"
    assert "s0-w01-r0.mp4" in record["message"]


def test_nothing_is_left_behind_of_workers_that_died(
    make: Any, whole: Path, tmp_path: Path
) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    parts = tmp_path / "out" / "parts"
    (parts / "claims").mkdir(parents=True)
    (parts / f"s0-w00-r0.0123456789abcdef.windows.parquet.tmp-{done.pid}").write_bytes(b"half")
    report = make()
    assert not list(report.out.rglob("*.tmp-*"))
    assert sums(report.out) == sums(whole)


def test_a_wearer_with_two_official_splits_goes_to_the_more_held_out_one(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = type(DATASET).recordings

    def torn(self: Any, raw: Path, options: Any) -> list[Recording]:
        splits = ["train", "validation", "train", "train"]
        found = recordings(self, raw, options)
        return [
            dataclasses.replace(r, official_split=s) for r, s in zip(found, splits, strict=True)
        ]

    monkeypatch.setattr(type(DATASET), "recordings", torn)
    report = make()
    lines = [json.loads(x) for x in (report.out / "manifest.jsonl").read_text().splitlines()]
    assert {line["split"]: line["videos"] for line in lines if line["config"] == "windows"} == {
        "train": 2,
        "validation": 2,
    }
    assert verify(report.out).ok


def test_a_lost_part_is_repaired_into_the_split_its_wearer_was_moved_to(
    make: Any, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = type(DATASET).recordings

    def torn(self: Any, raw: Path, options: Any) -> list[Recording]:
        found = recordings(self, raw, options)
        splits = ["train", "validation", "train", "train"]
        return [
            dataclasses.replace(r, official_split=s) for r, s in zip(found, splits, strict=True)
        ]

    monkeypatch.setattr(type(DATASET), "recordings", torn)
    out = make().out
    expected = sums(out)
    for file in (*(out / "parts").glob("s0-w00-r0.*"), *(out / "data").glob("validation*")):
        file.unlink()
    repair(out, verify(out), raw=raw)
    assert sums(out) == expected
    assert verify(out).ok
