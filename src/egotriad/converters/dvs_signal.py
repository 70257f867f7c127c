"""From luma to the signal that a pixel's change detector sees, at the times of the frames.

The lin-log curve, the low pass, and the three stages that are seldom used: noise on the
photoreceptor, the centre-surround pixel, the high-pass pixel. Between two frames log intensity is a
straight line; every stage is integrated exactly over it, whatever the frame rate.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from egotriad.converters.counter_rng import fill_normals, key_of, mix, normal_quantiles
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_levels import LOOKUP_PER_LOG, Tables
from egotriad.converters.dvs_noise import log_normal_map

__all__ = [
    "SCIDVS_TAU_S",
    "SCIDVS_TAU_SPREAD",
    "Signal",
    "low_pass_tables",
    "relative_noise",
    "tables",
    "time_constant_us",
]

_LINEAR_UP_TO = 20  # of 255: v2ecore/emulator_utils.py, lin_log
_DARK, _WHITE = (
    20.0,
    275.0,
)  # the low pass's intensity is (level + 20) / 275: rescale_intensity_frame
# v2ecore/emulator.py, SCIDVS_*; the spread is that of the natural log.
SCIDVS_GAIN, SCIDVS_TAU_S, SCIDVS_TAU_SPREAD, SCIDVS_STEEPNESS = 2.0, 0.01, 0.5, 0.7

# Events of a pixel by noise, natural log: per time 1 / cutoff, and per frame. Cubics in threshold
# over RMS of the noise, from a simulation: see relative_noise.
_LOG_RATE_ALWAYS = (-0.0241, 0.2415, -1.9876, 3.8382)
_LOG_RATE_AT_FRAMES = (-0.0077, 0.0384, -1.5132, 0.9440)


@cache
def tables() -> Tables:
    """The lin-log curve of 8-bit luma: v2ecore/emulator_utils.py, lin_log (rounded to 1e-8)."""
    level = np.arange(256, dtype=np.float64)
    slope = np.log(_LINEAR_UP_TO) / _LINEAR_UP_TO
    log = np.where(level <= _LINEAR_UP_TO, level * slope, np.log(np.maximum(level, 1.0)))
    log_of_level = (np.round(log * 1e8) / 1e8).astype(np.float32)
    grid = np.arange(int(log_of_level[-1] * LOOKUP_PER_LOG) + 2) / LOOKUP_PER_LOG
    level_of_log = np.searchsorted(log_of_level, grid, side="right") - 1
    log_of_level = np.append(log_of_level, np.float32(np.inf))
    return Tables(log_of_level=log_of_level, level_of_log=level_of_log.astype(np.uint8))


def time_constant_us(cutoff_hz: float) -> NDArray[np.float64]:
    """Time constant of the low pass at each level, (256,), microseconds."""
    white_us = 1e6 / (2 * np.pi * cutoff_hz)
    return white_us * _WHITE / (np.arange(256, dtype=np.float64) + _DARK)


def low_pass_tables(
    cutoff_hz: float, intervals_us: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How a first-order low pass answers a ramp, for each interval and level, float32 (n, 256).

    With lag = filtered minus input: lag after = decay · lag before - follow · rise of the input.
    """
    distinct, which = np.unique(intervals_us, return_inverse=True)
    x = distinct[:, None] / time_constant_us(cutoff_hz)
    decay, follow = np.exp(-x), -np.expm1(-x) / x
    return decay.astype(np.float32)[which], follow.astype(np.float32)[which]


def relative_noise(rate_hz: float, cutoff_hz: float, interval_us: float) -> float:
    """RMS of the photoreceptor's noise over the threshold, to get `rate_hz` events per pixel.

    The noise is white through a first-order low pass at `cutoff_hz`, and known every `interval_us`
    with straight lines between. The time between events is near the sum of what it is for noise
    known at all times and for noise known at frames so far apart that it is independent there.
    Both, and with them their sum, are fitted to a simulation of single pixels: thresholds of 1.2 to
    7 RMS, 0.03 to 30 time constants between frames, references anywhere in a threshold. Fitted and
    simulated rates differ by 4 % RMS, and by 9 % at most for rates of 0.0005 to 0.5 `cutoff_hz`.

    That holds for pixels whose two thresholds are equal and whose reference moves by whole
    thresholds. With unequal thresholds (mismatch) or a dead time, a pixel in unchanging light finds
    a reference that its noise seldom leaves, and keeps it until leak or motion takes it away:
    there are fewer events, half as many with a mismatch of a tenth of the threshold.

    v2e's curve (v2ecore/emulator_utils.py, compute_photoreceptor_noise_voltage; after Graça and
    Delbruck, arXiv 2109.08640, figure 3) gives half of the rate asked for or less, because v2e's
    references begin at rest, and nothing at low frame rates.

    Args:
        rate_hz: events per second, ON and OFF together. Noise is never above the threshold, which
            limits it to an event in two or three frames.
        cutoff_hz: corner frequency of the low pass.
        interval_us: time between frames.
    """
    per_rms = np.linspace(1, 12, 221)
    always_s = 1 / (cutoff_hz * np.exp(np.polyval(_LOG_RATE_ALWAYS, per_rms)))
    at_frames_s = 1e-6 * interval_us / np.exp(np.polyval(_LOG_RATE_AT_FRAMES, per_rms))
    falling_hz = 1 / (always_s + at_frames_s)
    return float(1 / np.interp(rate_hz, falling_hz[::-1], per_rms[::-1]))


