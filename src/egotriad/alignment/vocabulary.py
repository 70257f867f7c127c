"""Whether ids that a draft proposes mean to the target what they mean to the draft.

`draft logits (..., V_draft) -> draft_logits -> (..., V_target)`, -inf where the target knows
another piece or none.

Speculation passes ids, never text, so two vocabularies fit when every id that both models use
spells the same piece. Their widths may differ: EventGPT's 32,000 ids, Video-LLaVA's 32,003 behind a
head of 32,064 rows and a LLaMA draft are one vocabulary with different tails. The tails are masked,
everything else that differs is refused: a vocabulary of 32,000 ids can still be Mistral's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.manifests.errors import TokenizerMismatch
from egotriad.models.llama_tokenizer import pieces_sha256
from egotriad.models.prompt import ANSWER_CUE
from egotriad.models.tokenizer import MARK

__all__ = ["SharedVocabulary", "Vocabulary", "share_vocabulary", "vocabulary_of"]

SHOWN = 5
"""Differing ids that an error shows; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the ids of one model mean.

    Attributes:
        pieces: of every id of the tokenizer, None where it skips one.
        added: ids that were added to the vocabulary after training (`<image>`, `<ev_patch>`).
        specials: (unk, bos, eos) ids.
        cue: ids of the prompt's end, after which the first id is generated.
        rows: width of the model's logits; at least as many as it has pieces.
    """

    pieces: tuple[str | None, ...]
    added: frozenset[int]
    specials: tuple[int | None, int | None, int | None]
    cue: tuple[int, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class SharedVocabulary:
    """How the logits of a draft and a target meet.

    Attributes:
        shared: (min of both widths,) True where both know the id, and as the same piece.
        draft_rows, target_rows: widths of their logits.
        draft_only, target_only: piece of every id that the other lacks or knows as another piece;
            None for rows without a piece (padding of the output layer).
        sha256: of the shared pieces in the order of their ids.
    """

    shared: Tensor
    draft_rows: int
    target_rows: int
    draft_only: Mapping[int, str | None]
    target_only: Mapping[int, str | None]
    sha256: str

    @property
    def equal(self) -> bool:
        """Whether the models agree on every row, so that nothing is to be done."""
        return not self.draft_only and not self.target_only

    def record(self) -> dict[str, str | int]:
        """For a report: `equal`, or `padded` with what is masked on either side."""
        return {
            "verdict": "equal" if self.equal else "padded",
            "draft_rows": self.draft_rows,
            "target_rows": self.target_rows,
            "draft_only": len(self.draft_only),
            "target_only": len(self.target_only),
            "shared_sha256": self.sha256,
        }

    def draft_logits(self, logits: Tensor) -> Tensor:
        """(..., V_target): a draft's logits where the target knows the id, -inf everywhere else.

        A draft that draws from their softmax never proposes what the target cannot confirm. The
        target's text keeps its distribution whatever the draft may propose.

        Args:
            logits: (..., V_draft).
        """
        keep = self.shared.to(logits.device)
        masked = logits[..., : len(keep)].masked_fill(~keep, -torch.inf)
        tail = self.target_rows - masked.shape[-1]
        return torch.nn.functional.pad(masked, (0, tail), value=-torch.inf)

    def target_logits(self, logits: Tensor) -> Tensor:
        """(..., V_target): a target's logits with -inf where the draft cannot follow.

        Ids that only the target has can carry probability: rows of a padded head are random. Mask
        them in plain and in speculative decoding alike, or in neither.

        Args:
            logits: (..., V_target).
        """
        keep = torch.zeros(self.target_rows, dtype=torch.bool)
        keep[: len(self.shared)] = self.shared
        return logits.masked_fill(~keep.to(logits.device), -torch.inf)


def vocabulary_of(tokenizer: PreTrainedTokenizerFast, rows: int | None = None) -> Vocabulary:
    """A tokenizer's vocabulary, and the width of the logits of the model that uses it.

    Args:
        tokenizer: the model's own.
        rows: of its output layer; as many as the tokenizer has ids when not given.

    Raises:
        TokenizerMismatch: when the model has fewer rows than its tokenizer has ids.
    """
    size = len(tokenizer)
    rows = size if rows is None else rows
    if rows < size:
        raise TokenizerMismatch(
            f"the tokenizer has {size} ids, the model {rows} rows; they are not of one checkpoint"
        )
    specials = (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    added = frozenset(tokenizer.get_added_vocab().values()) - set(specials)
    return Vocabulary(
        pieces=tuple(_plain(piece) for piece in tokenizer.convert_ids_to_tokens(range(size))),
        added=added,
        specials=specials,
        cue=tuple(tokenizer.encode(ANSWER_CUE.strip(), add_special_tokens=False)),
        rows=rows,
    )


def share_vocabulary(draft: Vocabulary, target: Vocabulary) -> SharedVocabulary:
    """How two models' logits meet, when they can.

    Ids with different pieces are allowed where both added them later (their specials differ) and
    where one side has none; ids of the trained vocabulary must agree.

    Raises:
        TokenizerMismatch: with the first differing ids and pieces; when unk, bos or eos differ; or
            when the same prompt end is spelt with other ids.
    """
    _require_equal_specials(draft, target)
    wrong = [
        (i, one, other)
        for i, (one, other) in enumerate(zip(draft.pieces, target.pieces, strict=False))
        if one != other and not (i in draft.added and i in target.added)
    ]
    wrong += _trained_tail(draft, target)
    if wrong:
        shown = ", ".join(f"id {i}: {one!r} / {other!r}" for i, one, other in wrong[:SHOWN])
        raise TokenizerMismatch(
            f"{len(wrong)} of {max(len(draft.pieces), len(target.pieces))} ids mean different "
            f"pieces to draft and target ({shown}); a draft must use the target's vocabulary (an "
            "equal size is not enough: Mistral's and OpenLLaMA's 32,000 ids are not LLaMA-2's)"
        )
    if draft.cue != target.cue:
        raise TokenizerMismatch(
            f"{ANSWER_CUE.strip()!r} is {list(draft.cue)} to the draft and {list(target.cue)} to "
            "the target although their pieces agree: the merges differ, so prompts would end "
            "differently; use the target's tokenizer.json for both"
        )
    return _shared(draft, target)


def _trained_tail(
    draft: Vocabulary, target: Vocabulary
) -> list[tuple[int, str | None, str | None]]:
    """Trained (not added) ids that only one side has: it is another vocabulary, not a tail."""
    longer, shorter = sorted((draft, target), key=lambda side: len(side.pieces), reverse=True)
    extra = range(len(shorter.pieces), len(longer.pieces))
    return [
        (i, longer.pieces[i], None) if longer is draft else (i, None, longer.pieces[i])
        for i in extra
        if i not in longer.added
    ]


def _shared(draft: Vocabulary, target: Vocabulary) -> SharedVocabulary:
    same = [
        one == other and one is not None
        for one, other in zip(_per_row(draft), _per_row(target), strict=False)
    ]
    return SharedVocabulary(
        shared=torch.tensor(same, dtype=torch.bool),
        draft_rows=draft.rows,
        target_rows=target.rows,
        draft_only=_only(draft, same),
        target_only=_only(target, same),
        sha256=pieces_sha256((i, draft.pieces[i]) for i, keep in enumerate(same) if keep),
    )


def _only(side: Vocabulary, same: Sequence[bool]) -> dict[int, str | None]:
    """Ids of one side that are not shared."""
    keep = [*same, *[False] * (side.rows - len(same))]
    return {i: piece for i, piece in enumerate(_per_row(side)) if not keep[i]}


def _per_row(side: Vocabulary) -> list[str | None]:
    return [*side.pieces, *[None] * (side.rows - len(side.pieces))]


def _require_equal_specials(draft: Vocabulary, target: Vocabulary) -> None:
    if draft.specials != target.specials:
        raise TokenizerMismatch(
            f"(unk, bos, eos) ids are {draft.specials} to the draft and {target.specials} to the "
            "target; texts would begin or end elsewhere"
        )


def _plain(piece: str | None) -> str | None:
    """A piece with SentencePiece's space mark as the space it stands for."""
    return None if piece is None else piece.replace(MARK, " ")
