"""Vector instructions that numba does not find by itself, written out for LLVM.

Numba widens small integers before it compares them, and LLVM then leaves such loops scalar: ten
times slower than the memory. The functions here compile to vector instructions of whatever
processor runs them.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["LANES", "outside", "trailing_zeros"]

LANES = 64
"""Values that `outside` tests at once; a mask of them is one uint64."""


@intrinsic
def outside(_: Any, values: NDArray[Any], low: NDArray[Any], high: NDArray[Any], start: int) -> Any:
    """Bit i of a uint64: whether `values[start + i]` is below `low` or above `high` there.

    All three arrays are contiguous uint8 (n,) with n >= start + 64; nothing checks that.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), LANES)
        loaded = []
        for kind, array in zip(signature.args[:3], arguments[:3], strict=True):
            data = context.make_array(kind)(context, builder, array).data
            address = builder.gep(data, [arguments[3]])
            word = builder.load(builder.bitcast(address, vector.as_pointer()))
            word.align = 1
            loaded.append(word)
        value, lowest, highest = loaded
        below = builder.icmp_unsigned("<", value, lowest)
        above = builder.icmp_unsigned(">", value, highest)
        return builder.bitcast(builder.or_(below, above), ir.IntType(LANES))

    return types.uint64(values, low, high, types.intp), generate


@intrinsic
def trailing_zeros(_: Any, word: int) -> Any:
    """Position of the lowest bit set in a uint64 that is not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate
