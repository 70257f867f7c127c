"""`report.json` and `clips.jsonl`: an evaluation as files for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from egotriad.alignment.arms import DRAFT, ArmRun, ClipResult
from egotriad.alignment.bootstrap import Interval
from egotriad.alignment.cautions import cautions, drafted_per_round, expected_speedup
from egotriad.alignment.cost import StepCosts, best_gamma
from egotriad.alignment.evaluate import Evaluation
from egotriad.manifests.files import write_text

__all__ = ["report_json", "write_report"]

SCHEMA_VERSION = 2


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Writes `report.json` and `clips.jsonl` (one line per evaluated clip) into a folder."""
    lines = [_line(clip_json(clip)) for clip in evaluation.clips]
    write_text(folder / "clips.jsonl", "".join(lines))
    report = json.dumps(report_json(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "report.json", report + "\n")


def report_json(evaluation: Evaluation) -> dict[str, Any]:
    """The whole report as JSON values.

    Top level: schema_version, verdict, cautions, config, environment, models, sources, data, arms
    (each with every acceptance number and `ci95`), tau_gains (draft minus control, paired),
    lossless, target, cost, by_group. Null where nothing was counted or timed;
    docs/acceptance.schema.json describes every value.
    """
    summary = evaluation.summary
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": evaluation.verdict,
        "cautions": list(cautions(evaluation)),
        "config": asdict(evaluation.config),
        "environment": dict(evaluation.environment),
        "models": {name: dict(meta) for name, meta in evaluation.models.items()},
        "sources": dict(evaluation.sources),
        "data": _data(evaluation),
        "arms": {
            name: {
                **asdict(arm.metrics),
                "offline": asdict(arm.offline) if arm.offline else None,
                "ci95": {
                    "tau_incl_bonus": _ends(arm.tau),
                    "accepted_over_drafted": _ends(arm.accepted_over_drafted),
                    "alpha_conditional": _ends(arm.alpha_conditional),
                },
            }
            for name, arm in summary.arms.items()
        },
        "tau_gains": {
            name: {"value": gain.value, "ci95": _ends(gain)}
            for name, gain in summary.tau_gains.items()
        },
        "lossless": _lossless(evaluation),
        "target": {
            "recorded": evaluation.recorded,
            "distinct_texts": summary.distinct_texts,
            "mean_tokens": summary.mean_tokens,
            "accuracy": evaluation.quality.accuracy if evaluation.quality else None,
            "confusion": evaluation.quality.confusion if evaluation.quality else None,
        },
        "cost": _cost(evaluation),
        "by_group": {
            fact: {label: asdict(group) for label, group in groups.items()}
            for fact, groups in summary.groups.items()
        },
    }


def clip_json(clip: ClipResult) -> dict[str, Any]:
    """One evaluated clip as JSON values: texts, and every round of every arm."""
    return {
        "window_id": clip.window_id,
        "recording": clip.recording,
        "wearer": clip.wearer,
        "narration": clip.narration,
        "target_text": clip.target_text,
        "target_ids": list(clip.target_ids),
        "facts": dict(clip.facts),
        "arms": {name: _run(run) for name, run in clip.arms.items()},
    }


def _run(run: ArmRun) -> dict[str, Any]:
    return {
        "rounds": [
            {"drafted": list(r.drafted), "matched": r.matched, "emitted": list(r.emitted)}
            for r in run.rounds
        ],
        "teacher_forced": list(run.forced),
        "equal": run.divergence is None,
        "overlap": list(run.offline.overlap) if run.offline else None,
    }


def _data(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "split": evaluation.config.split,
        "requested": evaluation.requested,
        "evaluated": len(evaluation.clips),
        "failed": len(evaluation.failures),
        "failures": [asdict(failure) for failure in evaluation.failures],
        "recordings": evaluation.summary.recordings,
        "wearers": len({clip.wearer for clip in evaluation.clips if clip.wearer is not None}),
        "ngram_texts": evaluation.ngram_texts,
        "overlaps": list(evaluation.overlaps),
    }


def _lossless(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "checked": evaluation.summary.checked,
        "equal": evaluation.summary.equal,
        "oracle_complete": evaluation.summary.oracle_complete,
        "chi2": asdict(evaluation.chi_square) if evaluation.chi_square else None,
        "first_divergence": [
            {"window_id": clip.window_id, "arm": name, **asdict(run.divergence)}
            for clip in evaluation.clips
            for name, run in clip.arms.items()
            if run.divergence
        ],
    }


def _cost(evaluation: Evaluation) -> dict[str, Any]:
    """Seconds and ratios; what was not timed is null.

    `o` is what remains of a measured round beyond drafting and verification, in target steps.
    """
    speed = evaluation.speed
    return {
        **_steps(evaluation),
        "drafted_per_round": drafted_per_round(evaluation),
        "speedup_measured_decode": speed.decode_value if speed else None,
        "speedup_measured_e2e": speed.end_to_end_value if speed else None,
        "speedup_measured_e2e_overlapped": speed.overlapped_value if speed else None,
        "speedup_ci95": _ends(speed.decode) if speed else None,
        "speedup_e2e_ci95": _ends(speed.end_to_end) if speed else None,
        "speedup_mean_of_clips": speed.mean_of_clips if speed else None,
        "slower_share": speed.slower_share if speed else None,
        "plain_tokens_s": speed.plain_tokens_s if speed else None,
        "clips_timed": len(evaluation.speed_clips),
    }


def _steps(evaluation: Evaluation) -> dict[str, Any]:
    """What follows from the costs of steps; all null where the target did not run."""
    costs = evaluation.costs
    if costs is None:
        names = [field.name for field in fields(StepCosts)]
        ratios = ("c", "v", "o", "speedup_predicted", "speedup_predicted_of_timed", "best_gamma")
        return dict.fromkeys((*names, *ratios))
    alpha = evaluation.summary.arms[DRAFT].metrics.alpha_conditional
    gamma, best = best_gamma(alpha or 0.0, costs.c, costs.v)
    timed = {clip.window_id for clip in evaluation.speed_clips}
    return {
        **asdict(costs),
        "c": costs.c,
        "v": costs.v,
        "o": _other(evaluation, costs),
        "speedup_predicted": expected_speedup(evaluation, costs),
        "speedup_predicted_of_timed": expected_speedup(evaluation, costs, timed) if timed else None,
        "best_gamma": {"gamma": gamma, "speedup_predicted": best},
    }


def _other(evaluation: Evaluation, costs: StepCosts) -> float | None:
    clips = evaluation.speed_clips
    rounds = sum(clip.rounds for clip in clips)
    if not rounds:
        return None
    spent = sum(clip.speculative_s for clip in clips) / rounds / costs.t_target_step_s
    return spent - drafted_per_round(evaluation) * costs.c - costs.v


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
