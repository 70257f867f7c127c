"""Tokenizers of the LLaMA-2 kind."""

import json
from pathlib import Path

import pytest

from egotriad.manifests.errors import CheckpointError, TokenizerMismatch, UsageError
from egotriad.models.tokenizer import (
    answer_ids,
    answer_text,
    check_same_tokenizer,
    load_tokenizer,
    tokenizer_json,
    tokenizer_sha256,
    train_tokenizer,
)

TEXTS = ("C walks forward.", "C turns left quickly.", "C sits down slowly.", "C stirs the pot.")


def test_ids_are_laid_out_as_in_llama_2() -> None:
    tokenizer = train_tokenizer(TEXTS)
    pieces = tokenizer.convert_ids_to_tokens(range(259))
    assert pieces[:3] == ["<unk>", "<s>", "</s>"]
    assert pieces[3:] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.pad_token_id is None


def test_a_known_caption_takes_one_id_a_word_and_one_for_the_full_stop() -> None:
    tokenizer = train_tokenizer(TEXTS)
    ids = tokenizer.encode("C turns left quickly.")
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *("<s>", "▁C", "▁turns", "▁left", "▁quickly", "."),
    ]


def test_no_merge_crosses_a_word_or_a_punctuation_mark() -> None:
    tokenizer = train_tokenizer([*TEXTS * 50, "C walks, C walks."])
    for piece in tokenizer.convert_ids_to_tokens(range(259, len(tokenizer))):
        assert "▁" not in piece[1:]
        assert len(piece) == 1 or piece.lstrip("▁").isalnum() or len(piece.lstrip("▁")) == 1


@pytest.mark.parametrize(
    "text", ["Zoë stirs 镇 🦙.", "tab\there", "line\nfeed", "two  spaces", " leading", "", "C"]
)
def test_any_text_survives_encoding_and_decoding(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS)
    assert answer_text(tokenizer, answer_ids(tokenizer, text)) == text
    assert 0 not in answer_ids(tokenizer, text)


def test_an_answer_ends_with_eos_and_has_no_bos() -> None:
    tokenizer = train_tokenizer(TEXTS)
    ids = answer_ids(tokenizer, "C walks forward.")
    assert ids[-1] == 2
    assert 1 not in ids


def test_training_is_deterministic_and_keeps_to_the_size() -> None:
    one, two = train_tokenizer(TEXTS), train_tokenizer(iter(TEXTS))
    assert tokenizer_json(one) == tokenizer_json(two)
    small = train_tokenizer(TEXTS, vocab_size=300)
    assert len(small) == 300
    assert len(one) < 512  # these texts run out of merges


def test_a_vocabulary_without_room_for_the_characters_is_refused() -> None:
    with pytest.raises(UsageError, match="vocabulary of 260, these texts need >= 28"):
        train_tokenizer(TEXTS, vocab_size=260)


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS)
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer_json(tokenizer), encoding="utf-8")
    loaded = load_tokenizer(path)
    assert tokenizer_sha256(loaded) == tokenizer_sha256(tokenizer)
    assert loaded.encode(" C walks") == tokenizer.encode(" C walks")
    check_same_tokenizer(tokenizer, loaded)


def test_a_file_that_is_no_llama_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"not a tokenizer\.json"):
        load_tokenizer(path)
    record = json.loads(tokenizer_json(train_tokenizer(TEXTS)))
    record["added_tokens"] = []
    record["model"]["vocab"]["<s>"], record["model"]["vocab"]["</s>"] = 2, 1
    record["post_processor"] = None
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"ids 0\.\.2 are"):
        load_tokenizer(path)


def test_another_vocabulary_is_a_mismatch_that_names_ids() -> None:
    tokenizer = train_tokenizer(TEXTS)
    with pytest.raises(TokenizerMismatch, match="vocabularies of"):
        check_same_tokenizer(tokenizer, train_tokenizer(TEXTS, vocab_size=300))
    with pytest.raises(TokenizerMismatch, match=r"ids mean different pieces \(id \d+: '"):
        check_same_tokenizer(
            train_tokenizer(["ab ab"], vocab_size=265), train_tokenizer(["xy xy"], vocab_size=265)
        )
