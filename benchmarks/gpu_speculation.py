"""A 7B target with calibrated drafts, random weights: a section of `gpu_suite.py`.

All passes of both models are made; which drafted ids stand is put in (`alignment/calibrated.py`).
What is asked: is the measured speed-up the one that step costs predict, so that acceptance and
costs, measured apart, can be trusted together?
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from gpu_models import Models
from gpu_section import Options, Row, attempted

from egotriad.alignment.acceptance import Counts, metrics
from egotriad.alignment.calibrated import CalibratedProposer, ScriptedState, random_text
from egotriad.alignment.cost import StepCosts, measure_steps, predicted_speedup
from egotriad.alignment.offline import tau_iid
from egotriad.alignment.speculate import Speculation, plain_greedy, speculate
from egotriad.alignment.speed import timed
from egotriad.models.engines import EngineName, Engines
from egotriad.models.state import DecoderState

ALPHA, GAMMA, LENGTH, TEXTS, NEVER = 0.8, 5, 128, 4, -7
GOAL = 0.9  # measured over predicted, with compiled steps
ENGINES: tuple[EngineName, ...] = ("lean", "graphed", "compiled")


def speculation(options: Options) -> Iterator[Row]:
    """Measured over predicted speed-up, in every way to run the steps."""
    models = Models.of(options)
    target = models.target()
    yield Row(
        text=f"alpha {ALPHA}, gamma {GAMMA}, {TEXTS} texts of {LENGTH} ids; formula tau "
        f"{tau_iid(ALPHA, GAMMA):.2f}; goal with compiled steps: measured >= {GOAL} predicted\n"
        f"{'draft':<20}{'engine':<10}{'step ms':>9}{'v':>6}{'c':>7}{'tau':>6}{'predicted':>11}"
        f"{'measured':>10}{'meas/pred':>11}{'slower':>8}"
    )
    for engine in ENGINES:
        runners = Engines(engine)
        state = runners.state(target.decoder, models.prefix(target))
        for name in models.speculated:
            case = partial(pair, name, models, state, engine)
            yield attempted(f"{name} {engine}", case, options)


def pair(name: str, models: Models, target: DecoderState, engine: EngineName) -> Row:
    """A line of the table."""
    draft = models.draft(name)
    state = Engines(engine).state(draft.decoder, models.prefix(draft))
    return pair_row(measured(target, state) | {"draft": name, "engine": engine})


def measured(target: DecoderState, draft: DecoderState) -> dict[str, Any]:
    """Plain and speculative texts in turns, the shortest of three of each."""
    device = target.prefix_logits.device
    costs = measure_steps(target, draft, token=5, gamma=GAMMA)
    texts, plain_s, speculative_s = [], [], []
    for seed in range(TEXTS):
        runs = [
            (
                timed(device, partial(plain_text, target, seed))[0],
                *timed(device, partial(drafted_text, target, draft, seed)),
            )
            for _ in range(3)
        ]
        plain_s.append(min(plain for plain, _, _ in runs))
        speculative_s.append(min(spent for _, spent, _ in runs))
        texts.append([r.count for r in runs[-1][2].rounds])
    counts = Counts.of_clip([r for rounds in texts for r in rounds], GAMMA)
    return {
        "costs": costs,
        "tau": metrics(counts).tau_incl_bonus,
        "predicted": predicted_speedup(texts, costs),
        "measured": sum(plain_s) / sum(speculative_s),
        "slower_share": sum(a > b for a, b in zip(speculative_s, plain_s, strict=True)) / TEXTS,
    }


def plain_text(target: DecoderState, seed: int) -> list[int]:
    """A text of the target alone."""
    target.rollback(target.length)
    text = random_text(LENGTH + GAMMA, len(target.prefix_logits), seed=seed)
    return plain_greedy(ScriptedState(target, text), max_new_tokens=LENGTH, eos_id=NEVER)


def drafted_text(target: DecoderState, draft: DecoderState, seed: int) -> Speculation:
    """The same text with a calibrated draft."""
    for state in (target, draft):
        state.rollback(state.length)
    vocabulary = len(target.prefix_logits)
    text = random_text(LENGTH + GAMMA, vocabulary, seed=seed)
    proposer = CalibratedProposer(draft, text, ALPHA, seed=seed, vocabulary=vocabulary)
    scripted = ScriptedState(target, text)
    return speculate(scripted, proposer, gamma=GAMMA, max_new_tokens=LENGTH, eos_id=NEVER)


def pair_row(found: dict[str, Any]) -> Row:
    """What was measured, as a line."""
    costs: StepCosts = found["costs"]
    ratio = found["measured"] / found["predicted"]
    numbers = {
        "target_step_ms": costs.t_target_step_s * 1e3,
        "draft_step_ms": costs.t_draft_step_s * 1e3,
        "c": costs.c,
        "v": costs.v,
        "measured_over_predicted": ratio,
        "goal_met": ratio >= GOAL,
    }
    return Row(
        text=f"{found['draft']:<20}{found['engine']:<10}{numbers['target_step_ms']:>9.3f}"
        f"{costs.v:>6.2f}{costs.c:>7.3f}{found['tau']:>6.2f}{found['predicted']:>11.2f}"
        f"{found['measured']:>10.2f}{ratio:>11.2f}{found['slower_share']:>8.0%}",
        record={key: value for key, value in found.items() if key != "costs"} | numbers,
    )
