from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egotriad.converters.narration_actions import Action, action_of, same_action
from egotriad.converters.narration_passes import choose_narrations, distinct, link_passes
from egotriad.manifests import Narration


@pytest.mark.parametrize(
    ("text", "verb", "objects"),
    [
        ("C picks the knife with his right hand.", "take", ("knife",)),
        ("C picks up a knife from the table", "take", ("knife",)),
        ("man X slowly opens the fridge's door", "open", ("fridge", "door")),
        ("C looks at the phone", "inspect", ("phone",)),
        ("C looks around", "inspect", ()),
        ("C is walking towards the kitchens", "walk", ("kitchen",)),
        ("C carries two boxes of potatoes", "carry", ("two", "box", "potato")),
        ("The lady Y talks", "talk", ()),
        ("washes dishes", "wash", ("dish",)),
        ("", "", ()),
        ("C.", "", ()),
    ],
)
def test_an_action_is_a_verb_and_its_object(text: str, verb: str, objects: tuple[str, ...]) -> None:
    found = action_of(text)
    assert (found.verb, found.objects) == (verb, objects)


@pytest.mark.parametrize("verb", ["slice", "slices", "slicing", "sliced", "chops", "trimming"])
def test_forms_of_a_verb_and_verbs_of_a_group_are_one(verb: str) -> None:
    assert action_of(f"C {verb} the bread") == Action("cut", ("bread",), ("",) * 6)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("C picks a knife", "C takes the knife from the drawer"),
        ("C puts the cup on the table", "C places a red cup down"),
        ("C cuts something", "C slices the onion"),
        ("C picks wood", "C takes a piece of wood"),
        ("C turns on the tap", "C switches the tap on"),
        ("C walks around", "C walks"),
        ("C turns left", "C turns to the left"),
        ("C steps forwards", "C steps forward"),
        ("C öffnet die Tür", "c öffnet die tür."),
        ("#", "#"),
    ],
)
def test_one_action_in_different_words_is_recognised(first: str, second: str) -> None:
    assert same_action(first, second)
    assert same_action(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("C picks a knife", "C puts the knife in the drawer"),
        ("C puts the cup on the table", "C puts the plate on the table"),
        ("C picks the red cup", "C picks the red plate"),
        ("C turns on the tap", "C turns off the tap"),
        ("C turns off the lamp on the wall", "C turns on the lamp on the wall"),
        ("C turns left", "C turns to the right"),
        ("C lifts the left hand", "C lifts the right hand"),
        ("C sits down", "C stands up"),
        ("C turns", "C turns the page"),
        ("C performs the body waves dance step", "C performs a step touch with his left hand"),
        ("", "C walks"),
    ],
)
def test_different_actions_are_kept_apart(first: str, second: str) -> None:
    assert not same_action(first, second)
    assert not same_action(second, first)


def told(t_s: float, text: str, author: str = "1", **more: object) -> Narration:
    return Narration(t_us=round(t_s * 1e6), text=text, annotation_pass=author, **more)


def test_near_duplicates_of_two_passes_share_a_group_and_keep_their_texts() -> None:
    linked = link_passes(
        [
            told(10.0, "C picks a knife"),
            told(11.9, "C takes the knife", "2"),
            told(12.0, "C cuts an onion"),
            told(15.2, "C slices the onion", "2"),  # more than 3 s after
        ]
    )
    assert [(n.text, n.group) for n in linked] == [
        ("C picks a knife", 0),
        ("C takes the knife", 0),
        ("C cuts an onion", 2),
        ("C slices the onion", 3),
    ]
    assert [n.text for n in distinct(linked)] == [
        "C picks a knife",
        "C cuts an onion",
        "C slices the onion",
    ]


