"""Times the draft against plain decoding on some of an evaluation's clips."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from egotriad.alignment.arms import Bench, Narrator, evaluation_span
from egotriad.alignment.proposers import DraftProposer
from egotriad.alignment.run_arms import decode
from egotriad.alignment.speculate import Speculation, plain
from egotriad.alignment.speed import ClipSpeed, timed
from egotriad.alignment.tree import TreeState
from egotriad.manifests import Clip

__all__ = ["measure_speed"]

REPEATS = 3


def measure_speed(bench: Bench, clips: Sequence[Clip], count: int) -> tuple[ClipSpeed, ...]:
    """Decodes up to `count` clips with and without the draft, the two in turns.

    The clips are spread evenly over those given; the first one is run once beforehand, to warm up.

    Args:
        bench: models and settings.
        clips: with what both models need.
        count: how many to time; 0 none.
    """
    chosen = [clips[i * len(clips) // count] for i in range(min(count, len(clips)))]
    if chosen:
        _time_clip(bench, chosen[0], repeats=1)
    return tuple(_time_clip(bench, clip, repeats=REPEATS) for clip in chosen)


def _time_clip(bench: Bench, clip: Clip, *, repeats: int) -> ClipSpeed:
    device = bench.target.device
    prefix_target_s, target = _fastest(device, repeats, partial(_state, bench.target, clip))
    prefix_draft_s, draft = _fastest(device, repeats, partial(_state, bench.draft, clip))
    plain_s, speculative_s = [], []
    for _ in range(repeats):
        spent, ids = timed(device, partial(_plain, bench, clip, target))
        plain_s.append(spent / len(ids))
        draft.rollback(draft.length)
        spent, done = timed(device, partial(_speculative, bench, clip, target, draft))
        speculative_s.append(spent / len(done.ids))
    tokens = len(done.ids)
    return ClipSpeed(
        window_id=clip.window_id,
        recording=clip.recording,
        prefix_target_s=prefix_target_s,
        prefix_draft_s=prefix_draft_s,
        # Sampled texts differ in length: both are brought to the same number of ids.
        plain_s=min(plain_s) * tokens,
        speculative_s=min(speculative_s) * tokens,
        tokens=tokens,
        rounds=len(done.rounds),
    )


def _plain(bench: Bench, clip: Clip, target: TreeState) -> list[int]:
    return plain(
        target,
        max_new_tokens=bench.config.max_new_tokens,
        eos_id=bench.target.eos_id,
        sampling=bench.config.sampling,
        draws=bench.draws(clip),
    )


def _speculative(bench: Bench, clip: Clip, target: TreeState, draft: TreeState) -> Speculation:
    draws = bench.draws(clip)
    proposer = DraftProposer(
        draft,
        bench.target.eos_id,
        vocabulary=target.prefix_logits.shape[-1],
        sampling=bench.config.sampling,
        draws=draws,
        confidence=bench.config.confidence,
    )
    return decode(bench, target, proposer, draws)


def _state(model: Narrator, clip: Clip) -> TreeState:
    inputs: Tensor = model.prepare(clip, evaluation_span(clip))
    return model.state(inputs[None])


def _fastest(
    device: torch.device, repeats: int, run: Callable[[], TreeState]
) -> tuple[float, TreeState]:
    found = [timed(device, run) for _ in range(repeats)]
    return min(seconds for seconds, _ in found), found[-1][1]
