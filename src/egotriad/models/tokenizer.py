"""Tokenizers of the LLaMA-2 kind: trained small here, or the real one from a user's file."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, TokenizerMismatch, UsageError

__all__ = [
    "MARK",
    "SPECIALS",
    "answer_ids",
    "answer_text",
    "check_same_tokenizer",
    "load_tokenizer",
    "tokenizer_json",
    "tokenizer_sha256",
    "train_tokenizer",
]

SPECIALS = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
MARK = "▁"  # the lower one eighth block that SentencePiece writes for a space


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """A small BPE tokenizer with LLaMA-2's layout, learnt from texts; the same for the same texts.

    `<unk>` 0, `<s>` 1, `</s>` 2, the bytes 3..258, then characters and merges. Merges are learnt
    inside words only (cut before each space mark and around punctuation), so short captions get
    about one id a word; encoding needs no such cut, because no merge crosses one. What was not in
    the texts is spelt in bytes.

    Args:
        texts: captions and prompts.
        vocab_size: largest number of ids; fewer when the texts run out of pairs to merge.

    Raises:
        UsageError: when the size leaves no room for every character of the texts.
    """
    texts = [text.replace("\n", " ") for text in texts]  # a line feed is a byte, as in LLaMA
    needed = len(SPECIALS) + len(BYTES) + len({MARK} | set("".join(texts)) - {" "})
    if vocab_size < needed:
        raise UsageError(f"tokenizer: vocabulary of {vocab_size}, these texts need >= {needed}")
    learnt = Tokenizer(models.BPE())
    learnt.normalizer = spaces_to_marks()
    learnt.pre_tokenizer = pre_tokenizers.Split(
        Regex(rf"{MARK}?\w+|{MARK}?[^\w{MARK}]"), "isolated"
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIALS, *BYTES],
        show_progress=False,
    )
    learnt.train_from_iterator(texts, trainer)
    model = json.loads(learnt.to_str())["model"]
    return wrapped(llama_like(model["vocab"], [(left, right) for left, right in model["merges"]]))


def llama_like(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """LLaMA-2's BPE and all processing around it, on another vocabulary."""
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token=SPECIALS[0], fuse_unk=True, byte_fallback=True)
    )
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.normalizer = spaces_to_marks()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def spaces_to_marks() -> normalizers.Normalizer:
    """LLaMA-2's normalizer: one mark in front, one for every space."""
    return normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a `tokenizer.json`, LLaMA-2's own included.

    `AutoTokenizer` of transformers 5 would replace the file's normalizer by another and encode
    leading spaces differently; this keeps the file's behaviour.

    Raises:
        CheckpointError: when it is no such file, or its special ids are not LLaMA's.
    """
    try:
        tokenizer = wrapped(Tokenizer.from_file(str(path)))
    except Exception as exc:  # tokenizers raises bare Exception for every cause
        raise CheckpointError(f"{path}: not a tokenizer.json ({exc})") from exc
    found = tuple(tokenizer.convert_ids_to_tokens(range(min(3, len(tokenizer)))))
    if found != SPECIALS:
        raise CheckpointError(f"{path}: ids 0..2 are {found}, need {SPECIALS} (LLaMA's)")
    return tokenizer


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The transformers interface around a tokenizer with LLaMA's special ids."""
    unk, bos, eos = SPECIALS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=unk,
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
    )


def answer_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids a model generates to say `text` after a prompt: no BOS, EOS at the end."""
    return [*tokenizer.encode(text, add_special_tokens=False), int(tokenizer.eos_token_id)]


def answer_text(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """What generated ids say, special ids left out."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def tokenizer_json(tokenizer: PreTrainedTokenizerFast) -> str:
    """The text of its `tokenizer.json`."""
    return str(tokenizer.backend_tokenizer.to_str(pretty=True))


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of its `tokenizer.json`."""
    return hashlib.sha256(tokenizer_json(tokenizer).encode()).hexdigest()


def check_same_tokenizer(a: PreTrainedTokenizerFast, b: PreTrainedTokenizerFast) -> None:
    """Nothing when every id means the same piece in both and the special ids agree.

    Raises:
        TokenizerMismatch: naming the sizes and the first differing ids.
    """
    pieces = [list(t.convert_ids_to_tokens(range(len(t)))) for t in (a, b)]
    if len(pieces[0]) != len(pieces[1]):
        raise TokenizerMismatch(
            f"vocabularies of {len(pieces[0])} and {len(pieces[1])} ids; draft and target must "
            "share one: train the draft with the target's tokenizer"
        )
    pairs = enumerate(zip(*pieces, strict=True))
    differing = [(i, one, other) for i, (one, other) in pairs if one != other]
    if differing:
        shown = ", ".join(f"id {i}: {one!r} / {other!r}" for i, one, other in differing[:5])
        raise TokenizerMismatch(
            f"{len(differing)} of {len(pieces[0])} ids mean different pieces ({shown}); train the "
            "draft with the target's tokenizer"
        )
    specials = [(t.unk_token_id, t.bos_token_id, t.eos_token_id) for t in (a, b)]
    if specials[0] != specials[1]:
        raise TokenizerMismatch(
            f"(unk, bos, eos) ids are {specials[0]} and {specials[1]}; they must be equal"
        )