def test_an_action_repeated_in_both_passes_is_linked_time_by_time() -> None:
    first = [told(t, "C cuts the onion") for t in (1.0, 2.0, 3.0)]
    second = [told(t, "C chops an onion", "2") for t in (1.2, 2.2, 3.2)]
    linked = link_passes(first + second)
    members = Counter(n.group for n in linked)
    assert list(members.values()) == [2, 2, 2]
    for group in members:
        a, b = (n.t_us for n in linked if n.group == group)
        assert b - a == 200_000


def test_one_annotator_repeats_himself_only_in_the_same_words_at_once() -> None:
    linked = link_passes(
        [told(1.0, "C plays"), told(1.0, "C plays."), told(1.6, "C plays"), told(1.7, "C plays on")]
    )
    assert [n.group for n in linked] == [0, 0, 2, 3]


def test_the_same_act_of_another_person_is_another_action() -> None:
    wearer, other = told(1, "C walks", subject="wearer"), told(1, "X walks", "2", subject="other")
    unmarked = told(1, "C walks.", "3")
    assert {n.group for n in link_passes([wearer, other])} == {0, 1}
    assert {n.group for n in link_passes([wearer, unmarked])} == {0}


def test_three_annotators_make_one_group_within_three_seconds() -> None:
    linked = link_passes([told(t, "C sits", name) for t, name in ((1, "a"), (3, "b"), (3.9, "c"))])
    assert {n.group for n in linked} == {0}
    apart = link_passes([told(t, "C sits", name) for t, name in ((1, "a"), (3, "b"), (4.5, "c"))])
    assert [n.group for n in apart] == [0, 1, 1]


def test_the_sure_text_of_the_first_pass_stands_for_its_group() -> None:
    linked = link_passes(
        [told(1, "C cuts something", "1", unsure=True), told(2, "C cuts an onion", "2")]
    )
    assert [n.text for n in distinct(linked)] == ["C cuts an onion"]
    alone = told(5, "C sits")
    assert distinct([alone, told(4, "C sits")]) == (told(4, "C sits"), alone)  # never linked


def test_what_is_left_out_is_counted_and_late_stamps_are_not_believed() -> None:
    narrations = [
        told(2, "X walks", subject="other"),
        told(10.0, "C sits"),
        told(10.05, "C waits"),
        told(10.1, "C sleeps"),
    ]
    kept, counts = choose_narrations(narrations, 10_000_000, wearer_only=True)
    assert [(n.t_us, n.text) for n in kept] == [(9_999_999, "C sits"), (9_999_999, "C waits")]
    assert counts == {"after_end": 1, "at_end": 2, "other_person": 1}
    kept, counts = choose_narrations(narrations, 20_000_000)
    assert len(kept) == 4
    assert counts == {}


NARRATIONS = st.lists(
    st.builds(
        Narration,
        t_us=st.integers(0, 12_000_000),
        text=st.sampled_from(
            ["C cuts the onion", "C slices an onion", "C sits", "C cuts something", "C cuts"]
        ),
        annotation_pass=st.sampled_from("123"),
        subject=st.sampled_from(["", "wearer", "other"]),
    ),
    max_size=25,
)


@given(NARRATIONS, st.randoms(use_true_random=False))
def test_groups_keep_what_they_promise_whatever_the_order(narrations, random) -> None:
    linked = link_passes(narrations)
    shuffled = list(narrations)
    random.shuffle(shuffled)
    assert Counter((n.t_us, n.text, n.annotation_pass, n.group) for n in link_passes(shuffled)) == (
        Counter((n.t_us, n.text, n.annotation_pass, n.group) for n in linked)
    )
    for index, narration in enumerate(linked):
        assert narration.group <= index
        members = [n for n in linked if n.group == narration.group]
        assert max(n.t_us for n in members) - min(n.t_us for n in members) <= 3_000_000
        for other in members:
            if other.annotation_pass == narration.annotation_pass:
                assert other.text == narration.text
    kept = distinct(linked)
    assert len({n.group for n in kept}) == len(kept) == len({n.group for n in linked})
    assert set(kept) <= set(linked)
