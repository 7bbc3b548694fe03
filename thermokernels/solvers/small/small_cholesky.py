"""Dense solves with A = I - S on small chains, without BLAS: the odd parity class eliminated where there is one, then Cholesky.

What is left on half of the states is 1 - B B' (`packed_classes.py`), whose factorisation is an eighth of the work;
the projector on its null vector is added to it. Of a chain without parity it is 1 - B on all states. The factor U of
U'U is made in place, four pivots at a time (Golub and Van Loan, Matrix Computations, 4th ed., algorithm 4.2.2 by rows), and right-hand
sides are substituted for eight at once (`packs.py`). A matrix is padded to a multiple of eight rows by those of the
identity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, fill, load, multiply, multiply_add, store, zeros_on_a_line
from thermokernels.model.chain import GibbsChain
from thermokernels.solvers.small.packed_classes import Classes, _classes, _eliminate, _substitute_back
from thermokernels.solvers.small.packs import _count, _flips, _pack, _unpack

# Pivots, and rows, that are worked on together.
TOGETHER = 4

# Chains of up to so many states are factorised: on more, conjugate gradients are done sooner.
DENSE_STATES = 256


class Triangle(NamedTuple):
    """U and the inverses of its diagonal."""

    upper: np.ndarray  # (n * n,)
    inverses: np.ndarray  # (n,)


@jit
def _class_matrix(classes, n, upper):
    """1 - B B', of a single class 1 - B, with the projector on its null vector, row by row; zero at the start."""
    n_spins, masks, null = classes.masks.size, classes.masks, classes.null
    for r in range(null.size):
        row, share = upper[r * n : r * n + null.size], null[r]
        for c in range(null.size):
            row[c] = share * null[c]
        row[r] += 1.0
        for i in range(n_spins):
            share, other = classes.into_even[r * n_spins + i], r ^ masks[i]
            # unsigned, or a look whether an index is negative would take as long as the rest
            if classes.into_odd.size == 0:
                upper[np.uint64(r * n + other)] -= share  # two spins may both lead to one pair {x, -x}
                continue
            for j in range(n_spins):
                upper[np.uint64(r * n + (other ^ masks[j]))] -= share * classes.into_odd[np.uint64(other * n_spins + j)]
    for r in range(null.size, n):
        upper[r * n + r] = 1.0


