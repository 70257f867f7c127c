"""Vector instructions for compiled loops, written as arithmetic on lanes.

numba's loops become vector instructions only when LLVM sees that nothing in them overlaps, that no
integer is narrow and that every value is stored where it was; the emulator's loops over a dozen
arrays, with bytes in and only the loud pixels out, stay scalar, ten times slower than the memory.
A function decorated with `vectorised` says what happens to 16 neighbouring values at once; what it
says is compiled for whatever processor runs it. Every operation is rounded on its own, as NumPy
does: nothing is fused or reordered.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core.imputils import impl_ret_untracked
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "Lanes",
    "Memory",
    "any_of",
    "compress",
    "count",
    "outside",
    "rows_of_four",
    "select",
    "trailing_zeros",
    "vectorised",
]

LANES = 16
"""Values that are worked on together."""

Value: TypeAlias = Any  # llvmlite has no types
_BIT, _INT32, _INT64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_KINDS = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int32": _INT32,
    "int64": _INT64,
}


class Lanes:
    """Sixteen values, or one number that stands for sixteen, or sixteen yes or no (a mask).

    `+ - * /` and comparisons work lane by lane on two operands of one kind (a plain Python number
    takes the other's kind); `& | ~` on masks; `& | ^ << >>` on integers, `>>` filling with zeros;
    integers compare as signed.
    """

    def __init__(self, builder: Value, value: Value) -> None:
        self.builder = builder
        if not isinstance(value.type, ir.VectorType):
            one = builder.insert_element(_undefined(value.type), value, _INT32(0))
            value = builder.shuffle_vector(one, _undefined(value.type), _places([0] * LANES))
        self.value = value
        self.is_float = isinstance(value.type.element, ir.FloatType | ir.DoubleType)

    def to(self, kind: str) -> "Lanes":
        """The values as `float32`, `float64`, `int32` or `int64`.

        Floats lose their fraction on the way to integers and must then fit; integers are taken as
        signed, bits of a mask as 0 or 1.
        """
        element, builder = _KINDS[kind], self.builder
        before, target = self.value.type.element, ir.VectorType(element, LANES)
        if before == element:
            return self
        if self.is_float and isinstance(element, ir.IntType):
            converted = builder.fptosi(self.value, target)
        elif self.is_float:
            wider = isinstance(element, ir.DoubleType)
            converted = (builder.fpext if wider else builder.fptrunc)(self.value, target)
        elif not isinstance(element, ir.IntType):
            converted = builder.sitofp(self.value, target)
        elif before.width > element.width:
            converted = builder.trunc(self.value, target)
        else:
            extend = builder.zext if before == _BIT else builder.sext
            converted = extend(self.value, target)
        return Lanes(builder, converted)

    def _operand(self, other: "Lanes | float") -> Value:
        if isinstance(other, Lanes):
            return other.value
        element = self.value.type.element
        return Lanes(self.builder, element(other)).value

    def _apply(self, names: str, other: "Lanes | float", *, swapped: bool = False) -> "Lanes":
        operation = getattr(self.builder, names.split()[0 if self.is_float else -1])
        a, b = self.value, self._operand(other)
        return Lanes(self.builder, operation(b, a) if swapped else operation(a, b))

    def _compare(self, sign: str, other: "Lanes | float") -> "Lanes":
        builder = self.builder
        compare = builder.fcmp_ordered if self.is_float else builder.icmp_signed
        return Lanes(builder, compare(sign, self.value, self._operand(other)))

    def __add__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("fadd add", other)

    def __sub__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("fsub sub", other)

    def __rsub__(self, other: float) -> "Lanes":
        return self._apply("fsub sub", other, swapped=True)

    def __mul__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("fmul mul", other)

    def __truediv__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("fdiv", other)

    def __rtruediv__(self, other: float) -> "Lanes":
        return self._apply("fdiv", other, swapped=True)

    def __neg__(self) -> "Lanes":
        return Lanes(self.builder, self.builder.fneg(self.value))

    def __and__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("and_", other)

    def __or__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("or_", other)

    def __xor__(self, other: "Lanes | float") -> "Lanes":
        return self._apply("xor", other)

    def __invert__(self) -> "Lanes":
        return Lanes(self.builder, self.builder.not_(self.value))

    def __lshift__(self, other: int) -> "Lanes":
        return self._apply("shl", other)

    def __rshift__(self, other: int) -> "Lanes":
        return self._apply("lshr", other)

    def __lt__(self, other: "Lanes | float") -> "Lanes":
        return self._compare("<", other)

    def __le__(self, other: "Lanes | float") -> "Lanes":
        return self._compare("<=", other)

    def __gt__(self, other: "Lanes | float") -> "Lanes":
        return self._compare(">", other)

    def __ge__(self, other: "Lanes | float") -> "Lanes":
        return self._compare(">=", other)

    def equals(self, other: "Lanes | float") -> "Lanes":
        """Mask of where both are equal."""
        return self._compare("==", other)


class Memory:
    """A contiguous array. Nothing checks an index."""

    def __init__(self, builder: Value, kind: Any, data: Value) -> None:
        self.builder = builder
        self.data = data
        self._widens = isinstance(kind.dtype, types.Integer | types.Boolean) and (
            not getattr(kind.dtype, "signed", False)
        )

    def load(self, start: Value, where: Lanes | None = None) -> Lanes:
        """The values from `start` on; bytes and other unsigned integers become int32.

        With a mask `where`, only those places are read, and the others are zero.
        """
        address, vector = self._address(start)
        if where is None:
            value = self.builder.load(address)
            value.align = 1
        else:
            name = f"llvm.masked.load.{_suffix(vector)}.p0"
            zeros = ir.Constant(vector, None)
            operands = [address, _INT32(1), where.value, zeros]
            value = _call(self.builder, name, vector, operands)
        if self._widens and vector.element.width < 32:
            value = self.builder.zext(value, ir.VectorType(_INT32, LANES))
        return Lanes(self.builder, value)

    def store(self, start: Value, lanes: Lanes, where: Lanes | None = None) -> None:
        """Writes the values from `start` on, with a mask only those of its places."""
        address, vector = self._address(start)
        value = lanes.value
        if value.type != vector:
            value = self.builder.trunc(value, vector)
        if where is None:
            self.builder.store(value, address).align = 1
        else:
            name = f"llvm.masked.store.{_suffix(vector)}.p0"
            _call(self.builder, name, ir.VoidType(), [value, address, _INT32(1), where.value])

    def gather(self, index: Lanes) -> Lanes:
        """The values at the places `index`."""
        picked = _undefined(self.data.type.pointee)
        for lane in range(LANES):
            at = self.builder.extract_element(index.value, _INT32(lane))
            element = self.builder.load(self.builder.gep(self.data, [at]))
            picked = self.builder.insert_element(picked, element, _INT32(lane))
        if self._widens and picked.type.element.width < 32:
            picked = self.builder.zext(picked, ir.VectorType(_INT32, LANES))
        return Lanes(self.builder, picked)

    def bits(self, start: Value) -> Lanes:
        """The bits of the 16-bit word at `start`, as a mask."""
        word = self.builder.load(self.builder.gep(self.data, [start]))
        return Lanes(self.builder, self.builder.bitcast(word, ir.VectorType(_BIT, LANES)))

    def _address(self, start: Value) -> tuple[Value, Value]:
        vector = ir.VectorType(self.data.type.pointee, LANES)
        address = self.builder.gep(self.data, [start])
        return self.builder.bitcast(address, vector.as_pointer()), vector


def select(where: Lanes, yes: Lanes, no: Lanes) -> Lanes:
    """`yes` where the mask says so, elsewhere `no`."""
    return Lanes(where.builder, where.builder.select(where.value, yes.value, no.value))


def compress(lanes: Lanes, where: Lanes) -> Lanes:
    """The values of the mask's places moved together to the front; behind them, anything."""
    vector = lanes.value.type
    name = f"llvm.experimental.vector.compress.{_suffix(vector)}"
    operands = [lanes.value, where.value, ir.Constant(vector, ir.Undefined)]
    return Lanes(lanes.builder, _call(lanes.builder, name, vector, operands))


def count(where: Lanes) -> Value:
    """How many places a mask has, an int64."""
    builder = where.builder
    word = builder.bitcast(where.value, ir.IntType(LANES))
    return builder.zext(builder.ctpop(word), _INT64)


@contextmanager
def any_of(where: Lanes) -> Iterator[None]:
    """What is said inside happens when the mask has any place."""
    word = where.builder.bitcast(where.value, ir.IntType(LANES))
    with where.builder.if_then(where.builder.icmp_unsigned("!=", word, word.type(0))):
        yield


def rows_of_four(table: Memory, index: Memory, start: Value, last: Value) -> tuple[Lanes, ...]:
    """The four columns of the table rows that the bytes from `start` on name.

    The table is float32 (n, 4). Looking up rows and turning them round costs a third of a look-up
    for each column. Bytes after place `last` are not read.
    """
    builder, quad = table.builder, ir.VectorType(ir.FloatType(), 4)
    rows = []
    for lane in range(LANES):
        place = builder.add(start, _INT64(lane))
        beyond = builder.icmp_signed(">", place, last)
        byte = builder.load(builder.gep(index.data, [builder.select(beyond, last, place)]))
        row = builder.gep(table.data, [builder.shl(builder.zext(byte, _INT64), _INT64(2))])
        rows.append(builder.load(builder.bitcast(row, quad.as_pointer())))
        rows[-1].align = 4
    # Four vectors with rows k, k + 4, k + 8, k + 12; then 4 x 4 transpositions inside them.
    quarters = [
        _joined(builder, _joined(builder, *rows[k:9:4]), _joined(builder, *rows[k + 8 :: 4]))
        for k in range(4)
    ]
    columns = []
    for half in (0, 2):
        pairs = [_woven(builder, *quarters[k : k + 2], half) for k in (0, 2)]
        columns += [_zipped(builder, *pairs, side) for side in (0, 2)]
    return tuple(Lanes(builder, column) for column in columns)


def vectorised(result: Any) -> Callable[[Callable[..., Any]], Any]:
    """Makes compiled code callable from numba out of a function that says what lanes do.

    Args:
        result: numba type of what the function returns.

    Returns:
        A decorator. The function it decorates is called with `Memory` for arrays, `Lanes` for
        floats, integers as they are (indices), named tuples of these, and returns an integer or
        None.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        def typed(_: Any, *kinds: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                pairs = zip(signature.args, arguments, strict=True)
                returned = body(*(_operand(context, builder, *pair) for pair in pairs))
                if returned is None:
                    returned = context.get_dummy_value()
                return impl_ret_untracked(context, builder, signature.return_type, returned)

            return result(*kinds), generate

        typed.__name__, typed.__doc__ = body.__name__, body.__doc__
        return intrinsic(typed)

    return decorate


def _operand(context: Any, builder: Value, kind: Any, value: Value) -> Any:
    if isinstance(kind, types.Array):
        return Memory(builder, kind, context.make_array(kind)(context, builder, value).data)
    if isinstance(kind, types.BaseNamedTuple):
        members = (builder.extract_value(value, k) for k in range(len(kind.fields)))
        operands = (
            _operand(context, builder, *pair) for pair in zip(kind.types, members, strict=True)
        )
        return SimpleNamespace(**dict(zip(kind.fields, operands, strict=True)))
    return Lanes(builder, value) if isinstance(kind, types.Float) else value


@intrinsic
def outside(_: Any, values: Any, low: Any, high: Any, start: Any) -> Any:
    """Bit i of a uint64: whether `values[start + i]` is below `low` or above `high` there.

    All three arrays are contiguous uint8 (n,) with n >= start + 64; nothing checks that.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), 64)
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


