"""Red-black conjugate gradients for several right-hand sides in step, for chains whose vectors lie in the nearest caches.

To go through such a vector takes a tenth of a microsecond, and a call, an inner product and the quotient that waits for it take as long
again. Here every pass goes through the vectors of :data:`TOGETHER` right-hand sides, which wait for nothing of each other; one that has
converged is left out from then on. Each has the bits of :mod:`thermokernels.solvers.red_black`, where all of it is
explained, but for the order in which step'A step is added up where a class is more than a panel of columns.
The passes are for float64 and for float32 (`mixed_side_by_side.py`); a vector of many is the one from ``base`` on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.register_tiles import (
    ROW_FLIPS,
    ROWS,
    checkered_rows,
    columns,
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
    dot,
    fill,
    lanes,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    total,
    zeros_on_a_line,
)
from thermokernels.solvers.conjugate_gradients import FLOOR, MAX_ITERATIONS
from thermokernels.solvers.parity_classes import EVEN, ODD, Shape, _merge, _parity, _split
from thermokernels.solvers.red_black import AIM, PROJECT_EVERY

# Right-hand sides in step: more of them would not stay in the first-level cache with their classes of 256 states.
TOGETHER = 4


class Tables(NamedTuple):
    """Of one chain without a target: rates, shape, and where it is more than one class of which: see parity_classes.Classes."""

    visible_rates: np.ndarray
    hidden_rates: np.ndarray
    shape: Shape
    diagonal: np.ndarray  # of the even class
    inverse: np.ndarray  # of the even class, then of the odd one
    inverse_odd: np.ndarray
    null: np.ndarray  # of the even class


class Iteration(NamedTuple):
    """Of each right-hand side in step, as red_black._iterate has them: steps, |residual|, |x|, and what the last direction was made of."""

    steps: np.ndarray
    norms: np.ndarray
    sizes: np.ndarray
    before: np.ndarray


@inlined
def _tables(classes):
    parts = classes.diagonal[0], classes.inverse[0], classes.inverse[1], classes.null[0]
    return Tables(classes.visible_rates, classes.hidden_rates, classes.shape, parts[0], parts[1], parts[2], parts[3])


@inlined
def _iteration():
    return Iteration(np.zeros(TOGETHER, np.int64), np.zeros(TOGETHER), np.zeros(TOGETHER), np.zeros(TOGETHER))


@jit
def _couple(visible_rates, hidden_rates, shape, parity, x, scale, diagonal, step, who, out, products):
    """As parity_coupling._couple, for the vectors ``who``, with step'out of each in ``products``; an empty array is none."""
    n_rows, n_half, stride, n_visible, n_row_flips, quotient = shape
    n_columns, width, length, n_entries = columns(x), lanes(x), x.size // TOGETHER, (n_row_flips + quotient) * n_half
    near_flips = 3 + (n_columns > 8) + (n_columns > 16)
    for number in who:
        store(products, number * width, fill(x.dtype.type(0.0)))
    for h in range(0, n_rows, ROWS):
        difference = _parity(h) ^ parity
        for u in range(0, n_half, n_columns):
            at = h * stride + u
            even, odd = difference * n_entries + u, (1 - difference) * n_entries + u
            for number in who:
                base = number * length
                here = load_tile(x, base + at, stride)
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
                    there = load_tile(x, base + h * stride + (u ^ (1 << (i - 1))), stride)
                    incoming = multiply_add(spread_rows(visible_rates, i * n_rows + h), there, incoming)
                for j in range(ROW_FLIPS, n_row_flips):
                    there = load_tile(x, base + (h ^ (1 << j)) * stride + u, stride)
                    incoming = multiply_add(checkered_rows(hidden_rates, even + j * n_half, odd + j * n_half), there, incoming)
                if quotient:
                    across = reverse_tile(load_tile(x, base + (n_rows - ROWS - h) * stride + n_half - n_columns - u, stride))
                    last = n_row_flips * n_half
                    incoming = multiply_add(checkered_rows(hidden_rates, even + last, odd + last), across, incoming)
                if scale.size > 0:
                    incoming = multiply(load_tile(scale, at, stride), incoming)
                if step.size > 0:
                    here = load_tile(step, base + at, stride)
                    incoming = subtract(multiply(load_tile(diagonal, at, stride), here), incoming)
                    store(products, number * width, add(load(products, number * width), fold(multiply(here, incoming))))
                store_tile(out, base + at, stride, incoming)


@jit
def _descend(length, image, inverse, residual, base):
    """As red_black._descend."""
    real = inverse.dtype.type
    backward, norms, weighted = fill(real(-length)), fill(real(0.0)), fill(real(0.0))
    for k in range(0, inverse.size, lanes(inverse)):
        r = multiply_add(backward, load(image, base + k), load(residual, base + k))
        store(residual, base + k, r)
        norms = multiply_add(r, r, norms)
        weighted = multiply_add(multiply(r, load(inverse, k)), r, weighted)
    return np.sqrt(total(norms)), total(weighted)


@jit
def _turn(length, ratio, inverse, residual, x, step, base):
    """As red_black._turn."""
    real = inverse.dtype.type
    forward, ratios, sizes = fill(real(length)), fill(real(ratio)), fill(real(0.0))
    for k in range(0, inverse.size, lanes(inverse)):
        last = load(step, base + k)
        current = multiply_add(forward, last, load(x, base + k))
        store(x, base + k, current)
        store(step, base + k, multiply_add(ratios, last, multiply(load(inverse, k), load(residual, base + k))))
        sizes = multiply_add(current, current, sizes)
    return np.sqrt(total(sizes))


