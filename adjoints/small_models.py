"""Q, T_O and their gradients of small models, compiled from couplings to derivatives, and of many models at once.

The terms are those of :mod:`adjoints.variance_time` and :mod:`adjoints.signal_to_noise`, where they are derived; here they are summed by
halving tables (:mod:`thermokernels.model.spin_sums`), without a step in Python between.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from adjoints.cotangents import Cotangents
from thermokernels.common import tolerances
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES
from thermokernels.model.chain import GibbsChain, obstacle_to_quotient, of_tables
from thermokernels.model.chain_tables import UNIT, _coupling_sums, _empty_tables, _fill_tables, _law_error, _rate_error
from thermokernels.model.kernels.flip_tables import _energies, _local_fields
from thermokernels.model.kernels.registry import KERNELS
from thermokernels.model.kernels.single_site import Generator, _escape
from thermokernels.model.model import Model
from thermokernels.model.spin_sums import _correlate, _fold
from thermokernels.quantities.data_signal import LARGEST_SUM, _data_gradient, _signal, gradient_error
from thermokernels.quantities.signal_to_noise import QStruct
from thermokernels.quantities.variance_time import SMALLEST_LAW, VarianceTime
from thermokernels.solvers.many_observables import SHORTEST_BLOCK, RowSums
from thermokernels.solvers.resolvent import resolved
from thermokernels.solvers.small.packs import _overlaps, _squares_and_products
from thermokernels.solvers.small.small_chains import SMALL_STATES, Rounding, _error_terms, _solve_products, empty
from thermokernels.solvers.solve import Solve
from thermokernels.solvers.spanning_tree_bound import _flip_tree


@jit
def _add_log_law(weights, law, n_columns, ct_weights, ct_visible, ct_hidden):
    """Add sum_x weights(x) dlog pi(x) to the cotangents of W, b and c; ``weights`` is centred in place."""
    total = 0.0
    for x in range(weights.size):
        total += weights[x]
    for x in range(weights.size):
        weights[x] -= total * law[x]
    products, visible, hidden = np.empty(ct_weights.shape), np.empty(ct_visible.size), np.empty(ct_hidden.size)
    _correlate(weights, n_columns, products, visible, hidden)
    ct_weights += products
    ct_visible += visible
    ct_hidden += hidden


@jit
def _add_field(n_spins, field, rate, overlap, along, ct_field):
    """ct_field[s] = the derivative by the local field F(s) of one spin, from the overlap of flips and the diagonal, both tables of s."""
    for s in range(field.size):
        ct_field[s] = rate[s] * (2.0 * n_spins * rate[s] * along[s] - math.tanh(field[s]) * overlap[s])


@jit
def _time_cotangents(tables, quotient, sources, vectors, ct_weights, ct_visible, ct_hidden):
    """Overwrite the cotangents with the derivatives of T_O, from packs of b and z of all observables."""
    (n_visible, n_rows), (n_hidden, n_columns) = tables.visible_rates.shape, tables.hidden_rates.shape
    n_spins = n_visible + n_hidden
    by_visible, by_hidden = np.empty(tables.visible_rates.shape), np.empty(tables.hidden_rates.shape)
    squares, law_weights = np.empty((n_rows, n_columns)), np.empty(tables.law.size)
    _overlaps(vectors, (n_rows, n_columns), quotient, by_visible, by_hidden)
    _squares_and_products(vectors, sources, squares.ravel(), law_weights)
    ct_weights[:, :], ct_visible[:], ct_hidden[:] = 0.0, 0.0, 0.0
    # fields of visible spins: tables over the hidden configurations
    along, row, spins = np.empty((n_visible, n_rows)), np.empty(n_columns), np.empty(n_visible)
    for h in range(n_rows):
        row[:] = squares[h]
        _fold(row, spins)
        for i in range(n_visible):
            along[i, h] = spins[i]
    ct_field, sums = np.empty(n_rows), np.empty(n_hidden)
    for i in range(n_visible):
        _add_field(n_spins, tables.visible_local_fields[i], tables.visible_rates[i], by_visible[i], along[i], ct_field)
        ct_visible[i] += _fold(ct_field, sums)
        ct_weights[i] += sums
    # fields of hidden spins: tables over the visible configurations
    column, ct_field = np.empty(n_columns), np.empty(n_columns)
    for j in range(n_hidden):
        column[:] = 0.0
        for h in range(n_rows):
            spin = 1.0 - 2.0 * ((h >> j) & 1)
            for v in range(n_columns):
                column[v] += spin * squares[h, v]
        _add_field(n_spins, tables.hidden_local_fields[j], tables.hidden_rates[j], by_hidden[j], column, ct_field)
        ct_hidden[j] += _fold(ct_field, spins)
        for i in range(n_visible):
            ct_weights[i, j] += spins[i]
    _add_log_law(law_weights, tables.law, n_columns, ct_weights, ct_visible, ct_hidden)
    if quotient:  # T_O is even in the fields
        ct_visible[:], ct_hidden[:] = 0.0, 0.0


@jit
def _signal_cotangents(tables, quotient, p_data, g, ct_weights, ct_visible, ct_hidden):
    """Overwrite the cotangents with the derivatives of |g|^2."""
    (n_visible, n_rows), (n_hidden, n_columns) = tables.visible_rates.shape, tables.hidden_rates.shape
    ct_weights[:, :], ct_visible[:], ct_hidden[:] = 0.0, 0.0, 0.0
    # the model: phi(x) = sum_ij g_ij v_i h_j is minus the energy of the couplings g
    fields, phi = np.empty((n_visible, n_rows)), np.empty((n_rows, n_columns))
    _local_fields(g, ct_visible, fields)
    _energies(fields, ct_hidden, phi)
    weights, mean = phi.ravel(), 0.0
    for x in range(weights.size):
        mean += tables.law[x] * weights[x]
    for x in range(weights.size):
        weights[x] = 2.0 * tables.law[x] * (mean - weights[x])
    _add_log_law(weights, tables.law, n_columns, ct_weights, ct_visible, ct_hidden)
    # the data, weighted with sech^2(F_j) = (2 N S)^2
    by_hidden, spins = np.empty((n_hidden, n_columns)), np.empty(n_visible)
    _local_fields(np.ascontiguousarray(g.T), np.zeros(n_hidden), by_hidden)
    for j in range(n_hidden):
        row = by_hidden[j]
        for v in range(n_columns):
            root = 2.0 * (n_visible + n_hidden) * tables.hidden_rates[j, v]
            row[v] *= 2.0 * p_data[v] * root * root
        ct_hidden[j] -= _fold(row, spins)
        for i in range(n_visible):
            ct_weights[i, j] -= spins[i]
    if quotient:
        ct_visible[:], ct_hidden[:] = 0.0, 0.0


@jit
def _quotient_rule(value, signal, time, ct_signal, ct_time, ct):
    """ct = Q (d|g|^2 / |g|^2 - dT_O / T_O), flat arrays."""
    for k in range(ct.size):
        ct[k] = value * (ct_signal[k] / signal - ct_time[k] / time)


@jit
def _q_cotangents(tables, quotient, sources, vectors, p_data, g, numbers, ct_weights, ct_visible, ct_hidden):
    """Overwrite the cotangents with the derivatives of Q; ``numbers`` are Q, |g|^2 and T_O. Zero where g is."""
    value, signal, time = numbers
    if signal == 0.0:
        ct_weights[:, :], ct_visible[:], ct_hidden[:] = 0.0, 0.0, 0.0
        return
    by_time = np.empty(ct_weights.shape), np.empty(ct_visible.size), np.empty(ct_hidden.size)
    by_signal = np.empty(ct_weights.shape), np.empty(ct_visible.size), np.empty(ct_hidden.size)
    _time_cotangents(tables, quotient, sources, vectors, by_time[0], by_time[1], by_time[2])
    _signal_cotangents(tables, quotient, p_data, g, by_signal[0], by_signal[1], by_signal[2])
    _quotient_rule(value, signal, time, by_signal[0].ravel(), by_time[0].ravel(), ct_weights.ravel())
    _quotient_rule(value, signal, time, by_signal[1], by_time[1], ct_visible)
    _quotient_rule(value, signal, time, by_signal[2], by_time[2], ct_hidden)


class Answer(NamedTuple):
    """What :func:`_answer` finds of one model: numbers (8,), named by :data:`NUMBERS`, and log Z of the states; g; dQ by W, b and c."""

    numbers: Floats
    g: Floats
    ct_weights: Floats
    ct_visible: Floats
    ct_hidden: Floats


NUMBERS = ("value", "signal", "signal_bound", "t_obs", "t_obs_bound", "residual", "iterations")


class Limits(NamedTuple):
    """What an answer has to meet: the relative residual of a solve, the smallest law, the digits of T_O and those of z, and how much larger
    than what rounding can be to blame for what the residual can be to blame for may be."""

    residual: float
    law: float
    digits: float
    gradient: float
    share: float


@jit
def _solve_time(weights, visible_field, hidden_field, quotient, limits, tables, solved, numbers):
    """T_O of one model with its bound and what is known of the solve, written to ``numbers``; tables and solved are filled.

    Returns whether it is certified, by the bound of 1 / gap that a spanning tree gives.
    """
    n_visible, n_hidden = weights.shape
    n_spins, shape = n_visible + n_hidden, (tables.visible_rates.shape[1], tables.hidden_rates.shape[1])
    total, logarithm = _fill_tables(weights, visible_field, hidden_field, tables)
    numbers[7] = math.log(total) + logarithm
    if not np.isfinite(total) or tables.law.min() < limits.law:
        return False
    escape = np.empty(shape)
    _escape(tables.visible_flips, tables.hidden_flips, escape)
    generator = Generator(escape, tables.visible_rates, tables.hidden_rates, quotient)
    time, residual, iterations = _solve_products(generator, tables.law, tables.root_law, limits.residual, solved)
    if not (residual <= limits.residual and time > 0.0 and np.isfinite(time)):
        return False
    coupling_sum, largest = _coupling_sums(weights, visible_field, hidden_field)
    n_states, n_rows, block = tables.law.size, solved.sums.shape[0], max(shape[1], SHORTEST_BLOCK)
    additions = 4 + min(block, n_states) // DOUBLES + n_states // block + n_states % DOUBLES
    of_source = (6 + additions + min(n_rows, 8 + n_rows // 8)) * UNIT + _law_error(coupling_sum)
    of_entries = 2.0 * (_rate_error(largest) + n_spins * UNIT)
    rounding = Rounding(2 * (n_spins + 2) * UNIT, of_source, (shape[0] + shape[1] + 8) * 2.0 * UNIT, of_entries)
    squares, from_rounding = _error_terms(solved.sums, rounding)
    relaxation = _flip_tree(tables.law, tables.visible_flips, tables.hidden_flips, quotient, tables.energy.argmin())
    from_residuals = relaxation * squares
    numbers[3], numbers[4], numbers[5], numbers[6] = time, from_residuals + from_rounding, residual, iterations
    if not from_residuals <= min(limits.gradient**2 * time, limits.share * from_rounding):
        return False
    return from_residuals + from_rounding <= limits.digits * time


@jit
def _answer(weights, visible_field, hidden_field, p_data, data_sum, window_steps, quotient, limits, tables, solved, answer):
    """Q and its gradient of one model; returns whether all is certified and finite, and g in reach of pairs of doubles."""
    if not (_coupling_sums(weights, visible_field, hidden_field)[0] <= LARGEST_SUM):  # also when it is NaN
        return False
    if not _solve_time(weights, visible_field, hidden_field, quotient, limits, tables, solved, answer.numbers):
        return False
    n_visible, n_hidden = weights.shape
    _data_gradient(np.ascontiguousarray(weights.T), visible_field, hidden_field, p_data, answer.g)
    signal, bound = _signal(answer.g, gradient_error(n_visible, n_hidden), UNIT)
    time = answer.numbers[3]
    value = 0.5 * window_steps * signal / time
    answer.numbers[0], answer.numbers[1], answer.numbers[2] = value, signal, bound
    _q_cotangents(
        tables,
        quotient,
        solved.right_hand_sides,
        solved.vectors,
        p_data / data_sum,
        answer.g,
        (value, signal, time),
        answer.ct_weights,
        answer.ct_visible,
        answer.ct_hidden,
    )
    return np.isfinite(value)


@jit
def empty_answer(n_visible: int, n_hidden: int) -> Answer:
    """One of NaN."""
    g, ct_weights = np.full((n_visible, n_hidden), np.nan), np.full((n_visible, n_hidden), np.nan)
    return Answer(np.full(8, np.nan), g, ct_weights, np.full(n_visible, np.nan), np.full(n_hidden, np.nan))


@jit
def _answer_alone(weights, visible_field, hidden_field, p_data, data_sum, window_steps, quotient, limits):
    """:func:`_answer` with the tables and the solutions that it rests on."""
    n_visible, n_hidden = weights.shape
    tables, answer = _empty_tables(n_visible, n_hidden, quotient), empty_answer(n_visible, n_hidden)
    solved = empty(weights.size, tables.law.size)
    how = p_data, data_sum, window_steps, quotient, limits
    return _answer(weights, visible_field, hidden_field, *how, tables, solved, answer), tables, solved, answer


@jit
def _answers(weights, visible_fields, hidden_fields, laws, law_sums, window_steps, quotient, limits, wanted, answers, found):
    """:func:`_answer` for the models ``wanted`` of many, arrays with an axis of models in front; found[k] is whether it is certified."""
    tables = _empty_tables(weights.shape[1], weights.shape[2], quotient)
    solved = empty(weights.shape[1] * weights.shape[2], tables.law.size)
    for k in range(weights.shape[0]):
        if wanted[k]:
            answer = Answer(answers.numbers[k], answers.g[k], answers.ct_weights[k], answers.ct_visible[k], answers.ct_hidden[k])
            how = laws[k], law_sums[k], window_steps, quotient, limits
            found[k] = _answer(weights[k], visible_fields[k], hidden_fields[k], *how, tables, solved, answer)


def limits_of(rtol: float) -> Limits:
    """What an answer has to meet to be kept."""
    return Limits(rtol, SMALLEST_LAW, tolerances.DIGITS, tolerances.GRADIENT, 1.0)


def q_struct(model: Model, p_data: Floats, window_steps: float, full: bool, rtol: float) -> tuple[QStruct, Cotangents] | None:
    """Q and its gradient of a small model with all couplings, on all states where ``full``; None where one call does not certify them."""
    obstacle = obstacle_to_quotient(model, None)
    quotient = obstacle is None and not full
    weights, visible_field, hidden_field, law = (array.copy() for array in (*model, p_data))  # compiled once, for arrays that are writeable
    how = law, law.sum(), window_steps, quotient, limits_of(rtol)
    found, tables, solved, answer = _answer_alone(weights, visible_field, hidden_field, *how)
    if not found:
        return None
    numbers = dict(zip(NUMBERS, answer.numbers[:-1].tolist(), strict=True))
    chain = of_tables(model, "single-site", quotient, None if full else obstacle, tables, float(answer.numbers[-1]))
    residual, iterations, method = numbers["residual"], int(numbers["iterations"]), resolved(chain.n_states, "auto")
    row_sums = RowSums.of(chain, solved.sums, residual, iterations)
    time = VarianceTime(chain, numbers["t_obs"], residual, iterations, method, rtol, row_sums, in_packs=solved)
    q = QStruct(
        value=numbers["value"],
        signal=numbers["signal"],
        signal_bound=numbers["signal_bound"],
        t_obs=numbers["t_obs"],
        g=answer.g,
        residual=residual,
        iterations=iterations,
        method=method,
        window_steps=window_steps,
        variance_time=time,
    )
    return q, Cotangents(answer.ct_weights, answer.ct_visible, answer.ct_hidden)


def in_one_call(model: Model, solve: Solve, kernel: str, full: bool) -> bool:
    """Whether :func:`q_struct` may be asked for a model, of a kernel that is named."""
    n_states = 1 << (model.n_spins - (0 if full or model.has_fields else 1))
    plain = solve.method == "auto" and solve.checkpoint is None  # an executor is not asked for so little
    return n_states <= SMALL_STATES and model.mask is None and plain and KERNELS[kernel].single_flips


def _empty_cotangents(chain: GibbsChain) -> Cotangents:
    return Cotangents(np.empty(chain.weights.shape), np.empty(chain.n_visible), np.empty(chain.n_hidden))


def time_cotangents(time: VarianceTime) -> Cotangents:
    """The gradient of T_O of a small chain whose solutions were kept."""
    chain, found = time.chain, _empty_cotangents(time.chain)
    assert time.in_packs is not None
    _time_cotangents(chain.tables, chain.quotient, time.in_packs.right_hand_sides, time.in_packs.vectors, *found)
    return found


def q_cotangents(time: VarianceTime, p_data: Floats, g: Floats, numbers: tuple[float, float, float]) -> Cotangents:
    """The gradient of Q of a small chain, with Q, |g|^2 and T_O."""
    chain, found = time.chain, _empty_cotangents(time.chain)
    assert time.in_packs is not None
    solved = time.in_packs.right_hand_sides, time.in_packs.vectors
    _q_cotangents(chain.tables, chain.quotient, *solved, p_data, g, numbers, *found)
    return found
