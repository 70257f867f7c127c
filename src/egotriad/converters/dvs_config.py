"""Parameters of the event emulator, under v2e's names."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import short_hash

__all__ = ["MIN_THRESHOLD_LOG", "PRESETS", "DvsConfig", "check_thresholds", "sim_id"]

MIN_THRESHOLD_LOG = 0.001
"""Smallest contrast threshold; black to white is then 5541 events of one pixel."""

# v2ecore/emulator.py, set_dvs_params; v2ecore/v2e_args.py.
PRESETS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "clean": {"sigma_thres": 0.02},
    "noisy": {
        "sigma_thres": 0.05,
        "cutoff_hz": 30.0,
        "leak_rate_hz": 0.1,
        "leak_jitter_fraction": 0.1,
        "noise_rate_cov_decades": 0.1,
        "shot_noise_rate_hz": 5.0,
    },
    "v2e-defaults": {
        "sigma_thres": 0.03,
        "cutoff_hz": 300.0,
        "leak_rate_hz": 0.01,
        "leak_jitter_fraction": 0.1,
        "noise_rate_cov_decades": 0.1,
        "shot_noise_rate_hz": 0.001,
        "refractory_period_s": 0.0005,
    },
}
"""Named parameter sets: no imperfection, v2e's `clean` and `noisy`, and its command line's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DvsConfig:
    """Parameters of the pixel model.

    Attributes:
        pos_thres: contrast threshold of ON events, natural log units (v2e: 0.2).
        neg_thres: contrast threshold of OFF events, natural log units (v2e: 0.2).
        sigma_thres: standard deviation of the thresholds from pixel to pixel, log units.
        cutoff_hz: corner frequency of the photoreceptor's low pass in white; it falls with
            intensity, to 7 % of that in black. 0: no low pass.
        leak_rate_hz: ON events per second of a pixel in unchanging light. 0: none.
        leak_jitter_fraction: standard deviation of the time between leak events over its mean, 0
            for a clockwork to 1 for a Poisson process.
        noise_rate_cov_decades: standard deviation of log10 of the leak rate from pixel to pixel.
        shot_noise_rate_hz: noise events per second of a black pixel, ON and OFF together; white
            pixels have a quarter of it. 0: none.
        refractory_period_s: dead time of a pixel after an event.
        photoreceptor_noise: make the shot noise by noise on the photoreceptor's signal, through
            the low pass, instead of by events out of nothing. Needs `cutoff_hz` and
            `shot_noise_rate_hz`.
        cs_lambda_pixels: length constant of the surround of a centre-surround pixel (CSDVS,
            arXiv 2202.13076). None: no surround.
        cs_tau_p_ms: its time constant, milliseconds; 0 follows at once.
        scidvs: pixel of SCIDVS: an amplified high pass instead of the photoreceptor's signal.
        timing: when events happen: at their own threshold `crossing`, or on v2e's `slots`.
        compat: `v2e` repeats v2e where it is known to be off; needs `timing="slots"`.
        hdr: frames are float32 natural-log intensity (white 255 = ln 255) instead of 8-bit luma.
    """

    pos_thres: float = 0.2
    neg_thres: float = 0.2
    sigma_thres: float = 0.0
    cutoff_hz: float = 0.0
    leak_rate_hz: float = 0.0
    leak_jitter_fraction: float = 0.0
    noise_rate_cov_decades: float = 0.0
    shot_noise_rate_hz: float = 0.0
    refractory_period_s: float = 0.0
    photoreceptor_noise: bool = False
    cs_lambda_pixels: float | None = None
    cs_tau_p_ms: float = 0.0
    scidvs: bool = False
    timing: Literal["crossing", "slots"] = "crossing"
    compat: Literal["none", "v2e"] = "none"
    hdr: bool = False

    def __post_init__(self) -> None:
        for name in ("pos_thres", "neg_thres"):
            check_thresholds(name, np.asarray(getattr(self, name), np.float64))
        for name in (
            "sigma_thres",
            "cutoff_hz",
            "leak_rate_hz",
            "leak_jitter_fraction",
            "noise_rate_cov_decades",
            "shot_noise_rate_hz",
            "refractory_period_s",
            "cs_tau_p_ms",
        ):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name}: got {value}, need a finite number, zero or more")
        if self.leak_jitter_fraction > 1:
            raise UsageError(
                f"leak_jitter_fraction: got {self.leak_jitter_fraction}, need 0 to 1; 1 is a "
                "Poisson process"
            )
        if self.cs_lambda_pixels is not None and not 0 < self.cs_lambda_pixels < float("inf"):
            raise UsageError(f"cs_lambda_pixels: got {self.cs_lambda_pixels}, need more than zero")
        for name, known in (("timing", ("crossing", "slots")), ("compat", ("none", "v2e"))):
            if getattr(self, name) not in known:
                raise UsageError(f"{name}: got {getattr(self, name)!r}, need {' or '.join(known)}")
        if self.compat == "v2e" and self.timing != "slots":
            raise UsageError(
                f"compat: got 'v2e' with timing {self.timing!r}, need timing 'slots', the only one "
                "that v2e has"
            )
        if self.photoreceptor_noise and not (self.cutoff_hz > 0 and self.shot_noise_rate_hz > 0):
            raise UsageError(
                f"photoreceptor_noise: got cutoff_hz {self.cutoff_hz} and shot_noise_rate_hz "
                f"{self.shot_noise_rate_hz}, need both above zero"
            )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "DvsConfig":
        """Parameters by name (see `PRESETS`), some of them changed.

        Raises:
            UsageError: when there is no such preset, or a value is unusable.
        """
        if name not in PRESETS:
            raise UsageError(f"preset: got {name!r}, need one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    @property
    def moves_only(self) -> bool:
        """Whether nothing but a change of the picture can make an event, and at once."""
        return not (
            self.cutoff_hz
            or self.leak_rate_hz
            or self.shot_noise_rate_hz
            or self.refractory_period_s
            or self.cs_lambda_pixels
            or self.scidvs
            or self.hdr
        )

    @property
    def shapes_signal(self) -> bool:
        """Whether the signal is more than a low pass of a pixel's own log intensity."""
        return bool(self.photoreceptor_noise or self.cs_lambda_pixels or self.scidvs)


def sim_id(config: DvsConfig) -> str:
    """16 hex digits that name the parameters; equal for equal parameters, on any machine."""
    return short_hash({"simulator": "dvs", **asdict(config)})


def check_thresholds(name: str, values: NDArray[np.floating]) -> None:
    """Raises UsageError when a threshold is too small or no number."""
    if not (np.isfinite(values) & (values >= MIN_THRESHOLD_LOG)).all():
        raise UsageError(
            f"{name}: got values from {values.min():g} to {values.max():g}, need "
            f"{MIN_THRESHOLD_LOG} or more (natural log units)"
        )
