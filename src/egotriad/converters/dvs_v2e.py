"""v2e's emulator step by step, with the order of its operations, its precision and its defects.

After SensorsINI/v2e, commit cac6384, v2ecore/emulator.py, generate_events. With the maps that v2e
drew, the deterministic part gives v2e's events exactly. Random numbers are our own, of the same
distributions. Kept because v2e has them: the clock that starts at zero, the Euler steps of the low
pass and their clamp, refractory periods that only count in frames with few events, leak jitter that
averages out, shot noise 5 % below the rate asked for, photoreceptor noise that depends on the frame
rate, the first burst of SCIDVS.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.compiled import Float as Number
from egotriad.converters.compiled import compiled
from egotriad.converters.counter_rng import (
    fill_normals,
    key_of,
    mix,
    normal_quantiles,
    uniforms,
)
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_noise import SHOT_NOISE_DARKNESS, log_normal_map
from egotriad.converters.dvs_signal import SCIDVS_TAU_S, SCIDVS_TAU_SPREAD, tables
from egotriad.manifests.errors import UsageError

__all__ = ["V2e"]

Float: TypeAlias = NDArray[Any]
_FEWEST_CHANGES = 1e-5  # CSDVS: MAX_CHANGE_TO_TERMINATE_EULER_SURROUND_STEPPING
_DRAWS = 300  # of thresholds, for the photoreceptor's noise


@dataclass
class V2e:
    """State of v2e's emulator.

    Attributes:
        config: parameters.
        pos: float32 (H, W), ON thresholds, or the one number.
        neg: OFF thresholds likewise.
        leak_rates: float32 (H, W), factor on the leak rate.
        tau_s: float32 (H, W), time constants of SCIDVS.
        seed: of the noise.
        recording: name of the recording.
    """

    config: DvsConfig
    pos: Float | float
    neg: Float | float
    leak_rates: Float
    tau_s: Float | None = None
    seed: int = 0
    recording: str = ""
    previous_s: float = 0.0
    base: Float | None = None
    filtered: Float = field(default_factory=lambda: np.empty(0))
    surround: Float | None = None
    high_pass: Float | None = None
    photo_before: Float | None = None
    spiked_s: Float | None = None
    noise: Float | float = 0.0
    noise_rms: float | None = None
    noise_rate_hz: float = 0.0
    number: int = 0

    def step(self, frame: Float, time_s: float) -> tuple[Float, Float]:
        """Events of the next frame.

        Args:
            frame: uint8 (H, W) luma; with `hdr` float32 log intensity.
            time_s: its time, seconds.

        Returns:
            Their times, float64 seconds, and addresses, int64 (y << 16 | x << 1 | p), by time and
            by address within one time.
        """
        step_s = time_s - self.previous_s
        log = frame.astype(np.float64) if self.config.hdr else tables().log_of_level[frame]
        bright = (frame.astype(np.float64) + 20) / 275
        first = self.base is None
        self._low_pass(log, bright, step_s)
        if first:
            self._start(frame.shape)
            return np.empty(0), np.empty(0, np.int64)
        self.number += 1
        if self.config.photoreceptor_noise:
            self._photoreceptor_noise(step_s)
        if self.config.cs_lambda_pixels is not None:
            self._diffuse(step_s)
        signal = self._scidvs(step_s) if self.config.scidvs else self.filtered
        if self.config.leak_rate_hz:
            self._leak(step_s)
        signal = signal + self.noise
        if self.surround is not None:
            signal = signal - self.surround
        events = self._detect(signal, time_s, step_s)
        if self.config.shot_noise_rate_hz and not self.config.photoreceptor_noise:
            events = self._shot_noise(bright, time_s, step_s, *events)
        self.previous_s = time_s
        return events

    def _normals(self, purpose: str, shape: tuple[int, ...]) -> Float:
        out = np.empty(int(np.prod(shape)), np.float32)
        fill_normals(self._key(purpose), normal_quantiles(), out)
        return out.reshape(shape)

    def _key(self, purpose: str) -> np.uint64:
        # Compiled code returns a Python integer, and takes none of 64 bits after a smaller one.
        return np.uint64(mix(key_of(self.seed, self.recording, purpose), self.number))

    def _low_pass(self, log: Float, bright: Float, step_s: float) -> None:
        if self.base is None:
            self.filtered = log
        if self.config.cutoff_hz:
            tau_s = 1 / (np.pi * 2 * self.config.cutoff_hz)
            share = np.minimum(bright * (step_s / tau_s), 1.0)
            self.filtered = (1 - share) * self.filtered + share * log
        else:
            self.filtered = log

    def _start(self, shape: tuple[int, ...]) -> None:
        base = self.filtered
        if self.config.cs_lambda_pixels is not None:
            self.surround = self.filtered.copy()
            base = base - self.surround
        if self.config.scidvs and self.tau_s is None:
            spread = log_normal_map(
                SCIDVS_TAU_SPREAD / np.log(10),
                base.size,
                seed=self.seed,
                recording=self.recording,
                purpose="scidvs",
            )
            self.tau_s = (SCIDVS_TAU_S * spread).astype(np.float32).reshape(shape)
        self.base = base
        self.spiked_s = np.full(shape, -self.config.refractory_period_s, np.float32)
        self.noise = np.zeros(shape, np.float32) if self.config.photoreceptor_noise else 0.0

    def _photoreceptor_noise(self, step_s: float) -> None:
        rate_hz = 1 / step_s
        if self.noise_rms is None or abs(rate_hz / self.noise_rate_hz - 1) >= 0.1:
            self.noise_rms, self.noise_rate_hz = self._noise_before_filter(step_s), rate_hz
        share = step_s * 2 * np.pi * self.config.cutoff_hz
        new = self.noise_rms * self._normals("photoreceptor noise", np.shape(self.noise))
        self.noise = (1 - share) * self.noise + share * new

    def _noise_before_filter(self, step_s: float) -> float:
        """Amplitude of the white noise: compute_photoreceptor_noise_voltage."""
        config = self.config
        x = np.log10(config.shot_noise_rate_hz / config.cutoff_hz / 2)
        rng = np.random.default_rng([self.seed, self.number])
        pos = config.pos_thres + config.sigma_thres * rng.standard_normal(_DRAWS)
        neg = config.neg_thres + config.sigma_thres * rng.standard_normal(_DRAWS)
        per_rms = 10 ** (-0.0026 * x**3 - 0.036 * x**2 - 0.1949 * x + 0.321)
        rms = float((np.minimum(pos, neg) / per_rms).mean())
        tau_s = 1 / (config.cutoff_hz * 2 * np.pi)
        white = rms * rng.standard_normal(len(np.arange(0, 1000 * tau_s, step_s)))
        filtered = np.zeros_like(white)
        share = step_s / tau_s
        for i in range(1, len(white)):
            filtered[i] = filtered[i - 1] * (1 - share) + white[i] * share
        return rms * float(np.std(white) / np.std(filtered))

    def _diffuse(self, step_s: float) -> None:
        assert self.surround is not None
        assert self.config.cs_lambda_pixels is not None
        tau_p = self.config.cs_tau_p_ms * 1e-3 or 1e-9
        tau_h = tau_p / self.config.cs_lambda_pixels**2
        steps = int(np.ceil(step_s / min(tau_p, tau_h) * 5))
        part_p, part_h = step_s / steps / tau_p, step_s / steps / tau_h
        if max(part_p, part_h) >= 1:
            raise UsageError("cs_lambda_pixels: v2e's steps would explode; use compat 'none'")
        for _ in range(steps):
            h = self.surround.astype(np.float32)
            padded = np.pad(h, 1, mode="edge")
            around = (
                padded[:-2, 1:-1] + padded[1:-1, :-2] - 4 * h + padded[1:-1, 2:] + padded[2:, 1:-1]
            )
            change = part_p * (self.filtered - self.surround) + np.float32(part_h) * around
            self.surround = self.surround + change
            if np.abs(change).max() <= _FEWEST_CHANGES:
                break

    def _scidvs(self, step_s: float) -> Float:
        if self.high_pass is None:
            self.high_pass = np.zeros_like(self.filtered)
            self.photo_before = self.filtered
        fall = np.sinh(self.high_pass * 0.7) / self.tau_s
        self.high_pass = self.high_pass + (
            (self.filtered - self.photo_before) - step_s * fall
        ).astype(self.high_pass.dtype)
        self.photo_before = self.filtered
        return 2 * self.high_pass

    def _leak(self, step_s: float) -> None:
        assert self.base is not None
        jitter = np.float32(self.config.leak_jitter_fraction)
        rate = np.float32(self.config.leak_rate_hz) * self.leak_rates
        if jitter:
            rate = rate * (1 - jitter * self._normals("leak", self.leak_rates.shape))
        self.base = self.base - np.float32(step_s) * rate * np.asarray(self.pos, np.float32)

    def _detect(self, signal: Float, time_s: float, step_s: float) -> tuple[Float, Float]:
        assert self.base is not None
        assert self.spiked_s is not None
        difference = signal - self.base
        dtype = difference.dtype
        pos, neg = (np.asarray(threshold, dtype) for threshold in (self.pos, self.neg))
        zero = dtype.type(0)
        on = np.floor_divide(np.maximum(difference, zero), pos).astype(np.int32)
        off = np.floor_divide(np.maximum(-difference, zero), neg).astype(np.int32)
        busiest = max(int(on.max()), int(off.max()))
        if busiest == 0:
            return np.empty(0), np.empty(0, np.int64)
        loud = np.flatnonzero((on > 0) | (off > 0))
        signed = (on - off).ravel()[loud]
        slots_s = _slots(self.previous_s, time_s, step_s, busiest)
        gated = self.config.refractory_period_s > step_s / busiest
        refractory_s = self.config.refractory_period_s if gated else -1.0
        slot, address, kept = _emit(
            loud, signed, slots_s, self.spiked_s.ravel(), np.float32(refractory_s), on.shape[1]
        )
        emitted = np.zeros(on.size, np.int32)
        emitted[loud] = kept
        emitted = emitted.reshape(on.shape)
        up = np.maximum(emitted, 0).astype(np.float32) * np.asarray(self.pos, np.float32)
        down = np.maximum(-emitted, 0).astype(np.float32) * np.asarray(self.neg, np.float32)
        self.base = (self.base + up) - down
        exact_s = self.previous_s + (np.arange(busiest) + 1) * (step_s / busiest)
        return exact_s[slot], address

    def _shot_noise(
        self, bright: Float, time_s: float, step_s: float, times_s: Float, addresses: Float
    ) -> tuple[Float, Float]:
        assert self.base is not None
        config = self.config
        chance = config.shot_noise_rate_hz / 2 * step_s * (1 - SHOT_NOISE_DARKNESS * bright)
        draw = uniforms(self._key("shot noise"), bright.size).reshape(bright.shape)
        on = draw > 1 - chance * (config.pos_thres / self.pos)
        off = draw < chance * (config.neg_thres / self.neg)
        noisy = np.concatenate([_addresses(on, 1), _addresses(off, 0)])
        self.base = np.where(on | off, self.filtered, self.base)
        times_s = np.concatenate([times_s, np.full(len(noisy), time_s)])
        addresses = np.concatenate([addresses, noisy])
        order = np.lexsort([addresses, times_s])
        return times_s[order], addresses[order]


def _addresses(mask: NDArray[np.bool_], polarity: int) -> NDArray[np.int64]:
    y, x = np.nonzero(mask)
    return y.astype(np.int64) << 16 | x << 1 | polarity


def _slots(previous_s: float, time_s: float, step_s: float, count: int) -> NDArray[np.float32]:
    """Slot times as torch.linspace gives them in float32."""
    start, end = np.float32(previous_s + step_s / count), np.float32(time_s)
    if count == 1:
        return np.array([start], np.float32)
    apart = np.float32((end - start) / np.float32(count - 1))
    index = np.arange(count).astype(np.float32)
    early = start + index * apart
    late = end - (np.float32(count - 1) - index) * apart
    return np.where(np.arange(count) < count // 2, early, late).astype(np.float32)


@compiled
def _emit(
    loud: NDArray[np.int64],
    signed: NDArray[np.int32],
    slots_s: NDArray[np.float32],
    spiked_s: NDArray[np.float32],
    refractory_s: Number,
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Slot and address of the events that the refractory period lets through, slot by slot.

    Also how many each of the pixels `loud` keeps, OFF negative. A negative `refractory_s` switches
    the filter off, and with it the memory of spike times.
    """
    total = 0
    for i in range(loud.size):
        total += abs(signed[i])
    slot, address = np.empty(total, np.int64), np.empty(total, np.int64)
    kept = np.zeros(loud.size, np.int32)
    count = 0
    for k in range(slots_s.size):
        for i in range(loud.size):
            if abs(signed[i]) <= k:
                continue
            pixel = loud[i]
            if refractory_s >= 0:
                if not slots_s[k] - spiked_s[pixel] > refractory_s:
                    continue
                spiked_s[pixel] = slots_s[k]
            y = pixel // width
            on = signed[i] > 0
            slot[count], address[count] = k, y << 16 | (pixel - y * width) << 1 | on
            kept[i] += 1 if on else -1
            count += 1
    return slot[:count], address[:count], kept
