"""Published decoders that share LLaMA-2's 32,000 ids: any of them can draft for these targets.

What each is, and how a folder's `config.json` is read, with its known mistakes corrected loudly.
Whether a folder's vocabulary is LLaMA's is judged by its tokenizer, never by its size (see
`egotriad.alignment.vocabulary`).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.decoder_config import DecoderConfig

__all__ = [
    "DECODERS",
    "LLAMA_IDS",
    "VICUNA_7B",
    "KnownDecoder",
    "config_mistakes",
    "decoder_config",
]

log = logging.getLogger(__name__)

LLAMA_IDS = 32_000
VICUNA_7B = DecoderConfig(
    hidden_size=4096,
    intermediate_size=11008,
    layers=32,
    heads=32,
    max_positions=4096,
    tie_embeddings=False,
    rms_norm_eps=1e-5,
)
"""Vicuna-7B v1.5 and Llama-2-7B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDecoder:
    """A published decoder.

    Attributes:
        repository: where its authors publish it (hub id).
        parameters: exact, from its published config.
        config: its shape.
        licence: of the weights.
        note: what to know before choosing it.
        file: in the repository, when it is one file of llama2.c and no folder of transformers.
    """

    repository: str
    parameters: int
    config: DecoderConfig
    licence: str
    note: str = ""
    file: str | None = None


def _untied(hidden: int, inner: int, layers: int, heads: int, **others: Any) -> DecoderConfig:
    return DecoderConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        layers=layers,
        heads=heads,
        **{"max_positions": 2048, "tie_embeddings": False} | others,
    )


def _stories(hidden: int, inner: int, layers: int, heads: int, positions: int) -> DecoderConfig:
    return DecoderConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        layers=layers,
        heads=heads,
        max_positions=positions,
        rms_norm_eps=1e-5,
    )


_TINY_68M = _untied(768, 3072, 2, 12)
_TINY_160M = _untied(768, 3072, 12, 12)
_WRONG_BOS = "its config says bos 0, pad 1 (corrected: 1, none)"

DECODERS: Mapping[str, KnownDecoder] = {
    "stories15m": KnownDecoder(
        repository="karpathy/tinyllamas",
        parameters=15_191_712,
        config=_stories(288, 768, 6, 6, 256),
        licence="MIT",
        note="TinyStories English only",
        file="stories15M.bin",
    ),
    "stories42m": KnownDecoder(
        repository="karpathy/tinyllamas",
        parameters=41_689_600,
        config=_stories(512, 1376, 8, 8, 1024),
        licence="MIT",
        note="TinyStories English only",
        file="stories42M.bin",
    ),
    "llama-68m": KnownDecoder(
        repository="JackFram/llama-68m",
        parameters=68_030_208,
        config=_TINY_68M,
        licence="Apache-2.0",
        note=_WRONG_BOS,
    ),
    "vicuna-68m": KnownDecoder(
        repository="double7/vicuna-68m",
        parameters=68_030_208,
        config=_TINY_68M,
        licence="Apache-2.0",
        note=f"tuned for Vicuna targets: the best tiny start; {_WRONG_BOS}",
    ),
    "llama-68m-chat": KnownDecoder(
        repository="Felladrin/Llama-68M-Chat-v1",
        parameters=68_030_208,
        config=_TINY_68M,
        licence="Apache-2.0",
        note="chat-tuned",
    ),
    "stories110m": KnownDecoder(
        repository="karpathy/tinyllamas",
        parameters=109_529_856,
        config=_stories(768, 2048, 12, 12, 1024),
        licence="MIT",
        note="TinyStories English only",
        file="stories110M.bin",
    ),
    "amd-llama-135m": KnownDecoder(
        repository="amd/AMD-Llama-135m",
        parameters=134_105_856,
        config=_untied(768, 2048, 12, 12, rms_norm_eps=1e-5),
        licence="Apache-2.0",
        note="made for speculative decoding of Llama 2",
    ),
    "llama-160m": KnownDecoder(
        repository="JackFram/llama-160m",
        parameters=162_417_408,
        config=_TINY_160M,
        licence="Apache-2.0",
        note=_WRONG_BOS,
    ),
    "llama-160m-chat": KnownDecoder(
        repository="Felladrin/Llama-160M-Chat-v1",
        parameters=162_417_408,
        config=_TINY_160M,
        licence="Apache-2.0",
        note="chat-tuned",
    ),
    "microllama": KnownDecoder(
        repository="keeeeenw/MicroLlama",
        parameters=304_636_928,
        config=_untied(1024, 5632, 12, 16, kv_heads=4, rms_norm_eps=1e-5),
        licence="Apache-2.0, not confirmed",
        note="4 key and value heads, not confirmed",
    ),
    "tinyllama-1.1b": KnownDecoder(
        repository="TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        parameters=1_100_048_384,
        config=_untied(2048, 5632, 22, 32, kv_heads=4, rms_norm_eps=1e-5),
        licence="Apache-2.0",
        note="the quality end of what is still faster than a 7B target",
    ),
    "sheared-llama-1.3b": KnownDecoder(
        repository="princeton-nlp/Sheared-LLaMA-1.3B",
        parameters=1_345_423_360,
        config=_untied(2048, 5504, 24, 16, max_positions=4096, rms_norm_eps=1e-5),
        licence="Apache-2.0 on its card; pruned from Llama 2, whose terms likely apply",
        note="closest to Llama-2-7B's distribution",
    ),
    "sheared-llama-2.7b": KnownDecoder(
        repository="princeton-nlp/Sheared-LLaMA-2.7B",
        parameters=2_701_560_320,
        config=_untied(2560, 6912, 32, 20, max_positions=4096, rms_norm_eps=1e-5),
        licence="Apache-2.0 on its card; pruned from Llama 2, whose terms likely apply",
    ),
    "vicuna-7b": KnownDecoder(
        repository="lmsys/vicuna-7b-v1.5",
        parameters=6_738_415_616,
        config=VICUNA_7B,
        licence="Llama 2 Community",
        note="base of EventGPT, Video-LLaVA and LLaSA; too slow to draft for them",
    ),
    "llama-2-7b": KnownDecoder(
        repository="meta-llama/Llama-2-7b-hf",
        parameters=6_738_415_616,
        config=VICUNA_7B,
        licence="Llama 2 Community (gated)",
    ),
    "vicuna-13b": KnownDecoder(
        repository="lmsys/vicuna-13b-v1.5",
        parameters=13_015_864_320,
        config=_untied(5120, 13824, 40, 40, max_positions=4096, rms_norm_eps=1e-5),
        licence="Llama 2 Community",
        note="base of LLaSA-13B",
    ),
}


