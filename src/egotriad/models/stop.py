"""Models that end an answer with a text in place of EOS: their output layer is made to say EOS.

`hidden (..., D) -> logits (..., V), the stop's first ids taken out and added to EOS`

OneLLM, PandaGPT and Vicuna v0 end with `###`. As drafts they propose ids to a target that ends with
id 2: what they would say as the first id of `###` is their EOS. One layer does it, so that step,
full pass and training see the same distribution.
"""

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.models.tokenizer import MARK

__all__ = ["StopHead", "say_eos_at", "stop_ids"]

STOP = "###"


class StopHead(nn.Linear):
    """An output layer of which some ids count as EOS: p(EOS) becomes their sum, theirs 0.

    Args:
        like: the output layer whose weights it shares.
        stops: ids that count as EOS.
        eos_id: EOS.
    """

    def __init__(self, like: nn.Linear, stops: tuple[int, ...], eos_id: int) -> None:
        with torch.device("meta"):
            super().__init__(like.in_features, like.out_features, bias=False)
        self.weight = like.weight
        self.stops, self.eos_id = stops, eos_id

    def forward(self, x: Tensor) -> Tensor:
        """(..., V) logits of (..., D)."""
        logits = super().forward(x)
        ending = logits[..., [self.eos_id, *self.stops]].logsumexp(dim=-1, keepdim=True)
        said = logits.index_fill(-1, _ids(self.stops, logits), -torch.inf)
        return said.index_copy(-1, _ids((self.eos_id,), logits), ending)


def say_eos_at(decoder: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Lets a decoder say EOS where it would begin `###`; its weights and their names stay."""
    eos_id = int(tokenizer.eos_token_id)
    decoder.lm_head = StopHead(decoder.lm_head, stop_ids(tokenizer), eos_id)


def stop_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """The first ids of `###`, behind a word and behind a space (LLaMA's: 835 and 2277)."""
    word = len(tokenizer.encode("a", add_special_tokens=False))
    found = set()
    for text in (f"a{STOP}", f"a {STOP}"):
        ids = tokenizer.encode(text, add_special_tokens=False)[word:]
        found.add(next(i for i in ids if tokenizer.convert_ids_to_tokens(i) != MARK))
    return tuple(sorted(found))


def _ids(ids: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.tensor(ids, device=like.device)
