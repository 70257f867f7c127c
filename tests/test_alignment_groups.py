from collections.abc import Callable
from dataclasses import replace

import pytest

from egotriad.alignment.groups import FEWEST, facts_of, grouped, verb_names
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


def test_large_numbers_are_written_in_full() -> None:
    labels = list(grouped(list(range(30)), lambda n: {"rate": 12_345.6 * n + 0.25})["rate"])
    assert labels == ["up to 119,000", "119,000 to 239,000", "above 239,000"]
    labels = list(grouped(list(range(30)), lambda n: {"score": n / 29})["score"])
    assert labels == ["up to 0.333", "0.333 to 0.667", "above 0.667"]


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


def test_verbs_are_called_by_whole_words() -> None:
    told = ["C rises slowly.", "C shakes the head.", "C shaking it", "C shakes a bag", None, ""]
    names = verb_names([*told, "C picks a knife.", "C gathers leaves."])
    assert set(names.values()) == {"rise", "shake", "take"}
    assert len(names) == 3  # one label for all forms of a verb, and for its group


def test_facts_name_the_verb_as_all_clips_tell_it(toy_clips: Callable[[int], list[Clip]]) -> None:
    clip = replace(toy_clips(1)[0], narration="C rises.")
    verbs = verb_names([clip.narration, "C rises again."])
    assert facts_of(clip, clip.event_spans[0], verbs)["verb"] == "rise"
