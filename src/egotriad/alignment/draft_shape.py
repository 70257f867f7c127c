"""What a draft is made of, as the command line says it; its text-only twin gets the same budget."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egotriad.alignment.model_options import named_values
from egotriad.alignment.start_decoder import DecoderChoice, DecoderTraining, require_beginning
from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import sha256_file
from egotriad.manifests.plugins import ENCODERS
from egotriad.models.adapters import AdapterConfig
from egotriad.models.catalogue import entry
from egotriad.models.conditioned import ConditionedConfig
from egotriad.models.decoder import DecoderConfig
from egotriad.models.draft_imu import ImuDraftConfig
from egotriad.models.draft_text import TextDraftConfig
from egotriad.models.encoder import ImuEncoder
from egotriad.models.pooler import PoolerConfig, PoolerKind
from egotriad.models.projector import ProjectorKind
from egotriad.models.settings import settings_from_json
from egotriad.models.systems import system, system_config

__all__ = ["DraftShape"]

PARTS = ("encoder", "encoder_option", "pooler", "pooler_factor", "pooler_queries", "projector")
SHAPE = ("hidden_size", "intermediate_size", "layers", "heads")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftShape:
    """Parts of a draft.

    Attributes:
        system: name of a usual combination (`egotriad models list --kind draft`) in place of
            encoder, pooler, projector and decoder; another --decoder may still be named.
        encoder: name of the IMU encoder (docs/encoders.md).
        encoder_weights: its checkpoint as published; without one it starts random.
        train_encoder: whether training may change a published encoder.
        encoder_option: further settings of the encoder, NAME=VALUE each (`samples=60`).
        pooler: what makes its vectors fewer: `none`, `mean` or `conv` by --pooler-factor, or a
            `resampler` to --pooler-queries.
        pooler_factor, pooler_queries: see there.
        projector: `mlp2x_gelu` or `linear`.
        hidden_size, intermediate_size, layers, heads: of a LLaMA decoder that starts random.
        decoder: a published one instead: a name of `egotriad models list --kind decoder`, a hub
            id, a folder, or a .bin of llama2.c.
        decoder_weights: folder or file of --decoder's weights, where they are here already.
        train_decoder: what training changes of it: `full`, `lora` (an adapter) or `frozen`.
        lora_rank, lora_alpha: size of the adapter; it counts alpha / rank.
    """

    system: str | None = None
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
    decoder: str | None = None
    decoder_weights: Path | None = None
    train_decoder: DecoderTraining = "full"
    lora_rank: int = 16
    lora_alpha: float = 32.0

    def __post_init__(self) -> None:
        if self.system is not None:
            self._leave_out("--system", PARTS)
            if system(self.system).published:
                raise UsageError(
                    f"--system {self.system}: is not trained here; give its authors' folder as "
                    "--draft to evaluate-acceptance"
                )
        if self.decoder_name is not None:
            self._leave_out("--decoder" if self.decoder else "--system", SHAPE)
            return
        require_beginning(self.train_decoder)
        if self.decoder_weights is not None:
            raise UsageError("--decoder-weights: say with --decoder which decoder they are of")

    @property
    def decoder_name(self) -> str | None:
        """The published decoder to begin with; None for a random one."""
        return self.decoder or (None if self.system is None else system(self.system).decoder)

    def decoder_choice(self) -> DecoderChoice | None:
        """How to begin with a published decoder; None = with a random one."""
        if self.decoder_name is None:
            return None
        return DecoderChoice(
            name=self.decoder_name,
            weights=self.decoder_weights,
            training=self.train_decoder,
            adapter=AdapterConfig(rank=self.lora_rank, alpha=self.lora_alpha),
        )

    def imu(self) -> ImuDraftConfig:
        """Settings of the IMU draft.

        Raises:
            UsageError: a frozen encoder without weights, or an unknown part.
        """
        if self.system is not None:
            return system_config(self.system, train_encoder=self.train_encoder)
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
        draft = self.imu()
        plugin: Any = ENCODERS.load(draft.encoder)
        if not hasattr(plugin, "load"):
            raise UsageError(
                f"--encoder-weights: encoder {draft.encoder!r} has no published weights; leave it"
            )
        encoder: ImuEncoder = plugin.load(
            self.encoder_weights,
            settings_from_json(plugin.Config, draft.encoder_settings, partial=True),
        )
        return encoder

    def meta(self) -> dict[str, Any]:
        """What a model's record says of its encoder's weights."""
        if self.encoder_weights is None:
            return {}
        path, encoder = self.encoder_weights, self.imu().encoder
        found = {"name": path.name, "encoder": encoder, "licence": entry(encoder).licence}
        return {
            "encoder_weights": found | ({"sha256": sha256_file(path)} if path.is_file() else {})
        }

    def _leave_out(self, flag: str, others: tuple[str, ...]) -> None:
        """Nothing when none of the flags is given that another one stands for.

        Raises:
            UsageError: naming those that are.
        """
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        odd = [name for name in others if getattr(self, name) != usual[name]]
        if odd:
            shown = ", ".join(f"--{name.replace('_', '-')}" for name in odd)
            raise UsageError(f"{flag} has its own: leave {shown} out")

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
        settings = {"trainable": self.train_encoder} if "trainable" in names else {}
        return settings | named_values("--encoder-option", self.encoder_option, sorted(names))
