"""Weighted sums of f(X_t) - f(Y_t) of the single-site kernel over many pairs that differ in one spin, side by side.

The coupling is that of :mod:`~thermokernels.estimates.coupling.single_site_lanes`. What a flip changes in < weights, f > is a row of the
weights times the other layer, and is added up as a field is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled import simd_states
from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES
from thermokernels.compiled.simd_states import FLOATS, add_where, total
from thermokernels.estimates.coupling.generators import _stream
from thermokernels.estimates.coupling.single_site_lanes import (
    IS_HIDDEN,
    MEETS,
    NONE,
    TURNS,
    X_UP,
    Y_UP,
    Lanes,
    Rows,
    X,
    Y,
    _couple,
    _draw,
    _look,
    _put_lane,
    _set_bits,
    _turn,
    coupling_rows,
    new_lanes,
)
from thermokernels.model.model import Model


class SideBySide(NamedTuple):
    """Couplings as lanes read them, weights in the same order, and lanes."""

    rows: Rows
    weights: Rows
    lanes: Lanes


def side_by_side(model: Model) -> SideBySide:
    """For pairs of a model."""
    return SideBySide(coupling_rows(model), coupling_rows(Model(np.zeros(model.W.shape))), new_lanes(model.n_visible, model.n_hidden))


@jit
def _set_weights(rows, weights):
    """Put weights (n_v, n_h) where lanes find them, doubled, and less their sums: what a spin of the other layer that is up adds."""
    n_visible, n_hidden = weights.shape
    row = FLOATS * ((n_hidden + FLOATS - 1) // FLOATS)
    column, first = FLOATS * ((n_visible + FLOATS - 1) // FLOATS), n_visible * row
    rows.base[:] = 0.0
    for i in range(n_visible):
        for j in range(n_hidden):
            weight = weights[i, j]
            rows.couplings[i * row + j] = 2.0 * weight
            rows.couplings[first + j * column + i] = 2.0 * weight
            rows.base[i] -= weight
            rows.base[n_visible + j] -= weight


@jit
def _add_changes(weights, lanes, jobs, now):
    """Add to now (LANES,) what the updates change in < weights, f(X) - f(Y) >, before they are written down."""
    n_visible, bits, zero = weights.n_visible, lanes.bits, simd_states.fill(np.float32(0.0))
    visible_words, hidden_words = (n_visible + FLOATS - 1) // FLOATS, (weights.n_hidden + FLOATS - 1) // FLOATS
    for lane in range(LANES):
        if jobs[lane] == NONE:
            continue
        found, place = lanes.found[0, lane], lanes.sites[lane]
        x_change = int(lanes.new[0, lane] != 0) - int((found & X_UP) != 0)
        y_change = int(lanes.new[1, lane] != 0) - int((found & Y_UP) != 0)
        if x_change == 0 and y_change == 0:
            continue
        if found & IS_HIDDEN:
            j = place - FLOATS * visible_words
            site, others, n_words, entry = n_visible + j, 0, visible_words, (n_visible * hidden_words + j * visible_words) * FLOATS
        else:
            site, others, n_words, entry = place, visible_words, hidden_words, place * hidden_words * FLOATS
        x_sum, y_sum = zero, zero
        for k in range(n_words):
            row = simd_states.load(weights.couplings, entry + FLOATS * k)
            x_sum = add_where(bits[lane, X, others + k], row, x_sum)
            y_sum = add_where(bits[lane, Y, others + k], row, y_sum)
        base = weights.base[site]
        now[lane] += 2.0 * (x_change * (base + total(x_sum)) - y_change * (base + total(y_sum)))


@jit
def _unit_sums(side_by_side, weights, state, schedule, key, number, first_stream, sums):
    """sums[k] = < weights, sum_t f(X_t) - f(Y_t) > from the state (N,) int8 with unit k up and down, NaN where a pair was given up.

    The stream of a unit is number ``first_stream`` + 2 k of the sample.
    """
    rows, table, lanes = side_by_side
    _set_weights(table, weights)
    n_visible, n_spins = rows.n_visible, state.size
    jobs, begins, now, last_step = np.full(LANES, NONE), np.zeros(LANES, np.int64), np.zeros(LANES), schedule.cap * n_spins
    x, y, coming, step, n_left = state.copy(), state.copy(), 0, 0, n_spins
    while n_left > 0:
        for lane in range(LANES if coming < n_spins else 0):
            if jobs[lane] == NONE and coming < n_spins:
                x[coming], y[coming] = 1, -1
                _put_lane(rows, lanes, lane, _stream(key, number, first_stream + 2 * coming), schedule.kappa, x, y)
                x[coming], y[coming] = state[coming], state[coming]
                jobs[lane], begins[lane], now[lane], sums[coming] = coming, step, 0.0, 0.0
                if coming < n_visible:
                    for j in range(n_spins - n_visible):
                        now[lane] += 2.0 * weights[coming, j] * state[n_visible + j]
                else:
                    for i in range(n_visible):
                        now[lane] += 2.0 * weights[i, coming - n_visible] * state[i]
                coming += 1
        for lane in range(LANES):
            if jobs[lane] != NONE:
                sums[jobs[lane]] += now[lane]
        _draw(lanes)
        _look(rows, lanes, jobs)
        _couple(lanes, schedule.kappa, schedule.quotient, n_spins)
        _add_changes(table, lanes, jobs, now)
        _set_bits(lanes, jobs)
        step += 1
        for lane in range(LANES):
            if jobs[lane] == NONE or not (lanes.new[2, lane] & (TURNS | MEETS) or step - begins[lane] >= last_step):
                continue
            met = (lanes.new[2, lane] & MEETS) != 0
            if lanes.new[2, lane] & TURNS:
                met = _turn(lanes, lane, n_spins) == 0.0
            if met or step - begins[lane] >= last_step:
                if not met:
                    sums[jobs[lane]] = np.nan
                jobs[lane] = NONE
                n_left -= 1
