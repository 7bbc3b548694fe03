"""One number for each of many chains: vectors of float32 and of 32-bit words that kernels write like scalars.

A row of a two-dimensional array of width ``LANES`` is loaded into registers, goes through ``+ - * /`` (floats) or ``& | ^ << >> +``
(words), and is stored again. numba's own loops do not keep such rows in registers over a loop, and they widen 32-bit words to 64 bits.

With ``NUMBA_DISABLE_JIT=1`` a vector is a NumPy array and the same operators are NumPy's: the plain twin of every kernel built on them.
"""

from __future__ import annotations

import operator

import llvmlite.binding
import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from thermokernels.compiled.simd_states import aligned_empty

# Four rows of sums have to fit into the registers: 32 of 16 floats with AVX-512, 16 of 8 or fewer elsewhere.
LANES = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 16

# A true lane of a mask.
EVERY = np.uint32(0xFFFFFFFF)

if numba.config.DISABLE_JIT:

    def load(rows, index):
        return rows[index].copy()

    def store(rows, index, vector):
        rows[index] = vector

    def fill(scalar):
        return np.full(LANES, scalar, dtype=np.float32)

    def multiply_add(left, right, accumulator):
        return left * right + accumulator

    def words_of(floats):
        return floats.view(np.uint32)

    def floats_of(words):
        return words.view(np.float32)

    def to_floats(words):
        return words.astype(np.float32)

    def less(left, right):
        return np.where(left < right, EVERY, 0).astype(np.uint32)

    def choose(mask, left, right):
        return np.where(mask != 0, left, right)

else:
    from llvmlite import ir
    from numba import types
    from numba.core.extending import intrinsic, lower_builtin, models, register_model, type_callable

    class LanesType(types.Type):
        """A vector of LANES numbers in registers."""

        def __init__(self, name, element):
            self.llvm = ir.VectorType(element, LANES)
            super().__init__(name=f"thermokernels.{name}")

    FLOATS = LanesType("Floats", ir.FloatType())
    WORDS = LanesType("Words", ir.IntType(32))

    @register_model(LanesType)
    class LanesModel(models.PrimitiveModel):
        """A vector is passed as one LLVM value."""

        def __init__(self, manager, numba_type):
            super().__init__(manager, numba_type, numba_type.llvm)

    def _kind(rows):
        return FLOATS if rows.dtype == types.float32 else WORDS

    def _pointer(context, builder, rows_type, rows, index):
        data = context.make_array(rows_type)(context, builder, rows).data
        start = builder.mul(index, ir.Constant(index.type, LANES))
        return builder.bitcast(builder.gep(data, [start]), _kind(rows_type).llvm.as_pointer())

    @intrinsic
    def load(typing_context, rows, index):
        """rows[index] of a contiguous (n, LANES) array of float32 or uint32, unchecked."""

        def generate(context, builder, signature, arguments):
            return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

        return _kind(rows)(rows, types.intp), generate

    @intrinsic
    def store(typing_context, rows, index, vector):
        """rows[index] = vector, unchecked."""

        def generate(context, builder, signature, arguments):
            rows_value, index_value, vector_value = arguments
            builder.store(vector_value, _pointer(context, builder, signature.args[0], rows_value, index_value), align=4)
            return context.get_dummy_value()

        return types.void(rows, types.intp, vector), generate

    def _splat(builder, scalar, vector_type):
        undefined = ir.Constant(vector_type, ir.Undefined)
        first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    @intrinsic
    def fill(typing_context, scalar):
        """The same float32 in every lane."""

        def generate(context, builder, signature, arguments):
            return _splat(builder, arguments[0], FLOATS.llvm)

        return FLOATS(types.float32), generate

    @intrinsic
    def multiply_add(typing_context, left, right, accumulator):
        """left * right + accumulator, rounded once where the processor can."""

        def generate(context, builder, signature, arguments):
            product = builder.fmul(arguments[0], arguments[1], flags=("contract",))
            return builder.fadd(product, arguments[2], flags=("contract",))

        return FLOATS(FLOATS, FLOATS, FLOATS), generate

    @intrinsic
    def words_of(typing_context, floats):
        """The bits of the floats."""

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], WORDS.llvm)

        return WORDS(FLOATS), generate

    @intrinsic
    def floats_of(typing_context, words):
        """The floats that have these bits."""

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], FLOATS.llvm)

        return FLOATS(WORDS), generate

    @intrinsic
    def to_floats(typing_context, words):
        """The nearest floats; the words are below 2**31 (a signed conversion is one instruction everywhere)."""

        def generate(context, builder, signature, arguments):
            return builder.sitofp(arguments[0], FLOATS.llvm)

        return FLOATS(WORDS), generate

    @intrinsic
    def less(typing_context, left, right):
        """A mask: every bit of a lane where left < right, none elsewhere and where one is NaN."""

        def generate(context, builder, signature, arguments):
            return builder.sext(builder.fcmp_ordered("<", *arguments), WORDS.llvm)

        return WORDS(FLOATS, FLOATS), generate

    @intrinsic
    def choose(typing_context, mask, left, right):
        """left in the lanes of the mask, right elsewhere."""

        def generate(context, builder, signature, arguments):
            nowhere = ir.Constant(WORDS.llvm, [0] * LANES)
            return builder.select(builder.icmp_unsigned("!=", arguments[0], nowhere), arguments[1], arguments[2])

        return left(WORDS, left, left), generate

    def _operator(function, kind, instruction):
        """``vector function vector`` and ``vector function scalar`` for one kind of vector."""

        @type_callable(function)
        def type_operator(context):
            def typer(left, right):
                scalar = types.Float if kind is FLOATS else types.Integer
                return kind if left is kind and (right is kind or isinstance(right, scalar)) else None

            return typer

        @lower_builtin(function, kind, kind)
        def vector_by_vector(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        @lower_builtin(function, kind, types.Float if kind is FLOATS else types.Integer)
        def vector_by_scalar(context, builder, signature, arguments):
            element = types.float32 if kind is FLOATS else types.uint32
            scalar = context.cast(builder, arguments[1], signature.args[1], element)
            return getattr(builder, instruction)(arguments[0], _splat(builder, scalar, kind.llvm))

    for _function, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
        _operator(_function, FLOATS, _instruction)
    for _function, _instruction in (
        (operator.add, "add"),
        (operator.and_, "and_"),
        (operator.or_, "or_"),
        (operator.xor, "xor"),
        (operator.lshift, "shl"),
        (operator.rshift, "lshr"),
    ):
        _operator(_function, WORDS, _instruction)


def aligned_rows(dtype: DTypeLike, *shape: int) -> NDArray[np.generic]:
    """Zeros of shape (*shape, LANES) and a dtype of four bytes that start a cache line."""
    n_doubles = int(np.prod(shape)) * LANES // 2
    rows = aligned_empty(n_doubles).view(dtype).reshape(*shape, LANES)
    rows[...] = 0
    return rows
