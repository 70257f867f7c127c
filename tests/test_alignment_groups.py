from collections.abc import Callable
from dataclasses import replace

import pytest

from egotriad.alignment.groups import FEWEST, facts_of, grouped
from egotriad.manifests import Clip
from egotriad.manifests.clip import Quality


def test_labels_are_groups_and_rare_ones_are_left_out() -> None:
    items = ["walk"] * 6 + ["turn"] * 5 + ["sit"] * (FEWEST - 1)
    found = grouped(items, lambda verb: {"verb": verb, "wearer": "same"})
    assert {name: len(members) for name, members in found["verb"].items()} == {"turn": 5, "walk": 6}
    assert set(found) == {"verb"}  # one wearer is no grouping


def test_numbers_are_cut_into_thirds_in_order() -> None:
    found = grouped(list(range(30)), lambda n: {"rate": float(n)})["rate"]
    assert [len(members) for members in found.values()] == [10, 10, 10]
    assert [members[0] for members in found.values()] == [0, 10, 20]
    assert next(iter(found)).startswith("up to")


def test_unknown_values_are_in_no_group() -> None:
    found = grouped(list(range(20)), lambda n: {"rate": float(n) if n < 15 else None})
    assert sum(map(len, found["rate"].values())) == 15
    assert grouped(list(range(20)), lambda n: {"rate": None}) == {}
    assert grouped(list(range(20)), lambda n: {"rate": 1.0}) == {}


def test_facts_of_a_clip(toy_clips: Callable[[int], list[Clip]]) -> None:
    clip = replace(
        toy_clips(1)[0], narration="C picks a knife.", wearer="w1", qc=Quality(imu_score=0.8)
    )
    assert clip.events is not None
    times = clip.events.t_us
    span = clip.event_spans[1]
    facts = facts_of(clip, span)
    inside = ((times >= span.start_us) & (times < span.end_us)).sum()
    assert facts["events_per_s"] == pytest.approx(inside / (span.duration_us / 1e6))
    assert (facts["verb"], facts["wearer"], facts["imu_score"]) == ("take", "w1", 0.8)
    bare = facts_of(replace(clip, events=None, narration=None), span)
    assert bare["verb"] is None
    assert bare["events_per_s"] is None
