"""Solves with A = I - S after exact elimination of one parity class, the fastest route for single-site chains.

Every flip changes the parity of the number of -1 spins, on the quotient too when N is even (the complement of N - 1 bits). Ordered by
parity, A = [[D_e, -C], [-C', D_o]] with diagonal D: the odd states are eliminated exactly, and conjugate gradients run on the Schur
complement D_e - C D_o^-1 C' of half the size, preconditioned by D_e, in a third of the iterations (red-black elimination; Saad,
Iterative Methods for Sparse Linear Systems, 2nd ed., section 10.5 and algorithm 9.1).

A class is stored as ``[h, u]`` with u = v >> 1: the lowest visible bit follows from the parity of the rest. A flip of visible
spin 0 then keeps the index, visible spin i moves u by 2^(i-1), a hidden flip exchanges rows at the same u. Rows are ``stride`` entries
apart: long ones are padded by zeros, or rows that meet in a flip would fall on the same lines of the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.common import threads
from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.register_tiles import (
    AHEAD,
    BLOCK_ROWS,
    EXPECTING,
    FAR_COLUMN_FLIP,
    FAR_ROW_FLIP,
    PADDED_COLUMNS,
    PANEL_COLUMNS,
    ROW_FLIPS,
    ROWS,
    checkered_rows,
    columns,
    expect_tile,
    fold,
    load_tile,
    reverse_tile,
    spread_rows,
    store_tile,
    swap_columns1,
    swap_columns2,
    swap_columns4,
    swap_columns8,
    swap_columns16,
    swap_rows1,
    swap_rows2,
)
from thermokernels.compiled.simd_states import (
    DOUBLES,
    add,
    add_multiple,
    dot,
    fill,
    lanes,
    load,
    multiply,
    multiply_add,
    pick_even,
    pick_odd,
    reverse,
    store,
    subtract,
    swap1,
    swap2,
    swap4,
    swap8,
    total,
    weave_high,
    weave_low,
    zeros_on_a_line,
)
from thermokernels.model.chain import GibbsChain
from thermokernels.solvers.conjugate_gradients import FLOOR, MAX_ITERATIONS

# Numbers of the classes; as plain integers numba would compile every kernel once for each of them.
EVEN, ODD = np.int64(0), np.int64(1)

PROJECT_EVERY = 8

# Aim well below the accepted residual: an iteration gains a factor of three, and gradients are of first order in the residual.
AIM = 0.05

# Entries whose squares are added up in one vector: longer sums would cost digits of float32.
SUMMED = 2**13

# Classes are padded by three cache lines: a load waits for a store at the same place of another page.
STAGGER = 3 * DOUBLES


class Shape(NamedTuple):
    """Sizes of a class: H rows of U columns that start ``stride`` entries apart; flips of hidden spins but for the quotient's last."""

    n_rows: int
    n_half: int
    stride: int
    n_visible: int
    n_row_flips: int
    quotient: bool


class Classes(NamedTuple):
    """The chain in parity classes (index 0 even, 1 odd); class arrays are flat, zero between rows and behind the last."""

    visible_rates: np.ndarray  # (n_v * H,): entry [i, h]
    hidden_rates: np.ndarray  # (2 * n_h * U,): entry [d, j, u] is the rate of rows whose parity differs from the class's by d
    diagonal: np.ndarray  # (2, length)
    inverse: np.ndarray  # (2, length): 1 / diagonal, 0 on the target
    free: np.ndarray  # (2, length): 1, 0 on the target; (2, 0) without one
    null: np.ndarray  # (2, length): sqrt(pi), or 0 where a target makes A regular
    shape: Shape


@jit
def _parity(number):
    parity = 0
    while number:
        number &= number - 1
        parity ^= 1
    return parity


@jit
def _split(values, shape, classes):
    """classes[p, h stride + u] = values[h, v] for the v of class p over u."""
    even, odd = classes[0], classes[1]
    for h in range(shape.n_rows):
        for u in range(0, shape.n_half, DOUBLES):
            v, k = 2 * (h * shape.n_half + u), h * shape.stride + u
            low, high = load(values, v), load(values, v + DOUBLES)
            if _parity(h ^ u):
                store(even, k, pick_odd(low, high))
                store(odd, k, pick_even(low, high))
            else:
                store(even, k, pick_even(low, high))
                store(odd, k, pick_odd(low, high))


