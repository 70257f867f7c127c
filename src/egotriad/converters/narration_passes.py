"""Several annotators on one recording: which narrations are kept, and which tell the same action.

Ego4D was narrated in two passes by different people, Ego-Exo4D by several: the same action then
appears twice, in different words, up to some seconds apart. Nothing is merged here: narrations of
one action share a group number, and whoever wants one text per action takes `distinct`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from egotriad.converters.narration_actions import same_action, words_of
from egotriad.converters.narration_text import in_order
from egotriad.manifests import Narration

__all__ = ["choose_narrations", "distinct", "link_passes"]

PASSES_APART_US = 3_000_000
"""Two annotators stamp one action at most this far apart."""
REPEAT_US = 500_000
"""The same words by the same annotator this close together are one narration written twice."""
AFTER_END_US = 100_000
"""A stamp up to this far after the end belongs to the last moment; later ones are wrong."""


def choose_narrations(
    narrations: Iterable[Narration], duration_us: int, *, wearer_only: bool = False
) -> tuple[tuple[Narration, ...], dict[str, int]]:
    """The narrations of a recording that its windows list, linked and in order.

    Args:
        narrations: of one recording, in any order.
        duration_us: length of the recording; stamps up to 0.1 s after it move to its last
            microsecond, later ones are left out.
        wearer_only: whether to leave out those marked as about another person.

    Returns:
        The narrations with their groups, and counts of the others: `other_person` and `after_end`
        were left out, `at_end` moved.
    """
    counts: Counter[str] = Counter()
    kept = []
    for narration in narrations:
        if wearer_only and narration.subject == "other":
            counts["other_person"] += 1
        elif narration.t_us >= duration_us + AFTER_END_US:
            counts["after_end"] += 1
        elif narration.t_us >= duration_us:
            counts["at_end"] += 1
            kept.append(replace(narration, t_us=duration_us - 1))
        else:
            kept.append(narration)
    return link_passes(kept), dict(sorted(counts.items()))


def link_passes(narrations: Iterable[Narration]) -> tuple[Narration, ...]:
    """Numbers the groups of narrations that tell one action, in time order.

    Two narrations of different passes are linked when they lie at most 3 s apart, tell the same
    action (`narration_actions.same_action`), and are not marked as about different subjects.
    Nearest pairs are linked first, and a group never holds two actions of one pass: an action that
    both annotators saw three times gives three groups. Within a pass only the same words at most
    0.5 s apart are one.

    Returns:
        The narrations in order, `group` set: the index of the group's first member.
    """
    ordered = in_order(narrations)
    groups = [{index} for index in range(len(ordered))]
    for first, second in _repeats(ordered):
        _merge(groups, first, second)
    for first, second in _pairs(ordered):
        together = groups[first] | groups[second]
        passes = [{ordered[k].annotation_pass for k in groups[end]} for end in (first, second)]
        times = [ordered[k].t_us for k in together]
        if passes[0].isdisjoint(passes[1]) and max(times) - min(times) <= PASSES_APART_US:
            _merge(groups, first, second)
    return tuple(
        replace(narration, group=min(group))
        for narration, group in zip(ordered, groups, strict=True)
    )


def _merge(groups: list[set[int]], first: int, second: int) -> None:
    together = groups[first] | groups[second]
    for index in together:
        groups[index] = together


def _repeats(ordered: Sequence[Narration]) -> list[tuple[int, int]]:
    """First and later narrations of one pass with the same words, close together."""
    first: dict[tuple[str, tuple[str, ...]], int] = {}
    found = []
    for index, narration in enumerate(ordered):
        key = narration.annotation_pass, words_of(narration.text)
        before = first.get(key)
        if before is not None and narration.t_us - ordered[before].t_us <= REPEAT_US:
            found.append((before, index))
        else:
            first[key] = index
    return found


def _pairs(ordered: Sequence[Narration]) -> list[tuple[int, int]]:
    """Pairs of different passes that tell the same action, the nearest in time first."""
    found = []
    for first, a in enumerate(ordered):
        for second in range(first + 1, len(ordered)):
            b = ordered[second]
            if b.t_us - a.t_us > PASSES_APART_US:
                break
            if (
                a.annotation_pass != b.annotation_pass
                and (a.subject == b.subject or not a.subject or not b.subject)
                and same_action(a.text, b.text)
            ):
                found.append((b.t_us - a.t_us, first, second))
    return [(first, second) for _, first, second in sorted(found)]


def distinct(narrations: Iterable[Narration]) -> tuple[Narration, ...]:
    """One narration of each group, in time order: the texts to train on, without near-duplicates.

    The one whose annotator was sure, of the first pass by name, comes first. Narrations that were
    never linked are all kept.
    """
    chosen: dict[int, Narration] = {}
    unlinked = []
    for narration in sorted(in_order(narrations), key=lambda n: (n.unsure, n.annotation_pass)):
        if narration.group is None:
            unlinked.append(narration)
        else:
            chosen.setdefault(narration.group, narration)
    return in_order([*chosen.values(), *unlinked])
