"""One causal decoder on one sequence: its own prefix, then ids shared with other models.

`prefix embeddings (1, P, D) | ids (n,) -> logits (n, V)`. Draft and target each hold a
`DecoderState` with a prefix of their own (IMU tokens here, event tokens there); what they share is
the stream of generated ids, fed and rolled back independently.
"""

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

__all__ = ["DecoderState"]


class DecoderState:
    """Prefix and generated ids of one sequence in a KV cache (batch size 1).

    Args:
        decoder: a `LlamaForCausalLM` in eval mode.
        prefix: (1, P, D) embeddings of everything before the first generated id; run at once.

    Attributes:
        prefix_logits: (V,) float32, logits of the first generated id.
        length: number of generated ids in the cache.
    """

    def __init__(self, decoder: LlamaForCausalLM, prefix: Tensor) -> None:
        self._decoder = decoder
        self._cache = DynamicCache(config=decoder.config)
        with torch.inference_mode():
            out = decoder(
                inputs_embeds=prefix,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self.prefix_logits: Tensor = out.logits[0, -1].float()  # (V,)
        self.prefix_length = prefix.shape[1]

    @property
    def length(self) -> int:
        """Number of generated ids in the cache."""
        return self._cache.get_seq_length() - self.prefix_length

    def feed(self, ids: list[int]) -> Tensor:
        """Appends ids and returns (n, V) float32: row i holds the logits after ids[i]."""
        with torch.inference_mode():
            device = self.prefix_logits.device
            out = self._decoder(
                input_ids=torch.tensor([ids], dtype=torch.long, device=device),
                past_key_values=self._cache,
                use_cache=True,
            )
        return out.logits[0].float()  # (n, V)

    def rollback(self, n: int) -> None:
        """Forgets the last n generated ids.

        transformers 5 takes only a negative count, and 4.57 emptied the cache on 0: hence the
        guard.
        """
        if not 0 <= n <= self.length:
            raise ValueError(f"cannot roll back {n} ids, the cache holds {self.length}")
        if n:
            self._cache.crop(-n)
