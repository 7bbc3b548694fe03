"""Excursions of coupled pairs from independent starts of law pi until they meet, for the kernels that resample a layer at once.

    T_O = (1/2) E sum_(t < tau) S_t,      S_t = < f(X_0) - f(Y_0), f(X_t) - f(Y_t) >,      < f(x), f(y)> = <a(v_x), a(v_y)> <b(x), b(y)>

where a and b are the features of the layers (spins in either unit, E[h | v] in place of h, a constant for the gradients of fields), so
that a product over all observables is a product of two products; where some couplings do not exist it is a sum over the others
(:mod:`~thermokernels.estimates.coupling.edge_products`). Alternating scan: S_t after every hidden layer.

Two-block kernel, P = (Pi_v + Pi_h) / 2: a step repeats its layer or changes it, and Pi Pi = Pi. A word of t coins has m runs with the
probability C(t - 1, m - 1) / 2**(t - 1), which summed over t >= m is 2 for every m. With C_m the covariance over m half sweeps, v and h
by turns and the first of them by a coin, sum_(t>=1) C(t) = 2 sum_(m>=1) C_m. So these chains alternate too, and the coins of the kernel
are integrated out: T_O = (1/2) E [ S_0 + 2 sum_(1 <= m < tau) S_m ], in steps; even snapshots begin with v, odd ones with h.

A lane is a pair; one that has met makes room for the next, which brings its own stream of random numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_chains import LANES, aligned_rows, fill, load, multiply_add, store
from thermokernels.estimates.coupling.edge_products import _edge_lag_products
from thermokernels.estimates.coupling.generators import EXCURSION, _start_lane, _stream
from thermokernels.estimates.coupling.lag_pairs import _couple_block, _turn
from thermokernels.estimates.coupling.layer_coupling import _means_given
from thermokernels.sampling.scans import ROWS

# Rows of the products of one layer.
OWN_OWN, OWN_OTHER, OTHER_OWN, OTHER_OTHER, X_SUM, Y_SUM, OVERLAP = range(7)


class Lanes(NamedTuple):
    """What lanes keep beside their spins: features of both layers at the start, means of the hidden layer now (x, y), products, sums, and
    S_t where it is a sum over some of the couplings."""

    visible_start: tuple[np.ndarray, np.ndarray]
    hidden_start: tuple[np.ndarray, np.ndarray]
    means: tuple[np.ndarray, np.ndarray]
    products: np.ndarray
    start_sums: np.ndarray
    over_edges: np.ndarray


def new_lanes(n_visible: int, n_hidden: int) -> Lanes:
    """Rows for the pairs of :func:`~thermokernels.estimates.coupling.lag_pairs.new_pairs`."""
    rows = [aligned_rows(np.float32, n) for n in (n_visible, n_visible, n_hidden, n_hidden, n_hidden, n_hidden)]
    starts = (rows[0], rows[1]), (rows[2], rows[3])
    return Lanes(*starts, (rows[4], rows[5]), aligned_rows(np.float32, 2, 7), aligned_rows(np.float32, 2, 2), aligned_rows(np.float32, 1))


@jit
def _multiply(now, start, spins, products):
    """Products over a layer of what x and y are now with what they were at the start, the sums, and the overlap of their spins."""
    xx, xy, yx, yy, sum_x, sum_y, overlap = fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0), fill(0.0)
    for i in range(spins[0].shape[0]):
        x, y, x_start, y_start = load(now[0], i), load(now[1], i), load(start[0], i), load(start[1], i)
        xx = multiply_add(x_start, x, xx)
        xy = multiply_add(x_start, y, xy)
        yx = multiply_add(y_start, x, yx)
        yy = multiply_add(y_start, y, yy)
        sum_x = sum_x + x
        sum_y = sum_y + y
        overlap = multiply_add(load(spins[0], i), load(spins[1], i), overlap)
    for row, value in enumerate((xx, xy, yx, yy, sum_x, sum_y, overlap)):
        store(products, row, value)


@jit
def _multiply_lane(now, start, spins, lane, products):
    """The same for one lane."""
    for row in range(7):
        products[row, lane] = 0.0
    for i in range(spins[0].shape[0]):
        x, y, x_start, y_start = now[0][i, lane], now[1][i, lane], start[0][i, lane], start[1][i, lane]
        products[OWN_OWN, lane] += x_start * x
        products[OWN_OTHER, lane] += x_start * y
        products[OTHER_OWN, lane] += y_start * x
        products[OTHER_OTHER, lane] += y_start * y
        products[X_SUM, lane] += x
        products[Y_SUM, lane] += y
        products[OVERLAP, lane] += spins[0][i, lane] * spins[1][i, lane]


@jit
def _inner(coefficients, product, sum_left, sum_right):
    return coefficients[0] * np.float64(product) + coefficients[1] * (np.float64(sum_left) + np.float64(sum_right)) + coefficients[2]


@jit
def _lag_product(features, lanes, lane):
    """< f(X_0) - f(Y_0), f(X_t) - f(Y_t) > of a lane."""
    if features.indptr.size:
        return np.float64(lanes.over_edges[0, lane])
    total, products, start_sums = 0.0, lanes.products, lanes.start_sums
    for start in range(2):
        for now in range(2):
            row = OWN_OWN + 2 * start + now
            visible = _inner(features.visible, products[0, row, lane], start_sums[0, start, lane], products[0, X_SUM + now, lane])
            hidden = _inner(features.hidden, products[1, row, lane], start_sums[1, start, lane], products[1, X_SUM + now, lane])
            total += visible * hidden if start == now else -visible * hidden
    return total


@jit
def _turn_y(pairs, lanes, lane):
    """y to -y, and all that depends on it."""
    for rows in (pairs.visible[1], pairs.hidden[1], lanes.means[1]):
        _turn(rows, lane)
    for layer in range(2):
        for row in (OWN_OTHER, OTHER_OTHER, Y_SUM, OVERLAP):
            lanes.products[layer, row, lane] = -lanes.products[layer, row, lane]


@jit
def _set_means(model, visible, means, lane):
    """E[h | v] of a lane, column by column of the couplings."""
    n_hidden = means.shape[0]
    fields = model.c[:n_hidden].copy()
    for i in range(visible.shape[0]):
        spin = visible[i, lane]
        for j in range(n_hidden):
            fields[j] += spin * model.to_visible[i, j]
    for j in range(n_hidden):
        means[j, lane] = np.tanh(fields[j])


@jit
def _begin(model, pairs, lanes, quotient, expected, lane, x, y):
    """Put a pair into a lane."""
    n_visible, n_hidden = pairs.visible[0].shape[0], pairs.hidden[0].shape[0]
    overlap = 0
    for i in range(x.size):
        overlap += np.int64(x[i]) * y[i]
    turn = np.float32(-1.0 if quotient and overlap < 0 else 1.0)
    for i in range(n_visible):
        pairs.visible[0][i, lane], pairs.visible[1][i, lane] = x[i], turn * y[i]
        lanes.visible_start[0][i, lane], lanes.visible_start[1][i, lane] = x[i], turn * y[i]
    for j in range(n_hidden):
        pairs.hidden[0][j, lane], pairs.hidden[1][j, lane] = x[n_visible + j], turn * y[n_visible + j]
    now = pairs.hidden
    if expected:
        now = lanes.means
        for side in range(2):
            _set_means(model, pairs.visible[side], now[side], lane)
    for side in range(2):
        for j in range(n_hidden):
            lanes.hidden_start[side][j, lane] = now[side][j, lane]
    _multiply_lane(pairs.visible, lanes.visible_start, pairs.visible, lane, lanes.products[0])
    _multiply_lane(now, lanes.hidden_start, pairs.hidden, lane, lanes.products[1])
    for layer in range(2):
        for side in range(2):
            lanes.start_sums[layer, side, lane] = lanes.products[layer, X_SUM + side, lane]


@jit
def _hidden_now(features, pairs, lanes):
    """What stands for the hidden layer: its spins, or E[h | v]."""
    return lanes.means if features.expected else pairs.hidden


@jit
def _add_up(features, pairs, lanes):
    """S_t of all lanes where it is a sum over some of the couplings."""
    if features.indptr.size:
        now = _hidden_now(features, pairs, lanes)
        _edge_lag_products(features, pairs.visible, lanes.visible_start, now, lanes.hidden_start, lanes.over_edges)


@jit
def _advance(block, looks, model, pairs, lanes, kappa, features, sums):
    """Resample a layer of all lanes and, before one ``looks`` at them, multiply it with the starts."""
    _couple_block(block, model, pairs, kappa, sums, lanes.means, features.expected)
    if block == 0:
        _multiply(pairs.visible, lanes.visible_start, pairs.visible, lanes.products[0])
        if looks and features.expected:  # the means belong to the visible spins that were
            _means_given(model.to_hidden, model.c, pairs.visible, sums, lanes.means)
    if block == 1 or (looks and features.expected):
        _multiply(_hidden_now(features, pairs, lanes), lanes.hidden_start, pairs.hidden, lanes.products[1])
    if looks:
        _add_up(features, pairs, lanes)


@jit
def _layer_excursions(model, pairs, lanes, schedule, features, two_block, key, first_replicate, atoms, totals, zero_lags, lengths):
    """Run an excursion for every replicate and snapshot: atoms (2 n_replicates, n_atoms, N); the three results (n_replicates, n_atoms).

    totals : (1/2) sum of S_t with the weights of the kernel, in steps; zero_lags : S_0 / 2; lengths : steps of the alternating scan in half
    sweeps, -1 where a pair was given up: then the sum ends with the last half sweep of the cap.
    """
    n_replicates, n_atoms = totals.shape
    n_spins = pairs.visible[0].shape[0] + pairs.hidden[0].shape[0]
    sums = np.empty((2 * ROWS, LANES), np.float32)
    job, steps = np.full(LANES, -1), np.zeros(LANES, np.int64)
    # the next job of each first layer; with the alternating scan all begin with v
    coming, stride = np.array([0, 1 if two_block else n_replicates * n_atoms]), 2 if two_block else 1
    later, block, n_running, n_left = 1.0 if two_block else 0.5, 0, 0, n_replicates * n_atoms
    while n_left > 0 and not pairs.stopped[0]:
        begins = False
        for lane in range(LANES):
            if job[lane] < 0 and coming[block] < n_replicates * n_atoms:
                begins = True
                replicate, i = divmod(coming[block], n_atoms)
                coming[block] += stride
                job[lane], steps[lane] = replicate * n_atoms + i, 0
                n_running += 1
                _start_lane(_stream(key, first_replicate + replicate, EXCURSION + i), pairs.generators, lane)
                _begin(
                    model, pairs, lanes, schedule.quotient, features.expected, lane, atoms[2 * replicate, i], atoms[2 * replicate + 1, i]
                )
        if begins:
            _add_up(features, pairs, lanes)
        for lane in range(LANES):
            if job[lane] >= 0 and steps[lane] == 0:
                replicate, i = divmod(job[lane], n_atoms)
                zero_lags[replicate, i] = 0.5 * _lag_product(features, lanes, lane)
                totals[replicate, i] = zero_lags[replicate, i]
        looks = two_block or block == 1
        if n_running > 0:
            _advance(block, looks, model, pairs, lanes, schedule.kappa, features, sums)
        for lane in range(LANES):
            if job[lane] < 0:
                continue
            steps[lane] += 1
            if not looks:
                continue
            overlap = lanes.products[0, OVERLAP, lane] + lanes.products[1, OVERLAP, lane]
            replicate, i = divmod(job[lane], n_atoms)
            met = overlap == n_spins or (schedule.quotient and overlap == -n_spins)
            if not met:
                if schedule.quotient and overlap < 0:
                    _turn_y(pairs, lanes, lane)
                totals[replicate, i] += later * _lag_product(features, lanes, lane)
            if met or steps[lane] >= 2 * schedule.cap:
                lengths[replicate, i] = steps[lane] if met else -1
                job[lane] = -1
                n_running -= 1
                n_left -= 1
        block = 1 - block
