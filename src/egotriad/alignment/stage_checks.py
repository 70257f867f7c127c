"""What must hold of staged runs, whatever the models; else their numbers are not what they say.

Every encoder runs once a clip, in the stage of that name; the decoder's cache holds prompt and
sensor tokens and nothing else; plain decoding takes a pass per id after the first; nothing that a
run does lies outside its stages.
"""

from collections.abc import Sequence

from egotriad.alignment.stages import STAGES, StageRun
from egotriad.manifests.errors import EvaluationError

__all__ = ["check", "check_sum"]

MISSED_SHARE, MISSED_S = 0.01, 2e-3
"""How much of a run may lie in no stage: the larger of the two."""


def check(run: StageRun, *, models: int) -> None:
    """What must hold of a staged run, whatever the models.

    Args:
        run: what was measured.
        models: 1 alone, 2 for a pair.

    Raises:
        EvaluationError: naming what does not hold.
    """
    problems = []
    if set(run.seconds) != set(STAGES):
        problems.append(f"stages are {', '.join(run.seconds)}")
    if run.encodings != {stage: models * (stage == "encode") for stage in STAGES}:
        found = ", ".join(f"{count} in {stage}" for stage, count in run.encodings.items())
        problems.append(f"encodings: {found or 'none'}; need {models} in encode alone")
    if run.cached != run.prompt_tokens + run.sensor_tokens:
        problems.append(
            f"the caches hold {run.cached} positions after the prefix, need {run.prompt_tokens} of "
            f"the prompt and {run.sensor_tokens} of the sensor"
        )
    if models == 1 and run.passes != len(run.ids) - 1:
        problems.append(f"{run.passes} decoder passes for {len(run.ids)} ids")
    if models == 2 and not run.rounds - 1 <= run.passes <= run.rounds:
        problems.append(f"{run.passes} target passes in {run.rounds} rounds")
    if problems:
        raise EvaluationError(f"a staged run is not what it says: {'; '.join(problems)}")


def check_sum(runs: Sequence[StageRun]) -> None:
    """Nothing when the stages of staged runs add up to what the runs took by another clock.

    Judged by all runs together: one that the system interrupts between two clocks is no mistake.

    Raises:
        EvaluationError: when a larger part than 1 % and 2 ms a run lies in no stage.
    """
    total_s = sum(run.total_s for run in runs)
    staged_s = sum(sum(run.seconds.values()) for run in runs)
    if abs(total_s - staged_s) > max(MISSED_SHARE * total_s, MISSED_S * len(runs)):
        raise EvaluationError(
            f"the stages of {len(runs)} runs add up to {staged_s:.6f} s, the runs took "
            f"{total_s:.6f} s: work lies in no stage, or in two"
        )
