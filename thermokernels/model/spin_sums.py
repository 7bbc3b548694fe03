"""Sums of spins and of their products over tables of configurations, by halving the table once a spin.

A table of 2**k numbers belongs to the configurations of k spins, bit i of the position for spin i, spin = 1 - 2 bit. Spins beyond the k-th
are +1 in all of them: the last hidden spin of pairs {x, -x}.
"""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit


@jit
def _fold(values, sums):
    """sums[i] = sum_s spin_i(s) values[s], ``values`` being used up; returns their sum."""
    size, n_spins = values.size, 0
    while 1 << n_spins < size:
        n_spins += 1
    for i in range(n_spins - 1, -1, -1):
        size //= 2
        along = 0.0
        for s in range(size):
            along += values[s] - values[size + s]
            values[s] += values[size + s]
        sums[i] = along
    for i in range(n_spins, sums.size):
        sums[i] = values[0]
    return values[0]


@jit
def _correlate(weights, n_columns, products, visible, hidden):
    """products[i, j] = sum_x weights(x) v_i h_j, visible[i] and hidden[j] the same of v_i and h_j, for weights [h * n_columns + v]."""
    size, n_halved, rows, difference = weights.size, 0, weights.copy(), np.empty(n_columns)
    while n_columns << n_halved < size:
        n_halved += 1
    for j in range(n_halved - 1, -1, -1):  # the hidden spins, whole rows at a time
        size //= 2
        difference[:] = 0.0
        for h in range(0, size, n_columns):
            for v in range(n_columns):
                difference[v] += rows[h + v] - rows[size + h + v]
                rows[h + v] += rows[size + h + v]
        hidden[j] = _fold(difference, visible)
        products[:, j] = visible
    total = _fold(rows[:n_columns], visible)
    for j in range(n_halved, hidden.size):
        hidden[j] = total
        products[:, j] = visible


def correlate(weights: Floats, n_visible: int, n_hidden: int) -> tuple[Floats, Floats, Floats]:
    """sum_x weights(x) v_i h_j (n_v, n_h), and of v_i (n_v,) and h_j (n_h,), for weights (n_states,)."""
    products, visible, hidden = np.empty((n_visible, n_hidden)), np.empty(n_visible), np.empty(n_hidden)
    _correlate(np.ascontiguousarray(weights), 1 << n_visible, products, visible, hidden)
    return products, visible, hidden