class Signal:
    """The signal of a pixel array with the seldom used stages, frame after frame.

    Args:
        config: parameters.
        log: float32 (H, W), log intensity of the first frame.
        seed: of the noise.
        recording: name of the recording.

    Attributes:
        value: float32 (H, W), the signal at the last frame.
        noise: float32 (H, W), the photoreceptor's noise in it; None without.
    """

    def __init__(
        self, config: DvsConfig, log: NDArray[np.float32], *, seed: int, recording: str
    ) -> None:
        self._config = config
        self._log, self._lag = log.copy(), np.zeros_like(log)
        self._noise_key = key_of(seed, recording, "photoreceptor noise")
        self._rms: dict[float, float] = {}
        self.noise: NDArray[np.float32] | None = None
        if config.photoreceptor_noise:
            self._unit_noise = self._normals(0)
            self.noise = self._scaled_noise(0.0)
        if config.cs_lambda_pixels is not None:
            self._gain = 1 / (1 + config.cs_lambda_pixels**2 * _laplacian(log.shape))
            self._centre = dctn(log, norm="ortho")
            self._surround = self._gain * self._centre
        if config.scidvs:
            spread = log_normal_map(
                SCIDVS_TAU_SPREAD / np.log(10),
                log.size,
                seed=seed,
                recording=recording,
                purpose="scidvs",
            )
            self._tau_us = SCIDVS_TAU_S * 1e6 * spread.reshape(log.shape)
            self._high_pass = np.zeros_like(log)
        self.value = self._detected(log)

    def advance(
        self,
        log: NDArray[np.float32],
        levels: NDArray[np.uint8],
        interval_us: float,
        number: int,
    ) -> NDArray[np.float32]:
        """The signal at the next frame, float32 (H, W).

        Args:
            log: float32 (H, W), log intensity.
            levels: uint8 (H, W), luma.
            interval_us: time since the frame before.
            number: index of the frame in the recording.
        """
        filtered_before = self._log + self._lag
        rise = log - self._log
        self._log, self._lag = log.copy(), np.zeros_like(log)
        if self._config.cutoff_hz:
            decay, follow = low_pass_tables(self._config.cutoff_hz, np.array([interval_us]))
            lag = filtered_before - (log - rise)
            self._lag = decay[0][levels] * lag - follow[0][levels] * rise
        filtered = self._log + self._lag
        if self._config.photoreceptor_noise:
            x = 2 * np.pi * self._config.cutoff_hz * interval_us * 1e-6
            kept, new = np.float32(np.exp(-x)), np.float32(np.sqrt(-np.expm1(-2 * x)))
            self._unit_noise = kept * self._unit_noise + new * self._normals(number)
            self.noise = self._scaled_noise(interval_us)
        if self._config.cs_lambda_pixels is not None:
            self._spread(filtered, interval_us)
        if self._config.scidvs:
            rise, times = filtered - filtered_before, interval_us / self._tau_us
            self._high_pass = _sinh_high_pass(self._high_pass, rise, times)
        self.value = self._detected(filtered)
        return self.value

    def _detected(self, filtered: NDArray[np.float32]) -> NDArray[np.float32]:
        value = SCIDVS_GAIN * self._high_pass if self._config.scidvs else filtered
        if self.noise is not None:
            value = value + self.noise
        if self._config.cs_lambda_pixels is not None:
            value = value - idctn(self._surround, norm="ortho")
        return np.asarray(value, np.float32)

    def _normals(self, number: int) -> NDArray[np.float32]:
        out = np.empty(self._log.size, np.float32)
        # Compiled code returns a Python integer, and takes none of 64 bits after a smaller one.
        key = np.uint64(mix(self._noise_key, number))
        fill_normals(key, normal_quantiles(), out)
        return out.reshape(self._log.shape)

    def _scaled_noise(self, interval_us: float) -> NDArray[np.float32]:
        if interval_us not in self._rms:
            config = self._config
            threshold = (config.pos_thres + config.neg_thres) / 2
            rms = threshold * relative_noise(
                config.shot_noise_rate_hz, config.cutoff_hz, interval_us
            )
            self._rms = {interval_us: rms}
        return np.float32(self._rms[interval_us]) * self._unit_noise

    def _spread(self, filtered: NDArray[np.float32], interval_us: float) -> None:
        """The surround diffuses: in the cosine transform each wave relaxes by itself, exactly."""
        tau_us = max(self._config.cs_tau_p_ms * 1e3, 1e-3)
        x = interval_us / (tau_us * self._gain)
        centre = dctn(filtered, norm="ortho")
        target, rise = self._gain * centre, self._gain * (centre - self._centre)
        lag = self._surround - (target - rise)
        self._surround = target + np.exp(-x) * lag + np.expm1(-x) / x * rise
        self._centre = centre


def _laplacian(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Eigenvalues of minus the 4-neighbour Laplacian with reflecting borders."""
    y, x = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in shape)
    return y[:, None] + x[None, :]


def _sinh_high_pass(
    value: NDArray[np.float32], rise: NDArray[np.float32], times: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Solution of dv/dt = rise / times - sinh(0.7 v) at `times`, the interval in time constants.

    In closed form: with the steady state s = asinh(rise / times), y = 0.7 v and
    q = sinh((y - s) / 2) / cosh((y + s) / 2), q decays exponentially at the rate 0.7 cosh(s).
    """
    slope = rise.astype(np.float64) / times
    steady = np.tanh(np.arcsinh(slope) / 2)
    half = np.tanh(SCIDVS_STEEPNESS / 2 * value.astype(np.float64))
    decay = np.exp(-SCIDVS_STEEPNESS * np.sqrt(1 + slope**2) * times)
    rest = (half - steady) / (1 + half * steady) * decay
    half = (rest + steady) / (1 - rest * steady)
    return (2 / SCIDVS_STEEPNESS * np.arctanh(half)).astype(np.float32)
