"""The encoders inside the three Chronos families, through `chronos-forecasting`.

`series (N, T) -> (N, P, d)`: T5 gives a vector per sample and one for the end, Bolt one per 16
samples and a register, Chronos-2 one per patch, a register and one for the future. In Chronos-2 six
series in a row are one IMU and see each other.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from egotriad.manifests.errors import MissingDependency
from egotriad.models.checkpoints import KeyMap

__all__ = ["CHANNELS", "FAMILIES", "Family"]

CHANNELS = 6
PATCHED_KEYS = KeyMap(
    take=(
        ("shared.", "model.shared."),
        ("input_patch_embedding.", "model.input_patch_embedding."),
        ("encoder.", "model.encoder."),
    ),
    ignore=("encoder.embed_tokens.", "decoder.", "output_patch_embedding.", "lm_head."),
)


def library() -> Any:
    """The `chronos` package.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import chronos
    except ImportError as exc:
        raise MissingDependency(
            "Chronos encoders need the package chronos-forecasting: pip install 'egotriad[chronos]'"
        ) from exc
    return chronos


class Family(nn.Module):
    """One family: what it keeps of the checkpoint, and how it reads series."""

    keys: ClassVar[KeyMap]

    def tokens(self, samples: int) -> int:
        """P, vectors per series."""
        raise NotImplementedError


class T5Family(Family):
    """Chronos (T5): series are scaled by their mean absolute value and binned into 4,093 ids."""

    keys: ClassVar[KeyMap] = KeyMap(
        take=(("shared.", "model.embed_tokens."), ("encoder.", "model.")),
        ignore=("encoder.embed_tokens.", "decoder.", "lm_head."),
    )

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.tokenizer = (
            library().ChronosConfig(**architecture["chronos_config"]).create_tokenizer()
        )
        self.model = T5EncoderModel(T5Config(**architecture)).encoder

    def tokens(self, samples: int) -> int:
        return samples + int(self.tokenizer.config.use_eos_token)

    def forward(self, series: Tensor) -> Tensor:
        ids, mask, _ = self.tokenizer.context_input_transform(series.detach().cpu())
        device = series.device
        return self.model(
            input_ids=ids.to(device), attention_mask=mask.to(device)
        ).last_hidden_state


class BoltFamily(Family):
    """Chronos-Bolt: patches of the z-scored series."""

    keys: ClassVar[KeyMap] = PATCHED_KEYS

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        bolt = library().chronos_bolt
        self.model = bolt.ChronosBoltModelForForecasting(T5Config(**architecture))
        del self.model.decoder, self.model.output_patch_embedding
        self.model.encoder.embed_tokens = None  # patches are embedded, no ids

    def tokens(self, samples: int) -> int:
        config = self.model.chronos_config
        return -(-samples // config.input_patch_size) + int(config.use_reg_token)

    def forward(self, series: Tensor) -> Tensor:
        return self.model.encode(series)[0]


class Chronos2Family(Family):
    """Chronos-2: patches; in every other step the series of a group see each other."""

    keys: ClassVar[KeyMap] = PATCHED_KEYS

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        two = library().chronos2
        self.model = two.Chronos2Model(two.Chronos2CoreConfig(**architecture))
        del self.model.output_patch_embedding

    def tokens(self, samples: int) -> int:
        config = self.model.chronos_config
        return -(-samples // config.input_patch_size) + int(config.use_reg_token) + 1

    def forward(self, series: Tensor) -> Tensor:
        groups = torch.arange(len(series), device=series.device) // CHANNELS
        return self.model.encode(series, group_ids=groups)[0].last_hidden_state


FAMILIES: Mapping[str, Callable[[Mapping[str, Any]], Family]] = {
    "ChronosPipeline": T5Family,
    "ChronosBoltPipeline": BoltFamily,
    "Chronos2Pipeline": Chronos2Family,
}
"""By the `chronos_pipeline_class` of a checkpoint's `config.json`."""
