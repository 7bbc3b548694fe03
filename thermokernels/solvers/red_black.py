"""Solves with A = I - S after exact elimination of one parity class, the fastest route for single-site chains.

Every flip changes the parity of the number of -1 spins, on the quotient too when N is even (the complement of N - 1 bits). Ordered by
parity, A = [[D_e, -C], [-C', D_o]] with diagonal D: the odd states are eliminated exactly, and conjugate gradients run on the Schur
complement D_e - C D_o^-1 C' of half the size, preconditioned by D_e, in a third of the iterations (red-black elimination; Saad,
Iterative Methods for Sparse Linear Systems, 2nd ed., section 10.5 and algorithm 9.1).

How classes are stored: :mod:`thermokernels.solvers.parity_classes`; products across: :mod:`thermokernels.solvers.parity_coupling`.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common import threads
from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.simd_states import DOUBLES, add, add_multiple, dot, fill, lanes, load, multiply, multiply_add, store, total
from thermokernels.model.chain import GibbsChain
from thermokernels.solvers.conjugate_gradients import FLOOR, MAX_ITERATIONS
from thermokernels.solvers.parity_classes import EVEN, ODD, Classes, _merge, _split
from thermokernels.solvers.parity_coupling import _from_other, _schur_product

PROJECT_EVERY = 8

# Aim well below the accepted residual: an iteration gains a factor of three, and gradients are of first order in the residual.
AIM = 0.05

# Products with A in a solve, or more: what it is worth in threads.
PRODUCTS = 16

# Entries whose squares are added up in one vector: longer sums would cost digits of float32.
SUMMED = 2**13


@inlined
def _project(null, x):
    """Remove sqrt(pi), the null vector of the Schur complement, from an even-class vector (nothing where a target makes it regular)."""
    norm = dot(null, null)
    if norm > 0.0:
        add_multiple(-dot(null, x) / norm, null, x)


@jit
def _descend(length, image, inverse, residual):
    """residual -= length * image; returns |residual| and residual' inverse residual, all in one pass."""
    real, square, product = residual.dtype.type, 0.0, 0.0
    backward = fill(real(-length))
    for first in range(0, residual.size, SUMMED):
        norms, weighted = fill(real(0.0)), fill(real(0.0))
        for k in range(first, min(first + SUMMED, residual.size), lanes(residual)):
            r = multiply_add(backward, load(image, k), load(residual, k))
            store(residual, k, r)
            norms = multiply_add(r, r, norms)
            weighted = multiply_add(multiply(r, load(inverse, k)), r, weighted)
        square += total(norms)
        product += total(weighted)
    return np.sqrt(square), product


@jit
def _turn(length, ratio, inverse, residual, x, step):
    """x += length * step, then step = ratio * step + inverse * residual; returns |x|, all in one pass."""
    real, square = residual.dtype.type, 0.0
    forward, ratios = fill(real(length)), fill(real(ratio))
    for first in range(0, x.size, SUMMED):
        sizes = fill(real(0.0))
        for k in range(first, min(first + SUMMED, x.size), lanes(x)):
            last = load(step, k)
            current = multiply_add(forward, last, load(x, k))
            store(x, k, current)
            store(step, k, multiply_add(ratios, last, multiply(load(inverse, k), load(residual, k))))
            sizes = multiply_add(current, current, sizes)
        square += total(sizes)
    return np.sqrt(square)


@jit
def _iterate(classes, residual, tolerance, floor, limit, before, step, image, odd, x):
    """At most ``limit`` steps from x = 0 for Schur complement x = residual, which becomes what is left: max(tolerance, floor |x|) will do.

    ``before`` is residual' D^-1 residual of the residual that the direction ``step`` was made of, or 0 where there is none yet; ``image``
    and ``odd`` are work space. Returns the number of steps, |residual|, |x|, and ``before`` of the direction that is left. A step is added
    to x when the next one is made, while both are at hand.
    """
    inverse, null = classes.inverse[0], classes.null[0]
    x[:] = 0.0
    norm, product = _descend(0.0, residual, inverse, residual)
    length, ratio, size, iteration = 0.0, product / before if before > 0.0 else 0.0, 0.0, 0
    while iteration < limit and norm > tolerance and norm > floor * size:
        size = _turn(length, ratio, inverse, residual, x, step)
        length = product / _schur_product(classes, step, odd, image)
        before = product
        norm, product = _descend(length, image, inverse, residual)
        iteration += 1
        if iteration % PROJECT_EVERY == 0:
            _project(null, residual)
            norm, product = _descend(0.0, image, inverse, residual)
        ratio = product / before
    add_multiple(length, step, x)
    return iteration, norm, size, before


