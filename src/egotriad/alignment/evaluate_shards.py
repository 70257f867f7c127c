"""Acceptance of a trained draft on a build: loads and checks everything, measures, reports."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from egotriad.alignment.evaluate import Evaluation, evaluate
from egotriad.alignment.evaluation_config import EvaluationConfig
from egotriad.alignment.evaluation_models import EvaluationModels, load_models
from egotriad.alignment.model_options import DraftOptions, TargetOptions
from egotriad.alignment.remembered import retrieval_by
from egotriad.alignment.report import write_html
from egotriad.alignment.report_files import write_report
from egotriad.alignment.report_stages import read_stages
from egotriad.alignment.retrieval import RetrievalProposer
from egotriad.alignment.target_outputs import TargetOutputs, read_target_outputs
from egotriad.alignment.target_quality import target_quality
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import read_shards, shards_sha256
from egotriad.models.engines import EngineName
from egotriad.models.placement import Placement

__all__ = ["evaluate_on_shards"]


def evaluate_on_shards(
    shards: Path | str,
    target_folder: Path | None,
    draft_folder: Path,
    text_draft_folder: Path | None,
    target_outputs: Path,
    out: Path,
    config: EvaluationConfig,
    *,
    target_options: TargetOptions | None = None,
    draft_options: DraftOptions | None = None,
    stages: Path | None = None,
    engine: EngineName = "auto",
    placement: Placement | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluates a draft and writes `report.json`, `clips.jsonl` and `report.html` into `out`.

    Args:
        shards: folder, URL or Hub id of a build that holds `config.split`.
        target_folder: the target; None replays the recorded texts of `target_outputs` in its place.
        draft_folder: the IMU draft.
        text_draft_folder: its text-only twin, or None.
        target_outputs: the target's cached texts on the same shards, under the same question.
        out: folder for the report; made when missing.
        config: how to measure.
        target_options: what a published target is told.
        draft_options: what a published draft is told.
        stages: `stages.json` of benchmark-stages on the same shards, for the page.
        engine: what runs the decoders, one clip at a time (`egotriad.models.engines`).
        placement: device and precision of the target (see `load_target`); drafts go to the device
            too, as they are.
        progress: called with (clips done, clips in all).

    Raises:
        UsageError: when a setting does not go with recorded texts.
        TokenizerMismatch: when the models do not share their vocabulary.
        CheckpointError, ShardError: when something cannot be read, belongs to something else, or
            a folder holds a draft where a target is needed, or the reverse.
        EvaluationError: see `evaluate`.
    """
    outputs = read_target_outputs(target_outputs)
    models = load_models(
        target_folder,
        draft_folder,
        text_draft_folder,
        outputs,
        config,
        target_options=target_options,
        draft_options=draft_options,
        engine=engine,
        placement=placement,
    )
    sources = {
        "shards_sha256": shards_sha256(shards),
        "target_sha256": models.metas["target"]["sha256"],
        "tokenizer_sha256": models.metas["target"]["tokenizer_sha256"],
    }
    outputs.check_belongs_to(**sources)
    timed = None if stages is None else read_stages(stages, sources["shards_sha256"])
    evaluation = evaluate(
        read_shards(shards, split=config.split),
        models.target,
        models.draft,
        models.text_draft,
        outputs,
        config,
        tokenizer=models.tokenizer,
        metas=models.metas,
        sources={**sources, "target_outputs_sha256": sha256_file(target_outputs)},
        quality=target_quality(
            outputs, read_shards(shards, imu=False, events=False), split=config.split
        ),
        recorded=models.recorded,
        prompt=models.prompt,
        remember=_remember(shards, models, outputs) if config.retrieval else None,
        progress=progress,
    )
    write_report(evaluation, out)
    clips = read_shards(shards, split=config.split)
    write_html(evaluation, clips, out / "report.html", stages=timed)
    return evaluation


def _remember(
    shards: Path | str, models: EvaluationModels, outputs: TargetOutputs
) -> Callable[[Tensor], RetrievalProposer]:
    return retrieval_by(models.encoder, read_shards(shards, split="train", events=False), outputs)
