"""What published IMU encoders were trained on, each as an exact view of a clip.

`PRESETS["imu2clip"](clip)` gives the float32 array that goes into that encoder. How the rate is
changed is part of a preset, because it is part of what the encoder has seen: where its authors
published code that averages blocks or calls torchaudio, that is what happens here (edges included),
else the anti-aliased filter of `egotriad.converters.imu`. A clip that is too short or has masked
samples in the window is rejected, never padded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.imu import view
from egotriad.converters.imu_modes import block_mean, sinc_hann
from egotriad.manifests import Clip, Imu
from egotriad.manifests.errors import ClipRejected, UsageError, located

__all__ = ["PRESETS", "ImuPreset", "limu_bert_windows", "preset"]

LIMU_BERT_GRAVITY = 9.8
"""What LIMU-BERT divides accelerations by (dapowan/LIMU-BERT-Public `utils.py`, `acc_norm`)."""
SENSORLLM_VARIANCE_FLOOR = 1e-8
"""Added to a channel's variance (zechenli03/SensorLLM `model/chronos_model/chronos_model.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImuPreset:
    """The input of one encoder: rows ax ay az (m/s^2 with gravity) gx gy gz (rad/s), then scaled.

    Attributes:
        name: what `preset` finds it by.
        rate_hz: sample rate.
        samples: T, samples in a window.
        layout: order of the axes of the array.
        mode: how the rate is changed: by the anti-aliased filter (`bandlimited`), or by counting
            samples as the authors did (`block_mean`, `torchaudio`; see
            `egotriad.converters.imu_modes`). A clip that has the rate already is taken as it is.
        scaling: `none`; `accel / 9.8`; or `z-score`: each channel minus its mean, divided by its
            deviation over the window.
        source: where the numbers come from, and what could not be confirmed there.
    """

    name: str
    rate_hz: float
    samples: int
    layout: Literal["(6, T)", "(T, 6)"] = "(6, T)"
    mode: Literal["bandlimited", "block_mean", "torchaudio"] = "bandlimited"
    scaling: Literal["none", "accel / 9.8", "z-score"] = "none"
    source: str

    @property
    def window_us(self) -> int:
        """Length of the window in microseconds."""
        return round(self.samples * 1e6 / self.rate_hz)

    def __call__(self, source: Clip | Imu, *, start_us: int | None = None) -> NDArray[np.float32]:
        """The encoder's input.

        Args:
            source: a clip, or its IMU.
            start_us: start of the window relative to the clip; None takes the clip's middle, which
                is where the narration is when windows are laid around narrations. Modes that count
                samples start at the sample before it.

        Returns:
            float32, (6, samples) or (samples, 6) as `layout` says.

        Raises:
            ClipRejected: `no-imu`; `imu-short`, when the clip is shorter than the window;
                `imu-gap`, when the window leaves the clip or samples inside it are masked.
            UsageError: when the mode cannot come from the clip's rate: block means go down only,
                torchaudio's filter knows whole numbers of Hz only.
        """
        if isinstance(source, Clip):
            with located(source.window_id):
                if source.imu is None:
                    raise ClipRejected("no-imu", f"has no IMU, {self.name} needs {self._need}")
                return self(source.imu, start_us=start_us)
        if start_us is None:
            start_us = self._middle_us(source)
        if self.mode == "bandlimited":
            window = view(
                source, rate_hz=self.rate_hz, start_us=start_us, duration_us=self.window_us
            )
        else:
            window = self._counted(source, start_us)
        window = _scaled(window, self.scaling)
        return np.ascontiguousarray(window.T if self.layout == "(T, 6)" else window)

    @property
    def _need(self) -> str:
        return f"{self.window_us / 1e6:g} s of it ({self.samples} samples at {self.rate_hz:g} Hz)"

    def _source_samples(self, imu: Imu) -> int:
        return round(self.window_us * 1e-6 * imu.rate_hz)

    def _middle_us(self, imu: Imu) -> int:
        """Start of the middle window, on a sample of the clip."""
        spare = imu.data.shape[1] - self._source_samples(imu)
        if spare < 0:
            raise ClipRejected(
                "imu-short",
                f"has {imu.data.shape[1] / imu.rate_hz:.3f} s of IMU, {self.name} needs "
                f"{self._need}; build with --window-seconds {self.window_us / 1e6:g} or longer",
            )
        return round(spare // 2 * 1e6 / imu.rate_hz)

    def _counted(self, imu: Imu, start_us: int) -> NDArray[np.float32]:
        """The window (6, samples) from the clip's samples inside it and no others."""
        inside = self._inside(imu, start_us)
        if imu.rate_hz == self.rate_hz:
            return inside
        if self.mode == "block_mean":
            # Theirs leaves the last block out unless a sample follows it.
            values = np.pad(inside.astype(np.float64), ((0, 0), (0, 1)))
            window = block_mean(values, source_hz=imu.rate_hz, rate_hz=self.rate_hz)
        else:
            if imu.rate_hz != int(imu.rate_hz):
                raise UsageError(
                    f"{self.name}: got a clip at {imu.rate_hz} Hz, need a whole number of Hz for "
                    "torchaudio's filter; build with --imu-rate-hz 200"
                )
            values = inside.astype(np.float64)
            window = sinc_hann(values, source_hz=int(imu.rate_hz), rate_hz=int(self.rate_hz))
        return window[:, : self.samples].astype(np.float32)

    def _inside(self, imu: Imu, start_us: int) -> NDArray[np.float32]:
        """The clip's own samples inside the window, all valid."""
        # Half a microsecond: sample times are rounded to whole ones.
        first = math.floor((start_us + 0.5) * 1e-6 * imu.rate_hz)
        stop = first + self._source_samples(imu)
        if first < 0 or stop > imu.data.shape[1]:
            raise ClipRejected(
                "imu-gap",
                f"{self.name} needs samples {first} to {stop} of the clip's IMU, which has "
                f"{imu.data.shape[1]}; ask for a window inside the clip",
            )
        missing = int((~imu.valid[first:stop]).sum())
        if missing:
            raise ClipRejected(
                "imu-gap",
                f"{missing} of {stop - first} IMU samples for {self.name} are masked, need none; "
                "choose another window",
            )
        return imu.data[:, first:stop].copy()


def limu_bert_windows(values: NDArray[np.float64], *, source_hz: float) -> NDArray[np.float32]:
    """The windows that LIMU-BERT's scripts cut out of one labelled stretch of a recording.

    Block means at 20 Hz, cut into whole windows of 120 from the start; the rest is dropped, and so
    is a stretch of exactly 120. Not yet divided by 9.8, as in their `data_20_120.npy`. (dapowan/
    LIMU-BERT-Public `dataset/uci.py`; a label's first row counts from 0 there, so that UCI's labels
    begin one row late.)

    Args:
        values: float64 (6, N), rows ax ay az (m/s^2) gx gy gz (rad/s), evenly spaced.
        source_hz: nominal rate of the recording.

    Returns:
        float32 (W, 120, 6), W >= 0.

    Raises:
        UsageError: a source rate below 20 Hz.
    """
    contract = PRESETS["limu-bert"]
    means = block_mean(values, source_hz=source_hz, rate_hz=contract.rate_hz)
    count = means.shape[1] // contract.samples if means.shape[1] > contract.samples else 0
    kept = means[:, : count * contract.samples].astype(np.float32)
    return np.ascontiguousarray(kept.T).reshape(count, contract.samples, 6)


def _scaled(window: NDArray[np.float32], scaling: str) -> NDArray[np.float32]:
    """The window (6, T), scaled."""
    if scaling == "accel / 9.8":
        divisor = np.repeat([LIMU_BERT_GRAVITY, 1.0], 3)[:, None]
        return (window / divisor).astype(np.float32)
    if scaling == "z-score":
        centred = window - window.mean(axis=1, keepdims=True, dtype=np.float64)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        return (centred / np.sqrt(variance + SENSORLLM_VARIANCE_FLOOR)).astype(np.float32)
    return window


_ALL = (
    ImuPreset(
        name="limu-bert",
        rate_hz=20.0,
        samples=120,
        layout="(T, 6)",
        mode="block_mean",
        scaling="accel / 9.8",
        source="Xu et al., SenSys 2021; dapowan/LIMU-BERT-Public dataset/uci.py (block means), "
        "utils.py Preprocess4Normalization; LLaSA reads the same windows",
    ),
    ImuPreset(
        name="limu-bert-x",
        rate_hz=20.0,
        samples=20,
        layout="(T, 6)",
        mode="block_mean",
        scaling="accel / 9.8",
        source="Xu et al., MobiCom 2025; WANDS-HKUST/LIMU-BERT_Experience README.md (length 20); "
        "that its data were made with block means is not confirmed there",
    ),
    ImuPreset(
        name="primus",
        rate_hz=50.0,
        samples=250,
        mode="torchaudio",
        source="Nokia-Bell-Labs/pretrained-imu-encoders dataset/egoexo4d/utils/utils.py "
        "get_imu_frames, resampleIMU (each window resampled alone)",
    ),
    ImuPreset(
        name="imu2clip",
        rate_hz=200.0,
        samples=1000,
        mode="torchaudio",
        source="Moon et al., 2022; facebookresearch/imu2clip dataset/ego4d/utils/utils.py "
        "get_imu_frames, resampleIMU",
    ),
    ImuPreset(
        name="imagebind",
        rate_hz=400.0,
        samples=2000,
        source="Girdhar et al., CVPR 2023; facebookresearch/ImageBind imagebind/models/"
        "imagebind_model.py (6 x 2000); no loader was published: that the 2000 samples are 5 s at "
        "400 Hz, accelerometer first, is not confirmed there",
    ),
    ImuPreset(
        name="onellm",
        rate_hz=200.0,
        samples=400,
        mode="torchaudio",
        source="Han et al., CVPR 2024; csuhan/OneLLM data/imu_utils.py get_imu_frames, "
        "model/LLM/onellm.py (6 x 400)",
    ),
    ImuPreset(
        name="chronos",
        rate_hz=100.0,
        samples=200,
        scaling="z-score",
        source="zechenli03/SensorLLM sensorllm/model/ts_backbone.yaml (USC-HAD, 100 Hz), "
        "sensorllm/data/stage1_dataset.py (6 x 200), model/chronos_model/chronos_model.py "
        "StanNormalizeUniformBins; Chronos itself takes any rate and up to 512 samples",
    ),
)

PRESETS: Mapping[str, ImuPreset] = MappingProxyType({each.name: each for each in _ALL})
"""Every preset by name."""


def preset(name: str) -> ImuPreset:
    """The preset of that name.

    Raises:
        UsageError: when there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"IMU preset: got {name!r}, need one of {', '.join(PRESETS)}")
    return PRESETS[name]
