"""Exact statistics of more float32 numbers than fit into memory, in two passes over them.

A float32's bits, with the sign folded in, sort like the number itself. The first pass counts the
upper 16 bits, which tells in which of 65,536 cells each quantile lies; the second counts the lower
16 bits of the numbers in those cells (radix selection). Nothing is approximated.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["FirstPass", "SecondPass", "moments_of"]

PERCENTS = (1, 10, 50, 90, 99)
"""The quantiles of LeRobot's meta/stats.json (huggingface/lerobot)."""

_CELLS = 1 << 16


def _sortable(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Unsigned integers in the order of the numbers (-0 counts as 0)."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _number(key: int) -> float:
    bits = key ^ (1 << 31) if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def _rank(percent: int, count: int) -> int:
    """Which number, counted from 0 in order, is the quantile: the least with F(x) >= percent."""
    return -(-percent * count // 100) - 1


class FirstPass:
    """Count, extremes, mean and spread of one column, and where its quantiles lie.

    Mean and variance are merged block by block (Chan, Golub and LeVeque 1979), in float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self.cells = np.zeros(_CELLS, np.int64)
        self._low, self._high = math.inf, -math.inf
        self._mean = self._spread = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Takes in a block of finite numbers, (N,)."""
        if not len(values):
            return
        self.cells += np.bincount(_sortable(values) >> 16, minlength=_CELLS)
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        wide = values.astype(np.float64)
        mean = float(wide.mean())
        total, apart = self.count + len(wide), mean - self._mean
        self._spread += float(np.square(wide - mean).sum())
        self._spread += apart**2 * self.count * len(wide) / total
        self._mean += apart * len(wide) / total
        self.count = total

    def cell_of(self, percent: int) -> tuple[int, int]:
        """(cell, how manieth number inside it) of a quantile; needs `count` > 0."""
        upto = np.cumsum(self.cells)
        rank = _rank(percent, self.count)
        cell = int(np.searchsorted(upto, rank, side="right"))
        return cell, rank - int(upto[cell] - self.cells[cell])

    def moments(self) -> dict[str, float | int]:
        """Count, min, max, mean and standard deviation (of the population)."""
        return _moments(
            self.count, self._low, self._high, self._mean, math.sqrt(self._spread / self.count)
        )


class SecondPass:
    """Finds the quantiles of a column that a first pass has seen; needs the same numbers again."""

    def __init__(self, first: FirstPass) -> None:
        self._places = {percent: first.cell_of(percent) for percent in PERCENTS}
        self._cells = {cell: np.zeros(_CELLS, np.int64) for cell, _ in self._places.values()}

    def add(self, values: NDArray[np.float32]) -> None:
        """Takes in a block of the numbers, (N,)."""
        keys = _sortable(values)
        upper = keys >> 16
        for cell, counts in self._cells.items():
            inside = keys[upper == cell] & np.uint32(_CELLS - 1)
            if len(inside):
                counts += np.bincount(inside, minlength=_CELLS)

    def quantiles(self) -> dict[str, float]:
        """`q01` ... `q99`: each one of the numbers."""
        found = {}
        for percent, (cell, rank) in self._places.items():
            lower = int(np.searchsorted(np.cumsum(self._cells[cell]), rank, side="right"))
            found[_name(percent)] = _number(cell << 16 | lower)
        return found


def moments_of(values: NDArray[np.float64]) -> Mapping[str, float | int]:
    """All the statistics of a column that fits into memory; needs at least one number."""
    ordered = np.sort(values)
    basic = _moments(
        len(ordered),
        float(ordered[0]),
        float(ordered[-1]),
        float(values.mean()),
        float(values.std()),
    )
    return basic | {_name(p): float(ordered[_rank(p, len(ordered))]) for p in PERCENTS}


def _moments(
    count: int, low: float, high: float, mean: float, deviation: float
) -> dict[str, float | int]:
    # The last bits of a sum depend on the order of its terms; nobody needs them.
    return {
        "count": count,
        "min": low,
        "max": high,
        "mean": float(f"{mean:.9g}"),
        "std": float(f"{deviation:.9g}"),
    }


def _name(percent: int) -> str:
    return f"q{percent:02d}"
