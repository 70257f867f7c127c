"""The LLaMA decoder behind every draft and every target."""

from transformers import LlamaConfig, LlamaForCausalLM

from egotriad.models.decoder_config import DecoderConfig

__all__ = ["DecoderConfig", "build_decoder"]


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
            num_key_value_heads=config.kv_heads or config.heads,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            max_position_embeddings=config.max_positions,
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=None,
        )
    )
