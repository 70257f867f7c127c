"""LIMU-BERT: masked-reconstruction transformer over 6 s of a phone's IMU; LLaSA's sensor tower.

`imu (B, 120, 6), accel / 9.8 -> transformer -> (B, 120, 72)`

Homepage: https://github.com/dapowan/LIMU-BERT-Public (MIT, weights included:
`saved/pretrain_base_{hhar,motion,shoaib,uci}_20_120/*.pt`, 62,646 weights of which 51,552 encode).
Paper: Xu et al., LIMU-BERT: Unleashing the Potential of Unlabeled Data for IMU Sensing
Applications, SenSys 2021.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from egotriad.converters.imu_presets import preset
from egotriad.manifests.errors import UsageError
from egotriad.models.checkpoints import KeyMap
from egotriad.models.contract import EncoderContract
from egotriad.models.encoder import PublishedEncoder
from egotriad.models.limu_bert import KEYS, WIDTH, LimuBertTransformer

__all__ = ["ENCODER", "LimuBert", "LimuBertConfig"]

POSITIONS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class LimuBertConfig:
    """Settings of LIMU-BERT.

    Attributes:
        samples: length of the window at 20 Hz; it was trained on 120 and takes fewer.
        trainable: whether training may change it.
    """

    samples: int = POSITIONS
    trainable: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= POSITIONS:
            raise UsageError(f"samples: got {self.samples}, LIMU-BERT has positions for 1 to 120")


class LimuBert(PublishedEncoder):
    """51,552 weights, one feature vector per sample."""

    Config: ClassVar[type] = LimuBertConfig
    keys: ClassVar[KeyMap] = KEYS

    def __init__(self, config: LimuBertConfig) -> None:
        super().__init__(config)
        self.width = WIDTH
        self.contract = EncoderContract(
            preset=replace(preset("limu-bert"), samples=config.samples),
            tokens=config.samples,
            shortest=1,
            longest=POSITIONS,
        )
        self.transformer = LimuBertTransformer(POSITIONS)
        self.freeze()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, 72) features of (B, T, 6)."""
        self.contract.require(inputs)
        return self.transformer(inputs)


ENCODER = LimuBert
