"""How loops over arrays are compiled here."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numba

from egotriad.manifests.files import short_hash

__all__ = ["Float", "Int", "compiled"]

Function = TypeVar("Function", bound=Callable[..., Any])

Int: TypeAlias = Any
"""An integer in compiled code, which is Python's or one of NumPy's: they mix there."""

Float: TypeAlias = Any
"""A floating-point number in compiled code, Python's or one of NumPy's."""


def compiled(function: Function) -> Function:
    """`numba.njit` with an on-disk cache where a folder for it can be written, else without.

    The cache is good for as long as no file in the function's folder changes: numba looks at the
    function's own file only, and would run old code of what it calls in others.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no place for its cache
        return numba.njit(**options)(function)
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if index is not None:  # in NUMBA_DISABLE_JIT's world there is none
        folder = Path(function.__code__.co_filename).parent
        index._source_stamp = (index._source_stamp, _stamp(folder))
    return dispatcher


@cache
def _stamp(folder: Path) -> str:
    """Changes with the name, size or time of change of any source file in a folder."""
    facts = ((path.name, path.stat()) for path in sorted(folder.glob("*.py")))
    return short_hash([[name, stat.st_size, stat.st_mtime_ns] for name, stat in facts])
