"""LoRA on a draft's decoder, by PEFT: attached, folded in, written and read in PEFT's own format.

`frozen decoder + adapter -> trained -> adapter_model.safetensors | folded into the weights`

Hu et al. 2021 (arXiv 2106.09685): `W x + (alpha / rank) B A x` with `B` zero at the start, here on
all seven linear layers of every block (Dettmers et al. 2023, arXiv 2305.14314, section 4: on the
attention's alone it falls short of full training). What is written is loaded by
`PeftModel.from_pretrained` on the base decoder too.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import LlamaForCausalLM

from egotriad.manifests.errors import CheckpointError, MissingDependency, UsageError
from egotriad.models.decoder_config import BaseDecoder
from egotriad.models.weights import fill_exactly, write_weights

__all__ = [
    "ADAPTER_FILES",
    "AdapterConfig",
    "adapter_of",
    "attach_adapter",
    "fold_adapter",
    "read_adapter",
    "write_adapter",
]

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
NAME = "default"
"""PEFT's name of an adapter that was given none."""
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Size of an adapter.

    Attributes:
        rank: of its update of each matrix.
        alpha: the update is scaled by alpha / rank.
    """

    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise UsageError(
                f"adapter: rank {self.rank}, alpha {self.alpha}; need rank >= 1 and alpha > 0"
            )


def attach_adapter(decoder: LlamaForCausalLM, config: AdapterConfig) -> None:
    """Puts a fresh adapter, which changes nothing yet, on a decoder; only it stays trainable.

    Draws its weights from torch's current random state: call it inside `seeding.torch_stream`.

    Raises:
        UsageError: when the decoder has one already.
        MissingDependency: when PEFT is not installed.
    """
    if adapter_of(decoder) is not None:
        raise UsageError("the decoder has an adapter already; fold that one in first")
    peft = _peft()
    peft.inject_adapter_in_model(
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            target_modules=list(LAYERS),
            task_type="CAUSAL_LM",
        ),
        decoder,
        adapter_name=NAME,
    )


def adapter_of(decoder: LlamaForCausalLM) -> AdapterConfig | None:
    """Size of a decoder's adapter, None when it has none."""
    found = getattr(decoder, "peft_config", {}).get(NAME)
    return None if found is None else AdapterConfig(rank=found.r, alpha=found.lora_alpha)


def fold_adapter(decoder: LlamaForCausalLM) -> None:
    """Adds the adapter, if there is one, to the weights beneath it: a plain decoder again."""
    if adapter_of(decoder) is None:
        return
    for name, layer in list(decoder.named_modules()):
        if hasattr(layer, "base_layer"):
            layer.merge(safe_merge=True)
            owner, _, attribute = name.rpartition(".")
            setattr(decoder.get_submodule(owner), attribute, layer.get_base_layer())
    del decoder.peft_config
    decoder.requires_grad_(True)


def write_adapter(decoder: LlamaForCausalLM, folder: Path, base: BaseDecoder) -> None:
    """Writes `ADAPTER_FILES` for a decoder that has an adapter."""
    size = decoder.peft_config[NAME]
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "r": size.r,
        "lora_alpha": size.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(LAYERS),
        "inference_mode": True,
    }
    text = json.dumps(settings, indent=2, sort_keys=True)
    (folder / ADAPTER_FILES[0]).write_text(text + "\n", encoding="utf-8")
    write_weights(folder, _weights(decoder), stem="adapter_model")


def read_adapter(decoder: LlamaForCausalLM, folder: Path) -> None:
    """Puts the adapter of a folder on a plain decoder.

    Raises:
        CheckpointError: when its files are damaged, missing, or of another kind of adapter.
    """
    path = folder / ADAPTER_FILES[0]
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind, layers = values["peft_type"], set(values["target_modules"])
        config = AdapterConfig(rank=int(values["r"]), alpha=float(values["lora_alpha"]))
    except (OSError, ValueError, KeyError, TypeError, UsageError) as exc:
        raise CheckpointError(f"{path}: not the settings of an adapter ({exc!r})") from exc
    odd = {name: values[name] for name in ("use_dora", "use_rslora") if values.get(name)}
    if kind != "LORA" or layers != set(LAYERS) or odd:
        raise CheckpointError(
            f"{path}: {kind} on {', '.join(sorted(layers))} {odd or ''}; need plain LoRA on "
            f"{', '.join(LAYERS)}, as train-draft writes it"
        )
    attach_adapter(decoder, config)
    fill_exactly(folder / ADAPTER_FILES[1], _weights(decoder), "the adapter")


def _weights(decoder: LlamaForCausalLM) -> dict[str, Tensor]:
    """The adapter's weights by the names they have in PEFT's files."""
    return {
        f"base_model.model.{name.replace(f'.{NAME}', '')}": weight.detach()
        for name, weight in decoder.named_parameters()
        if ".lora_" in name
    }


def _peft() -> Any:
    try:
        import peft
    except ImportError as exc:
        raise MissingDependency("adapters need PEFT: pip install 'egotriad[train]'") from exc
    return peft
