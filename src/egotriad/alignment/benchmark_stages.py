"""The stage benchmark on shards: target, draft, and the two together, clip by clip in turns."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from egotriad.alignment.model_options import DraftOptions, TargetOptions
from egotriad.alignment.stage_checks import check, check_sum
from egotriad.alignment.stage_facts import described, environment, memory
from egotriad.alignment.stage_models import BenchmarkModels, RandomWeights, loaded_models
from egotriad.alignment.stage_summary import settled, stage_report
from egotriad.alignment.stages import StageRun, StageSettings, run_alone, run_pair
from egotriad.manifests import Clip
from egotriad.manifests.errors import ClipRejected, EvaluationError, UsageError
from egotriad.manifests.files import write_text
from egotriad.manifests.shards import ShardReader, shards_sha256
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.engines import EngineName, Engines
from egotriad.models.placement import Placement

__all__ = ["StageBenchmark", "benchmark_models", "benchmark_stages_on_shards"]

SCHEMA_VERSION = 1
TARGET, DRAFT, PAIR = "target", "draft", "speculative"
Run = Callable[..., StageRun]
Arms = dict[str, tuple[tuple[ConditionedLM, ...], Run]]
Twice = tuple[StageRun, StageRun]
"""A clip in stages, and in one go."""


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
        if self.assumed_alpha is not None and not 0 <= self.assumed_alpha <= 1:
            raise UsageError(f"assumed_alpha: got {self.assumed_alpha}, need 0 <= alpha <= 1")


def benchmark_stages_on_shards(
    shards: Path | str,
    target: Path,
    draft: Path | None,
    out: Path,
    config: StageBenchmark,
    *,
    placement: Placement | None = None,
    random: RandomWeights | None = None,
    engine: EngineName = "auto",
    target_options: TargetOptions | None = None,
    draft_options: DraftOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Runs the benchmark and writes `stages.json` and `runs.jsonl` into `out`; returns the former.

    Args:
        shards: folder, URL or Hub id of a build that holds `config.split`.
        target: folder of the target; its name when weights are random.
        draft: folder of a draft, or its name; None measures the target alone.
        out: folder of the report.
        config: how to measure; random weights write texts of fixed length whatever it says.
        placement: device and precision (see `loaded_models`).
        random: whether weights are made up, and of what shape.
        engine: what runs the decoders (`egotriad.models.engines`).
        target_options: what a published target is told (see `loaded_models`).
        draft_options: what a published draft is told.
        progress: called with (clips done, clips in all).

    Raises:
        CheckpointError: when a model cannot be loaded, or does not fit the memory.
        EvaluationError: when more clips fail than allowed, or none is left.
    """
    models = loaded_models(
        target,
        draft,
        random or RandomWeights(),
        placement,
        target_options=target_options,
        draft_options=draft_options,
    )
    if models.weights == "random":
        config = dataclasses.replace(config, eos="fixed")
    for model in (models.target, models.draft):
        if model is not None:
            model.engines = Engines(engine)
    reader = ShardReader(shards, split=config.split, cached_rows=0)  # every load reads
    count = min(config.clips, len(reader))
    chosen = [i * len(reader) // count for i in range(count)]
    report, runs = benchmark_models(
        models,
        [partial(reader.clip, index) for index in chosen],
        config,
        progress=progress,
    )
    report["sources"] = {"shards_sha256": shards_sha256(shards)}
    write_text(out / "runs.jsonl", "".join(json.dumps(line) + "\n" for line in runs))
    write_text(out / "stages.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def benchmark_models(
    models: BenchmarkModels,
    loads: Sequence[Callable[[], Clip]],
    config: StageBenchmark,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report, and one record per clip and arm.

    Args:
        models: what is timed.
        loads: each loads one clip from its files.
        config: how to measure.
        progress: called with (clips done, clips in all).

    Raises:
        EvaluationError: when more clips fail than allowed, none is left, or a run is not what it
            says.
        UsageError: when an acceptance is assumed of trained models.
    """
    if config.assumed_alpha is not None and models.weights != "random":
        raise UsageError(
            "--assumed-alpha: trained models have an acceptance of their own; only with "
            "--random-weights"
        )
    arms = _arms(models)
    usable, failures, first_s = _usable(loads, arms, config)
    warm = {name: _warmed(run, usable[0][1], config) for name, (_, run) in arms.items()}
    found = _measured(arms, [load for _, load in usable], config, progress)
    report = {
        "schema_version": SCHEMA_VERSION,
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": asdict(config),
        "environment": environment(models.target.device),
        "weights": models.weights,
        "models": described(models),
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
                "memory": memory(arms[name][0], [a for a, _ in pairs]),
            }
            for name, pairs in found.items()
        },
        "lossless": _lossless(found),
    }
    return report, _lines([clip_id for clip_id, _ in usable], found)


def _arms(models: BenchmarkModels) -> Arms:
    """Arm -> its models, and how it runs a clip."""
    target, draft, tokenizer = models.target, models.draft, models.tokenizer
    alone: Arms = {TARGET: ((target,), partial(run_alone, target, tokenizer))}
    if draft is None:
        return alone
    return {
        **alone,
        DRAFT: ((draft,), partial(run_alone, draft, tokenizer)),
        PAIR: ((target, draft), partial(run_pair, target, draft, tokenizer)),
    }


def _measured(
    arms: Arms,
    loads: Sequence[Callable[[], Clip]],
    config: StageBenchmark,
    progress: Callable[[int, int], None] | None,
) -> dict[str, list[Twice]]:
    """Every clip in every arm, in stages and in one go.

    From clip to clip arms come in the other order, and every second clip what is run first of the
    two: whoever follows another arm finds the processor's caches full of that one.
    """
    found: dict[str, list[Twice]] = {name: [] for name in arms}
    for done, load in enumerate(loads, start=1):
        for name in list(arms) if done % 2 else list(reversed(arms)):
            members, run = arms[name]
            order = (True, False) if done % 4 < 2 else (False, True)
            runs = {staged: run(load, config, staged=staged) for staged in order}
            check(runs[True], models=len(members))
            found[name].append((runs[True], runs[False]))
        if progress:
            progress(done, len(loads))
    for pairs in found.values():
        check_sum([staged for staged, _ in pairs])
    return found


def _lines(clips: Sequence[str], found: Mapping[str, Sequence[Twice]]) -> list[dict[str, Any]]:
    """One record per clip and arm."""
    return [
        {
            "clip": clip_id,
            "arm": name,
            "seconds": dict(staged.seconds),
            "staged_s": staged.total_s,
            "unstaged_s": unstaged.total_s,
            "tokens": len(staged.ids),
            "rounds": staged.rounds,
            "prefix_tokens": staged.cached,
        }
        for name, pairs in found.items()
        for clip_id, (staged, unstaged) in zip(clips, pairs, strict=True)
    ]


def _lossless(found: Mapping[str, Sequence[Twice]]) -> dict[str, int] | None:
    """How many of the pair's texts are the target's own; None without a draft."""
    if PAIR not in found:
        return None
    texts = zip(found[TARGET], found[PAIR], strict=True)
    equal = [alone.ids == pair.ids for (alone, _), (pair, _) in texts]
    return {"checked": len(equal), "equal": sum(equal)}


def _usable(
    loads: Sequence[Callable[[], Clip]], arms: Arms, config: StageBenchmark
) -> tuple[list[tuple[str, Callable[[], Clip]]], list[dict[str, str]], dict[str, float]]:
    """Clips that every arm can run, why the others cannot, and seconds of each arm's first run.

    Each clip has been run once then: the first one whole, the others as far as the second id.
    """
    usable: list[tuple[str, Callable[[], Clip]]] = []
    failures: list[dict[str, str]] = []
    first_s: dict[str, float] = {}
    for load in loads:
        clip = load()
        settings = dataclasses.replace(config, max_new_tokens=2) if usable else config
        try:
            for name, (_, run) in arms.items():
                first_s.setdefault(name, run(load, settings).total_s)
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
    return usable, failures, first_s


def _warmed(run: Run, load: Callable[[], Clip], config: StageBenchmark) -> int:
    """Runs until times have settled; how many runs that took."""
    totals: list[float] = []
    while not settled(totals):
        totals.append(run(load, config).total_s)
    return len(totals)
