"""A draft's decoder from weights that others have trained: a folder, a llama2.c file, or the hub.

`name -> path (the hub's cache) -> config.json, tokenizer, headers -> DecoderFiles -> decoder`
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests.errors import (
    CheckpointError,
    DownloadError,
    TokenizerMismatch,
    UsageError,
)
from egotriad.manifests.files import sha256_file
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoder_config import BaseDecoder
from egotriad.models.decoders import DECODERS, LLAMA_IDS, KnownDecoder, config_mistakes
from egotriad.models.llama2c import read_header, read_llama2c
from egotriad.models.llama_tokenizer import require_llama
from egotriad.models.placement import Placement, place
from egotriad.models.published import Published, open_published
from egotriad.models.tokenizer import check_same_tokenizer

__all__ = ["DecoderFiles", "decoder_path", "open_decoder", "published_decoder"]

WANTED = ("config.json", "tokenizer.json", "tokenizer.model", "*.safetensors*", "*.bin*")
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFiles:
    """A published decoder, opened but not read.

    Attributes:
        name: as the hub calls it, or the name of the folder or file.
        path: where it lies.
        revision: commit, where the hub's cache says it.
        licence: of its weights, None when not known.
        config: its shape.
        published: what its folder holds; None of a llama2.c file, which has no tokenizer.
        ids: of its vocabulary.
        mistakes: what its config says wrongly and is corrected.
    """

    name: str
    path: Path
    revision: str | None
    licence: str | None
    config: DecoderConfig
    published: Published | None
    ids: int
    mistakes: tuple[str, ...]

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """Its own tokenizer, where it has one."""
        return None if self.published is None else self.published.tokenizer

    def require_size(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Nothing when the target's tokenizer has as many ids as the decoder has embeddings.

        A llama2.c file of 32,000 ids has LLaMA's vocabulary, which the target's must be then.

        Raises:
            TokenizerMismatch: when it does not.
        """
        if self.ids != len(tokenizer):
            raise TokenizerMismatch(
                f"{self.path}: {self.ids} ids, the target has {len(tokenizer)}; need a decoder "
                "with LLaMA's own vocabulary (stories260K has one of its own)"
            )
        if self.published is None and self.ids >= LLAMA_IDS:
            require_llama(tokenizer, self.path)

    def load(self, placement: Placement) -> LlamaForCausalLM:
        """The decoder on its device, trainable, in eval mode.

        Raises:
            CheckpointError: when its weights are not those of its config, or there is too little
                memory for them; nothing large was read by then.
        """
        if self.published is None:
            if placement.precision == "4bit":
                raise UsageError(f"{self.path}: small enough for float32; 4bit is for 7B models")
            return read_llama2c(self.path)[1].to(placement.device, placement.dtype)
        model = self.published.model
        self.published.fit.require(f"decoder {self.name}", self.path)
        place(model, self.published.fit, placement)
        return model.decoder.requires_grad_(True)

    def base(self) -> BaseDecoder:
        """What a model that begins with it records; reads every weight once."""
        return BaseDecoder(
            name=self.name,
            revision=self.revision,
            sha256=decoder_sha256(self.path),
            licence=self.licence,
            path=self.path,
        )


def open_decoder(
    name: str | Path, weights: Path | None = None, *, revision: str | None = None
) -> DecoderFiles:
    """Everything about a published decoder short of its weights.

    Args:
        name: a local folder, a `.bin` of llama2.c, a name of `DECODERS`, or a hub id (with the
            file's name behind it where that is one of llama2.c).
        weights: where the files of that name lie, when they are here already.
        revision: commit on the hub.

    Raises:
        CheckpointError: when it is no LLaMA, or not the one that is named.
        TokenizerMismatch: when weights of LLaMA's vocabulary come with another tokenizer.
        DownloadError: when it is neither here nor can be brought from the hub.
        UsageError: when `weights` comes with a local path.
    """
    local = Path(name).exists()
    if local and weights is not None:
        raise UsageError(f"decoder {name}: is a path already; leave {weights} out")
    known = None if local else _known(str(name))
    path = decoder_path(name, revision=revision) if weights is None else weights
    published, config, ids, mistakes = _opened(path)
    if known is not None:
        _require_known(config, known, path)
    return DecoderFiles(
        name=path.resolve().name if local else _hub_name(str(name)),
        path=path,
        revision=_cached_revision(path),
        licence=known.licence if known else None,
        config=config,
        published=published,
        ids=ids,
        mistakes=mistakes,
    )


