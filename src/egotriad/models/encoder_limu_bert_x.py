"""LIMU-BERT-X: LIMU-BERT over 1 s, trained on 1.43 million hours of phones.

`imu (B, 20, 6), accel / 9.8 -> transformer -> (B, 20, 72)`

Homepage: https://github.com/WANDS-HKUST/LIMU-BERT_Experience (MIT, weights included:
`weights/limu_bert_x.pt`, 55,446 weights of which 44,352 encode). Paper: Xu et al., MobiCom 2025.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from egotriad.converters.imu_presets import preset
from egotriad.models.checkpoints import KeyMap
from egotriad.models.contract import EncoderContract
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.limu_bert import KEYS, WIDTH, LimuBertTransformer

__all__ = ["ENCODER", "LimuBertX", "LimuBertXConfig"]

POSITIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LimuBertXConfig:
    """Settings of LIMU-BERT-X.

    Attributes:
        trainable: whether training may change it.
    """

    trainable: bool = False


class LimuBertX(PublishedEncoder):
    """44,352 weights, one feature vector per sample."""

    Config: ClassVar[type] = LimuBertXConfig
    keys: ClassVar[KeyMap] = KEYS

    def __init__(self, config: LimuBertXConfig) -> None:
        super().__init__(config)
        self.width = WIDTH
        self.contract = EncoderContract(
            preset=preset("limu-bert-x"), tokens=POSITIONS, shortest=1, longest=POSITIONS
        )
        self.transformer = LimuBertTransformer(POSITIONS)
        self.freeze()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, 72) features of (B, T, 6)."""
        self.contract.require(inputs)
        return self.transformer(inputs)


ENCODER = LimuBertX
