"""Dense solves with A = I - S on small chains, without BLAS: the odd parity class eliminated where there is one, then Cholesky.

Ordered by parity A = [[D_e, -C], [-C', D_o]] with diagonal D (see :mod:`thermokernels.solvers.red_black`), so that D_e - C D_o^-1 C' on
half of the states is what is factorised, an eighth of the work; the projector on its null vector, the even part of sqrt(pi), is added to
it. Chains without parity are factorised as a whole. The factor U of U'U is made in place, four pivots at a time (Golub and Van Loan,
Matrix Computations, 4th ed., algorithm 4.2.2 by rows), and all right-hand sides are substituted for at once, eight in a vector: what
becomes of one does not depend on the others in any bit. A matrix is padded to a multiple of eight rows by those of the identity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.common.errors import UnresolvedError
from thermokernels.common.tolerances import EPSILON
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_float64 import DOUBLES, fill, load, multiply, multiply_add, store, zeros_on_a_line
from thermokernels.model.chain import GibbsChain

# Pivots, and rows, that are worked on together.
TOGETHER = 4

# Chains of up to so many states are factorised: on more, conjugate gradients are done sooner.
DENSE_STATES = 256


class Factor(NamedTuple):
    """U and the inverses of its diagonal, the states that are its rows, and their positions (-1 for an eliminated state)."""

    upper: np.ndarray  # (n * n,)
    inverses: np.ndarray  # (n,)
    kept: np.ndarray  # (n_kept,)
    position: np.ndarray  # (n_states,)


@jit
def _kept_states(n_states, bipartite):
    """The states of even parity, or all of them, and where each lies among them."""
    kept, position = np.empty(n_states // 2 if bipartite else n_states, np.int64), np.full(n_states, np.int64(-1))
    count = 0
    for x in range(n_states):
        parity, rest = 0, x
        while rest:
            rest &= rest - 1
            parity ^= 1
        if parity == 0 or not bipartite:
            kept[count], position[x] = x, count
            count += 1
    return kept, position


@jit
def _neighbours(generator, x, neighbours, rates):
    """The states that lie one flip from x, and the entries of S that lead there."""
    n_visible, n_hidden = generator.visible_rates.shape[0], generator.hidden_rates.shape[0]
    n_rows, n_columns = generator.escape.shape
    h, v = x // n_columns, x % n_columns
    for i in range(n_visible):
        neighbours[i], rates[i] = x ^ (1 << i), generator.visible_rates[i, h]
    for j in range(n_hidden):
        neighbours[n_visible + j], rates[n_visible + j] = x ^ (1 << (n_visible + j)), generator.hidden_rates[j, v]
    if generator.quotient:
        neighbours[n_visible + n_hidden - 1] = x ^ (n_rows * n_columns - 1)


@jit
def _matrix(generator, root_law, bipartite, kept, position, upper, n):
    """The upper triangle of what is factorised, row by row; zero at the start."""
    n_spins = generator.visible_rates.shape[0] + generator.hidden_rates.shape[0]
    neighbours, rates, escape = np.empty(n_spins, np.int64), np.empty(n_spins), generator.escape.ravel()
    roots, mass = root_law[kept], 0.0
    for root in roots:
        mass += root * root
    for r in range(kept.size, n):
        upper[r * n + r] = 1.0
    for r in range(kept.size):
        share, row = roots[r] / mass, upper[r * n : r * n + kept.size]
        for c in range(kept.size):
            row[c] = share * roots[c]
        row[r] += escape[kept[r]]
    for x in range(escape.size):
        if bipartite and position[x] >= 0:
            continue
        _neighbours(generator, x, neighbours, rates)
        for i in range(n_spins):
            row = position[neighbours[i]]
            if not bipartite:
                upper[position[x] * n + row] -= rates[i]
                continue
            share = rates[i] / escape[x]
            for j in range(i, n_spins):
                column = position[neighbours[j]]
                low, high = min(row, column), max(row, column)
                # two spins may both lead to one pair {x, -x}
                upper[low * n + high] -= (2.0 if low == high and i != j else 1.0) * share * rates[j]


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
def _substitute(upper, inverses, n, width, x):
    """x <- (U'U)^-1 x for the rows x[row * width : (row + 1) * width], a right-hand side a column."""
    for c in range(0, width, DOUBLES):
        for r in range(0, n, TOGETHER):
            k = r * width + c
            x0, x1, x2, x3 = load(x, k), load(x, k + width), load(x, k + 2 * width), load(x, k + 3 * width)
            for q in range(r):
                known, u = load(x, q * width + c), q * n + r
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
            store(x, k + width, x1)
            store(x, k + 2 * width, x2)
            store(x, k + 3 * width, x3)
        for r in range(n - TOGETHER, -1, -TOGETHER):
            k, u = r * width + c, r * n
            x0, x1, x2, x3 = load(x, k), load(x, k + width), load(x, k + 2 * width), load(x, k + 3 * width)
            for q in range(r + TOGETHER, n):
                known = load(x, q * width + c)
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
            store(x, k + width, x1)
            store(x, k + 2 * width, x2)
            store(x, k + 3 * width, x3)


@jit
def _factor(generator, root_law, bipartite):
    """The factorised system of a chain."""
    kept, position = _kept_states(root_law.size, bipartite)
    n = -(-kept.size // DOUBLES) * DOUBLES
    upper, inverses = zeros_on_a_line(n * n), np.empty(n)
    _matrix(generator, root_law, bipartite, kept, position, upper, n)
    _factorise(upper, inverses, n)
    return Factor(upper, inverses, kept, position)


@jit
def _solve(factor, generator, root_law, right_hand_sides, solutions):
    """A z = b for every row of right_hand_sides, z orthogonal to sqrt(pi)."""
    n_rhs, n_states = right_hand_sides.shape
    n, width = factor.inverses.size, -(-n_rhs // DOUBLES) * DOUBLES
    n_spins = generator.visible_rates.shape[0] + generator.hidden_rates.shape[0]
    neighbours, rates, escape = np.empty(n_spins, np.int64), np.empty(n_spins), generator.escape.ravel()
    x, rest = zeros_on_a_line(n * width), zeros_on_a_line(n_states * width)  # rest: of the eliminated states, then of all
    for a in range(n_rhs):
        b = right_hand_sides[a]
        for s in range(n_states):
            p = factor.position[s]
            if p >= 0:
                x[p * width + a] = b[s]
            else:
                rest[s * width + a] = b[s] / escape[s]
    for s in range(n_states):
        if factor.position[s] < 0:
            _neighbours(generator, s, neighbours, rates)
            for i in range(n_spins):
                rate, k = fill(rates[i]), factor.position[neighbours[i]] * width
                for c in range(0, width, DOUBLES):
                    store(x, k + c, multiply_add(rate, load(rest, s * width + c), load(x, k + c)))
    _substitute(factor.upper, factor.inverses, n, width, x)
    for s in range(n_states):
        p = factor.position[s]
        if p >= 0:
            for c in range(0, width, DOUBLES):
                store(rest, s * width + c, load(x, p * width + c))
            continue
        _neighbours(generator, s, neighbours, rates)
        for i in range(n_spins):
            rate, k = fill(rates[i] / escape[s]), factor.position[neighbours[i]] * width
            for c in range(0, width, DOUBLES):
                store(rest, s * width + c, multiply_add(rate, load(x, k + c), load(rest, s * width + c)))
    for c in range(0, width, DOUBLES):
        along = fill(0.0)
        for s in range(n_states):
            along = multiply_add(fill(-root_law[s]), load(rest, s * width + c), along)
        for s in range(n_states):
            store(rest, s * width + c, multiply_add(fill(root_law[s]), along, load(rest, s * width + c)))
    for a in range(n_rhs):
        for s in range(n_states):
            solutions[a, s] = rest[s * width + a]


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
    if not EPSILON * found.inverses.max() ** 2 < 1.0:  # also when it is NaN
        raise UnresolvedError(
            "A + sqrt(pi) sqrt(pi)' is not positive definite in float64: the spectral gap is below rounding; scale the couplings down"
        )
    return found


def solve(factorised: Factor, chain: GibbsChain, right_hand_sides: Floats) -> Floats:
    """Solutions (k, n_states) of A z = b for the rows b, orthogonal to sqrt(pi). The caller checks the true residual."""
    solutions = np.empty(right_hand_sides.shape)
    _solve(factorised, chain.generator, chain.root_law, np.ascontiguousarray(right_hand_sides), solutions)
    return solutions
