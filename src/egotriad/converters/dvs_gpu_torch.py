"""The noise-free event emulator in torch: all pixels of all clips at once, frame by frame.

The arithmetic is that of `dvs_levels`, operation by operation, so the events are the same to the
last bit. `dvs_gpu_levels` is faster; this and `dvs_gpu_torch_walk` run where there is no Triton.
"""

from typing import TYPE_CHECKING

from egotriad.converters.dvs_gpu_place import HitList, joined
from egotriad.converters.dvs_gpu_state import LevelsState

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["scan_levels"]


def scan_levels(
    levels: "Tensor", state: LevelsState, log_of_level: "Tensor", *, slots: bool
) -> tuple[HitList, LevelsState]:
    """Hits of the frames, uint8 (C, n, P), and the state after them.

    With `slots`, `first` of a hit is zero: see `HitList`.
    """
    import torch

    n, pixels = levels.shape[1:]
    level, base = state.level, state.base
    hits = []
    for k in range(n):
        before, level = level, levels[:, k].reshape(-1)
        log = log_of_level[level.int()]
        difference = log - base
        loud = ((difference >= state.pos) | (-difference >= state.neg)).nonzero().ravel()
        risen, old = difference[loud], base[loud]
        threshold = torch.where(risen > 0, state.pos[loud], -state.neg[loud])
        # The quotient of two float32 is never rounded up to an integer in float64.
        count = (risen.double() / threshold.double()).int()
        log_before = log_of_level[before[loud].int()].double()
        change = log[loud].double() - log_before
        per_change = torch.where(change != 0, 1 / change, 0.0)
        first = ((old.double() + threshold - log_before) * per_change).float()
        clip = loud // pixels
        hits.append(
            HitList(
                interval=clip * n + k,
                address=(loud - clip * pixels) * 2 + (threshold > 0),
                events=count.long(),
                first=torch.zeros_like(first) if slots else first,
                step=(threshold * per_change).float(),
            )
        )
        base = base.index_copy(0, loud, old + count.float() * threshold)
    return joined(hits), state._replace(level=level.clone(), base=base)
