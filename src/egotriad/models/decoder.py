"""The LLaMA decoder behind every draft and every tiny target, and its settings."""

from dataclasses import dataclass

from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.manifests.errors import UsageError

__all__ = ["DecoderConfig", "build_decoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Shape of a LLaMA decoder; its vocabulary is the tokenizer's.

    Attributes:
        hidden_size, intermediate_size, layers, heads: as in LLaMA.
        max_positions: longest sequence, prefix and generated ids together.
        tie_embeddings: whether input and output embeddings are one matrix.
    """

    hidden_size: int = 96
    intermediate_size: int = 256
    layers: int = 1
    heads: int = 4
    max_positions: int = 512
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.heads):
            raise UsageError(
                f"decoder: hidden size {self.hidden_size} with {self.heads} heads; rotary "
                "positions need an even size per head"
            )


def build_decoder(config: DecoderConfig, vocab_size: int) -> LlamaForCausalLM:
    """A freshly initialised float32 decoder with BOS 1 and EOS 2.

    Draws its weights from torch's current random state: call it inside `seeding.torch_stream`.
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.max_positions,
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=None,
        )
    )
