"""Triton, for modules that define kernels and must be importable where Triton is not installed.

Kernels keep to IEEE arithmetic, so that they give the results of the CPU: they are launched with
`EXACT`, which forbids to fuse multiplications with additions, and divide float32 by `tl.div_rn`.
"""

from __future__ import annotations

from collections.abc import Callable
from os import environ
from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

__all__ = ["EXACT", "has_kernels", "interprets", "jit", "mixed", "tl"]

EXACT: dict[str, Any] = {"enable_fp_fusion": False}
"""Options of every launch."""


def jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`; without Triton the function itself, which nobody then calls."""
    return triton.jit(kernel) if triton else kernel


def interprets() -> bool:
    """Whether Triton is to run kernels without a device, as `TRITON_INTERPRET=1` says."""
    return environ.get("TRITON_INTERPRET") == "1" and triton is not None


def has_kernels(device: str) -> bool:
    """Whether kernels can run on this torch device."""
    return triton is not None and (device != "cpu" or interprets())


@jit
def mixed(key: tl.tensor, counter: tl.tensor) -> tl.tensor:
    """`counter_rng.mix` of keys, uint64, and counters, int64."""
    z = key + (counter + 1).to(tl.uint64, bitcast=True) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)
