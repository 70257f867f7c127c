"""What clips are grouped by: numbers that hold on average may hold for no kind of clip.

| fact | of |
|---|---|
| verb | the narration, verbs of one meaning together |
| wearer | the clip |
| events_per_s | the event span the target sees |
| imu_score | the window's IMU quality, 1 nothing wrong |

Numbers are cut into thirds of the clips; groups of fewer than `FEWEST` clips are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from egotriad.converters.narration_actions import action_of
from egotriad.manifests import Clip, Span

__all__ = ["FEWEST", "facts_of", "grouped"]

FEWEST = 5
Item = TypeVar("Item")
Facts = Mapping[str, str | float | None]


def facts_of(clip: Clip, span: Span) -> dict[str, str | float | None]:
    """What one clip is grouped by; None where it is unknown.

    Args:
        clip: with its events.
        span: the one the target sees.
    """
    rate = None
    if clip.events is not None and span.duration_us > 0:
        times = clip.events.t_us
        count = int(np.searchsorted(times, span.end_us) - np.searchsorted(times, span.start_us))
        rate = count / (span.duration_us / 1e6)
    return {
        "verb": action_of(clip.narration).verb or None if clip.narration else None,
        "wearer": clip.wearer,
        "events_per_s": rate,
        "imu_score": clip.qc.imu_score,
    }


def grouped(
    items: Sequence[Item], facts: Callable[[Item], Facts]
) -> dict[str, dict[str, list[Item]]]:
    """Fact -> label -> items, labels in order; facts with fewer than two groups are left out."""
    names = list(dict.fromkeys(name for item in items for name in facts(item)))
    groups = {name: _groups(items, [facts(item).get(name) for item in items]) for name in names}
    return {name: found for name, found in groups.items() if len(found) > 1}


def _groups(items: Sequence[Item], values: Sequence[str | float | None]) -> dict[str, list[Item]]:
    numbers = [value for value in values if isinstance(value, int | float)]
    edges = sorted(set(np.quantile(numbers, (1 / 3, 2 / 3)).tolist())) if numbers else []
    found: dict[str, list[Item]] = {}
    for item, value in zip(items, values, strict=True):
        if value is not None:
            label = value if isinstance(value, str) else _third(value, edges)
            found.setdefault(label, []).append(item)
    order = sorted(found) if not numbers else [_label(i, edges) for i in range(len(edges) + 1)]
    return {name: found[name] for name in order if len(found.get(name, ())) >= FEWEST}


def _third(value: float, edges: Sequence[float]) -> str:
    return _label(sum(value > edge for edge in edges), edges)


def _label(index: int, edges: Sequence[float]) -> str:
    if not edges:
        return "all"
    if index == 0:
        return f"up to {edges[0]:.3g}"
    if index == len(edges):
        return f"above {edges[-1]:.3g}"
    return f"{edges[index - 1]:.3g} to {edges[index]:.3g}"
