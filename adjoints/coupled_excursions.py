"""Samples of the gradient of T_O from pairs of chains that meet: no resolvent, no bias.

T = < f~, y >_pi with y = (I - P)^+ f~, summed over the observables, and y* the same of the reversed chain (of the alternating scan h given
v, then v given h; else y* = y):

    dT = E_pi[ dlog pi  f~ y ] + E_pi[ y* (dP y) ]                                                          (law) (kernel)
    law:     dlog pi / dW_kl = v_k h_l - E[v_k h_l]; y(x) = E sum_t (f(X_t) - f(Y_t)), Y_0 = Z, and a mean over Z' centres both factors
    kernel:  a unit with field F takes +1 with a probability of slope sech^2(F) / 2, so that where P draws unit k anew,
             dP y / dW_kl = sech^2(F_k) / 2  h_l  E[y where k is + less y where k is -]  + the same of h_l with v_k in place of h_l

where x, Z, Z' ~ pi are independent (E y = 0, so that the same Z' may stand in both). In (law) the second factor, of mean T, is taken less a
number near T that knows nothing of the sample: the first has the mean zero, and T of an N of hundreds is many times the spread of the
second. The states of the last line: of the alternating scan v' is drawn given h, then h' given v'; of the
two-block kernel (v', h) or (v, h') with probability 1/2 each; of the single-site kernel x itself with probability 1/N. The difference of
y at two states that differ in one spin is an excursion again, which ends soon.
"""

from __future__ import annotations

import math

import numpy as np

from adjoints.pair_sums import ALTERNATING, SINGLE_SITE, _couple_units, _layer_fields, _pair_sums
from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import _stream, _uniform
from thermokernels.estimates.coupling.single_site_coupling import _up

# The streams of a sample: beyond those of lag pairs.
FORWARD, BACKWARD, DRAWS, UNITS = 8, 9, 10, 16


@jit
def _sech2(field):
    return 1.0 / math.cosh(min(abs(field), 300.0)) ** 2


@jit
def _draw_layer(fields, stream, first, spins):
    """Resample a layer given its fields."""
    for i in range(spins.size):
        spins[i] = 1.0 if _uniform(stream, first + i) < _up(fields[i]) else -1.0


@jit
def _gradient_sample(kernel, table, edges, schedule, time, key, number, x, z, centre, weight, gradient):
    """Add weight times one sample of dT/dW, dT/db and dT/dc, (n_v + 1, n_h + 1) with the fields in the last column and row; False where a
    pair was given up.

    edges : (n_v, n_h) 1 for couplings that exist, which f runs over, else 0; time : about T; x, z : (N,) independent states
    centre : (n_v + 1, n_h + 1) the mean of (v, 1)(h, 1)' over others, which estimates its mean
    """
    n_visible, n_hidden = table.weights.shape
    state, y = x.astype(np.float64), z.astype(np.float64)
    v, h = state[:n_visible].copy(), state[n_visible:].copy()
    none, backwards = np.empty((0, 0)), np.zeros((n_visible, n_hidden))
    sound = not np.isnan(_pair_sums(kernel, table, schedule, True, _stream(key, number, BACKWARD), state, y, none, backwards))
    backwards *= edges
    # (law): < f(x) - f(Z'), sum_t f(X_t) - f(Y_t) >
    difference = edges * (np.outer(v, h) - centre[:-1, :-1])
    state[:], y[:] = x, z
    psi = weight * (_pair_sums(kernel, table, schedule, False, _stream(key, number, FORWARD), state, y, difference, backwards) - time)
    gradient[:-1, :-1] += psi * difference
    gradient[:-1, -1] += psi * (v - centre[:-1, -1])
    gradient[-1, :-1] += psi * (h - centre[-1, :-1])
    # (kernel): the states at which a unit at a time is turned
    visible_fields, hidden_fields = np.empty(n_visible), np.empty(n_hidden)
    new_v, new_h, stream = v.copy(), h.copy(), _stream(key, number, DRAWS)
    _layer_fields(table.transposed, table.b, h, visible_fields)
    if kernel != SINGLE_SITE:
        _draw_layer(visible_fields, stream, 0, new_v)
    given = new_v if kernel == ALTERNATING else v
    _layer_fields(table.weights, table.c, given, hidden_fields)
    if kernel != SINGLE_SITE:
        _draw_layer(hidden_fields, stream, n_visible, new_h)
    share = weight if kernel == ALTERNATING else weight / (n_visible + n_hidden) if kernel == SINGLE_SITE else 0.5 * weight
    up_fields, down_fields = np.empty(n_hidden), np.empty(n_hidden)
    for unit in range(n_visible + n_hidden):
        of_v = unit < n_visible
        state[:n_visible], state[n_visible:] = new_v if of_v else given, h if of_v else new_h
        y[:] = state
        state[unit], y[unit] = 1.0, -1.0
        if of_v and kernel == ALTERNATING:
            for j in range(n_hidden):
                up_fields[j] = hidden_fields[j] + (1.0 - new_v[unit]) * table.weights[unit, j]
                down_fields[j] = hidden_fields[j] - (1.0 + new_v[unit]) * table.weights[unit, j]
            stream = _stream(key, number, UNITS + 2 * unit)
            _couple_units(up_fields, down_fields, schedule.kappa, stream, 0, state[n_visible:], y[n_visible:])
        slope = 0.5 * share * _sech2(visible_fields[unit] if of_v else hidden_fields[unit - n_visible])
        stream = _stream(key, number, UNITS + 2 * unit + 1)
        slope *= _pair_sums(kernel, table, schedule, False, stream, state, y, backwards, none)
        if of_v:
            gradient[unit, :-1] += slope * h
            gradient[unit, -1] += slope
        else:
            gradient[:-1, unit - n_visible] += slope * given
            gradient[-1, unit - n_visible] += slope
    return sound


@jit
def _add_products(state, n_visible, weight, sums):
    """sums += weight (v, 1)(h, 1)' of a state (N,)."""
    n_hidden = state.size - n_visible
    for i in range(n_visible + 1):
        v = weight * state[i] if i < n_visible else weight
        for j in range(n_hidden):
            sums[i, j] += v * state[n_visible + j]
        sums[i, n_hidden] += v


@jit
def _gradient_samples(kernel, table, edges, schedule, time, key, first, atoms, weights, gradient):
    """The mean over x = each of the states, Z the next and Z' all others; False where a pair was given up."""
    n_states, n_visible, sound = len(atoms), edges.shape[0], True
    total = np.zeros(gradient.shape)
    for k in range(n_states):
        _add_products(atoms[k], n_visible, weights[k], total)
    for k in range(n_states):
        z = (k + 1) % n_states
        centre = total.copy()
        _add_products(atoms[k], n_visible, -weights[k], centre)
        _add_products(atoms[z], n_visible, -weights[z], centre)
        centre /= n_states - 2
        weight = weights[k] * weights[z] / n_states
        sound &= _gradient_sample(kernel, table, edges, schedule, time, key, first + k, atoms[k], atoms[z], centre, weight, gradient)
    return sound
