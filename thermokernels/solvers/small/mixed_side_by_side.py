"""Right-hand sides in step (`side_by_side.py`) whose iterations are in float32, with residuals of float64.

Each is solved for as in :mod:`thermokernels.solvers.mixed_precision`, where all of it is explained.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.register_tiles import PADDED_COLUMNS
from thermokernels.compiled.simd_states import DOUBLES, FLOATS, aligned_empty, fill, load, multiply_add, store, zeros_on_a_line
from thermokernels.solvers.conjugate_gradients import FLOOR
from thermokernels.solvers.mixed_precision import DRIFT, NORM, ROOM, SMALLEST, STEPS, VISIBLE, _add_widened, _narrow
from thermokernels.solvers.parity_classes import EVEN, ODD, STAGGER, Classes, Shape
from thermokernels.solvers.small.side_by_side import (
    TOGETHER,
    Tables,
    _add_multiple,
    _begin,
    _conjugate_gradients,
    _couple,
    _end,
    _inner,
    _iterate,
    _iteration,
    _project,
    _tables,
    _weights_along,
)

# On fewer states the residuals of float64 take as long as float32 saves.
STATES = 2**11


@inlined
def _fits(n_visible, escape, root_law):
    """Whether float32 pays on so many states and holds the law and the rates, as mixed_precision.applies_to."""
    return root_law.size >= STATES and n_visible >= VISIBLE and min(root_law.min(), escape.min()) > SMALLEST


@jit
def _singles(size):
    """Zeros of float32, ``size`` a multiple of a vector."""
    return zeros_on_a_line(size // 2).view(np.float32)


@jit
def _single(table, shape, stride, length):
    """One class in float32."""
    single = _singles(length)
    _narrow(table, shape, 1.0, stride, single)
    return single


@jit
def _flat(rates):
    single = _singles(-(-rates.size // FLOATS) * FLOATS)
    for k in range(rates.size):
        single[k] = np.float32(rates[k])
    return single


@inlined
def _single_tables(tables):
    """The tables in float32, whose rows have their own stride."""
    shape = tables.shape
    stride = shape.n_half + (FLOATS if shape.n_half >= PADDED_COLUMNS else 0)
    length = shape.n_rows * stride + STAGGER // DOUBLES * FLOATS
    narrow = Shape(shape.n_rows, shape.n_half, stride, shape.n_visible, shape.n_row_flips, shape.quotient)
    inverse, inverse_odd = _single(tables.inverse, shape, stride, length), _single(tables.inverse_odd, shape, stride, length)
    diagonal, null = _single(tables.diagonal, shape, stride, length), _single(tables.null, shape, stride, length)
    return Tables(_flat(tables.visible_rates), _flat(tables.hidden_rates), narrow, diagonal, inverse, inverse_odd, null)


@inlined
def _true_residuals(tables, halves, source, x, moved, who, image, odd, residual, products):
    """As mixed_precision._true_residual, for the right-hand sides ``who``; ``source`` is D_o^-1 b_o."""
    size, nothing, rates = tables.null.size, residual[:0], (tables.visible_rates, tables.hidden_rates)
    if moved:
        _couple(rates[0], rates[1], tables.shape, ODD, x, tables.inverse_odd, nothing, nothing, who, image, products)
        for number in who:
            here, base = halves[number, 1], number * size
            for k in range(0, size, DOUBLES):
                store(odd, base + k, multiply_add(load(tables.inverse_odd, k), load(here, k), load(image, base + k)))
        _couple(rates[0], rates[1], tables.shape, EVEN, odd, nothing, tables.diagonal, x, who, residual, products)
    else:
        _couple(rates[0], rates[1], tables.shape, EVEN, source, nothing, nothing, nothing, who, residual, products)
    sign = fill(-1.0 if moved else 1.0)
    for number in who:
        here, base = halves[number, 0], number * size
        for k in range(0, size, DOUBLES):
            store(residual, base + k, multiply_add(sign, load(residual, base + k), load(here, k)))
        _project(tables.null, residual, base)


@inlined
def _classify(norm, tolerance, size, room, last):
    """0 for a right-hand side that is done, 1 where float32 goes on, 2 for float64."""
    if not (norm > tolerance and norm > FLOOR * size):
        return 0
    return 1 if room and norm < ROOM * last else 2


def solve(classes: Classes, right_hand_sides: Floats, rtol: float, in_single: bool) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Solutions A z = b of rows (k, n_states), sqrt(pi) taken out, and their iterations (k,)."""
    solutions, iterations = aligned_empty(*right_hand_sides.shape), np.zeros(len(right_hand_sides), np.int64)
    _solve(classes, right_hand_sides, rtol, in_single, solutions, iterations)
    return solutions, iterations


