"""Starts of law pi where Gibbs chains are stuck: annealed importance sampling inside independent Metropolis, in pairs that meet.

A proposal is a run of annealed importance sampling (Neal 2001) from coin flips to the model in steps of the inverse temperature, a scan at
each; with p_beta(v) = exp(beta b'v) prod_j 2 cosh(beta F_j(v)) its weight is

    log w = sum_k log p_(beta_k)(v_(k-1)) - log p_(beta_(k-1))(v_(k-1)).

Independent Metropolis accepts it with probability min(1, w / w_now), so that its chain has the law pi in the end. Two such chains that get
the same proposals and the same uniform numbers have met as soon as both accept one; with a lag between them they give a signed measure
without bias, as in :mod:`~thermokernels.estimates.coupling.lag_pairs`. No valley has to be crossed.
"""

from __future__ import annotations

import math

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import _mixed, _stream, _uniform
from thermokernels.estimates.coupling.single_site_coupling import _up

TEMPERATURES = 100
# X is ahead by so many proposals; a pair that needs more than MOST to meet is given up.
LAG, MOST = 5, 200
# Streams of a start: choices and accepted proposals; proposals are numbered from PROPOSALS on.
CHOICES, PROPOSALS = 0, 1


@jit
def _log_cosh(x):
    size = abs(x)
    return size + math.log1p(math.exp(-2.0 * size))


@jit
def _fields_of(table, field, spins, fields):
    """fields = field + table' spins."""
    fields[:] = field
    for i in range(spins.size):
        for j in range(fields.size):
            fields[j] += spins[i] * table[i, j]


@jit
def _draw(fields, beta, stream, position, spins):
    """Resample a layer given its fields; the next position in the stream."""
    for i in range(spins.size):
        spins[i] = 1.0 if _uniform(stream, position + i) < _up(beta * fields[i]) else -1.0
    return position + spins.size


@jit
def _proposal(couplings, stream, state):
    """A state (N,) by annealing, and the logarithm of its weight."""
    n_visible, n_hidden = couplings.weights.shape
    v, h = np.zeros(n_visible), np.zeros(n_hidden)
    visible_fields, hidden_fields = np.zeros(n_visible), np.zeros(n_hidden)
    position, log_weight = _draw(visible_fields, 0.0, stream, 0, v), 0.0
    for k in range(1, TEMPERATURES + 1):
        before, beta = (k - 1) / TEMPERATURES, k / TEMPERATURES
        _fields_of(couplings.weights, couplings.c, v, hidden_fields)
        for j in range(n_hidden):
            log_weight += _log_cosh(beta * hidden_fields[j]) - _log_cosh(before * hidden_fields[j])
        for i in range(n_visible):
            log_weight += (beta - before) * couplings.b[i] * v[i]
        position = _draw(hidden_fields, beta, stream, position, h)
        if k < TEMPERATURES:
            _fields_of(couplings.transposed, couplings.b, h, visible_fields)
            position = _draw(visible_fields, beta, stream, position, v)
    state[:n_visible], state[n_visible:] = v, h
    return log_weight


@jit
def _accepts(log_weight, log_now, u):
    return u < math.exp(min(log_weight - log_now, 0.0))


@jit
def _start(couplings, stream, atom):
    """One atom (N,) of the signed measure of a pair, drawn uniformly, and its weight; NaN where the pair was given up."""
    n_spins = atom.size
    x, y, new = np.empty(n_spins), np.empty(n_spins), np.empty(n_spins)
    choices, number = _mixed(stream + np.uint64(CHOICES)), PROPOSALS
    log_x = _proposal(couplings, _mixed(stream + np.uint64(number)), x)
    for _ in range(LAG):
        number += 1
        log_new = _proposal(couplings, _mixed(stream + np.uint64(number)), new)
        if _accepts(log_new, log_x, _uniform(choices, number)):
            x[:], log_x = new, log_new
    atom[:] = x
    weight = 1.0
    number += 1
    log_y = _proposal(couplings, _mixed(stream + np.uint64(number)), y)
    for u in range(1, MOST + 1):
        number += 1
        log_new = _proposal(couplings, _mixed(stream + np.uint64(number)), new)
        draw = _uniform(choices, number)
        x_takes, y_takes = _accepts(log_new, log_x, draw), _accepts(log_new, log_y, draw)
        if x_takes and y_takes:
            return weight
        if x_takes:
            x[:], log_x = new, log_new
        if y_takes:
            y[:], log_y = new, log_new
        if u % LAG == 0:
            # two more atoms, +X and -Y; the one that is kept is uniform among all
            pick = _uniform(choices, number + MOST * LAG) * (abs(weight) + 2.0)
            keeps = weight > 0
            if pick < 1.0:
                atom[:], keeps = x, True
            elif pick < 2.0:
                atom[:], keeps = y, False
            weight = abs(weight) + 2.0 if keeps else -abs(weight) - 2.0
    return np.nan


@jit
def _starts(couplings, key, first, atoms, weights):
    """Starts ``first``, ...: atoms (n, N) of int8 and weights (n,)."""
    state = np.empty(atoms.shape[1])
    for k in range(weights.size):
        weights[k] = _start(couplings, _stream(key, first + k, 0), state)
        for i in range(state.size):
            atoms[k, i] = np.int8(state[i])
