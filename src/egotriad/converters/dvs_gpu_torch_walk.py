"""The whole pixel model of the event emulator in torch: all pixels of all clips, frame by frame.

The arithmetic is that of `dvs_walk`, operation by operation, so the events are the same to the last
bit. `dvs_gpu_walk` is faster; this is what runs where there is no Triton.
"""

from typing import TYPE_CHECKING

from egotriad.converters.dvs_gpu_place import HitList, joined
from egotriad.converters.dvs_gpu_state import WalkDrive, WalkInput, WalkState
from egotriad.converters.dvs_walk import LEAK_FACTORS, MOST_LEAK

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["scan_walk"]

_DEAD = float("inf")  # difference of a pixel in its dead time
_DRAW_SHIFT = 64 - (LEAK_FACTORS.bit_length() - 1)


def scan_walk(
    frames: WalkInput, state: WalkState, drive: WalkDrive, *, slots: bool
) -> tuple[HitList, WalkState]:
    """Hits of the frames and the state after them.

    With `slots`, `first` of a hit is the number of events before it: see `HitList`.
    """
    hits = []
    for k in range(frames.levels.shape[1]):
        log, lag, change = _ramp(frames, state, drive, k)
        after = state.difference + change
        loud = (after >= state.pos) | (-after >= state.neg)
        state = state._replace(log=log, lag=lag)
        noise = _Noise(frames, k)
        loud[noise.pixel] = True
        pixels = _Pixels(loud.nonzero().ravel(), change, after, state, frames, drive, k, slots)
        pixels.follow_lines(noise)
        pixels.walk(noise)
        hits += pixels.hits
        state = pixels.settled(state, after)
    return joined(hits), state


def _ramp(
    frames: WalkInput, state: WalkState, drive: WalkDrive, k: int
) -> tuple["Tensor", "Tensor", "Tensor"]:
    """Log intensity, lag, and by how much the differences change until frame `k`: each (C P,)."""
    levels = frames.levels[:, k].long()  # (C, P)
    if frames.logs is None:
        log = drive.log_of_level[levels].reshape(-1)
    else:
        log = frames.logs[:, k].reshape(-1)
    change, lag = log - state.log, state.lag
    if frames.decay is not None and frames.follow is not None:
        decay = frames.decay[:, k].gather(1, levels).reshape(-1)
        follow = frames.follow[:, k].gather(1, levels).reshape(-1)
        lag = decay * lag
        lag = lag - follow * change
        change = change + (lag - state.lag)
    leaked = state.leak.reshape(levels.shape) * frames.length_us[:, k, None].float()
    return log, lag, change + leaked.reshape(-1)


class _Noise:
    """Shot noise of one frame interval: as `ArrivalList`, and what follows what.

    Attributes:
        pixel: int64 (A,), among those of all clips, sorted.
        fraction: float32 (A,).
        on: bool (A,).
        follower: int64 (A,), the next arrival at the same pixel, or -1.
    """

    def __init__(self, frames: WalkInput, k: int) -> None:
        import torch

        arrivals = frames.arrivals
        if arrivals is None:
            self.pixel = torch.empty(0, dtype=torch.int64, device=frames.levels.device)
            self.fraction, self.on = self.pixel.float(), self.pixel.bool()
        else:
            per_frame = len(arrivals.ends) // frames.levels.shape[1]
            start = int(arrivals.ends[k * per_frame - 1]) if k else 0
            here = slice(start, int(arrivals.ends[(k + 1) * per_frame - 1]))
            self.pixel = arrivals.pixel[here].long()
            self.fraction, self.on = arrivals.fraction[here], arrivals.on[here]
        follows = torch.zeros_like(self.on)
        follows[:-1] = self.pixel[1:] == self.pixel[:-1]
        number = torch.arange(1, len(self.pixel) + 1, device=self.pixel.device)
        self.follower = torch.where(follows, number, -1)

    def heads(self, pixel: "Tensor") -> "Tensor":
        """The first arrival at each of these pixels, int64 (L,); -1 without."""
        import torch

        if not len(self.pixel):
            return torch.full_like(pixel, -1)
        first = torch.searchsorted(self.pixel, pixel).clamp_max(len(self.pixel) - 1)
        return torch.where(self.pixel[first] == pixel, first, -1)


