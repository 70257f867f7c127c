"""The tokenizer of a published LLaMA folder: its tokenizer.json, or its tokenizer.model.

`tokenizer.model (protobuf) -> pieces with scores -> byte-pair merges -> the same ids`

Neither sentencepiece nor protobuf is needed, and the result does not depend on how a version of
transformers converts such files (5.x replaces the normalizer and encodes leading spaces otherwise).
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, TokenizerMismatch
from egotriad.models.decoders import LLAMA_IDS
from egotriad.models.tokenizer import (
    MARK,
    SPECIALS,
    llama_like,
    load_tokenizer,
    tokenizer_json,
    wrapped,
)

__all__ = [
    "Piece",
    "folder_tokenizer",
    "pieces_sha256",
    "read_pieces",
    "require_llama",
]

LLAMA_SHA256 = "ac86a032af5b218acefc8e15116bcedec7e38f63655a60572c957be5d4424706"
"""`pieces_sha256` of LLaMA-1's and LLaMA-2's vocabulary."""

NORMAL = 1
"""Piece type of SentencePiece's format; others are control, unknown, byte, unused."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of a SentencePiece vocabulary."""

    text: str
    score: float = 0.0
    kind: int = NORMAL


def folder_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder or file, without ids that were added after the vocabulary.

    Added ids (`<image>`, `<pad>`) are placeholders that models never say; prompts are assembled
    from embeddings here, so they are not needed.

    Args:
        path: tokenizer.json, tokenizer.model, or a folder with one of them (the first wins).

    Raises:
        CheckpointError: when there is none, or it is not LLaMA's kind.
    """
    names = ("tokenizer.json", "tokenizer.model")
    file = path
    if path.is_dir():
        file = next((path / name for name in names if (path / name).is_file()), path)
    if not file.is_file():
        raise CheckpointError(
            f"{path}: no {' or '.join(names)}; pass LLaMA's tokenizer (EventGPT's and "
            "Video-LLaVA's is Vicuna-7B v1.5's)"
        )
    if file.suffix == ".model":
        return _from_pieces(read_pieces(file), file)
    return _without_added(load_tokenizer(file))


def require_llama(tokenizer: PreTrainedTokenizerFast, where: Path) -> None:
    """Nothing when its ids and pieces are LLaMA's own.

    Raises:
        TokenizerMismatch: when they are not; 32,000 ids alone prove nothing (Mistral's).
    """
    size = len(tokenizer)
    found = pieces_sha256(enumerate(tokenizer.convert_ids_to_tokens(range(size))))
    if size != LLAMA_IDS or found != LLAMA_SHA256:
        raise TokenizerMismatch(
            f"{where}: {size} ids, pieces sha256 {found[:12]}..., need LLaMA's {LLAMA_IDS}, sha256 "
            f"{LLAMA_SHA256[:12]}...; the weights were trained on another vocabulary than this "
            "tokenizer's: pass LLaMA's as tokenizer"
        )


def pieces_sha256(pieces: Iterable[tuple[int, str | None]]) -> str:
    """One SHA-256 for what ids mean, the same however a file marks spaces."""
    digest = hashlib.sha256()
    for i, piece in pieces:
        digest.update(f"{i}\t{(piece or '').replace(MARK, ' ')}\n".encode())
    return digest.hexdigest()


def read_pieces(path: Path) -> list[Piece]:
    """The vocabulary of a SentencePiece `tokenizer.model`, in the order of its ids.

    Raises:
        CheckpointError: when it is no such file.
    """
    data = path.read_bytes()
    pieces = []
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                found = dict(_fields(value))
                pieces.append(
                    Piece(
                        text=_bytes(found[1]).decode("utf-8"),
                        score=struct.unpack("<f", _bytes(found.get(2, bytes(4))))[0],
                        kind=int(found.get(3, NORMAL)),
                    )
                )
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as exc:
        raise CheckpointError(f"{path}: not a SentencePiece model ({exc!r})") from exc
    if not pieces:
        raise CheckpointError(f"{path}: a SentencePiece model without pieces")
    return pieces


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protobuf message's fields."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"cut off at byte {at}")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"got the number {value}, need bytes")
    return value


def _from_pieces(pieces: list[Piece], path: Path) -> PreTrainedTokenizerFast:
    """The byte-pair tokenizer that spells as SentencePiece does with these pieces."""
    found = tuple(piece.text for piece in pieces[: len(SPECIALS)])
    if found != SPECIALS:
        raise CheckpointError(f"{path}: ids 0..2 are {found}, need {SPECIALS} (LLaMA's)")
    vocab = {piece.text: i for i, piece in enumerate(pieces)}
    return wrapped(llama_like(vocab, _merges(pieces, vocab)))


def _merges(pieces: list[Piece], vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, best score of the result first.

    SentencePiece joins the neighbours whose joint piece has the best score. Equal scores (LLaMA's
    runs of spaces have them) are ordered by the ids of the halves, as in llama-tokenizer-js, whose
    ids equal SentencePiece's.
    """
    ranked = [
        (-piece.score, vocab[piece.text[:cut]], vocab[piece.text[cut:]])
        for piece in pieces
        if piece.kind == NORMAL
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in vocab and piece.text[cut:] in vocab
    ]
    return [(pieces[left].text, pieces[right].text) for _, left, right in sorted(ranked)]


def _without_added(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    record = json.loads(tokenizer_json(tokenizer))
    size = len(record["model"]["vocab"])
    if len(tokenizer) == size:
        return tokenizer
    record["added_tokens"] = [added for added in record["added_tokens"] if added["id"] < size]
    return wrapped(Tokenizer.from_str(json.dumps(record)))
