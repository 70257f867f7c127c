"""What the sections of `gpu_suite.py` take and give."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run.

    Attributes:
        device: torch device.
        small: sizes for a CPU.
        rounds: timed runs of each case.
        until: `time.perf_counter()` after which no case begins.
    """

    device: str
    small: bool
    rounds: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Part of what a section found: text to print, what to keep, whether all was right."""

    text: str
    record: dict[str, Any] = field(default_factory=dict)
    passed: bool = True


def attempted(what: str, case: Callable[[], Row], options: Options) -> Row:
    """The row of one case; one that begins too late is left out, one that fails says how."""
    if time.perf_counter() > options.until:
        return Row(text=f"{what} left out: the time is up", record={"left_out": what})
    try:
        return case()
    except Exception:  # the next case may still work
        return Row(text=f"{what}: {traceback.format_exc()}", record={"failed": what}, passed=False)


def now(options: Options) -> float:
    """Seconds, when all that the device was asked to do is done."""
    synchronise(options)
    return time.perf_counter()


def synchronise(options: Options) -> None:
    """Waits for the device."""
    if options.device == "cuda":
        torch.cuda.synchronize()
