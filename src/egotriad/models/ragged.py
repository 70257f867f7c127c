"""One causal decoder on many sequences at once, each with its own prefix and its own pace.

`prefixes B x (P_b, D) | ids (B, n), n_b of them valid -> logits (B, n, V)`

All rows share one KV cache, whose slots need not be in use in every row: a slot that a row does not
use (padding, or an id it has forgotten) is masked and takes no position. Verification and rollback
can therefore differ from row to row; the price is the slots that nobody uses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

from egotriad.models.state import wide

__all__ = ["RaggedState"]


class RaggedState:
    """Prefixes and generated ids of B sequences in one KV cache.

    Args:
        decoder: a `LlamaForCausalLM` in eval mode.
        prefixes: (1, P_b, D) embeddings of everything before each row's first generated id.

    Attributes:
        prefix_logits: (B, V) float32 (float64 of a float64 model), logits of each first id.
        lengths: number of generated ids that each row holds.
    """

    def __init__(self, decoder: LlamaForCausalLM, prefixes: Sequence[Tensor]) -> None:
        self._decoder = decoder
        self._cache = DynamicCache(config=decoder.config)
        device = prefixes[0].device
        sizes = [prefix.shape[1] for prefix in prefixes]
        most = max(sizes)
        # Prefixes end together, so that one row of logits serves all.
        embeddings = torch.cat(
            [
                torch.nn.functional.pad(prefix, (0, 0, most - size, 0))
                for prefix, size in zip(prefixes, sizes, strict=True)
            ]
        )
        column = torch.arange(most, device=device)
        starts = torch.tensor([most - size for size in sizes], device=device)[:, None]
        self._used = column >= starts  # (B, S) slots in use
        self._next = torch.tensor(sizes, device=device)  # (B,) position of the next id
        self.lengths = [0] * len(sizes)
        self.prefix_logits = self._run(
            (column - starts).clamp_min(0), inputs_embeds=embeddings, logits_to_keep=1
        )[:, -1]

    def feed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Appends ids to each row, as many as it is given: (B, n, V), n the most of them.

        Row b holds the logits after ids[b][i] at (b, i); what lies behind its last id means
        nothing.
        """
        counts = [len(row) for row in ids]
        most = max(counts)
        device = self._next.device
        padded = torch.tensor([[*row, *[0] * (most - len(row))] for row in ids], device=device)
        offsets = torch.arange(most, device=device)
        added = torch.tensor(counts, device=device)
        self._used = torch.cat([self._used, offsets < added[:, None]], dim=1)
        positions = self._next[:, None] + offsets.minimum((added - 1).clamp_min(0)[:, None])
        self._next = self._next + added
        self.lengths = [have + more for have, more in zip(self.lengths, counts, strict=True)]
        return self._run(positions, input_ids=padded)

    def rollback(self, counts: Sequence[int]) -> None:
        """Forgets the last ids of each row, as many as `counts` (B,) says.

        Raises:
            ValueError: when a row holds fewer.
        """
        if any(not 0 <= n <= have for n, have in zip(counts, self.lengths, strict=True)):
            raise ValueError(f"cannot roll back {list(counts)} ids, rows hold {self.lengths}")
        forgotten = torch.tensor(list(counts), device=self._next.device)
        behind = self._used.flip(1).cumsum(1).flip(1)  # used slots from here to the end
        self._used = self._used & (behind > forgotten[:, None])
        self._next = self._next - forgotten
        self.lengths = [have - n for have, n in zip(self.lengths, counts, strict=True)]
        slots = self._used.shape[1]
        unused = slots - 1 - int(self._used.any(dim=0).nonzero().max())
        if unused:
            self._cache.crop(-unused)
            self._used = self._used[:, : slots - unused]

    def _run(self, positions: Tensor, **inputs: Tensor | int) -> Tensor:
        with torch.inference_mode():
            out = self._decoder(
                **inputs,
                position_ids=positions,
                attention_mask=self._used.long(),
                past_key_values=self._cache,
                use_cache=True,
            )
        return wide(out.logits)