def decoder_config(values: Mapping[str, Any], where: Path) -> DecoderConfig:
    """The decoder that a published `config.json` describes; its mistakes are logged as warnings.

    Args:
        values: the JSON object.
        where: the file, for messages.

    Raises:
        CheckpointError: when it is no LLaMA, or one with parts that are not built here.
    """
    for mistake in config_mistakes(values):
        log.warning("%s: %s", where, mistake)
    odd = {
        key: values[key]
        for key, plain in (
            ("hidden_act", "silu"),
            ("attention_bias", False),
            ("mlp_bias", False),
            ("rope_scaling", None),
        )
        if values.get(key, plain) != plain
    }
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        odd["rope_parameters"] = rope
    if odd:
        raise CheckpointError(
            f"{where}: {odd} is not built here; need a LLaMA with SiLU, no biases, plain rotary "
            "positions"
        )
    try:
        return DecoderConfig(
            hidden_size=int(values["hidden_size"]),
            intermediate_size=int(values["intermediate_size"]),
            layers=int(values["num_hidden_layers"]),
            heads=int(values["num_attention_heads"]),
            kv_heads=int(values.get("num_key_value_heads") or values["num_attention_heads"]),
            max_positions=int(values.get("max_position_embeddings", 2048)),
            tie_embeddings=bool(values.get("tie_word_embeddings", False)),
            rms_norm_eps=float(values.get("rms_norm_eps", 1e-6)),
            rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 10_000.0),
        )
    except (KeyError, TypeError, ValueError, UsageError) as exc:
        raise CheckpointError(f"{where}: not the config of a LLaMA decoder ({exc!r})") from exc


def config_mistakes(values: Mapping[str, Any]) -> list[str]:
    """What a published config says wrongly about LLaMA's ids, and what is done instead."""
    found = []
    for key, right in (("bos_token_id", 1), ("eos_token_id", 2), ("pad_token_id", None)):
        said = values.get(key, right)
        if said != right and (key != "pad_token_id" or said == 1):
            found.append(f"{key} is {said}, LLaMA's is {right}; {right} is used")
    rows = values.get("vocab_size", LLAMA_IDS)
    if isinstance(rows, int) and rows > LLAMA_IDS:
        found.append(
            f"vocab_size is {rows}: ids from {LLAMA_IDS} on were added later, may be untrained "
            "and are left out (-inf in plain and speculative decoding alike)"
        )
    return found
