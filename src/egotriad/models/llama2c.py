"""Checkpoints of llama2.c (`stories15M.bin` ... of hub `karpathy/tinyllamas`) as decoders.

`header of 7 int32 | float32 matrices, each over all layers -> (DecoderConfig, LlamaForCausalLM)`

Format: karpathy/llama2.c, `export.py`, `legacy_export` (version 0), as `run.c` maps it. Meta's code
turns neighbouring pairs of a head's values by the rotary angles, transformers turns value i with
value i + half: rows of the query and key matrices are put in that order (transformers,
`convert_llama_weights_to_hf.py`, `permute`).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.decoder import DecoderConfig, build_decoder

__all__ = ["halves_from_pairs", "read_header", "read_llama2c"]

HEADER = 7
"""int32: width, MLP width, layers, heads, key heads, ids (negative: untied), positions."""


def read_llama2c(path: Path) -> tuple[DecoderConfig, LlamaForCausalLM]:
    """A float32 decoder with the weights of a `.bin` of llama2.c.

    Raises:
        CheckpointError: when the file is none, or of another size than its header says.
    """
    config, ids = read_header(path)
    sizes = _sizes(config, ids)
    with torch.random.fork_rng(devices=[]):
        decoder = build_decoder(config, ids)
    data = np.memmap(path, "<f4", "r", offset=4 * HEADER)
    decoder.load_state_dict(_weights(data, sizes, config))
    return config, decoder.eval()


def read_header(path: Path) -> tuple[DecoderConfig, int]:
    """The shape of a `.bin` of llama2.c and its number of ids.

    Raises:
        CheckpointError: as `read_llama2c`.
    """
    try:
        header = np.fromfile(path, "<i4", HEADER)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc})") from exc
    config, ids = _config(header, path)
    need = 4 * (HEADER + sum(int(np.prod(shape)) for _, shape in _sizes(config, ids)))
    if path.stat().st_size != need:
        raise CheckpointError(
            f"{path}: {path.stat().st_size} bytes, its header says {need}; need a whole .bin as "
            "llama2.c's export.py writes it (version 0)"
        )
    return config, ids


def halves_from_pairs(weight: Tensor, heads: int) -> Tensor:
    """A query or key matrix (heads d, D) of Meta's row order in that of transformers.

    Args:
        weight: rows of each head as pairs (0, 1), (2, 3), ...
        heads: of this matrix (key heads for keys).
    """
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])  # (heads, d / 2, 2, D)
    return pairs.transpose(1, 2).reshape(weight.shape)


def _config(header: NDArray[np.int32], path: Path) -> tuple[DecoderConfig, int]:
    if len(header) < HEADER:
        raise CheckpointError(f"{path}: shorter than llama2.c's header of {4 * HEADER} bytes")
    width, inner, layers, heads, key_heads, ids, positions = (int(value) for value in header)
    if min(width, inner, layers, heads, key_heads, abs(ids), positions) < 1:
        raise CheckpointError(f"{path}: header {header.tolist()} is none of llama2.c's version 0")
    try:
        config = DecoderConfig(
            hidden_size=width,
            intermediate_size=inner,
            layers=layers,
            heads=heads,
            kv_heads=key_heads,
            max_positions=positions,
            tie_embeddings=ids > 0,
            rms_norm_eps=1e-5,
        )
    except UsageError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    return config, abs(ids)


def _sizes(config: DecoderConfig, ids: int) -> list[tuple[str, tuple[int, ...]]]:
    """What lies in the file, in order."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.layers
    key_width = width // config.heads * (config.kv_heads or config.heads)
    angles = (config.max_positions, width // config.heads // 2)
    head = [] if config.tie_embeddings else [("lm_head", (ids, width))]
    return [
        ("embed_tokens", (ids, width)),
        ("input_layernorm", (layers, width)),
        ("self_attn.q_proj", (layers, width, width)),
        ("self_attn.k_proj", (layers, key_width, width)),
        ("self_attn.v_proj", (layers, key_width, width)),
        ("self_attn.o_proj", (layers, width, width)),
        ("post_attention_layernorm", (layers, width)),
        ("mlp.gate_proj", (layers, inner, width)),
        ("mlp.down_proj", (layers, width, inner)),
        ("mlp.up_proj", (layers, inner, width)),
        ("norm", (width,)),
        ("cosines", angles),
        ("sines", angles),
        *head,
    ]


def _weights(
    data: NDArray[np.float32], sizes: list[tuple[str, tuple[int, ...]]], config: DecoderConfig
) -> dict[str, Tensor]:
    """The decoder's weights by transformers' names."""
    found: dict[str, Tensor] = {}
    at = 0
    for name, shape in sizes:
        count = int(np.prod(shape))
        found[name] = torch.from_numpy(np.array(data[at : at + count]).reshape(shape))
        at += count
    heads = {"self_attn.q_proj": config.heads, "self_attn.k_proj": config.kv_heads or config.heads}
    weights = {f"model.{name}.weight": found[name] for name in ("embed_tokens", "norm")}
    weights["lm_head.weight"] = found.get("lm_head", found["embed_tokens"])
    for name, stack in found.items():
        if name.startswith(("self_attn.", "mlp.", "input_", "post_")):
            for layer, weight in enumerate(stack):
                turned = halves_from_pairs(weight, heads[name]) if name in heads else weight
                weights[f"model.layers.{layer}.{name}.weight"] = turned
    return weights
