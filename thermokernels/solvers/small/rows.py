"""Gradient observables one a row, as in :mod:`thermokernels.solvers.many_observables`: for small chains whose rows fill a register tile.

A flip of a near spin exchanges entries of a register, and a rate is loaded for all of a tile: half the loads of `packs.py`. Rows do not
depend on each other in any bit.
"""

from __future__ import annotations

import numpy as np

from thermokernels.compiled.decorator import jit
from thermokernels.compiled.simd_states import DOUBLES, add, fill, load, multiply, multiply_add, store, subtract, total

# Classes of fewer visible spins, or of fewer than two hidden spins that exchange rows, do not fill a tile.
VISIBLE, ROW_FLIPS = 5, 2


@jit
def _fit(n_visible, n_hidden, quotient):
    """Whether a chain has two parity classes, and those fill a tile."""
    return n_visible >= VISIBLE and n_hidden >= ROW_FLIPS + quotient and not (quotient and (n_visible + n_hidden) % 2)


@jit
def _sources(means, root_law, n_columns, rows):
    """rows[a] = sqrt(pi) (E_pi[v_i h_j] - v_i h_j) of a = (i, j), without what rounding leaves along sqrt(pi)."""
    n_hidden, visible, n_rows = means.shape[1], np.empty(n_columns), root_law.size // n_columns
    for a in range(rows.shape[0]):
        i, j, row = a // n_hidden, a % n_hidden, rows[a]
        for v in range(n_columns):
            visible[v] = 1.0 - 2.0 * ((v >> i) & 1)
        mean, along = fill(means[i, j]), fill(0.0)
        for h in range(n_rows):
            spin, of_row = fill(1.0 - 2.0 * ((h >> j) & 1)), fill(0.0)
            for v in range(0, n_columns, DOUBLES):
                root = load(root_law, h * n_columns + v)
                here = multiply(root, subtract(mean, multiply(spin, load(visible, v))))
                store(row, h * n_columns + v, here)
                of_row = multiply_add(root, here, of_row)
            along = add(along, of_row)
        # rounding of the mean: of an observable that hardly varies it is a large share
        remove = fill(-total(along))
        for k in range(0, row.size, DOUBLES):
            store(row, k, multiply_add(remove, load(root_law, k), load(row, k)))
