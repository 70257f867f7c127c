"""Command lines of the model side: train a target, cache its texts, distil drafts, evaluate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import App, Parameter
from rich.console import Console

from egotriad.alignment import report, target_outputs
from egotriad.alignment.benchmark_stages import StageBenchmark, benchmark_stages_on_shards
from egotriad.alignment.compare import compare, comparison_table
from egotriad.alignment.draft_shape import DraftShape
from egotriad.alignment.evaluate import EvaluationConfig
from egotriad.alignment.evaluate_shards import evaluate_on_shards
from egotriad.alignment.report_files import report_json
from egotriad.alignment.stage_table import stage_table
from egotriad.alignment.train_draft import DraftTraining, train_draft_on_shards
from egotriad.alignment.train_target import TargetTraining, train_target_on_shards
from egotriad.alignment.training import Progress
from egotriad.manifests.cli import EXIT_INCOMPLETE, finish, run_app
from egotriad.manifests.progress import Meter
from egotriad.models.loading import is_own
from egotriad.models.placement import Placement, Precision

__all__ = [
    "benchmark_stages",
    "cache_targets",
    "compare_reports",
    "evaluate_acceptance",
    "train_draft",
    "train_target",
]

TEXT_ONLY_FOLDER = "text-only"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models run.

    Attributes:
        device: cpu, cuda or cuda:N.
        precision: of the target: float32, bfloat16, float16 or 4bit; when not given bfloat16 for
            published targets, float32 for this package's own.
    """

    device: str = "cpu"
    precision: Precision | None = None


TargetFlags = Annotated[TargetTraining, Parameter(name="*")]
DraftFlags = Annotated[DraftTraining, Parameter(name="*")]
ShapeFlags = Annotated[DraftShape, Parameter(name="*")]
PlaceFlags = Annotated[Place, Parameter(name="*")]
StageFlags = Annotated[StageBenchmark, Parameter(name="*")]
EvaluationFlags = Annotated[EvaluationConfig, Parameter(name="*")]


def train_target(tokens: Sequence[str] | None = None) -> int:
    """`train-target`: a tiny event-camera target that narrates what it sees."""
    return run_app(lambda _: _app("train-target", _train_target), tokens)


def cache_targets(tokens: Sequence[str] | None = None) -> int:
    """`cache-targets`: the target's own greedy text for every clip."""
    return run_app(lambda _: _app("cache-targets", _cache_targets), tokens)


def train_draft(tokens: Sequence[str] | None = None) -> int:
    """`train-draft`: an IMU draft and its text-only twin, distilled on the target's texts."""
    return run_app(lambda _: _app("train-draft", _train_draft), tokens)


def evaluate_acceptance(tokens: Sequence[str] | None = None) -> int:
    """`evaluate-acceptance`: what a draft saves, beside its controls."""
    return run_app(lambda _: _app("evaluate-acceptance", _evaluate), tokens)


def benchmark_stages(tokens: Sequence[str] | None = None) -> int:
    """`benchmark-stages`: load, preprocess, encode, prefill, decode of target, draft and pair."""
    return run_app(lambda _: _app("benchmark-stages", _benchmark_stages), tokens)


def compare_reports(tokens: Sequence[str] | None = None) -> int:
    """`compare-reports`: acceptance reports side by side."""
    return run_app(lambda _: _app("compare-reports", _compare), tokens)


def _app(name: str, command: Callable[..., int]) -> App:
    # Intra-op threads cost more than they bring for models of this size on shared cores.
    torch.set_num_threads(1)
    app = App(name=name, version_flags=[])
    app.default(command)
    return app


def _train_target(
    *, shards: str, out: Path, config: TargetFlags | None = None, json: bool = False
) -> int:
    """Train a tiny EventGPT-shaped target on the train split of shards.

    Args:
        shards: folder of a build with events and narrations.
        out: folder of the target.
        config: how to train.
        json: print the result as one line of JSON.
    """
    with Meter() as meter:
        trained = train_target_on_shards(shards, out, config, progress=_steps(meter, ""))
    return _trained(trained.meta, out, as_json=json)


