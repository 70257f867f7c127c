"""The five stages of a 7B target with calibrated drafts: a section of `gpu_suite.py`.

Clips are written into shards first, so that loading loads. What `benchmark-stages --random-weights`
does, on EventGPT-7B and drafts of three sizes.
"""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from gpu_models import Models
from gpu_section import Options, Row, attempted
from gpu_speculation import ALPHA, GAMMA
from rich.console import Console

from egotriad.alignment.benchmark_stages import StageBenchmark, benchmark_models
from egotriad.alignment.stage_models import BenchmarkModels
from egotriad.alignment.stage_table import stage_table
from egotriad.manifests import Alignment, Clip, Events, Imu, Narration, Origin, Span
from egotriad.manifests.clip import window_id
from egotriad.manifests.shards import ShardReader, TableWriter
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.engines import EngineName, Engines

CLIPS, IDS, EVENTS, SIZE_WH = 5, 64, 100_000, (346, 260)
SPAN = Span(2_475_000, 50_000)
ENGINE: EngineName = "graphed"
CONFIG = StageBenchmark(
    clips=CLIPS, max_new_tokens=IDS, gamma=GAMMA, eos="fixed", assumed_alpha=ALPHA
)
Load = Callable[[], Clip]


def stages(options: Options) -> Iterator[Row]:
    """A table of stages for each draft."""
    models = Models.of(options)
    target = models.target()
    target.engines = Engines(ENGINE)
    with tempfile.TemporaryDirectory() as folder:
        reader = ShardReader(write_build(Path(folder)), split="test", cached_rows=0)
        loads = [partial(reader.clip, index) for index in range(CLIPS)]
        for name in models.speculated:
            case = partial(table, name, models, target, loads)
            yield attempted(name, case, options)


def table(name: str, models: Models, target: ConditionedLM, loads: Sequence[Load]) -> Row:
    """Target, one draft and the two together."""
    draft = models.draft(name)
    draft.engines = Engines(ENGINE)
    pair = BenchmarkModels(target=target, draft=draft, tokenizer=models.tokenizer, weights="random")
    report, _ = benchmark_models(pair, loads, CONFIG)
    text = io.StringIO()
    Console(file=text, width=100).print(stage_table(report))
    return Row(text=f"{name}, steps {ENGINE}\n{text.getvalue()}", record=report)


def write_build(out: Path) -> Path:
    """A build of a few clips of 5 s, 100,000 events in the 50 ms that EventGPT sees of each."""
    clips, name = [clip(index) for index in range(CLIPS)], "test-00000-of-00001.parquet"
    for table, folder in (("windows", "data"), ("events", "events")):
        (out / folder).mkdir()
        with TableWriter(out / folder / name, table, builder="bench", config_hash="0") as writer:
            if table == "windows":
                writer.write_windows(clips, [None] * CLIPS, list(range(CLIPS)))
            else:
                for one in clips:
                    writer.write_events(one)
    line = {"config": "windows", "split": "test", "path": f"data/{name}"}
    (out / "manifest.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (out / "SHA256SUMS").write_text("", encoding="utf-8")
    return out


def clip(index: int) -> Clip:
    """Noise of the right shape and size."""
    rng = np.random.default_rng(index)
    imu = rng.standard_normal((6, 1000)).astype(np.float32)
    imu[2] += 9.81
    events = Events(
        t_us=np.sort(rng.integers(SPAN.start_us, SPAN.end_us, EVENTS)),
        x=rng.integers(0, SIZE_WH[0], EVENTS).astype(np.uint16),
        y=rng.integers(0, SIZE_WH[1], EVENTS).astype(np.uint16),
        p=rng.random(EVENTS) < 0.5,
        size_wh=SIZE_WH,
    ).canonical()
    start_us = index * 5_000_000
    return Clip(
        window_id=window_id("bench", "r", start_us, 5_000_000),
        source="bench",
        recording="r",
        wearer="w",
        t_start_us=start_us,
        duration_us=5_000_000,
        imu=Imu(data=imu, rate_hz=200.0, valid=np.ones(1000, bool)),
        events=events,
        event_spans=(SPAN,),
        narration="C walks.",
        narrations=(Narration(t_us=2_500_000, text="C walks.", annotation_pass="bench"),),
        split="test",
        align=Alignment(status="assumed"),
        origin=Origin(
            source_version="1",
            license_id="own",
            imu_kind="synthetic",
            text_source="label",
            split_group="bench/w",
            split_origin="hash",
            imu_source_rate_hz=200.0,
            sim_id="0" * 16,
        ),
    )
