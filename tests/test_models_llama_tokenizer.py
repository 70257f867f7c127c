"""LLaMA's tokenizer out of published folders: tokenizer.json or a SentencePiece model."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, TokenizerMismatch
from egotriad.models.llama_tokenizer import folder_tokenizer, read_pieces, require_llama
from egotriad.models.tokenizer import load_tokenizer, tokenizer_json, train_tokenizer, wrapped

UNKNOWN, CONTROL, BYTE, NORMAL = 2, 3, 6, 1
TEXTS = ["C walks forward.", "USER: What is the wearer doing? ASSISTANT:"]
PROBES = [
    "Hello world!",
    " grabbed",
    "           grabbed",
    "\n",
    " \n",
    "ax\n####\nboo",
    "镇",
    "🦙",
    "USER: <image>\nWhat is it? ASSISTANT:",
]


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def sentencepiece_file(tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The file SentencePiece would write: protobuf, a piece's score is when it was first merged.

    Runs of spaces share the lowest score, as in LLaMA's own file.
    """
    model = json.loads(tokenizer_json(tokenizer))["model"]
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(model["merges"]):
        first.setdefault(left + right, rank if set(left + right) != {"▁"} else len(model["merges"]))
    out = b""
    for text, i in sorted(model["vocab"].items(), key=lambda item: item[1]):
        kind = {0: UNKNOWN, 1: CONTROL, 2: CONTROL}.get(i, BYTE if i < 259 else NORMAL)
        score = -float(first.get(text, len(model["merges"]))) if kind == NORMAL else 0.0
        raw = text.encode()
        body = b"\x0a" + varint(len(raw)) + raw + b"\x15" + struct.pack("<f", score)
        body += b"" if kind == NORMAL else b"\x18" + bytes([kind])
        out += b"\x0a" + varint(len(body)) + body
    trainer = b"\x18\x02" + b"\x22\x03abc"  # other fields of the file: settings
    return out + b"\x12" + varint(len(trainer)) + trainer


def test_a_sentencepiece_file_spells_as_the_tokenizer_json(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=330)
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_file(tokenizer))
    found = folder_tokenizer(tmp_path)
    for text in [*TEXTS, *PROBES]:
        assert found.encode(text) == tokenizer.encode(text), text


def test_llamas_own_file_gives_llamas_own_merges(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    llama = load_tokenizer(shared("real/llama2_tokenizer/tokenizer.json"))
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_file(llama))
    found = folder_tokenizer(tmp_path)
    assert len(found) == 32_000
    for text in PROBES:
        assert found.encode(text) == llama.encode(text), text
    merges, own = (json.loads(tokenizer_json(t))["model"]["merges"] for t in (found, llama))
    assert len(own) == 61_249
    assert merges == own
    require_llama(found, tmp_path)


def test_other_vocabularies_of_llamas_size_are_not_llamas(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    llama = load_tokenizer(shared("real/llama2_tokenizer/tokenizer.json"))
    record = json.loads(tokenizer_json(llama))
    vocab = record["model"]["vocab"]
    vocab["▁the"], vocab["▁a"] = vocab["▁a"], vocab["▁the"]
    swapped = wrapped(Tokenizer.from_str(json.dumps(record)))
    assert len(swapped) == len(llama)
    with pytest.raises(TokenizerMismatch, match=r"32000 ids, pieces sha256 .*need LLaMA's"):
        require_llama(swapped, tmp_path)
    with pytest.raises(TokenizerMismatch, match="320 ids"):
        require_llama(train_tokenizer(TEXTS, vocab_size=320), tmp_path)


def test_ids_that_were_added_later_are_left_out(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=320)
    wider = wrapped(Tokenizer.from_str(tokenizer_json(tokenizer)))
    wider.add_tokens(["<image>", "<video>", "<pad>"], special_tokens=True)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(wider))
    found = folder_tokenizer(tmp_path / "tokenizer.json")
    assert len(wider) == len(tokenizer) + 3
    assert tokenizer_json(found) == tokenizer_json(tokenizer)
    assert max(found.encode("a <image> b")) < len(tokenizer)


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    with pytest.raises(CheckpointError, match=r"no tokenizer.json or tokenizer.model"):
        folder_tokenizer(tmp_path)
    for data in (b"", b"\x0a\x7fshort", b"\xff\xff\xff", b"plain text, no protobuf"):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match="SentencePiece model"):
            read_pieces(file)
    raw = b"\x0a\x07\x0a\x05Hello" * 3
    file.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"ids 0..2 are .*'Hello'.*need"):
        folder_tokenizer(tmp_path)
