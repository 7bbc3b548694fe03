"""Conjugate gradients on all of A = I - S: for the chains that parity does not halve (odd N on the quotient, narrow ones, block kernels).

One right-hand side after the other, so that its five vectors stay in cache (Hestenes and Stiefel, J. Res. Nat. Bur. Stand. 49 (1952) 409),
kept orthogonal to sqrt(pi), the null vector. The work space takes five vectors a thread. Kernels without a compiled product are asked for
their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, add_multiple, aligned_zeros, dot, fill, load, multiply_add, store, total
from thermokernels.model.chain import GibbsChain
from thermokernels.model.kernels.single_site import _apply_to_vector
from thermokernels.model.kernels.two_block import _apply_symmetrised_to_vector

MAX_ITERATIONS = 10_000

# CG cannot lower the residual below a few rounding errors of the products A x: going on then destroys the answer.
FLOOR = 4e-16


@jit
def _product(generator, block_laws, x, image):
    """image = A x, of the two-block kernel where its conditional laws are not empty, else of the single-site kernel."""
    if block_laws[0].size == 0:
        _apply_to_vector(generator, x, image)
        return
    _apply_symmetrised_to_vector(block_laws[0], block_laws[1], generator.quotient, x, image)
    for k in range(0, x.size, DOUBLES):
        store(image, k, multiply_add(fill(-1.0), load(image, k), load(x, k)))


@jit
def _advance(length, step, image, null, x, residual):
    """x += length * step and residual -= length * image, made orthogonal to null; returns |x|^2 and |residual|^2."""
    forward, backward = fill(length), fill(-length)
    sizes, along = fill(0.0), fill(0.0)
    for k in range(0, x.size, DOUBLES):
        current = multiply_add(forward, load(step, k), load(x, k))
        r = multiply_add(backward, load(image, k), load(residual, k))
        store(x, k, current)
        store(residual, k, r)
        sizes = multiply_add(current, current, sizes)
        along = multiply_add(load(null, k), r, along)
    remove, squares = fill(-total(along)), fill(0.0)
    for k in range(0, x.size, DOUBLES):
        r = multiply_add(remove, load(null, k), load(residual, k))
        store(residual, k, r)
        squares = multiply_add(r, r, squares)
    return total(sizes), total(squares)


@jit
def _conjugate_gradients(generator, block_laws, tolerance, work):
    """A x = residual for work = (null, residual, x, step, image), the last three zero at the start; returns the number of iterations."""
    null, residual, x, step, image = work[0], work[1], work[2], work[3], work[4]
    size, square = _advance(0.0, step, image, null, x, residual)
    ratio = 0.0
    for iteration in range(MAX_ITERATIONS):
        if not np.sqrt(square) > max(tolerance, FLOOR * np.sqrt(size)):
            return iteration
        again = fill(ratio)
        for k in range(0, x.size, DOUBLES):
            store(step, k, multiply_add(again, load(step, k), load(residual, k)))
        _product(generator, block_laws, step, image)
        size, updated = _advance(square / dot(step, image), step, image, null, x, residual)
        ratio, square = updated / square, updated
    return MAX_ITERATIONS


@jit
def _solve(generator, block_laws, right_hand_sides, aim, work, solutions, iterations):
    """A z = b to |b - A z| <= aim |b| for every row of right_hand_sides, z orthogonal to sqrt(pi) = work[0]."""
    n_states = right_hand_sides.shape[1]
    for a in range(right_hand_sides.shape[0]):
        work[2:] = 0.0
        work[1, :n_states] = right_hand_sides[a]
        iterations[a] = _conjugate_gradients(generator, block_laws, aim * np.sqrt(dot(work[1], work[1])), work)
        add_multiple(-dot(work[0], work[2]), work[0], work[2])
        solutions[a] = work[2, :n_states]


def solve(chain: GibbsChain, right_hand_sides: Floats, aim: float) -> tuple[Floats, np.ndarray]:
    """Solutions (k, n_states) of A z = b for the rows b, and the CG iterations (k,) that each took.

    ``aim`` is the relative residual at which a row stops, unless rounding stops it before. The caller checks the true residual.
    """
    right_hand_sides = np.ascontiguousarray(right_hand_sides)
    n_rhs, n_states = right_hand_sides.shape
    block_laws = chain.dynamics.compiled_product(chain)
    if block_laws is None:
        return solve_by_products(chain.apply_symmetrised_generator, chain.root_law, right_hand_sides, aim)
    solutions = np.empty((n_rhs, n_states))
    iterations = np.zeros(n_rhs, dtype=np.int64)

    def solve_rows(rows: slice) -> None:
        work = aligned_zeros(5, -(-n_states // DOUBLES) * DOUBLES)  # vectors of fewer than eight states are padded by zeros
        work[0, :n_states] = chain.root_law
        _solve(chain.generator, block_laws, right_hand_sides[rows], aim, work, solutions[rows], iterations[rows])

    threads.for_rows(solve_rows, n_rhs, right_hand_sides.size * chain.n_spins)
    return solutions, iterations


def solve_by_products(
    multiply: Callable[[Floats], Floats], null: Floats, right_hand_sides: Floats, aim: float
) -> tuple[Floats, np.ndarray]:
    """:func:`solve` for any A given by its product with rows (k, n), all rows side by side: one that has converged stands still.

    ``null`` is the unit vector of the kernel of A.
    """
    solutions, iterations = np.zeros_like(right_hand_sides), np.zeros(len(right_hand_sides), dtype=np.int64)
    residuals, steps = _orthogonal(right_hand_sides, null), np.zeros_like(right_hand_sides)
    targets, squares = aim * np.sqrt(inner_products(right_hand_sides, right_hand_sides)), inner_products(residuals, residuals)
    ratios = np.zeros(len(right_hand_sides))
    for _ in range(MAX_ITERATIONS):
        going = np.flatnonzero(np.sqrt(squares) > np.maximum(targets, FLOOR * np.sqrt(inner_products(solutions, solutions))))
        if going.size == 0:
            break
        step = ratios[going, None] * steps[going] + residuals[going]
        image = multiply(step)
        with np.errstate(divide="ignore", invalid="ignore"):  # a step that A takes to nothing: no number, which the residual check reports
            lengths = squares[going] / inner_products(step, image)
            rest = _orthogonal(residuals[going] - lengths[:, None] * image, null)
            solutions[going] += lengths[:, None] * step
        steps[going] = step
        residuals[going], updated = rest, inner_products(rest, rest)
        ratios[going], squares[going] = updated / squares[going], updated
        iterations[going] += 1
    return _orthogonal(solutions, null), iterations


def _orthogonal(rows: Floats, null: Floats) -> Floats:
    return rows - inner_products(rows, null)[:, None] * null


def inner_products(rows: Floats, others: Floats) -> Floats:
    """<row, other> for every row (k, n) of others (k, n) or one other (n,), (k,)."""
    # einsum sums each row by itself, in one order; a BLAS product would let the number of rows and of threads decide
    sums: Floats = np.einsum("an,an->a", rows, others) if others.ndim == 2 else np.einsum("an,n->a", rows, others)
    return sums