class _Pixels:
    """The loud pixels of one frame interval on their way through it; every tensor is (L,).

    Times are fractions of the interval.

    Args:
        pixel: int64, index among the pixels of all clips.
        change: float32 (C P,), of all differences over the interval.
        after: float32 (C P,), all differences at its end if nothing happens.
        state: before the interval, but for the signal.
        frames: all of them.
        drive: constants.
        k: which of the frames ends the interval.
        slots: see `scan_walk`.

    Attributes:
        hits: events found.
    """

    def __init__(
        self,
        pixel: "Tensor",
        change: "Tensor",
        after: "Tensor",
        state: WalkState,
        frames: WalkInput,
        drive: WalkDrive,
        k: int,
        slots: bool,
    ) -> None:
        import torch

        self.hits: list[HitList] = []
        self._slots, self._factors = slots, drive.leak_factors
        self._n, self._size = frames.levels.shape[1:]
        self._k, self._pixel, self._clip = k, pixel, pixel // self._size
        self._begin_us = frames.begin_us[self._clip, k]
        self._length_us = frames.length_us[self._clip, k]
        self._length = self._length_us.float()
        self._dead = frames.dead[self._clip, k]
        self._key = frames.leak_key[self._clip, k]
        self._pos, self._neg = state.pos[pixel], state.neg[pixel]
        self._leak, self._mean_leak = state.leak[pixel], state.mean_leak[pixel]
        self._wake_us = state.wake_us[pixel]
        self._change, self._silent_after = change[pixel], after[pixel]
        difference = state.difference[pixel]
        self._was_dead = difference == _DEAD
        awake = (self._wake_us - self._begin_us) / self._length_us
        self._start = torch.where(self._was_dead, awake.float(), 0.0)
        self._difference = torch.where(self._was_dead, 0.0, difference)
        self._now = self._start
        self._draws, self._events = torch.zeros_like(pixel), torch.zeros_like(pixel)

    def follow_lines(self, noise: _Noise) -> None:
        """Events of the pixels whose signal and leak are one straight line; who is to be walked."""
        import torch

        self._arrival = noise.heads(self._pixel)
        moved = torch.where(self._was_dead, self._change, self._silent_after)
        on = moved >= 0
        slope = torch.where(on, self._change, -self._change)
        threshold = torch.where(on, self._pos, self._neg)
        left = threshold - torch.where(on, self._difference, -self._difference)
        left = left.clamp_min(0)
        rises = slope > 0
        per_slope = torch.where(rises, 1 / slope.double(), 0.0)
        exact_first = self._start.double() + left.double() * per_slope
        exact_step = threshold.double() * per_slope + self._dead.double()
        happens = (exact_first <= 1) & (rises | (left == 0))
        later = torch.where(happens & rises, (1 - exact_first) / exact_step, 0.0).int()
        events = torch.where(happens, later + 1, 0)
        first, step = exact_first.float(), exact_step.float()
        self._silent = (self._arrival < 0) & (events == 0) & ~self._was_dead
        one_line = (events < 2) | (self._leak * self._length * float(MOST_LEAK) <= slope)
        lined = (self._arrival < 0) & one_line & ~self._silent
        fires = lined & (events > 0)
        self._record(fires, on, events, first, step)
        last = first + (events - 1).float() * step + self._dead
        self._now = torch.where(fires, last, self._now)
        self._difference, self._draws = torch.where(lined, 0.0, self._difference), lined.long()
        rest = self._change * (1 - self._now)
        inside = (-self._neg < rest) & (rest < self._pos)
        self._walks = torch.where(lined, ~inside, ~self._silent)

    def walk(self, noise: _Noise) -> None:
        """Takes the pixels from event to event that signal, leak and noise move in turn."""
        import torch

        walks = self._walks & (self._now <= 1)
        while walks.any():
            # The next crossing: at once, or where the line meets a threshold.
            difference, change = self._difference, self._change
            within = (-self._neg < difference) & (difference < self._pos)
            on = torch.where(within, change > 0, difference > 0)
            left = torch.where(on, self._pos, self._neg) - torch.where(on, difference, -difference)
            event = self._now + torch.where(left > 0, left / change.abs(), 0.0)
            arrives = self._next_arrivals(noise, walks)
            arrival = self._arrival.clamp_min(0)
            if len(noise.pixel):
                arrives &= ~(noise.fraction[arrival] >= event)
                event = torch.where(arrives, noise.fraction[arrival], event)
                on = torch.where(arrives, noise.on[arrival], on)
                self._arrival = torch.where(arrives, noise.follower[arrival], self._arrival)
            walks = walks & (event <= 1)
            ones = torch.ones_like(self._pixel, dtype=torch.int32)
            self._record(walks, on, ones, event, torch.zeros_like(event))
            self._now = torch.where(walks, event + self._dead, self._now)
            self._difference = torch.where(walks, 0.0, self._difference)
            self._draws = self._draws + 1
            walks = walks & (self._now <= 1)

    def _next_arrivals(self, noise: _Noise, walks: "Tensor") -> "Tensor":
        """Lets the arrivals pass that meet a pixel in its dead time; whether any is left."""
        import torch

        while len(noise.pixel):
            arrival = self._arrival.clamp_min(0)
            passed = walks & (self._arrival >= 0) & (noise.fraction[arrival] < self._now)
            if not passed.any():
                break
            self._arrival = torch.where(passed, noise.follower[arrival], self._arrival)
        return walks & (self._arrival >= 0)

    def _record(
        self, fires: "Tensor", on: "Tensor", events: "Tensor", first: "Tensor", step: "Tensor"
    ) -> None:
        """Notes the events of some pixels, and renews their leaks."""
        import torch

        address = (self._pixel - self._clip * self._size) * 2 + on
        first = self._events.float() if self._slots else first
        interval = self._clip * self._n + self._k
        columns = (interval, address, events.long(), first, step)
        self.hits.append(HitList(*(column[fires] for column in columns)))
        self._events = torch.where(fires, self._events + events, self._events)
        counter = (self._pixel - self._clip * self._size) + (self._draws << 32)
        draw = _shifted(_mixed(self._key, counter), _DRAW_SHIFT)
        leak = self._mean_leak * self._factors[draw]
        leak = torch.where(fires & (self._mean_leak != 0), leak, self._leak)
        self._change = torch.where(
            fires, self._change + (leak - self._leak) * self._length, self._change
        )
        self._leak = leak

    def settled(self, state: WalkState, after: "Tensor") -> WalkState:
        """The state at the end of the interval; `after` as at first."""
        import torch

        rest = self._difference + self._change * (1 - self._now)
        sleeps = ~self._silent & (self._now > 1)
        rest = torch.where(sleeps, _DEAD, rest)
        rest = torch.where(self._silent, self._silent_after, rest)
        woken_us = self._begin_us + self._now.double() * self._length_us
        wake_us = torch.where(sleeps & (self._now > self._start), woken_us, self._wake_us)
        return state._replace(
            difference=after.index_copy(0, self._pixel, rest),
            wake_us=state.wake_us.index_copy(0, self._pixel, wake_us),
            leak=state.leak.index_copy(0, self._pixel, self._leak),
        )


def _mixed(key: "Tensor", counter: "Tensor") -> "Tensor":
    """The 64 bits of `counter_rng.mix`, all int64."""
    z = key + (counter + 1) * _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _signed(bits: int) -> int:
    return bits - (1 << 64)


def _shifted(bits: "Tensor", by: int) -> "Tensor":
    """`bits >> by` with zeros from above."""
    return bits >> by & (1 << 64 - by) - 1
