"""The stage benchmark on shards: target, draft, and the two together, clip by clip in turns."""

import dataclasses
import json
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.stage_summary import settled, stage_report
from egotriad.alignment.stages import StageRun, StageSettings, check, run_alone, run_pair
from egotriad.manifests import Clip
from egotriad.manifests.errors import ClipRejected, EvaluationError, UsageError
from egotriad.manifests.files import write_text
from egotriad.manifests.shards import ShardReader, shards_sha256
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.folder import check_same_tokenizer, load_model, versions
from egotriad.models.loading import load_target
from egotriad.models.placement import Placement

__all__ = ["StageBenchmark", "benchmark_models", "benchmark_stages_on_shards"]

SCHEMA_VERSION = 1
TARGET, DRAFT, PAIR = "target", "draft", "speculative"
Run = Callable[..., StageRun]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBenchmark(StageSettings):
    """How the stages are measured.

    Attributes:
        split: which clips.
        clips: how many of them, spread evenly.
        allow_failures: how many clips may fail; each is listed.
    """

    split: str = "test"
    clips: int = 100
    allow_failures: int = 0

    def __post_init__(self) -> None:
        for name, least in (("gamma", 1), ("max_new_tokens", 2), ("clips", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: got {getattr(self, name)}, need >= {least}")


def benchmark_stages_on_shards(
    shards: Path | str,
    target_folder: Path,
    draft_folder: Path | None,
    out: Path,
    config: StageBenchmark,
    *,
    placement: Placement | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Runs the benchmark and writes `stages.json` and `runs.jsonl` into `out`; returns the former.

    Args:
        shards: folder, URL or Hub id of a build that holds `config.split`.
        target_folder: the target.
        draft_folder: a draft with its tokenizer; None measures the target alone.
        out: folder of the report.
        config: how to measure.
        placement: device and precision of the target (see `load_target`); the draft goes to the
            device too, in float32.
        progress: called with (clips done, clips in all).

    Raises:
        CheckpointError: when the target cannot be loaded.
        EvaluationError: when more clips fail than allowed, or none is left.
    """
    target, tokenizer, _ = load_target(target_folder, placement=placement)
    draft = None
    if draft_folder is not None:
        draft, own_tokenizer, _ = load_model(draft_folder)
        check_same_tokenizer(tokenizer, own_tokenizer)
    reader = ShardReader(shards, split=config.split, cached_rows=0)  # every load reads
    count = min(config.clips, len(reader))
    chosen = [i * len(reader) // count for i in range(count)]
    report, runs = benchmark_models(
        target,
        draft.to(target.device) if draft is not None else None,
        tokenizer,
        [partial(reader.clip, index) for index in chosen],
        config,
        progress=progress,
    )
    report["sources"] = {"shards_sha256": shards_sha256(shards)}
    write_text(out / "runs.jsonl", "".join(json.dumps(line) + "\n" for line in runs))
    write_text(out / "stages.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def benchmark_models(
    target: ConditionedLM,
    draft: ConditionedLM | None,
    tokenizer: PreTrainedTokenizerFast,
    loads: Sequence[Callable[[], Clip]],
    config: StageBenchmark,
    *,
    weights: str = "trained",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report, and one record per clip and arm.

    Args:
        target: in eval mode, like the draft and on its device.
        draft: None measures the target alone.
        tokenizer: of both.
        loads: each loads one clip from its files.
        config: how to measure.
        weights: `trained`, or `random` weights of the true size, which the report repeats.
        progress: called with (clips done, clips in all).

    Raises:
        EvaluationError: when more clips fail than allowed, none is left, or a run is not what it
            says.
    """
    arms: dict[str, tuple[int, Run]] = {TARGET: (1, partial(run_alone, target, tokenizer))}
    if draft is not None:
        arms[DRAFT] = (1, partial(run_alone, draft, tokenizer))
        arms[PAIR] = (2, partial(run_pair, target, draft, tokenizer))
    usable, failures = _usable(loads, arms, config)
    first_s = {name: run(usable[0][1], config).total_s for name, (_, run) in arms.items()}
    warm = {name: _warmed(run, usable[0][1], config) for name, (_, run) in arms.items()}
    found: dict[str, list[tuple[StageRun, StageRun]]] = {name: [] for name in arms}
    for done, (_, load) in enumerate(usable, start=1):
        order = list(arms) if done % 2 else list(reversed(arms))
        for name in order:
            models, run = arms[name]
            staged, unstaged = run(load, config), run(load, config, staged=False)
            check(staged, models=models)
            found[name].append((staged, unstaged))
        if progress:
            progress(done, len(usable))
    report = {
        "schema_version": SCHEMA_VERSION,
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config),
        "environment": _environment(target.device),
        "weights": weights,
        "data": {
            "requested": len(loads),
            "ok": len(usable),
            "failures": failures,
            "page_cache": "warm: every clip has been read before",
        },
        "warm_up": {name: {"first_call_s": first_s[name], "runs": warm[name]} for name in arms},
        "arms": {
            name: {
                **stage_report([a for a, _ in pairs], [b for _, b in pairs]),
                "memory": _memory(name, target, draft, [a for a, _ in pairs]),
            }
            for name, pairs in found.items()
        },
    }
    lines = [
        {
            "clip": clip_id,
            "arm": name,
            "seconds": dict(staged.seconds),
            "unstaged_s": unstaged.total_s,
            "tokens": len(staged.ids),
            "rounds": staged.rounds,
            "prefix_tokens": staged.cached,
        }
        for name, pairs in found.items()
        for (clip_id, _), (staged, unstaged) in zip(usable, pairs, strict=True)
    ]
    return report, lines


def _usable(
    loads: Sequence[Callable[[], Clip]],
    arms: Mapping[str, tuple[int, Run]],
    config: StageBenchmark,
) -> tuple[list[tuple[str, Callable[[], Clip]]], list[dict[str, str]]]:
    """Clips that every arm can run, and why the others cannot; each has been run once then."""
    usable: list[tuple[str, Callable[[], Clip]]] = []
    failures: list[dict[str, str]] = []
    short = dataclasses.replace(config, max_new_tokens=2)
    for load in loads:
        clip = load()
        try:
            for _, run in arms.values():
                run(load, short)
        except ClipRejected as exc:
            failures.append({"clip": clip.window_id, "error": str(exc)})
        else:
            usable.append((clip.window_id, load))
    if len(failures) > config.allow_failures or not usable:
        first = failures[0]["error"] if failures else "there are none"
        raise EvaluationError(
            f"{len(failures)} of {len(loads)} clips cannot be measured (the first: {first}); "
            f"allowed are {config.allow_failures} (--allow-failures), and one must remain"
        )
    return usable, failures


def _warmed(run: Run, load: Callable[[], Clip], config: StageBenchmark) -> int:
    """Runs until times have settled; how many runs that took."""
    totals: list[float] = []
    while not settled(totals):
        totals.append(run(load, config).total_s)
    return len(totals)


def _memory(
    arm: str, target: ConditionedLM, draft: ConditionedLM | None, runs: Sequence[StageRun]
) -> dict[str, int | None]:
    """Bytes of weights, of keys and values at the end of the longest text, and at the peak."""
    models = [m for m in (target, draft) if m is not None]
    models = {TARGET: models[:1], DRAFT: models[1:], PAIR: models}[arm]
    on_device = target.device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(target.device)
        if on_device
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return {
        "weights_bytes": sum(p.nbytes for m in models for p in m.parameters()),
        "kv_bytes_end": max(run.kv_bytes for run in runs),
        "peak_bytes": peak,
    }


def _environment(device: torch.device) -> dict[str, Any]:
    """Versions and settings that times depend on; no host, user or path."""
    cuda = device.type == "cuda"
    return {
        **versions(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "cuda": torch.version.cuda,
    }