@jit
def _factorise(upper, inverses, n):
    """upper <- U with U'U the symmetric matrix whose upper triangle it held; below the diagonal it holds nothing of use."""
    for start in range(0, n, TOGETHER):
        for p in range(start, start + TOGETHER):
            first = p // DOUBLES * DOUBLES
            for q in range(start, p):
                factor = fill(-upper[q * n + p])
                for k in range(first, n, DOUBLES):
                    store(upper, p * n + k, multiply_add(factor, load(upper, q * n + k), load(upper, p * n + k)))
            inverses[p] = 1.0 / np.sqrt(upper[p * n + p])
            scale = fill(inverses[p])
            for k in range(first, n, DOUBLES):
                store(upper, p * n + k, multiply(scale, load(upper, p * n + k)))
        u0, u1, u2, u3 = start * n, (start + 1) * n, (start + 2) * n, (start + 3) * n
        for r in range(start + TOGETHER, n, 2):
            a0, a1, a2, a3 = fill(-upper[u0 + r]), fill(-upper[u1 + r]), fill(-upper[u2 + r]), fill(-upper[u3 + r])
            b0, b1, b2, b3 = fill(-upper[u0 + r + 1]), fill(-upper[u1 + r + 1]), fill(-upper[u2 + r + 1]), fill(-upper[u3 + r + 1])
            for k in range(r // DOUBLES * DOUBLES, n, DOUBLES):
                row0, row1, row2, row3 = load(upper, u0 + k), load(upper, u1 + k), load(upper, u2 + k), load(upper, u3 + k)
                here, below = load(upper, r * n + k), load(upper, (r + 1) * n + k)
                here, below = multiply_add(a0, row0, here), multiply_add(b0, row0, below)
                here, below = multiply_add(a1, row1, here), multiply_add(b1, row1, below)
                here, below = multiply_add(a2, row2, here), multiply_add(b2, row2, below)
                store(upper, r * n + k, multiply_add(a3, row3, here))
                store(upper, (r + 1) * n + k, multiply_add(b3, row3, below))


@jit
def _substitute(upper, inverses, n, x):
    """x <- (U'U)^-1 x of a pack."""
    for r in range(0, n, TOGETHER):
        k = r * DOUBLES
        x0, x1, x2, x3 = load(x, k), load(x, k + DOUBLES), load(x, k + 2 * DOUBLES), load(x, k + 3 * DOUBLES)
        for q in range(r):
            known, u = load(x, q * DOUBLES), q * n + r
            x0, x1 = multiply_add(fill(-upper[u]), known, x0), multiply_add(fill(-upper[u + 1]), known, x1)
            x2, x3 = multiply_add(fill(-upper[u + 2]), known, x2), multiply_add(fill(-upper[u + 3]), known, x3)
        u = r * n + r
        x0 = multiply(fill(inverses[r]), x0)
        x1 = multiply(fill(inverses[r + 1]), multiply_add(fill(-upper[u + 1]), x0, x1))
        x2 = multiply_add(fill(-upper[u + n + 2]), x1, multiply_add(fill(-upper[u + 2]), x0, x2))
        x2 = multiply(fill(inverses[r + 2]), x2)
        x3 = multiply_add(fill(-upper[u + n + 3]), x1, multiply_add(fill(-upper[u + 3]), x0, x3))
        x3 = multiply(fill(inverses[r + 3]), multiply_add(fill(-upper[u + 2 * n + 3]), x2, x3))
        store(x, k, x0)
        store(x, k + DOUBLES, x1)
        store(x, k + 2 * DOUBLES, x2)
        store(x, k + 3 * DOUBLES, x3)
    for r in range(n - TOGETHER, -1, -TOGETHER):
        k, u = r * DOUBLES, r * n
        x0, x1, x2, x3 = load(x, k), load(x, k + DOUBLES), load(x, k + 2 * DOUBLES), load(x, k + 3 * DOUBLES)
        for q in range(r + TOGETHER, n):
            known = load(x, q * DOUBLES)
            x0, x1 = multiply_add(fill(-upper[u + q]), known, x0), multiply_add(fill(-upper[u + n + q]), known, x1)
            x2, x3 = multiply_add(fill(-upper[u + 2 * n + q]), known, x2), multiply_add(fill(-upper[u + 3 * n + q]), known, x3)
        u += r
        x3 = multiply(fill(inverses[r + 3]), x3)
        x2 = multiply(fill(inverses[r + 2]), multiply_add(fill(-upper[u + 2 * n + 3]), x3, x2))
        x1 = multiply_add(fill(-upper[u + n + 2]), x2, multiply_add(fill(-upper[u + n + 3]), x3, x1))
        x1 = multiply(fill(inverses[r + 1]), x1)
        x0 = multiply_add(fill(-upper[u + 2]), x2, multiply_add(fill(-upper[u + 3]), x3, x0))
        x0 = multiply(fill(inverses[r]), multiply_add(fill(-upper[u + 1]), x1, x0))
        store(x, k, x0)
        store(x, k + DOUBLES, x1)
        store(x, k + 2 * DOUBLES, x2)
        store(x, k + 3 * DOUBLES, x3)


@jit
def _padded(n_states):
    """Rows of a matrix on so many states."""
    return -(-n_states // DOUBLES) * DOUBLES


@jit
def _factor_classes(classes):
    """The factor of what is left on the even states."""
    n = _padded(classes.null.size)
    upper, inverses = zeros_on_a_line(n * n), np.empty(n)
    _class_matrix(classes, n, upper)
    _factorise(upper, inverses, n)
    return Triangle(upper, inverses)


@jit
def _work(triangle):
    """Work space of a solve."""
    size = triangle.inverses.size * DOUBLES
    return zeros_on_a_line(3 * size).reshape((3, size))


@jit
def _solve_classes(triangle, classes, root_law, source, work, solution):
    """A z = b of a pack, z orthogonal to sqrt(pi); ``work`` is of three packs as long as the triangle, zero behind the class."""
    size = classes.null.size * DOUBLES
    odd, free = work[1, :size], work[2, :size]
    _eliminate(classes, source, work[0], odd, free, np.empty(DOUBLES))
    _substitute(triangle.upper, triangle.inverses, triangle.inverses.size, work[0])
    _substitute_back(classes, root_law, work[0], odd, free, solution)


class Factor(NamedTuple):
    """The factorised system of a chain."""

    triangle: Triangle
    classes: Classes


@jit
def _factor(generator, root_law, bipartite):
    """The factorised system of a chain."""
    classes = _classes(_flips(generator), root_law, bipartite)
    return Factor(_factor_classes(classes), classes)


@jit
def _solve(factor, root_law, right_hand_sides, solutions):
    """A z = b for every row of right_hand_sides, z orthogonal to sqrt(pi)."""
    source, solution = zeros_on_a_line(root_law.size * DOUBLES), zeros_on_a_line(root_law.size * DOUBLES)
    work = _work(factor.triangle)
    for p in range(_count(right_hand_sides.shape[0])):
        _pack(right_hand_sides, p * DOUBLES, source)
        _solve_classes(factor.triangle, factor.classes, root_law, source, work, solution)
        _unpack(solution, p * DOUBLES, solutions)


def is_bipartite(chain: GibbsChain) -> bool:
    """Whether every flip leads from one parity class to the other: on pairs {x, -x} where N is even."""
    return chain.dynamics.parity_halves and not (chain.quotient and chain.n_spins % 2)


def factor(chain: GibbsChain) -> Factor:
    """The factorised system of a chain of the single-site kernel.

    Raises
    ------
    UnresolvedError
        A pivot is not above rounding.
    """
    found: Factor = _factor(chain.generator, chain.root_law, is_bipartite(chain))
    # of a matrix whose diagonal is one or less, as many roundings as it has rows; also when it is NaN
    if not found.triangle.inverses.size * EPSILON * found.triangle.inverses.max() ** 2 < 1.0:
        if not chain.root_law.min() > 0.0:
            raise UnresolvedError("the law underflows in float64 at some state; scale the couplings down")
        raise UnresolvedError(
            "A + sqrt(pi) sqrt(pi)' is not positive definite in float64: the spectral gap is below rounding; scale the couplings down"
        )
    return found


def solve(factorised: Factor, chain: GibbsChain, right_hand_sides: Floats) -> Floats:
    """Solutions (k, n_states) of A z = b for the rows b, orthogonal to sqrt(pi). The caller checks the true residual."""
    solutions = np.empty(right_hand_sides.shape)
    _solve(factorised, chain.root_law, np.ascontiguousarray(right_hand_sides), solutions)
    return solutions
