"""Acceptance of a trained draft on a build: loads and checks everything, measures, reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from egotriad.alignment.evaluate import Evaluation, EvaluationConfig, evaluate
from egotriad.alignment.report import write_html
from egotriad.alignment.report_files import write_report
from egotriad.alignment.target_outputs import read_target_outputs
from egotriad.alignment.target_quality import target_quality
from egotriad.manifests.errors import UsageError, located
from egotriad.manifests.files import sha256_file
from egotriad.manifests.shards import read_shards, shards_sha256
from egotriad.models.folder import check_same_tokenizer, folder_sha256, load_model
from egotriad.models.loading import load_target, target_sha256
from egotriad.models.placement import Placement
from egotriad.models.tokenizer import tokenizer_sha256

__all__ = ["evaluate_on_shards"]


def evaluate_on_shards(
    shards: Path | str,
    target_folder: Path,
    draft_folder: Path,
    text_draft_folder: Path | None,
    target_outputs: Path,
    out: Path,
    config: EvaluationConfig,
    *,
    placement: Placement | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluates a draft and writes `report.json`, `clips.jsonl` and `report.html` into `out`.

    Args:
        shards: folder, URL or Hub id of a build that holds `config.split`.
        target_folder: the target.
        draft_folder: the IMU draft.
        text_draft_folder: its text-only twin, or None.
        target_outputs: the target's cached texts on the same shards.
        out: folder for the report; made when missing.
        config: how to measure.
        placement: device and precision of the target (see `load_target`); drafts go to the device
            too, in float32.
        progress: called with (clips done, clips in all).

    Raises:
        UsageError: when a folder holds a draft where a target is needed, or the reverse.
        TokenizerMismatch: when the models do not share their vocabulary.
        CheckpointError, ShardError: when something cannot be read or belongs to something else.
        EvaluationError: see `evaluate`.
    """
    folders = {"target": target_folder, "draft": draft_folder}
    if text_draft_folder is not None:
        folders["text_draft"] = text_draft_folder
    loaded = {role: load_model(path) for role, path in folders.items() if role != "target"}
    loaded["target"] = load_target(target_folder, placement=placement)
    target, tokenizer, _ = loaded["target"]
    metas: dict[str, dict[str, Any]] = {}
    for role, (model, own_tokenizer, meta) in loaded.items():
        if model.kind != role.removeprefix("text_"):
            raise UsageError(f"{folders[role]}: holds a {model.kind}, need a {role}")
        with located(role):
            check_same_tokenizer(tokenizer, own_tokenizer)
        sha256 = (target_sha256 if role == "target" else folder_sha256)(folders[role])
        metas[role] = {"name": model.name, "sha256": sha256, **meta}
        model.to(target.device)
    outputs = read_target_outputs(target_outputs)
    sources = {
        "shards_sha256": shards_sha256(shards),
        "target_sha256": metas["target"]["sha256"],
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }
    outputs.check_belongs_to(**sources)
    evaluation = evaluate(
        read_shards(shards, split=config.split),
        target,
        loaded["draft"][0],
        loaded["text_draft"][0] if text_draft_folder else None,
        outputs,
        config,
        tokenizer=tokenizer,
        metas=metas,
        sources={**sources, "target_outputs_sha256": sha256_file(target_outputs)},
        quality=target_quality(
            outputs, read_shards(shards, imu=False, events=False), split=config.split
        ),
        progress=progress,
    )
    write_report(evaluation, out)
    write_html(evaluation, read_shards(shards, split=config.split), out / "report.html")
    return evaluation