@inlined
def _conjugate_gradients(classes, residual, tolerance, step, image, odd, x):
    """Schur complement x = residual (overwritten) until |residual| <= tolerance; returns the number of iterations."""
    step[:] = 0.0
    _project(classes.null[0], residual)
    return _iterate(classes, residual, tolerance, FLOOR, MAX_ITERATIONS, 0.0, step, image, odd, x)[0]


@inlined
def _odd_half(classes, source, x, image, out):
    """out = D_o^-1 (source + C' x): what the odd equations say; ``image`` is work space."""
    _from_other(classes, ODD, x, classes.inverse[1], image)
    for k in range(0, out.size, DOUBLES):
        store(out, k, multiply_add(load(classes.inverse[1], k), load(source, k), load(image, k)))


@jit
def _weights_along(classes, weights):
    """weights (2, length): sqrt(pi)'z = weights[0]'z_e + weights[1]'b_o where the odd equations hold; zero where A is regular."""
    if not dot(classes.null[0], classes.null[0]) > 0.0:
        weights[:] = 0.0
        return
    for k in range(0, weights.shape[1], DOUBLES):
        store(weights[1], k, multiply(load(classes.inverse[1], k), load(classes.null[1], k)))
    _from_other(classes, EVEN, weights[1], weights[0, :0], weights[0])
    for k in range(0, weights.shape[1], DOUBLES):
        store(weights[0], k, add(load(weights[0], k), load(classes.null[0], k)))


@inlined
def _complete(classes, weights, source_odd, solution, known):
    """The odd half of the solution from its even half, which is freed from what makes z lie along sqrt(pi); known = b_o + C' z_e.

    The odd equations hold exactly after back-substitution, z_o = D_o^-1 (b_o + C' z_e), so that what lies along sqrt(pi) is known from the
    even half alone, and the residual of the Schur complement is the full one up to rounding.
    """
    along = dot(weights[0], solution[0]) + dot(weights[1], source_odd)
    add_multiple(-along, classes.null[0], solution[0])
    _from_other(classes, ODD, solution[0], known[:0], known)
    for k in range(0, known.size, DOUBLES):
        both = add(load(source_odd, k), load(known, k))
        store(known, k, both)
        store(solution[1], k, multiply(load(classes.inverse[1], k), both))


@jit
def _solve(classes, right_hand_sides, rtol, work, solutions, iterations):
    """A z = b for every row of right_hand_sides; z orthogonal to sqrt(pi) where A is singular."""
    shape, free = classes.shape, classes.free[0]
    halves, solution, weights = work[0:2], work[3:5], work[7:9]
    source, even = work[2], work[3]
    _weights_along(classes, weights)
    for a in range(right_hand_sides.shape[0]):
        _split(right_hand_sides[a], shape, halves)
        norm = np.sqrt(dot(halves[0], halves[0]) + dot(halves[1], halves[1]))
        for k in range(0, even.size, DOUBLES):
            store(source, k, multiply(load(classes.inverse[1], k), load(halves[1], k)))
        _from_other(classes, EVEN, source, free, even)
        for k in range(0, even.size, DOUBLES):
            here = load(halves[0], k)
            if free.size > 0:
                here = multiply(load(free, k), here)
            store(source, k, add(here, load(even, k)))
        iterations[a] = _conjugate_gradients(classes, source, AIM * rtol * norm, work[4], work[5], work[6], even)
        _complete(classes, weights, halves[1], solution, source)
        _merge(solution, shape, solutions[a])


def applies_to(chain: GibbsChain) -> bool:
    """Whether the chain is bipartite under single flips and has rows of at least eight states of one parity."""
    return chain.dynamics.parity_halves and chain.n_visible >= 4 and not (chain.quotient and chain.n_spins % 2)


def solve(classes: Classes, right_hand_sides: np.ndarray, rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """Solutions (k, n_states) of A z = b for the rows b, and the CG iterations (k,) that each took.

    With a target, entries of b on it are ignored and those of z are zero. The caller checks the true residual.
    """
    right_hand_sides = np.ascontiguousarray(right_hand_sides)  # compiled code takes eight entries in a row
    n_rhs = len(right_hand_sides)
    solutions = simd_states.aligned_empty(*right_hand_sides.shape)
    iterations = np.zeros(n_rhs, dtype=np.int64)

    def solve_rows(rows: slice) -> None:
        work = simd_states.aligned_zeros(9, classes.null.shape[1])
        _solve(classes, right_hand_sides[rows], rtol, work, solutions[rows], iterations[rows])

    threads.for_rows(solve_rows, n_rhs, PRODUCTS * right_hand_sides.size * classes.shape.n_visible)
    return solutions, iterations
