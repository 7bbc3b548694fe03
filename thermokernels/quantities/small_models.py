"""T_O, g and Q of small models, from couplings to numbers with their bounds in one compiled call, alone or many of one shape.

Gradients go on from what it leaves (:mod:`adjoints.small_models`). The steps are :mod:`thermokernels.model.chain_tables`,
:mod:`thermokernels.solvers.small.small_chains` and :mod:`thermokernels.quantities.data_signal`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.simd_states import DOUBLES, aligned_empty
from thermokernels.model.chain_tables import UNIT, ChainTables, _coupling_sums, _fill_tables, _law_error, _rate_error
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.kernels.single_site import Generator, _escape
from thermokernels.model.model import Model
from thermokernels.quantities.data_signal import LARGEST_SUM, _data_gradient, _signal, gradient_error
from thermokernels.solvers.red_black import AIM
from thermokernels.solvers.row_sums import SHORTEST_BLOCK
from thermokernels.solvers.small.small_chains import Rounding, Solved, _error_terms, _solve_products, is_small, shape_of
from thermokernels.solvers.small.small_cholesky import DENSE_STATES
from thermokernels.solvers.solve import Solve
from thermokernels.solvers.spanning_tree_bound import _path_bound

# Laws below this are close to underflow: their square roots still are numbers, but products with them lose digits unnoticed.
SMALLEST_LAW = 1e-280

# The largest relative residual that a solve may be left with, whatever accuracy is asked for.
LOOSEST = 0.5

NUMBERS = ("value", "signal", "signal_bound", "t_obs", "t_obs_bound", "residual", "iterations")
# Behind them stand log Z of the states and the relative residual that was accepted.
LOGARITHM, ACCEPTED, N_NUMBERS = 7, 8, 9


class Limits(NamedTuple):
    """What an answer has to meet: the relative residual of a solve, the smallest law, the digits of T_O and those of z, how much larger
    than what rounding can be to blame for what the residual can be to blame for may be; or, where it is not zero, the relative error of
    T_O that will do instead of the last three."""

    residual: float
    law: float
    digits: float
    gradient: float
    share: float
    accuracy: float


def limits_of(solve: Solve) -> Limits:
    """What an answer has to meet to be kept."""
    return Limits(solve.rtol, SMALLEST_LAW, tolerances.DIGITS, tolerances.GRADIENT, 1.0, solve.accuracy or 0.0)


@inlined
def _solve_time(weights, visible_field, hidden_field, quotient, filled, limits, tables, solved, numbers):
    """T_O of one model with its bound and what is known of the solve, written to ``numbers``; solved is filled, and tables where they
    have not been ``filled``.

    Returns whether it is certified, by the bound of 1 / gap that paths give.
    """
    n_visible, n_hidden = weights.shape
    n_spins, shape = n_visible + n_hidden, (tables.visible_rates.shape[1], tables.hidden_rates.shape[1])
    if not filled:
        total, logarithm = _fill_tables(weights, visible_field, hidden_field, tables)
        numbers[LOGARITHM] = math.log(total) + logarithm
        if not np.isfinite(total):
            return False
    if tables.law.min() < limits.law:
        return False
    escape = np.empty(shape)
    _escape(tables.visible_flips, tables.hidden_flips, escape)
    relaxation = _path_bound(tables.root_law, tables.visible_rates, tables.hidden_rates, quotient, tables.energy.argmin())
    rtol = limits.residual
    if limits.accuracy > 0.0 and tables.law.size > DENSE_STATES:
        # see thermokernels.quantities.variance_time.sufficient_residual
        rtol = max(rtol, min(math.sqrt(0.25 * limits.accuracy * n_spins / relaxation) / AIM, LOOSEST))
    generator = Generator(escape, tables.visible_rates, tables.hidden_rates, quotient)
    time, residual, iterations = _solve_products(generator, tables.law, tables.root_law, rtol, solved)
    numbers[3], numbers[5], numbers[6], numbers[ACCEPTED] = time, residual, iterations, rtol
    if not (residual <= rtol and time > 0.0 and np.isfinite(time)):
        return False
    coupling_sum, largest = _coupling_sums(weights, visible_field, hidden_field)
    n_states, n_rows, block = tables.law.size, solved.sums.shape[0], max(shape[1], SHORTEST_BLOCK)
    additions = 4 + min(block, n_states) // DOUBLES + n_states // block + n_states % DOUBLES
    of_source = (6 + additions + min(n_rows, 8 + n_rows // 8)) * UNIT + _law_error(coupling_sum)
    of_entries = 2.0 * (_rate_error(largest) + n_spins * UNIT)
    rounding = Rounding(2 * (n_spins + 2) * UNIT, of_source, (shape[0] + shape[1] + 8) * 2.0 * UNIT, of_entries)
    squares, from_rounding = _error_terms(solved.sums, rounding)
    from_residuals = relaxation * squares
    numbers[4] = from_residuals + from_rounding
    if limits.accuracy > 0.0:
        return numbers[4] <= limits.accuracy * time
    return from_residuals <= min(limits.gradient**2 * time, limits.share * from_rounding) and numbers[4] <= limits.digits * time


@inlined
def _value(weights, visible_field, hidden_field, p_data, window_steps, quotient, filled, limits, tables, solved, numbers, g):
    """Q of one model, or T_O alone where p_data is empty.

    Returns whether all is certified and finite, and g in reach of pairs of doubles.
    """
    for k in range(numbers.size):
        numbers[k] = np.nan
    # also when it is NaN
    if p_data.size > 0 and not (_coupling_sums(weights, visible_field, hidden_field)[0] <= LARGEST_SUM):
        return False
    if not _solve_time(weights, visible_field, hidden_field, quotient, filled, limits, tables, solved, numbers):
        return False
    if p_data.size == 0:
        return True
    n_visible, n_hidden = weights.shape
    _data_gradient(np.ascontiguousarray(weights.T), visible_field, hidden_field, p_data, g)
    signal, bound = _signal(g, gradient_error(n_visible, n_hidden), UNIT)
    numbers[0], numbers[1], numbers[2] = 0.5 * window_steps * signal / numbers[3], signal, bound
    return np.isfinite(numbers[0])


@jit
def _tables_of(tables, k):
    """Those of model k of many."""
    of_states = tables.energy[k], tables.law[k], tables.root_law[k]
    of_visible = tables.visible_local_fields[k], tables.visible_rates[k], tables.visible_flips[k]
    return ChainTables(*of_states, *of_visible, tables.hidden_local_fields[k], tables.hidden_rates[k], tables.hidden_flips[k])


@jit
def _values(weights, visible_fields, hidden_fields, laws, window_steps, quotient, filled, limits, wanted, room, found):
    """:func:`_value` for the models ``wanted`` of many, arrays with an axis of models in front; found[k] is whether it is certified."""
    for k in range(weights.shape[0]):
        if wanted[k]:
            solved = Solved(room.solved.right_hand_sides[k], room.solved.vectors[k], room.solved.sums[k])
            tables, numbers, law, g, b, c = (
                _tables_of(room.tables, k),
                room.numbers[k],
                laws[k],
                room.g[k],
                visible_fields[k],
                hidden_fields[k],
            )
            found[k] = _value(weights[k], b, c, law, window_steps, quotient, filled, limits, tables, solved, numbers, g)


class Room(NamedTuple):
    """What the compiled call fills, with an axis of models in front: tables and solutions, numbers (B, N_NUMBERS) in the order of
    :data:`NUMBERS`, and g (B, n_v, n_h)."""

    tables: ChainTables
    solved: Solved
    numbers: Floats
    g: Floats

    def of(self, rows: slice) -> Room:
        """That of some of the models."""
        tables, solved = ChainTables(*(part[rows] for part in self.tables)), Solved(*(part[rows] for part in self.solved))
        return Room(tables, solved, self.numbers[rows], self.g[rows])

    def first(self) -> tuple[ChainTables, Solved]:
        """Tables and solutions of the first model."""
        return ChainTables(*(part[0] for part in self.tables)), Solved(*(part[0] for part in self.solved))


def room(n_models: int, n_visible: int, n_hidden: int, quotient: bool, tables: ChainTables | None = None) -> Room:
    """Room for so many models, with the tables of one whose chain is known."""
    n_rows, n_columns = 1 << (n_hidden - quotient), 1 << n_visible
    n_states, n_products = n_rows * n_columns, n_visible * n_hidden
    if tables is not None:
        tables = ChainTables(*(part[None] for part in tables))
    else:
        visible, hidden = (n_models, n_visible, n_rows), (n_models, n_hidden, n_columns)
        of_states = np.empty((n_models, n_states)), np.empty((n_models, n_states)), np.empty((n_models, n_states))
        of_visible = np.empty(visible), np.empty(visible), np.empty((n_models, 2, *visible[1:]))
        tables = ChainTables(*of_states, *of_visible, np.empty(hidden), np.empty(hidden), np.empty((n_models, 2, *hidden[1:])))
    vectors = aligned_empty(2, n_models, *shape_of(n_visible, n_hidden, quotient))
    solved = Solved(vectors[0], vectors[1], np.empty((n_models, n_products, 6)))
    return Room(tables, solved, np.empty((n_models, N_NUMBERS)), np.empty((n_models, n_visible, n_hidden)))


ONE = np.ones(1, dtype=np.bool_)


def answer(
    model: Model, law: Floats, window_steps: float, quotient: bool, solve: Solve, tables: ChainTables | None = None
) -> tuple[Room, bool]:
    """Q of one model, or T_O alone where ``law`` is empty, and whether it is certified; ``tables`` are those of a chain that is known."""
    n_visible, n_hidden = model.W.shape
    found, filled = np.zeros(1, dtype=np.bool_), room(1, n_visible, n_hidden, quotient, tables)
    W, b, c, p_data = (array.copy()[None] for array in (*model, law))  # compiled once, for arrays that are writeable
    _values(W, b, c, p_data, window_steps, quotient, tables is not None, limits_of(solve), ONE, filled, found)
    return filled, bool(found[0])


def in_one_call(model: Model, solve: Solve, kernel: str, full: bool = False) -> bool:
    """Whether a model may be answered for so, of a kernel that is named."""
    if solve.method != "auto" or solve.checkpoint is not None or model.mask is not None:  # an executor is not asked for so little
        return False
    quotient = not (full or model.has_fields)
    return KERNELS[kernel].single_flips and is_small(model.n_visible, model.n_hidden, quotient)
