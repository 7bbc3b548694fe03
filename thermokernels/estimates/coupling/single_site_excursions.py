"""Excursions of coupled pairs from independent starts of law pi until they meet, for the random-scan single-site kernel.

The sum is that of :mod:`~thermokernels.estimates.coupling.layer_excursions`, S_t after every step; a flip changes its products by one term
each.

Coupling: both chains update the same sequence of sites, in episodes of K steps. An episode is a sequence of updates under the maximal-
agreement coupling of :mod:`~thermokernels.estimates.coupling.layer_coupling`. Here the laws of an update depend on the values before it, so
that after a split each chain carries a shadow, the other chain had it taken the same values: r_X is a ratio along X's own path. K is fixed
by the states that the episode begins with; a shadow is dropped when its ratio is below rounding. A pair has met when x = y and no ratio
tilts it any more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.generators import EXCURSION, _stream, _uniform

# Below this a ratio changes no probability in float64.
NEGLIGIBLE = 1e-16
# An episode in sweeps: at least, at most.
SHORTEST, LONGEST = 0.5, 6.0


class Couplings(NamedTuple):
    """W and its transpose, b, c as float64."""

    weights: np.ndarray
    transposed: np.ndarray
    b: np.ndarray
    c: np.ndarray


@jit
def _up(field):
    """The probability of +1."""
    return 1.0 / (1.0 + math.exp(-2.0 * field))


@jit
def _agree(p, q, ratio, u):
    """While both agree: values of X and Y, whether they still agree, r_X and r_Y; p, q are probabilities of +1."""
    if p == q:
        value = 1.0 if u < p else -1.0
        return value, value, True, ratio, 0.0
    up, down = min(p, ratio * q), min(1.0 - p, ratio * (1.0 - q))
    drawn = u * min(1.0, ratio)
    if drawn < up:
        return 1.0, 1.0, True, ratio * q / p, 0.0
    if drawn < up + down:
        return -1.0, -1.0, True, ratio * (1.0 - q) / (1.0 - p), 0.0
    if ratio * q - p > ratio * (1.0 - q) - (1.0 - p):
        return -1.0, 1.0, False, ratio * (1.0 - q) / (1.0 - p), p / (ratio * q)
    return 1.0, -1.0, False, ratio * q / p, (1.0 - p) / (ratio * (1.0 - q))


@jit
def _excess_up(own, other, ratio):
    """The probability of +1 in the excess of law ``own`` over ``ratio`` times law ``other``."""
    up, down = max(own - ratio * other, 0.0), max((1.0 - own) - ratio * (1.0 - other), 0.0)
    return up / (up + down) if up + down > 0.0 else own


@jit
def _next_ratio(ratio, own, other, value):
    """A ratio along a chain's own path after one more value; zero once it is below rounding."""
    ratio *= other / own if value > 0.0 else (1.0 - other) / (1.0 - own)
    return ratio if ratio >= NEGLIGIBLE else 0.0


@jit
def _couple_site(u, p, q, agree, x_ratio, y_ratio, x_shadow_field, y_shadow_field):
    """One update of both chains: values of X and Y, whether they still agree, r_X and r_Y; fields of the shadows count after a split."""
    if agree:
        return _agree(p, q, x_ratio, u)
    x_up, y_up, x_other, y_other = p, q, p, q
    if x_ratio > 0.0:
        x_other = _up(x_shadow_field)
        x_up = _excess_up(p, x_other, x_ratio)
    if y_ratio > 0.0:
        y_other = _up(y_shadow_field)
        y_up = _excess_up(q, y_other, y_ratio)
    x_new, y_new = 1.0 if u < x_up else -1.0, 1.0 if u < y_up else -1.0
    if x_ratio > 0.0:
        x_ratio = _next_ratio(x_ratio, p, x_other, x_new)
    if y_ratio > 0.0:
        y_ratio = _next_ratio(y_ratio, q, y_other, y_new)
    return x_new, y_new, False, x_ratio, y_ratio


@jit
def _all_fields(couplings, x, fields):
    """The local field of every spin."""
    n_visible, n_hidden = couplings.weights.shape
    fields[:n_visible] = couplings.b
    fields[n_visible:] = couplings.c
    for i in range(n_visible):
        for j in range(n_hidden):
            fields[n_visible + j] += x[i] * couplings.weights[i, j]
    for j in range(n_hidden):
        for i in range(n_visible):
            fields[i] += x[n_visible + j] * couplings.transposed[j, i]


