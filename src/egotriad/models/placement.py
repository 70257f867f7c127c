"""Large published weights onto a device: room checked first, then filled a gigabyte at a time.

`Fit (headers) -> room? -> read, convert, move, in pieces -> model on the device, ready to run`
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from egotriad.manifests.errors import CheckpointError, MissingDependency, UsageError
from egotriad.models.checkpoints import read_tensors
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.fit import Fit, Stored
from egotriad.models.room import free_bytes
from egotriad.models.settings import require_one_of

__all__ = ["Placement", "Precision", "free_bytes", "needed_bytes", "place"]

Precision = Literal["float32", "bfloat16", "float16", "4bit"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PIECE_BYTES = 1 << 30
FOUR_BIT_BYTES = 0.5 + 4 / 64
"""Per weight: NF4 in blocks of 64 with one float32 scale each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a model's weights go and in which precision.

    Attributes:
        device: cpu, cuda or cuda:N.
        precision: float32 | bfloat16 | float16 of all weights; 4bit keeps the decoder's linear
            layers in NF4 (bitsandbytes) and the rest in bfloat16.
    """

    device: str = "cpu"
    precision: Precision = "bfloat16"

    def __post_init__(self) -> None:
        require_one_of("precision", self.precision, Precision)
        try:
            kind = torch.device(self.device).type
        except RuntimeError as exc:
            raise UsageError(f"device: got {self.device!r}, need cpu, cuda or cuda:N") from exc
        if kind == "cuda" and not torch.cuda.is_available():
            raise UsageError(
                f"device: got {self.device!r}, but torch sees no GPU here; use cpu, or install a "
                "torch build for your GPU"
            )

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights that are not quantised."""
        return DTYPES.get(self.precision, torch.bfloat16)


def needed_bytes(model: ConditionedLM, placement: Placement) -> int:
    """What the weights of a model take in this precision (activations and caches not counted)."""
    packed = set(_linears(model)) if placement.precision == "4bit" else set()
    return round(
        sum(
            like.numel() * (FOUR_BIT_BYTES if name in packed else placement.dtype.itemsize)
            for name, like in model.stored_weights().items()
        )
    )


def place(
    model: ConditionedLM,
    found: Fit,
    placement: Placement,
    *,
    convert: Callable[[str, Tensor], Tensor] | None = None,
) -> None:
    """Fills a model that lies on the meta device, and freezes it in eval mode.

    Args:
        model: on the meta device.
        found: an exact fit.
        placement: where to.
        convert: a weight's name and tensor in the file to the tensor that the model holds, where
            the file has another layout.

    Raises:
        CheckpointError: when the device has too little memory; nothing was read then.
        MissingDependency: when 4bit is asked for without bitsandbytes.
    """
    require_room([model], placement)
    if placement.precision == "4bit":
        _quantised_linears(model, placement)
    for piece in _pieces(found):
        for name, tensor in _read(piece):
            extra = piece[name].extra_rows
            taken = tensor[:-extra] if extra else tensor
            _put(model, name, convert(name, taken) if convert else taken, placement)
    if model.decoder.config.tie_word_embeddings:
        model.decoder.lm_head.weight = model.decoder.model.embed_tokens.weight
    _compute_buffers(model, placement.device)
    model.eval().requires_grad_(False)


def require_room(
    models: Sequence[ConditionedLM], placement: Placement, *, packable: bool = True
) -> None:
    """Nothing when the weights of all fit the device's free memory, as far as it is known.

    Args:
        models: on any device.
        placement: where to, and in which precision.
        packable: whether 4bit is a way out.

    Raises:
        CheckpointError: saying what would fit.
    """
    need, free = _bytes_of(models, placement), free_bytes(placement.device)
    if free is None or need <= free:
        return
    smaller = _bytes_of(models, Placement(device=placement.device, precision="4bit"))
    instead = f"precision 4bit ({smaller / 1e9:.1f} GB)" if packable else "smaller decoders"
    names = " and ".join(f"{model.kind} {model.name}" for model in models)
    raise CheckpointError(
        f"{names} take{'s' * (len(models) == 1)} {need / 1e9:.1f} GB in {placement.precision}, "
        f"{free / 1e9:.1f} GB are free on {placement.device}; choose another device, or {instead}"
    )


def _bytes_of(models: Sequence[ConditionedLM], placement: Placement) -> int:
    return sum(needed_bytes(model, placement) for model in models)


def _pieces(found: Fit) -> Iterator[dict[str, Stored]]:
    """The weights in groups of about a gigabyte each."""
    piece: dict[str, Stored] = {}
    size = 0
    for name, weight in found.stored.items():
        piece[name] = weight
        size += torch.Size(weight.header.shape).numel() * weight.header.dtype.itemsize
        if size >= PIECE_BYTES:
            yield piece
            piece, size = {}, 0
    if piece:
        yield piece


def _read(piece: dict[str, Stored]) -> Iterator[tuple[str, Tensor]]:
    for path in {weight.path for weight in piece.values()}:
        names = {weight.key: name for name, weight in piece.items() if weight.path == path}
        for key, tensor in read_tensors(path, names).items():
            yield names[key], tensor


def _put(model: ConditionedLM, name: str, tensor: Tensor, placement: Placement) -> None:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    held = getattr(module, attribute)
    if type(held).__name__ == "Params4bit":
        packed = type(held)(
            tensor.to(placement.dtype),
            compress_statistics=held.compress_statistics,
            quant_type=held.quant_type,
            module=module,
        )
        module._parameters[attribute] = packed.to(placement.device)  # packs it
        return
    moved = tensor.to(placement.device, placement.dtype)
    module._parameters[attribute] = nn.Parameter(moved, requires_grad=False)


def _linears(model: ConditionedLM) -> list[str]:
    """Names of the weights that 4bit packs: the decoder's linear layers, its head left out."""
    return [
        f"decoder.model.{name}.weight"
        for name, module in model.decoder.model.named_modules()
        if isinstance(module, nn.Linear)
    ]


def _quantised_linears(model: ConditionedLM, placement: Placement) -> None:
    """Puts bitsandbytes' layers in place of the decoder's linear layers."""
    try:
        library: Any = importlib.import_module("bitsandbytes")
    except ImportError as exc:
        raise MissingDependency(
            "4-bit weights need bitsandbytes: pip install bitsandbytes; or choose precision "
            "bfloat16"
        ) from exc
    for name in _linears(model):
        path = name.removesuffix(".weight")
        linear = model.get_submodule(path)
        packed = library.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=False,
            compute_dtype=placement.dtype,
            compress_statistics=False,
            quant_type="nf4",
            device="meta",
        )
        owner, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(owner), attribute, packed)


def _compute_buffers(model: ConditionedLM, device: str) -> None:
    """Makes anew what no file stores: rotary frequencies and position numbers."""
    decoder = model.decoder
    decoder.model.rotary_emb = LlamaRotaryEmbedding(config=decoder.config).to(device)
    for module in model.modules():
        ids = module._buffers.get("position_ids")
        if ids is not None and ids.is_meta:
            module._buffers["position_ids"] = torch.arange(ids.shape[-1], device=device)[None]
    left = [name for name, tensor in _tensors(model) if tensor.is_meta]
    if left:
        raise CheckpointError(f"nothing fills {', '.join(left[:5])} of {model.kind} {model.name}")


def _tensors(model: ConditionedLM) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
