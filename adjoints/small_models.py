"""Q, T_O and their gradients of small models, compiled from couplings to derivatives, and of many models at once.

The terms are those of :mod:`adjoints.variance_time` and :mod:`adjoints.signal_to_noise`, where they are derived; here they are summed by
halving tables (:mod:`thermokernels.model.spin_sums`), without a step in Python between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adjoints.cotangents import Cotangents
from adjoints.overlaps import _flip_overlaps
from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import inlined, jit
from thermokernels.compiled.simd_states import DOUBLES, load, total, zeros_on_a_line
from thermokernels.model.chain_tables import ChainTables
from thermokernels.model.kernels.flip_tables import _energies, _local_fields
from thermokernels.model.model import Model
from thermokernels.model.spin_sums import _correlate, _fold
from thermokernels.quantities import small_models
from thermokernels.quantities.signal_to_noise import QStruct, small_q_struct
from thermokernels.quantities.small_models import N_NUMBERS, ONE, Room, _tables_of, _value
from thermokernels.quantities.variance_time import VarianceTime
from thermokernels.solvers.small.packs import _overlaps, _squares_and_products
from thermokernels.solvers.small.small_chains import Solved, _are_rows
from thermokernels.solvers.solve import Solve


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
def _add_field(n_spins, flips, rate, overlap, along, ct_field):
    """ct_field[s] = the derivative by the local field F(s) of one spin, from the overlap of flips and the diagonal, both tables of s.

    tanh F is sigmoid(2 F) - sigmoid(-2 F), which the flips are.
    """
    for s in range(rate.size):
        slope = n_spins * (flips[1, s] - flips[0, s])
        ct_field[s] = rate[s] * (2.0 * n_spins * rate[s] * along[s] - slope * overlap[s])


@jit
def _time_cotangents(tables, quotient, sources, vectors, ct_weights, ct_visible, ct_hidden):
    """Overwrite the cotangents with the derivatives of T_O, from b and z of all observables, see :class:`Solved`."""
    (n_visible, n_rows), (n_hidden, n_columns) = tables.visible_rates.shape, tables.hidden_rates.shape
    n_spins = n_visible + n_hidden
    by_visible, by_hidden = np.empty(tables.visible_rates.shape), zeros_on_a_line(n_hidden * n_columns).reshape((n_hidden, n_columns))
    squares, law_weights = zeros_on_a_line(tables.law.size).reshape((n_rows, n_columns)), zeros_on_a_line(tables.law.size)
    if _are_rows(vectors, law_weights.size):
        parts = zeros_on_a_line(by_visible.size * DOUBLES)
        _flip_overlaps(vectors, sources, quotient, parts.reshape((n_rows, n_visible, DOUBLES)), by_hidden, squares, law_weights)
        for h in range(n_rows):
            for i in range(n_visible):
                by_visible[i, h] = total(load(parts, (h * n_visible + i) * DOUBLES))
    else:
        _overlaps(vectors, (n_rows, n_columns), quotient, by_visible, by_hidden)
        _squares_and_products(vectors, sources, squares.ravel(), law_weights)
    ct_weights[:, :], ct_visible[:], ct_hidden[:] = 0.0, 0.0, 0.0
    # fields of visible spins: tables over the hidden configurations
    along, row, spins = np.empty((n_visible, n_rows)), np.empty(n_columns), np.empty(n_visible)
    for h in range(n_rows):
        for v in range(n_columns):
            row[v] = squares[h, v]
        _fold(row, spins)
        for i in range(n_visible):
            along[i, h] = spins[i]
    ct_field, sums = np.empty(n_rows), np.empty(n_hidden)
    for i in range(n_visible):
        _add_field(n_spins, tables.visible_flips[:, i], tables.visible_rates[i], by_visible[i], along[i], ct_field)
        ct_visible[i] += _fold(ct_field, sums)
        for j in range(n_hidden):
            ct_weights[i, j] += sums[j]
    # fields of hidden spins: tables over the visible configurations
    column, ct_field = np.empty(n_columns), np.empty(n_columns)
    for j in range(n_hidden):
        column[:] = 0.0
        for h in range(n_rows):
            spin = 1.0 - 2.0 * ((h >> j) & 1)
            for v in range(n_columns):
                column[v] += spin * squares[h, v]
        _add_field(n_spins, tables.hidden_flips[:, j], tables.hidden_rates[j], by_hidden[j], column, ct_field)
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


@inlined
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
    """Numbers (9,) in the order of :data:`thermokernels.quantities.small_models.NUMBERS`; g; dQ by W, b and c."""

    numbers: Floats
    g: Floats
    ct_weights: Floats
    ct_visible: Floats
    ct_hidden: Floats


@jit
def empty_answer(n_visible: int, n_hidden: int) -> Answer:
    """One of NaN."""
    g, ct_weights = np.full((n_visible, n_hidden), np.nan), np.full((n_visible, n_hidden), np.nan)
    return Answer(np.full(N_NUMBERS, np.nan), g, ct_weights, np.full(n_visible, np.nan), np.full(n_hidden, np.nan))


@inlined
def _cotangents(tables, quotient, solved, p_data, g, numbers, ct_weights, ct_visible, ct_hidden):
    """Overwrite the cotangents with the derivatives of Q, or of T_O where p_data, which sums to one, is empty."""
    sources, vectors = solved.right_hand_sides, solved.vectors
    if p_data.size == 0:
        _time_cotangents(tables, quotient, sources, vectors, ct_weights, ct_visible, ct_hidden)
        return
    known = numbers[0], numbers[1], numbers[3]
    _q_cotangents(tables, quotient, sources, vectors, p_data, g, known, ct_weights, ct_visible, ct_hidden)


@jit
def _answer(weights, visible_field, hidden_field, p_data, data_sum, window_steps, quotient, limits, tables, solved, answer):
    """Q and its gradient of one model; returns whether all is certified and finite, and g in reach of pairs of doubles."""
    numbers, g, law = answer.numbers, answer.g, p_data / data_sum
    if not _value(weights, visible_field, hidden_field, p_data, window_steps, quotient, False, limits, tables, solved, numbers, g):
        return False
    _cotangents(tables, quotient, solved, law, g, numbers, answer.ct_weights, answer.ct_visible, answer.ct_hidden)
    return True


@jit
def _gradients(laws, quotient, wanted, room, ct_weights, ct_visible, ct_hidden):
    """:func:`_cotangents` for the models ``wanted`` of many, arrays with an axis of models in front."""
    for k in range(laws.shape[0]):
        if wanted[k]:
            solved = Solved(room.solved.right_hand_sides[k], room.solved.vectors[k], room.solved.sums[k])
            tables, law, g, numbers = _tables_of(room.tables, k), laws[k], room.g[k], room.numbers[k]
            _cotangents(tables, quotient, solved, law, g, numbers, ct_weights[k], ct_visible[k], ct_hidden[k])


def compile_gradients(quotient: bool) -> None:
    """Compile, or load from the cache, what turns solutions into gradients, without any solution."""
    filled = small_models.room(1, 1, 1, quotient)
    _gradients(np.ones((1, 2)), quotient, ~ONE, filled, np.empty((1, 1, 1)), np.empty((1, 1)), np.empty((1, 1)))


def _one_gradient(law: Floats, quotient: bool, room: Room) -> Cotangents:
    _, n_visible, n_hidden = room.g.shape
    found = np.empty((1, n_visible, n_hidden)), np.empty((1, n_visible)), np.empty((1, n_hidden))
    _gradients(law[None], quotient, ONE, room, *found)
    return Cotangents(*(part[0] for part in found))


def q_struct(model: Model, p_data: ArrayLike, window: float, full: bool, solve: Solve) -> tuple[QStruct, Cotangents] | None:
    """Q and its gradient of a small model with all couplings, on all states where ``full``; None where one call does not certify them."""
    if (found := small_q_struct(model, p_data, window, solve, full)) is None:
        return None
    q, room, law = found
    return q, _one_gradient(law / law.sum(), q.state_time.chain.quotient, room)


def time_cotangents(time: VarianceTime) -> Cotangents:
    """The gradient of T_O of a small chain whose solutions were kept."""
    return _one_gradient(np.empty(0), time.chain.quotient, _room_of(time))


def q_cotangents(q: QStruct, p_data: Floats) -> Cotangents:
    """The gradient of Q of a small chain whose solutions were kept."""
    room = _room_of(q.state_time)
    room.g[0] = q.g
    room.numbers[0, :4] = q.value, q.signal, q.signal_bound, q.t_obs
    return _one_gradient(p_data, q.state_time.chain.quotient, room)


def _room_of(time: VarianceTime) -> Room:
    """That of one small chain and its solutions, without numbers and g."""
    assert time.in_one_call is not None
    chain, solved = time.chain, Solved(*(part[None] for part in time.in_one_call))
    tables = ChainTables(*(part[None] for part in chain.tables))
    return Room(tables, solved, np.zeros((1, N_NUMBERS)), np.zeros((1, *chain.weights.shape)))
