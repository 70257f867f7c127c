import pytest

from egotriad.alignment.ngram import NgramProposer, NgramTable, PromptLookupProposer
from egotriad.manifests.errors import EvaluationError, UsageError

EOS = 2
# "5 6 7." twice, "5 6 8." once, "9 6 8 8." twice.
TEXTS = [[5, 6, 7, EOS]] * 2 + [[5, 6, 8, EOS]] + [[9, 6, 8, 8, EOS]] * 2


def test_the_longest_known_context_decides() -> None:
    table = NgramTable(TEXTS)
    assert table.next([]) == 5  # begins three of five texts
    assert table.next([5]) == 6
    assert table.next([5, 6]) == 7  # 7 twice against 8 once
    assert table.next([9, 6]) == 8
    assert table.next([9, 6, 8]) == 8
    assert table.next([5, 6, 8]) == EOS


def test_unknown_contexts_back_off_to_shorter_ones() -> None:
    table = NgramTable(TEXTS)
    assert table.next([1, 1, 6]) == 8  # after a lone 6: 8 three times, 7 twice
    assert table.next([1, 1, 1]) == EOS  # no known context: 2, 6 and 8 occur five times each
    assert table.next([9, 7]) == EOS


def test_ties_go_to_the_smallest_id_whatever_the_order_of_texts() -> None:
    texts = [[4, 7, EOS], [4, 3, EOS]]
    assert NgramTable(texts).next([4]) == NgramTable(texts[::-1]).next([4]) == 3


def test_order_limits_the_context() -> None:
    texts = [[1, 5, 8, EOS], [1, 5, 8, EOS], [3, 5, 9, EOS]]
    assert NgramTable(texts, order=3).next([3, 5]) == 9
    assert NgramTable(texts, order=2).next([3, 5]) == 8
    assert NgramTable(texts, order=1).next([3, 5]) == EOS
    with pytest.raises(UsageError, match="need >= 1"):
        NgramTable(texts, order=0)


def test_proposals_follow_the_emitted_ids_and_stop_at_the_end_of_sequence() -> None:
    proposer = NgramProposer(NgramTable(TEXTS), EOS)
    assert proposer.propose([], 2).ids == [5, 6]
    assert proposer.propose([], 8).ids == [5, 6, 7, EOS]
    assert proposer.propose([9], 8).ids == [6, 8, 8, EOS]
    assert proposer.propose([9], 0).ids == []


def test_teacher_forced_matches_are_the_argmax_at_every_position() -> None:
    proposer = NgramProposer(NgramTable(TEXTS), EOS)
    assert proposer.matches([5, 6, 7, EOS]) == [True] * 4
    assert proposer.matches([9, 6, 8, 8, EOS]) == [False, True, True, True, True]


def test_a_table_without_text_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no training text"):
        NgramTable([])
    with pytest.raises(EvaluationError, match="no training text"):
        NgramTable([[], []])


def test_prompt_lookup_proposes_what_followed_before() -> None:
    proposer = PromptLookupProposer([5, 6, 7, 8, 6, 9], EOS)
    assert proposer.propose([6], 3).ids == [9, 6]  # the last 6 of the prompt, to the end
    assert proposer.propose([5, 6], 3).ids == [7, 8, 6]  # a longer ending decides
    assert proposer.propose([3, 4, 3], 2).ids == [4, 3]  # the text itself is looked through
    assert proposer.propose([42], 3).ids == []
    assert PromptLookupProposer([6, EOS, 7], EOS).propose([6], 3).ids == [EOS]
    assert PromptLookupProposer([], EOS).propose([], 3).ids == []
    with pytest.raises(UsageError, match="endings of 0 ids"):
        PromptLookupProposer([1], EOS, longest=0)


def test_prompt_lookup_is_asked_teacher_forced_as_any_proposer() -> None:
    proposer = PromptLookupProposer([5, 6], EOS)
    assert proposer.matches([5, 6, 5, 6]) == [False, True, True, True]  # the last 6 is new
    assert proposer.matches([9, 5, 6]) == [False, False, True]
