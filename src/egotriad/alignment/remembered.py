"""What anybody could look up, for the arms that need no model of their own.

`training clips -> the draft's encoder -> rows (N, D) | their texts -> index; clip -> texts`
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from egotriad.alignment.retrieval import RetrievalIndex, RetrievalProposer, sensor_embeddings
from egotriad.alignment.target_outputs import TargetOutput
from egotriad.manifests import Clip
from egotriad.manifests.errors import ClipRejected, EvaluationError
from egotriad.models.conditioned import ConditionedLM

__all__ = ["retrieval_by"]

NEAREST = 8
"""Texts that a retrieval arm drafts from."""
TOGETHER = 256
"""Windows in memory at a time while training clips are read."""


def retrieval_by(
    draft: ConditionedLM, clips: Iterable[Clip], outputs: Iterable[TargetOutput]
) -> Callable[[Tensor], RetrievalProposer]:
    """A function from a clip's draft inputs to a proposer of what was said of similar clips.

    Similar is what the draft's own encoder finds similar: the arm knows as much of the sensor as
    the draft does, and can only repeat.

    Args:
        draft: in eval mode.
        clips: of the training split, read once; those that the draft cannot use are left out.
        outputs: the target's texts; each span of a clip that has one is an entry.

    Raises:
        EvaluationError: when no clip is left.
    """

    def embedded(inputs: Sequence[Tensor]) -> Tensor:
        return sensor_embeddings(draft.condition, torch.stack(list(inputs)).to(draft.device))

    rows: list[Tensor] = []
    said: list[tuple[int, ...]] = []
    entries = _entries(draft, clips, outputs)
    while some := list(islice(entries, TOGETHER)):
        rows.append(embedded([inputs for inputs, _ in some]))
        said += [text for _, text in some]
    if not said:
        raise EvaluationError(
            "retrieval has no training clip with a text of the target; run cache-targets on "
            "shards that hold a training split"
        )
    index = RetrievalIndex(torch.cat(rows), said)

    def remember(inputs: Tensor) -> RetrievalProposer:
        found = index.nearest(embedded([inputs])[0], count=NEAREST)
        return RetrievalProposer(found, draft.eos_id)

    return remember


def _entries(
    draft: ConditionedLM, clips: Iterable[Clip], outputs: Iterable[TargetOutput]
) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Draft inputs and text of every span that has a text and that the draft can use."""
    texts = {(row.window_id, row.span_index): row.output_ids for row in outputs}
    for clip in clips:
        for index, span in enumerate(clip.event_spans):
            text = texts.get((clip.window_id, index))
            if text is None:
                continue
            try:
                yield draft.prepare(clip, span), text
            except ClipRejected:
                break
