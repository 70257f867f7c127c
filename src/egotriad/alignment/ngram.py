"""A back-off n-gram table as a proposer: what can be guessed from the target's language alone.

Counted on the target's own outputs for training clips, it sees no sensor at all. A draft that does
not beat it has shown nothing about its inputs: on a public dump of EventGPT-7B and Video-LLaVA-7B
such a table alone reaches 2.5 to 4.3 tokens per target pass (order 5, gamma 5).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from egotriad.alignment.proposers import Proposal
from egotriad.manifests.errors import EvaluationError, UsageError

__all__ = ["NgramProposer", "NgramTable", "PromptLookupProposer"]

BEGIN = -1  # precedes every text; no tokenizer gives negative ids


class NgramTable:
    """The most frequent next id after every context of up to `order - 1` ids.

    Args:
        texts: id lists as the target generated them, end of sequence included.
        order: longest context plus one.

    Raises:
        EvaluationError: when there is no text to count.
        UsageError: order below 1.
    """

    def __init__(self, texts: Iterable[Sequence[int]], *, order: int = 5) -> None:
        if order < 1:
            raise UsageError(f"n-gram order: got {order}, need >= 1")
        counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            padded = (BEGIN, *text)
            for end in range(1, len(padded)):
                for start in range(max(0, end - order + 1), end + 1):
                    counts[padded[start:end]][padded[end]] += 1
        if not counts:
            raise EvaluationError(
                "the n-gram control has no training text: got 0 ids; run cache-targets on shards "
                "that hold a training split"
            )
        self.order = order
        self._best = {context: _most_frequent(found) for context, found in counts.items()}

    def next(self, ids: Sequence[int]) -> int:
        """The argmax after `ids`: that of the longest known context, down to the empty one."""
        history = (BEGIN, *ids)[-(self.order - 1) :] if self.order > 1 else ()
        while history not in self._best:
            history = history[1:]
        return self._best[history]


class NgramProposer:
    """Proposes what the table says; keeps no state.

    Args:
        table: the counts.
        eos_id: proposals stop after it.
    """

    def __init__(self, table: NgramTable, eos_id: int) -> None:
        self._table = table
        self._eos_id = eos_id

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """The table's continuation of `emitted`, up to `gamma` ids or the end of sequence."""
        drafted: list[int] = []
        while len(drafted) < gamma and drafted[-1:] != [self._eos_id]:
            drafted.append(self._table.next(emitted + drafted))
        return Proposal(drafted)

    def matches(self, ids: Sequence[int]) -> list[bool]:
        """Teacher-forced: for every id of a text, whether it is the table's argmax there."""
        return [self._table.next(ids[:i]) == ids[i] for i in range(len(ids))]


class PromptLookupProposer:
    """Proposes what followed the last ids where they stood before: in the prompt or in the text.

    The longest ending of up to `longest` ids that was seen before decides, at its last occurrence
    (Saxena 2023, "Prompt Lookup Decoding"; transformers' `PromptLookupCandidateGenerator` takes
    the first). Nothing is proposed when the last id is new.

    Args:
        prompt: ids in front of the text: the question, captions of the wearer's last minutes, ...
        eos_id: proposals stop after it.
        longest: ids of the longest ending looked for.

    Raises:
        UsageError: longest below 1.
    """

    def __init__(self, prompt: Sequence[int], eos_id: int, *, longest: int = 3) -> None:
        if longest < 1:
            raise UsageError(f"prompt lookup: got endings of {longest} ids, need >= 1")
        self._prompt = list(prompt)
        self._eos_id = eos_id
        self._longest = longest

    def propose(self, emitted: list[int], gamma: int) -> Proposal:
        """Up to `gamma` ids, fewer at an end of sequence or at the end of what was seen."""
        history = self._prompt + emitted
        for size in range(min(self._longest, len(history) - 1), 0, -1):
            ending = history[-size:]
            for start in range(len(history) - size - 1, -1, -1):
                if history[start : start + size] == ending:
                    found = history[start + size : start + size + gamma]
                    if self._eos_id in found:
                        found = found[: found.index(self._eos_id) + 1]
                    return Proposal(found)
        return Proposal([])

    def matches(self, ids: Sequence[int]) -> list[bool]:
        """Teacher-forced: for every id of a text, whether it is the one proposed there."""
        return [self.propose(list(ids[:i]), 1).ids == [ids[i]] for i in range(len(ids))]


def _most_frequent(followers: Counter[int]) -> int:
    """Ties go to the smallest id, so that the order of the texts does not matter."""
    return min(followers, key=lambda follower: (-followers[follower], follower))
