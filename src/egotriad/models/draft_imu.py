"""The IMU draft: an IMU encoder, a pooler and a projector in front of a small LLaMA.

`imu (B, 6, T) or (B, T, 6) -> encoder (B, K, d) -> pooler (B, K', d') -> projector (B, K', D)
-> [prompt | imu tokens | prompt]`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import UsageError
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.encoder import ImuEncoder
from egotriad.models.pooler import Pooler, PoolerConfig
from egotriad.models.projector import ProjectorKind, build_projector
from egotriad.models.prompt import OLD_CUE
from egotriad.models.settings import ADDED_LATER, settings_from_json, settings_to_json
from egotriad.models.stop import say_eos_at

__all__ = ["DRAFT", "ImuDraft", "ImuDraftConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuDraftConfig(ConditionedConfig):
    """Settings of an IMU draft.

    Attributes:
        encoder: name of the encoder plug-in.
        encoder_settings: its config's fields; those not given take the encoder's defaults, and a
            model's own `config` holds them all.
        pooler: what makes the encoder's vectors fewer.
        projector: what brings them to the decoder's width.
    """

    template: str = "USER: <imu>\nWhat is the wearer doing? ASSISTANT:"
    encoder: str = "conv"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    pooler: PoolerConfig = field(default_factory=PoolerConfig, metadata=ADDED_LATER)
    projector: ProjectorKind = field(default="mlp2x_gelu", metadata=ADDED_LATER)


class ImuDraft(ConditionedLM):
    """Writes what the target would, from the IMU around the event span.

    Args:
        config: settings.
        tokenizer: the target's.
        encoder: one that `ENCODER.load` has filled; it must be of `config.encoder`'s kind, and its
            own config takes the place of `encoder_settings`. None = a fresh one.
        decoder: see `ConditionedLM`.
    """

    kind: ClassVar[str] = "draft"
    name: ClassVar[str] = "imu"
    placeholder: ClassVar[str] = "<imu>"
    Config: ClassVar[type[ConditionedConfig]] = ImuDraftConfig
    config: ImuDraftConfig
    spread: Tensor  # (6, 1) or (1, 6), the encoder's units

    def __init__(
        self,
        config: ImuDraftConfig,
        tokenizer: PreTrainedTokenizerFast,
        encoder: ImuEncoder | None = None,
        decoder: LlamaForCausalLM | None = None,
    ) -> None:
        encoder_class: Any = ENCODERS.load(config.encoder)
        if encoder is None:
            settings = settings_from_json(
                encoder_class.Config, config.encoder_settings, partial=True
            )
        elif type(encoder) is encoder_class:
            settings = encoder.config
        else:
            raise UsageError(
                f"encoder: got a {type(encoder).__name__}, the config says {config.encoder!r}, "
                f"need a {encoder_class.__name__}"
            )
        config = replace(config, encoder_settings=settings_to_json(settings))
        super().__init__(config, tokenizer, decoder)
        if config.template.endswith(OLD_CUE):
            say_eos_at(self.decoder, tokenizer)
        self.encoder: ImuEncoder = encoder_class(settings) if encoder is None else encoder
        contract = self.encoder.contract
        ones = torch.ones(6, device="cpu")  # even of a model without memory yet: no file has it
        self.register_buffer("spread", ones.unsqueeze(contract.time_axis - 1), persistent=False)
        self.pooler = Pooler(config.pooler, contract.tokens, self.encoder.width)
        self.projector = build_projector(
            config.projector, self.pooler.width, config.decoder.hidden_size
        )

    @property
    def tokens(self) -> int:
        """Token budget: positions of the prefix that the IMU takes."""
        return self.pooler.tokens

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """The encoder's view of the IMU, centred on the span's centre.

        Raises:
            ClipRejected: see `EncoderContract.prepare`.
        """
        contract = self.encoder.contract
        return contract.prepare(clip, start_us=span.centre_us - contract.window_us // 2)

    def fit(self, inputs: Tensor) -> None:
        """Takes the training windows' statistics (N, 6, T) or (N, T, 6)."""
        self.encoder.fit_normalisation(inputs)
        time_axis = self.encoder.contract.time_axis
        self.spread.copy_(inputs.std(dim=(0, time_axis)).unsqueeze(time_axis - 1))

    def jittered(self, inputs: Tensor, sigma: float) -> Tensor:
        """Windows (B, ...) with one constant offset per window and channel, as a bias would add.

        It keeps the draft from knowing a wearer by the bias or the tilt of the sensor.
        """
        one = inputs.narrow(self.encoder.contract.time_axis, 0, 1)
        return inputs + sigma * self.spread * torch.randn_like(one)

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, K', D) IMU tokens of a batch of prepared windows, in the weights' precision."""
        weights = self.decoder.get_input_embeddings().weight
        features = self.encoder(inputs.to(weights.device, weights.dtype))
        return self.projector(self.pooler(features))


DRAFT = ImuDraft
