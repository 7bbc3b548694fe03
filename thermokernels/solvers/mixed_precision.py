"""Red-black solves whose iterations are in float32, with residuals of float64: half the bytes and twice the lanes.

The residual that conjugate gradients update drifts from the true one, b - A x, by the rounding of all steps, about 2^-24 |x|. As soon as it
has come down to a few times that it is replaced by the true one, in float64, and the solution so far is put by; the direction is
kept, so that the iteration goes on where it was and does not start again (reliable updates: Sleijpen and van der Vorst, Computing 56
(1996) 141; van der Vorst and Ye, SIAM J. Sci. Comput. 22 (2000) 835). Two replacements lead to a residual of 5e-12.

A slow chain has a solution that is large beside its right-hand side, and leaves float32 no room: where no replacement is due within
:data:`STEPS`, or one does not find the true residual below :data:`ROOM` of the one before, float64 solves for what is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from thermokernels.common import threads
from thermokernels.common.arrays import Floats
from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.register_tiles import PADDED_COLUMNS
from thermokernels.compiled.simd_states import (
    DOUBLES,
    FLOATS,
    add,
    add_multiple,
    dot,
    fill,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    total,
)
from thermokernels.model.chain import GibbsChain
from thermokernels.solvers import corrected_steps, red_black
from thermokernels.solvers.conjugate_gradients import FLOOR, MAX_ITERATIONS
from thermokernels.solvers.layer_functions import NO_LAYERS, LayerFunctions
from thermokernels.solvers.parity_classes import EVEN, ODD, STAGGER, Classes, _merge, _split
from thermokernels.solvers.parity_coupling import _couple, _from_other
from thermokernels.solvers.red_black import AIM, _complete, _conjugate_gradients, _iterate, _odd_half, _project, _weights_along
from thermokernels.solvers.row_sums import N_SUMS

# On fewer states the vectors of float64 lie in the first two levels of the cache, and little is gained; a tile takes 32 columns.
STATES, VISIBLE = 2**13, 6

# A residual in float32 is replaced when it is below this share of the solution: eight roundings of it.
DRIFT = 2.0**-21

# A replacement has to come within so many steps, and to find the true residual below this share of the one before, or float64 goes on.
STEPS, ROOM = 64, 0.01

# Residuals are scaled to this norm, so that squares of small entries stay in the range of float32.
NORM = 2.0**30

# Of roots of probabilities and of rates, for the same reason.
SMALLEST = 2.0**-40


class Mixed(NamedTuple):
    """One chain in parity classes of either type; rows of float32 have their own stride."""

    double: Classes
    single: Classes
    layers: LayerFunctions
    along: np.ndarray  # (2, length), see red_black._weights_along


@jit
def _narrow(double, shape, factor, stride, single):
    """single = factor * double, row by row: a float32 class of rows ``stride`` apart from a float64 one."""
    for h in range(shape.n_rows):
        here, there = double[h * shape.stride : h * shape.stride + shape.n_half], single[h * stride : h * stride + shape.n_half]
        for u in range(shape.n_half):
            there[u] = np.float32(factor * here[u])


@jit
def _add_widened(single, stride, factor, shape, double):
    """double += factor * single."""
    for h in range(shape.n_rows):
        here, there = single[h * stride : h * stride + shape.n_half], double[h * shape.stride : h * shape.stride + shape.n_half]
        for u in range(shape.n_half):
            there[u] += factor * np.float64(here[u])


@inlined
def _true_residual(classes, halves, x, moved, odd, residual):
    """residual = b_e - D_e x + C D_o^-1 (b_o + C' x), that of the even half of A z = b; x = 0 unless ``moved``."""
    free, inverse = classes.free[0], classes.inverse[1]
    if moved:
        _odd_half(classes, halves[1], x, residual, odd)
        _couple(classes.visible_rates, classes.hidden_rates, classes.shape, EVEN, odd, free, classes.diagonal[0], x, residual)
    else:
        for k in range(0, odd.size, DOUBLES):
            store(odd, k, multiply(load(inverse, k), load(halves[1], k)))
        _from_other(classes, EVEN, odd, free, residual)
    sign = fill(-1.0 if moved else 1.0)
    for k in range(0, residual.size, DOUBLES):
        here = load(halves[0], k)
        if free.size > 0:
            here = multiply(load(free, k), here)
        store(residual, k, multiply_add(sign, load(residual, k), here))
    _project(classes.null[0], residual)


@inlined
def _go_on_in_double(classes, halves, residual, odd, tolerance, singles, x):
    """x += what solves the Schur complement for ``residual``, without float32, whose room is used; returns the number of iterations."""
    spare, correction = singles.reshape(singles.size).view(np.float64)[: 2 * x.size].reshape((2, x.size)), halves[0]
    singles[:] = 0.0
    iteration = _conjugate_gradients(classes, residual, tolerance, spare[0], spare[1], odd, correction)
    singles[:] = 0.0
    add_multiple(1.0, correction, x)
    return iteration


@inlined
def _solve_row(mixed, halves, tolerance, residual, odd, singles, spread, x):
    """x = the even half of z to an absolute residual ``tolerance``; returns the number of iterations. halves[0] may be overwritten."""
    double, single = mixed.double, mixed.single
    shape, stride = double.shape, single.shape.stride
    small, solution, step = singles[0], singles[1], singles[2]
    x[:], step[:] = 0.0, 0.0
    iteration, before, last, factor, room = 0, 0.0, np.inf, 0.0, True
    while iteration < MAX_ITERATIONS:
        _true_residual(double, halves, x, iteration > 0, odd, residual)
        norm = np.sqrt(dot(residual, residual))
        if not (norm > tolerance and norm > FLOOR * np.sqrt(dot(x, x))):
            break
        if not (room and norm < ROOM * last):
            iteration += _go_on_in_double(double, halves, residual, odd, tolerance, singles, x)
            break
        before *= NORM / (norm * factor) if factor > 0.0 else 0.0  # the direction was made for residuals of another scale
        last, factor = norm, NORM / norm
        _narrow(residual, shape, factor, stride, small)
        if mixed.layers.size > 0:
            done, rest, size, before = corrected_steps._iterate(
                single, mixed.layers, small, tolerance * factor, DRIFT, STEPS, before, step, singles[3], singles[4], solution, spread
            )
        else:
            done, rest, size, before = _iterate(
                single, small, tolerance * factor, DRIFT, STEPS, before, step, singles[3], singles[4], solution
            )
        iteration += done
        room = done < STEPS and rest < np.inf  # which it is not after an overflow
        if rest < np.inf:
            _add_widened(solution, stride, 1.0 / factor, shape, x)
        if rest + DRIFT * size <= tolerance * factor:
            break
    return iteration


@inlined
def _leave_residual(classes, source, residual, solution):
    """residual = b - A z in its classes, of which the odd half is b_o + C' z_e at first."""
    shape, nothing, inner = classes.shape, residual[0, :0], residual[1]
    for k in range(0, inner.size, DOUBLES):
        store(inner, k, subtract(load(inner, k), multiply(load(classes.diagonal[1], k), load(solution[1], k))))
    step, out = solution[0], residual[0]
    _couple(classes.visible_rates, classes.hidden_rates, shape, EVEN, solution[1], nothing, classes.diagonal[0], step, out)
    for k in range(0, out.size, DOUBLES):
        store(out, k, subtract(load(source[0], k), load(out, k)))


@jit
def _class_sums(classes, source, solution, residual, block, sums):
    """:func:`thermokernels.solvers.row_sums._add_up` of b, z and b - A z in their classes, (2, length)."""
    shape = classes.shape
    n_half, stride, together = shape.n_half, shape.stride, max(block // (2 * shape.n_half), 1)
    sums[:] = 0.0
    for first in range(0, shape.n_rows, together):
        bz, rz, rr, zz, bb, dz = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        for parity in (EVEN, ODD):
            sources, solutions, residuals, diagonal = source[parity], solution[parity], residual[parity], classes.diagonal[parity]
            for h in range(first, min(first + together, shape.n_rows)):
                for k in range(h * stride, h * stride + n_half, DOUBLES):
                    b, z, r = load(sources, k), load(solutions, k), load(residuals, k)
                    bz, rz = multiply_add(b, z, bz), multiply_add(r, z, rz)
                    rr, bb = multiply_add(r, r, rr), multiply_add(b, b, bb)
                    square = multiply(z, z)
                    zz, dz = add(zz, square), multiply_add(load(diagonal, k), square, dz)
        sums[0], sums[1], sums[2] = sums[0] + total(bz), sums[1] + total(rz), sums[2] + total(rr)
        sums[3], sums[4], sums[5] = sums[3] + total(zz), sums[4] + total(bb), sums[5] + total(dz)


@jit
def _solve(mixed, right_hand_sides, rtol, block, room, solutions, sums, iterations):
    """A z = b for every row of right_hand_sides, z orthogonal to sqrt(pi), with its sums."""
    double = mixed.double
    source, solution, residual = room.work[0:2], room.work[2:4], room.work[4:6]
    halves, odd = room.work[6:8], room.work[8]
    for a in range(right_hand_sides.shape[0]):
        _split(right_hand_sides[a], double.shape, source)
        halves[:] = source
        norm = np.sqrt(dot(source[0], source[0]) + dot(source[1], source[1]))
        iterations[a] = _solve_row(mixed, halves, AIM * rtol * norm, residual[0], odd, room.singles, room.spread, solution[0])
        _complete(double, mixed.along, source[1], solution, residual[1])
        _leave_residual(double, source, residual, solution)
        _merge(solution, double.shape, solutions[a])
        _class_sums(double, source, solution, residual, block, sums[a])


def applies_to(chain: GibbsChain) -> bool:
    """Whether float32 pays on so many states of a chain that parity halves, and holds its law and its rates."""
    large = chain.n_states >= STATES and chain.n_visible >= VISIBLE
    return large and red_black.applies_to(chain) and min(chain.root_law.min(), chain.escape.min()) > SMALLEST


def mixed_classes(double: Classes, layers: LayerFunctions = NO_LAYERS) -> Mixed:
    """The classes in both types."""
    shape = double.shape
    stride = shape.n_half + (FLOATS if shape.n_half >= PADDED_COLUMNS else 0)
    length = shape.n_rows * stride + STAGGER // DOUBLES * FLOATS

    def narrowed(classes: np.ndarray) -> np.ndarray:
        singles = simd_states.aligned_singles(len(classes), length)
        for here, there in zip(classes[:, : double.null.shape[1]], singles, strict=True):
            if here.size:
                _narrow(here, shape, 1.0, stride, there)
        return singles

    def flat(rates: np.ndarray) -> np.ndarray:
        singles = simd_states.aligned_singles(rates.size)
        singles[:] = rates
        return singles

    free = narrowed(double.free) if double.free.size else np.empty((2, 0), dtype=np.float32)
    tables = narrowed(double.diagonal[:1]), narrowed(double.inverse), free, narrowed(double.null[:1])
    single = Classes(flat(double.visible_rates), flat(double.hidden_rates), *tables, shape._replace(stride=stride))
    along = simd_states.aligned_zeros(2, double.null.shape[1])
    _weights_along(double, along)
    return Mixed(double, single, layers, along)


class Room(NamedTuple):
    """Work space of one thread: vectors of a class in float64 (9, length) and in float32 (5, length), and that of the second level."""

    work: np.ndarray
    singles: np.ndarray
    spread: corrected_steps.Room


def room(mixed: Mixed) -> Room:
    """Work space for one thread."""
    work = simd_states.aligned_zeros(9, mixed.double.null.shape[1])
    singles = simd_states.aligned_singles(5, mixed.single.null.shape[1])
    return Room(work, singles, corrected_steps.room(mixed.single.shape, mixed.layers))


def solve(
    mixed: Mixed, right_hand_sides: Floats, rtol: float, block: int, rooms: list[Room], solutions: Floats
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Fill ``solutions`` with those of A z = b for the rows b, both (k, n_states).

    Returns their sums (k, 6), made in blocks of ``block`` entries (:mod:`thermokernels.solvers.row_sums`), and the CG iterations (k,).
    ``rooms`` keeps the work space of threads from one call to the next.
    """
    n_rows = len(right_hand_sides)
    sums, iterations = np.empty((n_rows, N_SUMS)), np.zeros(n_rows, dtype=np.int64)

    def solve_rows(rows: slice) -> None:
        try:
            ours = rooms.pop()
        except IndexError:
            ours = room(mixed)
        _solve(mixed, right_hand_sides[rows], rtol, block, ours, solutions[rows], sums[rows], iterations[rows])
        rooms.append(ours)

    threads.for_rows(solve_rows, n_rows, right_hand_sides.size * mixed.double.shape.n_visible)
    return sums, iterations
