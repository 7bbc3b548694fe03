"""Samples of the gradient of T_O from pairs of chains that meet: no resolvent, no bias.

T = < f~, y >_pi with y = (I - P)^+ f~, summed over the observables, and y* the same of the reversed chain (of the alternating scan h given
v, then v given h; else y* = y):

    dT = E_pi[ dlog pi  f~ y ] + E_pi[ y* (dP y) ]                                                          (law) (kernel)
    law:     dlog pi / dW_kl = v_k h_l - E[v_k h_l]; y(x) = E sum_t (f(X_t) - f(Y_t)), Y_0 = Z
    kernel:  a unit with field F takes +1 with a probability of slope sech^2(F) / 2, so that where P draws unit k anew,
             dP y / dW_kl = sech^2(F_k) / 2  h_l  E[y where k is + less y where k is -]  + the same of h_l with v_k in place of h_l

where x, Z ~ pi are independent (E y = 0). The states of the last line: of the alternating scan v' is drawn given h, then h' given v'; of
the two-block kernel (v', h) or (v, h') with probability 1/2 each; of the single-site kernel x itself with probability 1/N. The difference
of y at two states that differ in one spin is an excursion again, which ends soon, and most of the work of a sample.

What is nothing in the mean, or known, is taken out of both terms. It was most of their variance:

    y = f~ + u, u from t >= 1 on, and u is a mean over several Z: their excursions are few beside those of all units;
    f~ y = n_edges - 2 <c, f> + |c|^2 + <f - c, u>, c = E f: the spins of Z do not come in; in the second factor of (law) it is taken less a
    number near T that knows nothing of the sample: the first has the mean zero, and T of an N of hundreds is many times the spread;
    u of a kernel that resamples v first depends on h alone: v is integrated out of (law), given h, and f~ of y* likewise in (kernel),

        E[ v_k (<f, G> + a) | h ] = m_k (m'G h + a) + (1 - m_k^2) (G h)_k,      m = E[v | h].

c comes from other states than x and Z, and where it stands twice in a product, from two halves of them.
"""

from __future__ import annotations

import math

import numpy as np

from adjoints.estimates.lane_sums import _unit_sums
from adjoints.estimates.pair_sums import (
    ALTERNATING,
    EITHER,
    HIDDEN,
    SINGLE_SITE,
    TWO_BLOCK,
    VISIBLE,
    _couple_units,
    _layer_fields,
    _pair_sums,
)
from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import _stream, _uniform
from thermokernels.estimates.coupling.single_site_coupling import _up

# Z of a sample; even, as half of them begin with either layer where a coin says which.
PARTNERS = 8
# The streams of a sample: beyond those of lag pairs. Forwards and backwards in time by turns, then two for each unit.
DRAWS, PARTNER, UNITS = 8, 16, 32


@jit
def _sech2(field):
    return 1.0 / math.cosh(min(abs(field), 300.0)) ** 2


@jit
def _draw_layer(fields, stream, first, spins):
    """Resample a layer given its fields."""
    for i in range(spins.size):
        spins[i] = 1.0 if _uniform(stream, first + i) < _up(fields[i]) else -1.0


