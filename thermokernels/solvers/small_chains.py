"""All gradient observables of a small chain in one compiled call: right-hand sides, solutions, residuals and the sums over states.

What :mod:`thermokernels.solvers.many_observables` and :class:`thermokernels.solvers.resolvent.Solver` do with any number of states, without
a step in Python between: for chains whose arithmetic takes less time than such steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_float64 import DOUBLES, zeros_on_a_line
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.single_site import _apply_symmetrised_generator
from thermokernels.model.spin_sums import _correlate
from thermokernels.solvers import conjugate_gradients, red_black, small_cholesky
from thermokernels.solvers.many_observables import SHORTEST_BLOCK, _add_up, _inner

# On more states the solves are worth threads.
SMALL_STATES = 2**10

AIM = 0.05  # as red_black.AIM
EPSILON = 2.0**-52


class Solved(NamedTuple):
    """Right-hand sides b = sqrt(pi) f~ of f = -v_i h_j in C order, solutions of A z = b and residuals b - A z, (n_v n_h, n_states) each;
    the sums (n_v n_h, 6) of :class:`thermokernels.solvers.many_observables.RowSums`."""

    right_hand_sides: Floats
    vectors: Floats
    residuals: Floats
    sums: Floats


@jit
def empty(n_observables: int, n_states: int) -> Solved:
    """Arrays that have not been filled yet."""
    shape = n_observables, n_states
    return Solved(np.empty(shape), np.empty(shape), np.empty(shape), np.empty((n_observables, 6)))


@jit
def _product_sources(means, root_law, n_columns, rows):
    """rows[a] = sqrt(pi) (E_pi[v_i h_j] - v_i h_j), a = (i, j), and without what rounding leaves along sqrt(pi)."""
    n_visible, n_hidden = means.shape
    spins = np.empty((n_visible, n_columns))
    for i in range(n_visible):
        for v in range(n_columns):
            spins[i, v] = 1.0 - 2.0 * ((v >> i) & 1)
    for a in range(rows.shape[0]):
        i, j, row, along = a // n_hidden, a % n_hidden, rows[a], 0.0
        mean, visible = means[i, j], spins[i]
        for start in range(0, row.size, n_columns):
            hidden = 1.0 - 2.0 * ((start // n_columns >> j) & 1)
            here, roots = row[start : start + n_columns], root_law[start : start + n_columns]
            for v in range(n_columns):
                here[v] = roots[v] * (mean - hidden * visible[v])
            along += _inner(here, roots)
        # rounding of the mean: of an observable that hardly varies it is a large share
        for x in range(row.size):
            row[x] -= along * root_law[x]


@jit
def _solve(generator, root_law, right_hand_sides, rtol, vectors):
    """A z = b for every row; returns the largest number of iterations, 0 of a factorisation."""
    n_visible, n_hidden = generator.visible_rates.shape[0], generator.hidden_rates.shape[0]
    n_states, bipartite = root_law.size, not (generator.quotient and (n_visible + n_hidden) % 2)
    if n_states <= small_cholesky.DENSE_STATES:
        factor = small_cholesky._factor(generator, root_law, bipartite)
        small_cholesky._solve(factor, generator, root_law, right_hand_sides, vectors)
        return 0
    iterations = np.zeros(right_hand_sides.shape[0], np.int64)
    if bipartite and n_visible >= 4:
        classes = red_black._parity_classes(
            generator.escape.ravel(), np.empty(0), root_law, generator.visible_rates, generator.hidden_rates, generator.quotient
        )
        length = classes.null.shape[1]
        red_black._solve(classes, right_hand_sides, rtol, zeros_on_a_line(7 * length).reshape((7, length)), vectors, iterations)
        return iterations.max()
    length = -(-n_states // DOUBLES) * DOUBLES
    work, nothing = zeros_on_a_line(5 * length).reshape((5, length)), np.empty((0, 0))
    work[0, :n_states] = root_law
    conjugate_gradients._solve(generator, (nothing, nothing), right_hand_sides, AIM * rtol, work, vectors, iterations)
    return iterations.max()


@jit
def _solve_products(generator, law, root_law, rtol, solved):
    """Fill ``solved``; returns T_O = sum_a (2 b'z - z'A z), the largest relative residual (NaN where one is) and of the iterations."""
    n_visible, n_hidden = generator.visible_rates.shape[0], generator.hidden_rates.shape[0]
    means = np.empty((n_visible, n_hidden))
    _correlate(law, generator.escape.shape[1], means, np.empty(n_visible), np.empty(n_hidden))
    _product_sources(means, root_law, generator.escape.shape[1], solved.right_hand_sides)
    iterations = _solve(generator, root_law, solved.right_hand_sides, rtol, solved.vectors)
    _apply_symmetrised_generator(generator, solved.vectors, solved.residuals)
    for a in range(solved.sums.shape[0]):
        source, residual = solved.right_hand_sides[a], solved.residuals[a]
        for x in range(residual.size):
            residual[x] = source[x] - residual[x]
    block = max(generator.escape.shape[1], SHORTEST_BLOCK)
    _add_up(solved.right_hand_sides, solved.vectors, solved.residuals, generator.escape.ravel(), block, solved.sums)
    parts, worst = np.zeros(DOUBLES), 0.0  # as many roundings as NumPy's sum of so many numbers has
    for a in range(solved.sums.shape[0]):
        parts[a % DOUBLES] += solved.sums[a, 0] + solved.sums[a, 1]
        relative = np.sqrt(solved.sums[a, 2] / solved.sums[a, 4]) if solved.sums[a, 4] > 0.0 else 0.0
        if not relative <= worst:
            worst = relative
    return parts.sum(), worst, iterations


class Rounding(NamedTuple):
    """What rounding can have done: to a product A z as a share of z, to b and the sums as a share of b z, to the mean of an observable, and
    to T_O as a share of sum_x A_xx z_x^2 (:func:`thermokernels.quantities.variance_time.rounding`)."""

    product: float
    source: float
    mean: float
    entries: float


@jit
def _error_terms(sums, rounding):
    """(|r| + rounding of A z)^2, to be multiplied by 1 / gap, and what rounding moves T_O by, both of all observables."""
    squares, moved = 0.0, 0.0
    for a in range(sums.shape[0]):
        size = np.sqrt(sums[a, 3])
        missed = np.sqrt(sums[a, 2]) + rounding.product * size
        squares += missed * missed
        moved += (rounding.source * np.sqrt(sums[a, 4]) + rounding.mean * rounding.mean) * size + rounding.entries * sums[a, 5]
    return squares, moved


def solve_products(chain: GibbsChain, rtol: float) -> tuple[Solved, float, float, int]:
    """All of them, T_O, the largest relative residual and the largest number of iterations, of a chain of the single-site kernel."""
    solved = empty(chain.weights.size, chain.n_states)
    value, residual, iterations = _solve_products(chain.generator, chain.law, chain.root_law, rtol, solved)
    return solved, float(value), float(residual), int(iterations)
