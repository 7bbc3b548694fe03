"""Numbers of twice the working precision: a pair high + low of float64, low at most half a unit in the last place of high.

For the few sums and exponentials of a kernel whose difference is what is wanted. Sums and products are free of error but for terms of a
relative 2**-104 (Dekker, Numer. Math. 18 (1971) 224; Hida, Li and Bailey, ARITH 15 (2001) 155); the exponential is right to a relative
1e-28 for arguments between -600 and 700 (:func:`exponential`), below that by what the range of float64 leaves of the low half.
Compiled without fast-math and without contraction, which they rest on.
"""

from __future__ import annotations

import math

import numba
from numba import types

from thermokernels.compiled.decorator import jit

Pair = tuple[float, float]

# 2^27 + 1: splits a double into two halves whose products are exact.
SPLITTER = 134217729.0
# ln 2, rounded to float64 and what that leaves
LN2_HIGH, LN2_LOW = 0.6931471805599453, 2.3190468138462996e-17
# 1/3! and 1/4! likewise
THIRD_HIGH, THIRD_LOW = 0.16666666666666666, 9.25185853854297e-18
FOURTH_HIGH, FOURTH_LOW = 0.041666666666666664, 2.3129646346357427e-18
# The argument is divided by 2^9, so that |r| <= 7e-4.
HALVINGS = 9


if numba.config.DISABLE_JIT:

    def _fused(a, b, c):
        """a b + c rounded once, where -c is a b rounded (Dekker): all that is asked for here."""
        t = SPLITTER * a
        a_high = t - (t - a)
        t = SPLITTER * b
        b_high = t - (t - b)
        a_low, b_low = a - a_high, b - b_high
        return ((a_high * b_high + c) + a_high * b_low + a_low * b_high) + a_low * b_low

else:
    from numba.core.extending import intrinsic

    @intrinsic
    def _fused(typing_context, a, b, c):
        """a b + c rounded once: one instruction where the processor has it, a function of the C library elsewhere."""

        def generate(context, builder, signature, arguments):
            return builder.fma(*arguments)

        return types.float64(types.float64, types.float64, types.float64), generate


@jit
def two_sum(a: float, b: float) -> Pair:
    """a + b as a pair, exactly."""
    sum_ = a + b
    of_b = sum_ - a
    return sum_, (a - (sum_ - of_b)) + (b - of_b)


@jit
def ordered_sum(a: float, b: float) -> Pair:
    """The same for |a| >= |b|."""
    sum_ = a + b
    return sum_, b - (sum_ - a)


@jit
def two_product(a: float, b: float) -> Pair:
    """a b as a pair, exactly while neither it nor its low half over- or underflows."""
    product = a * b
    return product, _fused(a, b, -product)


@jit
def add(a: float, p: float, b: float, q: float) -> Pair:
    """(a, p) + (b, q)."""
    high, low = two_sum(a, b)
    rest, lost = two_sum(p, q)
    high, low = ordered_sum(high, low + rest)
    return ordered_sum(high, low + lost)


@jit
def multiply(a: float, p: float, b: float, q: float) -> Pair:
    """(a, p) * (b, q)."""
    high, low = two_product(a, b)
    return ordered_sum(high, low + (a * q + p * b))


@jit
def divide(a: float, p: float, b: float, q: float) -> Pair:
    """(a, p) / (b, q)."""
    first = a / b
    high, low = multiply(b, q, first, 0.0)
    high, low = add(a, p, -high, -low)
    second = high / b
    left, rest = multiply(b, q, second, 0.0)
    high, low = add(high, low, -left, -rest)
    high, low = ordered_sum(first, second + high / b)
    return high, low


@jit
def exponential(a: float, p: float) -> Pair:
    """exp(a + p) as a pair, zero below -700."""
    if a < -700.0:
        return 0.0, 0.0
    whole = math.floor(a / LN2_HIGH + 0.5)
    high, low = multiply(whole, 0.0, LN2_HIGH, LN2_LOW)
    high, low = add(a, p, -high, -low)
    high, low = high * 2.0**-HALVINGS, low * 2.0**-HALVINGS
    # e^r - 1 = r + r^2 (1/2 + r (1/6 + r (1/24 + r ...))): the terms from the fifth on are below 2e-15 of r, so that plain doubles will do
    tail = (1.0 + high * (1.0 + high * (1.0 + high * (1.0 + high / 9.0) / 8.0) / 7.0) / 6.0) / 120.0
    sum_, rest = ordered_sum(FOURTH_HIGH, FOURTH_LOW + high * tail)
    sum_, rest = multiply(sum_, rest, high, low)
    sum_, rest = add(THIRD_HIGH, THIRD_LOW, sum_, rest)
    sum_, rest = multiply(sum_, rest, high, low)
    sum_, rest = add(0.5, 0.0, sum_, rest)
    square, square_low = multiply(high, low, high, low)
    sum_, rest = multiply(sum_, rest, square, square_low)
    sum_, rest = add(high, low, sum_, rest)
    # and as often as it was halved x -> 2 x + x^2, which keeps the digits of a small x
    for _ in range(HALVINGS):
        high, low = multiply(sum_, rest, sum_, rest)
        sum_, rest = add(2.0 * sum_, 2.0 * rest, high, low)
    sum_, rest = add(1.0, 0.0, sum_, rest)
    return math.ldexp(sum_, int(whole)), math.ldexp(rest, int(whole))