@jit
def _put(couplings, x, fields, site, value):
    """x[site] = value and the fields with it; no views in here, which cost more than a short row."""
    if x[site] == value:
        return
    x[site] = value
    change = 2.0 * value
    n_visible, n_hidden = couplings.weights.shape
    if site < n_visible:
        for j in range(n_hidden):
            fields[n_visible + j] += change * couplings.weights[site, j]
    else:
        for i in range(n_visible):
            fields[i] += change * couplings.transposed[site - n_visible, i]


@jit
def _episode_length(kappa, x_fields, y_fields):
    """Steps of a sequence of updates whose information is about kappa."""
    n_spins = x_fields.size
    if kappa == 0.0:
        return n_spins
    information = 1e-9
    for i in range(n_spins):
        if x_fields[i] != y_fields[i]:
            information += ((x_fields[i] - y_fields[i]) / math.cosh(0.5 * (x_fields[i] + y_fields[i]))) ** 2
    return max(int(SHORTEST * n_spins), int(min(LONGEST * n_spins, kappa * n_spins / information)), 1)


@jit
def _products(now, start, first, last):
    """sum_i start_i now_i and sum_i now_i over a layer."""
    product, total = 0.0, 0.0
    for i in range(first, last):
        product += start[i] * now[i]
        total += now[i]
    return product, total


@jit
def _set_features(n_visible, expected, x, fields, features):
    """What a chain is multiplied by: its spins, with E[h | v] in place of h on demand."""
    features[:n_visible] = x[:n_visible]
    for j in range(n_visible, x.size):
        features[j] = math.tanh(fields[j]) if expected else x[j]


@jit
def _inner(visible, hidden, v, v_sums, h, h_sums):
    """< f(x), f(y) > from products and sums of the layers."""
    return (visible[0] * v + visible[1] * v_sums + visible[2]) * (hidden[0] * h + hidden[1] * h_sums + hidden[2])


