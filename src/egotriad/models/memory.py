"""What training takes, and the refusal to begin what would not fit into the free memory."""

from dataclasses import dataclass

import torch
from torch import nn

from egotriad.manifests.errors import UsageError
from egotriad.models import room
from egotriad.models.decoder import DecoderConfig, build_decoder

__all__ = [
    "TrainingBatch",
    "activation_bytes",
    "decoder_parameters",
    "require_room_to_train",
    "training_bytes",
]

FLOAT = 4
"""Drafts are trained, and read from their folders, in float32."""
ADAM = 2
"""Moments that AdamW keeps of every trained weight, beside its gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """What passes through the decoder at once.

    Attributes:
        rows: clips' spans.
        positions: of the longest row, prefix and text.
        text: of them those whose logits are needed.
    """

    rows: int
    positions: int
    text: int


def require_room_to_train(
    parameters: int,
    trained: int,
    *,
    held: int = 0,
    activations: int = 0,
    device: str = "cpu",
) -> None:
    """Nothing when training fits the device's free memory, as far as that is known.

    Args:
        parameters: weights of the model.
        trained: those of them that are trained.
        held: bytes of the model that are in memory already.
        activations: see `activation_bytes`; 0 before it is known what will pass through.
        device: where.

    Raises:
        UsageError: with the parts of what it takes, and what to lower.
    """
    need, free = training_bytes(parameters, trained) + activations, room.free_bytes(device)
    if free is None or need - held <= free:
        return
    weights, optimiser = FLOAT * parameters, FLOAT * (1 + ADAM) * trained
    also = f", {activations / 1e9:.1f} GB of activations" if activations else ""
    raise UsageError(
        f"training takes about {need / 1e9:.1f} GB ({weights / 1e9:.1f} GB of weights, "
        f"{optimiser / 1e9:.1f} GB of gradients and Adam's moments{also}), "
        f"{(free + held) / 1e9:.1f} GB are free on {device}; lower --batch, take --train-decoder "
        "lora or frozen, or a smaller decoder"
    )


def training_bytes(parameters: int, trained: int) -> int:
    """Weights, and for the trained ones their gradients and AdamW's two moments, in float32."""
    return FLOAT * (parameters + (1 + ADAM) * trained)


def activation_bytes(decoder: DecoderConfig, vocabulary: int, batch: TrainingBatch) -> int:
    """What a LLaMA in float32 keeps of one forward pass for the backward pass, about.

    Per position and block eleven values per width (two norms with their inputs and outputs,
    queries, keys, values, attention's output twice) and four per inner width (gate, its SiLU, up,
    product); three times the logits (they, those of the mask and their log-softmax going forward,
    the latter and two gradients going back).
    """
    per_block = 11 * decoder.hidden_size + 4 * decoder.intermediate_size
    per_position = decoder.layers * per_block + 4 * decoder.hidden_size
    logits = 3 * batch.text * vocabulary
    return FLOAT * batch.rows * (batch.positions * per_position + logits)


def decoder_parameters(config: DecoderConfig, vocabulary: int) -> int:
    """Number of weights of a decoder, without making it."""
    with torch.device("meta"):
        decoder: nn.Module = build_decoder(config, vocabulary)
    return sum(weight.numel() for weight in decoder.parameters())
