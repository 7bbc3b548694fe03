"""Excursions of coupled pairs from independent starts of law pi until they meet, for the random-scan single-site kernel.

The sum is that of :mod:`~thermokernels.estimates.layer_excursions`, S_t after every step; a flip changes its products by one term each.

Coupling: both chains update the same sequence of sites, in episodes of K steps. An episode is a sequence of updates under the
maximal-agreement coupling of :mod:`~thermokernels.estimates.layer_coupling`. Here the laws of an update depend on the values before it, so
that after a split each chain carries a shadow, the other chain had it taken the same values: r_X is a ratio along X's own path. K is fixed
by the states that the episode begins with; a shadow is dropped when its ratio is below rounding. A pair has met when x = y and no ratio
tilts it any more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.estimates.generators import EXCURSION, _stream, _uniform

# Below this a ratio changes no probability in float64.
NEGLIGIBLE = 1e-16
# An episode in sweeps: at least, at most.
SHORTEST, LONGEST = 0.5, 6.0


class Couplings(NamedTuple):
    """W and its transpose, b, c as float64."""

    weights: np.ndarray
    transposed: np.ndarray
    visible_field: np.ndarray
    hidden_field: np.ndarray


@jit
def _up(field):
    """The probability of +1."""
    return 1.0 / (1.0 + math.exp(-2.0 * field))


@jit
def _agree(p, q, ratio, u):
    """While both agree: values of X and Y, whether they still agree, r_X and r_Y; p, q are probabilities of +1."""
    up, down = min(p, ratio * q), min(1.0 - p, ratio * (1.0 - q))
    drawn = u * min(1.0, ratio)
    if drawn < up:
        return 1.0, 1.0, True, ratio * q / p, 0.0
    if drawn < up + down or p == q:
        return -1.0, -1.0, True, ratio * (1.0 - q) / (1.0 - p), 0.0
    y_is_up = ratio * q - p > ratio * (1.0 - q) - (1.0 - p)
    if y_is_up:
        return -1.0, 1.0, False, ratio * (1.0 - q) / (1.0 - p), p / (ratio * q)
    return 1.0, -1.0, False, ratio * q / p, (1.0 - p) / (ratio * (1.0 - q))


@jit
def _excess_up(own, other, ratio):
    """The probability of +1 in the excess of law ``own`` over ``ratio`` times law ``other``."""
    up, down = max(own - ratio * other, 0.0), max((1.0 - own) - ratio * (1.0 - other), 0.0)
    return up / (up + down) if up + down > 0.0 else own


@jit
def _all_fields(couplings, x, fields):
    """The local field of every spin."""
    n_visible, n_hidden = couplings.weights.shape
    fields[:n_visible] = couplings.visible_field
    fields[n_visible:] = couplings.hidden_field
    for i in range(n_visible):
        for j in range(n_hidden):
            fields[n_visible + j] += x[i] * couplings.weights[i, j]
    for j in range(n_hidden):
        for i in range(n_visible):
            fields[i] += x[n_visible + j] * couplings.transposed[j, i]


@jit
def _put(couplings, x, fields, site, value):
    """x[site] = value and the fields with it; whether that was a flip."""
    if x[site] == value:
        return False
    x[site] = value
    n_visible, n_hidden = couplings.weights.shape
    if site < n_visible:
        row = couplings.weights[site]
        for j in range(n_hidden):
            fields[n_visible + j] += 2.0 * value * row[j]
    else:
        row = couplings.transposed[site - n_visible]
        for i in range(n_visible):
            fields[i] += 2.0 * value * row[i]
    return True


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
def _hidden_features(x, fields, n_visible, expected, features):
    for j in range(features.size):
        features[j] = math.tanh(fields[n_visible + j]) if expected else x[n_visible + j]


@jit
def _set_products(side, n_visible, x, features, starts, start_features, products):
    """products[layer, start, side] and, in products[layer, 2, side], the sums."""
    products[:, :, side] = 0.0
    for i in range(n_visible):
        for start in range(2):
            products[0, start, side] += starts[start, i] * x[i]
        products[0, 2, side] += x[i]
    for j in range(features.size):
        for start in range(2):
            products[1, start, side] += start_features[start, j] * features[j]
        products[1, 2, side] += features[j]


@jit
def _signed_sum(rule, products, start_sums):
    """< f(X_0) - f(Y_0), f(X_t) - f(Y_t) >."""
    total = 0.0
    for start in range(2):
        for now in range(2):
            product = 1.0
            for layer in range(2):
                alpha, beta, gamma = rule.visible if layer == 0 else rule.hidden
                product *= alpha * products[layer, start, now] + beta * (start_sums[layer, start] + products[layer, 2, now]) + gamma
            total += product if start == now else -product
    return total


@jit
def _excursion(couplings, rule, schedule, stream, first_x, first_y):
    """(1/2) sum of S_t in steps, S_0 / 2, and the steps to the meeting, -1 where the pair was given up."""
    n_visible, n_hidden = couplings.weights.shape
    n_spins = n_visible + n_hidden
    states, fields = np.empty((2, n_spins)), np.empty((2, n_spins))
    shadows, shadow_fields = np.empty((2, n_spins)), np.empty((2, n_spins))
    states[0], states[1] = first_x, first_y
    starts, features, products = states.copy(), np.empty((2, n_hidden)), np.empty((2, 3, 2))
    for side in range(2):
        _all_fields(couplings, states[side], fields[side])
        _hidden_features(states[side], fields[side], n_visible, rule.expected, features[side])
    start_features = features.copy()
    for side in range(2):
        _set_products(side, n_visible, states[side], features[side], starts, start_features, products)
    start_sums = products[:, 2, :].copy()
    lag_product = _signed_sum(rule, products, start_sums)
    total, zero_lag, step, draws = 0.0, 0.5 * lag_product, 0, 0
    ratios = np.zeros(2)
    while True:
        n_apart = 0
        for i in range(n_spins):
            n_apart += states[0, i] != states[1, i]
        if schedule.quotient and 2 * n_apart > n_spins:
            states[1] *= -1.0
            fields[1] *= -1.0
            features[1] *= -1.0
            products[:, :, 1] *= -1.0
            n_apart = n_spins - n_apart
        if n_apart == 0:
            return 0.5 * total, zero_lag, step
        if step >= schedule.cap * n_spins:
            return 0.5 * total, zero_lag, -1
        agree = schedule.kappa > 0.0
        ratios[0], ratios[1] = 1.0 if agree else 0.0, 0.0
        for _ in range(_episode_length(schedule.kappa, fields[0], fields[1])):
            total += lag_product
            step += 1
            site = min(int(_uniform(stream, draws) * n_spins), n_spins - 1)
            u = _uniform(stream, draws + 1)
            draws += 2
            p = _up(fields[0, site])
            q = p if fields[0, site] == fields[1, site] else _up(fields[1, site])
            was_apart = states[0, site] != states[1, site]
            if agree:
                x, y, agree, ratios[0], ratios[1] = _agree(p, q, ratios[0], u)
                if not agree:
                    for side in range(2):
                        shadows[side], shadow_fields[side] = states[1 - side], fields[1 - side]
            else:
                x_up = _excess_up(p, _up(shadow_fields[0, site]), ratios[0]) if ratios[0] > 0.0 else p
                y_up = _excess_up(q, _up(shadow_fields[1, site]), ratios[1]) if ratios[1] > 0.0 else q
                x, y = 1.0 if u < x_up else -1.0, 1.0 if u < y_up else -1.0
                for side in range(2):
                    if ratios[side] > 0.0:
                        own, other = p if side == 0 else q, _up(shadow_fields[side, site])
                        value = x if side == 0 else y
                        ratios[side] *= other / own if value > 0.0 else (1.0 - other) / (1.0 - own)
                        if ratios[side] < NEGLIGIBLE:
                            ratios[side] = 0.0
            n_apart += (x != y) - was_apart
            changed = False
            for side in range(2):
                value = x if side == 0 else y
                if _put(couplings, states[side], fields[side], site, value):
                    changed = True
                    _follow(rule, site, value, side, n_visible, states, fields, features, starts, start_features, products)
                if not agree and ratios[side] > 0.0:
                    _put(couplings, shadows[side], shadow_fields[side], site, value)
            if changed:
                lag_product = _signed_sum(rule, products, start_sums)
            if n_apart == 0 and (agree or (ratios[0] == 0.0 and ratios[1] == 0.0)):
                break


@jit
def _follow(rule, site, value, side, n_visible, states, fields, features, starts, start_features, products):
    """The products after a flip of one spin."""
    if site < n_visible:
        for start in range(2):
            products[0, start, side] += 2.0 * value * starts[start, site]
        products[0, 2, side] += 2.0 * value
        if rule.expected:
            products[1, :, side] = 0.0
            for j in range(features.shape[1]):
                features[side, j] = math.tanh(fields[side, n_visible + j])
                for start in range(2):
                    products[1, start, side] += start_features[start, j] * features[side, j]
                products[1, 2, side] += features[side, j]
    elif not rule.expected:
        for start in range(2):
            products[1, start, side] += 2.0 * value * start_features[start, site - n_visible]
        products[1, 2, side] += 2.0 * value


@jit
def _single_site_excursions(couplings, rule, schedule, key, first_replicate, atoms, totals, zero_lags, lengths):
    """Run an excursion for every replicate and snapshot, as ``_layer_excursions`` does; lengths in steps."""
    n_replicates, n_atoms = totals.shape
    for replicate in range(n_replicates):
        for i in range(n_atoms):
            stream = _stream(key, first_replicate + replicate, EXCURSION + i)
            x, y = atoms[2 * replicate, i], atoms[2 * replicate + 1, i]
            totals[replicate, i], zero_lags[replicate, i], lengths[replicate, i] = _excursion(couplings, rule, schedule, stream, x, y)
