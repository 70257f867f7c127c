"""Acceptance of an IMU draft on held-out clips, beside the controls that give it a meaning.

Every arm of `arms.py` runs the real loop on every clip, always against the same target.
"""

import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.arms import (
    DRAFT,
    Bench,
    ClipResult,
    Guesser,
    Narrator,
    evaluation_span,
)
from egotriad.alignment.controls import overlap
from egotriad.alignment.cost import StepCosts
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.groups import verb_names
from egotriad.alignment.lossless import UNLIKELY, ChiSquare, sampled_texts_fit
from egotriad.alignment.measure_speed import measure_speed
from egotriad.alignment.ngram import NgramTable
from egotriad.alignment.run_split import Failure, run_split
from egotriad.alignment.speed import ClipSpeed, Speed, speed_of
from egotriad.alignment.summary import Summary, summarise, verdict
from egotriad.alignment.target_outputs import TargetOutput
from egotriad.alignment.target_quality import TargetQuality
from egotriad.manifests import Clip
from egotriad.manifests.errors import EvaluationError, UsageError
from egotriad.models.folder import versions

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, on what, and how.

    Attributes:
        config, environment, models, sources: settings, versions, the meta of every model, hashes.
        requested: number of clips of the split; `clips` and `failures` add up to it.
        clips: results, in the order of the shards.
        failures: clips left out of all arms.
        summary, verdict: the numbers, and what they say about the sensor.
        recorded: whether recorded texts stood for the target; then nothing was timed.
        costs: of one step on the first clip; None of recorded texts.
        speed: speed-ups over the clips that were timed, None when none was.
        speed_clips: their times.
        chi_square: sampled texts against the target's distribution, None when not asked for.
        ngram_texts: number of training texts behind the n-gram table.
        quality: how well the target names what happens, None when not judged.
        overlaps: training data among the evaluated clips (only with allow_overlap).
        tokens: piece of every id that was drafted or emitted, for display.
    """

    config: EvaluationConfig
    environment: Mapping[str, str | int]
    models: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, str]
    requested: int
    clips: tuple[ClipResult, ...]
    failures: tuple[Failure, ...]
    summary: Summary
    verdict: str
    recorded: bool
    costs: StepCosts | None
    speed: Speed | None
    speed_clips: tuple[ClipSpeed, ...]
    chi_square: ChiSquare | None
    ngram_texts: int
    quality: TargetQuality | None
    overlaps: tuple[str, ...]
    tokens: Mapping[int, str]


def evaluate(
    clips: Iterable[Clip],
    target: Narrator,
    draft: Narrator,
    text_draft: Narrator | None,
    training_outputs: Iterable[TargetOutput],
    config: EvaluationConfig,
    *,
    tokenizer: PreTrainedTokenizerFast,
    metas: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, str] | None = None,
    quality: TargetQuality | None = None,
    recorded: bool = False,
    prompt: Sequence[int] = (),
    remember: Callable[[Tensor], Guesser] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Runs every arm on every clip of the split and draws the conclusions.

    A clip that a model cannot use is left out of all arms and listed under `failures`.

    Args:
        clips: any splits; those of `config.split` are evaluated.
        target: the model to speed up, or recorded texts of it (`CachedTarget`); like the drafts in
            eval mode and of the same vocabulary.
        draft: the IMU draft.
        text_draft: its twin without a sensor, trained the same way; None leaves that arm out.
        training_outputs: the target's cached texts; rows of the training split fit the n-gram.
        config: how to measure.
        tokenizer: the target's.
        metas: meta of each model folder under `target`, `draft` and `text_draft`; those of the
            drafts say under `trained_on` which `wearers` and `recordings` they have seen.
        sources: hashes of what was read, for the report.
        quality: how well the target names what happens in these clips, for the report.
        recorded: whether the target is a record of texts: greedy, and without times.
        prompt: ids of the target's prompt, which prompt lookup searches.
        remember: gives the retrieval arm's proposer for a clip's draft inputs.
        progress: called with (clips done, clips in all).

    Raises:
        UsageError: when a setting asks for what was not given, or what recorded texts cannot tell.
        EvaluationError: when no clip can be evaluated, clips are not held out, all are of one
            recording, there is no training text, the draft proposed nothing, or texts differ and
            `require_lossless` is set.
    """
    held_out = [clip for clip in clips if clip.split == config.split]
    if not held_out:
        raise EvaluationError(
            f"no clips to evaluate: the shards hold none of split {config.split!r}; "
            "choose another split or build more recordings"
        )
    if recorded:
        _require_greedy(config)
    if config.retrieval and remember is None:
        raise UsageError("retrieval: needs the training clips (remember), got none")
    training = [row for row in training_outputs if row.split == "train"]
    drafts = ["draft"] if text_draft is None else ["draft", "text_draft"]
    seen = {name: metas.get(name, {}).get("trained_on", {}) for name in drafts}
    overlaps = _overlaps(held_out, seen, training, allowed=config.allow_overlap)
    bench = Bench(
        target=target,
        draft=draft,
        text_draft=text_draft,
        table=NgramTable((row.output_ids for row in training), order=config.ngram_order),
        tokenizer=tokenizer,
        config=config,
        recorded=recorded,
        prompt=tuple(prompt) if config.prompt_lookup else None,
        remember=remember if config.retrieval else None,
        verbs=verb_names(clip.narration for clip in held_out),
    )
    results, failures, costs = run_split(bench, held_out, progress)
    summary = summarise(
        results,
        gamma=bench.schedule.most,
        greedy=config.sampling.greedy,
        draws=config.bootstrap_draws,
        seed=config.seed,
    )
    _require_sense(results, summary, config)
    evaluated = {result.window_id for result in results}
    evaluated_clips = [clip for clip in held_out if clip.window_id in evaluated]
    timed = measure_speed(bench, evaluated_clips, 0 if recorded else config.speed_clips)
    return Evaluation(
        config=config,
        environment=_environment(),
        models=metas,
        sources=sources or {},
        requested=len(held_out),
        clips=results,
        failures=failures,
        summary=summary,
        verdict=verdict(summary),
        recorded=recorded,
        costs=costs,
        speed=speed_of(timed, draws=config.bootstrap_draws, seed=config.seed) if timed else None,
        speed_clips=timed,
        chi_square=_chi_square(bench, evaluated_clips[0], config)
        if config.check_lossless
        else None,
        ngram_texts=len(training),
        quality=quality,
        overlaps=overlaps,
        tokens=_pieces(results, tokenizer),
    )


