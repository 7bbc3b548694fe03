"""Solves with A = I - S after exact elimination of one parity class, the fastest route for single-site chains.

Every flip changes the parity of the number of -1 spins, on the quotient too when N is even (the complement of N - 1 bits). Ordered by
parity, A = [[D_e, -C], [-C', D_o]] with diagonal D: the odd states are eliminated exactly, and conjugate gradients run on the Schur
complement D_e - C D_o^-1 C' of half the size, preconditioned by D_e, in a third of the iterations (red-black elimination; Saad,
Iterative Methods for Sparse Linear Systems, 2nd ed., section 10.5 and algorithm 9.1).

A class is stored as ``[h, u]`` with u = v >> 1: the lowest visible bit follows from the parity of the rest. A flip of visible
spin 0 then keeps the index, visible spin i moves u by 2^(i-1), a hidden flip exchanges rows at the same u.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels import vector
from thermokernels._jit import jit
from thermokernels.chain import GibbsChain
from thermokernels.vector import (
    LANES,
    add,
    add_multiple,
    dot,
    fill,
    load,
    multiply,
    multiply_add,
    reverse,
    store,
    swap1,
    swap2,
    swap4,
    total,
)

MAX_ITERATIONS = 10_000
PROJECT_EVERY = 8

# Aim well below the accepted residual: an iteration gains a factor of three, and gradients are of first order in the residual.
AIM = 0.05

# CG cannot lower the residual below a few rounding errors of the products A x: going on then destroys the answer.
FLOOR = 4e-16


class Classes(NamedTuple):
    """The chain in parity classes (index 0 even, 1 odd); class arrays are flat, of length H * U."""

    visible_rates: np.ndarray  # (n_v, H)
    hidden_rates: np.ndarray  # (2, n_h, U): the rates of rows whose parity differs from the class's by 0 or 1
    diagonal: np.ndarray  # (2, H * U)
    inverse: np.ndarray  # (2, H * U): 1 / diagonal, 0 on the target
    free: np.ndarray  # (2, H * U): 1, 0 on the target
    null: np.ndarray  # (2, H * U): sqrt(pi), or 0 where a target makes A regular
    shape: np.ndarray  # (2,): H, U
    quotient: bool


@jit
def _parity(number):
    parity = 0
    while number:
        number &= number - 1
        parity ^= 1
    return parity


@jit
def _split(values, shape, classes):
    """classes[p, h U + u] = values[h, v] for the v of class p over u."""
    n_rows, n_half = shape[0], shape[1]
    for h in range(n_rows):
        for u in range(n_half):
            odd = _parity(h) ^ _parity(u)
            classes[0, h * n_half + u] = values[h * 2 * n_half + 2 * u + odd]
            classes[1, h * n_half + u] = values[h * 2 * n_half + 2 * u + 1 - odd]


@jit
def _merge(classes, shape, values):
    """The inverse of _split."""
    n_rows, n_half = shape[0], shape[1]
    for h in range(n_rows):
        for u in range(n_half):
            odd = _parity(h) ^ _parity(u)
            values[h * 2 * n_half + 2 * u + odd] = classes[0, h * n_half + u]
            values[h * 2 * n_half + 2 * u + 1 - odd] = classes[1, h * n_half + u]


@jit
def _couple(classes, parity, x, scale, out):
    """out = scale * (C x): from the other class into class ``parity``."""
    n_rows, n_half = classes.shape[0], classes.shape[1]
    rates = classes.visible_rates
    n_visible = rates.shape[0]
    n_row_flips = classes.hidden_rates.shape[1] - (1 if classes.quotient else 0)
    for h in range(n_rows):
        start = h * n_half
        hidden = classes.hidden_rates[_parity(h) ^ parity].ravel()
        rate0, rate1, rate2, rate3 = fill(rates[0, h]), fill(rates[1, h]), fill(rates[2, h]), fill(rates[3, h])
        for u in range(0, n_half, LANES):
            here = load(x, start + u)
            sum0 = multiply(rate0, here)
            sum1 = multiply(rate1, swap1(here))
            sum0 = multiply_add(rate2, swap2(here), sum0)
            sum1 = multiply_add(rate3, swap4(here), sum1)
            for i in range(4, n_visible):
                sum0 = multiply_add(fill(rates[i, h]), load(x, start + (u ^ (1 << (i - 1)))), sum0)
            for j in range(n_row_flips):
                sum1 = multiply_add(load(hidden, j * n_half + u), load(x, (h ^ (1 << j)) * n_half + u), sum1)
            if classes.quotient:
                across = reverse(load(x, (n_rows - 1 - h) * n_half + n_half - LANES - u))
                sum0 = multiply_add(load(hidden, n_row_flips * n_half + u), across, sum0)
            store(out, start + u, multiply(load(scale, start + u), add(sum0, sum1)))


@jit
def _project(classes, x):
    """Remove sqrt(pi), the null vector of the Schur complement, from an even-class vector (nothing where a target makes it regular)."""
    null = classes.null[0]
    norm = dot(null, null)
    if norm > 0.0:
        add_multiple(-dot(null, x) / norm, null, x)


@jit
def _conjugate_gradients(classes, residual, tolerance, work, x):
    """Schur complement x = residual (overwritten) until |residual| <= tolerance; returns the number of iterations."""
    step, image, odd = work[0], work[1], work[2]
    diagonal, inverse = classes.diagonal[0], classes.inverse[0]
    x[:] = 0.0
    step[:] = 0.0
    _project(classes, residual)
    previous, size = 1.0, 0.0
    for iteration in range(MAX_ITERATIONS):
        # One pass: |r|^2, r'D^-1 r, and the size of x for the rounding floor.
        norms, weighted, sizes = fill(0.0), fill(0.0), fill(0.0)
        for k in range(0, x.size, LANES):
            r, current = load(residual, k), load(x, k)
            norms = multiply_add(r, r, norms)
            weighted = multiply_add(multiply(r, load(inverse, k)), r, weighted)
            sizes = multiply_add(current, current, sizes)
        norm, size, current_product = np.sqrt(total(norms)), np.sqrt(total(sizes)), total(weighted)
        if norm <= tolerance or norm <= FLOOR * size:
            return iteration
        ratio = fill(current_product / previous if iteration > 0 else 0.0)
        previous = current_product
        for k in range(0, x.size, LANES):
            store(step, k, multiply_add(ratio, load(step, k), multiply(load(inverse, k), load(residual, k))))
        _couple(classes, 1, step, classes.inverse[1], odd)
        _couple(classes, 0, odd, classes.free[0], image)
        curvature = fill(0.0)
        minus = fill(-1.0)
        for k in range(0, x.size, LANES):
            p = load(step, k)
            q = multiply_add(load(diagonal, k), p, multiply(minus, load(image, k)))
            store(image, k, q)
            curvature = multiply_add(p, q, curvature)
        length = current_product / total(curvature)
        forward, backward = fill(length), fill(-length)
        for k in range(0, x.size, LANES):
            store(x, k, multiply_add(forward, load(step, k), load(x, k)))
            store(residual, k, multiply_add(backward, load(image, k), load(residual, k)))
        if (iteration + 1) % PROJECT_EVERY == 0:
            _project(classes, residual)
    return MAX_ITERATIONS


@jit
def _solve(classes, right_hand_sides, rtol, work, solutions, iterations):
    """A z = b for every row of right_hand_sides; z orthogonal to sqrt(pi) where A is singular."""
    shape = classes.shape
    halves = work[0:2]
    reduced, even = work[2], work[3]
    for a in range(right_hand_sides.shape[0]):
        _split(right_hand_sides[a], shape, halves)
        norm = np.sqrt(dot(halves[0], halves[0]) + dot(halves[1], halves[1]))
        for k in range(0, even.size, LANES):
            store(reduced, k, multiply(load(classes.inverse[1], k), load(halves[1], k)))
        _couple(classes, 0, reduced, classes.free[0], even)
        for k in range(0, even.size, LANES):
            store(reduced, k, multiply_add(load(classes.free[0], k), load(halves[0], k), load(even, k)))
        # The odd equations hold exactly after back-substitution, so the reduced residual is the full one up to rounding.
        iterations[a] = _conjugate_gradients(classes, reduced, AIM * rtol * norm, work[4:7], even)
        _couple(classes, 1, even, classes.inverse[1], reduced)
        for k in range(0, even.size, LANES):
            store(halves[1], k, multiply_add(load(classes.inverse[1], k), load(halves[1], k), load(reduced, k)))
            store(halves[0], k, load(even, k))
        along = dot(classes.null[0], halves[0]) + dot(classes.null[1], halves[1])
        add_multiple(-along, classes.null[0], halves[0])
        add_multiple(-along, classes.null[1], halves[1])
        _merge(halves, shape, solutions[a])


def applies_to(chain: GibbsChain) -> bool:
    """Whether the chain is bipartite under single flips and has rows of at least eight states of one parity."""
    return chain.kernel == "single-site" and chain.n_visible >= 4 and not (chain.quotient and chain.n_spins % 2)


def parity_classes(chain: GibbsChain, target: np.ndarray | None = None) -> Classes:
    """The chain in parity classes; states of ``target`` (a mask) are taken out, which leaves a regular system."""
    n_rows, n_columns = chain.shape
    shape = np.array([n_rows, n_columns // 2])

    def split(values):
        classes = vector.aligned_empty(2, chain.n_states // 2)
        _split(values, shape, classes)
        return classes

    low_bit = np.array([_parity(u) for u in range(n_columns // 2)])
    hidden_rates = vector.aligned_empty(2, chain.n_hidden, n_columns // 2)
    for difference in (0, 1):
        hidden_rates[difference] = chain.hidden_rates[:, 2 * np.arange(n_columns // 2) + (low_bit ^ difference)]
    free = np.ones(chain.n_states) if target is None else 1.0 - target
    with np.errstate(divide="ignore"):  # an escape rate that underflows gives infinity, which the residual check reports
        inverse = free / chain.escape
    return Classes(
        visible_rates=chain.visible_rates,
        hidden_rates=hidden_rates,
        diagonal=split(chain.escape),
        inverse=split(inverse),
        free=split(free),
        null=split(chain.root_law if target is None else np.zeros(chain.n_states)),
        shape=shape,
        quotient=chain.quotient,
    )


def solve(classes: Classes, right_hand_sides: np.ndarray, rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """Solutions (k, n_states) of A z = b for the rows b, and the CG iterations (k,) that each took.

    With a target, entries of b on it are ignored and those of z are zero. The caller checks the true residual.
    """
    solutions = vector.aligned_empty(*right_hand_sides.shape)
    iterations = np.zeros(right_hand_sides.shape[0], dtype=np.int64)
    work = vector.aligned_empty(7, right_hand_sides.shape[1] // 2)
    _solve(classes, right_hand_sides, rtol, work, solutions, iterations)
    return solutions, iterations
