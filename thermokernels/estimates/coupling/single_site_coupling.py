"""One spin of two chains resampled together: the maximal-agreement coupling of a sequence of updates of the single-site kernel.

Both chains update the same sequence of sites, in episodes of K steps. An episode is a sequence of updates under the maximal-agreement
coupling of :mod:`~thermokernels.estimates.coupling.layer_coupling`. Here the laws of an update depend on the values before it, so that
after a split each chain carries a shadow, the other chain had it taken the same values: r_X is a ratio along X's own path. K is fixed by
the states that the episode begins with; a shadow is dropped when its ratio is below rounding. A pair has met when x = y and no ratio tilts
it any more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.model.model import Model

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


def couplings(model: Model) -> Couplings:
    """Copies, for a view of one row, which cannot be written, is another type to numba."""
    return Couplings(np.array(model.W), np.array(model.W.T, order="C"), np.array(model.b), np.array(model.c))


class Chains(NamedTuple):
    """Spins and local fields (N,) of both chains, and of the shadow of each."""

    x: np.ndarray
    y: np.ndarray
    x_fields: np.ndarray
    y_fields: np.ndarray
    x_shadow: np.ndarray
    y_shadow: np.ndarray
    x_shadow_fields: np.ndarray
    y_shadow_fields: np.ndarray


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
def _new_chains(couplings, x, y):
    """Chains from states (N,) of float64, which are moved along."""
    x_fields, y_fields = np.empty(x.size), np.empty(x.size)
    _all_fields(couplings, x, x_fields)
    _all_fields(couplings, y, y_fields)
    return Chains(x, y, x_fields, y_fields, x.copy(), y.copy(), x_fields.copy(), y_fields.copy())


@jit
def _face(chains, quotient):
    """How many spins are apart, and whether y had to be turned to the side of x for it."""
    n_spins, n_apart = chains.x.size, 0
    for i in range(n_spins):
        n_apart += chains.x[i] != chains.y[i]
    if not (quotient and 2 * n_apart > n_spins):
        return n_apart, False
    for i in range(n_spins):
        chains.y[i], chains.y_fields[i] = -chains.y[i], -chains.y_fields[i]
    return n_spins - n_apart, True


@jit
def _draw(chains, site, u, agree, x_ratio, y_ratio):
    """New values of a spin of both chains, whether they still agree, r_X and r_Y."""
    x_field, y_field = chains.x_fields[site], chains.y_fields[site]
    p = _up(x_field)
    q = p if x_field == y_field else _up(y_field)
    return _couple_site(u, p, q, agree, x_ratio, y_ratio, chains.x_shadow_fields[site], chains.y_shadow_fields[site])


@jit
def _move(couplings, chains, site, x_new, y_new, agreed, agree, x_ratio, y_ratio):
    """Give a spin its new values in both chains, and after a split in their shadows, which begin with it."""
    if agreed and not agree:
        chains.x_shadow[:], chains.x_shadow_fields[:] = chains.y, chains.y_fields
        chains.y_shadow[:], chains.y_shadow_fields[:] = chains.x, chains.x_fields
    _put(couplings, chains.x, chains.x_fields, site, x_new)
    _put(couplings, chains.y, chains.y_fields, site, y_new)
    if not agree:
        if x_ratio > 0.0:
            _put(couplings, chains.x_shadow, chains.x_shadow_fields, site, x_new)
        if y_ratio > 0.0:
            _put(couplings, chains.y_shadow, chains.y_shadow_fields, site, y_new)
