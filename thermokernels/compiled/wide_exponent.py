"""Doubles with an exponent of their own: the 53 bits of float64, without its range, for rates and laws of extremely slow chains.

A number is ``mantissa * 2**(512 exponent)`` with 2**-256 <= |mantissa| < 2**256, or a zero mantissa. Products, quotients and sums carry
one relative rounding error of 2**-53 each, however large or small they are; logarithms would lose the digits of their own size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit

DIGIT = 512
LARGE, SMALL = 2.0**256, 2.0**-256
UP, DOWN = 2.0**DIGIT, 2.0**-DIGIT
# ln 2 in two parts, the first with 21 trailing zero bits, so that a multiple of it is exact (fdlibm e_exp.c).
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


@jit
def normal(mantissa, exponent):
    """The pair with its mantissa back in range, for one that is off by at most one digit."""
    size = abs(mantissa)
    if size >= LARGE:
        return mantissa * DOWN, exponent + 1
    if size < SMALL and size > 0.0:
        return mantissa * UP, exponent - 1
    return mantissa, exponent


@jit
def multiply(a, p, b, q):
    """(a, p) * (b, q)."""
    return normal(a * b, p + q)


@jit
def divide(a, p, b, q):
    """(a, p) / (b, q)."""
    return normal(a / b, p - q)


@jit
def add(a, p, b, q):
    """(a, p) + (b, q); two digits apart, the smaller one is below 2**-512 of the larger and no part of the sum."""
    if p == q:
        return normal(a + b, p)
    if a == 0.0:
        return b, q
    if b == 0.0:
        return a, p
    if p == q + 1:
        return normal(a + b * DOWN, p)
    if q == p + 1:
        return normal(a * DOWN + b, q)
    if p > q:
        return a, p
    return b, q


class Wide(NamedTuple):
    """An array of such numbers: mantissas (float64) and exponents (int64) of one shape."""

    mantissa: Floats
    exponent: NDArray[np.int64]

    def take(self, index: Any) -> Wide:
        """The entries ``array[index]``."""
        return Wide(self.mantissa[index], self.exponent[index])

    def to_floats(self) -> Floats:
        """As float64: infinite or zero where that range is exceeded."""
        with np.errstate(over="ignore", under="ignore"):
            return _shifted(self.mantissa, self.exponent)

    def log(self) -> Floats:
        """Natural logarithm of the absolute values; -inf for zero."""
        with np.errstate(divide="ignore"):
            return np.log(np.abs(self.mantissa)) + np.where(self.mantissa != 0, self.exponent * (DIGIT * math.log(2)), 0.0)


def _shifted(mantissa: Floats, digits: NDArray[np.int64]) -> Floats:
    """mantissa * 2**(512 digits) as float64."""
    shifted: Floats = np.ldexp(mantissa, (DIGIT * np.clip(digits, -4, 4)).astype(np.intc))
    return shifted


def normalised(mantissa: Floats, exponent: NDArray[np.int64]) -> Wide:
    """Finite mantissas of any size brought into range."""
    while True:
        size = np.abs(mantissa)
        shift = (size >= LARGE).astype(np.int64) - ((size < SMALL) & (size > 0.0))
        if not shift.any():
            return Wide(np.asarray(mantissa, order="C"), np.asarray(np.where(mantissa == 0.0, 0, exponent), order="C"))
        mantissa, exponent = _shifted(mantissa, -shift), exponent + shift


def from_floats(values: Floats) -> Wide:
    """Finite float64 values, exactly."""
    return normalised(values, np.zeros(values.shape, dtype=np.int64))


def from_long_doubles(values: NDArray[np.longdouble]) -> Wide:
    """Finite long doubles, rounded once."""
    mantissa, powers = np.frexp(values)
    digits = np.rint(powers / DIGIT).astype(np.int64)
    return normalised(np.ldexp(mantissa.astype(np.float64), (powers - DIGIT * digits).astype(np.intc)), digits)


def exponential(values: Floats, remainders: Floats | float = 0.0) -> Wide:
    """exp(x + r) for |x| up to 1e8 and r a remainder of its rounding, right to four roundings and r^2."""
    digits = np.rint(values / (DIGIT * (LN2_HIGH + LN2_LOW)))
    exact = values - digits * (DIGIT * LN2_HIGH)
    low = digits * (DIGIT * LN2_LOW)
    rest = exact - low
    scale = np.exp(rest)
    return normalised(scale + scale * (((exact - rest) - low) + remainders), digits.astype(np.int64))


def product(*factors: Wide) -> Wide:
    """Elementwise product, broadcast."""
    result = factors[0]
    for factor in factors[1:]:
        result = normalised(result.mantissa * factor.mantissa, result.exponent + factor.exponent)
    return result


def quotient(numerator: Wide, denominator: Wide) -> Wide:
    """Elementwise quotient, broadcast; the denominator has no zeros."""
    return normalised(numerator.mantissa / denominator.mantissa, numerator.exponent - denominator.exponent)


def root(values: Wide) -> Wide:
    """Elementwise square root."""
    odd = values.exponent % 2
    return normalised(np.sqrt(values.mantissa) * 2.0 ** (0.5 * DIGIT * odd), (values.exponent - odd) // 2)


def total(terms: Wide) -> Wide:
    """The sum of all entries, rounded once (``math.fsum``), as an array of shape ()."""
    present = terms.mantissa != 0.0
    top = int(terms.exponent[present].max()) if present.any() else 0
    return normalised(np.array(math.fsum(_shifted(terms.mantissa, terms.exponent - top).ravel())), np.array(top, dtype=np.int64))


def column_totals(terms: Wide) -> Wide:
    """:func:`total` of each column."""
    sums = [total(terms.take((slice(None), a))) for a in range(terms.mantissa.shape[1])]
    return Wide(np.array([s.mantissa for s in sums]), np.array([s.exponent for s in sums], dtype=np.int64))


def join(left: Wide, right: Wide) -> Wide:
    """The columns of both."""
    return Wide(np.hstack([left.mantissa, right.mantissa]), np.hstack([left.exponent, right.exponent]))


def magnitude(values: Wide) -> Wide:
    """Absolute values."""
    return Wide(np.abs(values.mantissa), values.exponent)


def difference(left: Wide, right: Wide) -> Wide:
    """Elementwise left - right, broadcast."""
    left_top = np.where(left.mantissa != 0.0, left.exponent, right.exponent)
    top = np.maximum(left_top, np.where(right.mantissa != 0.0, right.exponent, left_top))
    return normalised(_shifted(left.mantissa, left.exponent - top) - _shifted(right.mantissa, right.exponent - top), top)
