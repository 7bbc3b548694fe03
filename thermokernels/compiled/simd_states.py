"""A cache line at a time, eight float64 or sixteen float32: the few vector operations that numba's own loops do not turn into good code.

numba cannot keep a vector accumulator across a loop with a runtime bound, cannot swap neighbours inside a vector register, and must add
up a dot product one by one. A kernel written with these functions does all three, and its order of summation is fixed. LLVM
lowers the types to what the processor has (one AVX-512, two AVX2 or four NEON registers). Which of the two types a word is about follows
from the array, or the scalar, that it is given, so that one kernel is compiled for both: ``lanes(array)`` is its step.

With ``NUMBA_DISABLE_JIT=1`` the same names are NumPy functions on arrays of length eight or sixteen: the plain twin of every kernel built
on them.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from thermokernels.compiled.decorator import jit

# float64 and float32 of a vector.
DOUBLES = 8
FLOATS = 16
ALIGNMENT = 64

# The entry of even parity among 2k and 2k + 1 is 2k + parity(k); WOVEN[j] is where entry j lies when the even ones come first.
PAIRS = 2 * np.arange(DOUBLES)
PARITIES = np.array([0, 1, 1, 0, 1, 0, 0, 1])
WOVEN = np.argsort(np.concatenate([PAIRS + PARITIES, PAIRS + 1 - PARITIES]))

if numba.config.DISABLE_JIT:

    def lanes(array):
        return ALIGNMENT // array.itemsize

    def load(array, index):
        return array[index : index + lanes(array)].copy()

    def store(array, index, vector):
        array[index : index + lanes(array)] = vector

    def fill(scalar):
        return np.full(FLOATS if isinstance(scalar, np.float32) else DOUBLES, scalar)

    def add(left, right):
        return left + right

    def subtract(left, right):
        return left - right

    def multiply(left, right):
        return left * right

    def multiply_add(left, right, accumulator):
        return left * right + accumulator

    def least(left, right):
        return np.where(left < right, left, right)

    def add_where(mask, vector, accumulator):
        return np.where(mask >> np.arange(FLOATS) & 1, accumulator + vector, accumulator)

    def total(vector):
        while vector.size > 1:
            vector = vector[: vector.size // 2] + vector[vector.size // 2 :]
        return np.float64(vector[0])

    def swap1(vector):
        return vector[np.arange(vector.size) ^ 1]

    def swap2(vector):
        return vector[np.arange(vector.size) ^ 2]

    def swap4(vector):
        return vector[np.arange(vector.size) ^ 4]

    def swap8(vector):
        return vector[np.arange(vector.size) ^ (8 % vector.size)]

    def reverse(vector):
        return vector[::-1].copy()

    def pick_even(low, high):
        return np.concatenate([low, high])[PAIRS + PARITIES]

    def pick_odd(low, high):
        return np.concatenate([low, high])[PAIRS + 1 - PARITIES]

    def weave_low(even, odd):
        return np.concatenate([even, odd])[WOVEN[:DOUBLES]]

    def weave_high(even, odd):
        return np.concatenate([even, odd])[WOVEN[DOUBLES:]]

else:
    from llvmlite import ir
    from numba import types
    from numba.core.extending import intrinsic, models, register_model

    class VectorType(types.Type):
        """A row of numbers in registers, ``size`` of ``element`` (a type of numba)."""

        def __init__(self, name, element, size):
            self.element, self.size = element, size
            self.llvm = ir.VectorType(ir.DoubleType() if element is types.float64 else ir.FloatType(), size)
            super().__init__(name=f"thermokernels.{name}")

    @register_model(VectorType)
    class VectorModel(models.PrimitiveModel):
        """A vector is passed as one LLVM value."""

        def __init__(self, manager, numba_type):
            super().__init__(manager, numba_type, numba_type.llvm)

    VECTORS = {
        types.float64: VectorType("Vector8", types.float64, DOUBLES),
        types.float32: VectorType("Vector16", types.float32, FLOATS),
    }

    def _pointer(context, builder, array_type, array, index):
        data = context.make_array(array_type)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), VECTORS[array_type.dtype].llvm.as_pointer())

    def constant_of(typing_context, array, number):
        """An intrinsic's answer: a number known when it is compiled, whatever the array holds."""

        def generate(context, builder, signature, arguments):
            return ir.Constant(ir.IntType(types.intp.bitwidth), number)

        return types.intp(array), generate

    @intrinsic
    def lanes(typing_context, array):
        """How many entries of the array a vector holds."""
        return constant_of(typing_context, array, VECTORS[array.dtype].size)

    @intrinsic
    def load(typing_context, array, index):
        """array[index : index + lanes] of a contiguous one-dimensional array, unchecked."""

        def generate(context, builder, signature, arguments):
            array_type = signature.args[0]
            return builder.load(_pointer(context, builder, array_type, *arguments), align=array_type.dtype.bitwidth // 8)

        return VECTORS[array.dtype](array, types.intp), generate

    @intrinsic
    def store(typing_context, array, index, vector):
        """array[index : index + lanes] = vector, unchecked."""

        def generate(context, builder, signature, arguments):
            array_value, index_value, vector_value = arguments
            array_type = signature.args[0]
            pointer = _pointer(context, builder, array_type, array_value, index_value)
            builder.store(vector_value, pointer, align=array_type.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(array, types.intp, VECTORS[array.dtype]), generate

    @intrinsic
    def fill(typing_context, scalar):
        """The same number in every lane."""
        kind = VECTORS[types.float32 if scalar == types.float32 else types.float64]

        def generate(context, builder, signature, arguments):
            undefined = ir.Constant(kind.llvm, ir.Undefined)
            first = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.size), [0] * kind.size))

        return kind(kind.element), generate

    @intrinsic
    def add(typing_context, left, right):
        """left + right, of two vectors or two tiles."""

        def generate(context, builder, signature, arguments):
            return builder.fadd(*arguments)

        return left(left, right), generate

    @intrinsic
    def subtract(typing_context, left, right):
        """left - right, of two vectors or two tiles; a product is fused with it where the processor can."""

        def generate(context, builder, signature, arguments):
            return builder.fsub(*arguments, flags=("contract",))

        return left(left, right), generate

    @intrinsic
    def multiply(typing_context, left, right):
        """left * right, of two vectors or two tiles."""

        def generate(context, builder, signature, arguments):
            return builder.fmul(*arguments)

        return left(left, right), generate

    @intrinsic
    def multiply_add(typing_context, left, right, accumulator):
        """left * right + accumulator, rounded once where the processor can."""

        def generate(context, builder, signature, arguments):
            left_value, right_value, accumulator_value = arguments
            product = builder.fmul(left_value, right_value, flags=("contract",))
            return builder.fadd(product, accumulator_value, flags=("contract",))

        return left(left, right, accumulator), generate

    @intrinsic
    def least(typing_context, left, right):
        """The smaller one of two entries, and the right one where one of them is NaN."""

        def generate(context, builder, signature, arguments):
            return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

        return left(left, right), generate

    @intrinsic
    def add_where(typing_context, mask, vector, accumulator):
        """accumulator + vector where a bit of the mask is set, accumulator elsewhere: 16 of float32, as many bits of uint16."""

        def generate(context, builder, signature, arguments):
            word, vector_value, accumulator_value = arguments
            bits = builder.bitcast(context.cast(builder, word, signature.args[0], types.uint16), ir.VectorType(ir.IntType(1), FLOATS))
            return builder.select(bits, builder.fadd(accumulator_value, vector_value), accumulator_value)

        return vector(mask, vector, accumulator), generate

    def _mask(order):
        return ir.Constant(ir.VectorType(ir.IntType(32), len(order)), [int(k) for k in order])

    def permutation(order_of, doc):
        """The word that reorders the entries of one vector, or tile, by ``order_of(its type)``."""

        def permute(typing_context, vector):
            def generate(context, builder, signature, arguments):
                order = order_of(signature.args[0])
                return builder.shuffle_vector(arguments[0], ir.Constant(arguments[0].type, ir.Undefined), _mask(order))

            return vector(vector), generate

        permute.__doc__ = doc
        return intrinsic(permute)

    def _selection(order, doc):
        def select(typing_context, first, second):
            def generate(context, builder, signature, arguments):
                return builder.shuffle_vector(arguments[0], arguments[1], _mask(order))

            return first(first, second), generate

        select.__doc__ = doc
        return intrinsic(select)

    def _exchange(flip):
        return lambda vector: np.arange(vector.size) ^ (flip % vector.size)

    swap1 = permutation(_exchange(1), "Exchange neighbours: entry k comes from k ^ 1.")
    swap2 = permutation(_exchange(2), "Entry k comes from k ^ 2.")
    swap4 = permutation(_exchange(4), "Entry k comes from k ^ 4.")
    swap8 = permutation(_exchange(8), "Entry k comes from k ^ 8; for float32 only.")
    reverse = permutation(lambda vector: np.arange(vector.size)[::-1], "Entry k comes from the other end.")

    pick_even = _selection(PAIRS + PARITIES, "Of the pairs (2k, 2k + 1) in 16 entries, the one whose index has even parity.")
    pick_odd = _selection(PAIRS + 1 - PARITIES, "The other one.")
    weave_low = _selection(WOVEN[:DOUBLES], "The first eight of the 16 entries that pick_even and pick_odd took apart.")
    weave_high = _selection(WOVEN[DOUBLES:], "The last eight.")

    @intrinsic
    def total(typing_context, vector):
        """The sum of the entries as float64, halves added until one is left: of eight ((0+4)+(2+6)) + ((1+5)+(3+7))."""

        def generate(context, builder, signature, arguments):
            sums, size = arguments[0], signature.args[0].size
            while size > 1:
                undefined, size = ir.Constant(sums.type, ir.Undefined), size // 2
                low, high = (builder.shuffle_vector(sums, undefined, _mask(range(first, first + size))) for first in (0, size))
                sums = builder.fadd(low, high)
            whole = builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))
            return whole if signature.args[0].element is types.float64 else builder.fpext(whole, ir.DoubleType())

        return types.float64(vector), generate


