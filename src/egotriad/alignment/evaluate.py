"""Acceptance of an IMU draft on held-out clips, beside the controls that give it a meaning.

Every arm of `arms.py` runs the real loop on every clip, always against the same target.
"""

import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.arms import Bench, ClipResult, evaluation_span, run_clip
from egotriad.alignment.controls import overlap, shuffled_donors
from egotriad.alignment.cost import StepCosts, measure_steps
from egotriad.alignment.lossless import UNLIKELY, ChiSquare, sampled_texts_fit
from egotriad.alignment.measure_speed import measure_speed
from egotriad.alignment.ngram import NgramTable
from egotriad.alignment.sampling import Sampling
from egotriad.alignment.speed import ClipSpeed, Speed, speed_of
from egotriad.alignment.summary import Summary, summarise, verdict
from egotriad.alignment.target_outputs import TargetOutput
from egotriad.alignment.target_quality import TargetQuality
from egotriad.alignment.tree import TreeShape
from egotriad.manifests import Clip
from egotriad.manifests.errors import EgotriadError, EvaluationError, UsageError
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.folder import versions

__all__ = ["Evaluation", "EvaluationConfig", "Failure", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How acceptance is measured.

    Attributes:
        split: which clips are evaluated.
        gamma: drafted ids per round; of the heuristic schedule, in a text's first round.
        schedule: `fixed`, or `heuristic`: two more after a round in which all stood, else one
            fewer (as transformers does it, from text to text afresh).
        confidence: a draft stops after an id of less probability than this; 0 never.
        tree_width: 1 drafts a chain; more drafts a tree: so many nodes are expanded on each of
            gamma levels, and so many children each.
        tree_nodes: how many nodes of a tree are verified, the likeliest.
        temperature: 0 decodes greedily; else target and drafts sample.
        top_k: only the k best ids can be drawn; 0 all.
        top_p: only the best ids that make up this share can be drawn; 1 all.
        max_new_tokens: longest text, in ids.
        ngram_order: of the n-gram control.
        bootstrap_draws: resamples of the recordings behind every interval.
        seed: of the bootstrap, of the shuffled IMU and of the sampling.
        speed_clips: so many clips are decoded again with and without the draft, and timed; 0 none.
        allow_overlap: evaluate clips of wearers or recordings that a draft was trained on, or
            drafts that do not say; the report then does.
        require_lossless: fail when any text differs from plain greedy decoding (in float32 none
            should; in half precision ties flip).
        check_lossless: also sample 4000 short texts on the first clip and compare their counts
            with the target's exact distribution.
    """

    split: str = "test"
    gamma: int = 5
    schedule: Literal["fixed", "heuristic"] = "fixed"
    confidence: float = 0.0
    tree_width: int = 1
    tree_nodes: int = 24
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 32
    ngram_order: int = 5
    bootstrap_draws: int = 2000
    seed: int = 0
    speed_clips: int = 16
    allow_overlap: bool = False
    require_lossless: bool = False
    check_lossless: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("gamma", 1),
            ("tree_width", 1),
            ("tree_nodes", 1),
            ("max_new_tokens", 2),
            ("ngram_order", 1),
            ("bootstrap_draws", 100),
            ("seed", 0),
            ("speed_clips", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: got {getattr(self, name)}, need >= {least}")
        if not 0 <= self.confidence < 1:
            raise UsageError(f"confidence: got {self.confidence}, need 0 <= confidence < 1")
        if self.schedule not in ("fixed", "heuristic"):
            raise UsageError(f"schedule: got {self.schedule!r}, need 'fixed' or 'heuristic'")
        if self.require_lossless and self.temperature:
            raise UsageError("--require-lossless compares greedy texts: leave --temperature at 0")
        chain = self.schedule == "fixed" and not self.confidence and not self.temperature
        if self.tree_width > 1 and not chain:
            raise UsageError(
                "--tree-width: trees are greedy and of one depth; leave --temperature, --schedule "
                "and --confidence alone"
            )
        _ = self.sampling  # checked when made

    @property
    def tree(self) -> TreeShape | None:
        """Shape of the drafts, None for chains."""
        if self.tree_width == 1:
            return None
        return TreeShape(self.gamma, self.tree_width, self.tree_nodes)

    @property
    def sampling(self) -> Sampling:
        """How ids are chosen."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that could not be evaluated, and why."""

    window_id: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, on what, and how.

    Attributes:
        config, environment, models, sources: settings, versions, the meta of every model, hashes.
        requested: number of clips of the split; `clips` and `failures` add up to it.
        clips: results, in the order of the shards.
        failures: clips left out of all arms.
        summary, verdict: the numbers, and what they say about the sensor.
        costs: of one step on the first clip.
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
    costs: StepCosts
    speed: Speed | None
    speed_clips: tuple[ClipSpeed, ...]
    chi_square: ChiSquare | None
    ngram_texts: int
    quality: TargetQuality | None
    overlaps: tuple[str, ...]
    tokens: Mapping[int, str]


def evaluate(
    clips: Iterable[Clip],
    target: ConditionedLM,
    draft: ConditionedLM,
    text_draft: ConditionedLM | None,
    training_outputs: Iterable[TargetOutput],
    config: EvaluationConfig,
    *,
    tokenizer: PreTrainedTokenizerFast,
    metas: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, str] | None = None,
    quality: TargetQuality | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Runs every arm on every clip of the split and draws the conclusions.

    A clip that a model cannot use is left out of all arms and listed under `failures`.

    Args:
        clips: any splits; those of `config.split` are evaluated.
        target: the model to speed up; like the drafts in eval mode, with the same tokenizer.
        draft: the IMU draft.
        text_draft: its twin without a sensor, trained the same way; None leaves that arm out.
        training_outputs: the target's cached texts; rows of the training split fit the n-gram.
        config: how to measure.
        tokenizer: shared by all models.
        metas: meta of each model folder under `target`, `draft` and `text_draft`; those of the
            drafts say under `trained_on` which `wearers` and `recordings` they have seen.
        sources: hashes of what was read, for the report.
        quality: how well the target names what happens in these clips, for the report.
        progress: called with (clips done, clips in all).

    Raises:
        EvaluationError: when no clip can be evaluated, clips are not held out, all are of one
            recording, there is no training text, or texts differ and `require_lossless` is set.
    """
    held_out = [clip for clip in clips if clip.split == config.split]
    if not held_out:
        raise EvaluationError(
            f"no clips to evaluate: the shards hold none of split {config.split!r}; "
            "choose another split or build more recordings"
        )
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
        gamma=config.gamma,
        max_new_tokens=config.max_new_tokens,
        heuristic=config.schedule == "heuristic",
        confidence=config.confidence,
        sampling=config.sampling,
        seed=config.seed,
        tree=config.tree,
    )
    results, failures, costs = _run(bench, held_out, config.seed, progress)
    summary = summarise(
        results,
        gamma=bench.schedule.most,
        greedy=config.sampling.greedy,
        draws=config.bootstrap_draws,
        seed=config.seed,
    )
    if config.require_lossless and summary.equal < summary.checked:
        raise EvaluationError(_divergence_text(results, summary))
    evaluated = {result.window_id for result in results}
    evaluated_clips = [clip for clip in held_out if clip.window_id in evaluated]
    timed = measure_speed(bench, evaluated_clips, config.speed_clips)
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


def _run(
    bench: Bench,
    held_out: Sequence[Clip],
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[tuple[ClipResult, ...], tuple[Failure, ...], StepCosts]:
    """All arms on all clips, and the cost of a step on the first clip that works.

    Draft inputs come first: each is also the wrong IMU of another clip.
    """
    usable: list[tuple[Clip, Tensor]] = []
    results: list[ClipResult] = []
    failures: list[Failure] = []
    costs: StepCosts | None = None
    for clip in held_out:
        try:
            usable.append((clip, bench.draft.prepare(clip, evaluation_span(clip))))
        except EgotriadError as exc:
            failures.append(Failure(clip.window_id, str(exc)))
    donors = shuffled_donors([clip.recording for clip, _ in usable], seed) if usable else []
    for done, ((clip, inputs), donor) in enumerate(zip(usable, donors, strict=True), start=1):
        try:
            results.append(run_clip(bench, clip, inputs, usable[donor][1]))
            costs = costs or _costs(bench, clip, inputs)
        except EgotriadError as exc:
            failures.append(Failure(clip.window_id, str(exc)))
        if progress:
            progress(done, len(usable))
    if costs is None:
        raise EvaluationError(
            f"none of {len(held_out)} clips could be evaluated; the first: {failures[0].error}"
        )
    return tuple(results), tuple(failures), costs


def _costs(bench: Bench, clip: Clip, draft_inputs: Tensor) -> StepCosts:
    target_inputs = bench.target.prepare(clip, evaluation_span(clip))
    return measure_steps(
        bench.target.state(target_inputs[None]),
        bench.draft.state(draft_inputs[None]),
        token=bench.target.eos_id,
        gamma=bench.tree.nodes if bench.tree else bench.gamma,
    )


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