@jit
def _later_sums(kernel, table, schedule, backward, key, number, own, atoms, weights, sums):
    """sums[VISIBLE], sums[HIDDEN] (n_v, n_h): u of all observables at a state, by the layer that is resampled first, and backwards u*.

    Of the two-block kernel u is the mean of both; else one of them is u, and the other stays zero. False where a pair was given up.
    """
    n_visible, none = table.weights.shape[0], np.empty((0, 0))
    both = kernel == TWO_BLOCK
    sound = True
    for partner in range(PARTNERS):
        z = (own + 1 + partner) % len(atoms)
        first = partner % 2 if both else HIDDEN if backward and kernel == ALTERNATING else VISIBLE
        state, other, found = atoms[own].astype(np.float64), atoms[z].astype(np.float64), np.zeros(table.weights.shape)
        stream = _stream(key, number, PARTNER + 2 * partner + (1 if backward else 0))
        sound &= not np.isnan(_pair_sums(kernel, table, schedule, first, stream, state, other, none, found))
        weight = weights[z] / (PARTNERS // 2 if both else PARTNERS)
        for i in range(n_visible):
            for j in range(found.shape[1]):
                at_start = atoms[own, i] * atoms[own, n_visible + j] - atoms[z, i] * atoms[z, n_visible + j]
                sums[first, i, j] += weight * (found[i, j] - at_start)
    return sound


@jit
def _law_given(kept, means, later, centre, score_centre, edges, offset, weight, gradient):
    """(law), a layer integrated out given the other one, which is kept; all (free layer, kept layer), the field of it in the last row.

    later : u, which depends on the kept layer alone; centre, score_centre : c, twice
    """
    n_free, n_kept = edges.shape
    along, total = np.zeros(n_free), offset
    for i in range(n_free):
        for j in range(n_kept):
            along[i] += edges[i, j] * (later[i, j] - 2.0 * centre[i, j]) * kept[j]
            total += edges[i, j] * centre[i, j] * (centre[i, j] - later[i, j])
    for i in range(n_free):
        total += means[i] * along[i]
    for i in range(n_free + 1):
        value = means[i] * total + (1.0 - means[i] ** 2) * along[i] if i < n_free else total
        for j in range(n_kept + 1):
            gradient[i, j] += weight * (value * (kept[j] if j < n_kept else 1.0) - score_centre[i, j] * total)


@jit
def _law_of_all(v, h, later, centre, score_centre, edges, offset, weight, gradient):
    """(law) where u depends on all spins."""
    total = offset
    for i in range(v.size):
        for j in range(h.size):
            total += edges[i, j] * ((v[i] * h[j] - centre[i, j]) * later[i, j] + centre[i, j] * (centre[i, j] - 2.0 * v[i] * h[j]))
    for i in range(v.size + 1):
        for j in range(h.size + 1):
            score = (v[i] if i < v.size else 1.0) * (h[j] if j < h.size else 1.0) - score_centre[i, j]
            gradient[i, j] += weight * total * score


@jit
def _add_law(kernel, v, h, v_means, h_means, later, centre, score_centre, edges, time, weight, gradient):
    """Add weight times (law); later : (2, n_v, n_h) by the layer that is resampled first."""
    offset = edges.sum() - time
    if kernel == SINGLE_SITE:
        _law_of_all(v, h, later[VISIBLE], centre, score_centre, edges, offset, weight, gradient)
        return
    share = 0.5 * weight if kernel == TWO_BLOCK else weight
    _law_given(h, v_means, later[VISIBLE], centre, score_centre, edges, offset, share, gradient)
    if kernel == TWO_BLOCK:
        turned = np.zeros((gradient.shape[1], gradient.shape[0]))
        rest = np.ascontiguousarray(centre.T), np.ascontiguousarray(score_centre.T), np.ascontiguousarray(edges.T)
        _law_given(v, h_means, np.ascontiguousarray(later[HIDDEN].T), rest[0], rest[1], rest[2], offset, share, turned)
        gradient += turned.T


@jit
def _add_kernel_of_flips(lanes, schedule, key, number, state, visible_fields, hidden_fields, adjoint, weight, gradient):
    """Add weight times (kernel) of the single-site kernel; adjoint : (n_v, n_h) y* at the state (N,) int8."""
    n_visible, n_hidden = adjoint.shape
    sums = np.empty(state.size)
    _unit_sums(lanes, adjoint, state, schedule, key, number, UNITS + 1, sums)
    for i in range(n_visible):
        slope = 0.5 * weight / state.size * _sech2(visible_fields[i]) * sums[i]
        gradient[i, -1] += slope
        for j in range(n_hidden):
            gradient[i, j] += slope * state[n_visible + j]
    for j in range(n_hidden):
        slope = 0.5 * weight / state.size * _sech2(hidden_fields[j]) * sums[n_visible + j]
        gradient[-1, j] += slope
        for i in range(n_visible):
            gradient[i, j] += slope * state[i]


@jit
def _add_kernel(kernel, table, schedule, key, number, v, h, visible_fields, adjoint, weight, gradient):
    """The same of the kernels that resample layers; adjoint : (2, n_v, n_h) y* where a visible and where a hidden unit is turned."""
    n_visible, n_hidden = v.size, h.size
    state, y, none = np.empty(n_visible + n_hidden), np.empty(n_visible + n_hidden), np.empty((0, 0))
    new_v, new_h, stream, hidden_fields = v.copy(), h.copy(), _stream(key, number, DRAWS), np.empty(n_hidden)
    _draw_layer(visible_fields, stream, 0, new_v)
    given = new_v if kernel == ALTERNATING else v
    _layer_fields(table.weights, table.c, given, hidden_fields)
    _draw_layer(hidden_fields, stream, n_visible, new_h)
    share = weight if kernel == ALTERNATING else 0.5 * weight
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
        first = EITHER if kernel == TWO_BLOCK else VISIBLE
        slope *= _pair_sums(kernel, table, schedule, first, stream, state, y, adjoint[0 if of_v else 1], none)
        if of_v:
            gradient[unit, :-1] += slope * h
            gradient[unit, -1] += slope
        else:
            gradient[:-1, unit - n_visible] += slope * given
            gradient[-1, unit - n_visible] += slope


@jit
def _gradient_sample(kernel, table, lanes, edges, schedule, time, key, number, own, atoms, weights, centres, weight, gradient):
    """Add weight times one sample of dT/dW, dT/db and dT/dc, (n_v + 1, n_h + 1) with the fields in the last column and row; False where a
    pair was given up.

    edges : (n_v, n_h) 1 for couplings that exist, which f runs over, else 0; time : about T; atoms (n, N), weights (n,) : independent
    states, of which number ``own`` is x; centres : (2, n_v + 1, n_h + 1) means of (v, 1)(h, 1)' over halves of the others
    """
    n_visible, n_hidden = table.weights.shape
    v, h = atoms[own, :n_visible].astype(np.float64), atoms[own, n_visible:].astype(np.float64)
    visible_fields, hidden_fields = np.empty(n_visible), np.empty(n_hidden)
    _layer_fields(table.transposed, table.b, h, visible_fields)
    _layer_fields(table.weights, table.c, v, hidden_fields)
    v_means, h_means = np.tanh(visible_fields), np.tanh(hidden_fields)
    later, before = np.zeros((2, n_visible, n_hidden)), np.zeros((2, n_visible, n_hidden))
    sound = _later_sums(kernel, table, schedule, False, key, number, own, atoms, weights, later)
    sound &= _later_sums(kernel, table, schedule, True, key, number, own, atoms, weights, before)
    centre = np.ascontiguousarray(centres[1, :-1, :-1])
    _add_law(kernel, v, h, v_means, h_means, later, centre, centres[0], edges, time, weight, gradient)
    adjoint = np.empty((2, n_visible, n_hidden))
    for i in range(n_visible):
        for j in range(n_hidden):
            start = before[VISIBLE, i, j] + before[HIDDEN, i, j]
            start = (0.5 * start if kernel == TWO_BLOCK else start) - centre[i, j]
            adjoint[0, i, j] = edges[i, j] * (start + (v[i] if kernel == SINGLE_SITE else v_means[i]) * h[j])
            adjoint[1, i, j] = edges[i, j] * (start + v[i] * h_means[j]) if kernel == TWO_BLOCK else adjoint[0, i, j]
    if kernel == SINGLE_SITE:
        _add_kernel_of_flips(lanes, schedule, key, number, atoms[own], visible_fields, hidden_fields, adjoint[0], weight, gradient)
    else:
        _add_kernel(kernel, table, schedule, key, number, v, h, visible_fields, adjoint, weight, gradient)
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
def _gradient_samples(kernel, table, lanes, edges, schedule, time, key, first, atoms, weights, gradient):
    """The mean over x = each of the states, Z the next ones, c of all others; False where a pair was given up."""
    n_states, n_visible, sound = len(atoms), edges.shape[0], True
    totals = np.zeros((2, edges.shape[0] + 1, edges.shape[1] + 1))
    for k in range(n_states):
        _add_products(atoms[k], n_visible, weights[k], totals[k % 2])
    for k in range(n_states):
        centres, n_others = totals.copy(), np.full(2, n_states // 2)
        for partner in range(PARTNERS + 1):
            z = (k + partner) % n_states
            _add_products(atoms[z], n_visible, -weights[z], centres[z % 2])
            n_others[z % 2] -= 1
        centres[0] /= n_others[0]
        centres[1] /= n_others[1]
        weight = weights[k] / n_states
        sound &= _gradient_sample(kernel, table, lanes, edges, schedule, time, key, first + k, k, atoms, weights, centres, weight, gradient)
    return sound
