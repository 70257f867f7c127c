"""Arithmetic on lanes, which is how `simd` has vector instructions written.

Every operation is rounded on its own, as NumPy does: nothing is fused or reordered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import ir

__all__ = [
    "LANES",
    "Lanes",
    "Memory",
    "Value",
    "any_of",
    "bits",
    "compress",
    "count",
    "first_places",
    "places",
    "select",
    "word",
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
    """Sixteen values (or `width`), or a number that stands for as many, or as many bits: a mask.

    `+ - * /` and comparisons work lane by lane on two operands of one kind (a plain Python number
    takes the other's kind); `& | ~` on masks; `& | ^ << >>` on integers, `>>` filling with zeros;
    integers compare as signed.
    """

    def __init__(self, builder: Value, value: Value, width: int = LANES) -> None:
        self.builder = builder
        if not isinstance(value.type, ir.VectorType):
            nothing = _undefined(value.type, width)
            one = builder.insert_element(nothing, value, _INT32(0))
            value = builder.shuffle_vector(one, nothing, places([0] * width))
        self.value = value
        self.width = value.type.count
        self.is_float = isinstance(value.type.element, ir.FloatType | ir.DoubleType)

    @classmethod
    def counting(cls, builder: Value, width: int = LANES) -> "Lanes":
        """0, 1, 2, ... as int32."""
        return cls(builder, places(list(range(width))))

    def to(self, kind: str) -> "Lanes":
        """The values as `float32`, `float64`, `int32` or `int64`.

        Floats lose their fraction on the way to integers and must then fit; integers are taken as
        signed, bits of a mask as 0 or 1.
        """
        element, builder = _KINDS[kind], self.builder
        before, target = self.value.type.element, ir.VectorType(element, self.width)
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

    def of(self, number: float) -> "Lanes":
        """That number in all places, of the same kind."""
        return Lanes(self.builder, self.value.type.element(number), self.width)

    def _operand(self, other: "Lanes | float") -> Value:
        return other.value if isinstance(other, Lanes) else self.of(other).value

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

    def __init__(self, builder: Value, widens: bool, data: Value) -> None:
        self.builder, self.data = builder, data
        self._widens = widens

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
        address, vector = self._address(start, lanes.width)
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
        picked = _undefined(self.data.type.pointee, index.width)
        for lane in range(index.width):
            at = self.builder.extract_element(index.value, _INT32(lane))
            element = self.builder.load(self.builder.gep(self.data, [at]))
            picked = self.builder.insert_element(picked, element, _INT32(lane))
        if self._widens and picked.type.element.width < 32:
            picked = self.builder.zext(picked, ir.VectorType(_INT32, index.width))
        return Lanes(self.builder, picked)

    def from_index(self, index: Value) -> "Memory":
        """The array from a place on."""
        return Memory(self.builder, self._widens, self.builder.gep(self.data, [index]))

    def row(self, number: int, length: int, kind: "str | Lanes") -> "Memory":
        """One of the rows of a table of 32-bit values, each `length` long, read as another kind.

        `kind` is that kind, or values of it.
        """
        element = _KINDS[kind] if isinstance(kind, str) else kind.value.type.element
        data = self.builder.gep(self.data, [_INT64(number * length)])
        return Memory(self.builder, False, self.builder.bitcast(data, element.as_pointer()))

    def bits(self, start: Value) -> Lanes:
        """The bits of the 16-bit word at `start`, as a mask."""
        return bits(self.builder, self.builder.load(self.builder.gep(self.data, [start])))

    def _address(self, start: Value, width: int = LANES) -> tuple[Value, Value]:
        vector = ir.VectorType(self.data.type.pointee, width)
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
    return where.builder.ctpop(word(where))


def word(where: Lanes) -> Value:
    """A mask as the lowest bits of an int64: the reverse of `bits`."""
    builder = where.builder
    return builder.zext(builder.bitcast(where.value, ir.IntType(LANES)), _INT64)


@contextmanager
def any_of(where: Lanes) -> Iterator[None]:
    """What is said inside happens when the mask has any place."""
    with where.builder.if_then(where.builder.icmp_unsigned("!=", word(where), _INT64(0))):
        yield


def bits(builder: Value, integer: Value) -> Lanes:
    """The lowest 16 bits of an integer, as a mask."""
    if integer.type.width > LANES:
        integer = builder.trunc(integer, ir.IntType(LANES))
    return Lanes(builder, builder.bitcast(integer, ir.VectorType(_BIT, LANES)))


def first_places(builder: Value, number: Value) -> Lanes:
    """Mask of the first `number` places, an int64."""
    return Lanes.counting(builder).to("int64") < Lanes(builder, number)


def _undefined(element: Value, width: int) -> Value:
    return ir.Constant(ir.VectorType(element, width), ir.Undefined)


def places(numbers: list[int]) -> Value:
    """A constant vector of int32: which lanes go where."""
    return ir.Constant(ir.VectorType(_INT32, len(numbers)), numbers)


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
