"""Chronos (T5, Bolt, Chronos-2): forecasting models whose encoders read any series.

`imu (B, 6, 200), z-scored -> one series per channel -> encoder (B, 6, P, d) -> (B, P, 6 d)`

Homepage: https://github.com/amazon-science/chronos-forecasting (code and weights Apache-2.0; hub
`amazon/chronos-t5-{tiny,mini,small,base,large}`, `amazon/chronos-bolt-{tiny,mini,small,base}`,
`amazon/chronos-2`). Needs `pip install 'egotriad[chronos]'`. Papers: Ansari et al., Chronos, TMLR
2024, and Chronos-2, 2025. SensorLLM (Li et al., 2025) feeds LLaMA with Chronos-T5-large in this
way, one token per sample and channel.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from egotriad.converters.imu_presets import preset
from egotriad.manifests.errors import CheckpointError, UsageError
from egotriad.models.checkpoints import fill
from egotriad.models.chronos_families import CHANNELS, FAMILIES
from egotriad.models.contract import EncoderContract
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.settings import require_one_of

__all__ = ["ENCODER", "Chronos", "ChronosConfig"]

Channels = Literal["joined", "separate"]
BOLT_TINY: Mapping[str, Any] = {
    "architectures": ["ChronosBoltModelForForecasting"],
    "chronos_pipeline_class": "ChronosBoltPipeline",
    "chronos_config": {
        "context_length": 2048,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "prediction_length": 64,
        "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "use_reg_token": True,
    },
    "d_ff": 1024,
    "d_kv": 64,
    "d_model": 256,
    "feed_forward_proj": "relu",
    "is_encoder_decoder": True,
    "num_decoder_layers": 4,
    "num_heads": 4,
    "num_layers": 4,
    "pad_token_id": 0,
    "reg_token_id": 1,
    "vocab_size": 2,
}
"""`config.json` of `amazon/chronos-bolt-tiny`, as far as it shapes the encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChronosConfig:
    """Settings of a Chronos encoder.

    Attributes:
        architecture: the checkpoint's `config.json`; `load` takes it from the checkpoint.
        channels: `joined` (the six vectors of a patch become one of width 6 d) or `separate` (6
            times as many tokens of width d, channel after channel).
        trainable: whether training may change it.
    """

    architecture: Mapping[str, Any] = field(default_factory=lambda: dict(BOLT_TINY))
    channels: Channels = "joined"
    trainable: bool = False

    def __post_init__(self) -> None:
        require_one_of("channels", self.channels, Channels)


class Chronos(PublishedEncoder):
    """The encoder half of a Chronos model; its size is the architecture's."""

    Config: ClassVar[type] = ChronosConfig

    def __init__(self, config: ChronosConfig) -> None:
        super().__init__(config)
        pipeline = config.architecture.get("chronos_pipeline_class", "ChronosPipeline")
        settings = config.architecture.get("chronos_config")
        if pipeline not in FAMILIES or not isinstance(settings, Mapping):
            raise UsageError(
                f"chronos: architecture of a {pipeline} with chronos_config {settings}; need the "
                f"config.json of a checkpoint for {', '.join(FAMILIES)}"
            )
        view = preset("chronos")
        if settings["context_length"] < view.samples:
            raise UsageError(
                f"chronos: the model reads {settings['context_length']} samples, need "
                f"{view.samples} ({view.window_us * 1e-6:g} s at {view.rate_hz:g} Hz)"
            )
        self.model = FAMILIES[pipeline](deepcopy(dict(config.architecture)))
        tokens, self.width = self.model.tokens(view.samples), int(config.architecture["d_model"])
        if config.channels == "joined":
            self.width *= CHANNELS
        else:
            tokens *= CHANNELS
        self.contract = EncoderContract(
            preset=view, tokens=tokens, shortest=1, longest=settings["context_length"]
        )
        self.freeze()

    @classmethod
    def load(cls, path: Path, config: ChronosConfig | None = None) -> Self:
        """The encoder of a checkpoint folder (`config.json` and weights), on the CPU, in eval mode.

        Args:
            path: the folder, as the hub has it.
            config: its architecture is replaced by the checkpoint's; None = the defaults.

        Raises:
            CheckpointError: no Chronos checkpoint, or keys do not fit (all are listed).
            MissingDependency: chronos-forecasting is not installed.
        """
        encoder = cls(replace(config or ChronosConfig(), architecture=_architecture(path)))
        fill(encoder.model, path, encoder.model.keys)
        encoder.pretrained = True
        return encoder.freeze().eval()

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder stays in eval mode: T5 has dropout."""
        return super().train(mode and self.config.trainable)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, P, 6 d) or (B, 6 P, d) features of (B, 6, T)."""
        self.contract.require(inputs)
        vectors = self.model(inputs.flatten(0, 1)).unflatten(0, (-1, CHANNELS))  # (B, 6, P, d)
        if self.config.channels == "separate":
            return vectors.flatten(1, 2)
        return vectors.transpose(1, 2).flatten(2)


def _architecture(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint, private entries (paths of its authors) left out."""
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if "chronos_config" not in values:
            raise ValueError("no chronos_config in it")
    except (OSError, ValueError, TypeError) as exc:
        raise CheckpointError(
            f"{file}: not the config.json of a Chronos checkpoint ({exc}); give the folder that "
            "holds it and its weights"
        ) from exc
    return {key: value for key, value in values.items() if not key.startswith("_")}


ENCODER = Chronos
