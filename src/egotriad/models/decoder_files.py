"""A published LLaMA as the decoder of a draft: from here, or from the hub by its name.

`name, folder or file -> settings, tokenizer, weights -> (DecoderConfig, LlamaForCausalLM)`
"""

from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests.errors import (
    CheckpointError,
    DownloadError,
    TokenizerMismatch,
    UsageError,
)
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import DECODERS
from egotriad.models.llama2c import read_llama2c
from egotriad.models.placement import Placement
from egotriad.models.published import load_published
from egotriad.models.tokenizer import check_same_tokenizer

__all__ = ["decoder_path", "published_decoder"]

WANTED = ("config.json", "tokenizer.json", "tokenizer.model", "*.safetensors*", "*.bin*")


def published_decoder(
    name: str | Path, tokenizer: PreTrainedTokenizerFast, *, placement: Placement | None = None
) -> tuple[DecoderConfig, LlamaForCausalLM]:
    """A trainable decoder with published weights, and the settings that build its like.

    A draft takes both: `ImuDraftConfig(decoder=config)`, then `draft.decoder = decoder`.

    Args:
        name: a local folder, a `.bin` of llama2.c, a name of `DECODERS`, or a hub id.
        tokenizer: the target's, which the draft will use; the decoder's must be the same.
        placement: device and precision; float32 on the CPU when not given.

    Raises:
        CheckpointError: when it is no LLaMA, or does not fit its own config.
        TokenizerMismatch: naming the first ids that mean other pieces.
        DownloadError: when the hub cannot be reached.
    """
    placement = placement or Placement(precision="float32")
    path = decoder_path(name)
    if path.is_file():
        return _llama2c(path, tokenizer, placement)
    model, own, _ = load_published(path, placement=placement)
    if model.name != "llama":
        raise CheckpointError(f"{path}: a whole {model.name}, need a LLaMA decoder")
    check_same_tokenizer(own, tokenizer)
    return model.config.decoder, model.decoder.requires_grad_(True)


def decoder_path(name: str | Path) -> Path:
    """Where a decoder lies; one that is known by name only is brought from the hub.

    Raises:
        DownloadError: when it is neither here nor on the hub.
    """
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import hf_hub_download, snapshot_download

    known = DECODERS.get(str(name))
    repository = known.repository if known else str(name)
    try:
        if known and known.file:
            return Path(hf_hub_download(repository, known.file))
        return Path(snapshot_download(repository, allow_patterns=list(WANTED)))
    except Exception as exc:  # the hub raises its own, its HTTP library's and ValueError
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise DownloadError(
            f"decoder {str(name)!r}: not here, and hub {repository!r} cannot be brought "
            f"({reason}); download it elsewhere and give its path"
        ) from exc


def _llama2c(
    path: Path, tokenizer: PreTrainedTokenizerFast, placement: Placement
) -> tuple[DecoderConfig, LlamaForCausalLM]:
    """A file without a tokenizer of its own: its vocabulary is LLaMA's when it has 32,000 ids."""
    config, decoder = read_llama2c(path)
    if placement.precision == "4bit":
        raise UsageError(f"{path}: small enough for float32; 4bit is for published 7B models")
    ids = decoder.config.vocab_size
    if ids != len(tokenizer):
        raise TokenizerMismatch(
            f"{path}: {ids} ids, the target has {len(tokenizer)}; need a llama2.c model with "
            "LLaMA's own vocabulary (stories260K has one of its own)"
        )
    return config, decoder.to(placement.device, placement.dtype)
