"""Sums of f(X_t) - f(Y_t) over pairs of chains until they meet: y(x) - y(z) of every observable, or of a weighted sum, without bias.

With y = sum_t P^t f~. Of the two-block kernel the coins are integrated out, as in the estimates: sum_(t >= 1) P^t is twice the sum over
m >= 1 half sweeps of layers by turns, the first of them by a coin.
"""

from __future__ import annotations

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import _uniform
from thermokernels.estimates.coupling.single_site_coupling import (
    _agree,
    _draw,
    _episode_length,
    _excess_up,
    _face,
    _move,
    _new_chains,
    _next_ratio,
    _up,
)

ALTERNATING, TWO_BLOCK, SINGLE_SITE = range(3)
# The layer that is resampled first; of the two-block kernel the one that a coin says.
VISIBLE, HIDDEN, EITHER = range(3)


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
def _add(x_visible, x_hidden, y_visible, y_hidden, share, weights, sums):
    """share < weights, f(x) - f(y) >; with no weights the differences themselves are added to the sums."""
    total = 0.0
    for i in range(x_visible.size):
        if weights.size:
            x_row, y_row = 0.0, 0.0
            for j in range(x_hidden.size):
                x_row += weights[i, j] * x_hidden[j]
                y_row += weights[i, j] * y_hidden[j]
            total += x_visible[i] * x_row - y_visible[i] * y_row
        else:
            for j in range(x_hidden.size):
                sums[i, j] += share * (x_visible[i] * x_hidden[j] - y_visible[i] * y_hidden[j])
    return share * total


@jit
def _layer_sums(table, schedule, two_block, first, stream, x_visible, x_hidden, y_visible, y_hidden, weights, sums):
    """< weights, sum_t f(X_t) - f(Y_t) > of kernels that resample layers, NaN where the pair was given up.

    With no weights the sums themselves are kept.
    """
    n_visible, n_hidden = table.weights.shape
    x_fields, y_fields, x_other, y_other = np.empty(n_hidden), np.empty(n_hidden), np.empty(n_visible), np.empty(n_visible)
    total, draws, block, share = 0.0, 0, first, 1.0
    if first == EITHER:
        block, draws = HIDDEN if _uniform(stream, 0) < 0.5 else VISIBLE, 1
    for half in range(2 * schedule.cap):
        if two_block or half % 2 == 0:
            if _met(x_visible, x_hidden, y_visible, y_hidden, schedule.quotient):
                return total
            total += _add(x_visible, x_hidden, y_visible, y_hidden, share, weights, sums)
            share = 2.0 if two_block else 1.0
        if block == VISIBLE:
            _layer_fields(table.transposed, table.b, x_hidden, x_other)
            _layer_fields(table.transposed, table.b, y_hidden, y_other)
            draws = _couple_units(x_other, y_other, schedule.kappa, stream, draws, x_visible, y_visible)
        else:
            _layer_fields(table.weights, table.c, x_visible, x_fields)
            _layer_fields(table.weights, table.c, y_visible, y_fields)
            draws = _couple_units(x_fields, y_fields, schedule.kappa, stream, draws, x_hidden, y_hidden)
        block = 1 - block
    return np.nan


@jit
def _keep(x, site, step, sign, since, sums):
    """Add what the products with a spin were since they changed last, up to this step."""
    n_visible = sums.shape[0]
    if site < n_visible:
        for j in range(sums.shape[1]):
            sums[site, j] += sign * x[site] * x[n_visible + j] * (step - since[site, j])
            since[site, j] = step
    else:
        j = site - n_visible
        for i in range(n_visible):
            sums[i, j] += sign * x[i] * x[site] * (step - since[i, j])
            since[i, j] = step


@jit
def _site_sums(table, schedule, stream, x, y, sums):
    """Add f(X_t) - f(Y_t) of the single-site kernel to the sums; x and y (N,) float64 are moved along. A flip costs one row.

    0, or NaN where the pair was given up.
    """
    n_visible, n_spins = table.weights.shape[0], x.size
    chains = _new_chains(table, x, y)
    x_since, y_since = np.zeros(sums.shape, np.int64), np.zeros(sums.shape, np.int64)
    step, draws = 0, 0
    while True:
        n_apart, _ = _face(chains, schedule.quotient)
        if n_apart == 0:
            break
        if step >= schedule.cap * n_spins:
            return np.nan
        agree = schedule.kappa > 0.0
        x_ratio, y_ratio = 1.0 if agree else 0.0, 0.0
        for _ in range(_episode_length(schedule.kappa, chains.x_fields, chains.y_fields)):
            step += 1
            site = min(int(_uniform(stream, draws) * n_spins), n_spins - 1)
            u = _uniform(stream, draws + 1)
            draws += 2
            agreed = agree
            x_new, y_new, agree, x_ratio, y_ratio = _draw(chains, site, u, agree, x_ratio, y_ratio)
            n_apart += int(x_new != y_new) - int(x[site] != y[site])
            if x_new != x[site]:
                _keep(x, site, step, 1.0, x_since, sums)
            if y_new != y[site]:
                _keep(y, site, step, -1.0, y_since, sums)
            _move(table, chains, site, x_new, y_new, agreed, agree, x_ratio, y_ratio)
            if n_apart == 0 and (agree or (x_ratio == 0.0 and y_ratio == 0.0)):
                break
    for i in range(n_visible):
        _keep(x, i, step, 1.0, x_since, sums)
        _keep(y, i, step, -1.0, y_since, sums)
    return 0.0


@jit
def _pair_sums(kernel, table, schedule, first, stream, x, y, weights, sums):
    """< weights, y(x) - y(z) > of states (N,) float64, which are moved along; with no weights the sums (n_v, n_h) themselves.

    Of the alternating scan y belongs to ``first`` VISIBLE and y* to HIDDEN. The single-site kernel knows no layers, and has sums alone
    here: weighted ones are those of :mod:`~adjoints.estimates.lane_sums`.
    """
    n_visible = table.weights.shape[0]
    if kernel == SINGLE_SITE:
        return _site_sums(table, schedule, stream, x, y, sums)
    halves = x[:n_visible], x[n_visible:], y[:n_visible], y[n_visible:]
    return _layer_sums(table, schedule, kernel == TWO_BLOCK, first, stream, halves[0], halves[1], halves[2], halves[3], weights, sums)
