"""Samples of the gradient of T_O for the alternating scan, from pairs of chains that meet: no resolvent, no bias.

T = < f~, y >_pi with y = (I - P)^+ f~, summed over the observables, and y* the same of the reversed chain (h given v, then v given h):

    dT = E_pi[ dlog pi  f~ y ] + E_pi[ y* (dP y) ]                                                          (law) (kernel)
    law:     dlog pi / dW_kl = v_k h_l - E[v_k h_l]; y(x) = E sum_t (f(X_t) - f(Y_t)), Y_0 = Z, and Z' centres both factors
    kernel:  P draws v' given h, then h' given v'. A unit with field F takes +1 with a probability of slope sech^2(F) / 2, so that
             dP y / dW_kl = sech^2(F_k(h)) / 2  h_l  E[y at v'_k = + less y at v'_k = -]  + the same of h'_l with v'_k in place of h_l

where x, Z, Z' ~ pi are independent. The difference of y at two states that differ in one spin is an excursion again, which ends soon.
"""

from __future__ import annotations

import math

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import _stream, _uniform
from thermokernels.estimates.coupling.single_site_excursions import _agree, _excess_up, _next_ratio, _up

# The streams of a sample: beyond those of lag pairs.
FORWARD, BACKWARD, DRAWS, UNITS = 8, 9, 10, 16


@jit
def _layer_fields(couplings, field, others, fields):
    """fields = field + couplings' others; couplings have a row for each of the others."""
    fields[:] = field
    for i in range(others.size):
        for j in range(fields.size):
            fields[j] += others[i] * couplings[i, j]


@jit
def _couple_units(x_fields, y_fields, kappa, stream, draws, x, y):
    """A layer of both chains by maximal agreement of groups of units; the next position in the stream."""
    agree, x_ratio, y_ratio, information = True, 1.0, 0.0, 0.0
    for i in range(x.size):
        p = _up(x_fields[i])
        q = p if x_fields[i] == y_fields[i] else _up(y_fields[i])
        if information > kappa:
            agree, x_ratio, y_ratio, information = True, 1.0, 0.0, 0.0
        information += 4.0 * (q - p) ** 2 / max((p + q) * (2.0 - p - q), 1e-300)
        u = _uniform(stream, draws + i)
        if agree:
            x[i], y[i], agree, x_ratio, y_ratio = _agree(p, q, x_ratio, u)
        else:
            x[i] = 1.0 if u < _excess_up(p, q, x_ratio) else -1.0
            y[i] = 1.0 if u < _excess_up(q, p, y_ratio) else -1.0
            x_ratio, y_ratio = _next_ratio(x_ratio, p, q, x[i]), _next_ratio(y_ratio, q, p, y[i])
    return draws + x.size


@jit
def _met(x_visible, x_hidden, y_visible, y_hidden, quotient):
    """Whether the pair has met; without fields y is turned to the side of x."""
    n_apart = 0
    for i in range(x_visible.size):
        n_apart += x_visible[i] != y_visible[i]
    for j in range(x_hidden.size):
        n_apart += x_hidden[j] != y_hidden[j]
    if quotient and 2 * n_apart > x_visible.size + x_hidden.size:
        y_visible *= -1.0
        y_hidden *= -1.0
        n_apart = x_visible.size + x_hidden.size - n_apart
    return n_apart == 0


@jit
def _run_pair(table, schedule, backward, stream, x_visible, x_hidden, y_visible, y_hidden, weights, sums):
    """Scan a pair until it meets, forwards or backwards in time: < weights, sum_t f(X_t) - f(Y_t) >, NaN where the pair was given up.

    With no weights the sums themselves are kept.
    """
    n_visible, n_hidden = table.weights.shape
    x_fields, y_fields, x_other, y_other = np.empty(n_hidden), np.empty(n_hidden), np.empty(n_visible), np.empty(n_visible)
    total, draws = 0.0, 0
    for _ in range(schedule.cap):
        if _met(x_visible, x_hidden, y_visible, y_hidden, schedule.quotient):
            return total
        for i in range(n_visible):
            if weights.size:
                x_row, y_row = 0.0, 0.0
                for j in range(n_hidden):
                    x_row += weights[i, j] * x_hidden[j]
                    y_row += weights[i, j] * y_hidden[j]
                total += x_visible[i] * x_row - y_visible[i] * y_row
            else:
                for j in range(n_hidden):
                    sums[i, j] += x_visible[i] * x_hidden[j] - y_visible[i] * y_hidden[j]
        for half in range(2):
            if (half == 0) != backward:
                _layer_fields(table.transposed, table.b, x_hidden, x_other)
                _layer_fields(table.transposed, table.b, y_hidden, y_other)
                draws = _couple_units(x_other, y_other, schedule.kappa, stream, draws, x_visible, y_visible)
            else:
                _layer_fields(table.weights, table.c, x_visible, x_fields)
                _layer_fields(table.weights, table.c, y_visible, y_fields)
                draws = _couple_units(x_fields, y_fields, schedule.kappa, stream, draws, x_hidden, y_hidden)
    return np.nan