def _cache_targets(
    *,
    shards: str,
    target: Path,
    out: Path,
    max_new_tokens: int = 32,
    place: PlaceFlags | None = None,
    json: bool = False,
) -> int:
    """Write the target's own greedy text for every clip and span.

    Args:
        shards: folder of a build.
        target: folder of the target.
        out: the Parquet file.
        max_new_tokens: longest text in ids, its end included.
        place: where the target runs.
        json: print the result as one line of JSON.
    """
    outputs = target_outputs.cache_targets(
        shards, target, out, max_new_tokens=max_new_tokens, placement=_placement(place, target)
    )
    distinct = len({row.text for row in outputs})
    return finish(
        {"out": str(out), "texts": len(outputs), "distinct": distinct, **outputs.meta},
        as_json=json,
        show=lambda console: console.print(
            f"{len(outputs)} texts, {distinct} different ones, in {out}", highlight=False
        ),
    )


def _train_draft(
    *,
    shards: str,
    target: Path,
    outputs: Path,
    out: Path,
    draft: str = "imu",
    twin: bool = True,
    config: DraftFlags | None = None,
    shape: ShapeFlags | None = None,
    json: bool = False,
) -> int:
    """Distil a draft on the target's texts of the train split.

    Args:
        shards: folder of a build.
        target: folder of the target.
        outputs: the target's texts on these shards (cache-targets).
        out: folder of the draft.
        draft: which kind of draft.
        twin: train the text-only draft in OUT/text-only too, in the same way; without it nothing
            shows what the sensor adds.
        config: how to train.
        shape: what the draft is made of.
        json: print the result as one line of JSON.
    """
    sources, shape = (shards, target, outputs), shape or DraftShape()
    with Meter() as meter:
        trained = train_draft_on_shards(
            *sources,
            out,
            config,
            draft=draft,
            model_config=shape.of(draft),
            encoder=shape.loaded_encoder() if draft == "imu" else None,
            meta=shape.meta() if draft == "imu" else None,
            progress=_steps(meter, f"{draft} "),
        )
        if twin and draft != "text":
            train_draft_on_shards(
                *sources,
                out / TEXT_ONLY_FOLDER,
                config,
                draft="text",
                model_config=shape.text(getattr(trained.model, "tokens", 10)),
                progress=_steps(meter, "text-only "),
            )
    return _trained(trained.meta, out, as_json=json)


def _evaluate(
    *,
    shards: str,
    target: Path,
    draft: Path,
    outputs: Path,
    out: Path,
    text_draft: Path | None = None,
    config: EvaluationFlags | None = None,
    place: PlaceFlags | None = None,
    json: bool = False,
) -> int:
    """Measure how many tokens of a draft the target accepts, beside every control.

    Args:
        shards: folder of a build with held-out clips.
        target: folder of the target.
        draft: folder of the draft.
        outputs: the target's texts on these shards (cache-targets); the n-gram table learns from
            its training split.
        out: folder of the report.
        text_draft: folder of the text-only twin; DRAFT/text-only when that is there.
        config: how to measure.
        place: where target and drafts run.
        json: print the result as one line of JSON.
    """
    twin = draft / TEXT_ONLY_FOLDER
    if text_draft is None and twin.is_dir():
        text_draft = twin
    with Meter() as meter:
        evaluation = evaluate_on_shards(
            shards,
            target,
            draft,
            text_draft,
            outputs,
            out,
            config or EvaluationConfig(),
            placement=_placement(place, target),
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
    config: StageFlags | None = None,
    place: PlaceFlags | None = None,
    json: bool = False,
) -> int:
    """Time every stage of a target, a draft and the two together on the same clips.

    Args:
        shards: folder of a build.
        target: folder of the target.
        out: folder of the report.
        draft: folder of the draft; without it the target alone is measured.
        config: how to measure.
        place: where target and draft run.
        json: print the result as one line of JSON.
    """
    with Meter() as meter:
        found = benchmark_stages_on_shards(
            shards,
            target,
            draft,
            out,
            config or StageBenchmark(),
            placement=_placement(place, target),
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


def _placement(place: Place | None, target: Path) -> Placement:
    place = place or Place()
    usual: Precision = "float32" if is_own(target) else "bfloat16"
    return Placement(device=place.device, precision=place.precision or usual)


def _steps(meter: Meter, prefix: str) -> Progress:
    def show(stage: str, done: int, total: int, loss: float) -> None:
        meter(f"{prefix}{stage} steps", done, total)

    return show


def _trained(meta: dict[str, Any], out: Path, *, as_json: bool) -> int:
    losses = ", ".join(f"{stage} loss {loss:.3f}" for stage, loss in meta["losses"].items())
    clips = meta["trained_on"]["clips"]
    return finish(
        {"out": str(out), **meta},
        as_json=as_json,
        show=lambda console: console.print(
            f"trained on {clips} clips, {losses}; in {out}", highlight=False
        ),
    )