@jit
def dot(x, y):
    """x'y in a fixed order of summation; the length is a multiple of a vector."""
    step, zero = lanes(x), x.dtype.type(0.0)
    sum0, sum1 = fill(zero), fill(zero)
    for k in range(0, x.size - step, 2 * step):
        sum0 = multiply_add(load(x, k), load(y, k), sum0)
        sum1 = multiply_add(load(x, k + step), load(y, k + step), sum1)
    if x.size % (2 * step):
        sum0 = multiply_add(load(x, x.size - step), load(y, y.size - step), sum0)
    return total(add(sum0, sum1))


@jit
def add_multiple(factor, x, y):
    """y += factor * x; the length is a multiple of a vector."""
    factors = fill(x.dtype.type(factor))
    for k in range(0, x.size, lanes(x)):
        store(y, k, multiply_add(factors, load(x, k), load(y, k)))


@jit
def zeros_on_a_line(size):
    """Zeros whose first entry starts a cache line, for compiled code."""
    memory = np.zeros(size + DOUBLES)
    start = -(memory.ctypes.data // 8) % DOUBLES
    return memory[start : start + size]


def aligned_empty(*shape: int) -> NDArray[np.float64]:
    """An uninitialised float64 array whose first entry starts a cache line (NumPy itself promises 16 bytes)."""
    n_bytes = 8 * math.prod(shape)
    raw = np.empty(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + n_bytes].view(np.float64).reshape(shape)


def aligned_zeros(*shape: int) -> NDArray[np.float64]:
    """Zeros whose first entry starts a cache line."""
    zeros = aligned_empty(*shape)
    zeros[...] = 0.0
    return zeros


def aligned_singles(*shape: int) -> NDArray[np.float32]:
    """Zeros of float32 whose first entry starts a cache line."""
    size = math.prod(shape)
    return aligned_zeros(-(-size // 2)).view(np.float32)[:size].reshape(shape)
