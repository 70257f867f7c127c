"""Which vocabularies may draft for which, and what happens to ids that only one side has."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from egotriad.alignment.vocabulary import share_vocabulary, vocabulary_of
from egotriad.manifests.errors import TokenizerMismatch
from egotriad.models.tokenizer import load_tokenizer, tokenizer_json, train_tokenizer, wrapped

TEXTS = ["C walks forward.", "C turns left quickly.", "USER: What is it? ASSISTANT:"]


@pytest.fixture
def base() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, vocab_size=320)


def extended(base: PreTrainedTokenizerFast, *pieces: str) -> PreTrainedTokenizerFast:
    tokenizer = wrapped(Tokenizer.from_str(tokenizer_json(base)))
    tokenizer.add_tokens(list(pieces), special_tokens=True)
    return tokenizer


def rewritten(
    base: PreTrainedTokenizerFast, change: Callable[[dict], None]
) -> PreTrainedTokenizerFast:
    record = json.loads(tokenizer_json(base))
    change(record)
    return wrapped(Tokenizer.from_str(json.dumps(record)))


def test_a_vocabulary_is_shared_with_itself(base: PreTrainedTokenizerFast) -> None:
    own = vocabulary_of(base)
    shared = share_vocabulary(own, own)
    assert shared.shared.all()
    assert len(shared.shared) == len(base)
    assert not shared.draft_only
    assert not shared.target_only
    logits = torch.randn(2, len(base))
    assert torch.equal(shared.draft_logits(logits), logits)
    assert torch.equal(shared.target_logits(logits), logits)


def test_a_wider_target_pads_the_draft_and_its_own_rows_can_be_masked(
    base: PreTrainedTokenizerFast,
) -> None:
    n = len(base)
    target = vocabulary_of(extended(base, "<image>", "<video>", "<pad>"), rows=n + 64)
    shared = share_vocabulary(vocabulary_of(base), target)
    assert list(shared.target_only)[:4] == [n, n + 1, n + 2, n + 3]
    assert [shared.target_only[n + i] for i in range(4)] == ["<image>", "<video>", "<pad>", None]
    draft = torch.randn(3, n)
    q = shared.draft_logits(draft).softmax(-1)
    assert q.shape == (3, n + 64)
    torch.testing.assert_close(q[:, :n], draft.softmax(-1))
    assert not q[:, n:].any()
    target_rows = torch.randn(3, n + 64)
    p = shared.target_logits(target_rows).softmax(-1)
    torch.testing.assert_close(p[:, :n], target_rows[:, :n].softmax(-1))
    assert not p[:, n:].any()


def test_ids_that_only_the_draft_has_are_never_proposed(base: PreTrainedTokenizerFast) -> None:
    n = len(base)
    draft = vocabulary_of(extended(base, "<ts>"), rows=n + 8)
    shared = share_vocabulary(draft, vocabulary_of(base))
    assert shared.draft_only[n] == "<ts>"
    logits = torch.zeros(1, n + 8)
    logits[0, n] = 99.0
    assert shared.draft_logits(logits).shape == (1, n)
    assert shared.draft_logits(logits).softmax(-1).max() == pytest.approx(1 / n)


def test_ids_added_on_both_sides_with_other_meanings_are_masked(
    base: PreTrainedTokenizerFast,
) -> None:
    n = len(base)
    draft, target = (vocabulary_of(extended(base, piece)) for piece in ("<ts>", "<image>"))
    shared = share_vocabulary(draft, target)
    assert not shared.shared[n]
    assert shared.draft_only == {n: "<ts>"}
    assert shared.target_only == {n: "<image>"}
    assert shared.draft_logits(torch.zeros(n + 1))[n] == -torch.inf
    same = share_vocabulary(draft, vocabulary_of(extended(base, "<ts>")))
    assert same.shared.all()


def test_a_shuffled_vocabulary_is_refused_with_the_first_ids(
    base: PreTrainedTokenizerFast,
) -> None:
    def shuffle(record: dict) -> None:
        vocab = record["model"]["vocab"]
        pieces = [piece for piece, i in vocab.items() if i > 258]
        ids = [vocab[piece] for piece in pieces]
        random.Random(0).shuffle(ids)
        vocab.update(zip(pieces, ids, strict=True))

    with pytest.raises(TokenizerMismatch, match=r"ids mean different pieces.*\(id 259: '.+' / '"):
        share_vocabulary(vocabulary_of(base), vocabulary_of(rewritten(base, shuffle)))


def test_a_longer_trained_vocabulary_is_another_vocabulary() -> None:
    small, large = (
        vocabulary_of(train_tokenizer([*TEXTS, "a longer tail of words"], vocab_size=size))
        for size in (300, 310)
    )
    with pytest.raises(TokenizerMismatch, match=r"id 300: None / '"):
        share_vocabulary(small, large)
    with pytest.raises(TokenizerMismatch, match=r"id 300: '.+' / None"):
        share_vocabulary(large, small)


def test_equal_pieces_with_other_merges_end_prompts_differently(
    base: PreTrainedTokenizerFast,
) -> None:
    def unmerge(record: dict) -> None:
        record["model"]["merges"] = []

    with pytest.raises(TokenizerMismatch, match="the merges differ"):
        share_vocabulary(vocabulary_of(base), vocabulary_of(rewritten(base, unmerge)))


def test_other_special_ids_and_too_few_rows_are_refused(base: PreTrainedTokenizerFast) -> None:
    other = wrapped(Tokenizer.from_str(tokenizer_json(base)))
    other.bos_token = "</s>"
    with pytest.raises(TokenizerMismatch, match=r"\(0, 1, 2\) to the draft and \(0, 2, 2\)"):
        share_vocabulary(vocabulary_of(base), vocabulary_of(other))
    with pytest.raises(TokenizerMismatch, match="model 12 rows"):
        vocabulary_of(base, rows=12)


def test_llamas_own_vocabulary_passes_and_look_alikes_fail(shared: Callable[[str], Path]) -> None:
    llama = load_tokenizer(shared("real/llama2_tokenizer/tokenizer.json"))
    own = vocabulary_of(llama)
    assert own.cue == (319, 1799, 9047, 13566, 29901)
    assert own.rows == 32_000
    video = vocabulary_of(extended(llama, "<image>", "<video>", "<pad>"), rows=32_064)
    found = share_vocabulary(own, video)
    assert len(found.target_only) == 64
    assert found.shared.sum() == 32_000
    assert found.sha256 == share_vocabulary(own, own).sha256

    def like_mistral(record: dict) -> None:
        """Mistral keeps the specials and bytes and has its own order from id 259 on."""
        vocab = record["model"]["vocab"]
        tail = sorted(i for i in vocab.values() if i > 258)
        moved = dict(zip(tail, tail[500:] + tail[:500], strict=True))
        record["model"]["vocab"] = {piece: moved.get(i, i) for piece, i in vocab.items()}

    with pytest.raises(TokenizerMismatch, match=r"31741 of 32000 ids.*id 259: '  ' / '"):
        share_vocabulary(own, vocabulary_of(rewritten(llama, like_mistral)))


def test_a_report_says_what_is_shared_and_what_is_not(base: PreTrainedTokenizerFast) -> None:
    own, n = vocabulary_of(base), len(base)
    same = share_vocabulary(own, own)
    assert same.equal
    assert same.record() == {
        "verdict": "equal",
        "draft_rows": n,
        "target_rows": n,
        "draft_only": 0,
        "target_only": 0,
        "shared_sha256": same.sha256,
    }
    wide = share_vocabulary(vocabulary_of(extended(base, "<ts>"), rows=n + 8), own)
    assert not wide.equal
    assert wide.record() == same.record() | {
        "verdict": "padded",
        "draft_rows": n + 8,
        "draft_only": 8,
    }
