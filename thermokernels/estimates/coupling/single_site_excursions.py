"""Excursions of coupled pairs from independent starts of law pi until they meet, for the random-scan single-site kernel.

The sum is that of :mod:`~thermokernels.estimates.coupling.layer_excursions`, S_t after every step. Where all couplings exist a flip changes
the products of its layer by one term each. Where some do not (:mod:`~thermokernels.estimates.coupling.edge_products`),

    S_t = sum_j b_j(X_t) g_j - b_j(Y_t) g'_j + fields,      g_j = sum_i D_ij a_i(X_t),  g'_j = sum_i D_ij a_i(Y_t) over the edges of j,

so that a hidden spin changes one term, and a visible one those of its neighbours (of all hidden units where b is E[h | v]).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import EXCURSION, _stream, _uniform
from thermokernels.estimates.coupling.single_site_coupling import _draw, _episode_length, _face, _move, _new_chains

# Columns of the products of a layer.
X_X, X_Y, Y_X, Y_Y, X_SUM, Y_SUM = range(6)


class Watch(NamedTuple):
    """What is kept of the features, spins with E[h | v] in place of h on demand.

    x_start, y_start, x, y : (N,) at the start and now; products : (2, 6) of a layer at the start with it now, and sums;
    start_sums : (2, 2) of a layer of x and of y; differences : (n_edges,) D_ij; potentials : (2, n_h) g and g'; over_edges : (1,) S_t
    """

    x_start: np.ndarray
    y_start: np.ndarray
    x: np.ndarray
    y: np.ndarray
    products: np.ndarray
    start_sums: np.ndarray
    differences: np.ndarray
    potentials: np.ndarray
    over_edges: np.ndarray


@jit
def _set_features(n_visible, expected, spins, fields, features):
    """What a chain is multiplied by."""
    features[:n_visible] = spins[:n_visible]
    for j in range(n_visible, spins.size):
        features[j] = math.tanh(fields[j]) if expected else spins[j]


@jit
def _new_watch(features, n_visible, chains):
    """Of chains that are where they start."""
    n_spins = chains.x.size
    x, y, products, start_sums = np.empty(n_spins), np.empty(n_spins), np.empty((2, 6)), np.empty((2, 2))
    _set_features(n_visible, features.expected, chains.x, chains.x_fields, x)
    _set_features(n_visible, features.expected, chains.y, chains.y_fields, y)
    differences, potentials = np.empty(features.indices.size), np.zeros((2, n_spins - n_visible))
    watch = Watch(x.copy(), y.copy(), x, y, products, start_sums, differences, potentials, np.zeros(1))
    if features.indptr.size:
        _start_potentials(features, n_visible, watch)
        _add_over_edges(features, n_visible, watch)
    else:
        _multiply(watch, 0, 0, n_visible)
        _multiply(watch, 1, n_visible, n_spins)
        start_sums[:] = products[:, X_SUM:]
    return watch


@jit
def _multiply(watch, layer, first, last):
    """The products of a layer."""
    products = watch.products
    products[layer] = 0.0
    for i in range(first, last):
        products[layer, X_X] += watch.x_start[i] * watch.x[i]
        products[layer, X_Y] += watch.x_start[i] * watch.y[i]
        products[layer, Y_X] += watch.y_start[i] * watch.x[i]
        products[layer, Y_Y] += watch.y_start[i] * watch.y[i]
        products[layer, X_SUM] += watch.x[i]
        products[layer, Y_SUM] += watch.y[i]


@jit
def _start_potentials(features, n_visible, watch):
    """D_ij of the edges, and g with g'."""
    scale, shift = features.scale, features.shift
    for i in range(n_visible):
        x, y = scale * watch.x_start[i] + shift, scale * watch.y_start[i] + shift
        for k in range(features.indptr[i], features.indptr[i + 1]):
            j = features.indices[k]
            difference = x * (scale * watch.x_start[n_visible + j] + shift) - y * (scale * watch.y_start[n_visible + j] + shift)
            watch.differences[k] = difference
            watch.potentials[0, j] += difference * x
            watch.potentials[1, j] += difference * y


@jit
def _add_over_edges(features, n_visible, watch):
    """S_t from g and g'."""
    scale, shift, total = features.scale, features.shift, 0.0
    for j in range(n_visible, watch.x.size):
        total += (scale * watch.x[j] + shift) * watch.potentials[0, j - n_visible]
        total -= (scale * watch.y[j] + shift) * watch.potentials[1, j - n_visible]
    if features.fields:
        for i in range(watch.x.size):
            total += scale**2 * (watch.x_start[i] - watch.y_start[i]) * (watch.x[i] - watch.y[i])
    watch.over_edges[0] = total


@jit
def _turn_y(watch):
    """y to -y: without fields its features are odd in each layer, and S_t is even."""
    for i in range(watch.y.size):
        watch.y[i] = -watch.y[i]
    for layer in range(2):
        watch.products[layer, X_Y], watch.products[layer, Y_Y] = -watch.products[layer, X_Y], -watch.products[layer, Y_Y]
        watch.products[layer, Y_SUM] = -watch.products[layer, Y_SUM]
    for j in range(watch.potentials.shape[1]):
        watch.potentials[1, j] = -watch.potentials[1, j]


