"""How loops over arrays are compiled here."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numba

__all__ = ["Float", "Int", "compiled"]

Function = TypeVar("Function", bound=Callable[..., Any])

Int: TypeAlias = Any
"""An integer in compiled code, which is Python's or one of NumPy's: they mix there."""

Float: TypeAlias = Any
"""A floating-point number in compiled code, Python's or one of NumPy's."""


def compiled(function: Function) -> Function:
    """`numba.njit` with an on-disk cache where a folder for it can be written, else without."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no place for its cache
        return numba.njit(**options)(function)
