"""A published LLaMA as the decoder of a draft: from a local folder, or from the hub by its name.

`name or folder -> config.json, tokenizer, weights -> (DecoderConfig, LlamaForCausalLM)`
"""

from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests.errors import CheckpointError, DownloadError
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoders import DECODERS
from egotriad.models.placement import Placement
from egotriad.models.published import load_published
from egotriad.models.tokenizer import check_same_tokenizer

__all__ = ["decoder_folder", "published_decoder"]

WANTED = ("config.json", "tokenizer.json", "tokenizer.model", "*.safetensors*", "*.bin*")


def published_decoder(
    name: str | Path, tokenizer: PreTrainedTokenizerFast, *, placement: Placement | None = None
) -> tuple[DecoderConfig, LlamaForCausalLM]:
    """A trainable decoder with published weights, and the settings that build its like.

    A draft takes both: `ImuDraftConfig(decoder=config)`, then `draft.decoder = decoder`.

    Args:
        name: a local folder, a name of `DECODERS`, or a hub id.
        tokenizer: the target's, which the draft will use; the decoder's must be the same.
        placement: device and precision; float32 on the CPU when not given.

    Raises:
        CheckpointError: when it is no LLaMA, or does not fit its own config.
        TokenizerMismatch: naming the first ids that mean other pieces.
        DownloadError: when the hub cannot be reached.
    """
    folder = decoder_folder(name)
    model, own, _ = load_published(folder, placement=placement or Placement(precision="float32"))
    if model.name != "llama":
        raise CheckpointError(f"{folder}: a whole {model.name}, need a LLaMA decoder")
    check_same_tokenizer(own, tokenizer)
    return model.config.decoder, model.decoder.requires_grad_(True)


def decoder_folder(name: str | Path) -> Path:
    """The local folder of a decoder; one that is known by name only is brought from the hub.

    Raises:
        DownloadError: when it is neither here nor on the hub.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    known = DECODERS.get(str(name))
    repository = known.repository if known else str(name)
    try:
        return Path(snapshot_download(repository, allow_patterns=list(WANTED)))
    except Exception as exc:  # the hub raises its own, its HTTP library's and ValueError
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise DownloadError(
            f"decoder {str(name)!r}: no such folder, and hub {repository!r} cannot be brought "
            f"({reason}); download it elsewhere and give its folder"
        ) from exc