def _undefined(element: Value) -> Value:
    return ir.Constant(ir.VectorType(element, LANES), ir.Undefined)


def _places(places: list[int]) -> Value:
    return ir.Constant(ir.VectorType(_INT32, len(places)), places)


def _suffix(vector: Value) -> str:
    element = vector.element
    names = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}
    return f"v{vector.count}{names.get(element) or f'i{element.width}'}"


def _call(builder: Value, name: str, result: Value, operands: list[Value]) -> Value:
    """Calls an LLVM intrinsic, declared on first use."""
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        function = ir.Function(builder.module, kind, name)
    return builder.call(function, operands)


def _joined(builder: Value, a: Value, b: Value) -> Value:
    return builder.shuffle_vector(a, b, _places(list(range(2 * a.type.count))))


def _woven(builder: Value, a: Value, b: Value, half: int) -> Value:
    """Of each four values of both, the lower or upper two (`half` 0 or 2), alternating."""
    places = [
        place for k in range(half, LANES, 4) for place in (k, LANES + k, k + 1, LANES + k + 1)
    ]
    return builder.shuffle_vector(a, b, _places(places))


def _zipped(builder: Value, a: Value, b: Value, side: int) -> Value:
    """Of each four values of both, the lower or upper two, those of `a` first."""
    places = [
        place for k in range(side, LANES, 4) for place in (k, k + 1, LANES + k, LANES + k + 1)
    ]
    return builder.shuffle_vector(a, b, _places(places))
