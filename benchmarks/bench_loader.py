"""Reading shards for training: ours against `datasets` streaming, on the same files in one run.

    python benchmarks/bench_loader.py [--json FILE]

Light rows are windows of 5 s with an IMU at 200 Hz and a narration; event rows hold about a million
events each on 346 x 260 pixels, in time slots as v2e gives them. CPU time of this process, one
thread, warm page cache; each arm of the light case starts with nothing cached. `datasets` in its
numpy format turns every integer into int64; its Arrow rows are turned into (6, T) arrays here.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from harness import Comparison, compare, environment, table, write_json
from numpy.typing import NDArray

from egotriad.alignment.loader import ShardLoader
from egotriad.alignment.loader_order import BatchOrder
from egotriad.manifests import Alignment, Clip, Events, Imu, Narration, Origin, Span
from egotriad.manifests.clip import window_id
from egotriad.manifests.shards import ShardReader, TableWriter

DURATION_US = 5_000_000
WINDOWS, GROUP = 2048, 128
EVENT_WINDOWS, EVENTS_EACH = 12, 1_000_000
SIZE_WH = (346, 260)
COLUMNS = ["window_id", "narration", "imu"]


def clip(index: int, events: Events | None) -> Clip:
    """A window with a plausible IMU: drifting, with sensor noise."""
    rng = np.random.default_rng((7, index))
    t = np.arange(1000) / 200.0
    motion = np.sin(2 * np.pi * rng.uniform(0.5, 3.0, (6, 1)) * t + rng.uniform(0, 6, (6, 1)))
    imu = motion + 0.05 * rng.standard_normal((6, 1000))
    text = f"C walks past door {index % 97}"
    start = index * DURATION_US
    return Clip(
        window_id=window_id("bench", f"rec{index // GROUP:04d}", start, DURATION_US),
        source="bench",
        recording=f"rec{index // GROUP:04d}",
        wearer="w",
        t_start_us=start,
        duration_us=DURATION_US,
        imu=Imu(data=imu.astype(np.float32), rate_hz=200.0, valid=np.ones(1000, bool)),
        events=events,
        event_spans=(Span(0, DURATION_US),) if events is not None else (),
        narration=text,
        narrations=(Narration(t_us=2_500_000, text=text),),
        split="train",
        align=Alignment(status="hardware"),
        origin=Origin(
            source_version="1",
            license_id="own",
            imu_kind="synthetic",
            text_source="label",
            split_group="bench/w",
            split_origin="hash",
            sim_id="0" * 16 if events is not None else None,
        ),
    )


def slotted_events(rng: np.random.Generator) -> Events:
    """Events on 2,500 distinct times, around a few moving places."""
    n = EVENTS_EACH
    t = np.sort(rng.integers(0, 2_500, n)) * 2_000
    place = rng.integers(0, 12, n)
    x = 28 * place + 10 * np.sin(t / 4e5 + place) + rng.normal(0, 6, n)
    y = 130 + 90 * np.cos(t / 7e5 + 2 * place) + rng.normal(0, 12, n)
    return Events(
        t_us=t.astype(np.int64),
        x=np.clip(x, 0, SIZE_WH[0] - 1).astype(np.uint16),
        y=np.clip(y, 0, SIZE_WH[1] - 1).astype(np.uint16),
        p=rng.random(n) < 0.5,
        size_wh=SIZE_WH,
    ).canonical()


def write_build(out: Path, count: int, *, events: bool) -> Path:
    """A build of one shard."""
    rng = np.random.default_rng(3)
    name = "train-00000-of-00001.parquet"
    for folder in ("data", "events"):
        (out / folder).mkdir(parents=True)
    options = {"builder": "bench", "config_hash": "0"}
    with (
        TableWriter(out / "data" / name, "windows", **options) as light,
        TableWriter(out / "events" / name, "events", **options) as heavy,
    ):
        for start in range(0, count, GROUP):
            rows = range(start, min(start + GROUP, count))
            clips = [clip(row, slotted_events(rng) if events else None) for row in rows]
            light.write_windows(
                clips, [None] * len(clips), [row if events else None for row in rows]
            )
            for one in clips if events else ():
                heavy.write_events(one)
    line = {"config": "windows", "split": "train", "path": f"data/{name}"}
    (out / "manifest.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (out / "SHA256SUMS").write_text("", encoding="utf-8")
    return out


def exhaust(items: Iterable[object]) -> int:
    """Number of items."""
    return sum(1 for _ in items)


def imu_batch(clips: list[Clip]) -> torch.Tensor:
    """float32 (B, 6, T)."""
    return torch.from_numpy(np.stack([one.imu.data for one in clips if one.imu]))


def streamed(files: list[str], columns: list[str], form: str = "numpy") -> Iterable[Any]:
    """The same rows through `datasets`, in one of its formats."""
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=files, split="train", streaming=True, columns=columns)
    return rows.with_format(form)


def arrow_imu(row: pa.Table) -> tuple[str, str, NDArray[np.float32]]:
    """What training needs of an Arrow row."""
    imu = row["imu"].chunk(0).flatten().flatten().to_numpy()
    window, narration = row["window_id"][0].as_py(), row["narration"][0].as_py()
    return window, narration, np.ascontiguousarray(imu.reshape(-1, 6).T)


def files_of(build: Path, folder: str) -> list[str]:
    """Its Parquet files."""
    return sorted(str(path) for path in (build / folder).iterdir())


def light_cases(build: Path) -> list[Comparison]:
    """IMU and text."""
    order = BatchOrder(batch_size=32, mixed_rows=512)
    cold = ShardReader(build, events=False, cached_rows=1)
    picks = np.random.default_rng(0).integers(0, WINDOWS, 20).tolist()

    def reader() -> ShardReader:
        return ShardReader(build, events=False, cached_rows=1024)

    data = files_of(build, "data")
    arms: dict[str, Callable[[], object]] = {
        "datasets": lambda: exhaust(streamed(data, COLUMNS)),
        "datasets, arrow": lambda: exhaust(map(arrow_imu, streamed(data, COLUMNS, "arrow"))),
        "reader in turn": lambda: exhaust(reader()),
        "loader shuffled": lambda: exhaust(ShardLoader(reader(), order, imu_batch)),
    }
    at_random: dict[str, Callable[[], object]] = {
        "reader": lambda: exhaust(cold.clip(row) for row in picks)
    }
    case = f"IMU + text at random, nothing cached, row groups of {GROUP}"
    return [
        compare("IMU + text", arms, peer="datasets", work={"window": WINDOWS}, rounds=3),
        compare(case, at_random, peer="reader", work={"window": len(picks)}),
    ]


def event_cases(build: Path) -> list[Comparison]:
    """Event rows, in turn and at random (which is the same: each is a row group)."""
    reader = ShardReader(build)
    columns = ["window_id", "ev_t", "ev_x", "ev_y", "ev_p"]
    rows = np.random.default_rng(0).permutation(EVENT_WINDOWS).tolist()
    span = Span(2_000_000, 50_000)
    arms: dict[str, Callable[[], object]] = {
        "datasets in turn": lambda: exhaust(streamed(files_of(build, "events"), columns)),
        "reader at random": lambda: exhaust(reader.events(row) for row in rows),
        "reader, 50 ms": lambda: exhaust(reader.events(row, span) for row in rows),
    }
    work = {"event": EVENT_WINDOWS * EVENTS_EACH, "window": EVENT_WINDOWS}
    return [compare("events", arms, peer="datasets in turn", work=work, rounds=5)]


def main() -> None:
    """Measures, prints, and writes the JSON when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    pa.set_cpu_count(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = f"{folder}/hf"
        cases = light_cases(write_build(Path(folder) / "light", WINDOWS, events=False))
        cases += event_cases(write_build(Path(folder) / "heavy", EVENT_WINDOWS, events=True))
    print(table(cases))
    for case in cases:
        for row in case.rows():
            rates = ", ".join(f"{1e9 / ns:,.0f} {what}s/s" for what, ns in row["ns_per"].items())
            print(f"{case.case}: {row['arm']}: {rates}")
    if options.json:
        write_json(options.json, cases, environment(("numpy", "pyarrow", "torch", "datasets")))


if __name__ == "__main__":
    main()