def _require_greedy(config: EvaluationConfig) -> None:
    """Refuses what recorded greedy texts cannot tell."""
    asked = {
        "--temperature": config.temperature > 0,
        "--check-lossless": config.check_lossless,
        "--require-lossless": config.require_lossless,
    }
    names = [name for name, given in asked.items() if given]
    if names:
        raise UsageError(
            f"{', '.join(names)}: recorded texts say what the target chose greedily, and neither "
            "its probabilities nor whether it would say so again; run the target itself"
        )


def _require_sense(
    results: Sequence[ClipResult], summary: Summary, config: EvaluationConfig
) -> None:
    drafted = summary.arms[DRAFT].metrics
    if not drafted.drafted:
        raise EvaluationError(
            f"the draft proposed nothing in {drafted.rounds} rounds of {drafted.clips} clips: it "
            "never ran, so nothing can be said of it; check the draft and --max-new-tokens"
        )
    if config.require_lossless and summary.equal < summary.checked:
        raise EvaluationError(_divergence_text(results, summary))


def _overlaps(
    held_out: Sequence[Clip],
    trained_on: Mapping[str, Mapping[str, Collection[str]]],
    training: Sequence[TargetOutput],
    *,
    allowed: bool,
) -> tuple[str, ...]:
    """Sentences on training data among the evaluated clips, one per model that has seen any."""
    ngram = {
        "wearers": {row.wearer for row in training if row.wearer is not None},
        "recordings": {row.recording for row in training},
    }
    every = {**trained_on, "n-gram table": ngram}
    found = tuple(filter(None, (overlap(held_out, seen, name) for name, seen in every.items())))
    if found and not allowed:
        raise EvaluationError(
            f"the clips are not held out: {'; '.join(found)}; evaluate another split, or pass "
            "--allow-overlap for numbers that say nothing about new recordings"
        )
    return found


def _chi_square(bench: Bench, clip: Clip, config: EvaluationConfig) -> ChiSquare:
    span = evaluation_span(clip)
    states = [m.state(m.prepare(clip, span)[None]) for m in (bench.target, bench.draft)]
    found = sampled_texts_fit(*states, seed=config.seed, avoid=(bench.target.eos_id,))
    if config.require_lossless and found.p < UNLIKELY:
        raise EvaluationError(
            f"sampled texts do not have the target's distribution (chi-square p {found.p:.1g} "
            f"over {found.n} texts): a cache or a rule is wrong"
        )
    return found


def _divergence_text(results: Sequence[ClipResult], summary: Summary) -> str:
    first = next(
        f"{result.window_id}, arm {name}, id {run.divergence.index}, top-2 logit gap "
        f"{run.divergence.top2_gap:.2g}"
        for result in results
        for name, run in result.arms.items()
        if run.divergence
    )
    return (
        f"{summary.checked - summary.equal} of {summary.checked} texts differ from plain greedy "
        f"decoding (first: {first}); run in float32, or without --require-lossless"
    )


def _pieces(results: Sequence[ClipResult], tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    runs = [run for result in results for run in result.arms.values()]
    ids = sorted({i for run in runs for r in run.rounds for i in r.drafted + r.emitted})
    return dict(zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True))


def _environment() -> dict[str, str | int]:
    """Versions and settings that results depend on; no host, user or path."""
    return {
        **versions(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