def published_decoder(
    name: str | Path, tokenizer: PreTrainedTokenizerFast, *, placement: Placement | None = None
) -> tuple[DecoderConfig, LlamaForCausalLM]:
    """A trainable decoder with published weights, and the settings that build its like.

    A draft takes both: `ImuDraft(ImuDraftConfig(decoder=config), tokenizer, decoder=decoder)`.

    Args:
        name: as for `open_decoder`.
        tokenizer: the target's, which the draft will use; the decoder's must be the same.
        placement: device and precision; float32 on the CPU when not given.

    Raises:
        CheckpointError: when it is no LLaMA, or does not fit its own config.
        TokenizerMismatch: naming the first ids that mean other pieces.
        DownloadError: when the hub cannot be reached.
    """
    files = open_decoder(name)
    if files.tokenizer is not None:
        check_same_tokenizer(files.tokenizer, tokenizer)
    files.require_size(tokenizer)
    return files.config, files.load(placement or Placement(precision="float32"))


def decoder_path(name: str | Path, *, revision: str | None = None) -> Path:
    """Where a decoder lies; one that is known by name only is brought from the hub.

    Args:
        name: as for `open_decoder`.
        revision: commit on the hub.

    Raises:
        DownloadError: when it is neither here nor can be brought from the hub.
        UsageError: when it is no path and no name of anything.
    """
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import hf_hub_download, snapshot_download

    namespace, _, rest = _hub_name(str(name)).partition("/")
    repository, _, file = rest.partition("/")
    if not repository:
        raise UsageError(
            f"decoder {str(name)!r}: no such file or folder, no hub id (NAMESPACE/NAME), and none "
            f"of {', '.join(DECODERS)}"
        )
    repository = f"{namespace}/{repository}"
    try:
        if file:
            return Path(hf_hub_download(repository, file, revision=revision))
        patterns = list(WANTED)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as exc:  # the hub raises its own, its HTTP library's and ValueError
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise DownloadError(
            f"decoder {str(name)!r}: not here, and hub {repository!r} cannot be brought "
            f"({reason}); download it elsewhere and give its path"
        ) from exc


def decoder_sha256(path: Path) -> str:
    """One SHA-256 for the weight files of a decoder (of their SHA-256 and names)."""
    if path.is_file():
        return sha256_file(path)
    files = sorted({file for pattern in WEIGHTS for file in path.glob(pattern)})
    sums = "".join(f"{sha256_file(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(sums.encode()).hexdigest()


def _opened(path: Path) -> tuple[Published | None, DecoderConfig, int, tuple[str, ...]]:
    """What the headers of a folder or llama2.c file say."""
    if path.is_file():
        config, ids = read_header(path)
        return None, config, ids, ()
    opened = open_published(path)
    if opened.model.name != "llama":
        raise CheckpointError(f"{path}: a whole {opened.model.name}, need a LLaMA decoder")
    config = opened.model.config.decoder
    return opened, config, len(opened.tokenizer), tuple(config_mistakes(opened.values))


def _known(name: str) -> KnownDecoder | None:
    """A known decoder by its short name or by what the hub calls it."""
    hub = _hub_name(name)
    return next((known for short, known in DECODERS.items() if _hub_name(short) == hub), None)


def _hub_name(name: str) -> str:
    """NAMESPACE/NAME, or NAMESPACE/NAME/FILE of one file in a repository."""
    known = DECODERS.get(name)
    if known is None:
        return name
    return f"{known.repository}/{known.file}" if known.file else known.repository


def _require_known(config: DecoderConfig, known: KnownDecoder, path: Path) -> None:
    """Nothing when weights given for a known name have its shape."""
    names = [field.name for field in fields(config)]
    shape = [name for name in names if name not in ("max_positions", "rms_norm_eps", "rope_theta")]
    odd = [
        f"{name} {getattr(config, name)} (need {getattr(known.config, name)})"
        for name in shape
        if _heads(config, name) != _heads(known.config, name)
    ]
    if odd:
        raise CheckpointError(
            f"{path}: not {known.repository}: {', '.join(odd)}; give the folder alone to use it "
            "as it is"
        )


def _heads(config: DecoderConfig, name: str) -> object:
    """A field; None key heads are as many as there are heads."""
    return getattr(config, name) or (config.heads if name == "kv_heads" else getattr(config, name))


def _cached_revision(path: Path) -> str | None:
    """The commit that a path in the hub's cache names (`models--.../snapshots/COMMIT/...`)."""
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
            return folder.name
    return None
