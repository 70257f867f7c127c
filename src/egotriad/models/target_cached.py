"""The texts that a target has said before, replayed where the target itself cannot run.

`recorded ids (L,) -> state: after every prefix of the text, all probability on its next id`

Greedy acceptance against recorded texts is exact: whether a drafted id stands depends only on the
target's greedy text. What recorded texts cannot tell is everything else: how the target samples,
divergences from it, and what its steps cost. Those numbers mean nothing here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ClipRejected, EvaluationError
from egotriad.models.tokenizer import tokenizer_sha256

__all__ = ["TARGET", "CachedTarget", "RecordedText", "RecordedTexts", "ReplayState"]

NEVER = -1e4
"""Logit of ids that were not said: probability 0 in float32, and no infinity."""


class RecordedText(Protocol):
    """What a target said about one event span."""

    @property
    def window_id(self) -> str:
        """Which clip."""

    @property
    def span_index(self) -> int:
        """Which of its event spans."""

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Greedy ids, EOS included when it came."""


class RecordedTexts(Protocol):
    """All texts and what they belong to, as `egotriad.alignment.target_outputs` reads them."""

    @property
    def rows(self) -> Iterable[RecordedText]:
        """The texts."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """With `max_new_tokens` and what `check_belongs_to` compares."""

    def check_belongs_to(self, **expected: str) -> None:
        """Raises when they were made with other shards, target or tokenizer."""

    def check_as_long_as(self, max_new_tokens: int) -> None:
        """Raises when they were cut off before so many ids."""


class ReplayState:
    """One recorded text as a sequence state: fed, asked for logits, rolled back.

    Behind ids that the target did not say nothing is known: there all ids are alike.

    Args:
        text: recorded ids.
        vocabulary: width of the logits.
        eos_id: what may end the text.

    Attributes:
        prefix_logits: (V,) of the first id.
    """

    def __init__(self, text: tuple[int, ...], vocabulary: int, eos_id: int) -> None:
        self._text, self._vocabulary, self._eos_id = text, vocabulary, eos_id
        self._fed: list[int] = []
        self._nodes: list[list[int]] = []  # of a tree: the ids on the way to each
        self.prefix_logits: Tensor = self._row([])

    @property
    def length(self) -> int:
        """Number of generated ids it holds."""
        return len(self._fed)

    def feed(self, ids: list[int], *, keep: int | None = None) -> Tensor:
        """Appends ids and returns (n, V): row i holds the logits after ids[i].

        Args:
            ids: one or more.
            keep: only the last so many rows; all when not given.

        Raises:
            EvaluationError: when the text was cut off and is asked to go on.
        """
        start = len(self._fed)
        self._fed += ids
        first = 0 if keep is None else len(ids) - keep
        return torch.stack([self._row(self._fed[: start + i + 1]) for i in range(first, len(ids))])

    def feed_tree(self, ids: list[int], parents: list[int]) -> Tensor:
        """Appends nodes of a tree and returns (n, V): row i holds the logits after node i.

        Args:
            ids: one or more.
            parents: index of each node's parent among all nodes; -1 for one that follows the text.

        Raises:
            EvaluationError: as `feed`.
        """
        first = len(self._nodes)
        for i, parent in zip(ids, parents, strict=True):
            self._nodes.append([*(self._nodes[parent] if parent >= 0 else []), i])
        return torch.stack([self._row(self._fed + path) for path in self._nodes[first:]])

    def keep_nodes(self, nodes: list[int]) -> None:
        """Makes a path of the tree part of the text and forgets the other nodes."""
        if nodes:
            self._fed += self._nodes[nodes[-1]]
        self._nodes = []

    def rollback(self, n: int) -> None:
        """Forgets the last n generated ids."""
        if not 0 <= n <= self.length:
            raise ValueError(f"cannot roll back {n} ids, the state holds {self.length}")
        del self._fed[self.length - n :]

    def _row(self, fed: list[int]) -> Tensor:
        said = len(fed)
        if tuple(fed) != self._text[:said] or fed[-1:] == [self._eos_id]:
            return torch.zeros(self._vocabulary)
        if said == len(self._text):
            raise EvaluationError(
                f"the recorded text was cut after {said} ids and more are asked for; run "
                "cache-targets again with a larger --max-new-tokens"
            )
        row = torch.full((self._vocabulary,), NEVER)
        row[self._text[said]] = 0.0
        return row


class ReplayStates:
    """Several recorded texts, each fed and rolled back at its own pace.

    Args:
        states: one per text.

    Attributes:
        prefix_logits: (B, V) of the first ids.
    """

    def __init__(self, states: Sequence[ReplayState]) -> None:
        self._states = list(states)
        self.prefix_logits: Tensor = torch.stack([state.prefix_logits for state in states])

    @property
    def lengths(self) -> list[int]:
        """Generated ids that each text holds."""
        return [state.length for state in self._states]

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Appends ids to each text: (B, n, V); behind a text's last they mean nothing."""
        width = self.prefix_logits.shape[1]
        rows = torch.zeros(len(ids), max(map(len, ids)), width)
        for row, state, more in zip(rows, self._states, ids, strict=True):
            if more:
                row[: len(more)] = state.feed(list(more))
        return rows

    def rollback(self, counts: Sequence[int]) -> None:
        """Forgets the last ids of each text."""
        for state, count in zip(self._states, counts, strict=True):
            state.rollback(count)


