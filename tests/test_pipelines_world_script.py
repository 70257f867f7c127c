from collections import Counter

import numpy as np
import pytest

from egotriad.pipelines.world_activities import ACTIVITIES, TEMPOS
from egotriad.pipelines.world_script import (
    Beat,
    after,
    generator,
    make_wearer,
    narrate,
    possible,
    write_scripts,
)


def all_scripts(seed: int) -> list:
    return [
        script
        for wearer in range(36)
        for script in write_scripts(generator(seed, "script", wearer), recordings=2, beats=12)
    ]


def test_all_activities_are_used_about_equally() -> None:
    used = Counter(beat.activity for script in all_scripts(0) for beat in script.beats)
    assert set(used) == set(ACTIVITIES)
    mean = sum(used.values()) / len(ACTIVITIES)
    assert all(0.75 * mean < count < 1.25 * mean for count in used.values()), used


def test_nothing_impossible_is_ever_scripted() -> None:
    for script in all_scripts(1):
        sitting, level = script.sitting, script.level
        for beat in script.beats:
            assert beat.activity in possible(sitting, level)
            sitting, level = after(beat.activity, sitting, level)
            assert 0 <= level <= 2


@pytest.mark.parametrize(
    ("sitting", "level", "never"),
    [
        (True, 0, {"sit_down", "walk", "climb", "turn_left", "bend", "stand_still"}),
        (False, 0, {"stand_up", "descend"}),
        (False, 2, {"stand_up", "climb"}),
    ],
)
def test_the_state_rules_out_what_cannot_be(sitting: bool, level: int, never: set[str]) -> None:
    keys = set(possible(sitting, level))
    assert not keys & never
    assert keys


def test_all_tempos_occur_about_equally_and_standing_still_has_none() -> None:
    beats = [beat for script in all_scripts(0) for beat in script.beats]
    counts = Counter(beat.tempo for beat in beats if beat.activity != "stand_still")
    assert all(0.28 < counts[tempo] / counts.total() < 0.39 for tempo in TEMPOS)
    assert {beat.tempo for beat in beats if beat.activity == "stand_still"} == {"normal"}


def test_every_activity_has_four_phrases_of_skewed_use() -> None:
    rng = generator(0, "test")
    for key, activity in ACTIVITIES.items():
        texts = Counter(narrate(rng, make_wearer(rng), Beat(key, "normal")) for _ in range(300))
        phrases = Counter()
        for text, count in texts.items():
            for phrase in activity.phrases:
                if any(text == f"#C C {phrase.format(o)}." for o in activity.objects or ("",)):
                    phrases[phrase] += count
        assert phrases.total() == 300
        shares = [phrases[phrase] / 300 for phrase in activity.phrases]
        assert 0.52 < shares[0] < 0.72
        assert 0 < shares[3] < shares[0] / 3


def test_no_two_activities_share_a_phrase() -> None:
    phrases = [phrase for activity in ACTIVITIES.values() for phrase in activity.phrases]
    assert len(set(phrases)) == 4 * len(ACTIVITIES) == 64


def test_the_tempo_is_the_last_word_or_no_word() -> None:
    rng = generator(0, "test")
    wearer = make_wearer(rng)
    assert narrate(rng, wearer, Beat("nod", "slow")).endswith((" slowly.", " gently."))
    assert narrate(rng, wearer, Beat("nod", "quick")).endswith((" quickly.", " fast."))
    words = {word for tempo in TEMPOS.values() for word in tempo.words}
    assert not words & set(narrate(rng, wearer, Beat("nod", "normal")).strip(".").split())


def test_wearers_have_words_of_their_own() -> None:
    first, second = (make_wearer(generator(0, "wearer", number)) for number in (0, 1))
    assert not np.allclose(first.phrase_shares["walk"], second.phrase_shares["walk"])
    assert 0.88 <= first.speed <= 1.14
    assert 0.85 <= first.amplitude <= 1.20


def test_generators_differ_by_purpose_and_number_and_agree_with_themselves() -> None:
    draws = [
        generator(*key).random() for key in ((0, "a"), (0, "b"), (0, "a", 1), (1, "a"), (0, "a"))
    ]
    assert len(set(draws)) == 4
    assert draws[0] == draws[4]