@jit
def _inner(x, y, base):
    """x'y as simd_states.dot, of a table x."""
    step, zero = lanes(x), x.dtype.type(0.0)
    sum0, sum1 = fill(zero), fill(zero)
    for k in range(0, x.size - step, 2 * step):
        sum0 = multiply_add(load(x, k), load(y, base + k), sum0)
        sum1 = multiply_add(load(x, k + step), load(y, base + k + step), sum1)
    if x.size % (2 * step):
        sum0 = multiply_add(load(x, x.size - step), load(y, base + x.size - step), sum0)
    return total(add(sum0, sum1))


@jit
def _add_multiple(factor, x, at, y, base, size):
    """y += factor * x, of vectors that start at ``base`` and at ``at``."""
    factors = fill(y.dtype.type(factor))
    for k in range(0, size, lanes(y)):
        store(y, base + k, multiply_add(factors, load(x, at + k), load(y, base + k)))


@inlined
def _project(null, x, base):
    """As red_black._project."""
    _add_multiple(-_inner(null, x, base) / _inner(null, null, 0), null, 0, x, base, null.size)


@inlined
def _iterate(tables, residual, tolerances, floor, limit, who, step, image, odd, x, products, state):
    """As red_black._iterate, for the right-hand sides ``who``; x is zero at the start."""
    inverse, null, size = tables.inverse, tables.null, tables.null.size
    nothing, going, n_going = x[:0], who.copy(), who.size
    lengths, ratios, known = np.zeros(TOGETHER), np.zeros(TOGETHER), np.empty(TOGETHER)
    for number in who:
        state.steps[number], state.sizes[number] = 0, 0.0
        state.norms[number], known[number] = _descend(0.0, residual, inverse, residual, number * size)
        ratios[number] = known[number] / state.before[number] if state.before[number] > 0.0 else 0.0
    for iteration in range(limit + 1):
        left = 0
        for number in going[:n_going]:
            norm = state.norms[number]
            if iteration < limit and norm > tolerances[number] and norm > floor * state.sizes[number]:
                state.sizes[number] = _turn(lengths[number], ratios[number], inverse, residual, x, step, number * size)
                going[left] = number
                left += 1
            else:
                _add_multiple(lengths[number], step, number * size, x, number * size, size)
                state.steps[number] = iteration
        n_going = left
        if n_going == 0:
            break
        now = going[:n_going]
        _couple(
            tables.visible_rates, tables.hidden_rates, tables.shape, ODD, step, tables.inverse_odd, nothing, nothing, now, odd, products
        )
        _couple(tables.visible_rates, tables.hidden_rates, tables.shape, EVEN, odd, nothing, tables.diagonal, step, now, image, products)
        for number in now:
            base = number * size
            lengths[number] = known[number] / total(load(products, number * lanes(products)))
            state.before[number] = known[number]
            state.norms[number], known[number] = _descend(lengths[number], image, inverse, residual, base)
            if (iteration + 1) % PROJECT_EVERY == 0:
                _project(null, residual, base)
                state.norms[number], known[number] = _descend(0.0, image, inverse, residual, base)
            ratios[number] = known[number] / state.before[number]


@inlined
def _conjugate_gradients(tables, residual, tolerances, who, step, image, odd, x, products, state):
    """Schur complement x = residual (overwritten; without what lies along the null vector) until |residual| <= tolerance, for ``who``."""
    step[:], x[:], state.before[:] = 0.0, 0.0, 0.0
    _iterate(tables, residual, tolerances, FLOOR, MAX_ITERATIONS, who, step, image, odd, x, products, state)


@inlined
def _begin(tables, right_hand_sides, first, rtol, halves, source, tolerances):
    """The classes of b, D_o^-1 of the odd one, and how far |residual| has to come down; returns who is there."""
    size, who = tables.null.size, np.arange(min(TOGETHER, right_hand_sides.shape[0] - first))
    for number in who:
        both, base = halves[number], number * size
        _split(right_hand_sides[first + number], tables.shape, both)
        tolerances[number] = AIM * rtol * np.sqrt(dot(both[0], both[0]) + dot(both[1], both[1]))
        for k in range(0, size, DOUBLES):
            store(source, base + k, multiply(load(tables.inverse_odd, k), load(both[1], k)))
    return who


@inlined
def _weights_along(tables, null_odd, source, image, products):
    """As red_black._weights_along; ``source`` and ``image``, of all right-hand sides, are overwritten."""
    size, nothing, weights = tables.null.size, image[:0], zeros_on_a_line(2 * tables.null.size).reshape((2, tables.null.size))
    for k in range(0, size, DOUBLES):
        store(source, k, multiply(load(tables.inverse_odd, k), load(null_odd, k)))
        store(weights[1], k, load(source, k))
    rates = tables.visible_rates, tables.hidden_rates
    _couple(rates[0], rates[1], tables.shape, EVEN, source, nothing, nothing, nothing, np.zeros(1, np.int64), image, products)
    for k in range(0, size, DOUBLES):
        store(weights[0], k, add(load(image, k), load(tables.null, k)))
    return weights


@inlined
def _end(tables, weights, first, who, halves, even, image, products, solutions):
    """Solutions from their even halves, as red_black._complete."""
    size, nothing, rates = tables.null.size, even[:0], (tables.visible_rates, tables.hidden_rates)
    for number in who:
        along = _inner(weights[0], even, number * size) + dot(weights[1], halves[number, 1])
        _add_multiple(-along, tables.null, 0, even, number * size, size)
    _couple(rates[0], rates[1], tables.shape, ODD, even, nothing, nothing, nothing, who, image, products)
    for number in who:
        both, base = halves[number], number * size
        for k in range(0, size, DOUBLES):
            store(both[0], k, load(even, base + k))
            store(both[1], k, multiply(load(tables.inverse_odd, k), add(load(both[1], k), load(image, base + k))))
        _merge(both, tables.shape, solutions[first + number])
