from types import SimpleNamespace

import pytest
import torch
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from egotriad.alignment.schedules import Fixed, Heuristic
from egotriad.manifests.errors import UsageError


def test_a_fixed_schedule_stays() -> None:
    schedule = Fixed(4)
    schedule.update(4, 4)
    assert schedule.next() == schedule.most == 4


def test_the_heuristic_moves_as_that_of_transformers() -> None:
    theirs = SimpleNamespace(
        assistant_generation_config=SimpleNamespace(
            num_assistant_tokens_schedule="heuristic", assistant_confidence_threshold=0.0
        ),
        num_assistant_tokens=5,
    )
    ours = Heuristic(start=5, most=1000)
    for drafted, matched in ((5, 5), (7, 2), (6, 6), (3, 3), (9, 0), *[(4, 1)] * 15, (1, 1)):
        ours.update(drafted, matched)
        scores = torch.zeros(1, drafted + 1, 4)
        AssistedCandidateGenerator.update_candidate_strategy(theirs, None, scores, matched)
        assert ours.next() == theirs.num_assistant_tokens


def test_the_heuristic_stays_within_its_bounds() -> None:
    schedule = Heuristic(start=3, most=4)
    schedule.update(3, 3)
    assert schedule.next() == 4
    for _ in range(9):
        schedule.update(4, 0)
    assert schedule.next() == 1


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(UsageError, match="need >= 1"):
        Fixed(0)
    with pytest.raises(UsageError, match="start 6, most 5"):
        Heuristic(start=6, most=5)
