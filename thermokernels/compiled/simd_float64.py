"""Eight float64 at a time: the few vector operations that numba's own loops do not turn into good code.

numba cannot keep a vector accumulator across a loop with a runtime bound, cannot swap neighbours inside a vector register, and must add
up a dot product one by one. A kernel written with these functions does all three, and its order of summation is fixed. LLVM
lowers the type to what the processor has (one AVX-512, two AVX2 or four NEON registers).

With ``NUMBA_DISABLE_JIT=1`` the same names are NumPy functions on arrays of length eight: the plain twin of every kernel built on them.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from thermokernels.compiled.decorator import jit

# Doubles of a vector.
DOUBLES = 8
ALIGNMENT = 64

# The entry of even parity among 2k and 2k + 1 is 2k + parity(k); WOVEN[j] is where entry j lies when the even ones come first.
PAIRS = 2 * np.arange(DOUBLES)
PARITIES = np.array([0, 1, 1, 0, 1, 0, 0, 1])
WOVEN = np.argsort(np.concatenate([PAIRS + PARITIES, PAIRS + 1 - PARITIES]))

if numba.config.DISABLE_JIT:

    def load(array, index):
        return array[index : index + DOUBLES].copy()

    def store(array, index, vector):
        array[index : index + DOUBLES] = vector

    def fill(scalar):
        return np.full(DOUBLES, scalar)

    def add(left, right):
        return left + right

    def subtract(left, right):
        return left - right

    def multiply(left, right):
        return left * right

    def multiply_add(left, right, accumulator):
        return left * right + accumulator

    def total(vector):
        pairs = vector[:4] + vector[4:]
        return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])

    def swap1(vector):
        return vector[[1, 0, 3, 2, 5, 4, 7, 6]]

    def swap2(vector):
        return vector[[2, 3, 0, 1, 6, 7, 4, 5]]

    def swap4(vector):
        return vector[[4, 5, 6, 7, 0, 1, 2, 3]]

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
        """Eight float64 in registers."""

        def __init__(self):
            super().__init__(name="thermokernels.Vector8")

    VECTOR = VectorType()
    LLVM_VECTOR = ir.VectorType(ir.DoubleType(), DOUBLES)

    @register_model(VectorType)
    class VectorModel(models.PrimitiveModel):
        """A vector is passed as one LLVM value."""

        def __init__(self, manager, numba_type):
            super().__init__(manager, numba_type, LLVM_VECTOR)

    def _pointer(context, builder, array_type, array, index):
        data = context.make_array(array_type)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), LLVM_VECTOR.as_pointer())

    @intrinsic
    def load(typing_context, array, index):
        """array[index : index + 8] of a contiguous one-dimensional float64 array, unchecked."""

        def generate(context, builder, signature, arguments):
            return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=8)

        return VECTOR(array, types.intp), generate

    @intrinsic
    def store(typing_context, array, index, vector):
        """array[index : index + 8] = vector, unchecked."""

        def generate(context, builder, signature, arguments):
            array_value, index_value, vector_value = arguments
            builder.store(vector_value, _pointer(context, builder, signature.args[0], array_value, index_value), align=8)
            return context.get_dummy_value()

        return types.void(array, types.intp, VECTOR), generate

    @intrinsic
    def fill(typing_context, scalar):
        """Eight times the same number."""

        def generate(context, builder, signature, arguments):
            first = builder.insert_element(ir.Constant(LLVM_VECTOR, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), DOUBLES), [0] * DOUBLES)
            return builder.shuffle_vector(first, ir.Constant(LLVM_VECTOR, ir.Undefined), zeros)

        return VECTOR(types.float64), generate

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

    def _mask(order):
        return ir.Constant(ir.VectorType(ir.IntType(32), len(order)), [int(k) for k in order])

    def permutation(kind, order, doc):
        """The word that reorders the entries of one vector, or tile."""

        def permute(typing_context, vector):
            def generate(context, builder, signature, arguments):
                return builder.shuffle_vector(arguments[0], ir.Constant(arguments[0].type, ir.Undefined), _mask(order))

            return kind(kind), generate

        permute.__doc__ = doc
        return intrinsic(permute)

    def _selection(order, doc):
        def select(typing_context, first, second):
            def generate(context, builder, signature, arguments):
                return builder.shuffle_vector(arguments[0], arguments[1], _mask(order))

            return VECTOR(VECTOR, VECTOR), generate

        select.__doc__ = doc
        return intrinsic(select)

    swap1 = permutation(VECTOR, [1, 0, 3, 2, 5, 4, 7, 6], "Exchange neighbours: entry k comes from k ^ 1.")
    swap2 = permutation(VECTOR, [2, 3, 0, 1, 6, 7, 4, 5], "Entry k comes from k ^ 2.")
    swap4 = permutation(VECTOR, [4, 5, 6, 7, 0, 1, 2, 3], "Entry k comes from k ^ 4.")
    reverse = permutation(VECTOR, [7, 6, 5, 4, 3, 2, 1, 0], "Entry k comes from 7 - k.")

    pick_even = _selection(PAIRS + PARITIES, "Of the pairs (2k, 2k + 1) in 16 entries, the one whose index has even parity.")
    pick_odd = _selection(PAIRS + 1 - PARITIES, "The other one.")
    weave_low = _selection(WOVEN[:DOUBLES], "The first eight of the 16 entries that pick_even and pick_odd took apart.")
    weave_high = _selection(WOVEN[DOUBLES:], "The last eight.")

    @intrinsic
    def total(typing_context, vector):
        """The sum of the eight entries, in the fixed order ((0+4)+(2+6)) + ((1+5)+(3+7))."""

        def generate(context, builder, signature, arguments):
            def lane(k):
                return builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), k))

            pairs = [builder.fadd(lane(k), lane(k + 4)) for k in range(4)]
            return builder.fadd(builder.fadd(pairs[0], pairs[2]), builder.fadd(pairs[1], pairs[3]))

        return types.float64(VECTOR), generate


@jit
def dot(x, y):
    """x'y in a fixed order of summation; the length is a multiple of eight."""
    sum0, sum1 = fill(0.0), fill(0.0)
    for k in range(0, x.size - DOUBLES, 2 * DOUBLES):
        sum0 = multiply_add(load(x, k), load(y, k), sum0)
        sum1 = multiply_add(load(x, k + DOUBLES), load(y, k + DOUBLES), sum1)
    if x.size % (2 * DOUBLES):
        sum0 = multiply_add(load(x, x.size - DOUBLES), load(y, y.size - DOUBLES), sum0)
    return total(add(sum0, sum1))


@jit
def add_multiple(factor, x, y):
    """y += factor * x; the length is a multiple of eight."""
    factors = fill(factor)
    for k in range(0, x.size, DOUBLES):
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