@jit
def _excursion(couplings, rule, schedule, stream, first_x, first_y):
    """(1/2) sum of S_t in steps, S_0 / 2, and the steps to the meeting, -1 where the pair was given up: then the sum has as many terms as
    the cap has steps, however long the last episode is."""
    n_visible, n_spins, expected = couplings.weights.shape[0], first_x.size, rule.expected
    visible, hidden, quotient, kappa = rule.visible, rule.hidden, schedule.quotient, schedule.kappa
    x, y = first_x.astype(np.float64), first_y.astype(np.float64)
    x_fields, y_fields = np.empty(n_spins), np.empty(n_spins)
    _all_fields(couplings, x, x_fields)
    _all_fields(couplings, y, y_fields)
    # features at the start (x0, y0); now (x1, y1) only where they are not the spins themselves
    x0, y0 = np.empty(n_spins), np.empty(n_spins)
    _set_features(n_visible, expected, x, x_fields, x0)
    _set_features(n_visible, expected, y, y_fields, y0)
    x1, y1 = x0.copy(), y0.copy()
    x_shadow, y_shadow = x.copy(), y.copy()
    x_shadow_fields, y_shadow_fields = x_fields.copy(), y_fields.copy()
    # products of a layer: v_ab of a at the start with b now
    v_xx, v_x = _products(x1, x0, 0, n_visible)
    v_xy, v_y = _products(y1, x0, 0, n_visible)
    v_yx, _ = _products(x1, y0, 0, n_visible)
    v_yy, _ = _products(y1, y0, 0, n_visible)
    h_xx, h_x = _products(x1, x0, n_visible, n_spins)
    h_xy, h_y = _products(y1, x0, n_visible, n_spins)
    h_yx, _ = _products(x1, y0, n_visible, n_spins)
    h_yy, _ = _products(y1, y0, n_visible, n_spins)
    v_x0, v_y0, h_x0, h_y0 = v_x, v_y, h_x, h_y
    total, zero_lag, lag_product, step, draws, changed, last_step = 0.0, 0.0, 0.0, 0, 0, True, schedule.cap * n_spins
    while True:
        n_apart = 0
        for i in range(n_spins):
            n_apart += x[i] != y[i]
        if quotient and 2 * n_apart > n_spins:
            for i in range(n_spins):
                y[i], y_fields[i], y1[i] = -y[i], -y_fields[i], -y1[i]
            v_xy, v_yy, h_xy, h_yy = -v_xy, -v_yy, -h_xy, -h_yy
            n_apart = n_spins - n_apart
        if n_apart == 0 and 0 < step <= last_step:
            return 0.5 * total, zero_lag, step
        if step >= last_step:
            return 0.5 * total, zero_lag, -1
        agree = kappa > 0.0
        x_ratio, y_ratio = 1.0 if agree else 0.0, 0.0
        for _ in range(_episode_length(kappa, x_fields, y_fields)):
            if changed:
                lag_product = _inner(visible, hidden, v_xx, v_x0 + v_x, h_xx, h_x0 + h_x)
                lag_product += _inner(visible, hidden, v_yy, v_y0 + v_y, h_yy, h_y0 + h_y)
                lag_product -= _inner(visible, hidden, v_xy, v_x0 + v_y, h_xy, h_x0 + h_y)
                lag_product -= _inner(visible, hidden, v_yx, v_y0 + v_x, h_yx, h_y0 + h_x)
                if step == 0:
                    zero_lag = 0.5 * lag_product
            if step < last_step:
                total += lag_product
            step += 1
            site = min(int(_uniform(stream, draws) * n_spins), n_spins - 1)
            u = _uniform(stream, draws + 1)
            draws += 2
            p = _up(x_fields[site])
            q = p if x_fields[site] == y_fields[site] else _up(y_fields[site])
            agreed = agree
            x_new, y_new, agree, x_ratio, y_ratio = _couple_site(
                u, p, q, agree, x_ratio, y_ratio, x_shadow_fields[site], y_shadow_fields[site]
            )
            if agreed and not agree:
                x_shadow[:], x_shadow_fields[:] = y, y_fields
                y_shadow[:], y_shadow_fields[:] = x, x_fields
            n_apart += int(x_new != y_new) - int(x[site] != y[site])
            x_change, y_change = x_new - x[site], y_new - y[site]
            changed = x_change != 0.0 or y_change != 0.0
            if changed:
                _put(couplings, x, x_fields, site, x_new)
                _put(couplings, y, y_fields, site, y_new)
                if site < n_visible:
                    v_xx, v_yx, v_x = v_xx + x_change * x0[site], v_yx + x_change * y0[site], v_x + x_change
                    v_xy, v_yy, v_y = v_xy + y_change * x0[site], v_yy + y_change * y0[site], v_y + y_change
                    if expected:
                        _set_features(n_visible, True, x, x_fields, x1)
                        _set_features(n_visible, True, y, y_fields, y1)
                        h_xx, h_x = _products(x1, x0, n_visible, n_spins)
                        h_xy, h_y = _products(y1, x0, n_visible, n_spins)
                        h_yx, _ = _products(x1, y0, n_visible, n_spins)
                        h_yy, _ = _products(y1, y0, n_visible, n_spins)
                elif not expected:
                    h_xx, h_yx, h_x = h_xx + x_change * x0[site], h_yx + x_change * y0[site], h_x + x_change
                    h_xy, h_yy, h_y = h_xy + y_change * x0[site], h_yy + y_change * y0[site], h_y + y_change
            if not agree:
                if x_ratio > 0.0:
                    _put(couplings, x_shadow, x_shadow_fields, site, x_new)
                if y_ratio > 0.0:
                    _put(couplings, y_shadow, y_shadow_fields, site, y_new)
            if n_apart == 0 and (agree or (x_ratio == 0.0 and y_ratio == 0.0)):
                break


@jit
def _single_site_excursions(couplings, rule, schedule, key, first_replicate, atoms, totals, zero_lags, lengths):
    """Run an excursion for every replicate and snapshot, as ``_layer_excursions`` does; lengths in steps."""
    n_replicates, n_atoms = totals.shape
    for replicate in range(n_replicates):
        for i in range(n_atoms):
            stream = _stream(key, first_replicate + replicate, EXCURSION + i)
            x, y = atoms[2 * replicate, i], atoms[2 * replicate + 1, i]
            totals[replicate, i], zero_lags[replicate, i], lengths[replicate, i] = _excursion(couplings, rule, schedule, stream, x, y)
