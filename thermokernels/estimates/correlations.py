"""Sums of (v, 1)(E[h | v], 1)' over weighted states: what the model's part of the gradient is the mean of."""

from __future__ import annotations

import numpy as np

from thermokernels.common.arrays import Floats
from thermokernels.compiled.decorator import jit
from thermokernels.estimates.coupling.single_site_coupling import Couplings

# States that share one pass over the couplings and the sums.
TOGETHER = 8


@jit
def _add_correlations(couplings, states, weights, sums):
    """sums += sum_s weights[s] (v_s, 1)(tanh F(v_s), 1)' over states (n, >= n_v) of int8 spins, in order."""
    n_visible, n_hidden = couplings.weights.shape
    means, signed = np.empty((TOGETHER, n_hidden)), np.empty((TOGETHER, n_hidden + 1))
    for first in range(0, states.shape[0], TOGETHER):
        n_here = min(TOGETHER, states.shape[0] - first)
        for k in range(n_here):
            means[k] = couplings.c
        for i in range(n_visible):
            row = couplings.weights[i]
            for k in range(n_here):
                spin = np.float64(states[first + k, i])
                for j in range(n_hidden):
                    means[k, j] += spin * row[j]
        signed[:] = 0.0
        for k in range(n_here):
            for j in range(n_hidden):
                signed[k, j] = weights[first + k] * np.tanh(means[k, j])
            signed[k, n_hidden] = weights[first + k]
        for i in range(n_visible + 1):
            spins = np.zeros(TOGETHER)
            for k in range(n_here):
                spins[k] = states[first + k, i] if i < n_visible else 1.0
            row = sums[i]
            for j in range(n_hidden + 1):
                low = spins[0] * signed[0, j] + spins[1] * signed[1, j] + spins[2] * signed[2, j] + spins[3] * signed[3, j]
                high = spins[4] * signed[4, j] + spins[5] * signed[5, j] + spins[6] * signed[6, j] + spins[7] * signed[7, j]
                row[j] += low + high


def data_correlations(couplings: Couplings, samples: Floats) -> Floats:
    """The mean of (v, 1)(E[h | v], 1)' over samples (n, n_v), shape (n_v + 1, n_h + 1)."""
    sums = np.zeros((couplings.weights.shape[0] + 1, couplings.weights.shape[1] + 1))
    _add_correlations(couplings, np.ascontiguousarray(samples, dtype=np.int8), np.full(len(samples), 1.0 / len(samples)), sums)
    sums[-1, -1] = 1.0
    return sums
