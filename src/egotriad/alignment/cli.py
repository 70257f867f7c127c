"""Command lines that measure: acceptance, stages, reports side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from egotriad.alignment import report
from egotriad.alignment.benchmark_stages import StageBenchmark, benchmark_stages_on_shards
from egotriad.alignment.cli_parts import (
    TEXT_ONLY_FOLDER,
    Place,
    PlaceFlags,
    TargetOptionFlags,
    model_app,
    placement,
)
from egotriad.alignment.compare import compare, comparison_table
from egotriad.alignment.evaluate_shards import evaluate_on_shards
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.model_options import DraftOptions
from egotriad.alignment.report_files import report_json
from egotriad.alignment.stage_models import RandomWeights
from egotriad.alignment.stage_table import stage_table
from egotriad.manifests.cli import EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.errors import UsageError
from egotriad.manifests.progress import Meter
from egotriad.models.engines import EngineName
from egotriad.models.loading import is_own
from egotriad.models.placement import Placement, Precision

__all__ = ["benchmark_stages", "compare_reports", "evaluate_acceptance"]

CACHED = "cached"
"""In the place of a target's folder: its recorded texts."""

StageFlags = Annotated[StageBenchmark, Parameter(name="*")]
RandomFlags = Annotated[RandomWeights, Parameter(name="*")]
EvaluationFlags = Annotated[EvaluationConfig, Parameter(name="*")]
DraftOptionFlags = Annotated[DraftOptions, Parameter(name="*", negative_iterable=())]


def evaluate_acceptance(tokens: Sequence[str] | None = None) -> int:
    """`evaluate-acceptance`: what a draft saves, beside its controls."""
    return run_app(lambda _: model_app("evaluate-acceptance", _evaluate), tokens)


def benchmark_stages(tokens: Sequence[str] | None = None) -> int:
    """`benchmark-stages`: load, preprocess, encode, prefill, decode of target, draft and pair."""
    return run_app(lambda _: model_app("benchmark-stages", _benchmark_stages), tokens)


def compare_reports(tokens: Sequence[str] | None = None) -> int:
    """`compare-reports`: acceptance reports side by side."""
    return run_app(lambda _: model_app("compare-reports", _compare), tokens)


def _evaluate(
    *,
    shards: str,
    target: str,
    draft: Path,
    outputs: Path,
    out: Path,
    text_draft: Path | None = None,
    target_options: TargetOptionFlags | None = None,
    draft_options: DraftOptionFlags | None = None,
    stages: Path | None = None,
    engine: EngineName = "auto",
    config: EvaluationFlags | None = None,
    place: PlaceFlags | None = None,
    json: bool = False,
) -> int:
    """Measure how many tokens of a draft the target accepts, beside every control.

    Args:
        shards: folder of a build with held-out clips.
        target: folder of the target; or the word cached, to replay OUTPUTS where the target cannot
            run (greedy acceptance without times).
        draft: folder of the draft.
        outputs: the target's texts on these shards (cache-targets); the n-gram table learns from
            its training split.
        out: folder of the report.
        text_draft: folder of the text-only twin; DRAFT/text-only when that is there.
        target_options: what a published target is told, as it was for OUTPUTS.
        draft_options: what a published draft is told.
        stages: stages.json of benchmark-stages on these shards, for the page.
        engine: what runs the decoders, as for benchmark-stages: eager, lean, graphed, compiled;
            auto is lean where it can be.
        config: how to measure.
        place: where target and drafts run.
        json: print the result as one line of JSON.
    """
    twin = draft / TEXT_ONLY_FOLDER
    if text_draft is None and twin.is_dir():
        text_draft = twin
    folder = None if target == CACHED else Path(target)
    with Meter() as meter:
        evaluation = evaluate_on_shards(
            shards,
            folder,
            draft,
            text_draft,
            outputs,
            out,
            config or EvaluationConfig(),
            target_options=target_options,
            draft_options=draft_options,
            stages=stages,
            engine=engine,
            placement=placement(place, folder) if folder else _of_draft(place, draft),
            progress=lambda done, total: meter("clips evaluated", done, total),
        )

    def show(console: Console) -> None:
        console.print(report.acceptance_table(evaluation))
        console.print(f"{evaluation.verdict}\n{out / 'report.html'}", highlight=False)

    return finish(
        report_json(evaluation) | {"report": str(out / "report.html")},
        as_json=json,
        show=show,
        code=EXIT_INCOMPLETE if evaluation.failures else 0,
    )


def _benchmark_stages(
    *,
    shards: str,
    target: Path,
    out: Path,
    draft: Path | None = None,
    engine: EngineName = "auto",
    config: StageFlags | None = None,
    random: RandomFlags | None = None,
    target_options: TargetOptionFlags | None = None,
    draft_options: DraftOptionFlags | None = None,
    place: PlaceFlags | None = None,
    json: bool = False,
) -> int:
    """Time every stage of a target, a draft and the two together on the same clips.

    Args:
        shards: folder of a build.
        target: folder of the target; its name (eventgpt) with --random-weights.
        out: folder of the report.
        draft: folder of the draft, or its name (imu); without it the target alone is measured.
        engine: what runs the decoders: `eager` (transformers), `lean` (the same without its
            overhead), `graphed` (fixed shapes, CUDA graphs), `compiled` (those compiled); `auto`
            is lean where it can be.
        config: how to measure.
        random: models without checkpoints.
        target_options: what a published target is told; of random weights the tokenizer alone.
        draft_options: what a published draft is told.
        place: where target and draft run.
        json: print the result as one line of JSON.
    """
    random = random or RandomWeights()
    with Meter() as meter:
        found = benchmark_stages_on_shards(
            shards,
            target,
            draft,
            out,
            config or StageBenchmark(),
            placement=_unpublished(place) if random.random_weights else placement(place, target),
            random=random,
            engine=engine,
            target_options=target_options,
            draft_options=draft_options,
            progress=lambda done, total: meter("clips timed", done, total),
        )
    return finish(
        found | {"report": str(out / "stages.json")},
        as_json=json,
        show=lambda console: console.print(stage_table(found)),
        code=EXIT_INCOMPLETE if found["data"]["failures"] else 0,
    )


def _compare(*reports: Path, json: bool = False) -> int:
    """Put acceptance reports side by side.

    Args:
        reports: report.json files or the folders that hold them, two or more.
        json: print the result as one line of JSON.
    """
    found = compare(reports)
    return finish(found, as_json=json, show=lambda console: console.print(comparison_table(found)))


def _of_draft(place: Place | None, draft: Path) -> Placement:
    """Where drafts run when no target does."""
    if place is not None and place.precision is not None and is_own(draft):
        raise UsageError(
            "--precision: is of published models, and neither recorded texts nor this draft is one"
        )
    return placement(place, draft)


def _unpublished(place: Place | None) -> Placement:
    """Of random weights: half precision where a device computes in it."""
    place = place or Place()
    usual: Precision = "float32" if place.device == "cpu" else "bfloat16"
    return Placement(device=place.device, precision=place.precision or usual)
