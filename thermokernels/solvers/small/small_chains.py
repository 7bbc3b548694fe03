"""All gradient observables of a small chain in one compiled call: right-hand sides, solutions, residuals and the sums over states.

What :mod:`thermokernels.solvers.many_observables` and :class:`thermokernels.solvers.resolvent.Solver` do with any number of states, without
a step in Python between: for chains whose arithmetic takes less time than such steps. Observables are rows (`rows.py`) where those fill the
registers, or else packs of eight at once (`packs.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.simd_states import DOUBLES, zeros_on_a_line
from thermokernels.model.spin_sums import _correlate
from thermokernels.solvers.parity_classes import _parity_classes
from thermokernels.solvers.red_black import AIM
from thermokernels.solvers.row_sums import SHORTEST_BLOCK, _sums
from thermokernels.solvers.small import mixed_side_by_side, packed_classes, packed_gradients, packs, rows, small_cholesky
from thermokernels.solvers.small.small_cholesky import DENSE_STATES

# On more states the solves are worth threads, and packs leave the nearest caches before rows do.
SMALL_STATES, SMALL_STATES_OF_ROWS = 2**10, 2**11

EPSILON = 2.0**-52


class Solved(NamedTuple):
    """Right-hand sides b = sqrt(pi) f~ of f = -v_i h_j in C order and the solutions of A z = b, as rows (n_v n_h, n_states) or as packs
    (n_packs, 8 n_states); the sums (n_v n_h, 6) of :class:`thermokernels.solvers.many_observables.RowSums`."""

    right_hand_sides: Floats
    vectors: Floats
    sums: Floats


@jit
def _are_rows(vectors, n_states):
    return vectors.shape[1] == n_states


def is_small(n_visible: int, n_hidden: int, quotient: bool) -> bool:
    """Whether all observables of so small a chain are solved for in one compiled call."""
    n_states = 1 << (n_visible + n_hidden - quotient)
    return n_states <= SMALL_STATES or (n_states <= SMALL_STATES_OF_ROWS and bool(rows._fit(n_visible, n_hidden, quotient)))


def shape_of(n_visible: int, n_hidden: int, quotient: bool) -> tuple[int, int]:
    """The shape of right-hand sides and solutions of a small chain, see :class:`Solved`."""
    n_states, n_observables = 1 << (n_visible + n_hidden - quotient), n_visible * n_hidden
    if n_states > DENSE_STATES and rows._fit(n_visible, n_hidden, quotient):
        return n_observables, n_states
    return -(-n_observables // DOUBLES), DOUBLES * n_states


def as_rows(values: Floats, n_observables: int, n_states: int) -> Floats:
    """Right-hand sides or solutions one a row, whichever they are."""
    return values if _are_rows(values, n_states) else packs.as_rows(values, n_observables)


@jit
def empty(n_observables: int, n_states: int) -> Solved:
    """Packs that have not been filled yet."""
    return Solved(packs._empty(n_observables, n_states), packs._empty(n_observables, n_states), np.empty((n_observables, 6)))


@inlined
def _solve_packs(classes, root_law, rtol, solved):
    """A z = b of all packs; returns the largest number of iterations, 0 of a factorisation."""
    if root_law.size <= small_cholesky.DENSE_STATES:
        triangle = small_cholesky._factor_classes(classes)
        work = small_cholesky._work(triangle)
        for p in range(solved.vectors.shape[0]):
            small_cholesky._solve_classes(triangle, classes, root_law, solved.right_hand_sides[p], work, solved.vectors[p])
        return 0
    size, aims, iterations = classes.null.size * DOUBLES, np.empty(DOUBLES), 0
    work = zeros_on_a_line(6 * size).reshape((6, size))
    even, odd, x = work[3], work[4], work[5]
    for p in range(solved.vectors.shape[0]):
        # The odd equations hold exactly after back-substitution: the residual of the even ones is the full one up to rounding.
        packed_classes._eliminate(classes, solved.right_hand_sides[p], even, odd, work[0], aims)
        for a in range(DOUBLES):
            aims[a] = AIM * rtol * np.sqrt(aims[a])
        iterations = max(iterations, packed_gradients._conjugate_gradients(classes, even, aims, work[:3], x))
        packed_classes._substitute_back(classes, root_law, x, odd, work[0], solved.vectors[p])
    return iterations


@inlined
def _solve_in_packs(generator, means, root_law, rtol, solved):
    """Fill ``solved``, which is of packs; returns the largest number of iterations."""
    n_spins, n_columns, flips = (
        generator.visible_rates.shape[0] + generator.hidden_rates.shape[0],
        generator.escape.shape[1],
        packs._flips(generator),
    )
    for p in range(solved.vectors.shape[0]):
        packs._sources(means, root_law, n_columns, p * DOUBLES, solved.right_hand_sides[p])
    bipartite = not (generator.quotient and n_spins % 2)
    iterations = _solve_packs(packed_classes._classes(flips, root_law, bipartite), root_law, rtol, solved)
    product = zeros_on_a_line(root_law.size * DOUBLES)
    for p in range(solved.vectors.shape[0]):
        packs._add_up(flips, solved.right_hand_sides[p], solved.vectors[p], p * DOUBLES, product, solved.sums)
    return iterations


@inlined
def _solve_in_rows(generator, means, root_law, rtol, solved):
    """The same of rows."""
    rows._sources(means, root_law, generator.escape.shape[1], solved.right_hand_sides)
    nothing, iterations = np.empty(0), np.zeros(solved.vectors.shape[0], np.int64)
    rates = generator.visible_rates, generator.hidden_rates
    classes = _parity_classes(generator.escape.ravel(), nothing, root_law, rates[0], rates[1], generator.quotient)
    in_single = mixed_side_by_side._fits(rates[0].shape[0], generator.escape, root_law)
    mixed_side_by_side._solve(classes, solved.right_hand_sides, rtol, in_single, solved.vectors, iterations)
    _sums(generator, max(generator.escape.shape[1], SHORTEST_BLOCK), solved.right_hand_sides, solved.vectors, solved.sums)
    return iterations.max()


@inlined
def _solve_products(generator, law, root_law, rtol, solved):
    """Fill ``solved``; returns T_O = sum_a (2 b'z - z'A z), the largest relative residual (NaN where one is) and of the iterations."""
    n_visible, n_hidden = generator.visible_rates.shape[0], generator.hidden_rates.shape[0]
    means = np.empty((n_visible, n_hidden))
    _correlate(law, generator.escape.shape[1], means, np.empty(n_visible), np.empty(n_hidden))
    if not _are_rows(solved.vectors, root_law.size):
        iterations = _solve_in_packs(generator, means, root_law, rtol, solved)
    else:
        iterations = _solve_in_rows(generator, means, root_law, rtol, solved)
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