@jit
def _sech2(field):
    return 1.0 / math.cosh(min(abs(field), 300.0)) ** 2


@jit
def _gradient_sample(table, schedule, key, number, x, z, centre, weight, dW, db, dc):
    """Add weight times one sample of dT/dW, dT/db and dT/dc from three independent states; False where a pair was given up."""
    n_visible, n_hidden = table.weights.shape
    v, h = x[:n_visible].astype(np.float64), x[n_visible:].astype(np.float64)
    centre_v, centre_h = centre[:n_visible].astype(np.float64), centre[n_visible:].astype(np.float64)
    none, backwards = np.empty((0, 0)), np.zeros((n_visible, n_hidden))
    x_visible, x_hidden = v.copy(), h.copy()
    y_visible, y_hidden = z[:n_visible].astype(np.float64), z[n_visible:].astype(np.float64)
    sound = not np.isnan(
        _run_pair(table, schedule, True, _stream(key, number, BACKWARD), x_visible, x_hidden, y_visible, y_hidden, none, backwards)
    )
    # (law): < f(x) - f(Z'), sum_t f(X_t) - f(Y_t) >
    difference = np.outer(v, h) - np.outer(centre_v, centre_h)
    x_visible[:], x_hidden[:] = v, h
    y_visible[:], y_hidden[:] = z[:n_visible], z[n_visible:]
    psi = _run_pair(table, schedule, False, _stream(key, number, FORWARD), x_visible, x_hidden, y_visible, y_hidden, difference, none)
    dW += weight * psi * difference
    db += weight * psi * (v - centre_v)
    dc += weight * psi * (h - centre_h)
    # (kernel): one draw of v' given h and h' given v', of which a unit at a time is turned
    visible_local_fields, hidden_local_fields = np.empty(n_visible), np.empty(n_hidden)
    new_v, new_h, stream = np.empty(n_visible), np.empty(n_hidden), _stream(key, number, DRAWS)
    _layer_fields(table.transposed, table.b, h, visible_local_fields)
    for i in range(n_visible):
        new_v[i] = 1.0 if _uniform(stream, i) < _up(visible_local_fields[i]) else -1.0
    _layer_fields(table.weights, table.c, new_v, hidden_local_fields)
    for j in range(n_hidden):
        new_h[j] = 1.0 if _uniform(stream, n_visible + j) < _up(hidden_local_fields[j]) else -1.0
    up_fields, down_fields = np.empty(n_hidden), np.empty(n_hidden)
    for unit in range(n_visible + n_hidden):
        stream = _stream(key, number, UNITS + 2 * unit)
        x_visible[:], y_visible[:], x_hidden[:], y_hidden[:] = new_v, new_v, new_h, new_h
        if unit < n_visible:
            x_visible[unit], y_visible[unit] = 1.0, -1.0
            for j in range(n_hidden):
                up_fields[j] = hidden_local_fields[j] + (1.0 - new_v[unit]) * table.weights[unit, j]
                down_fields[j] = hidden_local_fields[j] - (1.0 + new_v[unit]) * table.weights[unit, j]
            _couple_units(up_fields, down_fields, schedule.kappa, stream, 0, x_hidden, y_hidden)
            slope = 0.5 * _sech2(visible_local_fields[unit])
        else:
            x_hidden[unit - n_visible], y_hidden[unit - n_visible] = 1.0, -1.0
            slope = 0.5 * _sech2(hidden_local_fields[unit - n_visible])
        stream = _stream(key, number, UNITS + 2 * unit + 1)
        slope *= weight * _run_pair(table, schedule, False, stream, x_visible, x_hidden, y_visible, y_hidden, backwards, none)
        if unit < n_visible:
            dW[unit] += slope * h
            db[unit] += slope
        else:
            dW[:, unit - n_visible] += slope * new_v
            dc[unit - n_visible] += slope
    return sound


@jit
def _gradient_samples(table, schedule, key, first, atoms, weights, dW, db, dc):
    """The mean over x = each of the states, Z and Z' the next two of them; False where a pair was given up."""
    n_states, sound = len(atoms), True
    for k in range(n_states):
        z, centre = (k + 1) % n_states, (k + 2) % n_states
        weight = weights[k] * weights[z] * weights[centre] / n_states
        sound &= _gradient_sample(table, schedule, key, first + k, atoms[k], atoms[z], atoms[centre], weight, dW, db, dc)
    return sound
