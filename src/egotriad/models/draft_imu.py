"""The IMU draft: an IMU encoder and a projector in front of a small LLaMA.

`imu (B, 6, T) -> encoder (B, K, d) -> projector (B, K, D) -> [prompt | imu tokens | prompt]`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from egotriad.converters.imu import view
from egotriad.manifests import Clip, Span
from egotriad.manifests.errors import ClipRejected, located
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.conditioned import ConditionedConfig, ConditionedLM
from egotriad.models.encoder import ImuEncoder
from egotriad.models.settings import settings_from_json, settings_to_json

__all__ = ["DRAFT", "ImuDraft", "ImuDraftConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuDraftConfig(ConditionedConfig):
    """Settings of an IMU draft.

    Attributes:
        encoder: name of the encoder plug-in.
        encoder_settings: its config's fields; those not given take the encoder's defaults, and a
            model's own `config` holds them all.
    """

    template: str = "USER: <imu>\nWhat is the wearer doing? ASSISTANT:"
    encoder: str = "conv"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)


class ImuDraft(ConditionedLM):
    """Writes what the target would, from the IMU around the event span."""

    kind: ClassVar[str] = "draft"
    name: ClassVar[str] = "imu"
    placeholder: ClassVar[str] = "<imu>"
    Config: ClassVar[type[ConditionedConfig]] = ImuDraftConfig
    config: ImuDraftConfig
    spread: Tensor  # (6, 1), SI units

    def __init__(self, config: ImuDraftConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        encoder_class: Any = ENCODERS.load(config.encoder)
        settings = settings_from_json(encoder_class.Config, config.encoder_settings, partial=True)
        super().__init__(replace(config, encoder_settings=settings_to_json(settings)), tokenizer)
        self.encoder: ImuEncoder = encoder_class(settings)
        self.register_buffer("spread", torch.ones(6, 1), persistent=False)
        width = config.decoder.hidden_size
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.width, width), nn.GELU(), nn.Linear(width, width)
        )

    def prepare(self, clip: Clip, span: Span) -> Tensor:
        """float32 (6, T): the IMU at the encoder's rate, centred on the span's centre.

        Raises:
            ClipRejected: `no-imu`, or `imu-gap` where samples are missing or outside the clip.
        """
        contract = self.encoder.contract
        if clip.imu is None:
            raise ClipRejected(
                "no-imu",
                f"{clip.window_id}: no IMU, need {contract.window_s:g} s of it around the events",
            )
        with located(clip.window_id):
            window = view(
                clip.imu,
                rate_hz=contract.rate_hz,
                start_us=span.centre_us - contract.window_us // 2,
                duration_us=contract.window_us,
            )
        return torch.from_numpy(window)

    def fit(self, inputs: Tensor) -> None:
        """Takes the training windows' statistics (N, 6, T)."""
        self.encoder.fit_normalisation(inputs)
        self.spread.copy_(inputs.std(dim=(0, 2))[:, None])

    def jittered(self, inputs: Tensor, sigma: float) -> Tensor:
        """Windows (B, 6, T) with one constant offset per window and channel, as a bias would add.

        It keeps the draft from knowing a wearer by the bias or the tilt of the sensor.
        """
        offset = sigma * self.spread * torch.randn_like(inputs[:, :, :1])
        return inputs + offset

    def condition(self, inputs: Tensor) -> Tensor:
        """(B, K, D) IMU tokens of (B, 6, T)."""
        return self.projector(self.encoder(inputs))


DRAFT = ImuDraft