@jit
def _merge(classes, shape, values):
    """The inverse of _split."""
    even, odd = classes[0], classes[1]
    for h in range(shape.n_rows):
        for u in range(0, shape.n_half, DOUBLES):
            v, k = 2 * (h * shape.n_half + u), h * shape.stride + u
            first, second = load(even, k), load(odd, k)
            if _parity(h ^ u):
                first, second = second, first
            store(values, v, weave_low(first, second))
            store(values, v + DOUBLES, weave_high(first, second))


# The two kernels below are one function each: a call inside their loops would count references to arrays and empty the registers.


@jit
def _couple(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, out):
    """out = scale * (C x), from the other class into class ``parity``; where step is not empty diagonal * step - that, and step'out.

    An empty scale is one.
    """
    n_rows, n_half, stride, n_visible, n_row_flips, quotient = shape
    n_columns, width = columns(x), lanes(x) // DOUBLES  # a tile's, and how many entries take the room of a float64
    if n_rows < ROWS or n_half < n_columns:
        return _couple_narrow(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, out)
    n_entries = (n_row_flips + quotient) * n_half
    block_rows, panel_columns = min(BLOCK_ROWS, n_rows), min(PANEL_COLUMNS * width, n_half)
    expecting = n_rows * n_half >= EXPECTING * width
    near_flips = 3 + (n_columns > 8) + (n_columns > 16)
    whole = 0.0
    for number in range(n_rows // block_rows * (n_half // panel_columns)):
        first_row = number // (n_half // panel_columns) * block_rows
        first_column = number % (n_half // panel_columns) * panel_columns
        products = fill(x.dtype.type(0.0))  # of a block: longer sums would cost digits of float32
        for h in range(first_row, first_row + block_rows, ROWS):
            difference = _parity(h) ^ parity
            for u in range(first_column, first_column + panel_columns, n_columns):
                if expecting:
                    g, w = h, u + AHEAD * width
                    if w >= first_column + panel_columns:
                        g, w = h + ROWS, w - panel_columns
                    expect_tile(out, g * stride + w, stride)
                    if scale.size > 0:
                        expect_tile(scale, g * stride + w, stride)
                    if step.size > 0:
                        expect_tile(step, g * stride + w, stride)
                        expect_tile(diagonal, g * stride + w, stride)
                    for i in range(FAR_COLUMN_FLIP + width, n_visible):
                        expect_tile(x, g * stride + (w ^ (1 << (i - 1))), stride)
                    for j in range(FAR_ROW_FLIP, n_row_flips):
                        expect_tile(x, (g ^ (1 << j)) * stride + w, stride)
                    if quotient:
                        expect_tile(x, (n_rows - ROWS - g) * stride + n_half - n_columns - w, stride)
                # Flips inside the tile are exchanges of registers; rates of hidden spins are shared by rows of one parity.
                k = h * stride + u
                even, odd = difference * n_entries + u, (1 - difference) * n_entries + u
                here = load_tile(x, k, stride)
                incoming = multiply(spread_rows(visible_rates, h), here)
                incoming = multiply_add(spread_rows(visible_rates, n_rows + h), swap_columns1(here), incoming)
                incoming = multiply_add(spread_rows(visible_rates, 2 * n_rows + h), swap_columns2(here), incoming)
                incoming = multiply_add(spread_rows(visible_rates, 3 * n_rows + h), swap_columns4(here), incoming)
                if n_columns > 8:
                    incoming = multiply_add(spread_rows(visible_rates, 4 * n_rows + h), swap_columns8(here), incoming)
                if n_columns > 16:
                    incoming = multiply_add(spread_rows(visible_rates, 5 * n_rows + h), swap_columns16(here), incoming)
                incoming = multiply_add(checkered_rows(hidden_rates, even, odd), swap_rows1(here), incoming)
                incoming = multiply_add(checkered_rows(hidden_rates, even + n_half, odd + n_half), swap_rows2(here), incoming)
                for i in range(near_flips + 1, n_visible):
                    there = load_tile(x, h * stride + (u ^ (1 << (i - 1))), stride)
                    incoming = multiply_add(spread_rows(visible_rates, i * n_rows + h), there, incoming)
                for j in range(ROW_FLIPS, n_row_flips):
                    there = load_tile(x, (h ^ (1 << j)) * stride + u, stride)
                    incoming = multiply_add(checkered_rows(hidden_rates, even + j * n_half, odd + j * n_half), there, incoming)
                if quotient:
                    across = reverse_tile(load_tile(x, (n_rows - ROWS - h) * stride + n_half - n_columns - u, stride))
                    last = n_row_flips * n_half
                    incoming = multiply_add(checkered_rows(hidden_rates, even + last, odd + last), across, incoming)
                if scale.size > 0:
                    incoming = multiply(load_tile(scale, k, stride), incoming)
                if step.size > 0:
                    here = load_tile(step, k, stride)
                    incoming = subtract(multiply(load_tile(diagonal, k, stride), here), incoming)
                    products = add(products, fold(multiply(here, incoming)))
                store_tile(out, k, stride, incoming)
        whole += total(products)
    return whole


@jit
def _couple_narrow(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, out):
    """The plain form of _couple, a vector at a time: for classes smaller than a tile."""
    n_rows, n_half, stride, n_visible, n_row_flips, quotient = shape
    n_lanes = lanes(x)
    near_flips = 3 + (n_lanes > 8)
    products = fill(x.dtype.type(0.0))
    for h in range(n_rows):
        rates = (_parity(h) ^ parity) * (n_row_flips + quotient) * n_half
        for u in range(0, n_half, n_lanes):
            k = h * stride + u
            here = load(x, k)
            incoming = multiply(fill(visible_rates[h]), here)
            incoming = multiply_add(fill(visible_rates[n_rows + h]), swap1(here), incoming)
            incoming = multiply_add(fill(visible_rates[2 * n_rows + h]), swap2(here), incoming)
            incoming = multiply_add(fill(visible_rates[3 * n_rows + h]), swap4(here), incoming)
            if n_lanes > 8:
                incoming = multiply_add(fill(visible_rates[4 * n_rows + h]), swap8(here), incoming)
            for i in range(near_flips + 1, n_visible):
                incoming = multiply_add(fill(visible_rates[i * n_rows + h]), load(x, h * stride + (u ^ (1 << (i - 1)))), incoming)
            for j in range(n_row_flips):
                incoming = multiply_add(load(hidden_rates, rates + j * n_half + u), load(x, (h ^ (1 << j)) * stride + u), incoming)
            if quotient:
                across = reverse(load(x, (n_rows - 1 - h) * stride + n_half - n_lanes - u))
                incoming = multiply_add(load(hidden_rates, rates + n_row_flips * n_half + u), across, incoming)
            if scale.size > 0:
                incoming = multiply(load(scale, k), incoming)
            if step.size > 0:
                here = load(step, k)
                incoming = subtract(multiply(load(diagonal, k), here), incoming)
                products = multiply_add(here, incoming, products)
            store(out, k, incoming)
    return total(products)


@inlined
def _from_other(classes, parity, x, scale, out):
    """out = scale * (C x): from the other class into class ``parity``."""
    nothing = x[:0]
    _couple(classes.visible_rates, classes.hidden_rates, classes.shape, parity, x, scale, nothing, nothing, out)


@inlined
def _schur_product(classes, x, odd, out):
    """out = (D_e - C D_o^-1 C') x for an even-class x that vanishes on the target; returns x'out. ``odd`` is work space."""
    _from_other(classes, ODD, x, classes.inverse[1], odd)
    diagonal, free = classes.diagonal[0], classes.free[0]
    return _couple(classes.visible_rates, classes.hidden_rates, classes.shape, EVEN, odd, free, diagonal, x, out)


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


@inlined
def _assemble(classes, halves, solution):
    """solution = the two halves of z, which is made orthogonal to sqrt(pi) where A is singular."""
    along = dot(classes.null[0], halves[0]) + dot(classes.null[1], halves[1])
    add_multiple(-along, classes.null[0], halves[0])
    add_multiple(-along, classes.null[1], halves[1])
    _merge(halves, classes.shape, solution)


@jit
def _solve(classes, right_hand_sides, rtol, work, solutions, iterations):
    """A z = b for every row of right_hand_sides; z orthogonal to sqrt(pi) where A is singular."""
    shape, free = classes.shape, classes.free[0]
    halves = work[0:2]
    source, even = work[2], work[3]
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
        # The odd equations hold exactly after back-substitution, so the residual of the Schur complement is the full one up to rounding.
        iterations[a] = _conjugate_gradients(classes, source, AIM * rtol * norm, work[4], work[5], work[6], even)
        _odd_half(classes, halves[1], even, source, halves[1])
        for k in range(0, even.size, DOUBLES):
            store(halves[0], k, load(even, k))
        _assemble(classes, halves, solutions[a])


@jit
def _class_rates(hidden_rates, n_half, rates):
    """rates[d, j, u], flat: the rate of hidden spin j at the visible configuration over u whose lowest bit is parity(u) ^ d."""
    n_hidden = hidden_rates.shape[0]
    for difference in range(2):
        for u in range(n_half):
            v = 2 * u + (_parity(u) ^ difference)
            for j in range(n_hidden):
                rates[(difference * n_hidden + j) * n_half + u] = hidden_rates[j, v]


@jit
def _parity_classes(escape, free, root_law, visible_rates, hidden_rates, quotient):
    """:func:`parity_classes` from the tables of the chain; ``free`` is empty without a target, else 0 on it."""
    (n_visible, n_rows), (n_hidden, n_columns) = visible_rates.shape, hidden_rates.shape
    n_half = n_columns // 2
    stride = n_half + (DOUBLES if n_half >= PADDED_COLUMNS else 0)
    length = n_rows * stride + STAGGER
    shape = Shape(n_rows, n_half, stride, n_visible, n_hidden - (1 if quotient else 0), quotient)
    rates = zeros_on_a_line(2 * n_hidden * n_half)
    _class_rates(hidden_rates, n_half, rates)
    diagonal, inverse = zeros_on_a_line(2 * length).reshape((2, length)), zeros_on_a_line(2 * length).reshape((2, length))
    null = zeros_on_a_line(2 * length).reshape((2, length))
    _split(escape, shape, diagonal)
    if free.size == 0:
        _split(1.0 / escape, shape, inverse)  # one that underflows gives infinity, which the residual check reports
        _split(root_law, shape, null)
        return Classes(visible_rates.ravel(), rates, diagonal, inverse, np.empty((2, 0)), null, shape)
    _split(free / escape, shape, inverse)
    kept = zeros_on_a_line(2 * length).reshape((2, length))
    _split(free, shape, kept)
    return Classes(visible_rates.ravel(), rates, diagonal, inverse, kept, null, shape)


def applies_to(chain: GibbsChain) -> bool:
    """Whether the chain is bipartite under single flips and has rows of at least eight states of one parity."""
    return chain.dynamics.parity_halves and chain.n_visible >= 4 and not (chain.quotient and chain.n_spins % 2)


def parity_classes(chain: GibbsChain, target: np.ndarray | None = None) -> Classes:
    """The chain in parity classes; states of ``target`` (a mask) are taken out, which leaves a regular system."""
    nothing = np.empty(0)
    target_or_none = nothing if target is None else 1.0 - target
    classes: Classes = _parity_classes(
        chain.escape, target_or_none, chain.root_law, chain.visible_rates, chain.hidden_rates, bool(chain.quotient)
    )
    return classes


def solve(classes: Classes, right_hand_sides: np.ndarray, rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """Solutions (k, n_states) of A z = b for the rows b, and the CG iterations (k,) that each took.

    With a target, entries of b on it are ignored and those of z are zero. The caller checks the true residual.
    """
    right_hand_sides = np.ascontiguousarray(right_hand_sides)  # compiled code takes eight entries in a row
    n_rhs = len(right_hand_sides)
    solutions = simd_states.aligned_empty(*right_hand_sides.shape)
    iterations = np.zeros(n_rhs, dtype=np.int64)

    def solve_rows(rows: slice) -> None:
        work = simd_states.aligned_zeros(7, classes.null.shape[1])
        _solve(classes, right_hand_sides[rows], rtol, work, solutions[rows], iterations[rows])

    threads.for_rows(solve_rows, n_rhs, right_hand_sides.size * classes.shape.n_visible)
    return solutions, iterations
