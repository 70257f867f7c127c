"""What an IMU encoder plug-in provides: `models/encoder_<name>.py` defines `ENCODER`.

`imu (B, 6, T), SI units, rows ax ay az gx gy gz -> (B, K, d)`
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

__all__ = ["EncoderContract", "ImuEncoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderContract:
    """The IMU view an encoder wants: m/s^2 with gravity and rad/s, at its own rate and length."""

    rate_hz: float
    window_s: float

    @property
    def samples(self) -> int:
        """T, samples per window."""
        return round(self.rate_hz * self.window_s)

    @property
    def window_us(self) -> int:
        """Length of the window in microseconds."""
        return round(self.window_s * 1e6)


class ImuEncoder(Protocol):
    """An IMU window to K feature vectors of width d.

    Attributes:
        Config: frozen dataclass, constructible without arguments.
        contract: the view it takes. width: d.
    """

    Config: ClassVar[type]
    contract: EncoderContract
    width: int

    def fit_normalisation(self, imu: Tensor) -> None:
        """Learns from the training windows (N, 6, T) whatever it normalises by."""

    def __call__(self, imu: Tensor) -> Tensor:
        """(B, K, d) features of (B, 6, T)."""
