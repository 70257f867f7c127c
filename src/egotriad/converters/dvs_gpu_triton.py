"""Triton, for modules that define kernels and must be importable where Triton is not installed.

Kernels keep to IEEE arithmetic, so that they give the results of the CPU: they are launched with
`EXACT`, which forbids to fuse multiplications with additions, and divide float32 by `tl.div_rn`.
"""

from collections.abc import Callable
from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

__all__ = ["EXACT", "jit", "tl"]

EXACT: dict[str, Any] = {"enable_fp_fusion": False}
"""Options of every launch."""


def jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`; without Triton the function itself, which nobody then calls."""
    return triton.jit(kernel) if triton else kernel
