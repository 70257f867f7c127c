"""Fixtures for all tests: no network, the shared folder when it is there, and toy clips."""

import atexit
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from egotriad.manifests import Alignment, Clip, Events, Imu, Narration, Origin, Span
from egotriad.manifests.clip import window_id
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import TableWriter


@atexit.register
def _without_notes_on_leaks() -> None:
    """At the very end of a process DuckDB prints pages about its own leaks."""
    if "duckdb" in sys.modules:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never leave the machine: connecting anywhere but to a local socket fails."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "::1"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Path of a file or folder beside the checkout (`../shared/...`); skips when it is absent."""

    def find(relative: str) -> Path:
        path = Path(__file__).parents[2] / "shared" / relative
        if not path.exists():
            pytest.skip(f"shared/{relative} is not here")
        return path

    return find


TOY_TEXTS = ("C walks forward.", "C turns left quickly.", "C sits down slowly.", "C stirs the pot.")


def toy_clip(index: int, seed: int = 0) -> Clip:
    """A clip whose label (index % 4) shows in its IMU's frequency, its events and its text.

    3.2 s window, IMU at 200 Hz, three overlapping 100 ms event spans of a 32 x 24 sensor.
    """
    rng = np.random.default_rng((seed, index))
    label = index % 4
    t = np.arange(640) / 200.0
    imu = 0.2 * rng.standard_normal((6, 640))
    imu[label] += 2.0 * np.sin(2 * np.pi * (1 + label) * t)
    imu[2] += 9.81
    spans = tuple(Span(1_450_000 + k * 50_000, 100_000) for k in range(3))
    n = 400
    x = np.clip(rng.normal(4 + 8 * label, 2.0, n), 0, 31).astype(np.uint16)
    events = Events(
        t_us=np.sort(rng.integers(spans[0].start_us, spans[-1].end_us, n)),
        x=x,
        y=rng.integers(0, 24, n).astype(np.uint16),
        p=rng.random(n) < 0.5,
        size_wh=(32, 24),
    ).canonical()
    recording = f"rec{index // 4 % 6}"
    wearer = f"w{index // 4 % 6}"
    start = index * 3_200_000
    text = TOY_TEXTS[label]
    return Clip(
        window_id=window_id("toy", recording, start, 3_200_000),
        source="toy",
        recording=recording,
        wearer=wearer,
        t_start_us=start,
        duration_us=3_200_000,
        imu=Imu(data=imu.astype(np.float32), rate_hz=200.0, valid=np.ones(640, bool)),
        events=events,
        event_spans=spans,
        narration=text,
        narrations=(Narration(t_us=1_500_000, text=text, annotation_pass="toy"),),
        split="train" if index // 4 % 6 < 4 else "test",
        align=Alignment(status="assumed"),
        origin=Origin(
            source_version="1",
            license_id="own",
            imu_kind="synthetic",
            text_source="label",
            split_group=f"toy/{wearer}",
            split_origin="hash",
            imu_source_rate_hz=197.45,
            sim_id="0123456789abcdef",
        ),
    )


@pytest.fixture(scope="session")
def toy_clips() -> Callable[..., list[Clip]]:
    """`toy_clips(n, seed=0)`: n clips of six recordings (four for training), labels in turn."""
    return lambda n, seed=0: [toy_clip(index, seed) for index in range(n)]


@pytest.fixture(scope="session")
def write_build() -> Callable[[Sequence[Clip], Path], Path]:
    """Writes the smallest folder that `read_shards` takes for a complete build; returns it."""

    def write(clips: Sequence[Clip], out: Path) -> Path:
        lines = []
        for split in ("test", "train"):
            name = f"{split}-00000-of-00001.parquet"
            some = [clip for clip in clips if clip.split == split]
            for table, folder in (("windows", "data"), ("events", "events")):
                (out / folder).mkdir(parents=True, exist_ok=True)
                path = out / folder / name
                with TableWriter(path, table, builder="test 1", config_hash="c") as writer:
                    if table == "windows":
                        writer.write_windows(some, [None] * len(some), list(range(len(some))))
                    for clip in some if table == "events" else ():
                        writer.write_events(clip)
            sha256 = sha256_file(out / "data" / name)
            line = {"config": "windows", "split": split, "path": f"data/{name}", "sha256": sha256}
            lines.append(line)
        (out / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        sums = f"{sha256_file(out / 'manifest.jsonl')}  manifest.jsonl\n"
        (out / "SHA256SUMS").write_text(sums)
        return out

    return write
