"""What clips are grouped by: numbers that hold on average may hold for no kind of clip.

| fact | of |
|---|---|
| verb | the narration, verbs of one meaning together, by their commonest form |
| wearer | the clip |
| events_per_s | the event span the target sees |
| imu_score | the window's IMU quality, 1 nothing wrong |

Numbers are cut into thirds of the clips; groups of fewer than `FEWEST` clips are left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from egotriad.converters.narration_actions import VERB_GROUPS, action_of
from egotriad.manifests import Clip, Span

__all__ = ["FEWEST", "facts_of", "grouped", "verb_names"]

FEWEST = 5
GROUP_NAMES = frozenset(group.split()[0] for group in VERB_GROUPS)
Item = TypeVar("Item")
Facts = Mapping[str, str | float | None]


def verb_names(narrations: Iterable[str | None]) -> dict[str, str]:
    """Stem -> the whole word that stands for it: the first verb of its group, else the commonest.

    Args:
        narrations: of all clips that are compared.
    """
    words: dict[str, Counter[str]] = {}
    for action in map(action_of, filter(None, narrations)):
        if action.verb:
            words.setdefault(action.verb, Counter())[action.word] += 1
    return {
        stem: stem if stem in GROUP_NAMES else min(found, key=lambda word: (-found[word], word))
        for stem, found in words.items()
    }


def facts_of(
    clip: Clip, span: Span, verbs: Mapping[str, str] | None = None
) -> dict[str, str | float | None]:
    """What one clip is grouped by; None where it is unknown.

    Args:
        clip: with its events.
        span: the one the target sees.
        verbs: what the stems of verbs are called (`verb_names`).
    """
    stem = action_of(clip.narration).verb if clip.narration else ""
    rate = None
    if clip.events is not None and span.duration_us > 0:
        times = clip.events.t_us
        count = int(np.searchsorted(times, span.end_us) - np.searchsorted(times, span.start_us))
        rate = count / (span.duration_us / 1e6)
    return {
        "verb": (verbs or {}).get(stem, stem) or None,
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
        return f"up to {_rounded(edges[0])}"
    if index == len(edges):
        return f"above {_rounded(edges[-1])}"
    return f"{_rounded(edges[index - 1])} to {_rounded(edges[index])}"


def _rounded(value: float) -> str:
    """Three significant digits, large numbers in full."""
    short = f"{value:.3g}"
    return f"{float(short):,.0f}" if abs(value) >= 1000 else short
