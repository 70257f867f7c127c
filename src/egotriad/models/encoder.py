"""What an IMU encoder plug-in provides: `models/encoder_<name>.py` defines `ENCODER`.

`clip -> contract.prepare -> (B, 6, T) or (B, T, 6) -> encoder -> (B, K, d)`
"""

from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from egotriad.manifests.errors import UsageError
from egotriad.models.checkpoints import KeyMap, fill
from egotriad.models.contract import EncoderContract

__all__ = ["EncoderContract", "ImuEncoder", "PublishedEncoder"]


class ImuEncoder(Protocol):
    """An IMU window to K feature vectors of width d.

    Attributes:
        Config: frozen dataclass, constructible without arguments.
        config: its own. contract: the view it takes and the number of vectors it gives.
        width: d.
    """

    Config: ClassVar[type]
    config: Any
    contract: EncoderContract
    width: int

    def fit_normalisation(self, inputs: Tensor) -> None:
        """Learns from the training windows (N, ...) whatever it normalises by."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """(B, K, d) features of a batch of what `contract.prepare` gives."""


class PublishedEncoder(nn.Module):
    """An encoder that others have trained: `load` takes the file as they publish it.

    Subclasses set `contract` and `width`, build their modules, and end with `freeze()`.

    Attributes:
        Config: with a field `trainable`: whether training may change the encoder.
        keys: which keys of the file are whose.
        pretrained: whether the weights came from a file.
    """

    Config: ClassVar[type]
    keys: ClassVar[KeyMap]
    config: Any
    contract: EncoderContract
    width: int

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.pretrained = False

    @classmethod
    def load(cls, path: Path, config: Any = None) -> Self:
        """The encoder with the weights of a checkpoint of its authors, on the CPU, in eval mode.

        Args:
            path: the published file (or folder).
            config: an instance of `Config`; None = the defaults.

        Raises:
            CheckpointError: listing every key that is missing, unexpected or of another shape.
        """
        with torch.device("meta"):
            encoder = cls(cls.Config() if config is None else config)
        fill(encoder, path, cls.keys)
        encoder.pretrained = True
        return encoder.freeze().eval()

    def freeze(self) -> Self:
        """Takes the weights out of training unless the config says `trainable`."""
        return self.requires_grad_(self.config.trainable)

    def fit_normalisation(self, inputs: Tensor) -> None:
        """Nothing: normalisation is part of what was trained.

        Raises:
            UsageError: when the encoder is frozen and its weights are still random.
        """
        if not (self.pretrained or self.config.trainable):
            raise UsageError(
                f"{self.contract.preset.name}: frozen, but no weights were loaded, so its features "
                "would be random for good; load its checkpoint or set trainable"
            )
