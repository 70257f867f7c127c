"""One clip through all arms: plain decoding, then the loop of every arm against the same prefix."""

from typing import cast

import torch
from torch import Tensor

from egotriad.alignment.arms import (
    ArmRun,
    Bench,
    ClipInputs,
    ClipResult,
    Divergence,
    clip_result,
    model_arms,
    table_arms,
)
from egotriad.alignment.offline import forced
from egotriad.alignment.proposers import DraftProposer, Proposer, SequenceState
from egotriad.alignment.rules import common_prefix
from egotriad.alignment.sampling import Draws
from egotriad.alignment.speculate import Speculation, plain, speculate
from egotriad.alignment.tree import TreeDraft, TreeState, speculate_tree

__all__ = ["decode", "diverges", "run_clip"]


def run_clip(bench: Bench, inputs: ClipInputs) -> ClipResult:
    """All arms on one clip.

    Args:
        bench: models and settings.
        inputs: the clip, as every model takes it.
    """
    target, draws = bench.target.state(inputs.target[None]), bench.draws(inputs.clip)
    text = plain(
        target,
        max_new_tokens=bench.config.max_new_tokens,
        eos_id=bench.target.eos_id,
        sampling=bench.config.sampling,
        draws=draws,
    )
    rows = _rows(target, text)
    runs: dict[str, ArmRun] = {}
    for name, model, prepared in model_arms(bench, inputs):
        proposer = DraftProposer(
            model.state(prepared[None]),
            bench.target.eos_id,
            vocabulary=target.prefix_logits.shape[-1],
            sampling=bench.config.sampling,
            draws=draws,
            confidence=bench.config.confidence,
        )
        offline = None if bench.recorded else forced(text, rows, proposer.logits(text))
        matches = tuple(proposer.matches(text)) if offline is None else offline.match
        done = decode(bench, target, proposer, draws)  # last: a tree takes the draft's state
        runs[name] = ArmRun(done.rounds, matches, diverges(bench, target, text, done.ids), offline)
    for name, guesser in table_arms(bench, inputs):
        done = decode(bench, target, guesser, draws)
        runs[name] = ArmRun(
            done.rounds,
            tuple(guesser.matches(text)),
            diverges(bench, target, text, done.ids),
        )
    return clip_result(bench, inputs.clip, text, runs)


def decode(bench: Bench, target: TreeState, guesser: Proposer, draws: Draws | None) -> Speculation:
    """One text of the target with a proposer: a tree at a time where a model drafts trees."""
    longest, eos_id = bench.config.max_new_tokens, bench.target.eos_id
    if bench.config.tree is not None and isinstance(guesser, DraftProposer):
        vocabulary = target.prefix_logits.shape[-1]
        draft = TreeDraft(cast(TreeState, guesser.release()), eos_id, vocabulary=vocabulary)
        return speculate_tree(
            target, draft, bench.config.tree, max_new_tokens=longest, eos_id=eos_id
        )
    return speculate(
        target,
        guesser,
        gamma=bench.schedule,
        max_new_tokens=longest,
        eos_id=eos_id,
        sampling=bench.config.sampling,
        draws=draws,
    )


def diverges(
    bench: Bench, target: SequenceState, text: list[int], other: list[int]
) -> Divergence | None:
    """Where a text parts from plain greedy decoding, and how close the decision was there.

    None where it does not, and when sampling.
    """
    if other == text or not bench.config.sampling.greedy:
        return None
    index = common_prefix(text, other)
    target.rollback(target.length)
    logits = target.feed(text[:index])[-1] if index else target.prefix_logits
    best, second = logits.topk(2).values.tolist()
    return Divergence(index, best - second)


def _rows(target: SequenceState, text: list[int]) -> Tensor:
    """(n, V): the target's logits at every position of its own text."""
    target.rollback(target.length)
    first = target.prefix_logits[None]
    return torch.cat([first, target.feed(text[:-1])]) if len(text) > 1 else first