@jit
def _solve(classes, right_hand_sides, rtol, in_single, solutions, iterations):
    """As mixed_precision._solve, of a chain without a target; as red_black._solve unless ``in_single``."""
    tables, state, state_in_double, size = _tables(classes), _iteration(), _iteration(), classes.null.shape[1]
    single = _single_tables(tables)
    stride, length = single.shape.stride, single.null.size
    halves = zeros_on_a_line(2 * TOGETHER * size).reshape((TOGETHER, 2, size))
    work, products = zeros_on_a_line(7 * TOGETHER * size).reshape((7, TOGETHER * size)), zeros_on_a_line(TOGETHER * DOUBLES)
    residual, x, step, image, odd, source, correction = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    singles, single_products = _singles(5 * TOGETHER * length).reshape((5, TOGETHER * length)), _singles(TOGETHER * FLOATS)
    small, small_x, small_step, small_image, small_odd = singles[0], singles[1], singles[2], singles[3], singles[4]
    tolerances, aims, last, factors = np.empty(TOGETHER), np.empty(TOGETHER), np.empty(TOGETHER), np.empty(TOGETHER)
    room, kinds = np.empty(TOGETHER, np.bool_), np.zeros(TOGETHER, np.int64)
    weights = _weights_along(tables, classes.null[1], source, image, products)
    for first in range(0, right_hand_sides.shape[0], TOGETHER):
        who, moved = _begin(tables, right_hand_sides, first, rtol, halves, source, tolerances), False
        going = who
        x[:], small_step[:], state.before[:] = 0.0, np.float32(0.0), 0.0
        last[:], factors[:], room[:] = np.inf, 0.0, in_single
        while going.size > 0:
            _true_residuals(tables, halves, source, x, moved, going, image, odd, residual, products)
            kinds[:] = 0
            for number in going:
                base = number * size
                own, solution = residual[base : base + size], x[base : base + size]
                norm = np.sqrt(_inner(own, own, 0))
                kinds[number] = _classify(norm, tolerances[number], np.sqrt(_inner(solution, solution, 0)), room[number], last[number])
                if kinds[number] == 1:
                    # the direction was made for residuals of another scale
                    state.before[number] *= NORM / (norm * factors[number]) if factors[number] > 0.0 else 0.0
                    last[number], factors[number] = norm, NORM / norm
                    aims[number] = tolerances[number] * factors[number]
                    _narrow(own, tables.shape, factors[number], stride, small[number * length : (number + 1) * length])
            on, beyond, moved = np.flatnonzero(kinds == 1), np.flatnonzero(kinds == 2), True
            if beyond.size > 0:
                if in_single:  # once more, as mixed_precision._go_on_in_double
                    for number in beyond:
                        _project(tables.null, residual, number * size)
                _conjugate_gradients(tables, residual, tolerances, beyond, step, image, odd, correction, products, state_in_double)
                for number in beyond:
                    _add_multiple(1.0, correction, number * size, x, number * size, size)
                    iterations[first + number] += state_in_double.steps[number]
            small_x[:] = np.float32(0.0)
            _iterate(single, small, aims, DRIFT, STEPS, on, small_step, small_image, small_odd, small_x, single_products, state)
            for number in on:
                rest, base = state.norms[number], number * length
                iterations[first + number] += state.steps[number]
                room[number] = state.steps[number] < STEPS and rest < np.inf  # which it is not after an overflow
                if rest < np.inf:
                    part = small_x[base : base + length]
                    _add_widened(part, stride, 1.0 / factors[number], tables.shape, x[number * size : (number + 1) * size])
                if rest + DRIFT * state.sizes[number] <= aims[number]:
                    kinds[number] = 0
            going = np.flatnonzero(kinds == 1)
        _end(tables, weights, first, who, halves, x, image, products, solutions)
