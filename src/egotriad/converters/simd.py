"""Vector instructions for compiled loops.

numba's loops become vector instructions only when LLVM sees that nothing in them overlaps, that no
integer is narrow and that every value is stored where it was; the emulator's loops over a dozen
arrays, with bytes in and only the loud pixels out, stay scalar, ten times slower than the memory.
A function decorated with `vectorised` says in the arithmetic of `simd_lanes` what happens to 16
neighbouring values at once; what it says is compiled for whatever processor runs it.
"""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic

from egotriad.converters.simd_lanes import LANES, Lanes, Memory, Value, places

__all__ = [
    "BYTES",
    "outside",
    "rows_of_four",
    "store_rows_of_four",
    "trailing_zeros",
    "vectorised",
]

_BIT, _INT32, _INT64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)

BYTES = 64
"""Values that `outside` tests at once; a mask of them is one uint64."""


def vectorised(result: Any, width: int = LANES) -> Callable[[Callable[..., Any]], Any]:
    """Makes compiled code callable from numba out of a function that says what lanes do.

    Args:
        result: numba type of what the function returns.
        width: of the lanes that its float arguments become.

    Returns:
        A decorator. The function it decorates is called with `Memory` for arrays, `Lanes` for
        floats, integers as they are (indices), named tuples of these, and returns an integer or
        None.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        def typed(_: Any, *kinds: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                pairs = zip(signature.args, arguments, strict=True)
                returned = body(*(_operand(context, builder, *pair, width) for pair in pairs))
                if returned is None:
                    returned = context.get_dummy_value()
                return impl_ret_untracked(context, builder, signature.return_type, returned)

            return result(*kinds), generate

        names = ["_", *inspect.signature(body).parameters]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        # numba reads the number of arguments from the signature.
        typed.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
        typed.__name__, typed.__doc__ = body.__name__, body.__doc__
        typed.__module__ = body.__module__
        return intrinsic(typed)

    return decorate


def _operand(context: Any, builder: Value, kind: Any, value: Value, width: int) -> Any:
    if isinstance(kind, types.Array):
        widens = isinstance(kind.dtype, types.Integer) and not kind.dtype.signed
        return Memory(builder, widens, context.make_array(kind)(context, builder, value).data)
    if isinstance(kind, types.BaseNamedTuple):
        members = (builder.extract_value(value, k) for k in range(len(kind.fields)))
        operands = (
            _operand(context, builder, *pair, width)
            for pair in zip(kind.types, members, strict=True)
        )
        return SimpleNamespace(**dict(zip(kind.fields, operands, strict=True)))
    return Lanes(builder, value, width) if isinstance(kind, types.Float) else value


@intrinsic
def outside(_: Any, values: Any, low: Any, high: Any, start: Any) -> Any:
    """Bit i of a uint64: whether `values[start + i]` is below `low` or above `high` there.

    All three arrays are contiguous uint8 (n,) with n >= start + 64; nothing checks that.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), BYTES)
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
        return builder.bitcast(builder.or_(below, above), _INT64)

    return types.uint64(values, low, high, types.intp), generate


@intrinsic
def trailing_zeros(_: Any, word: Any) -> Any:
    """Position of the lowest bit set in a uint64 that is not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_BIT, 1))

    return types.uint64(types.uint64), generate


def rows_of_four(table: Memory, index: Memory, left: Value | None = None) -> tuple[Lanes, ...]:
    """The four columns of the rows of `table` that the first 16 bytes of `index` name.

    The table is float32 (n, 4). Looking up rows and turning them round costs a third of a look-up
    for each column. Where fewer than 16 bytes are `left`, the last of them is repeated.
    """
    builder, quad = table.builder, ir.VectorType(ir.FloatType(), 4)
    rows = []
    for lane in range(LANES):
        place = _INT64(lane)
        if left is not None:
            last = builder.sub(left, _INT64(1))
            place = builder.select(builder.icmp_signed(">", place, last), last, place)
        byte = builder.load(builder.gep(index.data, [place]))
        row = builder.gep(table.data, [builder.shl(builder.zext(byte, _INT64), _INT64(2))])
        rows.append(builder.load(builder.bitcast(row, quad.as_pointer())))
        rows[-1].align = 4
    # Four vectors with rows k, k + 4, k + 8, k + 12; then 4 x 4 transpositions inside them.
    quarters = [
        _joined(
            builder,
            _joined(builder, rows[k], rows[k + 4]),
            _joined(builder, rows[k + 8], rows[k + 12]),
        )
        for k in range(4)
    ]
    return tuple(Lanes(builder, column) for column in _transposed(builder, quarters))


def store_rows_of_four(table: Memory, start: Value, columns: tuple[Lanes, ...]) -> None:
    """Writes 16 rows of `table`, 32-bit (n, 4), from `start` on; four columns, ints or floats."""
    builder, whole = table.builder, ir.VectorType(_INT32, LANES)
    bits = [builder.bitcast(column.value, whole) for column in columns]
    quarters = _transposed(builder, bits)  # rows k, k + 4, k + 8, k + 12 each
    lanes = [[k, k + 1, k + 2, k + 3] for k in range(0, LANES, 4)]
    for k in range(LANES):
        row = builder.shuffle_vector(quarters[k % 4], quarters[k % 4], places(lanes[k // 4]))
        at = builder.add(builder.shl(start, _INT64(2)), _INT64(4 * k))
        address = builder.bitcast(builder.gep(table.data, [at]), row.type.as_pointer())
        builder.store(row, address).align = 4


def _joined(builder: Value, a: Value, b: Value) -> Value:
    return builder.shuffle_vector(a, b, places(list(range(2 * a.type.count))))


def _transposed(builder: Value, vectors: list[Value]) -> list[Value]:
    """Four vectors of 16, of which each block of 4 x 4 is turned round."""

    def mixed(a: Value, b: Value, order: list[int]) -> Value:
        order = [block + place for block in range(0, LANES, 4) for place in order]
        return builder.shuffle_vector(a, b, places(order))

    turned = []
    for half in (0, 2):
        weave = [half, LANES + half, half + 1, LANES + half + 1]
        a, b = (mixed(vectors[k], vectors[k + 1], weave) for k in (0, 2))
        turned += [mixed(a, b, [k, k + 1, LANES + k, LANES + k + 1]) for k in (0, 2)]
    return turned
