"""What a draft is made of, as the command line says it; its text-only twin gets the same budget."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.conditioned import ConditionedConfig
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_imu import ImuDraftConfig
from egotriad.models.draft_text import TextDraftConfig
from egotriad.models.encoder import ImuEncoder
from egotriad.models.pooler import PoolerConfig, PoolerKind
from egotriad.models.projector import ProjectorKind
from egotriad.models.settings import settings_from_json

__all__ = ["DraftShape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftShape:
    """Parts of a draft.

    Attributes:
        encoder: name of the IMU encoder (docs/encoders.md).
        encoder_weights: its checkpoint as published; without one it starts random.
        train_encoder: whether training may change a published encoder.
        encoder_option: further settings of the encoder, NAME=VALUE each (`samples=60`).
        pooler: what makes its vectors fewer: `none`, `mean` or `conv` by --pooler-factor, or a
            `resampler` to --pooler-queries.
        pooler_factor, pooler_queries: see there.
        projector: `mlp2x_gelu` or `linear`.
        hidden_size, intermediate_size, layers, heads: of the LLaMA decoder.
    """

    encoder: str = "conv"
    encoder_weights: Path | None = None
    train_encoder: bool = False
    encoder_option: tuple[str, ...] = ()
    pooler: PoolerKind = "none"
    pooler_factor: int = 4
    pooler_queries: int = 16
    projector: ProjectorKind = "mlp2x_gelu"
    hidden_size: int = 96
    intermediate_size: int = 256
    layers: int = 1
    heads: int = 4

    def imu(self) -> ImuDraftConfig:
        """Settings of the IMU draft.

        Raises:
            UsageError: a frozen encoder without weights, or an unknown part.
        """
        return ImuDraftConfig(
            encoder=self.encoder,
            encoder_settings=self._encoder_settings(),
            pooler=PoolerConfig(
                kind=self.pooler, factor=self.pooler_factor, queries=self.pooler_queries
            ),
            projector=self.projector,
            decoder=self._decoder(),
        )

    def text(self, tokens: int) -> TextDraftConfig:
        """Settings of the twin without a sensor, with as many vectors as the IMU takes."""
        return TextDraftConfig(tokens=tokens, decoder=self._decoder())

    def of(self, draft: str) -> ConditionedConfig | None:
        """Settings of a draft by its name; None = its defaults, for drafts of others."""
        known: dict[str, ConditionedConfig] = {"imu": self.imu(), "text": self.text(10)}
        return known.get(draft)

    def loaded_encoder(self) -> ImuEncoder | None:
        """The encoder with its published weights; None where none are given."""
        if self.encoder_weights is None:
            return None
        plugin: Any = ENCODERS.load(self.encoder)
        if not hasattr(plugin, "load"):
            raise UsageError(
                f"--encoder-weights: encoder {self.encoder!r} has no published weights; leave it"
            )
        encoder: ImuEncoder = plugin.load(
            self.encoder_weights,
            settings_from_json(plugin.Config, self._encoder_settings(), partial=True),
        )
        return encoder

    def meta(self) -> dict[str, Any]:
        """What a model's record says of its encoder's weights."""
        if self.encoder_weights is None:
            return {}
        path = self.encoder_weights
        found = {"name": path.name}
        return {
            "encoder_weights": found | ({"sha256": sha256_file(path)} if path.is_file() else {})
        }

    def _decoder(self) -> DecoderConfig:
        return DecoderConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            layers=self.layers,
            heads=self.heads,
        )

    def _encoder_settings(self) -> dict[str, Any]:
        plugin: Any = ENCODERS.load(self.encoder)
        names = {field.name for field in dataclasses.fields(plugin.Config)}
        settings: dict[str, Any] = {}
        if "trainable" in names:
            settings["trainable"] = self.train_encoder
        for option in self.encoder_option:
            name, _, value = option.partition("=")
            if name not in names or not value:
                raise UsageError(
                    f"--encoder-option: got {option!r}, need NAME=VALUE with one of "
                    f"{', '.join(sorted(names))}"
                )
            settings[name] = _value(value)
        return settings


def _value(text: str) -> Any:
    """A number or truth value where it is one, else the text."""
    try:
        return json.loads(text.lower())
    except ValueError:
        return text
