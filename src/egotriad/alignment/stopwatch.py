"""Clocks of a device: borders that do not stop a CUDA stream, and the host's own clock."""

import time
from itertools import pairwise

import torch

__all__ = ["Stopwatch", "seconds_of_host"]


class Stopwatch:
    """Borders in time; `spans` gives the seconds between them.

    Args:
        device: whose work is timed.
        clock: see `StageSettings`.
    """

    def __init__(self, device: torch.device, clock: str) -> None:
        self._cuda = device.type == "cuda"
        self._clock = clock
        self._device = device
        self._borders: list[float | torch.cuda.Event] = []
        if self._cuda:
            torch.cuda.synchronize(device)

    def border(self) -> None:
        """One more border, here."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._borders.append(event)
        else:
            self._borders.append(seconds_of_host(self._device, self._clock))

    def spans(self) -> list[float]:
        """Seconds between neighbouring borders."""
        if self._cuda:
            torch.cuda.synchronize()
        return [_between(a, b) for a, b in pairwise(self._borders)]


def seconds_of_host(device: torch.device, clock: str) -> float:
    """Seconds of the host; on CUDA those of the wall, when everything asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() if clock == "cpu" else time.perf_counter()


def _between(a: "float | torch.cuda.Event", b: "float | torch.cuda.Event") -> float:
    if isinstance(a, float) or isinstance(b, float):
        return float(b) - float(a)  # type: ignore[arg-type]
    return float(a.elapsed_time(b)) / 1e3
