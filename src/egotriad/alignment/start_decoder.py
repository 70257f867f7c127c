"""A draft that begins with a published decoder: chosen, checked, loaded, adapted.

`name -> headers, vocabulary, memory -> decoder (all of it, an adapter on it, or none trained)`
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.alignment.vocabulary import share_vocabulary, vocabulary_of
from egotriad.manifests.errors import TokenizerMismatch, UsageError, located
from egotriad.models.adapters import AdapterConfig, attach_adapter
from egotriad.models.conditioned import ConditionedLM
from egotriad.models.decoder import DecoderConfig
from egotriad.models.decoder_config import BaseDecoder
from egotriad.models.decoder_files import open_decoder
from egotriad.models.memory import decoder_parameters, require_room_to_train
from egotriad.models.placement import Placement
from egotriad.models.settings import require_one_of

__all__ = ["DecoderChoice", "DecoderTraining", "StartDecoder", "require_beginning"]

DecoderTraining = Literal["full", "lora", "frozen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDecoder:
    """A published decoder in memory, and what training may change of it.

    Attributes:
        decoder: with its weights, in float32.
        config: its shape.
        base: where it comes from.
        training: `full` trains all of it, `lora` an adapter on it, `frozen` nothing of it.
        adapter: size of the adapter.
        mistakes: of its config, which were corrected.
    """

    decoder: LlamaForCausalLM
    config: DecoderConfig
    base: BaseDecoder
    training: DecoderTraining
    adapter: AdapterConfig
    mistakes: tuple[str, ...] = ()

    def prepare(self, model: ConditionedLM) -> None:
        """Makes of a model that has this decoder one that is trained as chosen.

        An adapter draws from torch's current random state.
        """
        if self.training != "full":
            model.base = self.base
            model.decoder.requires_grad_(False)
        if self.training == "lora":
            attach_adapter(model.decoder, self.adapter)

    def meta(self) -> dict[str, Any]:
        """What a model's record says of its beginning."""
        said = self.base.to_json() | {"training": self.training}
        return {"decoder": said | ({"mistakes": list(self.mistakes)} if self.mistakes else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderChoice:
    """Which published decoder a draft is to begin with.

    Attributes:
        name: folder, `.bin` of llama2.c, name in `egotriad models list --kind decoder`, or hub id.
        weights: where the files of that name lie.
        training: see `StartDecoder`.
        adapter: size of the adapter of `lora`.
    """

    name: str
    weights: Path | None = None
    training: DecoderTraining = "full"
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self) -> None:
        require_one_of("train decoder", self.training, DecoderTraining)

    def load(self, tokenizer: PreTrainedTokenizerFast, *, device: str = "cpu") -> StartDecoder:
        """The decoder, once its vocabulary and the memory have been found to fit.

        Args:
            tokenizer: the target's.
            device: to train on.

        Raises:
            CheckpointError: it is no LLaMA decoder, not the one that is named, or does not fit its
                own config.
            TokenizerMismatch: its ids mean other pieces than the target's; the first are shown.
            DownloadError: it is neither here nor can be brought from the hub.
            UsageError: training it takes more memory than is free.
        """
        files = open_decoder(self.name, self.weights)
        with located(f"decoder {self.name}"):
            if files.tokenizer is not None:
                _require_shared(files.tokenizer, tokenizer)
            files.require_size(tokenizer)
            parameters = decoder_parameters(files.config, files.ids)
            trained = parameters if self.training == "full" else 0
            require_room_to_train(parameters, trained, device=device)
        return StartDecoder(
            decoder=files.load(Placement(device=device, precision="float32")),
            config=files.config,
            base=files.base(),
            training=self.training,
            adapter=self.adapter,
            mistakes=files.mistakes,
        )


def require_beginning(training: DecoderTraining) -> None:
    """Nothing when a decoder without published weights is trained whole.

    Raises:
        UsageError: when it would stay random.
    """
    if training != "full":
        raise UsageError(
            f"--train-decoder {training}: the decoder's weights are random without --decoder; "
            "name a published one, or train it in full"
        )


def _require_shared(own: PreTrainedTokenizerFast, target: PreTrainedTokenizerFast) -> None:
    """Nothing when the decoder knows all ids of the target, as the same pieces."""
    shared = share_vocabulary(vocabulary_of(own), vocabulary_of(target))
    alone = {**shared.draft_only, **shared.target_only}
    if alone:
        shown = ", ".join(f"id {i}: {piece!r}" for i, piece in list(alone.items())[:5])
        raise TokenizerMismatch(
            f"{len(alone)} ids are known to one of decoder and target alone ({shown}); a draft is "
            "trained with the target's tokenizer, so both must have the same ids"
        )