class CachedTarget:
    """Recorded target outputs in the place of the target.

    Args:
        outputs: as `egotriad.alignment.target_outputs.read_target_outputs` gives them.
        tokenizer: the drafts'; the texts must have been made with the same.
        max_new_tokens: longest text that will be asked for, in ids.
        expected: what the outputs must have been made with: `shards_sha256`, `target_sha256`.

    Attributes:
        eos_id: of the tokenizer.
        prompt: ids of the prompt under which the texts were recorded, where the outputs say it.

    Raises:
        CheckpointError: for another target or tokenizer.
        EvaluationError: for other shards, or texts cut off before `max_new_tokens`.
    """

    kind: ClassVar[str] = "target"
    name: ClassVar[str] = "cached"

    def __init__(
        self,
        outputs: RecordedTexts,
        tokenizer: PreTrainedTokenizerFast,
        *,
        max_new_tokens: int,
        **expected: str,
    ) -> None:
        outputs.check_belongs_to(tokenizer_sha256=tokenizer_sha256(tokenizer), **expected)
        outputs.check_as_long_as(max_new_tokens)
        self.eos_id = int(tokenizer.eos_token_id)
        self.prompt = tuple(outputs.meta.get("prompt_ids", ()))
        self._vocabulary = len(tokenizer)
        self._texts = {(row.window_id, row.span_index): row.output_ids for row in outputs.rows}

    @property
    def device(self) -> torch.device:
        """Texts lie in memory."""
        return torch.device("cpu")

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """int64 (L,): what the target said about this span.

        Raises:
            ClipRejected: `no-recorded-text` when it said nothing about it.
        """
        index = clip.event_spans.index(span) if span in clip.event_spans else None
        text = self._texts.get((clip.window_id, -1 if index is None else index))
        if text is None:
            raise ClipRejected(
                "no-recorded-text",
                f"{clip.window_id}: no target output for the span at {span.start_us} us; run "
                "cache-targets on these shards",
            )
        return torch.tensor(text)

    def state(self, inputs: Tensor) -> ReplayState:
        """The text as a sequence state.

        Args:
            inputs: int64 (1, L), one prepared span.
        """
        if len(inputs) != 1:
            raise ValueError(f"a state holds one clip, got {len(inputs)}")
        return ReplayState(tuple(inputs[0].tolist()), self._vocabulary, self.eos_id)

    def states(self, inputs: Sequence[Tensor]) -> ReplayStates:
        """Several texts (L,) together, as `prepare` gives them."""
        return ReplayStates([self.state(one[None]) for one in inputs])

    def greedy(self, inputs: Tensor, max_new_tokens: int) -> list[list[int]]:
        """The texts (B, L) again, cut where fewer ids are asked for."""
        return [row[:max_new_tokens] for row in inputs.tolist()]


TARGET = CachedTarget