@jit
def _see(features, n_visible, watch, chains, site, x_change, y_change):
    """A spin has changed by so much in both chains."""
    if features.expected:
        if site < n_visible:
            _set_features(n_visible, True, chains.x, chains.x_fields, watch.x)
            _set_features(n_visible, True, chains.y, chains.y_fields, watch.y)
    else:
        watch.x[site], watch.y[site] = chains.x[site], chains.y[site]
    if features.indptr.size:
        _see_edges(features, n_visible, watch, site, features.scale * x_change, features.scale * y_change)
    elif site < n_visible or not features.expected:
        products, layer = watch.products, 0 if site < n_visible else 1
        products[layer, X_X] += x_change * watch.x_start[site]
        products[layer, X_Y] += y_change * watch.x_start[site]
        products[layer, Y_X] += x_change * watch.y_start[site]
        products[layer, Y_Y] += y_change * watch.y_start[site]
        products[layer, X_SUM] += x_change
        products[layer, Y_SUM] += y_change
        if features.expected:
            _multiply(watch, 1, n_visible, chains.x.size)


@jit
def _see_edges(features, n_visible, watch, site, x_change, y_change):
    """The same of a sum over edges; changes are those of features."""
    scale, shift, change = features.scale, features.shift, 0.0
    if site < n_visible:
        for k in range(features.indptr[site], features.indptr[site + 1]):
            j, difference = features.indices[k], watch.differences[k]
            change += difference * x_change * (scale * watch.x[n_visible + j] + shift)
            change -= difference * y_change * (scale * watch.y[n_visible + j] + shift)
            watch.potentials[0, j] += difference * x_change
            watch.potentials[1, j] += difference * y_change
    else:
        j = site - n_visible
        change = x_change * watch.potentials[0, j] - y_change * watch.potentials[1, j]
    if features.expected:
        if site < n_visible:  # the means of all neighbours are new
            _add_over_edges(features, n_visible, watch)
        return
    if features.fields:
        change += scale * (watch.x_start[site] - watch.y_start[site]) * (x_change - y_change)
    watch.over_edges[0] += change


@jit
def _inner(coefficients, watch, layer, start, now):
    """The product of a layer's features of x (0) or y (1) at the start and now."""
    sums = watch.start_sums[layer, start] + watch.products[layer, X_SUM + now]
    return coefficients[0] * watch.products[layer, 2 * start + now] + coefficients[1] * sums + coefficients[2]


@jit
def _lag_product(features, watch):
    """S_t."""
    if features.indptr.size:
        return watch.over_edges[0]
    visible, hidden = features.visible, features.hidden
    value = _inner(visible, watch, 0, 0, 0) * _inner(hidden, watch, 1, 0, 0)
    value += _inner(visible, watch, 0, 1, 1) * _inner(hidden, watch, 1, 1, 1)
    value -= _inner(visible, watch, 0, 0, 1) * _inner(hidden, watch, 1, 0, 1)
    value -= _inner(visible, watch, 0, 1, 0) * _inner(hidden, watch, 1, 1, 0)
    return value


@jit
def _excursion(couplings, features, schedule, stream, first_x, first_y):
    """(1/2) sum of S_t in steps, S_0 / 2, and the steps to the meeting, -1 where the pair was given up: then the sum has as many terms as
    the cap has steps, however long the last episode is."""
    n_visible, n_spins = couplings.weights.shape[0], first_x.size
    chains = _new_chains(couplings, first_x.astype(np.float64), first_y.astype(np.float64))
    watch = _new_watch(features, n_visible, chains)
    total, step, draws, last_step = 0.0, 0, 0, schedule.cap * n_spins
    lag_product = _lag_product(features, watch)
    zero_lag = 0.5 * lag_product
    while True:
        n_apart, turned = _face(chains, schedule.quotient)
        if turned:
            _turn_y(watch)
            lag_product = _lag_product(features, watch)
        if n_apart == 0 and 0 < step <= last_step:
            return 0.5 * total, zero_lag, step
        if step >= last_step:
            return 0.5 * total, zero_lag, -1
        agree = schedule.kappa > 0.0
        x_ratio, y_ratio = 1.0 if agree else 0.0, 0.0
        for _ in range(_episode_length(schedule.kappa, chains.x_fields, chains.y_fields)):
            if step < last_step:
                total += lag_product
            step += 1
            site = min(int(_uniform(stream, draws) * n_spins), n_spins - 1)
            u = _uniform(stream, draws + 1)
            draws += 2
            agreed = agree
            x_new, y_new, agree, x_ratio, y_ratio = _draw(chains, site, u, agree, x_ratio, y_ratio)
            x_change, y_change = x_new - chains.x[site], y_new - chains.y[site]
            n_apart += int(x_new != y_new) - int(chains.x[site] != chains.y[site])
            _move(couplings, chains, site, x_new, y_new, agreed, agree, x_ratio, y_ratio)
            if x_change != 0.0 or y_change != 0.0:
                _see(features, n_visible, watch, chains, site, x_change, y_change)
                lag_product = _lag_product(features, watch)
            if n_apart == 0 and (agree or (x_ratio == 0.0 and y_ratio == 0.0)):
                break


@jit
def _single_site_excursions(couplings, features, schedule, key, first_replicate, atoms, totals, zero_lags, lengths):
    """Run an excursion for every replicate and snapshot, as ``_layer_excursions`` does; lengths in steps."""
    n_replicates, n_atoms = totals.shape
    for replicate in range(n_replicates):
        for i in range(n_atoms):
            stream = _stream(key, first_replicate + replicate, EXCURSION + i)
            x, y = atoms[2 * replicate, i], atoms[2 * replicate + 1, i]
            totals[replicate, i], zero_lags[replicate, i], lengths[replicate, i] = _excursion(couplings, features, schedule, stream, x, y)
